//! The block of memory of one task, and the references to it.
//!
//! ```text
//! ┌ Header ───────────────────────────────────────────────────────────────┬ Side ┬ Stage ────────┐
//! │ word │ vtable │ id │ spawned at │ context │ waker │ executor │ watchers │ ...  │ work | output │
//! └───────────────────────────────────────────────────────────────────────┴──────┴───────────────┘
//! ```
//!
//! Who may touch which field, and when, stands in the [parent module](super).

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::task::Waker;

use super::control::{self, Cancel};
use super::end;
use super::id::TaskId;
use super::run;
use super::runner::Runner;
use super::schedule::{Home, Schedule, WakeKind};
use super::side::{Chain, Origin, Side};
use super::span::Span;
use super::state::{
    ASSIGNED, DONE, HELPED, LATE, PREVENTED, RUNNING, Release, SOURCE, STARTED, Snapshot, WORK,
};
use super::unhandled::Untaken;
use super::watch::{Callback, Watchers};
use super::word::Word;
use crate::base::contain::contained_drop;
use crate::base::sync::{Arc, Mutex, UnsafeCell};
use crate::context::Context;
use crate::join_error::{Family, JoinError};

/// The part of the block that every task has.
#[repr(C)]
pub(super) struct Header {
    pub(super) word: Word,
    pub(super) vtable: &'static VTable,
    pub(super) id: TaskId,
    pub(super) spawned_at: &'static Location<'static>,
    /// Belongs to the owner of the work.
    pub(super) context: UnsafeCell<Context>,
    pub(super) span: Span,
    /// Of the reader; whose it is says the word, see [`watch`](super::watch).
    pub(super) waker: UnsafeCell<Option<Waker>>,
    /// Fixed at birth, or with `LATE` none until `ASSIGNED`, and then the watchers' lock's.
    /// Dropped by [`Header::drop_home`]; in a [block](super::block) a copy of the block's.
    home: UnsafeCell<ManuallyDrop<Option<Arc<dyn Schedule>>>>,
    pub(super) watchers: Mutex<Watchers>,
}

/// What a task can do, by the type of its work.
pub(super) struct VTable {
    /// Runs the claimed work, the `first` time with a word to its executor; consumes the driver,
    /// or gives it back with a future that has yielded. A runner is told of the end in place of
    /// the executor, and knows of the start already.
    pub(super) run: unsafe fn(TaskRef, first: bool, Option<&dyn Runner>) -> Option<TaskRef>,
    pub(super) drop_work: unsafe fn(NonNull<Header>),
    /// Where the `Result<T, JoinError>` is.
    pub(super) output: unsafe fn(NonNull<Header>) -> NonNull<()>,
    pub(super) drop_output: unsafe fn(NonNull<Header>),
    /// The error in the slot, shared.
    pub(super) error: unsafe fn(NonNull<Header>) -> Option<JoinError>,
    pub(super) side: unsafe fn(NonNull<Header>) -> NonNull<dyn Side>,
    pub(super) free: unsafe fn(NonNull<Header>, Option<&dyn Runner>),
    /// Only its own thread may drop the work: before the start, after the start.
    pub(super) is_far: (bool, bool),
    pub(super) is_job: bool,
    /// Nothing is to be learned from the side.
    pub(super) is_plain: bool,
}

/// The work before the end, the outcome after it.
#[repr(C)]
pub(super) union Stage<W, T> {
    pub(super) work: ManuallyDrop<W>,
    pub(super) output: ManuallyDrop<Result<T, JoinError>>,
    pub(super) nothing: (),
}

/// The whole block.
#[repr(C)]
pub(super) struct Cell<W, T, S> {
    pub(super) header: Header,
    pub(super) side: S,
    pub(super) stage: UnsafeCell<Stage<W, T>>,
}

/// What a new cell is made of, besides its work.
pub(super) struct Birth {
    pub(super) flags: u64,
    pub(super) vtable: &'static VTable,
    pub(super) spawned_at: &'static Location<'static>,
    pub(super) context: Context,
    pub(super) span: Span,
    pub(super) home: Option<Arc<dyn Schedule>>,
}

impl<W, T, S> Cell<W, T, S> {
    /// Makes the block with `work` in it, which is moved once: from the caller into its place.
    #[inline(always)]
    pub(super) fn with_work(birth: Birth, side: S, work: W) -> NonNull<Header> {
        let block = NonNull::from(Box::leak(Box::<Self>::new_uninit()));
        // SAFETY: the block is new, and of the size of a cell.
        unsafe { Self::put_with_work(block.cast(), birth, side, work) }
    }

    /// The same in a place that is there already.
    ///
    /// # Safety
    ///
    /// 1. `place` is the caller's, has the size and the alignment of a cell, and there is nothing
    ///    in it.
    #[inline(always)]
    pub(super) unsafe fn put_with_work(
        place: NonNull<Self>,
        mut birth: Birth,
        side: S,
        work: W,
    ) -> NonNull<Header> {
        birth.flags |= WORK;
        // SAFETY: duty 1 is the same.
        let cell = unsafe { Self::put(place, birth, side) };
        // SAFETY: `put` made it with this type, and nobody else knows of it yet.
        let stage = unsafe { &cell.cast::<Self>().as_ref().stage };
        stage.with_mut(|stage| {
            // SAFETY: the stage is empty.
            unsafe { stage.cast::<W>().write(work) }
        });
        cell
    }

    /// Makes the block: one driver, and the holder of the reading half; nothing is in the stage.
    #[inline]
    pub(super) fn allocate(birth: Birth, side: S) -> NonNull<Header> {
        let block = NonNull::from(Box::leak(Box::<Self>::new_uninit()));
        // SAFETY: the block is new, and of the size of a cell.
        unsafe { Self::put(block.cast(), birth, side) }
    }

    /// The same in a place that is there already.
    ///
    /// # Safety
    ///
    /// 1. As for [`Cell::put_with_work`].
    #[inline(always)]
    unsafe fn put(place: NonNull<Self>, birth: Birth, side: S) -> NonNull<Header> {
        let header = Header {
            word: Word::new(Snapshot::born(birth.flags)),
            vtable: birth.vtable,
            id: TaskId::fresh(),
            spawned_at: birth.spawned_at,
            context: UnsafeCell::new(birth.context),
            span: birth.span,
            waker: UnsafeCell::new(None),
            home: UnsafeCell::new(ManuallyDrop::new(birth.home)),
            watchers: Mutex::new(Watchers::default()),
        };
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        crate::base::simulated::born(header.id.number(), header.spawned_at);
        // Field by field: a whole cell would be moved into its block, with all of its stage.
        let cell = place.as_ptr();
        // SAFETY: the field is in the caller's place (duty 1).
        let its_header = unsafe { &raw mut (*cell).header };
        // SAFETY: as above.
        let its_side = unsafe { &raw mut (*cell).side };
        // SAFETY: as above.
        let its_stage = unsafe { &raw mut (*cell).stage };
        // SAFETY: as above, and nobody else knows of it yet.
        unsafe { its_header.write(header) };
        // SAFETY: as above.
        unsafe { its_side.write(side) };
        // SAFETY: as above.
        unsafe { its_stage.write(UnsafeCell::new(Stage { nothing: () })) };
        // `repr(C)`: the header is at the start of the cell.
        place.cast()
    }
}

/// The executor of a task: borrowed where it is fixed, shared where it came late.
pub(super) enum HomeRef<'a> {
    Fixed(&'a Arc<dyn Schedule>),
    Late(Arc<dyn Schedule>),
}

impl std::ops::Deref for HomeRef<'_> {
    type Target = dyn Schedule;
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Fixed(home) => &***home,
            Self::Late(home) => &**home,
        }
    }
}

impl Header {
    #[inline]
    pub(super) fn home(&self) -> Option<HomeRef<'_>> {
        let now = self.word.peek();
        if now.has(LATE) {
            if !now.has(ASSIGNED) {
                return None; // Who has claimed the task knows from that move.
            }
            let _guard = self.watchers.lock();
            // SAFETY: the word says LATE, so the field belongs to the lock that is held.
            let home = self.home.with(|home| unsafe { (**home).clone() });
            return home.map(HomeRef::Late);
        }
        // SAFETY: without LATE the field is never written after birth, so it may be borrowed
        // for as long as the header lives.
        let home = self.home.with(|home| unsafe { (*home).as_ref() });
        home.map(HomeRef::Fixed)
    }

    /// Is it queued where tasks of this home are, as was fixed at birth?
    #[inline]
    pub(super) fn is_queued_at(&self, home: Home) -> bool {
        // One that settles is queued by what it has settled on.
        if self.word.peek().has(LATE) || self.vtable.is_far == (false, true) {
            return false;
        }
        // SAFETY: as in `home`.
        let own = self.home.with(|own| unsafe { (*own).as_ref() });
        own.is_some_and(|own| own.home() == home)
    }

    /// Gives a late cell its executor; false when somebody has claimed it already.
    fn assign(&self, home: Option<Arc<dyn Schedule>>) -> bool {
        let old;
        {
            let _guard = self.watchers.lock();
            // Before the field is written: who claims the task then waits for the lock.
            if !self.word.turn(Snapshot::assign) {
                return false;
            }
            // SAFETY: the word says LATE, so the field belongs to the lock that is held.
            old = self
                .home
                .with_mut(|slot| std::mem::replace(unsafe { &mut **slot }, home));
        }
        drop(old);
        true
    }

    /// Gives up the cell's own reference to its executor; one that did not come late, to the runner.
    ///
    /// # Safety
    ///
    /// 1. The cell is about to be freed, and not in a block with others.
    #[inline]
    pub(super) unsafe fn drop_home(&self, runner: Option<&dyn Runner>) {
        // SAFETY: duty 1: nobody else has the cell.
        let home = self.home.with_mut(|home| unsafe { &mut *home });
        match runner.filter(|_| !self.word.peek().has(LATE)) {
            // SAFETY: duty 1: nobody looks at the field again.
            None => unsafe { ManuallyDrop::drop(home) },
            // SAFETY: as above.
            Some(runner) => unsafe { ManuallyDrop::take(home) }.map_or((), |h| runner.let_go(h)),
        }
    }

    /// Whoever has the task as long as nobody has claimed it, where that may change.
    pub(super) fn late_home(&self) -> Option<Arc<dyn Schedule>> {
        let now = self.word.load();
        if !now.has(LATE) || !now.is_unclaimed() {
            return None;
        }
        match self.home()? {
            HomeRef::Late(home) => Some(home),
            HomeRef::Fixed(_) => None,
        }
    }

    /// The executor that queues the task when it is woken.
    pub(super) fn queue(&self) -> Option<HomeRef<'_>> {
        match self.side().settled() {
            Some(home) => Some(HomeRef::Fixed(home)),
            None => self.home(),
        }
    }

    pub(super) fn side(&self) -> &dyn Side {
        // SAFETY: the vtable was made for this very cell; the side is never written after
        // birth and lives as long as the header.
        let side = unsafe { (self.vtable.side)(NonNull::from(self)) };
        // SAFETY: as above: the pointer is to a field of the block that `self` borrows.
        unsafe { &*side.as_ptr() }
    }

    /// The chain that it is a link of.
    pub(super) fn chain(&self) -> Option<Chain> {
        if self.word.load().has(SOURCE) {
            return self.side().chain();
        }
        None
    }

    pub(super) fn origin(&self) -> Origin {
        let home = self.queue().map_or(Home::Anywhere, |queue| queue.home());
        Origin { id: self.id, home }
    }

    /// May this thread drop the work?
    pub(super) fn is_here(&self, started: bool) -> bool {
        let (unstarted_far, started_far) = self.vtable.is_far;
        let far = if started { started_far } else { unstarted_far };
        !far || self.is_own_thread()
    }

    pub(super) fn is_own_thread(&self) -> bool {
        let home = self.queue().map_or(Home::Anywhere, |queue| queue.home());
        home == Home::Thread(crate::entered::thread_key())
    }
}

/// A driving reference: it may run the task, and as long as it exists the task is not lost.
pub(crate) struct TaskRef(NonNull<Header>);

/// A reference that keeps the memory, and may cancel.
pub(crate) struct Hold(NonNull<Header>);

// SAFETY: what a driver may do to the work is decided by the word; work that must stay on its
// thread is run and dropped there only (invariant 5 of the parent module).
unsafe impl Send for TaskRef {}
// SAFETY: as above; all shared access goes through the word, the lock, or fields fixed at birth.
unsafe impl Sync for TaskRef {}
// SAFETY: as for `TaskRef`.
unsafe impl Send for Hold {}
// SAFETY: as for `TaskRef`.
unsafe impl Sync for Hold {}
impl UnwindSafe for Hold {}
impl RefUnwindSafe for Hold {}
impl UnwindSafe for TaskRef {}
impl RefUnwindSafe for TaskRef {}

impl TaskRef {
    /// Takes over one driver.
    ///
    /// # Safety
    ///
    /// 1. `cell` is a live cell, and the caller owns one of its drivers, which it gives up.
    pub(super) unsafe fn from_raw(cell: NonNull<Header>) -> Self {
        Self(cell)
    }

    pub(super) fn cell(&self) -> NonNull<Header> {
        self.0
    }

    /// The driver, to be taken over by [`TaskRef::from_raw`].
    pub(super) fn into_raw(self) -> NonNull<Header> {
        ManuallyDrop::new(self).0
    }

    /// A move has given up this driver already, with `release` as the duty.
    #[inline]
    pub(super) fn given_up(self, release: Release, runner: Option<&dyn Runner>) {
        let cell = self.into_raw();
        if release == Release::Free {
            // SAFETY: the word says that no reference is left; we were the last (invariant 1).
            unsafe { free(cell, runner) }
        }
    }

    /// Drops this driver of what `runner` took.
    pub(super) fn let_go(self, runner: Option<&dyn Runner>) {
        // SAFETY: this reference owns one driver and gives it up here (invariant 1).
        unsafe { release_driver(self.into_raw(), runner) }
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: this reference is a driver, drivers hold the cell (invariant 1).
        unsafe { self.0.as_ref() }
    }

    /// Claims the work and runs it: a job to its end, a future for one poll.
    ///
    /// Does nothing when it was claimed, cancelled or finished already. Never unwinds.
    pub(crate) fn run(self) {
        run::run(self);
    }

    /// The same for a worker that took it from a queue of its executor: gives back a future that
    /// has woken itself, to be put behind everything else there. One that is bound to a thread
    /// goes to that thread's queue by itself, and tells its executor itself, as `run` does.
    #[inline]
    pub(crate) fn run_by(self, runner: &dyn Runner) -> Option<Self> {
        if self.header().vtable.is_far == (false, false) {
            return run::run_by(self, runner);
        }
        run::run(self);
        None
    }

    /// Ends the task: its handle resolves `is_shut_down`, its work is dropped.
    ///
    /// Does nothing to a task that is running, or finished. Work that must stay on another
    /// thread is left to that thread's next `run` or `shut_down`.
    pub(crate) fn shut_down(self) {
        control::refuse(self.header());
    }

    pub(crate) fn cancel(&self) -> Cancel {
        control::cancel(self.header())
    }

    /// Tells it to stop; true if nobody had before, and it had not ended.
    pub(crate) fn cancel_first(&self) -> bool {
        control::cancel_first(self.header())
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.header().word.load().has(DONE)
    }

    /// Is the work a closure, to be run once?
    pub(crate) fn is_job(&self) -> bool {
        self.header().vtable.is_job
    }

    pub(crate) fn id(&self) -> TaskId {
        self.header().id
    }

    #[inline]
    pub(crate) fn name(&self) -> Option<&str> {
        if self.header().vtable.is_plain {
            return None;
        }
        self.header().side().name()
    }

    pub(crate) fn spawned_at(&self) -> &'static Location<'static> {
        self.header().spawned_at
    }

    pub(crate) fn hold(&self) -> Hold {
        Hold::of(self.header())
    }

    /// See `Job::assign`.
    pub(crate) fn assign(&self, home: Option<Arc<dyn Schedule>>) -> bool {
        self.header().assign(home)
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        // SAFETY: this reference owns one driver and gives it up here (invariant 1).
        unsafe { release_driver(self.0, None) }
    }
}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header();
        f.debug_struct("TaskRef")
            .field("id", &header.id)
            .field("state", &header.word.peek())
            .finish()
    }
}

/// Gives up one driver, with the duties of the last one.
///
/// # Safety
///
/// 1. The caller owns one driver of the live cell and does not use it after.
#[inline]
pub(super) unsafe fn release_driver(cell: NonNull<Header>, runner: Option<&dyn Runner>) {
    loop {
        // SAFETY: the driver of duty 1 holds the cell until the turn below.
        let header = unsafe { cell.as_ref() };
        match header.word.turn(Snapshot::driver_gone) {
            Release::Nothing => return,
            // SAFETY: the word says that no reference is left; we were the last (invariant 1).
            Release::Free => return unsafe { free(cell, runner) },
            Release::Lose => control::lose(header),
            Release::Orphan => {
                // SAFETY: the driver stayed with us (invariant 1), and goes along here.
                let task = unsafe { TaskRef::from_raw(cell) };
                return run::schedule(task, WakeKind::Woken);
            }
        }
    }
}

/// Frees the block, after a run by `runner`; a destructor in it that panics is contained.
///
/// # Safety
///
/// 1. No reference to the cell is left.
pub(super) unsafe fn free(cell: NonNull<Header>, runner: Option<&dyn Runner>) {
    // SAFETY: duty 1; the vtable was made for this cell.
    contained_drop(Freeing(unsafe { (*cell.as_ptr()).vtable }, cell, runner));
}

/// Frees when dropped, so that [`contained_drop`] can catch what unwinds.
struct Freeing<'a>(&'static VTable, NonNull<Header>, Option<&'a dyn Runner>);

impl Drop for Freeing<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `free` alone, whose caller vouches that no reference is left.
        unsafe { (self.0.free)(self.1, self.2) }
    }
}

impl Hold {
    pub(super) fn of(header: &Header) -> Self {
        header.word.turn(|now| ((), Some(now.holder_added())));
        Self(NonNull::from(header))
    }

    /// Takes over one holder.
    ///
    /// # Safety
    ///
    /// 1. `cell` is a live cell, and the caller owns one of its holders, which it gives up.
    pub(super) unsafe fn from_raw(cell: NonNull<Header>) -> Self {
        Self(cell)
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: this reference is a holder (invariant 1).
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn cancel(&self) -> Cancel {
        control::cancel(self.header())
    }

    /// See [`TaskRef::cancel_first`].
    pub(crate) fn cancel_first(&self) -> bool {
        control::cancel_first(self.header())
    }

    /// See [`TaskRef::shut_down`].
    pub(crate) fn shut_down(&self) {
        control::refuse(self.header());
    }

    /// May this thread drop the work?
    pub(crate) fn is_here(&self) -> bool {
        self.header()
            .is_here(self.header().word.load().has(STARTED))
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.header().word.load().has(DONE)
    }

    /// Has it ended otherwise than cancelled?
    pub(crate) fn has_outlived_cancel(&self) -> bool {
        let now = self.header().word.load();
        now.has(DONE) && now.family() != Some(Family::Cancelled)
    }

    /// Has somebody started it, or made sure that nobody will?
    pub(crate) fn is_claimed(&self) -> bool {
        !self.header().word.load().is_unclaimed()
    }

    /// Has somebody the end in hand: a runner, a canceller, a refusing executor? Or is it done?
    pub(crate) fn is_in_hand(&self) -> bool {
        self.header().word.load().has(RUNNING | PREVENTED | DONE)
    }

    /// The task at the root of this chain, and where it lives.
    pub(crate) fn origin(&self) -> Origin {
        self.header().origin()
    }

    /// Was it told to stop, or did it end cancelled?
    pub(crate) fn is_cancelled(&self) -> bool {
        control::is_cancelled(self.header())
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

    /// See [`Header::late_home`].
    pub(crate) fn late_home(&self) -> Option<Arc<dyn Schedule>> {
        self.header().late_home()
    }

    /// The pool whose workers, or a joiner in their place, may run this task's work.
    pub(crate) fn pool(&self) -> Option<u64> {
        match self.header().home()?.home() {
            Home::Pool(pool) if self.header().vtable.is_far == (false, false) => Some(pool),
            _ => None,
        }
    }

    /// Is the work a closure, to be run once?
    pub(crate) fn is_job(&self) -> bool {
        self.header().vtable.is_job
    }

    /// Runs the work right here if nobody has claimed it; true if it did.
    pub(crate) fn run_here(&self) -> bool {
        let leaves = run::leaves(self.header());
        let claims = self.header().word.turn(|now| now.claim_unstarted(leaves));
        if claims {
            // SAFETY: the turn has added a driver, for us (invariant 1).
            run::run_claimed(unsafe { TaskRef::from_raw(self.0) });
        }
        claims
    }

    /// From now on the reader's waker is also called when the task is scheduled.
    pub(crate) fn offer_help(&self) {
        self.header().word.set(HELPED);
    }

    /// Nobody helps any more.
    pub(crate) fn withdraw_help(&self) {
        self.header().word.clear(HELPED);
    }

    /// Polls the future in place of its executor if it is scheduled; true if it did.
    pub(crate) fn help(&self) -> bool {
        run::help(self)
    }

    /// Polls the future once more if it is suspended, so that it says what it awaits.
    pub(crate) fn nudge(&self) {
        run::nudge(self);
    }

    /// Calls the reader's waker before the end.
    pub(crate) fn wake_reader(&self) {
        end::wake_reader(self.header());
    }

    /// Runs `callback` at the end, or at once when that was before.
    pub(crate) fn on_complete(&self, callback: Callback) {
        end::on_complete(self.header(), callback);
    }

    /// Reports a failure that nobody has taken and nobody has reported.
    pub(crate) fn report_untaken(&self) {
        let header = self.header();
        let failure = {
            let _guard = header.watchers.lock();
            if header.word.turn(Snapshot::report) {
                // SAFETY: the word says that the slot is filled and not taken. A taker of a
                // failure sets TAKEN first and then reads the slot under this lock, which we
                // hold since before we saw that TAKEN is not set (invariant 4).
                unsafe { (header.vtable.error)(self.0) }.map(Untaken::new)
            } else {
                None
            }
        };
        if let Some(failure) = failure {
            failure.report(header);
        }
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        Self::of(self.header())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: this reference owns one holder and gives it up here (invariant 1).
        unsafe { release_holder(self.0) }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.id()).finish()
    }
}

/// # Safety
///
/// 1. The caller owns one holder of the live cell and does not use it after.
pub(super) unsafe fn release_holder(cell: NonNull<Header>) {
    // SAFETY: the holder of duty 1 holds the cell until the turn.
    let header = unsafe { cell.as_ref() };
    if header.word.turn(Snapshot::holder_gone) == Release::Free {
        // SAFETY: the word says that no reference is left; we were the last (invariant 1).
        unsafe { free(cell, None) }
    }
}
