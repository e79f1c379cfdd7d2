//! TODO(event_loop)

#![forbid(unsafe_code)]

mod inbox;
