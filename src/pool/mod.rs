//! TODO(pool)

#![forbid(unsafe_code)]

mod elastic;
mod evidence;
