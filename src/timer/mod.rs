//! TODO(timer)

#![forbid(unsafe_code)]
