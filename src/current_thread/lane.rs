//! A lane and the inbox that it shares with the other lanes of its thread.
//!
//! All lanes of one thread queue into one [`Inbox`], in order of arrival, so that whichever
//! frame of the thread is on top serves them all and no outer lane waits for an inner one. A
//! lane itself is only a number on each letter and a phase: what it takes and for how long.
//!
//! # State
//!
//! | phase      | takes work | frame on the stack | next                            |
//! |------------|------------|--------------------|---------------------------------|
//! | `OPEN`     | yes        | no                 | `RUNNING`, `FINISHED`           |
//! | `RUNNING`  | yes        | yes                | `DRAINING`, `FINISHED` (unwound)|
//! | `DRAINING` | no         | yes                | `FINISHED`                      |
//! | `FINISHED` | no         | no                 |                                 |
//!
//! The queue has two halves, each behind its lock: pushes go into `arrived`; when the owner has
//! run all of `taken`, it takes over what has arrived in one move, so that it does not meet
//! the submitters at their lock for each item. Where few have come, it follows on the heels of a
//! submitter: then it lets a moment pass before it looks again. Else the two would want the same
//! lines at every step (the lock, the parker, a cell that is run while its handle is dropped), which
//! costs more than the work.
//!
//! # Invariants
//!
//! 1. `phase` is read and written under the lock of `arrived` only: a push either lies before
//!    the seal, and is drained or closed, or is refused.
//! 2. A lane in `FINISHED` has no letter in the inbox, nor has any lane of an inbox that is
//!    `gone`.
//! 3. Stamps grow along `taken` and then along `arrived`. What was queued before a seal has a
//!    stamp up to the one that the seal returns.
//! 4. Who makes `arrived` non-empty wakes the owner, after the lock is released. The owner
//!    looks at both halves before each sleep, so further pushes need no wake.
//! 5. Whoever needs both locks takes that of `taken` first.
//!
//! # Ordering
//!
//! The locks order everything; `phase` is an atomic only to be written through a shared
//! reference. No user code runs under a lock: what is removed is returned to the caller.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::task::Waker;

use crate::base::sync::atomic::{AtomicU8, Ordering};
use crate::base::sync::{Arc, Mutex, hint};

const OPEN: u8 = 0;
const RUNNING: u8 = 1;
const DRAINING: u8 = 2;
const FINISHED: u8 = 3;

/// What an empty queue may keep of a flood, in letters, when a lane finishes.
const KEPT_CAPACITY: usize = 1024;

/// So many letters, taken over at once, are few.
const FEW: usize = 64;

/// The moment that the owner then lets pass, in hints to the processor, which take up to some 140
/// cycles each: a microsecond at most, and longer than a few submissions take.
const MOMENT: usize = if cfg!(any(loom, shuttle)) { 0 } else { 20 };

/// What is queued for the lanes of one thread.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    taken: Mutex<Taken<T>>,
    arrived: Mutex<Arrived<T>>,
    owner: Waker,
}

type Queue<T> = VecDeque<Letter<T>>;

#[derive(Debug)]
struct Taken<T> {
    queue: Queue<T>,
    /// There were few of them when they were taken over.
    few: bool,
}

#[derive(Debug)]
struct Arrived<T> {
    queue: Queue<T>,
    /// The stamp of the last letter, and the number of the last lane: one sequence for both.
    last: u64,
    /// The thread has ended.
    gone: bool,
}

#[derive(Debug)]
struct Letter<T> {
    stamp: u64,
    lane: u64,
    item: T,
}

impl<T> Inbox<T> {
    /// An inbox whose owner wakes by `owner`.
    pub(crate) fn new(owner: Waker) -> Self {
        Self {
            taken: Mutex::new(Taken {
                queue: VecDeque::new(),
                few: false,
            }),
            arrived: Mutex::new(Arrived {
                queue: VecDeque::new(),
                last: 0,
                gone: false,
            }),
            owner,
        }
    }

    /// Takes the oldest item of any lane. Only the owner calls this.
    pub(crate) fn take(&self) -> Option<T> {
        self.take_until(Sealed(u64::MAX))
    }

    /// Takes the oldest item of any lane, if it is not younger than `bound`.
    pub(crate) fn take_until(&self, bound: Sealed) -> Option<T> {
        let mut taken = self.taken.lock();
        if taken.queue.is_empty() {
            if taken.few {
                drop(taken);
                (0..MOMENT).for_each(|_| hint::spin_loop());
                taken = self.taken.lock();
            }
            taken.take_over(&mut self.arrived.lock().queue);
        }
        if taken.queue.front()?.stamp > bound.0 {
            return None;
        }
        taken.queue.pop_front().map(|letter| letter.item)
    }

    /// The owner ends: closes every lane and returns what was queued.
    #[must_use = "drop it where no lock is held"]
    pub(crate) fn close(&self) -> Vec<T> {
        let (taken, arrived) = {
            let mut taken = self.taken.lock();
            let mut arrived = self.arrived.lock();
            arrived.gone = true;
            (
                std::mem::take(&mut taken.queue),
                std::mem::take(&mut arrived.queue),
            )
        };
        let letters = taken.into_iter().chain(arrived);
        letters.map(|letter| letter.item).collect()
    }
}

/// Why a lane cannot begin to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoBegin {
    Running,
    Finished,
}

/// The stamp of the last letter that a sealed lane has still to serve; zero for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Sealed(u64);

/// One lane of a thread's inbox.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    inbox: Arc<Inbox<T>>,
    number: u64,
    phase: AtomicU8,
}

impl<T> Lane<T> {
    /// An open lane; one of an inbox that is gone refuses everything.
    pub(crate) fn new(inbox: &Arc<Inbox<T>>) -> Self {
        let number = inbox.arrived.lock().next();
        Self {
            inbox: inbox.clone(),
            number,
            phase: AtomicU8::new(OPEN),
        }
    }

    /// What this lane shares with the others of its thread.
    pub(crate) fn inbox(&self) -> &Inbox<T> {
        &self.inbox
    }

    /// Queues `item` and wakes the owner; gives it back if the lane takes no more.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut arrived = self.inbox.arrived.lock();
        if arrived.gone || !self.takes() {
            return Err(item);
        }
        let first = arrived.queue.is_empty();
        let stamp = arrived.next();
        arrived.queue.push_back(Letter {
            stamp,
            lane: self.number,
            item,
        });
        drop(arrived);
        if first {
            self.inbox.owner.wake_by_ref();
        }
        Ok(())
    }

    /// The owner's frame begins: from `OPEN` to `RUNNING`.
    pub(crate) fn begin(&self) -> Result<(), NoBegin> {
        let arrived = self.inbox.arrived.lock();
        match self.phase() {
            OPEN if !arrived.gone => {
                self.set(RUNNING);
                Ok(())
            }
            RUNNING | DRAINING => Err(NoBegin::Running),
            _ => Err(NoBegin::Finished),
        }
    }

    /// The frame's future is done: takes no more, and says what is still to be served.
    pub(crate) fn seal(&self) -> Sealed {
        let taken = self.inbox.taken.lock();
        let arrived = self.inbox.arrived.lock();
        self.set(DRAINING);
        let mine = |letter: &&Letter<T>| letter.lane == self.number;
        let last = arrived.queue.iter().rfind(mine);
        let last = last.or_else(|| taken.queue.iter().rfind(mine));
        Sealed(last.map_or(0, |letter| letter.stamp))
    }

    /// Finishes for good and returns what was still queued here.
    #[must_use = "drop it where no lock is held"]
    pub(crate) fn close(&self) -> Vec<T> {
        let mut mine = Vec::new();
        let mut taken = self.inbox.taken.lock();
        let mut arrived = self.inbox.arrived.lock();
        self.set(FINISHED);
        for queue in [&mut taken.queue, &mut arrived.queue] {
            self.take_mine(queue, &mut mine);
        }
        mine
    }

    fn take_mine(&self, queue: &mut Queue<T>, mine: &mut Vec<T>) {
        if queue.iter().any(|letter| letter.lane == self.number) {
            for letter in std::mem::take(queue) {
                if letter.lane == self.number {
                    mine.push(letter.item);
                } else {
                    queue.push_back(letter);
                }
            }
        }
        if queue.is_empty() && queue.capacity() > KEPT_CAPACITY {
            *queue = VecDeque::new();
        }
    }

    /// Takes this lane no more work?
    pub(crate) fn is_finished(&self) -> bool {
        let arrived = self.inbox.arrived.lock();
        arrived.gone || !self.takes()
    }

    /// How many items that `count` counts are queued here.
    pub(crate) fn queued(&self, count: impl Fn(&T) -> bool) -> usize {
        let taken = self.inbox.taken.lock();
        let arrived = self.inbox.arrived.lock();
        let all = taken.queue.iter().chain(&arrived.queue);
        let mine = all.filter(|letter| letter.lane == self.number);
        mine.filter(|letter| count(&letter.item)).count()
    }

    /// Call under the lock of `arrived` (invariant 1), as the two below.
    fn phase(&self) -> u8 {
        // Ordering: Relaxed: the lock orders it.
        self.phase.load(Ordering::Relaxed)
    }

    fn set(&self, phase: u8) {
        // Ordering: Relaxed: the lock orders it.
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn takes(&self) -> bool {
        matches!(self.phase(), OPEN | RUNNING)
    }
}

impl<T> Taken<T> {
    /// The owner has run all that it had. Nobody else puts anything here.
    fn take_over(&mut self, arrived: &mut Queue<T>) {
        std::mem::swap(&mut self.queue, arrived);
        self.few = (1..=FEW).contains(&self.queue.len());
    }
}

impl<T> Arrived<T> {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Inbox, Lane, NoBegin};
    use crate::base::sync::Arc;
    use std::task::Waker;

    fn inbox() -> Arc<Inbox<&'static str>> {
        Arc::new(Inbox::new(Waker::noop().clone()))
    }

    #[test]
    fn lanes_of_one_thread_are_served_in_order_of_arrival() {
        let inbox = inbox();
        let (outer, inner) = (Lane::new(&inbox), Lane::new(&inbox));
        outer.push("a").unwrap();
        inner.push("b").unwrap();
        outer.push("c").unwrap();
        assert_eq!([inbox.take(), inbox.take()], [Some("a"), Some("b")]);
        assert_eq!((outer.queued(|_| true), inner.queued(|_| true)), (1, 0));
    }

    #[test]
    fn a_drain_ends_with_the_last_letter_of_its_own_lane() {
        let inbox = inbox();
        let (outer, inner) = (Lane::new(&inbox), Lane::new(&inbox));
        outer.push("a").unwrap();
        inner.push("b").unwrap();
        outer.push("c").unwrap();
        let bound = inner.seal();
        assert_eq!(inner.push("late"), Err("late"));
        assert_eq!(inbox.take_until(bound), Some("a"));
        assert_eq!(inbox.take_until(bound), Some("b"));
        assert_eq!(inbox.take_until(bound), None);
        assert_eq!(inbox.take(), Some("c"));
    }

    #[test]
    fn a_seal_with_nothing_of_its_own_drains_nothing() {
        let inbox = inbox();
        let (outer, inner) = (Lane::new(&inbox), Lane::new(&inbox));
        outer.push("a").unwrap();
        let bound = inner.seal();
        assert_eq!(inbox.take_until(bound), None);
    }

    #[test]
    fn closing_returns_what_is_its_own_and_keeps_the_order_of_the_rest() {
        let inbox = inbox();
        let (outer, inner) = (Lane::new(&inbox), Lane::new(&inbox));
        for (lane, item) in [(&outer, "a"), (&inner, "b"), (&outer, "c"), (&inner, "d")] {
            lane.push(item).unwrap();
        }
        assert_eq!(inner.close(), ["b", "d"]);
        assert_eq!(inner.close(), [""; 0]);
        assert_eq!([inbox.take(), inbox.take()], [Some("a"), Some("c")]);
    }

    #[test]
    fn a_lane_runs_once() {
        let lane = Lane::new(&inbox());
        assert_eq!(lane.begin(), Ok(()));
        assert_eq!(lane.begin(), Err(NoBegin::Running));
        let _ = lane.seal();
        assert_eq!(lane.begin(), Err(NoBegin::Running));
        assert!(lane.close().is_empty());
        assert_eq!(lane.begin(), Err(NoBegin::Finished));
    }

    #[test]
    fn a_gone_thread_takes_nothing() {
        let inbox = inbox();
        let lane = Lane::new(&inbox);
        lane.push("a").unwrap();
        assert_eq!(inbox.close(), ["a"]);
        assert_eq!(lane.push("b"), Err("b"));
        assert_eq!(lane.begin(), Err(NoBegin::Finished));
        assert!(lane.is_finished());
        assert!(Lane::new(&inbox).is_finished());
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Inbox, Lane};
    use crate::base::park::Parker;
    use crate::base::sync::{Arc, thread};
    use std::task::Waker;

    fn inbox() -> Arc<Inbox<u8>> {
        Arc::new(Inbox::new(Waker::noop().clone()))
    }

    /// Question: can a submission fall between the seal of the inner lane and the walk to the
    /// outer one, or be served twice?
    /// Bound: two submissions, one seal with its drain.
    ///
    /// Must fail when: `push` does not look at the phase; `seal` looks at the queue before
    /// it sets the phase, under another lock.
    #[test]
    fn loom_lane_submit_races_seal_and_migrates() {
        loom::model(|| {
            let inbox = inbox();
            let outer = Arc::new(Lane::new(&inbox));
            let inner = Arc::new(Lane::new(&inbox));
            inner.begin().unwrap();
            let links = (inner.clone(), outer.clone());
            let submitter = thread::spawn(move || {
                [1, 2].map(|item| match links.0.push(item) {
                    Ok(()) => true,
                    Err(item) => {
                        links.1.push(item).expect("the outer lane is open");
                        false
                    }
                })
            });
            let mut served = Vec::new();
            served.extend(inbox.take());
            let bound = inner.seal();
            while let Some(item) = inbox.take_until(bound) {
                served.push(item);
            }
            assert!(inner.close().is_empty(), "the drain left something");
            let inner_took = submitter.join().unwrap();
            assert!(
                inner_took[0] || !inner_took[1],
                "a finished lane took work again"
            );
            let drained = inner_took.iter().filter(|taken| **taken).count();
            assert!(served.len() >= drained);
            while let Some(item) = inbox.take() {
                served.push(item);
            }
            assert_eq!(served, [1, 2]);
        });
    }

    /// Question: can a submission outlive its lane when the owner thread ends meanwhile?
    /// Bound: one submission, one end.
    ///
    /// Must fail when: `push` does not look at `gone`; `close` does not set it, or takes the
    /// queue under another lock.
    #[test]
    fn loom_lane_submit_races_owner_gone() {
        loom::model(|| {
            let inbox = inbox();
            let lane = Arc::new(Lane::new(&inbox));
            let link = lane.clone();
            let submitter = thread::spawn(move || link.push(7).is_ok());
            let resolved = inbox.close();
            let taken = submitter.join().unwrap();
            assert_eq!(resolved.len(), usize::from(taken), "a handle would hang");
            assert_eq!(inbox.take(), None);
        });
    }

    /// Question: can the owner sleep on a queue that is not empty?
    /// Bound: two submitters to two lanes, one of them wakes nobody.
    ///
    /// Must fail when: `push` does not wake, or wakes before it queues.
    #[test]
    fn loom_lane_submit_wakes_the_owner() {
        loom::model(|| {
            let parker = Parker::new();
            let waker = Waker::from(parker.unparker().clone());
            let inbox = Arc::new(Inbox::new(waker));
            let (one, two) = (Lane::new(&inbox), Lane::new(&inbox));
            let first = thread::spawn(move || one.push(1).unwrap());
            let second = thread::spawn(move || two.push(2).unwrap());
            for _ in 0..2 {
                while inbox.take().is_none() {
                    parker.park();
                }
            }
            first.join().unwrap();
            second.join().unwrap();
        });
    }

    /// Question: can a submission to an outer lane be lost when an inner lane closes?
    /// Bound: one submission, one close of a lane with one letter.
    ///
    /// Must fail when: `close` puts the rest back in another order, or under another lock.
    #[test]
    fn loom_lane_submit_races_close_of_another() {
        loom::model(|| {
            let inbox = inbox();
            let outer = Lane::new(&inbox);
            let inner = Lane::new(&inbox);
            inner.push(1).unwrap();
            let submitter = thread::spawn(move || outer.push(2).unwrap());
            assert_eq!(inner.close(), [1]);
            submitter.join().unwrap();
            assert_eq!(inbox.take(), Some(2));
        });
    }
}
