//! TODO(queue)

#![forbid(unsafe_code)]
