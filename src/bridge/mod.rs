//! TODO(bridge)

#![forbid(unsafe_code)]
