//! The suspended tasks of a pool, so that a shutdown finds those that lie in no queue.
//!
//! A task comes in at its first suspension and goes out at its end; jobs never come here.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::base::clock;
use crate::base::sync::Mutex;
use crate::pool::shutdown::StuckTask;
use crate::task::{Hold, TaskId};

/// Parts with a lock each.
const SHARDS: usize = 16;

/// Tasks that have been suspended and have not ended.
pub(super) struct Registry([CachePadded<Mutex<HashMap<TaskId, Entry>>>; SHARDS]);

struct Entry {
    hold: Hold,
    since: Instant,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| {
            CachePadded::new(Mutex::new(HashMap::new()))
        }))
    }

    fn shard(&self, id: TaskId) -> &Mutex<HashMap<TaskId, Entry>> {
        &self.0[(id.number() % SHARDS as u64) as usize]
    }

    pub(super) fn enter(&self, hold: Hold) {
        let since = clock::now();
        let id = hold.id();
        self.shard(id).lock().insert(id, Entry { hold, since });
    }

    pub(super) fn leave(&self, id: TaskId) {
        // The reference may be the last one: it goes outside of the lock.
        let entry = self.shard(id).lock().remove(&id);
        drop(entry);
    }

    /// All of them now.
    pub(super) fn holds(&self) -> Vec<Hold> {
        let mut holds = Vec::new();
        for shard in &self.0 {
            holds.extend(shard.lock().values().map(|entry| entry.hold.clone()));
        }
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        if crate::base::simulated::is_on() {
            holds.sort_by_key(Hold::id);
        }
        holds
    }

    /// Those that have not ended, for the report.
    pub(super) fn stuck(&self) -> Vec<StuckTask> {
        let mut stuck = Vec::new();
        for shard in &self.0 {
            stuck.extend(shard.lock().values().map(|entry| StuckTask {
                id: entry.hold.id(),
                name: entry.hold.name().map(str::to_owned),
                spawned_at: entry.hold.spawned_at(),
                running_for: clock::now().saturating_duration_since(entry.since),
            }));
        }
        stuck
    }
}
