//! TODO(cancel)

#![forbid(unsafe_code)]
