//! TODO(time)

#![forbid(unsafe_code)]
