//! The word of a cell: every move that worker, joiner, canceller, waker and reader compete for.
//!
//! ```text
//!  63            45 44            25 24                                             0
//! ┌────────────────┬────────────────┬────────────────────────────────────────────────┐
//! │ holders        │ drivers        │ flags and the family of the outcome            │
//! └────────────────┴────────────────┴────────────────────────────────────────────────┘
//! ```
//!
//! *Drivers* may still bring the outcome about: a queue's entry, a waker, a promise, the
//! runner. *Holders* keep the memory: the reading half, cancel handles, registries, and all
//! drivers together count as one.
//!
//! Each transition is a pure function from a [`Snapshot`] to the caller's duty and the next
//! snapshot, which the [word](super::word) then becomes. The hottest always have a next one, be it
//! the same: where there may be none, it goes through memory on its way into the exchange.

#![forbid(unsafe_code)]

/// A move and the duty that comes of it are imported together.
pub(super) use super::duty::{
    Claim, Finish, Leave, Refuse, Release, Stop, Suspend, Take, Wake, Watch,
};
use crate::join_error::Family;

/// Claimed to run: by a worker, a joiner in its place, or `Promise::start`.
pub(super) const STARTED: u64 = 1 << 0;
/// Claimed by a canceller before the start: never ran and never will.
pub(super) const PREVENTED: u64 = 1 << 1;
/// One party owns the work: it runs, polls or drops it.
pub(super) const RUNNING: u64 = 1 << 2;
/// A future is to be polled (again): a queue has it, or its runner will put it there.
pub(super) const SCHEDULED: u64 = 1 << 3;
/// The outcome is published. Final.
pub(super) const DONE: u64 = 1 << 4;
/// The reader has told it to stop.
pub(super) const CANCEL: u64 = 1 << 5;
/// There are callbacks in the watchers' list.
pub(super) const WATCHED: u64 = 1 << 6;
/// The reading half exists.
pub(super) const HANDLE: u64 = 1 << 7;
/// The outcome was taken, or there is nobody left to take it.
pub(super) const TAKEN: u64 = 1 << 8;
/// The failure was reported as unhandled.
pub(super) const REPORTED: u64 = 1 << 9;
/// The executor was told of a first suspension.
pub(super) const SUSPENDED: u64 = 1 << 10;
/// The slot holds the value or the error.
pub(super) const OUTPUT: u64 = 1 << 11;
/// The closure or future is still in its place.
pub(super) const WORK: u64 = 1 << 12;
/// The last waker of a suspended future is gone.
pub(super) const ORPHAN: u64 = 1 << 13;
/// The work is a future; fixed at birth.
pub(super) const FUTURE: u64 = 1 << 14;
/// The executor is assigned after birth, if ever; fixed at birth.
pub(super) const LATE: u64 = 1 << 15;
/// It is a link of a chain: fixed at birth, save that the writer of a promise sets it with the
/// source that the promise cancels.
pub(super) const SOURCE: u64 = 1 << 19;
/// The family of the outcome: zero is a value.
const FAMILY: u64 = 0b111 << FAMILY_SHIFT;
const FAMILY_SHIFT: u32 = 16;
/// The reader waits on a thread that polls the future in place whenever it is scheduled.
pub(super) const HELPED: u64 = 1 << 20;
/// The reader's waker is in its place, and is nobody's until the next move.
pub(super) const WAITS: u64 = 1 << 21;
/// Somebody takes the waker out of its place, to call it before the end.
pub(super) const LENT: u64 = 1 << 22;
/// A queue has an entry for which no wake stands: a helper has polled in its place.
pub(super) const STALE: u64 = 1 << 23;
/// With `LATE`: the executor was assigned, or is about to be, under the watchers' lock.
pub(super) const ASSIGNED: u64 = 1 << 24;

const DRIVER: u64 = 1 << 25;
const DRIVERS: u64 = ((1 << 20) - 1) << 25;
const HOLDER: u64 = 1 << 45;
const HOLDERS: u64 = ((1 << 19) - 1) << 45;
/// A count that has come so far stays there, and the cell is never freed: a task whose waker has
/// a million live clones, or whose handle half a million that may cancel it, costs its block of
/// memory and what that refers to (context, executor), and not the process.
const DRIVERS_MAX: u64 = DRIVERS / DRIVER;
const HOLDERS_MAX: u64 = HOLDERS / HOLDER;

/// What the word said at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot(pub(super) u64);

impl Snapshot {
    /// A new cell with one driver and its reading half.
    pub(super) fn born(flags: u64) -> Self {
        Self(flags | HANDLE | DRIVER | (2 * HOLDER))
    }

    pub(super) fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    pub(super) fn drivers(self) -> u64 {
        (self.0 & DRIVERS) / DRIVER
    }

    pub(super) fn holders(self) -> u64 {
        (self.0 & HOLDERS) / HOLDER
    }

    pub(super) fn with(self, flags: u64) -> Self {
        Self(self.0 | flags)
    }

    pub(super) fn without(self, flags: u64) -> Self {
        Self(self.0 & !flags)
    }

    /// `None` is a value.
    #[inline]
    pub(super) fn family(self) -> Option<Family> {
        match (self.0 & FAMILY) >> FAMILY_SHIFT {
            0 => None,
            1 => Some(Family::Cancelled),
            2 => Some(Family::Lost),
            3 => Some(Family::ShutDown),
            4 => Some(Family::TimedOut),
            5 => Some(Family::WouldDeadlock),
            6 => Some(Family::Panicked),
            _ => Some(Family::Failed),
        }
    }

    fn with_family(self, family: Option<Family>) -> Self {
        let code = match family {
            None => 0,
            Some(Family::Cancelled) => 1,
            Some(Family::Lost) => 2,
            Some(Family::ShutDown) => 3,
            Some(Family::TimedOut) => 4,
            Some(Family::WouldDeadlock) => 5,
            Some(Family::Panicked) => 6,
            Some(Family::Failed) => 7,
        };
        Self(self.0 & !FAMILY | code << FAMILY_SHIFT)
    }

    /// Nobody has decided what becomes of it.
    pub(super) fn is_unclaimed(self) -> bool {
        !self.has(STARTED | PREVENTED | RUNNING | DONE)
    }

    /// Its executor is about to be assigned; false when somebody has claimed it already. Who claims
    /// it after this move finds it `ASSIGNED`.
    pub(super) fn assign(self) -> (bool, Option<Self>) {
        if !self.has(LATE) || !self.is_unclaimed() {
            return (false, None);
        }
        (true, Some(self.with(ASSIGNED)))
    }

    /// It has begun, and a wake would queue it.
    pub(super) fn is_idle_future(self) -> bool {
        self.has(FUTURE) && self.has(STARTED) && !self.has(RUNNING | SCHEDULED | DONE)
    }

    /// A runner with a driver of its own asks for the work.
    #[inline]
    pub(super) fn claim(self) -> (Claim, Option<Self>) {
        if self.has(DONE | PREVENTED) {
            if self.has(WORK) && !self.has(RUNNING) {
                return (Claim::DropWork, Some(self.without(WORK)));
            }
            return (Claim::Nothing, None);
        }
        if self.is_unclaimed() {
            let next = self.with(STARTED | RUNNING).without(SCHEDULED);
            return (Claim::Start, Some(next));
        }
        if !self.has(SCHEDULED) || self.has(RUNNING) {
            return (Claim::Nothing, self.entry_gone());
        }
        let next = self.with(RUNNING).without(SCHEDULED);
        if self.has(CANCEL) {
            (Claim::Abort(Family::Cancelled), Some(next))
        } else if self.has(ORPHAN) {
            (Claim::Abort(Family::Lost), Some(next))
        } else {
            (Claim::Poll, Some(next))
        }
    }

    /// A joiner asks for work that nobody has started; on success it drives. `leaves` is what it
    /// leaves behind: [`STALE`], if a queue has a future.
    pub(super) fn claim_unstarted(self, leaves: u64) -> (bool, Option<Self>) {
        if self.is_unclaimed() && self.drivers() > 0 {
            let next = self.with(STARTED | RUNNING | leaves).without(SCHEDULED);
            return (true, Some(next.driver_added()));
        }
        (false, None)
    }

    /// A helping reader asks for the future that it has seen suspended; on success it drives.
    pub(super) fn claim_again(self) -> (Claim, Option<Self>) {
        if !self.has(FUTURE) || !self.has(STARTED) {
            return (Claim::Nothing, None);
        }
        match self.claim() {
            (claim @ (Claim::Poll | Claim::Abort(_)), Some(next)) => {
                (claim, Some(next.driver_added().with(STALE)))
            }
            _ => (Claim::Nothing, None),
        }
    }

    fn entry_gone(self) -> Option<Self> {
        self.has(STALE).then(|| self.without(STALE))
    }

    /// `Promise::start`: false when it was cancelled before.
    pub(super) fn start(self) -> (bool, Option<Self>) {
        if self.has(PREVENTED | DONE) {
            return (false, None);
        }
        (true, Some(self.with(STARTED)))
    }

    /// The poll said pending.
    #[inline]
    pub(super) fn suspend(self) -> (Suspend, Option<Self>) {
        if self.has(CANCEL) {
            return (Suspend::Abort(Family::Cancelled), Some(self));
        }
        let next = self.without(RUNNING);
        if self.has(SCHEDULED) {
            return match self.has(STALE) {
                true => (Suspend::Queued, Some(next.without(STALE))),
                false => (Suspend::Again, Some(next)),
            };
        }
        match self.drivers() {
            0 | 1 => (Suspend::Idle, Some(next)),
            // The runner's, and that of an entry which does nothing.
            2 if self.has(STALE) => (Suspend::Abort(Family::Lost), Some(self)),
            // A count that stays as it is leaves the other change to be made.
            DRIVERS_MAX => (Suspend::Gone, Some(next)),
            _ => (Suspend::Gone, Some(Self(next.0 - DRIVER))),
        }
    }

    /// A waker fires; `owned` when it brings its driver along, `hosted` when its executor stays
    /// alive for as long as it needs that.
    #[inline]
    pub(super) fn wake(self, owned: bool, hosted: bool) -> (Wake, Option<Self>) {
        if self.has(DONE) {
            return (Wake::Nothing, Some(self));
        }
        if !self.is_idle_future() {
            return (Wake::Nothing, Some(self.with(SCHEDULED)));
        }
        let next = self.with(SCHEDULED);
        if self.has(STALE) {
            return (Wake::Revive, Some(next.without(STALE)));
        }
        let next = if owned { next } else { next.driver_added() };
        // A helper that is not seen here sets HELPED after this move, and sees SCHEDULED.
        if hosted && !self.has(HELPED) {
            (Wake::PushOnly, Some(next))
        } else {
            (Wake::Push, Some(next.holder_added()))
        }
    }

    /// The reader tells it to stop; `here` when this thread may drop the work.
    pub(super) fn stop(self, here: bool) -> (Stop, Option<Self>) {
        if self.has(PREVENTED) {
            return (Stop::Prevented, None);
        }
        if self.has(DONE) {
            return (Stop::TooLate, None);
        }
        if self.is_unclaimed() {
            let next = self.with(PREVENTED | CANCEL);
            if self.has(WORK) && !here {
                return (Stop::PreventFar, Some(next));
            }
            return (Stop::Prevent, Some(next.with(RUNNING)));
        }
        if self.has(CANCEL) {
            return (Stop::Requested, None);
        }
        if self.is_idle_future() {
            let next = self.with(CANCEL | SCHEDULED);
            return match self.has(STALE) {
                true => (Stop::Revive, Some(next.without(STALE))),
                false => (Stop::Push, Some(next.driver_added())),
            };
        }
        (Stop::Notify, Some(self.with(CANCEL)))
    }

    /// The executor refuses it, also what it was to drop for a canceller; `here` when this thread
    /// may drop the work.
    pub(super) fn refuse(self, here: bool) -> (Refuse, Option<Self>) {
        if self.has(RUNNING) {
            return (Refuse::Nothing, self.entry_gone());
        }
        if self.has(DONE | PREVENTED) {
            if self.has(WORK) && here {
                return (Refuse::DropWork, Some(self.without(WORK)));
            }
            return (Refuse::Nothing, None);
        }
        let family = if self.has(CANCEL) {
            Family::Cancelled
        } else if self.has(ORPHAN) {
            Family::Lost
        } else {
            Family::ShutDown
        };
        let duty = if here || !self.has(WORK) {
            Refuse::Abort(family)
        } else {
            Refuse::AbortFar(family)
        };
        (duty, Some(self.with(RUNNING).without(SCHEDULED | STALE)))
    }

    /// The owner of the work publishes the end. `keep_work` leaves it for its own thread.
    #[inline]
    pub(super) fn publish(self, family: Option<Family>, output: bool, keep_work: bool) -> Self {
        let mut next = self.with(DONE).without(RUNNING | SCHEDULED);
        if output {
            next = next.with(OUTPUT);
        }
        if !keep_work {
            next = next.without(WORK);
        }
        if !self.has(HANDLE) {
            next = next.with(TAKEN);
        }
        next.with_family(family)
    }

    /// A runner publishes the end and, if nobody has to be told and nothing to be dropped,
    /// gives up its driver in the same move. An output that `matters` is dropped where nobody reads
    /// it.
    #[inline]
    pub(super) fn finish(
        self,
        family: Option<Family>,
        output: bool,
        matters: bool,
    ) -> ((Self, Finish), Option<Self>) {
        let next = self.publish(family, output, false);
        if self.has(WATCHED | WAITS) || matters && !self.has(HANDLE) {
            return ((self, Finish::Stay), Some(next));
        }
        match next.without_driver() {
            Some(gone) => ((self, Finish::Gone(Release::Nothing)), Some(gone)),
            None => ((self, Finish::Gone(Release::Free)), Some(next)),
        }
    }

    /// What is left after the end when a driver goes; `None` if it was the last reference.
    #[inline]
    fn without_driver(self) -> Option<Self> {
        match (self.drivers(), self.holders()) {
            // The end is published also where the count stays as it is.
            (DRIVERS_MAX, _) => Some(self),
            (2.., _) => Some(Self(self.0 - DRIVER)),
            (_, 1) => None,
            (_, HOLDERS_MAX) => Some(Self(self.0 - DRIVER)),
            _ => Some(Self(self.0 - DRIVER - HOLDER)),
        }
    }

    /// A promise publishes what it has put into the slot; `None` when it was cancelled before.
    /// Else it ends like a run.
    #[inline]
    pub(super) fn resolve(
        self,
        family: Option<Family>,
        output: bool,
    ) -> (Option<(Self, Finish)>, Option<Self>) {
        if self.has(PREVENTED | DONE) {
            return (None, None);
        }
        let (duty, next) = self.finish(family, output, output);
        (Some(duty), next)
    }

    /// The reader has put its waker into its place.
    #[inline]
    pub(super) fn watch(self) -> (Watch, Option<Self>) {
        if self.has(DONE) {
            return (Watch::Done, None);
        }
        (Watch::Pending, Some(self.with(WAITS)))
    }

    /// The reader wants the place of its waker to be its own.
    #[inline]
    pub(super) fn unwatch(self) -> (Watch, Option<Self>) {
        if self.has(DONE) {
            return (Watch::Done, None);
        }
        if self.has(LENT) {
            return (Watch::Lent, None);
        }
        (Watch::Pending, self.has(WAITS).then(|| self.without(WAITS)))
    }

    /// Somebody wants to call the reader's waker before the end; true if the place is theirs until
    /// they clear `LENT`.
    pub(super) fn lend(self) -> (bool, Option<Self>) {
        if self.has(DONE) || !self.has(WAITS) {
            return (false, None);
        }
        (true, Some(self.without(WAITS).with(LENT)))
    }

    /// The reader takes the outcome.
    #[inline]
    pub(super) fn take(self) -> (Take, Option<Self>) {
        if !self.has(DONE) {
            return (Take::Pending, None);
        }
        if self.has(TAKEN) {
            return (Take::Taken, None);
        }
        let duty = match self.family() {
            Some(family) if !self.has(OUTPUT) => Take::Bare(family),
            _ => Take::Slot,
        };
        (duty, Some(self.with(TAKEN)))
    }

    /// The reading half goes, with its reference unless the slot is left to it; whoever sees
    /// both `DONE` and no `HANDLE` first takes the slot.
    #[inline]
    pub(super) fn leave(self) -> (Leave, Option<Self>) {
        let (duty, taken) = self.take();
        let next = taken.unwrap_or(self).without(HANDLE);
        if duty == Take::Slot {
            return (Leave::Slot, Some(next));
        }
        let (release, gone) = next.holder_gone();
        (Leave::Gone(release), gone)
    }

    /// Somebody wants the failure reported; true for the first, while nobody took it.
    pub(super) fn report(self) -> (bool, Option<Self>) {
        if self.has(DONE) && self.has(OUTPUT) && !self.has(TAKEN | REPORTED) {
            return (true, Some(self.with(REPORTED)));
        }
        (false, None)
    }

    /// A driver is added for a party that holds the cell.
    #[inline]
    pub(super) fn driver_added(self) -> Self {
        match self.drivers() {
            0 => Self(self.0 + DRIVER).holder_added(),
            DRIVERS_MAX => self,
            _ => Self(self.0 + DRIVER),
        }
    }

    pub(super) fn holder_added(self) -> Self {
        if self.holders() == HOLDERS_MAX {
            return self;
        }
        Self(self.0 + HOLDER)
    }

    /// A driver gives up.
    #[inline]
    pub(super) fn driver_gone(self) -> (Release, Option<Self>) {
        match self.drivers() {
            DRIVERS_MAX => return (Release::Nothing, None),
            2 if self.has(STALE) && self.is_idle_future() => {
                let next = self.with(SCHEDULED | ORPHAN).without(STALE);
                return (Release::Orphan, Some(next));
            }
            2.. => return (Release::Nothing, Some(Self(self.0 - DRIVER))),
            _ => {}
        }
        if !self.has(DONE | PREVENTED | RUNNING) {
            if self.is_idle_future() {
                return (Release::Orphan, Some(self.with(SCHEDULED | ORPHAN)));
            }
            return (Release::Lose, Some(self.with(RUNNING).without(SCHEDULED)));
        }
        self.given_up(DRIVER)
    }

    #[inline]
    pub(super) fn holder_gone(self) -> (Release, Option<Self>) {
        self.given_up(0)
    }

    /// A holder goes, with the `driver` that it stood for. The last one goes without a move:
    /// nobody is left who could see it, and the look at the word was an Acquire.
    #[inline]
    fn given_up(self, driver: u64) -> (Release, Option<Self>) {
        match self.holders() {
            1 => (Release::Free, None),
            HOLDERS_MAX => (Release::Nothing, Some(Self(self.0 - driver))),
            _ => (Release::Nothing, Some(Self(self.0 - driver - HOLDER))),
        }
    }

    /// The usual life of a promise, step by step in whole words: nobody but its two ends knows it,
    /// and it gets a value. What [`Snapshot::resolve`] makes of it then, if this is such a one.
    #[inline]
    pub(super) fn deliver(self) -> Option<Self> {
        if self == Self::born(0) {
            return Some(Self::DELIVERED);
        }
        // Where a waker has to be called, the driver stays.
        (self == Self::born(WAITS)).then_some(Self(self.0 | DONE | OUTPUT))
    }

    /// And [`Snapshot::driver_gone`], once the waker was called.
    #[inline]
    pub(super) fn deliverer_gone(self) -> Option<Self> {
        let waiting = Self::born(WAITS | DONE | OUTPUT);
        (self == waiting).then_some(Self::DELIVERED.with(WAITS))
    }

    /// A value that only the reader knows of.
    const DELIVERED: Self = Self(HANDLE | DONE | OUTPUT | HOLDER);

    /// What [`Snapshot::take`] makes of a value that only the reader knows of, if it is one.
    #[inline]
    pub(super) fn take_own(self) -> Option<Self> {
        const ALL: u64 = DRIVERS | HOLDERS | DONE | OUTPUT | TAKEN | FAMILY;
        (self.0 & ALL == HOLDER | DONE | OUTPUT).then(|| self.with(TAKEN))
    }

    /// Does [`Snapshot::leave`] free the cell, whose outcome was taken before?
    #[inline]
    pub(super) fn is_read_out(self) -> bool {
        self.0 & (DRIVERS | HOLDERS | DONE | TAKEN) == HOLDER | DONE | TAKEN
    }

    /// Is there one reference, that of the party who asks?
    #[inline]
    pub(super) fn is_alone(self) -> bool {
        // All drivers together are one holder.
        self.holders() == 1 && self.drivers() <= 1
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "state_tests.rs"]
mod tests;
