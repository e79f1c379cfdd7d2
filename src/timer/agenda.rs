//! The entries of one thread, or of the driver, in the order in which they fall due.
//!
//! A released entry (most timeouts end early) stays where it is until it comes to the top or
//! until more than half of the agenda is released; then all of them are swept out at once, so
//! that letting a timer go is O(1) and the memory stays in proportion to what waits.

#![forbid(unsafe_code)]

use std::task::Waker;
use std::time::Instant;

use crate::base::sync::Arc;
use crate::timer::entry::{Entry, Home, Keeper};
use crate::timer::heap::{Due, Heap};

/// A smaller agenda is not worth sweeping.
const SWEEP_MIN: usize = 64;

#[derive(Debug)]
pub(super) struct Agenda {
    heap: Heap<Arc<Entry>>,
    home: Arc<Home>,
}

impl Agenda {
    pub(super) fn new(keeper: Keeper) -> Self {
        Self {
            heap: Heap::new(),
            home: Home::new(keeper),
        }
    }

    pub(super) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// Whether nothing at all is in here, released entries included.
    pub(super) fn is_empty(&self) -> bool {
        self.heap.len() == 0
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn add(&mut self, due: Due, waker: Waker, strict: bool) -> Arc<Entry> {
        let entry = Entry::new(self.home.clone(), waker, strict);
        self.heap.push(due, entry.clone());
        self.sweep();
        entry
    }

    /// The next instant at which something falls due.
    pub(super) fn next(&mut self) -> Option<Instant> {
        while let Some((due, entry)) = self.heap.first() {
            if entry.is_released() {
                self.heap.pop();
                self.home.buried(1);
                continue;
            }
            return match due {
                Due::At(instant) => Some(instant),
                Due::Never => None,
            };
        }
        None
    }

    /// Takes out what is due at `now`, `max` entries at most, into `wakers`, in order.
    pub(super) fn take_due(&mut self, now: Instant, max: usize, wakers: &mut Vec<Waker>) {
        self.sweep();
        let mut left = max;
        while left > 0 {
            match self.heap.first() {
                Some((due, _)) if due <= Due::At(now) => {}
                _ => return,
            }
            let Some((_, entry)) = self.heap.pop() else {
                return;
            };
            match entry.fire() {
                Some(waker) => {
                    wakers.push(waker);
                    left -= 1;
                }
                None => self.home.buried(1),
            }
        }
    }

    /// Moves what waits to `other`, in order; this agenda is empty afterwards.
    pub(super) fn move_to(&mut self, other: &mut Self) {
        for (due, entry) in self.heap.take_all() {
            if entry.move_to(&other.home) {
                other.heap.push(due, entry);
            } else {
                self.home.buried(1);
            }
        }
        other.sweep();
    }

    /// Takes out, before their time, the entries behind which a timer stands that can look
    /// again; what must be on time, and what never falls due, stays.
    pub(super) fn take_early(&mut self, wakers: &mut Vec<Waker>) {
        for (due, entry) in self.heap.take_all() {
            if due == Due::Never || entry.is_strict() {
                self.heap.push(due, entry);
            } else if let Some(waker) = entry.fire_early() {
                wakers.push(waker);
            } else {
                self.home.buried(1);
            }
        }
    }

    fn sweep(&mut self) {
        let len = self.heap.len();
        if len >= SWEEP_MIN && self.home.released() * 2 > len {
            let gone = self.heap.retain(|entry| !entry.is_released());
            self.home.buried(gone);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Agenda, SWEEP_MIN};
    use crate::timer::entry::Keeper;
    use crate::timer::heap::Due;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use std::time::{Duration, Instant};

    #[derive(Default)]
    struct Wakes(AtomicUsize);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn noop() -> Waker {
        Waker::noop().clone()
    }

    #[test]
    fn nothing_is_taken_a_nanosecond_early() {
        let now = Instant::now();
        let mut agenda = Agenda::new(Keeper::Thread);
        agenda.add(Due::At(now + Duration::from_nanos(1)), noop(), false);
        let mut due = Vec::new();
        agenda.take_due(now, 10, &mut due);
        assert!(due.is_empty());
        agenda.take_due(now + Duration::from_nanos(1), 10, &mut due);
        assert_eq!(due.len(), 1);
        assert!(agenda.is_empty());
    }

    #[test]
    fn a_turn_takes_no_more_than_its_share() {
        let now = Instant::now();
        let mut agenda = Agenda::new(Keeper::Thread);
        for _ in 0..10 {
            agenda.add(Due::At(now), noop(), false);
        }
        let mut due = Vec::new();
        agenda.take_due(now, 4, &mut due);
        assert_eq!(due.len(), 4);
    }

    #[test]
    fn a_released_entry_is_no_deadline() {
        let now = Instant::now();
        let mut agenda = Agenda::new(Keeper::Thread);
        let entry = agenda.add(Due::At(now), noop(), false);
        agenda.add(Due::Never, noop(), false);
        assert_eq!(agenda.next(), Some(now));
        assert!(entry.release().is_some());
        assert_eq!(agenda.next(), None);
        assert_eq!(agenda.len(), 1, "what never falls due stays");
    }

    #[test]
    fn released_entries_are_swept_out_when_they_are_more_than_half() {
        let far = Due::At(Instant::now() + Duration::from_secs(3_600));
        let mut agenda = Agenda::new(Keeper::Thread);
        let kept: Vec<_> = (0..10).map(|_| agenda.add(far, noop(), false)).collect();
        for _ in 0..10_000 {
            let entry = agenda.add(far, noop(), false);
            assert!(entry.release().is_some());
            assert!(agenda.len() <= SWEEP_MIN.max(2 * kept.len() + 2));
        }
        let released = agenda.home().released();
        assert_eq!(agenda.len() - released, kept.len(), "the count is exact");
    }

    #[test]
    fn moved_entries_keep_their_order_and_are_counted_where_they_are() {
        let now = Instant::now();
        let (mut from, mut to) = (Agenda::new(Keeper::Thread), Agenda::new(Keeper::Thread));
        let wakes: Vec<_> = (0..4).map(|_| Arc::new(Wakes::default())).collect();
        let entries: Vec<_> = wakes
            .iter()
            .map(|wakes| from.add(Due::At(now), Waker::from(wakes.clone()), false))
            .collect();
        drop(entries[0].release());
        from.move_to(&mut to);
        assert!(from.is_empty());
        assert_eq!(from.home().released(), 0);
        drop(entries[1].release());
        assert_eq!(to.home().released(), 1);
        let mut due = Vec::new();
        to.take_due(now, 10, &mut due);
        assert_eq!(to.home().released(), 0);
        let order: Vec<_> = due
            .into_iter()
            .map(|waker| {
                waker.wake();
                wakes
                    .iter()
                    .map(|w| w.0.load(Ordering::Relaxed))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(order, [vec![0, 0, 1, 0], vec![0, 0, 1, 1]]);
    }

    #[test]
    fn only_what_can_look_again_is_taken_early() {
        let far = Due::At(Instant::now() + Duration::from_secs(3_600));
        let mut agenda = Agenda::new(Keeper::Thread);
        agenda.add(far, noop(), false);
        agenda.add(far, noop(), true);
        agenda.add(Due::Never, noop(), false);
        let mut early = Vec::new();
        agenda.take_early(&mut early);
        assert_eq!((early.len(), agenda.len()), (1, 2));
    }
}
