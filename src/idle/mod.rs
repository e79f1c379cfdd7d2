//! TODO(idle)

#![forbid(unsafe_code)]
