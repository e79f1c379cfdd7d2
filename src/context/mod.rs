//! TODO(context)

#![forbid(unsafe_code)]
