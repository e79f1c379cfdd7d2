//! The tasks of a loop that stand in no queue, so that a close finds them.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::base::sync::Mutex;
use crate::task::{Hold, TaskId};

/// Entered on the loop's thread when they are suspended for the first time; they leave
/// wherever they end. Nothing is dropped under the lock.
#[derive(Debug, Default)]
pub(super) struct Suspended(Mutex<Holds>);

type Holds = HashMap<TaskId, Hold, BuildHasherDefault<Spread>>;

impl Suspended {
    pub(super) fn enter(&self, hold: Hold) {
        let replaced = self.0.lock().insert(hold.id(), hold);
        debug_assert!(
            replaced.is_none(),
            "a task is suspended for the first time once"
        );
    }

    pub(super) fn leave(&self, id: TaskId) {
        let hold = self.0.lock().remove(&id);
        drop(hold);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Those that are in here now; they stay until they end.
    pub(super) fn list(&self) -> Vec<Hold> {
        #[allow(
            unused_mut,
            reason = "a simulation makes the same choices again: it wants an order"
        )]
        let mut holds: Vec<Hold> = self.0.lock().values().cloned().collect();
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        if crate::base::simulated::is_on() {
            holds.sort_by_key(Hold::id);
        }
        holds
    }
}

/// Spreads numbers that this process has counted up itself; nobody chooses them to collide.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The odd constant nearest to 2^64 divided by the golden ratio; the table takes its
        // place from the low bits and its tag from the high ones.
        let mixed = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
