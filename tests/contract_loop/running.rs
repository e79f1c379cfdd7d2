//! Running: order, threads, contexts, panics, and fairness between the three sources of work.

use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_task::{FutureObj, Spawn};
use portage::context::ContextVar;
use portage::event_loop::{
    LoopState, ensure_thread_event_loop, running_loop, with_thread_event_loop,
};
use portage::time::{sleep, yield_now};
use portage::{EventLoop, ExecutorExt, LoopHandle, block_on};

use crate::kit::{self, Diary, OnDrop, on_new_thread, scripted, text_of, watchdog};

#[test]
fn run_until_complete_gives_the_output_of_a_future_that_borrows_and_is_not_send() {
    let events = EventLoop::new();
    let text = Rc::new(String::from("borrowed"));
    let borrowed = &text;
    let length = events.run_until_complete(async {
        yield_now().await;
        borrowed.len()
    });
    assert_eq!(length.expect("it is idle"), 8);
    let again = events.run_until_complete(ready(2));
    assert_eq!(again.expect("it is reusable"), 2);
}

#[test]
fn inside_any_running_loop_of_this_thread_a_run_is_refused() {
    let events = EventLoop::new();
    let other = EventLoop::new();
    let refused = events.run_until_complete(async {
        let own = events.run_until_complete(ready(1)).expect_err("running");
        let other = other.run_until_complete(ready(1)).expect_err("running");
        let stopped = other_run(&events);
        own.is_already_running() && other.is_already_running() && stopped
    });
    assert!(refused.expect("it is idle"));
    assert_eq!(other.run_until_complete(ready(3)).expect("it is idle"), 3);
}

fn other_run(events: &EventLoop) -> bool {
    let error = events.run_until_stopped().expect_err("running");
    error.is_already_running() && !error.is_closed() && !error.is_wrong_thread()
}

#[test]
fn stop_ends_run_until_stopped() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let diary = Diary::new();
    let seen = diary.clone();
    let task = events.spawn_local(async move {
        yield_now().await;
        seen.note("task");
        handle.stop();
    });
    events.run_until_stopped().expect("it is idle");
    assert_eq!(diary.read(), ["task"]);
    assert!(task.is_finished());
    assert_eq!(events.handle().state(), LoopState::Idle);
}

#[test]
fn stop_from_another_thread_ends_a_parked_run() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            kit::eventually("the run", || handle.state() == LoopState::Running);
            handle.stop();
        });
        events.run_until_stopped().expect("it is idle");
    });
}

#[test]
fn a_stop_is_kept_for_the_next_run_until_stopped() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    events.handle().stop();
    assert_eq!(events.run_until_complete(ready(1)).expect("no such run"), 1);
    events.run_until_stopped().expect("it returns at once");

    let handle = events.handle();
    let value = events.run_until_complete(async move {
        handle.stop();
        yield_now().await;
        5
    });
    assert_eq!(value.expect("a stop is not for this run"), 5);
    events.run_until_stopped().expect("it returns at once");

    let handle = events.handle();
    let ran = Diary::new();
    let seen = ran.clone();
    let task = events.spawn_local(async move {
        yield_now().await;
        seen.note(());
        handle.stop();
    });
    events.run_until_stopped().expect("it is idle");
    assert_eq!(ran.len(), 1, "each stop ends one run");
    drop(task);
}

#[test]
fn first_polls_come_in_spawn_order_and_a_yielding_task_goes_to_the_back() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let diary = Diary::new();
    let tasks: Vec<_> = (0..4)
        .map(|number| {
            let seen = diary.clone();
            events.spawn_local(async move {
                for round in 0..3 {
                    seen.note((round, number));
                    yield_now().await;
                }
            })
        })
        .collect();
    events
        .run_until_complete(async {
            for task in tasks {
                task.await.expect("a value");
            }
        })
        .expect("it is idle");
    let expected: Vec<_> = (0..3)
        .flat_map(|round| (0..4).map(move |number| (round, number)))
        .collect();
    assert_eq!(diary.read(), expected);
}

#[test]
fn remote_tasks_and_jobs_come_in_order_per_submitter() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let diary = Diary::new();
    on_new_thread(|| {
        for number in 0..50 {
            let seen = diary.clone();
            if number % 2 == 0 {
                handle.spawn(async move { seen.note(number) }).detach();
            } else {
                let job = handle.submit(move || seen.note(number));
                job.expect("taken").detach();
            }
        }
        let handle = handle.clone();
        handle.submit(move || ()).expect("taken").detach();
    });
    let last = handle.submit(|| ()).expect("taken");
    events
        .run_until_complete(async {
            last.await.expect("a value");
            while handle.pending() > 0 {
                yield_now().await;
            }
        })
        .expect("it is idle");
    let seen = diary.read();
    let (tasks, jobs): (Vec<i32>, Vec<i32>) = seen.iter().partition(|number| *number % 2 == 0);
    assert_eq!(tasks, (0..50).step_by(2).collect::<Vec<_>>());
    assert_eq!(jobs, (1..50).step_by(2).collect::<Vec<_>>());
}

#[test]
fn an_idle_loop_keeps_work_for_its_next_run() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let task = on_new_thread(|| handle.spawn(async { std::thread::current().id() }));
    let made = on_new_thread(|| {
        handle.spawn_with(|| {
            let rc = Rc::new(std::thread::current().id());
            async move { *rc }
        })
    });
    assert_eq!(handle.pending(), 2, "tasks, started or not");
    let job = on_new_thread(|| handle.submit(|| std::thread::current().id()));
    let job = job.expect("taken");
    assert!(!task.is_finished() && !made.is_finished() && !job.is_finished());
    let here = std::thread::current().id();
    let seen = events.run_until_complete(async {
        let job = job.await.expect("a value");
        [
            task.await.expect("a value"),
            made.await.expect("a value"),
            job,
        ]
    });
    assert_eq!(seen.expect("it is idle"), [here; 3]);
    assert_eq!(handle.pending(), 0);
}

#[test]
fn a_suspended_task_goes_on_in_the_next_run() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let (conductor, future) = scripted();
    let task = events.spawn_local(async move { future.await + 1 });
    events.run_until_complete(yield_now()).expect("it is idle");
    assert!(!task.is_finished());
    assert_eq!(events.handle().pending(), 1);
    conductor.complete(1);
    let value = events.run_until_complete(task).expect("it is idle");
    assert_eq!(value.expect("a value"), 2);
}

#[test]
fn the_state_follows() {
    let events = EventLoop::new();
    let handle = events.handle();
    assert_eq!(handle.state(), LoopState::Idle);
    let inside = handle.clone();
    let state = events.run_until_complete(async move { inside.state() });
    assert_eq!(state.expect("it is idle"), LoopState::Running);
    assert_eq!(handle.state(), LoopState::Idle);
    assert_eq!(handle.thread_id(), std::thread::current().id());
    assert!(handle.is_current_thread());
    assert!(!on_new_thread(|| handle.is_current_thread()));
    events.close();
    assert_eq!(handle.state(), LoopState::Closed);
}

#[test]
fn running_loop_is_the_one_that_runs_on_this_thread_now() {
    assert!(running_loop().is_none());
    let events = EventLoop::new();
    let inside = events.run_until_complete(async {
        let running = running_loop().expect("it runs");
        yield_now().await;
        running.is_current_thread() && running.state() == LoopState::Running
    });
    assert!(inside.expect("it is idle"));
    assert!(running_loop().is_none());
    assert!(block_on(async { running_loop().is_none() }), "no loop runs");
    let handle = events.handle();
    let task = handle.spawn(async { running_loop().is_some() });
    let job = handle.submit(|| running_loop().is_some()).expect("taken");
    let both = events
        .run_until_complete(async { task.await.expect("a value") && job.await.expect("a value") });
    assert!(both.expect("it is idle"));
}

#[test]
fn a_thread_has_one_loop_of_its_own() {
    let _watch = watchdog(20);
    let mine = ensure_thread_event_loop();
    let task = ensure_thread_event_loop().spawn(async { 1 });
    assert_eq!(mine.pending(), 1, "the same loop");
    let value = with_thread_event_loop(|events| events.run_until_complete(task));
    assert_eq!(value.expect("it is idle").expect("a value"), 1);
    assert_eq!(mine.thread_id(), std::thread::current().id());
    let other = on_new_thread(ensure_thread_event_loop);
    assert_ne!(other.thread_id(), mine.thread_id());
    kit::eventually("the end of the other thread's loop", || {
        other.state() == LoopState::Closed
    });
    let late = other.spawn(async { 1 });
    assert!(late.wait().expect_err("refused").is_shut_down());
}

#[test]
fn the_loop_of_a_thread_that_ends_cancels_what_is_left() {
    let _watch = watchdog(20);
    let drops = kit::Drops::new();
    let token = drops.token();
    let (_conductor, future) = scripted::<()>();
    let task = on_new_thread(|| {
        let task = ensure_thread_event_loop().spawn(async move {
            let _held = token;
            future.await;
        });
        with_thread_event_loop(|events| events.run_until_complete(yield_now())).expect("idle");
        task
    });
    let error = task.wait().expect_err("its loop is gone");
    assert!(
        error.is_cancelled() || error.is_shut_down() || error.is_lost(),
        "{error}"
    );
    kit::eventually("the drop", || drops.live() == 0);
}

#[test]
fn a_panic_of_the_main_future_unwinds_and_the_loop_stays_usable() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let task = events.spawn_local(async {
        yield_now().await;
        7
    });
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        events.run_until_complete(async {
            yield_now().await;
            panic!("of the main future");
        })
    }));
    let payload = unwound.expect_err("it unwinds");
    assert_eq!(text_of(&*payload), "of the main future");
    assert!(running_loop().is_none());
    assert_eq!(events.handle().state(), LoopState::Idle);
    let value = events.run_until_complete(task).expect("usable");
    assert_eq!(value.expect("a value"), 7);
}

#[test]
fn a_panic_of_a_task_or_job_goes_to_its_handle() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let task = events.spawn_local(async { panic!("a task") });
    let made = handle.spawn_with(|| -> std::future::Ready<()> { panic!("the maker") });
    let job = handle.submit(|| panic!("a job")).expect("taken");
    let result = events.run_until_complete(async { (task.await, made.await, job.await) });
    let (task, made, job): (Result<(), _>, Result<(), _>, Result<(), _>) =
        result.expect("it is idle");
    for (result, said) in [(task, "a task"), (made, "the maker"), (job, "a job")] {
        let payload = result.expect_err("it panicked").into_panic();
        assert_eq!(text_of(&*payload.expect("a payload")), said);
    }
}

#[test]
fn a_panic_in_the_drop_of_a_future_or_its_output_stays_inside() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let events = EventLoop::new();
    let bomb = kit::PanicOnDrop("in a future");
    let suspended = events.spawn_local(async move {
        let _held = bomb;
        pending::<()>().await;
    });
    let bomb = kit::PanicOnDrop("an output");
    events.spawn_local(ready(bomb)).detach();
    events.run_until_complete(yield_now()).expect("it lives on");
    events.run_until_complete(yield_now()).expect("it lives on");
    assert!(suspended.is_finished(), "nothing can wake it: lost");
    assert!(suspended.wait().is_err());
}

#[test]
fn a_task_whose_wakers_are_gone_is_lost() {
    let _watch = watchdog(20);
    let drops = kit::Drops::new();
    let events = EventLoop::new();
    let token = drops.token();
    let forgotten = events.handle().spawn(async move {
        let _held = token;
        kit::Forgotten.await;
    });
    let (conductor, future) = scripted::<()>();
    let token = drops.token();
    let kept = events.spawn_local(async move {
        let _held = token;
        future.await;
    });
    let value = events.run_until_complete(forgotten).expect("it is idle");
    assert!(value.expect_err("nobody can wake it").is_lost());
    assert!(!kept.is_finished());
    assert_eq!(drops.live(), 1);
    drop(on_new_thread(|| conductor.take_waker()));
    let value = events.run_until_complete(kept).expect("it is idle");
    assert!(value.expect_err("nobody can wake it any more").is_lost());
    assert_eq!(drops.live(), 0);
}

#[test]
fn any_number_of_wakes_during_a_poll_leads_to_one_more_poll() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let mut polls = 0;
    let task = events.spawn_local(poll_fn(move |cx| {
        polls += 1;
        if polls == 1 {
            for _ in 0..10 {
                cx.waker().wake_by_ref();
                let waker = cx.waker().clone();
                waker.wake();
            }
            Poll::Pending
        } else {
            Poll::Ready(polls)
        }
    }));
    let polls = events.run_until_complete(task).expect("it is idle");
    assert_eq!(polls.expect("a value"), 2);
}

#[test]
fn a_late_wake_is_nothing() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let kept = Arc::new(std::sync::Mutex::new(None));
    let slot = kept.clone();
    let mut first = true;
    let task = events.spawn_local(poll_fn(move |cx| {
        *kit::lock(&slot) = Some(cx.waker().clone());
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }));
    events
        .run_until_complete(task)
        .expect("idle")
        .expect("a value");
    let waker = kit::lock(&kept).take().expect("kept");
    waker.wake_by_ref();
    events.run_until_complete(yield_now()).expect("it is idle");
    drop(events);
    waker.wake_by_ref();
    on_new_thread(move || waker.wake());
}

static LABEL: ContextVar<&str> = ContextVar::new("label");

#[test]
fn a_task_runs_and_is_dropped_in_the_context_of_its_spawn() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let diary = Diary::new();
    let spawn = |name: &'static str, events: &EventLoop| {
        let _scope = LABEL.scope(name);
        let (seen, dropped) = (diary.clone(), diary.clone());
        events.spawn_local(async move {
            let _bell = OnDrop::new(move || dropped.note((LABEL.get(), "dropped")));
            seen.note((LABEL.get(), "first"));
            drop(LABEL.set(if name == "a" {
                "a changed"
            } else {
                "b changed"
            }));
            yield_now().await;
            seen.note((LABEL.get(), "second"));
            if name == "b" {
                kit::Forgotten.await;
            }
        })
    };
    let _around = LABEL.scope("around");
    let (a, b) = (spawn("a", &events), spawn("b", &events));
    let ended = events.run_until_complete(async { (a.await.is_ok(), b.await.is_ok()) });
    assert_eq!(ended.expect("it is idle"), (true, false));
    assert_eq!(
        diary.read(),
        [
            (Some("a"), "first"),
            (Some("b"), "first"),
            (Some("a changed"), "second"),
            (Some("a changed"), "dropped"),
            (Some("b changed"), "second"),
            (Some("b changed"), "dropped"),
        ]
    );
    assert_eq!(LABEL.get(), Some("around"));
}

#[test]
fn it_is_a_spawn_of_the_futures_crates() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let handle = events.handle();
    let diary = Diary::new();
    let seen = diary.clone();
    let spawner: &dyn Spawn = &handle;
    spawner
        .spawn_obj(FutureObj::new(Box::new(async move { seen.note(1) })))
        .expect("taken");
    events.run_until_complete(yield_now()).expect("it is idle");
    assert_eq!(diary.read(), [1]);
    events.close();
    let refused = spawner.spawn_obj(FutureObj::new(Box::new(async {})));
    assert!(refused.expect_err("closed").is_shutdown());
}

// --- fairness -----------------------------------------------------------------------------------

/// Keeps `count` tasks busy until told to stop.
fn flood(events: &EventLoop, count: usize, stop: &Arc<AtomicBool>) {
    for _ in 0..count {
        let stop = stop.clone();
        events
            .spawn_local(async move {
                while !stop.load(Ordering::Relaxed) {
                    yield_now().await;
                }
            })
            .detach();
    }
}

#[test]
fn a_flood_of_ready_tasks_starves_neither_jobs_nor_timers() {
    let _watch = watchdog(30);
    let events = EventLoop::new();
    let handle = events.handle();
    let stop = Arc::new(AtomicBool::new(false));
    flood(&events, 500, &stop);
    let job = on_new_thread(|| handle.submit(|| 1)).expect("taken");
    events
        .run_until_complete(async {
            sleep(Duration::from_millis(2)).await;
            job.await.expect("a value");
            on_new_thread(|| handle.spawn(async {}))
                .await
                .expect("a value");
            stop.store(true, Ordering::Relaxed);
        })
        .expect("it is idle");
}

#[test]
fn a_flood_of_jobs_starves_neither_tasks_nor_timers() {
    let _watch = watchdog(30);
    let events = EventLoop::new();
    let handle = events.handle();
    let stop = Arc::new(AtomicBool::new(false));
    let ran = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (done, count) = (stop.clone(), ran.clone());
        let _end = OnDrop::new(|| stop.store(true, Ordering::Relaxed));
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let count = count.clone();
                let job = handle.submit(move || count.fetch_add(1, Ordering::Relaxed));
                drop(job);
            }
        });
        let task = events.spawn_local(async {
            for _ in 0..100 {
                yield_now().await;
            }
        });
        events
            .run_until_complete(async {
                sleep(Duration::from_millis(5)).await;
                task.await.expect("a value");
                while ran.load(Ordering::Relaxed) == 0 {
                    yield_now().await;
                }
            })
            .expect("it is idle");
    });
}

#[test]
fn a_flood_of_due_timers_starves_neither_tasks_nor_jobs() {
    let _watch = watchdog(30);
    let events = EventLoop::new();
    let handle: LoopHandle = events.handle();
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..500 {
        let stop = stop.clone();
        events
            .spawn_local(async move {
                while !stop.load(Ordering::Relaxed) {
                    // long enough to be pending at first, due at the next turn
                    sleep(Duration::from_micros(100)).await;
                }
            })
            .detach();
    }
    let job = on_new_thread(|| handle.submit(|| 1)).expect("taken");
    events
        .run_until_complete(async {
            for _ in 0..50 {
                yield_now().await;
            }
            job.await.expect("a value");
            stop.store(true, Ordering::Relaxed);
        })
        .expect("it is idle");
}

#[test]
fn a_main_future_is_looked_at_though_tasks_and_jobs_keep_coming() {
    let _watch = watchdog(30);
    let events = EventLoop::new();
    let stop = Arc::new(AtomicBool::new(false));
    flood(&events, 100, &stop);
    events
        .run_until_complete(async {
            for _ in 0..100 {
                yield_now().await;
            }
        })
        .expect("it is idle");
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn inside_another_running_loop_the_threads_own_is_still_its_own() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    let task = events.run_until_complete(async {
        let own = ensure_thread_event_loop();
        let running = running_loop().expect("it runs");
        assert_eq!(
            (own.state(), running.state()),
            (LoopState::Idle, LoopState::Running)
        );
        let task = own.spawn(async { 1 });
        Some(task)
    });
    let task = task.expect("it is idle").expect("spawned");
    assert!(!task.is_finished(), "the thread's own loop has not run");
    let value = with_thread_event_loop(|own| own.run_until_complete(task));
    assert_eq!(value.expect("it is idle").expect("a value"), 1);
}
