//! The thread that looks while a backlog lasts, and the word that wakes it.
//!
//! Submitters and workers notice most of what growth needs to know, but if all workers are
//! blocked and nothing is submitted any more, nobody is left to notice: hence one thread,
//! `portage-watchdog`. It is started at the first backlog that finds all core threads busy,
//! ticks while a backlog lasts, sleeps without a timeout otherwise, and ends with its pool.
//!
//! # State
//!
//! | `watch`   | the watchdog                         | who leaves it, for what                  |
//! |-----------|--------------------------------------|------------------------------------------|
//! | `NONE`    | has no thread                        | an alarm: `ALARMED`, and starts it       |
//! | `ALARMED` | ticks, or is about to                | itself: `CALM`; a failed start: `UNABLE` |
//! | `CALM`    | ticks once more without a backlog    | itself: `ASLEEP`; an alarm: `ALARMED`    |
//! | `ASLEEP`  | sleeps without a timeout             | an alarm: `ALARMED`, and wakes it        |
//! | `UNABLE`  | could not be started                 | a retry: `ALARMED`, and starts it        |
//! | `CLOSED`  | has left or is about to              | nobody                                   |
//!
//! # Invariants
//!
//! 1. A backlog is never behind a sleeping watchdog. Submitter: push, `fence(SeqCst)`, read
//!    `watch`. Watchdog: `ASLEEP`, `fence(SeqCst)`, look at the queue again. Either the
//!    submitter reads `ASLEEP` and wakes it, or the watchdog sees the push and stays up.
//! 2. There is at most one watchdog: only the move `NONE`/`UNABLE` -> `ALARMED` starts it.
//! 3. Only the watchdog leaves `ALARMED` for `CALM` and `CALM` for `ASLEEP`.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::sync::atomic::{AtomicUsize, Ordering, fence};

/// Between two ticks while a backlog lasts.
pub(super) const TICK: Duration = Duration::from_micros(200);

/// Before the second look of a backlog; it doubles up to [`TICK`]. The sleepers of a burst are
/// asleep about this long after they have begun.
pub(super) const FIRST_TICK: Duration = Duration::from_micros(50);

/// Ticks without a backlog before the watchdog sleeps for good: one burst after another does
/// not pay for a wake each.
pub(super) const CALM_TICKS: u32 = 4;

const NONE: usize = 0;
const ALARMED: usize = 1;
const CALM: usize = 2;
const ASLEEP: usize = 3;
const UNABLE: usize = 4;
const CLOSED: usize = 5;

/// What an alarm asks of whoever raised it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The watchdog is up, or the pool is closed.
    Heard,
    /// Wake its thread.
    Wake,
    /// Start its thread, and say so with [`Watch::refused`] if that fails.
    Start,
}

/// What the watchdog does next.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Sleep until it is woken.
    Sleep,
    /// Stay up: there is, or may be, a backlog again.
    Stay,
    /// The pool has gone.
    Leave,
}

/// The word; see the module's header.
#[derive(Debug)]
pub(super) struct Watch(AtomicUsize);

impl Watch {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(NONE))
    }

    /// Is the watchdog looking at a backlog, so that an alarm is superfluous? One load.
    ///
    /// The caller has pushed and passed a `fence(SeqCst)`, as for [`Watch::alarm`].
    #[inline]
    pub(super) fn is_alarmed(&self) -> bool {
        // Ordering: Relaxed: invariant 1 rests on the fences.
        self.0.load(Ordering::Relaxed) == ALARMED
    }

    /// Do submitters and workers have to look in the watchdog's place?
    #[inline]
    pub(super) fn is_unable(&self) -> bool {
        // Ordering: Relaxed: read late, a look comes a job later.
        self.0.load(Ordering::Relaxed) == UNABLE
    }

    /// There is a backlog. The caller has pushed and passed a `fence(SeqCst)`.
    pub(super) fn alarm(&self) -> Alarm {
        self.to_alarmed(false)
    }

    /// Like [`Watch::alarm`], and tries again what was refused.
    pub(super) fn retry(&self) -> Alarm {
        self.to_alarmed(true)
    }

    fn to_alarmed(&self, retry: bool) -> Alarm {
        // Ordering: Relaxed throughout: the word guards no data, and invariant 1 rests on the
        // fences. The wake that may follow is ordered by the parker.
        let mut state = self.0.load(Ordering::Relaxed);
        loop {
            let duty = match state {
                NONE => Alarm::Start,
                UNABLE if retry => Alarm::Start,
                ASLEEP => Alarm::Wake,
                CALM => Alarm::Heard,
                _ => return Alarm::Heard,
            };
            match self
                .0
                .compare_exchange_weak(state, ALARMED, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return duty,
                Err(now) => state = now,
            }
        }
    }

    /// The thread could not be started.
    pub(super) fn refused(&self) {
        let _ = self.move_from(ALARMED, UNABLE);
    }

    /// A tick found no backlog. True: it did so for the first time.
    pub(super) fn calm(&self) -> bool {
        self.move_from(ALARMED, CALM)
    }

    /// [`CALM_TICKS`] found no backlog: sleep, unless `has_backlog` finds one at last.
    pub(super) fn sleep(&self, has_backlog: impl FnOnce() -> bool) -> Rest {
        if self.is_closed() {
            return Rest::Leave;
        }
        if !self.move_from(CALM, ASLEEP) {
            return Rest::Stay;
        }
        // Ordering: pairs with the submitter's fence between its push and its read of this word.
        fence(Ordering::SeqCst);
        if has_backlog() && self.move_from(ASLEEP, ALARMED) {
            return Rest::Stay;
        }
        // Somebody has woken us meanwhile, or will: the token of the parker keeps that.
        Rest::Sleep
    }

    /// The pool goes. True: there is a thread that may have to be woken.
    pub(super) fn close(&self) -> bool {
        // Ordering: Relaxed: as above; the wake that follows orders what it needs.
        !matches!(
            self.0.swap(CLOSED, Ordering::Relaxed),
            NONE | UNABLE | CLOSED
        )
    }

    pub(super) fn is_closed(&self) -> bool {
        // Ordering: Relaxed: as in `to_alarmed`.
        self.0.load(Ordering::Relaxed) == CLOSED
    }

    fn move_from(&self, from: usize, to: usize) -> bool {
        // Ordering: Relaxed: as in `to_alarmed`.
        self.0
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Alarm, Rest, Watch};

    #[test]
    fn a_backlog_starts_it_once_and_wakes_it_once_per_sleep() {
        let watch = Watch::new();
        assert_eq!(watch.alarm(), Alarm::Start);
        assert_eq!(watch.alarm(), Alarm::Heard);
        assert!(watch.is_alarmed());
        assert!(watch.calm());
        assert!(!watch.calm(), "only once");
        assert_eq!(watch.alarm(), Alarm::Heard, "it ticks still");
        assert_eq!(watch.sleep(|| false), Rest::Stay, "the alarm counts");
        assert!(watch.calm());
        assert_eq!(watch.sleep(|| false), Rest::Sleep);
        assert_eq!(watch.alarm(), Alarm::Wake);
        assert_eq!(watch.alarm(), Alarm::Heard);
    }

    #[test]
    fn a_last_look_keeps_it_up() {
        let watch = Watch::new();
        assert_eq!(watch.alarm(), Alarm::Start);
        assert!(watch.calm());
        assert_eq!(watch.sleep(|| true), Rest::Stay);
        assert!(watch.is_alarmed());
    }

    #[test]
    fn a_refused_start_is_tried_again_only_on_demand() {
        let watch = Watch::new();
        assert_eq!(watch.alarm(), Alarm::Start);
        watch.refused();
        assert!(watch.is_unable());
        assert_eq!(watch.alarm(), Alarm::Heard);
        assert_eq!(watch.retry(), Alarm::Start);
        assert!(!watch.is_unable());
    }

    #[test]
    fn a_closed_one_leaves_and_hears_nothing() {
        let watch = Watch::new();
        assert!(!watch.close(), "no thread to wake");
        let watch = Watch::new();
        assert_eq!(watch.alarm(), Alarm::Start);
        assert!(watch.close());
        assert_eq!(watch.alarm(), Alarm::Heard);
        assert_eq!(watch.retry(), Alarm::Heard);
        assert_eq!(watch.sleep(|| true), Rest::Leave);
        assert!(!watch.calm());
        assert!(!watch.close());
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Alarm, Rest, Watch};
    use crate::base::park::Parker;
    use crate::base::sync::Arc;
    use crate::base::sync::atomic::{AtomicUsize, Ordering, fence};

    /// Question: can a backlog be left behind a sleeping watchdog?
    ///
    /// Bound: one push; a watchdog that calms down and goes to sleep at once.
    ///
    /// Must fail when: the fence in `sleep` or the one of the submitter is missing; the last
    /// look at the queue is; `alarm` leaves an `ASLEEP` as it is.
    #[test]
    fn loom_a_backlog_is_never_behind_a_sleeping_watchdog() {
        loom::model(|| {
            let watch = Arc::new(Watch::new());
            let queued = Arc::new(AtomicUsize::new(0));
            let parker = Parker::new();
            // The thread is there already: the model is about waking it.
            assert_eq!(watch.alarm(), Alarm::Start);
            let submitter = {
                let (watch, queued) = (watch.clone(), queued.clone());
                let unparker = parker.unparker().clone();
                loom::thread::spawn(move || {
                    queued.store(1, Ordering::Relaxed);
                    fence(Ordering::SeqCst);
                    if !watch.is_alarmed() && watch.alarm() == Alarm::Wake {
                        unparker.unpark();
                    }
                })
            };
            if !watch.calm() {
                unreachable!("nobody else leaves the alarm");
            }
            match watch.sleep(|| queued.load(Ordering::Relaxed) > 0) {
                // Ends only if somebody unparks: loom reports a deadlock otherwise.
                Rest::Sleep => parker.park(),
                Rest::Stay => {}
                Rest::Leave => unreachable!("nobody closes"),
            }
            submitter.join().unwrap();
            assert!(watch.is_alarmed());
        });
    }
}
