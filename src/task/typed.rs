//! The cell with its types known again: what a vtable's functions do to the stage.
//!
//! `Stage` is a `repr(C)` union, so the work and the output both stand at its address.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::cell::{Cell, Header, TaskRef, VTable};
use super::runner::Runner;
use super::side::Side;
use crate::join_error::JoinError;

/// Access to a `Cell<W, T, S>` through its header.
pub(super) struct Typed<W, T, S>(PhantomData<(W, T, S)>);

impl<W, T, S: Side + 'static> Typed<W, T, S> {
    /// The functions that do not depend on how the work is run.
    pub(super) const fn table(
        run: unsafe fn(TaskRef, bool, Option<&dyn Runner>) -> Option<TaskRef>,
        is_far: (bool, bool),
        is_job: bool,
    ) -> VTable {
        VTable {
            run,
            drop_work: Self::drop_work,
            output: Self::output,
            drop_output: Self::drop_output,
            error: Self::error,
            side: Self::side,
            free: Self::free,
            is_far,
            is_job,
            is_plain: size_of::<S>() == 0,
        }
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    pub(super) unsafe fn cell<'a>(cell: NonNull<Header>) -> &'a Cell<W, T, S> {
        // SAFETY: duty 1, and `Cell` is `repr(C)` with its header first.
        unsafe { cell.cast::<Cell<W, T, S>>().as_ref() }
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    /// 2. The caller owns the work, and it is in its place.
    pub(super) unsafe fn drop_work(cell: NonNull<Header>) {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        cell.stage.with_mut(|stage| {
            // SAFETY: duty 2; the caller gives the work up.
            unsafe { stage.cast::<W>().drop_in_place() }
        });
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    /// 2. The caller owns the work, it is in its place, and is not touched there again.
    pub(super) unsafe fn take_work(cell: NonNull<Header>) -> W {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        // SAFETY: duty 2.
        cell.stage
            .with_mut(|stage| unsafe { stage.cast::<W>().read() })
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    /// 2. The caller owns the slot, which is empty: neither work nor output is in the stage.
    #[inline(always)]
    pub(super) unsafe fn fill(cell: NonNull<Header>, outcome: Result<T, JoinError>) {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        cell.stage.with_mut(|stage| {
            // SAFETY: duty 2: nothing that would have to be dropped is overwritten.
            unsafe { stage.cast::<Result<T, JoinError>>().write(outcome) }
        });
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    /// 2. The caller owns the slot, it is filled, and is not read again.
    pub(super) unsafe fn empty(cell: NonNull<Header>) -> Result<T, JoinError> {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        // SAFETY: duty 2.
        cell.stage
            .with_mut(|stage| unsafe { stage.cast::<Result<T, JoinError>>().read() })
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    unsafe fn output(cell: NonNull<Header>) -> NonNull<()> {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        cell.stage.with_mut(|stage| {
            NonNull::new(stage.cast::<()>()).expect("a field of a live cell has an address")
        })
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    /// 2. The caller owns the slot, and it is filled.
    unsafe fn drop_output(cell: NonNull<Header>) {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        cell.stage.with_mut(|stage| {
            // SAFETY: duty 2; the caller gives the output up.
            unsafe { stage.cast::<Result<T, JoinError>>().drop_in_place() }
        });
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    /// 2. The slot is filled, and nobody moves it out meanwhile.
    unsafe fn error(cell: NonNull<Header>) -> Option<JoinError> {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        cell.stage.with(|stage| {
            // SAFETY: duty 2.
            let output = unsafe { &*stage.cast::<Result<T, JoinError>>() };
            output.as_ref().err().map(JoinError::share)
        })
    }

    /// # Safety
    ///
    /// 1. `cell` is a live `Cell<W, T, S>`.
    unsafe fn side(cell: NonNull<Header>) -> NonNull<dyn Side> {
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::cell(cell) };
        NonNull::from(&cell.side)
    }

    /// # Safety
    ///
    /// 1. `cell` is a `Cell<W, T, S>` that `Cell::allocate` made, and no reference is left.
    unsafe fn free(cell: NonNull<Header>, runner: Option<&dyn Runner>) {
        // SAFETY: duty 1.
        let cell = unsafe { Box::from_raw(cell.cast::<Cell<W, T, S>>().as_ptr()) };
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        crate::base::simulated::freed(cell.header.id.number());
        // SAFETY: duty 1.
        unsafe { cell.header.drop_home(runner) };
        drop(cell);
    }
}
