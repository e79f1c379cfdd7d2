//! Which tasks are running on this thread, the innermost first.
//!
//! A frame lives on the stack of the runner; the thread's local points to the newest frame, a
//! frame to the one before it. It answers `cancel::is_cancelled()` with one relaxed load and
//! finds a task that waits for itself.

use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};

use super::cell::Header;
use super::id::TaskId;
use super::runner::Runner;
use super::schedule::Home;
use super::state::{CANCEL, DONE, PREVENTED};
use crate::base::sync::local;

local! {
    static NEWEST: Cell<*const Frame> = Cell::new(ptr::null());
}

/// One running task.
struct Frame {
    task: NonNull<Header>,
    /// The worker that took it.
    runner: Option<NonNull<dyn Runner>>,
    before: *const Frame,
}

/// Puts the old newest frame back, also when the task unwinds.
struct Leave(*const Frame);

impl Drop for Leave {
    #[inline]
    fn drop(&mut self) {
        let _ = NEWEST.try_with(|newest| newest.set(self.0));
    }
}

/// Runs `code` as a part of `task`, which `runner` took.
#[inline(always)]
pub(super) fn enter<R>(task: &Header, runner: Option<&dyn Runner>, code: impl FnOnce() -> R) -> R {
    let before = NEWEST.try_with(Cell::get).unwrap_or(ptr::null());
    let frame = Frame {
        task: NonNull::from(task),
        runner: runner.map(outlived),
        before,
    };
    let _leave = Leave(before);
    let _ = NEWEST.try_with(|newest| newest.set(&raw const frame));
    code()
}

/// A frame is taken out of the list before its runner goes, so it may forget how long that lives.
#[inline]
fn outlived<'a>(runner: &'a (dyn Runner + 'a)) -> NonNull<dyn Runner> {
    let runner: NonNull<dyn Runner + 'a> = NonNull::from(runner);
    // SAFETY: only a lifetime changes, and whoever reads the frame restores one (`with_runner`).
    unsafe { std::mem::transmute::<NonNull<dyn Runner + 'a>, NonNull<dyn Runner>>(runner) }
}

/// Calls `f` with the worker that took the innermost running task.
#[inline]
pub(super) fn with_runner<R>(f: impl FnOnce(Option<&dyn Runner>) -> R) -> R {
    let newest = NEWEST.try_with(Cell::get).unwrap_or(ptr::null());
    // SAFETY: as in `find`.
    let newest = unsafe { newest.as_ref() };
    // SAFETY: `enter` borrows the runner for as long as the frame is in the list, which is further
    // down this very stack than `f`.
    f(newest.and_then(|frame| frame.runner.map(|runner| unsafe { runner.as_ref() })))
}

/// Looks at the frames of this thread, the newest first, until `look` has an answer.
fn find<R>(look: impl Fn(&Header) -> Option<R>) -> Option<R> {
    let mut next = NEWEST.try_with(Cell::get).unwrap_or(ptr::null());
    while !next.is_null() {
        // SAFETY: a frame is in the list only while `enter`, further down this very stack, has
        // not returned (`Leave` takes it out), so it is alive and on this thread.
        let frame = unsafe { &*next };
        // SAFETY: `enter` borrows the header for as long as the frame is in the list.
        let task = unsafe { frame.task.as_ref() };
        if let Some(answer) = look(task) {
            return Some(answer);
        }
        next = frame.before;
    }
    None
}

/// Was the innermost running task told to stop?
pub(crate) fn is_cancelled() -> bool {
    // Peeked at with Relaxed: the answer is a hint that carries no data.
    find(|task| Some(task.word.peek().has(CANCEL | PREVENTED))).unwrap_or(false)
}

/// Is this task running on this thread, however deep below?
pub(crate) fn is_running_here(id: TaskId) -> bool {
    find(|task| (task.id == id).then_some(())).is_some()
}

/// Is any task running on this thread?
#[inline]
pub(crate) fn is_anything_running() -> bool {
    NEWEST
        .try_with(|newest| !newest.get().is_null())
        .unwrap_or(false)
}

/// All tasks that are running on this thread.
pub(crate) fn running() -> Vec<TaskId> {
    let ids = RefCell::new(Vec::new());
    let _ = find(|task| {
        ids.borrow_mut().push(task.id);
        None::<()>
    });
    ids.into_inner()
}

/// The tasks of this pool that are running on this thread, which need not be one of the pool's, and
/// have not ended; the innermost first.
pub(crate) fn running_of(pool: u64) -> Vec<TaskId> {
    let ids = RefCell::new(Vec::new());
    let _ = find(|task| {
        if is_live_of(task, pool) {
            ids.borrow_mut().push(task.id);
        }
        None::<()>
    });
    ids.into_inner()
}

/// Is any task of this pool running on this thread?
pub(crate) fn is_any_running_of(pool: u64) -> bool {
    find(|task| is_live_of(task, pool).then_some(())).is_some()
}

/// Peeked at with Relaxed: this thread runs the task, and only who runs it ends it; work that was
/// refused before it is dropped here, and its end came here with it.
fn is_live_of(task: &Header, pool: u64) -> bool {
    let is_pools = task
        .home()
        .is_some_and(|home| home.home() == Home::Pool(pool));
    is_pools && !task.word.peek().has(DONE)
}

/// The innermost task that is running on this thread.
pub(crate) fn innermost() -> Option<TaskId> {
    find(|task| Some(task.id))
}

/// Is this the task that is being polled here? A job is not polled.
pub(crate) fn is_polled_here(id: TaskId) -> bool {
    find(|task| Some(task.id == id && !task.vtable.is_job)).unwrap_or(false)
}
