//! This thread's own loop, made on first use and closed when the thread ends; and the way a
//! pool worker drives its own between other work.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use crate::base::sync::{Arc, local};
use crate::event_loop::EventLoop;
use crate::event_loop::core::running;
use crate::event_loop::handle::LoopHandle;
use crate::event_loop::shared::{LoopState, OnWake};
use crate::event_loop::turn::{Shares, turn};
use crate::task::Settle;
use crate::timer::Timers;

local! {
    static OWN: RefCell<Option<Rc<EventLoop>>> = RefCell::new(None);
}
local! {
    /// What a remote push to the own loop calls, while a worker drives it.
    static DRIVEN: RefCell<Option<OnWake>> = RefCell::new(None);
}

/// The open loop of this thread, if it has one.
fn own_if_any() -> Option<Rc<EventLoop>> {
    OWN.try_with(|own| own.borrow().clone())
        .ok()
        .flatten()
        .filter(|own| !own.core().shared.is_closed())
}

/// The open loop of this thread, made if need be. One made while the thread's locals are being
/// destroyed is closed when the last reference to it goes.
fn own() -> Rc<EventLoop> {
    if let Some(own) = own_if_any() {
        return own;
    }
    let fresh = Rc::new(EventLoop::new());
    let driven = DRIVEN.try_with(|on_wake| on_wake.borrow().clone());
    if let Ok(Some(on_wake)) = driven {
        fresh.core().shared.set_on_wake(on_wake);
        fresh.core().rest_as(LoopState::Running);
    }
    // The closed one is dropped outside of the borrow.
    let closed = OWN.try_with(|own| own.replace(Some(fresh.clone())));
    drop(closed);
    fresh
}

/// A handle to this thread's own loop.
///
/// The loop is made on first use, and again if it has been closed; it is closed when the
/// thread ends. It runs when this thread lets it, through [`with_thread_event_loop`]; a worker
/// of a [`ThreadPool`](crate::ThreadPool) drives its own whenever it has no job.
///
/// # Examples
///
/// ```
/// use portage::event_loop::{ensure_thread_event_loop, with_thread_event_loop};
///
/// let task = ensure_thread_event_loop().spawn(async { "done" });
/// let output = with_thread_event_loop(|own| own.run_until_complete(task));
/// assert_eq!(output.expect("no loop runs here").ok(), Some("done"));
/// ```
#[doc(alias = "get_event_loop")]
#[doc(alias = "set_event_loop")]
#[must_use]
pub fn ensure_thread_event_loop() -> LoopHandle {
    own().handle()
}

/// Calls `f` with this thread's own loop, made on first use.
///
/// # Examples
///
/// ```
/// use portage::event_loop::with_thread_event_loop;
///
/// let sum = with_thread_event_loop(|own| own.run_until_complete(async { 1 + 1 }));
/// assert_eq!(sum.ok(), Some(2));
/// ```
pub fn with_thread_event_loop<R>(f: impl FnOnce(&EventLoop) -> R) -> R {
    f(&own())
}

/// The loop that is running on this thread now.
///
/// `None` on a thread without one, and inside [`block_on`](crate::block_on), which is no loop:
/// a loop that runs further down on the same stack stands still until it returns.
///
/// # Examples
///
/// ```
/// use portage::{EventLoop, block_on};
/// use portage::event_loop::running_loop;
///
/// assert!(running_loop().is_none());
/// let event_loop = EventLoop::new();
/// let inside = event_loop.run_until_complete(async {
///     (running_loop().is_some(), block_on(async { running_loop().is_none() }))
/// });
/// assert_eq!(inside.ok(), Some((true, true)));
/// ```
#[doc(alias = "get_running_loop")]
#[must_use]
pub fn running_loop() -> Option<LoopHandle> {
    running().map(|core| LoopHandle::new(core.shared.clone()))
}

/// Makes a task one of this thread's own loop: it is queued there, and its polls find that loop
/// running, the first one too.
pub(crate) const ON_THREAD_LOOP: Settle = Settle {
    home: || own().core().shared.clone(),
    first_poll: |poll| own().core().run_inside(poll),
};

/// A worker's way to drive its own loop; one per worker thread. Its drop closes the loop.
///
/// The loop is [`LoopState::Running`] as long as this lives, also while the worker runs a job,
/// for it comes back to the loop by itself.
#[derive(Debug)]
pub(crate) struct ThreadLoopDriver {
    /// Stays on its thread.
    _here: Rc<Cell<()>>,
}

impl ThreadLoopDriver {
    /// Begins to drive this thread's loop. `on_wake` is what a remote push calls, besides the
    /// waker of the thread; it must not block.
    pub(crate) fn begin(on_wake: impl Fn() + Send + Sync + 'static) -> Self {
        let on_wake: OnWake = Arc::new(on_wake);
        let _ = DRIVEN.try_with(|slot| slot.replace(Some(on_wake.clone())));
        if let Some(own) = own_if_any() {
            own.core().shared.set_on_wake(on_wake);
            own.core().rest_as(LoopState::Running);
        }
        Self {
            _here: Rc::new(Cell::new(())),
        }
    }

    /// Whether a turn would find something to run. Does not look at the clock.
    pub(crate) fn has_work(&self) -> bool {
        own_if_any().is_some_and(|own| own.core().has_ready())
    }

    /// Whether a turn would do anything: not inside a run of a loop.
    pub(crate) fn can_turn(&self) -> bool {
        own_if_any().is_none_or(|own| !own.core().is_kept_from_running())
    }

    /// When the loop wants its next turn, if nothing comes before.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        Timers::enter_and_come_back().next_deadline()
    }

    /// The tasks and jobs of the loop that have not ended. Those that settled here from a pool are
    /// in the pool's account, not in this one.
    pub(crate) fn live(&self) -> usize {
        own_if_any().map_or(0, |own| own.core().shared.live())
    }

    /// Fires what is due and runs about `tasks` ready tasks; says how many things it did.
    /// Never sleeps. Does nothing inside a running loop of this thread, as every run.
    pub(crate) fn turn(&self, tasks: usize) -> usize {
        let timers = Timers::enter_and_come_back();
        let shares = Shares::worker(tasks);
        match own_if_any() {
            // Timers may be left from a loop that has been closed.
            None => timers.fire_due(shares.timers),
            Some(own) => match own.core().begin() {
                Ok(_run) => turn(own.core(), &timers, shares),
                Err(_) => 0,
            },
        }
    }
}

impl ThreadLoopDriver {
    /// Closes the loop and ends the driving; again: nothing.
    pub(crate) fn close(&self) {
        let _ = DRIVEN.try_with(|slot| slot.replace(None));
        let own = OWN.try_with(RefCell::take);
        drop(own);
        // What outlives the loop is kept by others from now on.
        drop(Timers::enter());
    }
}

impl Drop for ThreadLoopDriver {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{ON_THREAD_LOOP, ThreadLoopDriver, ensure_thread_event_loop, running_loop};
    use crate::base::clock::Clock;
    use crate::event_loop::{LoopState, with_thread_event_loop};
    use crate::spawn;
    use crate::task::Home;
    use crate::time::{sleep, yield_now};
    use crate::timer::Timers;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Runs `test` as a worker would: on a thread of its own, with a count of remote pushes.
    fn on_worker(test: impl FnOnce(ThreadLoopDriver, Clock, Arc<AtomicUsize>) + Send + 'static) {
        std::thread::spawn(move || {
            let clock = Clock::virtual_now();
            Timers::live_by(clock.clone());
            let wakes = Arc::new(AtomicUsize::new(0));
            let told = wakes.clone();
            let driver = ThreadLoopDriver::begin(move || {
                told.fetch_add(1, Ordering::Relaxed);
            });
            test(driver, clock, wakes);
        })
        .join()
        .expect("the test on that thread holds");
    }

    #[test]
    fn a_worker_without_a_loop_makes_none_by_looking() {
        on_worker(|driver, _, _| {
            assert!(!driver.has_work());
            assert_eq!(driver.live(), 0);
            assert_eq!(driver.turn(16), 0);
            assert_eq!(driver.next_deadline(), None);
            assert!(super::own_if_any().is_none());
        });
    }

    #[test]
    fn a_worker_drives_its_loop_turn_by_turn_and_keeps_its_time() {
        on_worker(|driver, clock, wakes| {
            let handle = ensure_thread_event_loop();
            assert_eq!(
                handle.state(),
                LoopState::Running,
                "somebody comes back to it"
            );
            assert!(running_loop().is_none(), "but it does not run now");
            let far = handle.clone();
            let nap = std::thread::spawn(move || {
                far.spawn(async {
                    assert!(running_loop().is_some());
                    yield_now().await;
                    sleep(Duration::from_secs(1_000)).await;
                })
            });
            let nap = nap.join().unwrap();
            assert_eq!(wakes.load(Ordering::Relaxed), 1);
            assert!(driver.has_work());
            assert_eq!(driver.live(), 1);
            assert_eq!(driver.turn(16), 1, "up to the yield");
            assert!(driver.has_work() && driver.next_deadline().is_none());
            driver.turn(16);
            assert!(
                driver.next_deadline().is_some(),
                "kept here, not handed over"
            );
            assert!(!driver.has_work());
            clock.advance(Duration::from_secs(2_000));
            assert_eq!(driver.turn(16), 2, "one timer, one task");
            assert!(nap.is_finished());
            assert_eq!((driver.live(), driver.next_deadline()), (0, None));
        });
    }

    #[test]
    fn a_job_may_run_the_loop_of_its_worker() {
        on_worker(|driver, _, _| {
            let kept = ensure_thread_event_loop().spawn(yield_now());
            let value = with_thread_event_loop(|own| own.run_until_complete(async { 3 }));
            assert_eq!(value.unwrap(), 3);
            assert_eq!(ensure_thread_event_loop().state(), LoopState::Running);
            while driver.has_work() {
                driver.turn(1);
            }
            assert!(kept.is_finished());
        });
    }

    #[test]
    fn a_loop_closed_by_a_job_is_made_again_for_the_driver() {
        on_worker(|driver, _, wakes| {
            let closed = ensure_thread_event_loop();
            with_thread_event_loop(|own| own.close());
            assert_eq!(closed.state(), LoopState::Closed);
            let again = ensure_thread_event_loop();
            std::thread::spawn(move || again.spawn(async {}).detach())
                .join()
                .unwrap();
            assert_eq!(wakes.load(Ordering::Relaxed), 1);
            assert_eq!(driver.turn(16), 1);
        });
    }

    #[test]
    fn a_task_settles_on_the_thread_that_polls_it_first() {
        on_worker(|driver, _, _| {
            let account = ensure_thread_event_loop();
            assert!(matches!((ON_THREAD_LOOP.home)().home(), Home::Thread(_)));
            let (task, handle) = spawn::remote(account.begin_task(), Some(ON_THREAD_LOOP), || {
                let stays = std::rc::Rc::new(4);
                assert!(running_loop().is_some_and(|own| own.is_current_thread()));
                async move {
                    yield_now().await;
                    *stays
                }
            });
            task.run();
            assert!(running_loop().is_none());
            assert!(driver.has_work());
            while driver.has_work() {
                driver.turn(16);
            }
            assert_eq!(handle.wait().unwrap(), 4);
        });
    }

    #[test]
    fn the_end_of_the_worker_closes_its_loop() {
        on_worker(|driver, _, _| {
            let handle = ensure_thread_event_loop();
            let task = handle.spawn(sleep(Duration::MAX));
            driver.turn(16);
            drop(driver);
            assert_eq!(handle.state(), LoopState::Closed);
            assert!(task.wait().unwrap_err().is_cancelled());
        });
    }
}
