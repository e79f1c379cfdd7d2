//! Where other threads leave work for a loop.
//!
//! # State, behind one lock
//!
//! | `queue.state` | takes new work | takes wakes of old work | next      |
//! |---------------|----------------|-------------------------|-----------|
//! | `Open`        | yes            | yes                     | `Closing` |
//! | `Closing`     | no             | yes                     | `Sealed`  |
//! | `Sealed`      | no             | no                      | (final)   |
//!
//! # Invariants
//!
//! 1. Whoever puts the first item in wakes the owner *afterwards* ([`Pushed::First`]); the
//!    owner looks here again after each sleep and before the next. So an item is never left
//!    lying while the owner sleeps: either the owner sees it, or a token is on its way.
//! 2. After [`Inbox::seal`] nothing comes in; what was in comes out of it.
//!
//! # Ordering
//!
//! `filled` saves the owner the lock when there is nothing. It is stored under the lock; the
//! owner may read an old value only until it takes the parker's token (Acquire), which pairs
//! with the `unpark` (Release) that follows the push.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
pub(super) struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    filled: AtomicBool,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Open,
    Closing,
    Sealed,
}

/// What the work is that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    New,
    Woken,
}

/// What became of a push, and the pusher's duty.
#[must_use]
#[derive(Debug)]
pub(super) enum Pushed<T> {
    /// In; the owner may be asleep: wake it.
    First,
    /// In; somebody has woken the owner already or is about to.
    Behind,
    /// Not in: end it outside of every lock.
    Refused(T),
}

impl<T> Inbox<T> {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                state: State::Open,
            }),
            filled: AtomicBool::new(false),
        }
    }

    pub(super) fn push(&self, item: T, kind: Kind) -> Pushed<T> {
        let mut queue = self.queue.lock();
        match (queue.state, kind) {
            (State::Open, _) | (State::Closing, Kind::Woken) => {}
            (State::Closing, Kind::New) | (State::Sealed, _) => return Pushed::Refused(item),
        }
        queue.items.push_back(item);
        if queue.items.len() > 1 {
            return Pushed::Behind;
        }
        // Ordering: Relaxed: published with the token, see the header.
        self.filled.store(true, Ordering::Relaxed);
        Pushed::First
    }

    /// Whether there is something, as far as the owner can know.
    pub(super) fn has_mail(&self) -> bool {
        // Ordering: Relaxed: see the header.
        self.filled.load(Ordering::Relaxed)
    }

    /// Moves everything behind what is in `to`.
    pub(super) fn take(&self, to: &mut VecDeque<T>) {
        if !self.has_mail() {
            return;
        }
        let mut queue = self.queue.lock();
        self.filled.store(false, Ordering::Relaxed);
        if to.is_empty() {
            std::mem::swap(to, &mut queue.items);
        } else {
            to.append(&mut queue.items);
        }
    }

    /// No new work from now on.
    pub(super) fn refuse_new(&self) {
        let mut queue = self.queue.lock();
        queue.state = queue.state.max(State::Closing);
    }

    /// Nothing at all from now on; what is still in comes out.
    pub(super) fn seal(&self) -> VecDeque<T> {
        let mut queue = self.queue.lock();
        queue.state = State::Sealed;
        self.filled.store(false, Ordering::Relaxed);
        std::mem::take(&mut queue.items)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Inbox, Kind, Pushed};
    use std::collections::VecDeque;

    #[test]
    fn only_the_first_item_asks_for_a_wake() {
        let inbox = Inbox::new();
        let mut taken = VecDeque::new();
        for _ in 0..2 {
            assert!(matches!(inbox.push(1, Kind::New), Pushed::First));
            assert!(matches!(inbox.push(2, Kind::Woken), Pushed::Behind));
            assert!(inbox.has_mail());
            inbox.take(&mut taken);
            assert!(!inbox.has_mail());
        }
        assert_eq!(
            taken,
            [1, 2, 1, 2],
            "in order, behind what was taken before"
        );
    }

    #[test]
    fn a_closing_inbox_takes_wakes_and_a_sealed_one_nothing() {
        let inbox = Inbox::new();
        inbox.refuse_new();
        assert!(matches!(inbox.push(1, Kind::New), Pushed::Refused(1)));
        assert!(matches!(inbox.push(2, Kind::Woken), Pushed::First));
        assert_eq!(inbox.seal(), [2]);
        assert!(matches!(inbox.push(3, Kind::Woken), Pushed::Refused(3)));
        inbox.refuse_new();
        assert!(
            matches!(inbox.push(4, Kind::Woken), Pushed::Refused(4)),
            "stays sealed"
        );
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Inbox, Kind, Pushed};
    use crate::base::park::{Parker, Unparker};
    use crate::base::sync::Arc;
    use std::collections::VecDeque;

    fn push(inbox: &Inbox<u8>, unparker: &Unparker, item: u8, kind: Kind) -> bool {
        match inbox.push(item, kind) {
            Pushed::First => unparker.unpark(),
            Pushed::Behind => {}
            Pushed::Refused(_) => return false,
        }
        true
    }

    /// What a loop does while it has nothing else to do.
    fn take_two(inbox: &Inbox<u8>, parker: &Parker) {
        let mut taken = VecDeque::new();
        while taken.len() < 2 {
            inbox.take(&mut taken);
            if taken.len() < 2 && !inbox.has_mail() {
                parker.park();
            }
        }
    }

    /// Question: can the owner sleep while an item lies in the inbox? One pusher with two
    /// items, every interleaving.
    ///
    /// Must fail when: the first push does not wake; `filled` is not set; `take` resets
    /// `filled` after the lock is free.
    #[test]
    fn loom_inbox_push_races_park() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let parker = Parker::new();
            let (theirs, unparker) = (inbox.clone(), parker.unparker().clone());
            let pusher = loom::thread::spawn(move || {
                assert!(push(&theirs, &unparker, 1, Kind::New));
                assert!(push(&theirs, &unparker, 2, Kind::Woken));
            });
            take_two(&inbox, &parker);
            pusher.join().unwrap();
        });
    }

    /// Question: the same for two pushers, of whom the second relies on the first one's wake.
    /// At most two preemptions.
    ///
    /// Must fail when: as above.
    #[test]
    fn loom_inbox_two_pushes_race_park() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let inbox = Arc::new(Inbox::new());
            let parker = Parker::new();
            let pushers: Vec<_> = (0..2)
                .map(|item| {
                    let (inbox, unparker) = (inbox.clone(), parker.unparker().clone());
                    loom::thread::spawn(move || {
                        assert!(push(&inbox, &unparker, item, Kind::New));
                    })
                })
                .collect();
            take_two(&inbox, &parker);
            pushers
                .into_iter()
                .for_each(|pusher| pusher.join().unwrap());
        });
    }

    /// Question: can an item that races the close be lost, neither taken, nor handed out by
    /// `seal`, nor refused? New work and a wake, every interleaving.
    ///
    /// Must fail when: `seal` does not set the state; a refused item is reported as in.
    #[test]
    fn loom_inbox_push_races_close() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let theirs = inbox.clone();
            let parker = Parker::new();
            let unparker = parker.unparker().clone();
            let pusher = loom::thread::spawn(move || {
                let new = push(&theirs, &unparker, 1, Kind::New);
                usize::from(new) + usize::from(push(&theirs, &unparker, 2, Kind::Woken))
            });
            let mut taken = VecDeque::new();
            inbox.take(&mut taken);
            inbox.refuse_new();
            inbox.take(&mut taken);
            taken.extend(inbox.seal());
            assert_eq!(pusher.join().unwrap(), taken.len());
            assert_eq!(inbox.seal().len(), 0, "nothing comes in behind the seal");
        });
    }
}
