//! One turn of a loop: a bounded share for each of its sources, in a fixed order.
//!
//! The shares keep a flood in one source from starving the others: between two looks at any
//! source lies at most one turn. Fewer timers fire in a turn than tasks run, so that ten
//! thousand timers due at once do not pile up in front of the tasks that are ready.

#![forbid(unsafe_code)]

use crate::deferred;
use crate::entered::run_lane_job;
use crate::event_loop::core::Core;
use crate::task::TaskRef;
use crate::timer::Timers;

/// Timers that fire in one turn at most.
const TIMERS: usize = 64;

/// The largest share of each source in one turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    pub(super) timers: usize,
    pub(super) arrived: usize,
    pub(super) ready: usize,
    pub(super) lanes: usize,
}

impl Shares {
    /// Of a loop that has its thread to itself.
    pub(super) const LOOP: Self = Self {
        timers: TIMERS,
        arrived: 64,
        ready: 128,
        lanes: 16,
    };

    /// Of a worker's loop, which leaves the lanes to the worker.
    pub(super) fn worker(tasks: usize) -> Self {
        Self {
            timers: TIMERS,
            arrived: tasks.div_ceil(2),
            ready: tasks.div_ceil(2),
            lanes: 0,
        }
    }
}

/// Runs one turn; says how many things it did. Zero: nothing can be done now.
pub(super) fn turn(core: &Core, timers: &Timers, shares: Shares) -> usize {
    let fired = timers.fire_due(shares.timers);
    let (backlog, behind) = run_backlog(core, shares.ready);
    core.shared.inbox.take(&mut core.arrived.borrow_mut());
    let arrived = run_arrived(core, shares.arrived);
    let ready = backlog + run_ready(core, behind);
    let lanes = (0..shares.lanes)
        .take_while(|_| deferred::run_one() || run_lane_job())
        .count();
    fired + arrived + ready + lanes
}

/// Runs everything that is queued now, once, but nothing that comes meanwhile.
pub(super) fn pass(core: &Core) {
    core.shared.inbox.take(&mut core.arrived.borrow_mut());
    let ready = core.ready.borrow().len();
    let backlog = run_ready(core, core.backlog.get());
    run_arrived(core, usize::MAX);
    run_ready(core, ready - backlog);
}

/// Runs the backlog, up to `share`. Says how many that were, and how many may run behind what has
/// arrived: what the backlog has queued, itself again perhaps, waits for the next turn.
#[inline]
fn run_backlog(core: &Core, share: usize) -> (usize, usize) {
    let backlog = core.backlog.get();
    if backlog == 0 {
        return (0, share);
    }
    let waiting = core.ready.borrow().len();
    let ran = run_ready(core, share.min(backlog));
    (ran, waiting.saturating_sub(ran).min(share - ran))
}

/// Runs what is ready now, up to `share`; what comes meanwhile waits.
fn run_ready(core: &Core, share: usize) -> usize {
    let count = core.ready.borrow().len().min(share);
    run_some(count, || core.pop_ready())
}

/// The same for what has arrived.
fn run_arrived(core: &Core, share: usize) -> usize {
    let count = core.arrived.borrow().len().min(share);
    run_some(count, || core.pop_arrived())
}

/// Fewer if a nested turn has taken some, or if something else comes first.
fn run_some(count: usize, next: impl Fn() -> Option<TaskRef>) -> usize {
    for done in 0..count {
        match next() {
            Some(task) => task.run(),
            None => return done,
        }
    }
    count
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Shares, turn};
    use crate::event_loop::EventLoop;
    use crate::executor::ExecutorExt;

    use crate::time::{sleep_until, yield_now};
    use crate::timer::{Timers, tests::with_clock};
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    /// Spawns a task that counts its polls until the counter is dropped elsewhere.
    fn yielder(event_loop: &EventLoop) -> Rc<Cell<usize>> {
        let polls = Rc::new(Cell::new(0));
        let theirs = Rc::downgrade(&polls);
        event_loop
            .spawn_local(async move {
                while let Some(polls) = theirs.upgrade() {
                    polls.set(polls.get() + 1);
                    drop(polls);
                    yield_now().await;
                }
            })
            .detach();
        polls
    }

    #[test]
    fn ten_thousand_timers_due_at_once_starve_neither_tasks_nor_jobs() {
        with_clock(|clock| {
            let event_loop = EventLoop::new();
            let deadline = clock.now() + Duration::from_secs(1);
            let fired = Rc::new(Cell::new(0));
            for _ in 0..10_000 {
                let fired = fired.clone();
                event_loop
                    .spawn_local(async move {
                        sleep_until(deadline).await;
                        fired.set(fired.get() + 1);
                    })
                    .detach();
            }
            let timers = Timers::enter();
            let core = event_loop.core();
            let run = core.begin().unwrap();
            while turn(core, &timers, Shares::LOOP) > 0 {}
            let polls = yielder(&event_loop);
            turn(core, &timers, Shares::LOOP);
            assert_eq!((fired.get(), polls.get()), (0, 1));
            clock.advance(Duration::from_secs(1));
            let far = event_loop.handle();
            let job = std::thread::spawn(move || far.submit(|| ()).unwrap());
            let job = job.join().unwrap();
            let mut turns = 0;
            while fired.get() < 10_000 {
                let before = (polls.get(), fired.get());
                turn(core, &timers, Shares::LOOP);
                turns += 1;
                assert_eq!(polls.get(), before.0 + 1, "once in every turn");
                assert!(fired.get() - before.1 <= 256);
                assert!(job.is_finished(), "in the first turn");
            }
            assert!(turns < 10_000 / 64 + 10);
            drop(run);
        });
    }

    #[test]
    fn a_turn_runs_a_bounded_share_of_each_queue() {
        with_clock(|_| {
            let event_loop = EventLoop::new();
            let core = event_loop.core();
            let timers = Timers::enter();
            let run = core.begin().unwrap();
            let polls: Vec<_> = (0..500).map(|_| yielder(&event_loop)).collect();
            let far = event_loop.handle();
            std::thread::spawn(move || {
                for _ in 0..500 {
                    far.submit(|| ()).unwrap().detach();
                }
            })
            .join()
            .unwrap();
            let done = turn(core, &timers, Shares::LOOP);
            assert_eq!(done, Shares::LOOP.ready + Shares::LOOP.arrived);
            let polled = polls.iter().map(|polls| polls.get()).sum::<usize>();
            assert_eq!(polled, Shares::LOOP.ready);
            for _ in 0..8 {
                turn(core, &timers, Shares::LOOP);
            }
            assert!(core.arrived.borrow().is_empty());
            assert!(polls.iter().all(|polls| (1..=3).contains(&polls.get())));
            drop(run);
        });
    }

    #[test]
    fn equal_deadlines_wake_in_order_of_registration() {
        with_clock(|clock| {
            let event_loop = EventLoop::new();
            let deadline = clock.now() + Duration::from_nanos(1);
            let order = Rc::new(std::cell::RefCell::new(Vec::new()));
            for n in 0..1_000 {
                let order = order.clone();
                event_loop
                    .spawn_local(async move {
                        sleep_until(deadline).await;
                        order.borrow_mut().push(n);
                    })
                    .detach();
            }
            let timers = Timers::enter();
            let run = event_loop.core().begin().unwrap();
            while turn(event_loop.core(), &timers, Shares::LOOP) > 0 {}
            assert_eq!(order.borrow().len(), 0, "not a nanosecond early");
            clock.advance(Duration::from_nanos(1));
            while turn(event_loop.core(), &timers, Shares::LOOP) > 0 {}
            assert!(order.borrow().iter().copied().eq(0..1_000));
            drop(run);
        });
    }
}
