//! The queue's protocol: places, the line, slots, and who waits for them.
//!
//! A *place* counts against the capacity, a *slot* against the concurrency.
//!
//! | a job is    | place | in line | slot | until                                                   |
//! |-------------|-------|---------|------|---------------------------------------------------------|
//! | outside     | no    | no      | no   | there is room and nobody waits before it                 |
//! | in line     | yes   | yes     | no   | it is first and a slot is free; or its work is dropped   |
//! | handed over | yes   | no      | yes  | its work is gone: run, panicked, cancelled, lost, refused |
//! | ending      | no    | no      | yes  | its outcome is visible                                   |
//! | cancelled   | no    | no      | no   | the same; it left the line, and somebody drops its work  |
//!
//! # Invariants
//!
//! 1. A place is given up by the work itself: what the executor runs or drops, and what a
//!    cancel drops, holds a [`Place`]. So no way to end keeps one, and it is free before the
//!    handle resolves.
//! 2. A slot is given up by the handle's first callback, after the outcome is visible. So a
//!    job that starts finds all jobs before its slot finished.
//! 3. One thread at a time hands jobs over, from the front of the line, until the job has
//!    started or the executor has answered: jobs start in order. Who finds another at it
//!    leaves the rest to it; it looks again.
//! 4. A free place goes to the first of those who wait for room before anybody new, and its
//!    job into the line at once, whenever its adder comes to look.
//! 5. Whoever is about to wait says which jobs cannot end before it goes on. When that is all
//!    jobs that have slots, nothing would ever move again, and it is refused.
//!
//! All of this is decided under one short lock. Executors, wakers, and drops of jobs come after.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::task::Waker;

use super::Close;
use super::entry::{Entry, wake};
use super::state::{Adder, Closer, State};
use crate::base::contain::contained_drop;
use crate::base::count::Ticket;
use crate::base::fork;
use crate::base::sync::{Arc, Mutex};
use crate::entered::thread_key;
use crate::error::SubmitError;
use crate::executor::{Executor, Job, KeptOpen};
use crate::promise::{JoinHandle, waited_for_work};
use crate::task::{self, Hold, Home, Schedule, TaskRef, Waits, WakeKind};

/// What the queue and its jobs share.
pub(super) struct Shared {
    capacity: usize,
    concurrency: usize,
    executor: Option<Arc<dyn Executor>>,
    /// One number for each job that was ever made.
    tickets: Ticket,
    /// Of the process that made it; see [`fork`].
    generation: u64,
    state: Mutex<State>,
}

/// What came of an attempt to get in.
#[must_use]
pub(super) enum Entrance {
    In(u64),
    Full(Entry),
    Closed(Entry),
    /// Wait under this number.
    Wait(u64),
    /// The place can only come from a job that this wait would hold up.
    Deadlock(Entry),
}

/// Held by the work of a job; see invariant 1.
pub(super) struct Place {
    shared: Arc<Shared>,
    ticket: u64,
}

impl Place {
    pub(super) fn ticket(&self) -> u64 {
        self.ticket
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let entry = {
            let mut state = self.shared.state.lock();
            let turn = state.held.remove(&self.ticket);
            let entry = turn.and_then(|turn| state.line.remove(&turn));
            if entry.is_some() {
                state.cancelled.insert(self.ticket, thread_key());
            }
            entry
        };
        // Its work goes right now: nothing of the user's is left in it.
        contained_drop(entry);
        self.shared.keep_open(self.ticket);
    }
}

impl Shared {
    pub(super) fn new(
        capacity: usize,
        concurrency: usize,
        executor: Option<Arc<dyn Executor>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            concurrency,
            executor,
            tickets: Ticket::new(),
            generation: fork::generation(),
            state: Mutex::default(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().held.len()
    }

    /// How many wait for room.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().adders.len()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_left_behind() || self.state.lock().closed
    }

    /// Is this the copy of a queue in a forked child? Its jobs run in the parent.
    fn is_left_behind(&self) -> bool {
        fork::generation() != self.generation
    }

    /// For the work of a new job.
    pub(super) fn place(self: &Arc<Self>) -> Place {
        Place {
            shared: self.clone(),
            ticket: self.tickets.take(1),
        }
    }

    /// A new job, outside the line. Its work holds the place of that ticket.
    pub(super) fn entry<T>(
        self: &Arc<Self>,
        ticket: u64,
        executor: Option<Arc<dyn Executor>>,
        job: Job,
        handle: &JoinHandle<T>,
    ) -> Entry {
        let ended = self.clone();
        handle.on_complete(move |_| ended.slot_gone(ticket));
        // Nobody can have cancelled it: its handle is still here.
        let _ = job.assign(self.clone());
        let task = job.into_task();
        let hold = task.hold();
        Entry {
            ticket,
            job: Job::from_task(task),
            hold,
            executor,
        }
    }

    pub(super) fn executor(&self) -> Option<Arc<dyn Executor>> {
        self.executor.clone()
    }

    /// Goes in if there is room and nobody waits before.
    pub(super) fn enter(&self, entry: Entry) -> Entrance {
        let mut state = self.state.lock();
        if state.closed || self.is_left_behind() {
            return Entrance::Closed(entry);
        }
        if !self.has_room(&state) || !state.adders.is_empty() {
            return Entrance::Full(entry);
        }
        let ticket = entry.ticket;
        state.admit(entry);
        Entrance::In(ticket)
    }

    /// Goes in, or waits for room in line with others; `waker` hears of a place and of a close.
    pub(super) fn enter_or_wait(&self, entry: Entry, waker: Waker, waits: Waits) -> Entrance {
        let own = self.held_up_by_caller(waits);
        let mut waker = Some(waker);
        let (entrance, wakers) = {
            let mut state = self.state.lock();
            if state.closed || self.is_left_behind() {
                return Entrance::Closed(entry);
            }
            if self.has_room(&state) && state.adders.is_empty() {
                let ticket = entry.ticket;
                state.admit(entry);
                (Entrance::In(ticket), Vec::new())
            } else if state.is_full_for_good(&own) {
                (Entrance::Deadlock(entry), Vec::new())
            } else {
                let arrival = state.number();
                let adder = Adder {
                    entry,
                    waker: waker.take(),
                    holds_up: own,
                };
                state.adders.insert(arrival, adder);
                (Entrance::Wait(arrival), state.wake_closers())
            }
        };
        contained_drop(waker);
        wake(wakers);
        entrance
    }

    /// Looks after a wait for room: `None` if it goes on, with `waker`.
    pub(super) fn look(&self, arrival: u64, waker: &Waker) -> Option<Result<(), Entry>> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        let closed = state.closed;
        let Some(adder) = state.adders.get_mut(&arrival) else {
            drop(state);
            contained_drop(waker);
            return Some(Ok(()));
        };
        if !closed {
            let old = adder.waker.replace(waker);
            drop(state);
            contained_drop(old);
            return None;
        }
        let adder = state.adders.remove(&arrival).expect("found just now");
        drop(state);
        contained_drop((waker, adder.waker));
        Some(Err(adder.entry))
    }

    /// An adder goes away; false if it had a place already.
    pub(super) fn leave(&self, arrival: u64) -> bool {
        let adder = self.state.lock().adders.remove(&arrival);
        let waited = adder.is_some();
        contained_drop(adder);
        waited
    }

    /// Hands over what may start. The refusal of the caller's own job is the answer.
    pub(super) fn hand_over(&self, own: Option<u64>) -> Result<(), SubmitError> {
        let mut answer = Ok(());
        let mut left = own;
        let over = loop {
            let entry = match self.next_to_start() {
                Ok(entry) => entry,
                Err(over) => break over,
            };
            let ticket = entry.ticket;
            let is_own = own == Some(ticket);
            let refused = entry.offer(is_own).err();
            if is_own {
                left = None;
            }
            if is_own && refused.is_some() {
                self.retract(ticket);
            } else {
                self.handed(ticket);
            }
            match refused {
                Some(error) if is_own => answer = Err(error),
                Some(error) => {
                    if let Some(job) = error.into_job() {
                        job.into_task().shut_down();
                    }
                }
                None => {}
            }
        };
        drop(over);
        if let Some(ticket) = left {
            self.keep_open_for(ticket);
        }
        answer
    }

    /// The next job to hand over; else what need not be kept open any more.
    fn next_to_start(&self) -> Result<Entry, Vec<KeptOpen>> {
        let mut state = self.state.lock();
        if let Some(entry) = self.take_first(&mut state) {
            return Ok(entry);
        }
        let is_over = state.line.is_empty() || self.is_settled(&state);
        Err(if is_over {
            std::mem::take(&mut state.open)
        } else {
            Vec::new()
        })
    }

    fn take_first(&self, state: &mut State) -> Option<Entry> {
        if state.slots.len() >= self.concurrency {
            return None;
        }
        if let Some(ticket) = state.handing {
            // Its executor may be running it at this moment, on the thread that hands over.
            if state
                .slots
                .get(&ticket)
                .is_some_and(|hold| !hold.is_claimed())
            {
                return None;
            }
        }
        let (_, entry) = state.line.pop_first()?;
        state.slots.insert(entry.ticket, entry.hold.clone());
        state.handing = Some(entry.ticket);
        Some(entry)
    }

    fn handed(&self, ticket: u64) {
        let mut state = self.state.lock();
        if state.handing == Some(ticket) {
            state.handing = None;
        }
    }

    /// Takes back a job that its executor has refused and its adder gets.
    fn retract(&self, ticket: u64) {
        self.handed(ticket);
        self.state.lock().held.remove(&ticket);
        self.slot_gone_quietly(ticket);
    }

    /// A job has ended, or will be outside: its slot is free.
    fn slot_gone_quietly(&self, ticket: u64) {
        let (hold, wakers) = {
            let mut state = self.state.lock();
            let hold = state.slots.remove(&ticket);
            state.cancelled.remove(&ticket);
            let mut wakers = self.grant(&mut state);
            wakers.extend(state.wake_closers());
            (hold, wakers)
        };
        drop(hold);
        wake(wakers);
    }

    fn slot_gone(&self, ticket: u64) {
        self.slot_gone_quietly(ticket);
        drop(self.hand_over(None));
        let kept = {
            let mut state = self.state.lock();
            let at = state.kept.iter().position(|(of, _)| *of == ticket);
            at.map(|at| state.kept.swap_remove(at))
        };
        drop(kept);
    }

    /// A job with a slot is about to end: the executor of the next one, which may be draining,
    /// has to wait for the hand-over. That comes after the end has been counted. Whoever adds the
    /// next one only then sees to it itself: [`Shared::keep_open_for`].
    fn keep_open(&self, ticket: u64) {
        let next = {
            let state = self.state.lock();
            if !state.slots.contains_key(&ticket) {
                return;
            }
            let line = state.line.values().next();
            let next = line.or_else(|| state.adders.values().next().map(|adder| &adder.entry));
            next.and_then(|next| next.executor.clone())
        };
        // else it goes to the global pool, which is never shut down
        let Some(executor) = next else {
            return;
        };
        let kept = executor.keep_open();
        contained_drop(executor);
        let late = {
            let mut state = self.state.lock();
            if state.slots.contains_key(&ticket) {
                state.kept.push((ticket, kept));
                None
            } else {
                // The slot went meanwhile, and nobody would come for this.
                Some(kept)
            }
        };
        drop(late);
    }

    /// A job was added that another one hands over: one that is at it, or the end of a job that has
    /// not looked at the line. Its executor, which may drain from now on, has to wait for that.
    fn keep_open_for(&self, ticket: u64) {
        let executor = {
            let state = self.state.lock();
            let turn = state.held.get(&ticket);
            match turn.and_then(|turn| state.line.get(turn)) {
                Some(entry) if !self.is_settled(&state) => entry.executor.clone(),
                _ => None,
            }
        };
        let Some(executor) = executor else {
            return;
        };
        let mut late = Some(executor.keep_open());
        contained_drop(executor);
        {
            let mut state = self.state.lock();
            let turn = state.held.get(&ticket);
            let is_in_line = turn.is_some_and(|turn| state.line.contains_key(turn));
            if is_in_line && !self.is_settled(&state) {
                state.open.extend(late.take());
            }
        }
        drop(late);
    }

    /// Will the end of a job hand over the next one of the line, and look at it before?
    fn is_settled(&self, state: &State) -> bool {
        state.handing.is_none()
            && state.slots.len() >= self.concurrency
            && state.slots.keys().all(|slot| state.held.contains_key(slot))
    }

    fn has_room(&self, state: &State) -> bool {
        state.held.len() < self.capacity
    }

    /// Gives free places to those who wait, in order.
    fn grant(&self, state: &mut State) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while !state.closed && self.has_room(state) {
            let Some((_, adder)) = state.adders.pop_first() else {
                break;
            };
            state.admit(adder.entry);
            wakers.extend(adder.waker);
        }
        wakers
    }

    /// The jobs with slots that cannot end before the caller goes on.
    ///
    /// What may start is handed over first: the caller may be inside the very call that hands
    /// over, and nobody else would do it before it goes on.
    fn held_up_by_caller(&self, waits: Waits) -> Vec<u64> {
        let look = || match waits {
            Waits::Task => self.running_task(),
            Waits::Thread => self.bound_to_this_thread(),
        };
        let own = look();
        if own.is_empty() {
            return own;
        }
        drop(self.hand_over(None));
        look()
    }

    /// The innermost task of this thread, if it is one of ours.
    fn running_task(&self) -> Vec<u64> {
        let Some(running) = task::innermost() else {
            return Vec::new();
        };
        let state = self.state.lock();
        let mine = state.slots.iter().filter(|(_, hold)| hold.id() == running);
        mine.map(|(ticket, _)| *ticket).collect()
    }

    /// What runs on this very stack, or on a loop of this thread.
    fn bound_to_this_thread(&self) -> Vec<u64> {
        let bound = |hold: &Hold| {
            let origin = hold.origin();
            task::is_running_here(origin.id) || origin.home == Home::Thread(thread_key())
        };
        let mine = self.slots().into_iter().filter(|(_, hold)| bound(hold));
        mine.map(|(ticket, _)| ticket).collect()
    }

    /// To be looked at without the lock: executors are asked, and not for a number only.
    fn slots(&self) -> Vec<(u64, Hold)> {
        let state = self.state.lock();
        let slots = state.slots.iter();
        slots
            .map(|(ticket, hold)| (*ticket, hold.clone()))
            .collect()
    }

    /// Who waits here may be the only worker left that could run what has a slot.
    pub(super) fn note_awaited(&self) {
        waited_for_work(|| self.slots().into_iter().map(|(_, hold)| hold).collect());
    }

    /// Takes nothing more; `CancelPending` also cancels the line.
    pub(super) fn seal(&self, mode: Close) {
        let (line, wakers) = {
            let mut state = self.state.lock();
            state.closed = true;
            let line = match mode {
                Close::CancelPending => {
                    let line = std::mem::take(&mut state.line);
                    let tickets = line.values().map(|entry| (entry.ticket, thread_key()));
                    state.cancelled.extend(tickets);
                    line
                }
                Close::Drain => BTreeMap::new(),
            };
            let adders = state.adders.values_mut();
            (
                line,
                adders.filter_map(|adder| adder.waker.take()).collect(),
            )
        };
        wake(wakers);
        for entry in line.into_values() {
            let _ = entry.hold.cancel();
        }
    }

    /// Is all over, as far as it can be before the caller goes on? Else leaves `waker`.
    pub(super) fn look_for_end(&self, key: &mut Option<u64>, waker: &Waker, waits: Waits) -> bool {
        let own = self.held_up_by_caller(waits);
        let waker = waker.clone();
        let mut state = self.state.lock();
        let old = key.take().and_then(|key| state.closers.remove(&key));
        let drops = state.dropped_here();
        let over = state.is_over(&own, &drops) || self.is_left_behind();
        let mut unused = None;
        if over {
            unused = Some(waker);
        } else {
            let number = state.number();
            let closer = Closer {
                waker,
                holds_up: own,
                drops,
            };
            state.closers.insert(number, closer);
            *key = Some(number);
        }
        drop(state);
        contained_drop((old.map(|closer| closer.waker), unused));
        over
    }

    pub(super) fn forget_closer(&self, key: u64) {
        let closer = self.state.lock().closers.remove(&key);
        contained_drop(closer.map(|closer| closer.waker));
    }
}

/// What a waiter for a job of the line asks; see invariant 5.
impl Schedule for Shared {
    /// Nothing in line has started, so nothing can be woken.
    fn schedule(&self, task: TaskRef, _kind: WakeKind) {
        task.shut_down();
    }

    fn home(&self) -> Home {
        Home::Anywhere
    }

    fn wait_begins(&self, waits: Waits) -> bool {
        let own = self.held_up_by_caller(waits);
        let wakers = {
            let mut state = self.state.lock();
            if state.is_stuck(&own) {
                return false;
            }
            if waits == Waits::Thread {
                state.waits.push((thread_key(), own));
            }
            state.wake_closers()
        };
        wake(wakers);
        true
    }

    fn before(&self, may_run: &dyn Fn(&Hold) -> bool) -> Option<Hold> {
        let mut slots = self.slots().into_iter().map(|(_, hold)| hold);
        slots.find(|hold| !hold.is_claimed() && may_run(hold))
    }

    fn wait_ends(&self) {
        let mut state = self.state.lock();
        let key = thread_key();
        if let Some(at) = state.waits.iter().rposition(|(thread, _)| *thread == key) {
            state.waits.swap_remove(at);
        }
    }
}
