//! Tasks on a pool: stealable ones, pinned ones, their wakers, cancels and ends.

use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_task::{FutureObj, Spawn};
use portage::cancel::is_cancelled;
use portage::context::ContextVar;
use portage::pool::Shutdown;
use portage::promise::Cancel;
use portage::time::{sleep, timeout, yield_now};

use super::{held, pool};
use crate::kit::{self, Diary, Drops, Gate, OnDrop, OpenAtEnd, lock, scripted, watchdog};

#[test]
fn a_task_runs_on_the_pools_threads() {
    let _watch = watchdog(20);
    let pool = pool(2, 2);
    let names = pool.spawn(async {
        let mut names = Vec::new();
        for _ in 0..10 {
            names.push(std::thread::current().name().map(str::to_owned));
            yield_now().await;
        }
        names
    });
    for name in names.wait().expect("a value") {
        assert!(name.expect("a name").starts_with("portage-"));
    }
}

#[test]
fn a_suspended_task_holds_no_thread() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let (conductor, future) = scripted();
    let task = pool.spawn(async move { future.await + 1 });
    for number in 0..10 {
        assert_eq!(
            pool.spawn_blocking(move || number).wait().expect("a value"),
            number
        );
    }
    kit::eventually("the first poll", || conductor.polls() == 1);
    let metrics = pool.metrics();
    assert_eq!(metrics.running, 1, "a suspended task counts as running");
    conductor.complete(1);
    assert_eq!(task.wait().expect("a value"), 2);
}

#[test]
fn many_tasks_ping_and_pong() {
    let _watch = watchdog(30);
    let pool = pool(2, 2);
    let tasks: Vec<_> = (0..200u32)
        .map(|number| {
            pool.spawn(async move {
                for _ in 0..20 {
                    yield_now().await;
                }
                number
            })
        })
        .collect();
    let sum: u32 = tasks
        .into_iter()
        .map(|task| task.wait().expect("a value"))
        .sum();
    assert_eq!(sum, 199 * 100);
}

#[test]
fn a_task_that_yields_starves_no_job() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = stop.clone();
    let busy = pool.spawn(async move {
        while !told.load(std::sync::atomic::Ordering::Relaxed) {
            yield_now().await;
        }
    });
    for number in 0..10 {
        assert_eq!(
            pool.spawn_blocking(move || number).wait().expect("a value"),
            number
        );
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    busy.wait().expect("a value");
}

#[test]
fn a_pinned_task_need_not_be_send_and_stays_on_its_thread() {
    let _watch = watchdog(20);
    let pool = pool(2, 2);
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            pool.spawn_pinned(move || {
                let made = std::thread::current().id();
                let rc = Rc::new(number);
                async move {
                    for _ in 0..20 {
                        assert_eq!(std::thread::current().id(), made);
                        yield_now().await;
                        sleep(Duration::from_micros(50)).await;
                    }
                    assert_eq!(std::thread::current().id(), made);
                    *rc
                }
            })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.wait().expect("a value"), number);
    }
}

#[test]
fn a_suspended_pinned_task_does_not_hold_its_worker() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let (conductor, future) = scripted();
    let task = pool.spawn_pinned(move || {
        let rc = Rc::new(1);
        async move { future.await + *rc }
    });
    kit::eventually("the first poll", || conductor.polls() == 1);
    assert_eq!(pool.spawn_blocking(|| 5).wait().expect("a value"), 5);
    conductor.complete(1);
    assert_eq!(task.wait().expect("a value"), 2);
}

#[test]
fn a_pinned_task_whose_maker_panics_tells_its_handle() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let task = pool.spawn_pinned(|| -> std::future::Ready<u8> { panic!("the maker") });
    assert!(task.wait().expect_err("it panicked").is_panic());
    assert_eq!(pool.spawn_blocking(|| 5).wait().expect("a value"), 5);
}

#[test]
fn a_pinned_task_is_dropped_on_its_own_thread() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let diary = Diary::new();
    let seen = diary.clone();
    let (conductor, future) = scripted::<()>();
    let task = pool.spawn_pinned(move || {
        let home = std::thread::current().id();
        let rc = Rc::new(());
        let bell = OnDrop::new(move || seen.note(std::thread::current().id() == home));
        async move {
            let _held = (rc, bell);
            future.await;
        }
    });
    kit::eventually("the first poll", || conductor.polls() == 1);
    assert_eq!(task.cancel(), Cancel::Requested);
    assert!(task.wait().expect_err("cancelled").is_cancelled());
    assert!(pool.shutdown(Shutdown::CancelQueued).completed);
    assert_eq!(diary.read(), [true]);
}

#[test]
fn timers_work_inside_tasks_and_jobs() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let start = Instant::now();
    let task = pool.spawn(sleep(Duration::from_millis(5)));
    task.wait().expect("a value");
    assert!(start.elapsed() >= Duration::from_millis(5));
    let limited = pool.spawn(timeout(Duration::from_millis(2), pending::<()>()));
    assert!(limited.wait().expect("a value").is_err());
    let job = pool.spawn_blocking(|| portage::block_on(sleep(Duration::from_millis(2))));
    job.wait().expect("a value");
}

#[test]
fn a_task_cancelled_before_its_start_never_runs() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let pool = held(&gate);
    let drops = Drops::new();
    let token = drops.token();
    let task = pool.spawn(async move { drop(token) });
    assert_eq!(task.cancel(), Cancel::Prevented);
    assert_eq!(drops.live(), 0);
    let token = drops.token();
    let pinned = pool.spawn_pinned(move || async move { drop(token) });
    assert_eq!(pinned.cancel(), Cancel::Prevented);
    assert!(pinned.is_finished());
    gate.open();
    assert!(task.wait().expect_err("cancelled").is_cancelled());
    assert!(pinned.wait().expect_err("cancelled").is_cancelled());
    kit::eventually("the drop", || drops.live() == 0);
}

#[test]
fn a_suspended_task_is_dropped_when_cancelled() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    for pinned in [false, true] {
        let drops = Drops::new();
        let token = drops.token();
        let (conductor, future) = scripted::<()>();
        let body = async move {
            let _held = token;
            future.await;
        };
        let task = if pinned {
            pool.spawn_pinned(move || body)
        } else {
            pool.spawn(body)
        };
        kit::eventually("the first poll", || conductor.polls() == 1);
        assert_ne!(task.cancel(), Cancel::TooLate);
        assert!(task.is_cancelled());
        assert!(task.wait().expect_err("cancelled").is_cancelled());
        kit::eventually("the drop", || drops.live() == 0);
        conductor.complete(());
    }
}

#[test]
fn a_task_told_to_stop_during_its_poll_ends_at_its_next_suspension() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    for completes in [true, false] {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        let task = pool.spawn(async move {
            at.pass();
            assert!(is_cancelled());
            if !completes {
                yield_now().await;
                panic!("after its end");
            }
            5
        });
        gate.wait_entered(1);
        assert_eq!(task.cancel(), Cancel::Requested);
        gate.open();
        let result = task.wait();
        if completes {
            assert_eq!(result.expect("the value wins"), 5);
        } else {
            assert!(result.expect_err("cancelled").is_cancelled());
        }
    }
}

#[test]
fn a_task_whose_wakers_are_gone_is_lost() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let drops = Drops::new();
    let (a, b) = (drops.token(), drops.token());
    let lost = pool.spawn(async move {
        let _held = a;
        kit::Forgotten.await;
    });
    assert!(lost.wait().expect_err("nobody can wake it").is_lost());
    let lost = pool.spawn_pinned(move || async move {
        let _held = b;
        kit::Forgotten.await;
    });
    assert!(lost.wait().expect_err("nobody can wake it").is_lost());
    kit::eventually("the drops", || drops.live() == 0);
    kit::eventually("the books", || pool.metrics().running == 0);
}

#[test]
fn a_panic_in_a_task_or_its_drops_kills_no_worker() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let pool = pool(1, 1);
    let bad = pool.spawn(async {
        yield_now().await;
        panic!("as planned");
    });
    let result: Result<(), _> = bad.wait();
    assert!(result.expect_err("it panicked").is_panic());
    pool.spawn(async { kit::PanicOnDrop("an output") }).detach();
    let bomb = kit::PanicOnDrop("a future");
    let lost = pool.spawn(async move {
        let _held = bomb;
        kit::Forgotten.await;
    });
    assert!(lost.wait().is_err());
    assert_eq!(pool.spawn_blocking(|| 1).wait().expect("a value"), 1);
    assert_eq!(pool.metrics().threads_started, 1);
}

#[test]
fn a_task_keeps_the_context_of_its_spawn_across_polls() {
    static LABEL: ContextVar<u32> = ContextVar::new("label");
    let _watch = watchdog(20);
    let pool = pool(2, 2);
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let _scope = LABEL.scope(number);
            pool.spawn(async move {
                for round in 0..10 {
                    assert_eq!(LABEL.get(), Some(number + round));
                    drop(LABEL.set(number + round + 1));
                    yield_now().await;
                }
                LABEL.get()
            })
        })
        .collect();
    for (number, task) in (0..).zip(tasks) {
        assert_eq!(task.wait().expect("a value"), Some(number + 10));
    }
    assert_eq!(LABEL.get(), None);
}

#[test]
fn wakes_from_everywhere_lead_to_polls_and_never_to_two_at_once() {
    let _watch = watchdog(30);
    let pool = pool(2, 4);
    let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
    let slot = waker.clone();
    let inside = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = stop.clone();
    let task = pool.spawn(poll_fn(move |cx| {
        use std::sync::atomic::Ordering::{AcqRel, Relaxed};
        assert!(!inside.swap(true, AcqRel), "two polls at once");
        *lock(&slot) = Some(cx.waker().clone());
        inside.store(false, Relaxed);
        if told.load(Relaxed) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let waker = lock(&waker).clone();
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
            });
        }
    });
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    kit::eventually("the last poll", || {
        let waker = lock(&waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
        task.is_finished()
    });
    task.wait().expect("no panic");
}

#[test]
fn it_is_a_spawn_of_the_futures_crates() {
    let _watch = watchdog(20);
    let pool = pool(1, 1);
    let diary = Diary::new();
    let seen = diary.clone();
    pool.spawn_obj(FutureObj::new(Box::new(async move { seen.note(1) })))
        .expect("taken");
    kit::eventually("the task", || diary.len() == 1);
    pool.shutdown(Shutdown::Drain);
    let refused = pool.spawn_obj(FutureObj::new(Box::new(async {})));
    assert!(refused.expect_err("shut down").is_shutdown());
}
