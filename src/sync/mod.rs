//! TODO(sync)

#![forbid(unsafe_code)]
