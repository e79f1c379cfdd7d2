//! TODO(pool)

#![forbid(unsafe_code)]

mod builder;
mod elastic;
mod evidence;
mod growth;
mod watchdog;

/// TODO(pool)
#[derive(Debug)]
pub struct ThreadPool(());

impl ThreadPool {
    fn start(_settings: builder::Settings) -> Result<Self, crate::error::BuildError> {
        Ok(Self(()))
    }
}
