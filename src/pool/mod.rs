//! TODO(pool)

#![forbid(unsafe_code)]
