//! TODO(event_loop)

#![forbid(unsafe_code)]
