//! TODO(executors)

#![forbid(unsafe_code)]
