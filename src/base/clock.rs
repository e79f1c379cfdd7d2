//! Time: the real clock, and one that stands still until a test moves it.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

#[cfg(test)]
use crate::base::sync::{Arc, Mutex};

/// Where a loop or a driver reads the time.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    /// The monotonic clock of the machine.
    #[default]
    Real,
    /// Stands still until [`Clock::advance`].
    #[cfg(test)]
    Virtual(Arc<Mutex<Instant>>),
}

impl Clock {
    #[cfg(test)]
    pub(crate) fn virtual_now() -> Self {
        Self::Virtual(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Real => now(),
            #[cfg(test)]
            Self::Virtual(now) => *now.lock(),
        }
    }

    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        if let Self::Virtual(now) = self {
            *now.lock() += by;
        }
    }
}

/// The time; in a simulation, that of the simulation.
#[inline]
pub(crate) fn now() -> Instant {
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    if let Some(now) = crate::base::simulated::now() {
        return now;
    }
    Instant::now()
}

/// The time, for what decides by it; in a model it stands still, so that all runs decide alike.
#[inline]
pub(crate) fn steady() -> Instant {
    #[cfg(loom)]
    return *MODEL.get_or_init(now);
    #[cfg(not(loom))]
    now()
}

#[cfg(loom)]
static MODEL: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

/// The instant `after` from `start`; `None` stands for never, where the sum has no instant.
pub(crate) fn deadline_from(start: Instant, after: Duration) -> Option<Instant> {
    start.checked_add(after)
}

/// The instant `after` from now; `None` stands for never.
pub(crate) fn deadline_after(after: Duration) -> Option<Instant> {
    deadline_from(now(), after)
}
