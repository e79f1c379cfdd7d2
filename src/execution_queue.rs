//! TODO(execution_queue)

#![forbid(unsafe_code)]
