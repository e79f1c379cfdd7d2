//! Makes cells: one allocation each, with the two ends that belong to it.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context as Cx, Poll};

use super::cell::{Birth, Cell, Header, Hold, TaskRef, VTable, release_driver};
use super::end;
use super::id::TaskId;
use super::reader::Reader;
use super::run::{FutureTable, JobTable, PromiseTable};
use super::schedule::Schedule;
use super::side::{Chain, Derived, Driving, Named, Plain, Settle, Settling, Side, Writing};
use super::span::Span;
use super::state::{CANCEL, DONE, FUTURE, LATE, PREVENTED, SCHEDULED, SOURCE, Snapshot};
use crate::base::sync::Arc;
use crate::context::Context;
use crate::join_error::JoinError;

/// Where work was spawned, and in which context.
pub(crate) struct Spawned {
    at: &'static Location<'static>,
    context: Context,
    span: Span,
}

impl Spawned {
    /// At the caller, in the context that is running now.
    #[track_caller]
    pub(crate) fn here() -> Self {
        Self::at(Location::caller())
    }

    /// At a line that was noted before, in the context that is running now.
    pub(crate) fn at(at: &'static Location<'static>) -> Self {
        Self {
            at,
            context: Context::capture(),
            span: Span::current(),
        }
    }

    /// The same once more.
    #[inline]
    pub(super) fn again(&self) -> Self {
        Self {
            at: self.at,
            context: self.context.clone(),
            span: self.span.clone(),
        }
    }

    pub(super) fn birth(
        self,
        flags: u64,
        vtable: &'static VTable,
        home: Option<Arc<dyn Schedule>>,
    ) -> Birth {
        Birth {
            flags,
            vtable,
            spawned_at: self.at,
            context: self.context,
            span: self.span,
            home,
        }
    }
}

/// A job whose executor is known.
#[inline(always)]
pub(crate) fn job<F, T>(
    spawned: Spawned,
    home: Arc<dyn Schedule>,
    name: Option<Cow<'static, str>>,
    work: F,
) -> (TaskRef, Reader<T>)
where
    F: FnOnce() -> Result<T, JoinError> + Send + 'static,
    T: Send + 'static,
{
    named_job(spawned, 0, Some(home), name, work)
}

/// A job whose executor is assigned later, if ever.
#[inline(always)]
pub(crate) fn late_job<F, T>(
    spawned: Spawned,
    name: Option<Cow<'static, str>>,
    work: F,
) -> (TaskRef, Reader<T>)
where
    F: FnOnce() -> Result<T, JoinError> + Send + 'static,
    T: Send + 'static,
{
    named_job(spawned, LATE, None, name, work)
}

/// A job that drives a future, whose executor is assigned later.
pub(crate) fn driving_job<F, T>(spawned: Spawned, driving: Driving, work: F) -> (TaskRef, Reader<T>)
where
    F: FnOnce() -> Result<T, JoinError> + Send + 'static,
    T: Send + 'static,
{
    any_job(spawned, LATE, None, driving, work)
}

/// A job that is a link of this chain.
pub(crate) fn derived_job<F, T>(spawned: Spawned, chain: Chain, work: F) -> (TaskRef, Reader<T>)
where
    F: FnOnce() -> Result<T, JoinError> + Send + 'static,
    T: Send + 'static,
{
    any_job(spawned, SOURCE, None, Derived(chain), work)
}

#[inline(always)]
fn named_job<F, T>(
    spawned: Spawned,
    flags: u64,
    home: Option<Arc<dyn Schedule>>,
    name: Option<Cow<'static, str>>,
    work: F,
) -> (TaskRef, Reader<T>)
where
    F: FnOnce() -> Result<T, JoinError> + Send + 'static,
    T: Send + 'static,
{
    match name {
        None => any_job(spawned, flags, home, Plain, work),
        Some(name) => any_job(spawned, flags, home, Named(name), work),
    }
}

#[inline(always)]
fn any_job<F, T, S>(
    spawned: Spawned,
    flags: u64,
    home: Option<Arc<dyn Schedule>>,
    side: S,
    work: F,
) -> (TaskRef, Reader<T>)
where
    F: FnOnce() -> Result<T, JoinError> + Send + 'static,
    T: Send + 'static,
    S: Side + 'static,
{
    let birth = spawned.birth(flags, const { &JobTable::<F, T, S>::TABLE }, home);
    let cell = Cell::<F, T, S>::with_work(birth, side, work);
    // SAFETY: a new cell has one driver and one reading half, and its output is a `T`.
    unsafe { ends(cell) }
}

/// A future that any thread may poll.
#[inline(always)]
pub(crate) fn future<F>(
    spawned: Spawned,
    home: Arc<dyn Schedule>,
    work: F,
) -> (TaskRef, Reader<F::Output>)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let vtable = const { &FutureTable::<F, Plain>::SHARED };
    any_future(
        spawned.birth(FUTURE | SCHEDULED, vtable, Some(home)),
        Plain,
        work,
    )
}

/// A future that stays on this thread; `home` must say so.
pub(crate) fn local<F>(
    spawned: Spawned,
    home: Arc<dyn Schedule>,
    work: F,
) -> (TaskRef, Reader<F::Output>)
where
    F: Future + 'static,
    F::Output: 'static,
{
    let vtable = const { &FutureTable::<F, Plain>::LOCAL };
    any_future(
        spawned.birth(FUTURE | SCHEDULED, vtable, Some(home)),
        Plain,
        work,
    )
}

/// A future that is made where it is first polled, and stays there. Without
/// `home` its executor is assigned later.
pub(crate) fn remote<C, F>(
    spawned: Spawned,
    home: Option<Arc<dyn Schedule>>,
    settle: Option<Settle>,
    create: C,
) -> (TaskRef, Reader<F::Output>)
where
    C: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let vtable = const { &FutureTable::<Remote<C, F>, Settling>::REMOTE };
    let late = if home.is_none() { LATE } else { 0 };
    let birth = spawned.birth(FUTURE | SCHEDULED | late, vtable, home);
    any_future(birth, Settling::new(settle), Remote::Create(create))
}

#[inline(always)]
fn any_future<F, S>(birth: Birth, side: S, work: F) -> (TaskRef, Reader<F::Output>)
where
    F: Future,
    S: Side,
{
    let cell = Cell::<F, F::Output, S>::with_work(birth, side, work);
    // SAFETY: a new cell has one driver and one reading half, and its output is `F::Output`.
    unsafe { ends(cell) }
}

/// # Safety
///
/// 1. `cell` is new, its output is a `Result<T, JoinError>`, and nobody has its ends.
pub(super) unsafe fn ends<T>(cell: NonNull<Header>) -> (TaskRef, Reader<T>) {
    // SAFETY: duty 1: the one driver.
    let task = unsafe { TaskRef::from_raw(cell) };
    // SAFETY: duty 1: the one reading half.
    let reader = unsafe { Reader::from_raw(cell) };
    (task, reader)
}

/// A closure until the first poll, then the future that it gave.
enum Remote<C, F> {
    Create(C),
    Future(F),
    Gone,
}

impl<C, F> Future for Remote<C, F>
where
    C: FnOnce() -> F,
    F: Future,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<F::Output> {
        // SAFETY: `Create` is moved out before anything was pinned in it; `Future` never is.
        let this = unsafe { self.get_unchecked_mut() };
        if let Self::Create(_) = this {
            if let Self::Create(create) = std::mem::replace(this, Self::Gone) {
                *this = Self::Future(create());
            }
        }
        match this {
            // SAFETY: pinned since it was put here, see above.
            Self::Future(future) => unsafe { Pin::new_unchecked(future) }.poll(cx),
            _ => unreachable!("a task whose creation panicked is not polled again"),
        }
    }
}

/// A promise: the writing end and the reading end.
pub(crate) fn promise<T>(at: &'static Location<'static>) -> (Writer<T>, Reader<T>) {
    let spawned = Spawned {
        at,
        context: Context::default(),
        span: Span::none(),
    };
    let birth = spawned.birth(0, const { &PromiseTable::<T, Writing>::TABLE }, None);
    let cell = Cell::<(), T, Writing>::allocate(birth, Writing::default());
    // SAFETY: a new cell has one reading half, and its output is a `T`.
    let reader = unsafe { Reader::from_raw(cell) };
    let writer = Writer {
        cell,
        outcome: PhantomData,
    };
    (writer, reader)
}

/// The writing half, without its public clothes: the one driver of a promise's cell.
pub(crate) struct Writer<T> {
    cell: NonNull<Header>,
    outcome: PhantomData<T>,
}

// SAFETY: the writer moves a `T` into the cell, whose reader may be on another thread.
unsafe impl<T: Send> Send for Writer<T> {}
// SAFETY: `&Writer<T>` moves no `T`; all it does goes through the word.
unsafe impl<T: Send> Sync for Writer<T> {}
impl<T> Unpin for Writer<T> {}
impl<T> std::panic::UnwindSafe for Writer<T> {}
impl<T> std::panic::RefUnwindSafe for Writer<T> {}

impl<T> Writer<T> {
    fn cell(&self) -> &Cell<(), T, Writing> {
        // SAFETY: the writer is a driver and holds the cell; `promise` made it with this type.
        unsafe { self.cell.cast::<Cell<(), T, Writing>>().as_ref() }
    }

    /// Pending to running; false when it was cancelled before.
    pub(crate) fn start(&self) -> bool {
        self.cell().header.word.turn(Snapshot::start)
    }

    /// Publishes `outcome`; gives it back when the promise was cancelled before its start.
    #[inline(always)]
    pub(crate) fn resolve(self, outcome: Result<T, JoinError>) -> Result<(), Result<T, JoinError>> {
        self.forget_source();
        let cell = ManuallyDrop::new(self).cell;
        // SAFETY: this is the one writer of a live promise, and its one driver; it is used up.
        let task = unsafe { TaskRef::from_raw(cell) };
        // SAFETY: as above; `promise` made the cell with this type.
        unsafe { end::resolve::<T, Writing>(task, outcome) }
    }

    /// Has the reader told it to stop, or prevented it?
    pub(crate) fn is_told(&self) -> bool {
        self.cell().header.word.load().has(CANCEL | PREVENTED)
    }

    /// Ready once the reader has told it to stop.
    pub(crate) fn poll_told(&self, cx: &Cx<'_>) -> Poll<()> {
        if self.is_told() {
            return Poll::Ready(());
        }
        self.cell().side.wake_when_told(cx.waker().clone());
        if self.is_told() {
            self.forget_waker();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    pub(crate) fn forget_waker(&self) {
        self.cell().side.forget_waker();
    }

    /// Lets go of what [`Writer::cancel_with`] has set; most promises have nothing.
    fn forget_source(&self) {
        let cell = self.cell();
        if cell.header.word.peek().has(SOURCE) {
            cell.side.forget_upstream();
        }
    }

    /// Cancels `source` when the reader tells this promise to stop, now if it has.
    pub(crate) fn cancel_with(&self, source: Hold, chain: Chain) {
        let cell = self.cell();
        cell.side.cancel_when_told(source, chain);
        if cell.header.word.set(SOURCE).has(CANCEL | PREVENTED | DONE) {
            cell.side.told();
        }
    }

    pub(crate) fn spawned_at(&self) -> &'static Location<'static> {
        self.cell().header.spawned_at
    }

    pub(crate) fn id(&self) -> TaskId {
        self.cell().header.id
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.forget_source();
        // SAFETY: the writer owns one driver and gives it up here (invariant 1).
        unsafe { release_driver(self.cell, None) }
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").field(&self.id()).finish()
    }
}
