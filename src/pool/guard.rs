//! Who hears of a task that a worker keeps to itself, and who looks after that worker.
//!
//! A task that is woken by a task waits for the worker that is polling, which takes it next, so
//! nobody is woken for it. A poll that blocks in a way of its own would hold it up: a timer comes
//! back and gives it away.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::clock::deadline_after;
use crate::base::sync::Arc;
use crate::base::sync::atomic::Ordering;
use crate::pool::seat::Seat;
use crate::pool::shared::Shared;
use crate::timer;

/// How long a poll may keep what it has woken from others.
const PATIENCE: Duration = Duration::from_millis(2);

/// Who has to be told of a task that was woken.
#[must_use]
pub(super) enum Announce {
    /// A sleeper, as of a push.
    Now,
    /// Nobody: this worker takes it next.
    Never,
    /// Nobody, unless the worker does not come back from its present poll.
    Later(Guard),
}

/// Looks after a worker that has kept a task to itself: a poll that blocks (it should not) must
/// not hold up what it has woken.
pub(super) struct Guard {
    seat: Arc<Seat>,
    taken: u64,
}

impl Guard {
    pub(super) fn over(seat: &Arc<Seat>) -> Self {
        Self {
            seat: seat.clone(),
            taken: seat.tally.taken.read(),
        }
    }

    /// Comes back after [`PATIENCE`], once more for as long as the worker keeps something.
    pub(super) fn post(self, shared: &Arc<Shared>) {
        let shared = Arc::downgrade(shared);
        timer::call_at(deadline_after(PATIENCE), move || {
            if let Some(shared) = shared.upgrade() {
                self.strike(&shared);
            }
        });
    }

    fn strike(self, shared: &Arc<Shared>) {
        let seat = self.seat;
        // Ordering: AcqRel, the same move as in `Worker::keep_quiet`, which sets the flag first.
        seat.guarded.swap(false, Ordering::AcqRel);
        if !seat.unannounced.load(Ordering::Relaxed) {
            return;
        }
        if seat.tally.taken.read() == self.taken {
            if let Some(task) = seat.next.take() {
                shared.injector.push(task);
            }
            shared.after_push();
        } else if !seat.guarded.swap(true, Ordering::AcqRel) {
            Self::over(&seat).post(shared);
        }
    }
}
