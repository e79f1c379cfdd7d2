//! Who has which place and slot, and who waits for what: plain data, and what follows from it.
//!
//! [`line`](super::line) asks under its one lock; its header has the table and the invariants.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::task::Waker;

use super::entry::Entry;
use crate::entered::thread_key;
use crate::executor::KeptOpen;
use crate::task::Hold;

/// What the queue's one lock guards.
#[derive(Default)]
pub(super) struct State {
    pub(super) closed: bool,
    /// The job that is being handed over.
    pub(super) handing: Option<u64>,
    /// The next number in a line: of jobs, of adders, of closers.
    next: u64,
    /// The places: ticket to number in the line.
    pub(super) held: BTreeMap<u64, u64>,
    pub(super) line: BTreeMap<u64, Entry>,
    /// Ticket to what tells where the job runs.
    pub(super) slots: BTreeMap<u64, Hold>,
    /// Cancelled in the line: ticket to the [`thread_key`] of who does it.
    pub(super) cancelled: BTreeMap<u64, u64>,
    pub(super) adders: BTreeMap<u64, Adder>,
    pub(super) closers: BTreeMap<u64, Closer>,
    /// Threads that wait for a job of the line, by [`thread_key`], with whom they hold up.
    pub(super) waits: Vec<(u64, Vec<u64>)>,
    /// Executors that wait for the hand-over by the job of this ticket.
    pub(super) kept: Vec<(u64, KeptOpen)>,
    /// Those that wait for it by whoever is at it, until no more is to be expected of that.
    pub(super) open: Vec<KeptOpen>,
}

/// Who waits for room.
pub(super) struct Adder {
    pub(super) entry: Entry,
    /// Gone once it was called.
    pub(super) waker: Option<Waker>,
    pub(super) holds_up: Vec<u64>,
}

/// Who waits for the end.
pub(super) struct Closer {
    pub(super) waker: Waker,
    pub(super) holds_up: Vec<u64>,
    /// The jobs whose work is being dropped on the stack of this very thread.
    pub(super) drops: Vec<u64>,
}

impl State {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn admit(&mut self, entry: Entry) {
        let turn = self.number();
        self.held.insert(entry.ticket, turn);
        self.line.insert(turn, entry);
    }

    /// Is this job held up, by those who wait already or by `also`?
    fn is_held_up(&self, ticket: &u64, also: &[u64]) -> bool {
        also.contains(ticket)
            || self.adders.values().any(|a| a.holds_up.contains(ticket))
            || self.waits.iter().any(|(_, up)| up.contains(ticket))
    }

    /// Is every job that has a slot?
    pub(super) fn is_stuck(&self, also: &[u64]) -> bool {
        !also.is_empty()
            && self
                .slots
                .keys()
                .all(|ticket| self.is_held_up(ticket, also))
    }

    /// Will no place ever be free? A job that is ending has none to give; but a slot, to the line.
    pub(super) fn is_full_for_good(&self, also: &[u64]) -> bool {
        let has_place = |ticket: &&u64| self.held.contains_key(ticket);
        let mut holders = self.slots.keys().filter(has_place);
        let are_held_up = holders.all(|ticket| self.is_held_up(ticket, also));
        are_held_up && !also.is_empty() && (self.line.is_empty() || self.is_stuck(also))
    }

    /// Has everything ended that can end before a closer goes on which holds up `own` and lies
    /// on top of what `drops`?
    ///
    /// Closers that hold each other up let go, each when it looks.
    pub(super) fn is_over(&self, own: &[u64], drops: &[u64]) -> bool {
        let mut also = own.to_vec();
        also.extend(self.closers.values().flat_map(|closer| &closer.holds_up));
        let only_own = self.slots.keys().all(|ticket| own.contains(ticket));
        let held_up = |ticket| {
            drops.contains(ticket) || self.closers.values().any(|c| c.drops.contains(ticket))
        };
        let dropped = self.cancelled.keys().all(held_up);
        self.line.is_empty() && only_own && dropped || !own.is_empty() && self.is_stuck(&also)
    }

    /// The cancelled jobs whose work this thread is dropping.
    pub(super) fn dropped_here(&self) -> Vec<u64> {
        let here = |(ticket, thread): (&u64, &u64)| (*thread == thread_key()).then_some(*ticket);
        self.cancelled.iter().filter_map(here).collect()
    }

    /// The wakers of the closers that may go on; those come back if they may not.
    pub(super) fn wake_closers(&mut self) -> Vec<Waker> {
        let over = |(key, closer): (&u64, &Closer)| {
            let may_go_on = self.is_over(&closer.holds_up, &closer.drops);
            may_go_on.then_some(*key)
        };
        let over: Vec<u64> = self.closers.iter().filter_map(over).collect();
        let closers = over.iter().filter_map(|key| self.closers.remove(key));
        closers.map(|closer| closer.waker).collect()
    }
}
