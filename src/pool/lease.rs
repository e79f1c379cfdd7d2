//! What keeps a pool open: all clones of its handle hold one lease.

#![forbid(unsafe_code)]

use crate::base::count::SHARDS;
use crate::base::sync::{Arc, Mutex, Weak};
use crate::pool::home::Door;
use crate::pool::shared::Shared;
use crate::pool::shutdown::Shutdown;

/// What the clones of a handle share; the last one to go lets the pool end.
pub(super) struct Lease {
    pub(super) shared: Arc<Shared>,
    /// One per group of threads.
    pub(super) doors: [Arc<Door>; SHARDS],
}

impl Lease {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared: shared.clone(),
            doors: std::array::from_fn(|_| Arc::new(Door(shared.clone()))),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.shared.stop(Shutdown::Drain);
    }
}

/// The present lease, for [`ThreadPool::current`](super::ThreadPool::current).
pub(super) type LeaseSlot = Mutex<Weak<Lease>>;
