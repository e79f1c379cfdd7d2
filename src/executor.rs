//! TODO(executor)

#![forbid(unsafe_code)]
