//! What the [word](super::state) says to whoever has made a move: what is theirs to do next.

#![forbid(unsafe_code)]

use crate::join_error::Family;

/// Duty of a runner that asked for the work.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Run the closure, or poll the future for the first time.
    Start,
    /// Poll the future again.
    Poll,
    /// Drop the future and publish this family.
    Abort(Family),
    /// The outcome is decided; drop the work, it is yours.
    DropWork,
    /// Somebody else has it, or nothing is left to do.
    Nothing,
}

/// Duty of a runner whose future is pending.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspend {
    /// Let go of it.
    Idle,
    /// Others can wake it; the runner's driver is given up.
    Gone,
    /// It was woken meanwhile: queue it again.
    Again,
    /// It was woken meanwhile, and a queue has it: let go of it.
    Queued,
    /// It was cancelled meanwhile, or nobody can wake it: drop it and publish this family.
    Abort(Family),
}

/// Duty of a waker.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Put it into its executor's queue. A holder was added for the way there.
    Push,
    /// The same without a holder: somebody else keeps the executor, and no reader helps.
    PushOnly,
    /// A queue has it already, for no wake so far: tell those who could take it.
    Revive,
    Nothing,
}

/// Duty of a canceller.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is yours: drop the work, publish cancelled.
    Prevent,
    /// Publish cancelled; the work stays for its own thread to drop.
    PreventFar,
    /// Put it into its executor's queue, to be dropped there. A driver was added for it.
    Push,
    /// As [`Wake::Revive`], to be dropped there.
    Revive,
    /// Tell the running side.
    Notify,
    /// It knows already.
    Requested,
    /// It never ran and never will.
    Prevented,
    /// The outcome stands.
    TooLate,
}

/// Duty of an executor that refuses a task.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refuse {
    /// It is yours: drop the work, publish this family.
    Abort(Family),
    /// Publish this family; the work stays for its own thread to drop.
    AbortFar(Family),
    /// The outcome is decided; drop the work, it is yours.
    DropWork,
    /// It runs, or nothing is left to do.
    Nothing,
}

/// Duty of a party that gives up a reference.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    Nothing,
    /// It was the last: free the cell.
    Free,
    /// Nobody can bring the outcome about: drop the work, publish lost. The reference stays.
    Lose,
    /// Nobody can wake the future: queue it, to be dropped there. The reference goes along.
    Orphan,
}

/// Duty of a party that publishes the end and gives up its driver.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// Published, and the driver is given up: what is left to do with the reference.
    Gone(Release),
    /// Published; tell, or drop the outcome, and then give up the driver.
    Stay,
}

/// Duty of the reading half that goes.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// The slot is yours: drop the outcome, then give up the reference.
    Slot,
    /// The reference is given up.
    Gone(Release),
}

/// What a reader finds that puts its waker there, or takes it back.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    Pending,
    /// Somebody has the place for a moment.
    Lent,
    /// The end was first. A waker whose place the word knew is the publisher's to call.
    Done,
}

/// What a reader finds.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    Pending,
    /// The slot is the reader's.
    Slot,
    /// There is no slot; the family says all.
    Bare(Family),
    Taken,
}
