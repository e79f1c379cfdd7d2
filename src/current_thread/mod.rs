//! TODO(current_thread)

#![forbid(unsafe_code)]
