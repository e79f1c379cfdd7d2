//! TODO(error)

#![forbid(unsafe_code)]
