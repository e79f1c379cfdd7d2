//! TODO(join_error)

#![forbid(unsafe_code)]
