//! The lane of a thread: order, ends, older lanes, and who serves whom while waiting.

#![cfg(not(loom))]

mod kit;

use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use portage::context::ContextVar;
use portage::promise::{Cancel, promise};
use portage::{
    CurrentThreadExecutor, Executor, ExecutorExt, Job, JoinHandle, SubmitError, block_on,
};

use kit::{Diary, Drops, Gate, OnDrop, OpenAtEnd, on_new_thread, scripted, watchdog};

fn this() -> ThreadId {
    std::thread::current().id()
}

fn lane() -> CurrentThreadExecutor {
    CurrentThreadExecutor::new(None)
}

/// Submits from another thread, as every submitter must.
fn submit<T: Send + 'static>(
    lane: &CurrentThreadExecutor,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, SubmitError> {
    on_new_thread(|| lane.submit(f))
}

fn queue<T: Send + 'static>(
    lane: &CurrentThreadExecutor,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    submit(lane, f).expect("taken")
}

/// A lane that has run to its end.
fn finished(older: Option<&CurrentThreadExecutor>) -> CurrentThreadExecutor {
    let lane = CurrentThreadExecutor::new(older);
    lane.run_until_future(ready(())).expect("its owner");
    assert!(lane.is_finished());
    lane
}

// --- run_until_future ---------------------------------------------------------------------------

#[test]
fn the_owner_is_the_creating_thread() {
    let lane = lane();
    assert_eq!(lane.thread_id(), this());
    assert_eq!(on_new_thread(|| lane.thread_id()), this());
    assert!(!lane.is_finished() && lane.queued() == 0);
}

#[test]
fn on_another_thread_it_is_the_wrong_thread() {
    let _watch = watchdog(20);
    let lane = lane();
    let diary = Diary::new();
    let error = on_new_thread(|| {
        let seen = diary.clone();
        lane.run_until_future(async move { seen.note("polled") })
            .expect_err("not the owner")
    });
    assert!(error.is_wrong_thread() && !error.is_finished());
    assert!(diary.read().is_empty());
    assert!(!lane.is_finished());
    assert_eq!(lane.run_until_future(ready(1)).expect("its owner"), 1);
}

#[test]
fn an_already_finished_future_is_polled_before_the_first_job() {
    let _watch = watchdog(20);
    let lane = lane();
    let diary = Diary::new();
    for number in [1, 2] {
        let seen = diary.clone();
        queue(&lane, move || seen.note(number)).detach();
    }
    assert_eq!(lane.queued(), 2);
    let seen = diary.clone();
    let done = lane.run_until_future(async move { seen.note(0) });
    done.expect("its owner");
    assert_eq!(diary.read(), [0, 1, 2], "then what was queued is drained");
    assert!(lane.is_finished() && lane.queued() == 0);
}

#[test]
fn queued_jobs_run_first_in_first_out_on_the_owner() {
    let _watch = watchdog(20);
    let lane = lane();
    let diary = Diary::new();
    let last = (0..50)
        .map(|number| {
            let seen = diary.clone();
            queue(&lane, move || seen.note((number, this())))
        })
        .reduce(|_, last| last);
    let last = last.expect("there are some");
    assert!(lane.run_until_future(last).expect("its owner").is_ok());
    let expected: Vec<_> = (0..50).map(|number| (number, this())).collect();
    assert_eq!(diary.read(), expected);
}

#[test]
fn the_future_may_borrow_and_need_not_be_send() {
    let lane = lane();
    let text = Rc::new(String::from("borrowed"));
    let borrowed = &text;
    let length = lane.run_until_future(async { borrowed.len() });
    assert_eq!(length.expect("its owner"), 8);
}

#[test]
fn the_future_is_looked_at_between_jobs() {
    let _watch = watchdog(20);
    let lane = lane();
    let diary = Diary::new();
    let (conductor, future) = scripted();
    let mut conductor = Some(conductor);
    for number in 0..20 {
        let seen = diary.clone();
        let conductor = if number == 10 { conductor.take() } else { None };
        queue(&lane, move || {
            seen.note(number);
            if let Some(conductor) = conductor {
                conductor.complete(());
            }
        })
        .detach();
    }
    let seen = diary.clone();
    lane.run_until_future(async move {
        future.await;
        seen.note(100);
    })
    .expect("its owner");
    let mut expected: Vec<i32> = (0..=10).collect();
    expected.push(100);
    expected.extend(11..20);
    assert_eq!(diary.read(), expected);
}

#[test]
fn a_flood_of_jobs_does_not_delay_the_end() {
    let _watch = watchdog(30);
    let lane = lane();
    let (conductor, future) = scripted();
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let mut taken = 0u64;
            let mut conductor = Some(conductor);
            while let Ok(handle) = lane.submit(|| ()) {
                handle.detach();
                taken += 1;
                if taken == 1000 {
                    conductor.take().expect("once").complete(());
                }
            }
            taken
        });
        lane.run_until_future(future).expect("its owner");
        assert!(flooding.join().expect("no panic") >= 1000);
    });
}

#[test]
fn a_second_run_is_refused_for_good() {
    let lane = finished(None);
    for _ in 0..2 {
        let error = lane
            .run_until_future(pending::<()>())
            .expect_err("single use");
        assert!(error.is_finished() && !error.is_already_running());
    }
}

#[test]
fn a_run_from_one_of_its_own_jobs_is_refused() {
    let _watch = watchdog(20);
    let lane = lane();
    let inner = lane.clone();
    let handle = queue(&lane, move || {
        let error = inner.run_until_future(ready(())).expect_err("it runs");
        error.is_already_running()
    });
    let result = lane.run_until_future(handle).expect("its owner");
    assert!(result.expect("a value"));
}

#[test]
fn a_panic_of_the_future_unwinds_to_the_caller_and_every_queued_handle_resolves() {
    let _watch = watchdog(20);
    let lane = lane();
    let handles: Vec<_> = (0..3).map(|number| queue(&lane, move || number)).collect();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        lane.run_until_future(async { panic!("of the future") })
    }));
    let payload = unwound.expect_err("it unwinds");
    assert_eq!(kit::text_of(&*payload), "of the future");
    for handle in handles {
        assert!(handle.is_finished(), "every queued handle resolves");
        let _ = handle.wait();
    }
    assert!(lane.is_finished());
    assert!(submit(&lane, || 1).expect_err("finished").is_finished());
}

#[test]
fn a_panic_of_a_job_goes_to_its_handle_and_the_lane_goes_on() {
    let _watch = watchdog(20);
    let lane = lane();
    let bad = queue(&lane, || -> u8 { panic!("a bad job") });
    let good = queue(&lane, || 2);
    let result = lane.run_until_future(good).expect("its owner");
    assert_eq!(result.expect("a value"), 2);
    assert!(bad.wait().expect_err("it panicked").is_panic());
}

#[test]
fn a_cancelled_job_is_skipped() {
    let _watch = watchdog(20);
    let lane = lane();
    let drops = Drops::new();
    let token = drops.token();
    let diary = Diary::new();
    let seen = diary.clone();
    let cancelled = queue(&lane, move || {
        seen.note("ran");
        drop(token);
    });
    let next = queue(&lane, || 1);
    assert_eq!(cancelled.cancel(), Cancel::Prevented);
    assert_eq!(drops.live(), 0);
    assert!(lane.run_until_future(next).expect("its owner").is_ok());
    assert!(diary.read().is_empty());
    assert!(cancelled.wait().expect_err("cancelled").is_cancelled());
}

#[test]
fn a_wake_from_another_thread_ends_the_wait() {
    let _watch = watchdog(20);
    let lane = lane();
    let (conductor, future) = scripted();
    let parked = Gate::new();
    let at = parked.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            parked.wait_entered(1);
            conductor.complete(9);
        });
        let mut future = future;
        let value = lane.run_until_future(poll_fn(move |cx| {
            let poll = std::pin::Pin::new(&mut future).poll(cx);
            at.open();
            at.pass();
            poll
        }));
        assert_eq!(value.expect("its owner"), 9);
    });
}

#[test]
fn jobs_submitted_while_it_waits_run_at_once() {
    let _watch = watchdog(20);
    let lane = lane();
    let owner = this();
    let (conductor, future) = scripted();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                let there = lane.submit(this).expect("taken").wait();
                assert_eq!(there.expect("a value"), owner);
            }
            conductor.complete(());
        });
        lane.run_until_future(future).expect("its owner");
    });
}

// --- submit -------------------------------------------------------------------------------------

#[test]
fn from_the_owner_it_is_the_own_thread() {
    let lane = lane();
    let error = lane.submit(|| 1).expect_err("the owner");
    assert!(error.is_own_thread() && !error.is_finished());
    assert!(error.into_job().is_some());
    assert_eq!(lane.queued(), 0);
    let (job, handle) = Job::new(|| 2);
    let error = lane.execute(job).expect_err("the owner");
    error.into_job().expect("it comes back").run();
    assert_eq!(handle.wait().expect("a value"), 2);
    let error = ExecutorExt::submit_named(&lane, "n", || 3).expect_err("the owner");
    assert!(error.is_own_thread());
}

#[test]
fn own_thread_is_checked_first_also_on_a_finished_lane() {
    let lane = finished(None);
    let error = lane.submit(|| 1).expect_err("the owner");
    assert!(error.is_own_thread() && !error.is_finished());
    let error = submit(&lane, || 1).expect_err("finished");
    assert!(error.is_finished() && !error.is_own_thread());
    assert!(error.into_job().is_some());
}

#[test]
fn a_walk_that_ends_at_a_lane_of_the_submitter_is_the_own_thread() {
    let outer = lane();
    let inner = on_new_thread(|| finished(Some(&outer)));
    let error = inner.submit(|| 1).expect_err("it would come back to me");
    assert!(error.is_own_thread());
    assert!(error.into_job().is_some());
    assert_eq!(outer.queued(), 0);
    let taken = submit(&inner, || 2).expect("the older one takes it");
    assert_eq!(outer.queued(), 1);
    assert_eq!(taken.wait().expect("the owner pumps"), 2);
}

#[test]
fn once_finished_it_goes_to_the_nearest_unfinished_older_lane() {
    let _watch = watchdog(20);
    let oldest = lane();
    let middle = CurrentThreadExecutor::new(Some(&oldest));
    let inner = finished(Some(&middle));
    let first = queue(&inner, || 1);
    assert_eq!((middle.queued(), oldest.queued()), (1, 0));
    middle
        .run_until_future(first)
        .expect("its owner")
        .expect("a value");
    let second = queue(&inner, || 2);
    assert_eq!(oldest.queued(), 1);
    let result = oldest.run_until_future(second).expect("its owner");
    assert_eq!(result.expect("a value"), 2);
    assert!(
        submit(&inner, || 3)
            .expect_err("none is left")
            .is_finished()
    );
    assert!(
        submit(&oldest, || 4)
            .expect_err("none is left")
            .is_finished()
    );
}

#[test]
fn while_it_drains_new_work_goes_to_the_older_lane() {
    let _watch = watchdog(20);
    let older = lane();
    for with_older in [true, false] {
        let lane = CurrentThreadExecutor::new(with_older.then_some(&older));
        let gate = Gate::new();
        let at = gate.clone();
        let draining = queue(&lane, move || at.pass());
        let behind = queue(&lane, || 5);
        std::thread::scope(|scope| {
            let _end = OpenAtEnd(gate.clone());
            let late = scope.spawn(|| {
                gate.wait_entered(1);
                assert!(!lane.is_finished() || lane.queued() == 1);
                let late = lane.submit(|| 6);
                gate.open();
                late
            });
            lane.run_until_future(ready(())).expect("its owner");
            let late = late.join().expect("no panic");
            if with_older {
                let late = late.expect("the older one takes it");
                assert!(!late.is_finished());
                assert_eq!(older.queued(), 1);
                assert_eq!(late.wait().expect("the owner pumps"), 6);
            } else {
                assert!(late.expect_err("no older one").is_finished());
            }
        });
        assert!(draining.wait().is_ok());
        assert_eq!(behind.wait().expect("drained"), 5);
        assert_eq!(lane.queued(), 0, "nothing is queued on the finished one");
    }
}

#[test]
fn a_submission_that_races_the_end_runs_or_is_refused() {
    let _watch = watchdog(30);
    for round in 0..200 {
        let lane = lane();
        let ran = Diary::new();
        let start = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            let submitters: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        (0..20)
                            .filter_map(|number| {
                                let ran = ran.clone();
                                lane.submit(move || ran.note(number)).ok()
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            start.wait();
            let mut polls = round % 8;
            lane.run_until_future(poll_fn(|cx| {
                if polls == 0 {
                    return Poll::Ready(());
                }
                polls -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }))
            .expect("its owner");
            let mut taken = 0;
            for submitter in submitters {
                for handle in submitter.join().expect("no panic") {
                    handle.wait().expect("taken before the end, so it ran");
                    taken += 1;
                }
            }
            assert_eq!(ran.len(), taken, "round {round}");
        });
    }
}

#[test]
fn many_submitters_keep_their_own_order() {
    let _watch = watchdog(30);
    let lane = lane();
    let diary = Diary::new();
    let (conductor, future) = scripted();
    std::thread::scope(|scope| {
        let (lane, diary) = (&lane, &diary);
        let submitters: Vec<_> = (0..4)
            .map(|who| {
                scope.spawn(move || {
                    for number in 0..500 {
                        let seen = diary.clone();
                        let job = move || seen.note((who, number));
                        lane.submit(job).expect("taken").detach();
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            for submitter in submitters {
                submitter.join().expect("no panic");
            }
            conductor.complete(());
        });
        lane.run_until_future(future).expect("its owner");
    });
    for who in 0..4 {
        let numbers: Vec<i32> = diary
            .read()
            .into_iter()
            .filter_map(|(from, number)| (from == who).then_some(number))
            .collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    }
}

#[test]
fn a_job_runs_inside_the_context_of_its_submitter() {
    static WHO: ContextVar<&str> = ContextVar::new("who");
    let _watch = watchdog(20);
    let lane = lane();
    let _owner = WHO.scope("owner");
    let handle = on_new_thread(|| {
        let _submitter = WHO.scope("submitter");
        lane.submit(|| WHO.get().inspect(|_| drop(WHO.set("job"))))
    });
    let result = lane.run_until_future(handle.expect("taken"));
    assert_eq!(
        result.expect("its owner").expect("a value"),
        Some("submitter")
    );
    assert_eq!(WHO.get(), Some("owner"));
}

// --- nested lanes and waiting -------------------------------------------------------------------

#[test]
fn a_thread_inside_an_inner_lane_also_serves_its_outer_lanes() {
    let _watch = watchdog(20);
    let outer = lane();
    let inside = outer.clone();
    let value = outer.run_until_future(async move {
        let inner = CurrentThreadExecutor::new(Some(&inside));
        let needed = queue(&inside, || 1);
        let also = queue(&inner, || 2);
        let sum = inner.run_until_future(async {
            needed.await.expect("a value") + also.await.expect("a value")
        });
        sum.expect("its owner")
    });
    assert_eq!(value.expect("its owner"), 3);
}

#[test]
fn a_job_of_an_outer_lane_may_wait_for_one_of_an_inner_lane() {
    let _watch = watchdog(20);
    let outer = lane();
    let inner = CurrentThreadExecutor::new(Some(&outer));
    let deep = queue(&inner, || 1);
    let needed = queue(&outer, move || deep.wait().expect("a value") + 1);
    let value = inner.run_until_future(needed).expect("its owner");
    assert_eq!(value.expect("a value"), 2);
}

#[test]
fn a_wait_on_the_owner_pumps_its_lanes() {
    let _watch = watchdog(20);
    let lane = lane();
    let handle = queue(&lane, this);
    assert_eq!(handle.wait().expect("a value"), this());

    let (writer, reader) = promise();
    queue(&lane, move || assert_eq!(writer.resolve(this()), Ok(()))).detach();
    assert_eq!(reader.wait().expect("a value"), this());

    let mut handle = queue(&lane, this);
    let result = handle.wait_timeout(Duration::from_secs(10));
    assert_eq!(result.expect("in time").expect("a value"), this());

    let handle = queue(&lane, this);
    assert_eq!(block_on(handle).expect("a value"), this());
    assert!(!lane.is_finished());
}

#[test]
fn a_wait_on_the_owner_serves_jobs_that_come_later() {
    let _watch = watchdog(20);
    let lane = lane();
    let (writer, reader) = promise();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                lane.submit(|| ()).expect("taken").wait().expect("a value");
            }
            writer.resolve(1)
        });
        assert_eq!(reader.wait().expect("a value"), 1);
    });
}

#[test]
fn a_wait_with_a_limit_pumps_and_still_ends_in_time() {
    let _watch = watchdog(20);
    let lane = lane();
    let diary = Diary::new();
    let seen = diary.clone();
    queue(&lane, move || seen.note(1)).detach();
    let (_writer, mut reader) = promise::<u8>();
    let start = Instant::now();
    assert!(reader.wait_timeout(Duration::from_millis(30)).is_none());
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(diary.read(), [1]);
}

#[test]
fn a_job_may_wait_for_a_later_job_of_its_own_lane() {
    let _watch = watchdog(20);
    let lane = lane();
    let (sender, receiver) = mpsc::channel::<JoinHandle<i32>>();
    let first = queue(&lane, move || {
        let later = receiver.recv().expect("sent");
        later.wait().expect("a value") + 1
    });
    let later = queue(&lane, || 10);
    sender.send(later).expect("it listens");
    let value = lane.run_until_future(first).expect("its owner");
    assert_eq!(value.expect("a value"), 11);
}

#[test]
fn two_jobs_of_one_thread_that_wait_for_each_other_get_an_error() {
    let _watch = watchdog(20);
    let lane = lane();
    let (to_first, for_first) = mpsc::channel::<JoinHandle<bool>>();
    let (to_second, for_second) = mpsc::channel::<JoinHandle<bool>>();
    let first = queue(&lane, move || {
        let second = for_first.recv().expect("sent");
        second.wait().expect("the second ends first")
    });
    let second = queue(&lane, move || {
        let first = for_second.recv().expect("sent");
        first
            .wait()
            .expect_err("it is below me")
            .is_would_deadlock()
    });
    let first_done = first.cancel_handle();
    to_second.send(first).expect("it listens");
    to_first.send(second).expect("it listens");
    let done = queue(&lane, || 0);
    assert!(lane.run_until_future(done).expect("its owner").is_ok());
    assert_eq!(first_done.cancel(), Cancel::TooLate);
}

// --- ends ---------------------------------------------------------------------------------------

#[test]
fn when_the_owner_thread_ends_queued_handles_are_lost_and_later_submits_refused() {
    let _watch = watchdog(20);
    let gate = Gate::new();
    let (sender, receiver) = mpsc::channel();
    let drops = Drops::new();
    let token = drops.token();
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let owner = scope.spawn(|| {
            sender.send(lane()).expect("it listens");
            gate.pass();
        });
        let lane = receiver.recv().expect("sent");
        let handle = lane.submit(move || drop(token)).expect("taken");
        assert!(!handle.is_finished());
        gate.open();
        owner.join().expect("no panic");
        let error = handle.wait().expect_err("nobody is left to run it");
        assert!(error.is_lost());
        assert_eq!(drops.live(), 0);
        let error = lane.submit(|| 1).expect_err("the owner is gone");
        assert!(error.is_finished());
        assert!(error.into_job().is_some());
        assert!(lane.is_finished() && lane.queued() == 0);
    });
}

#[test]
fn when_the_last_clone_goes_queued_handles_are_lost() {
    let _watch = watchdog(20);
    let drops = Drops::new();
    let token = drops.token();
    let lane = lane();
    let copy = lane.clone();
    let handle = queue(&lane, move || drop(token));
    drop(lane);
    assert!(!handle.is_finished(), "one clone is left");
    on_new_thread(move || drop(copy));
    assert!(handle.is_finished());
    assert!(handle.wait().expect_err("lost").is_lost());
    assert_eq!(drops.live(), 0);
}

#[test]
fn the_link_of_an_inner_lane_to_its_older_one_is_a_clone() {
    let _watch = watchdog(20);
    let outer = lane();
    let inner = finished(Some(&outer));
    drop(outer);
    let handle = queue(&inner, || 1);
    assert!(!handle.is_finished());
    assert_eq!(handle.wait().expect("the owner pumps"), 1);
    let handle = queue(&inner, || 2);
    drop(inner);
    assert!(handle.wait().expect_err("lost").is_lost());
}

#[test]
fn the_drop_of_a_lost_job_may_use_the_lane() {
    let _watch = watchdog(20);
    let lane = lane();
    let diary = Diary::new();
    let seen = diary.clone();
    let (sender, receiver) = mpsc::channel::<JoinHandle<()>>();
    let bell = OnDrop::new(move || {
        let other = receiver.recv().expect("sent");
        seen.note(other.cancel() == Cancel::TooLate);
        drop(other);
    });
    let first = queue(&lane, move || drop(bell));
    let second = queue(&lane, || ());
    sender.send(second).expect("it listens");
    drop(lane);
    assert!(first.wait().expect_err("lost").is_lost());
    assert_eq!(diary.len(), 1);
}

#[test]
fn a_panic_in_the_drop_of_a_queued_closure_does_not_stop_the_others() {
    let _watch = watchdog(20);
    kit::reports::listen();
    let lane = lane();
    let bomb = kit::PanicOnDrop("queued on a lane");
    let first = queue(&lane, move || drop(bomb));
    let second = queue(&lane, || 1);
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(lane)));
    assert!(dropped.is_ok());
    assert!(first.wait().expect_err("lost").is_lost());
    assert!(second.wait().expect_err("lost").is_lost());
}

#[test]
fn it_is_an_executor() {
    let _watch = watchdog(20);
    let lane = lane();
    let dynamic: std::sync::Arc<dyn Executor> = std::sync::Arc::new(lane.clone());
    let handle = on_new_thread(|| dynamic.submit_named("a name", this));
    let handle = handle.expect("taken");
    assert_eq!(handle.name(), Some("a name"));
    assert_eq!(handle.wait().expect("the owner pumps"), this());
}

// --- as the original has it ----------------------------------------------------------------------

#[test]
fn a_future_that_ends_cancelled_ends_the_run_too() {
    let _watch = watchdog(20);
    let lane = lane();
    let (_writer, handle) = promise::<u8>();
    let cancel = handle.cancel_handle();
    let job = queue(&lane, move || cancel.cancel());
    let result = lane.run_until_future(handle).expect("its owner");
    assert!(result.expect_err("cancelled").is_cancelled());
    assert_eq!(job.wait().expect("a value"), Cancel::Prevented);
    assert!(lane.is_finished());
}

#[test]
fn what_a_job_holds_is_dropped_before_the_next_one_runs() {
    let _watch = watchdog(20);
    let (lane, drops) = (lane(), Drops::new());
    let token = drops.token();
    let first = queue(&lane, move || drop(token.clone()));
    let counts = drops.clone();
    let second = queue(&lane, move || counts.live());
    let live = lane.run_until_future(second).expect("its owner");
    assert_eq!(live.expect("a value"), 0);
    first.wait().expect("a value");
}

#[test]
fn an_older_lane_may_belong_to_another_thread_which_then_runs_the_late_work() {
    let _watch = watchdog(20);
    let older = lane();
    let inner = on_new_thread(|| finished(Some(&older)));
    let late = queue(&inner, this);
    assert_eq!((inner.queued(), older.queued()), (0, 1));
    let ran_on = older.run_until_future(late).expect("its owner");
    assert_eq!(ran_on.expect("a value"), this());
}

/// asgiref takes the job and never runs it.
#[test]
fn late_work_for_an_older_lane_that_is_never_pumped_is_lost_with_its_owner() {
    let _watch = watchdog(20);
    let late = on_new_thread(|| {
        let older = lane();
        let inner = finished(Some(&older));
        queue(&inner, || unreachable!("nobody pumps"))
    });
    assert!(late.wait().expect_err("nobody is left").is_lost());
}
