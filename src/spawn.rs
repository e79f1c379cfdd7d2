//! TODO(spawn)

#![forbid(unsafe_code)]
