//! The reading half of a cell: takes the outcome, once.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;

use super::cell::{Header, Hold};
use super::control::{self, Cancel};
use super::end;
use super::id::TaskId;
use super::schedule::Schedule;
use super::side::{Chain, Origin};
use super::state::{DONE, LATE, STARTED, Snapshot, TAKEN, Take};
use crate::base::sync::Arc;
use crate::join_error::{Family, JoinError};

/// The reading half, without its public clothes.
pub(crate) struct Reader<T> {
    cell: NonNull<Header>,
    outcome: PhantomData<T>,
}

// SAFETY: the reader moves a `T` out of the cell, maybe on another thread than the one that put
// it in, which is what `T: Send` allows.
unsafe impl<T: Send> Send for Reader<T> {}
// SAFETY: `&Reader<T>` gives no `&T`; all else goes through the word.
unsafe impl<T: Send> Sync for Reader<T> {}
impl<T> Unpin for Reader<T> {}
impl<T> UnwindSafe for Reader<T> {}
impl<T> RefUnwindSafe for Reader<T> {}

impl<T> Reader<T> {
    /// Takes over the holder of a new cell's reading half.
    ///
    /// # Safety
    ///
    /// 1. `cell` is a live cell whose output is a `Result<T, JoinError>`.
    /// 2. The caller owns the one holder that stands for `HANDLE`, which it gives up.
    pub(super) unsafe fn from_raw(cell: NonNull<Header>) -> Self {
        Self {
            cell,
            outcome: PhantomData,
        }
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: the reading half is a holder (invariant 1).
        unsafe { self.cell.as_ref() }
    }

    /// Takes the outcome if it is there. A second take gives the error that says so.
    pub(crate) fn take(&mut self) -> Option<Result<T, JoinError>> {
        self.is_finished().then(|| self.take_ended())
    }

    /// Takes the outcome of a task that has ended: one move, from the slot to the caller.
    #[inline]
    pub(crate) fn take_ended(&mut self) -> Result<T, JoinError> {
        let word = &self.header().word;
        let failed = if let Some(taken) = word.load().take_own() {
            word.put(taken);
            false
        } else {
            take_shared(self.header())?
        };
        // SAFETY: TAKEN is set, here where the word said that there is a value and no other
        // reference, or by the turn, so the slot is ours (invariant 4).
        unsafe { self.read_slot(failed) }
    }

    /// # Safety
    ///
    /// 1. The caller has set `TAKEN` on a cell with `OUTPUT`, so that the slot is its own.
    #[inline(always)]
    unsafe fn read_slot(&self, failed: bool) -> Result<T, JoinError> {
        let header = self.header();
        // A reporter may be reading a failure; it holds this lock while it does.
        let _guard = failed.then(|| header.watchers.lock());
        // SAFETY: the vtable was made for this cell.
        let slot = unsafe { (header.vtable.output)(self.cell) };
        // SAFETY: duty 1: the slot is filled and the caller's; it is read once, here.
        unsafe { slot.cast::<Result<T, JoinError>>().read() }
    }

    /// Has `waker` called at the end; true when that was before.
    #[inline]
    pub(crate) fn watch(&mut self, waker: &std::task::Waker) -> bool {
        // SAFETY: the reading half is borrowed as our own.
        unsafe { end::watch(self.header(), waker) }
    }

    pub(crate) fn hold(&self) -> Hold {
        Hold::of(self.header())
    }

    pub(crate) fn cancel(&self) -> Cancel {
        control::cancel(self.header())
    }

    #[inline]
    pub(crate) fn is_finished(&self) -> bool {
        self.header().word.load().has(DONE)
    }

    pub(crate) fn is_running(&self) -> bool {
        let now = self.header().word.load();
        now.has(STARTED) && !now.has(DONE)
    }

    /// Was it told to stop, or did it end cancelled?
    pub(crate) fn is_cancelled(&self) -> bool {
        control::is_cancelled(self.header())
    }

    pub(crate) fn is_consumed(&self) -> bool {
        self.header().word.load().has(TAKEN)
    }

    pub(crate) fn id(&self) -> TaskId {
        self.header().id
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.header().side().name()
    }

    pub(crate) fn spawned_at(&self) -> &'static Location<'static> {
        self.header().spawned_at
    }

    /// May its executor be another one later?
    #[inline]
    pub(crate) fn is_late(&self) -> bool {
        self.header().word.peek().has(LATE)
    }

    /// See [`Header::late_home`].
    pub(crate) fn late_home(&self) -> Option<Arc<dyn Schedule>> {
        self.header().late_home()
    }

    /// The chain that this task is a link of, or begins.
    pub(crate) fn chain(&self) -> Chain {
        let header = self.header();
        let known = header.chain();
        known.unwrap_or_else(|| Chain::of_root(header.origin(), self.hold()))
    }

    /// The root of that chain.
    pub(crate) fn origin(&self) -> Origin {
        let header = self.header();
        let known = header.chain();
        known.map_or_else(|| header.origin(), |chain| chain.origin)
    }

    /// The chain as a link after this one sees it.
    pub(crate) fn chain_below(&self) -> Chain {
        self.chain().longer()
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // SAFETY: this is the reading half, a holder, which ends here (invariant 1).
        unsafe { end::leave(self.cell) }
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header();
        f.debug_struct("Reader")
            .field("id", &header.id)
            .field("state", &header.word.peek())
            .finish()
    }
}

/// Takes the slot where others have the cell too, or where there is no value: is it a failure?
#[inline(never)]
fn take_shared(header: &Header) -> Result<bool, JoinError> {
    match header.word.turn_own(Snapshot::take) {
        Take::Pending => unreachable!("a task that has ended has an outcome"),
        Take::Taken => Err(JoinError::taken()),
        Take::Bare(family) => Err(bare(family)),
        Take::Slot => Ok(header.word.peek().family().is_some()),
    }
}

/// The error of a family that needs no slot.
pub(super) fn bare(family: Family) -> JoinError {
    match family {
        Family::Cancelled => JoinError::cancelled(),
        Family::Lost => JoinError::lost(),
        Family::ShutDown => JoinError::shut_down(),
        Family::TimedOut => JoinError::timed_out(),
        Family::WouldDeadlock => JoinError::would_deadlock(),
        Family::Panicked | Family::Failed => JoinError::taken(),
    }
}
