//! The promises of `portage::current_thread`, each as one test.
#![cfg(not(loom))]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod kit;

use std::cell::Cell;
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use portage::context::ContextVar;
use portage::promise::{Cancel, CancelHandle, JoinHandle};
use portage::{CurrentThreadExecutor, Executor, ExecutorExt, Job, promise};

use kit::guarded;

const LIMIT: Duration = Duration::from_secs(60);

/// Does `work` on another thread and waits for it without pumping any lane.
fn elsewhere<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    thread::spawn(work).join().unwrap()
}

type Log = Arc<Mutex<Vec<usize>>>;

fn note(log: &Log, entry: usize) -> impl FnOnce() + Send + 'static {
    let log = log.clone();
    move || log.lock().unwrap().push(entry)
}

fn send<T: Send + 'static>(to: &Sender<T>, value: T) -> impl FnOnce() + Send + 'static {
    let to = to.clone();
    move || to.send(value).unwrap()
}

#[test]
fn jobs_run_on_the_creating_thread() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        assert_eq!(lane.thread_id(), thread::current().id());
        let remote = lane.clone();
        let job = elsewhere(move || remote.submit(|| thread::current().id()).unwrap());
        let ran_on = lane.run_until_future(job).unwrap().unwrap();
        assert_eq!(ran_on, thread::current().id());
    });
}

#[test]
fn a_finished_future_is_polled_before_the_first_job() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let log = Log::default();
        let (remote, entry) = (lane.clone(), note(&log, 2));
        elsewhere(move || remote.submit(entry).unwrap().detach());
        let polled = log.clone();
        lane.run_until_future(poll_fn(move |_| {
            polled.lock().unwrap().push(1);
            Poll::Ready(())
        }))
        .unwrap();
        assert_eq!(*log.lock().unwrap(), [1, 2]);
    });
}

#[test]
fn jobs_run_first_in_first_out() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let log = Log::default();
        let (remote, entries) = (lane.clone(), log.clone());
        let last = elsewhere(move || {
            let jobs = (0..100).map(|i| remote.submit(note(&entries, i)).unwrap());
            jobs.collect::<Vec<_>>().pop().unwrap()
        });
        lane.run_until_future(last).unwrap().unwrap();
        assert_eq!(*log.lock().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn each_of_many_submitters_is_served_in_its_order() {
    guarded(|| {
        const EACH: usize = 500;
        let lane = CurrentThreadExecutor::new(None);
        let log = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(AtomicUsize::new(4 * EACH));
        let (done, all_done) = promise::<()>();
        let done = Arc::new(Mutex::new(Some(done)));
        let threads = (0..4).map(|who| {
            let (lane, log, left, done) = (lane.clone(), log.clone(), left.clone(), done.clone());
            thread::spawn(move || {
                for i in 0..EACH {
                    let (log, left, done) = (log.clone(), left.clone(), done.clone());
                    let job = move || {
                        log.lock().unwrap().push((who, i));
                        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                            let done = done.lock().unwrap().take().unwrap();
                            done.resolve(()).unwrap();
                        }
                    };
                    lane.submit(job).unwrap().detach();
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        lane.run_until_future(all_done).unwrap().unwrap();
        threads.into_iter().for_each(|t| t.join().unwrap());
        for who in 0..4 {
            let log = log.lock().unwrap();
            let order = log.iter().filter(|entry| entry.0 == who).map(|e| e.1);
            assert!(order.eq(0..EACH), "submitter {who} was overtaken by itself");
        }
    });
}

#[test]
fn the_future_is_looked_at_between_jobs() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let ran = Arc::new(AtomicUsize::new(0));
        let (done, mut finished) = promise::<()>();
        let (remote, count) = (lane.clone(), ran.clone());
        elsewhere(move || {
            let mut done = Some(done);
            for i in 0..1_000 {
                let mut done = if i == 2 { done.take() } else { None };
                let count = count.clone();
                let job = move || {
                    count.fetch_add(1, Ordering::Relaxed);
                    done.take().map(|done| done.resolve(()));
                };
                remote.submit(job).unwrap().detach();
            }
        });
        let seen = ran.clone();
        let ran_before = lane
            .run_until_future(poll_fn(move |cx| {
                let handle = std::pin::Pin::new(&mut finished);
                handle.poll(cx).map(|_| seen.load(Ordering::Relaxed))
            }))
            .unwrap();
        assert_eq!(
            ran_before, 3,
            "the future was not looked at after the job that completed it"
        );
        assert_eq!(
            ran.load(Ordering::Relaxed),
            1_000,
            "what was queued before was not drained"
        );
    });
}

#[test]
fn a_future_that_wakes_itself_does_not_starve_the_jobs() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let ran = Arc::new(AtomicUsize::new(0));
        let (remote, count) = (lane.clone(), ran.clone());
        elsewhere(move || {
            for _ in 0..10 {
                let count = count.clone();
                let job = move || {
                    count.fetch_add(1, Ordering::Relaxed);
                };
                remote.submit(job).unwrap().detach();
            }
        });
        lane.run_until_future(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            match ran.load(Ordering::Relaxed) {
                10 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        }))
        .unwrap();
    });
}

#[test]
fn jobs_do_not_poll_the_future() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let (remote, polls) = (lane.clone(), Cell::new(0));
        let mut last = elsewhere(move || {
            let jobs = (0..100).map(|_| remote.submit(|| ()).unwrap());
            jobs.collect::<Vec<_>>().pop().unwrap()
        });
        lane.run_until_future(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            std::pin::Pin::new(&mut last).poll(cx)
        }))
        .unwrap()
        .unwrap();
        assert_eq!(polls.get(), 2, "once at first and once when woken");
    });
}

#[test]
fn the_future_may_borrow_and_need_not_be_send() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let local = std::rc::Rc::new(Cell::new(1));
        let out = lane.run_until_future(async {
            local.set(local.get() + 1);
            &local
        });
        assert_eq!(out.unwrap().get(), 2);
    });
}

#[test]
fn another_thread_cannot_run_it() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let error = elsewhere(move || remote.run_until_future(pending::<()>()).unwrap_err());
        assert!(error.is_wrong_thread());
        lane.run_until_future(ready(())).unwrap();
    });
}

#[test]
fn it_runs_once() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        assert!(!lane.is_finished());
        lane.run_until_future(ready(())).unwrap();
        assert!(lane.is_finished());
        assert!(
            lane.run_until_future(pending::<()>())
                .unwrap_err()
                .is_finished()
        );
    });
}

#[test]
fn running_it_from_its_own_job_is_already_running() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let job = elsewhere(move || {
            let again = remote.clone();
            let job = move || again.run_until_future(pending::<()>()).unwrap_err();
            remote.submit(job).unwrap()
        });
        let error = lane.run_until_future(job).unwrap().unwrap();
        assert!(error.is_already_running());
    });
}

#[test]
fn the_owner_cannot_submit_even_when_it_is_finished() {
    guarded(|| {
        let older = CurrentThreadExecutor::new(None);
        let lane = CurrentThreadExecutor::new(Some(&older));
        assert!(lane.submit(|| ()).unwrap_err().is_own_thread());
        lane.run_until_future(async {
            assert!(lane.submit(|| ()).unwrap_err().is_own_thread());
        })
        .unwrap();
        assert!(lane.submit(|| ()).unwrap_err().is_own_thread());
        assert_eq!(older.queued(), 0);
    });
}

#[test]
fn a_refused_job_comes_back() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let (job, handle) = Job::new(|| 7);
        let job = lane.execute(job).unwrap_err().into_job().unwrap();
        lane.run_until_future(ready(())).unwrap();
        let remote = lane.clone();
        let error = elsewhere(move || remote.execute(job).unwrap_err());
        assert!(error.is_finished());
        error.into_job().unwrap().run();
        assert_eq!(handle.wait().unwrap(), 7);
    });
}

/// Runs `inner` to its end; while it drains, `late` runs on another thread.
fn while_draining<R: Send + 'static>(
    inner: &CurrentThreadExecutor,
    late: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (result, results) = channel();
    let remote = inner.clone();
    elsewhere(move || {
        let job = move || result.send(elsewhere(late)).unwrap();
        remote.submit(job).unwrap().detach();
    });
    inner.run_until_future(ready(())).unwrap();
    results.recv().unwrap()
}

#[test]
fn a_submission_while_draining_goes_to_the_nearest_unfinished_older_one() {
    guarded(|| {
        // The lanes in between are another thread's: the link crosses threads.
        let oldest = CurrentThreadExecutor::new(None);
        let finished = CurrentThreadExecutor::new(Some(&oldest));
        finished.run_until_future(ready(())).unwrap();
        let link = finished.clone();
        let (mut job, owner) = elsewhere(move || {
            let inner = CurrentThreadExecutor::new(Some(&link));
            let remote = inner.clone();
            let job = while_draining(&inner, move || {
                remote.submit(|| thread::current().id()).unwrap()
            });
            (job, thread::current().id())
        });
        assert_eq!(oldest.queued(), 1);
        assert!(
            job.try_take().is_none(),
            "redirected work waits for its owner"
        );
        let ran_on = oldest.run_until_future(job).unwrap().unwrap();
        assert_eq!(ran_on, thread::current().id());
        assert_ne!(ran_on, owner);
    });
}

#[test]
fn a_late_submission_without_an_older_one_is_refused_and_not_queued() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let error = while_draining(&lane, move || remote.submit(|| ()).unwrap_err());
        assert!(error.is_finished());
        assert!(error.into_job().is_some());
        assert_eq!(lane.queued(), 0);
    });
}

#[test]
fn a_late_submission_that_ends_at_a_lane_of_the_submitter_is_refused() {
    guarded(|| {
        let mine = CurrentThreadExecutor::new(None);
        let link = mine.clone();
        let theirs = elsewhere(move || {
            let inner = CurrentThreadExecutor::new(Some(&link));
            inner.run_until_future(ready(())).unwrap();
            inner
        });
        let error = theirs.submit(|| ()).unwrap_err();
        assert!(error.is_own_thread());
        assert_eq!(mine.queued(), 0);
    });
}

#[test]
fn a_finished_lane_of_the_submitter_is_passed_over() {
    guarded(|| {
        let (pass, passed) = channel();
        let (stop, stopped) = channel::<()>();
        let far = thread::spawn(move || {
            let lane = CurrentThreadExecutor::new(None);
            let (quit, quitted) = promise::<()>();
            pass.send((lane.clone(), quit)).unwrap();
            lane.run_until_future(quitted).unwrap().unwrap();
            stopped.recv().unwrap_err();
        });
        let (far_lane, quit) = passed.recv().unwrap();
        let mine = CurrentThreadExecutor::new(Some(&far_lane));
        mine.run_until_future(ready(())).unwrap();
        let link = mine.clone();
        let theirs = elsewhere(move || CurrentThreadExecutor::new(Some(&link)));
        let ran_on = theirs.submit(|| thread::current().id()).unwrap().wait();
        assert_eq!(ran_on.unwrap(), far_lane.thread_id());
        quit.resolve(()).unwrap();
        drop(stop);
        far.join().unwrap();
    });
}

/// asgiref D1: the inner future needs a job of the outer lane.
#[test]
fn a_thread_inside_an_inner_lane_serves_its_outer_lane() {
    guarded(|| {
        let outer = CurrentThreadExecutor::new(None);
        let remote = outer.clone();
        let nested = elsewhere(move || {
            let needed = remote.clone();
            let nest = move || {
                let inner = CurrentThreadExecutor::new(Some(&needed));
                let (done, finished) = promise();
                let helper = thread::spawn(move || {
                    let job = needed.submit(|| 5).unwrap();
                    done.resolve(job.wait().unwrap()).unwrap();
                });
                let value = inner.run_until_future(finished).unwrap().unwrap();
                helper.join().unwrap();
                value
            };
            remote.submit(nest).unwrap()
        });
        assert_eq!(outer.run_until_future(nested).unwrap().unwrap(), 5);
    });
}

#[test]
fn inner_and_outer_jobs_run_in_order_of_arrival() {
    guarded(|| {
        let outer = CurrentThreadExecutor::new(None);
        let inner = CurrentThreadExecutor::new(Some(&outer));
        let log = Log::default();
        let (lanes, entries) = ([outer.clone(), inner.clone()], log.clone());
        let last = elsewhere(move || {
            let jobs = (0..10).map(|i| lanes[i % 2].submit(note(&entries, i)).unwrap());
            jobs.collect::<Vec<_>>().pop().unwrap()
        });
        inner.run_until_future(last).unwrap().unwrap();
        assert_eq!(*log.lock().unwrap(), (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn a_wait_of_the_owner_pumps_its_lanes() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let (done, finished) = promise();
        let helper = thread::spawn(move || {
            let job = remote.submit(|| thread::current().id()).unwrap();
            done.resolve(job.wait().unwrap()).unwrap();
        });
        assert_eq!(finished.wait().unwrap(), thread::current().id());
        helper.join().unwrap();
    });
}

#[test]
fn the_owner_waiting_for_a_job_of_its_own_lane_runs_it() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let job = elsewhere(move || remote.submit(|| 3).unwrap());
        assert_eq!(job.wait().unwrap(), 3);
    });
}

#[test]
fn a_job_may_wait_for_a_later_job_of_its_lane() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let first = elsewhere(move || {
            let (pass, passed) = channel::<JoinHandle<i32>>();
            let first = remote
                .submit(move || passed.recv().unwrap().wait().unwrap() + 1)
                .unwrap();
            pass.send(remote.submit(|| 1).unwrap()).unwrap();
            first
        });
        assert_eq!(lane.run_until_future(first).unwrap().unwrap(), 2);
    });
}

#[test]
fn a_panic_of_the_future_unwinds_and_what_is_queued_is_lost() {
    guarded(|| {
        let older = CurrentThreadExecutor::new(None);
        let lane = CurrentThreadExecutor::new(Some(&older));
        let (first, other) = (lane.clone(), older.clone());
        let (queued, kept) =
            elsewhere(move || (first.submit(|| ()).unwrap(), other.submit(|| 1).unwrap()));
        let run = AssertUnwindSafe(|| lane.run_until_future(async { panic!("boom") }));
        let payload = catch_unwind(run).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"boom"));
        assert!(queued.wait().unwrap_err().is_lost());
        assert!(lane.is_finished());
        assert_eq!(older.run_until_future(kept).unwrap().unwrap(), 1);
    });
}

#[test]
fn a_panic_in_the_drop_of_the_future_is_contained() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("bomb");
        }
    }
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let bomb = Bomb;
        let done = lane.run_until_future(poll_fn(move |_| {
            let _kept = &bomb;
            Poll::Ready(1)
        }));
        assert_eq!(done.unwrap(), 1);
        assert!(lane.is_finished());
        let lane = CurrentThreadExecutor::new(None);
        let bomb = Bomb;
        let run = AssertUnwindSafe(|| {
            lane.run_until_future(poll_fn(move |_| -> Poll<()> {
                let _kept = &bomb;
                panic!("boom")
            }))
        });
        let payload = catch_unwind(run).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"boom"));
        assert!(lane.is_finished());
    });
}

#[test]
fn a_panic_of_a_job_goes_to_its_handle_and_the_lane_goes_on() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let (bad, good) = elsewhere(move || {
            let bad = remote.submit(|| panic!("boom")).unwrap();
            (bad, remote.submit(|| 1).unwrap())
        });
        assert_eq!(lane.run_until_future(good).unwrap().unwrap(), 1);
        let payload = bad.wait().unwrap_err().into_panic().unwrap();
        assert_eq!(payload.downcast_ref(), Some(&"boom"));
    });
}

#[test]
fn when_the_owner_thread_ends_what_is_queued_is_lost() {
    guarded(|| {
        let (lane, job) = elsewhere(|| {
            let lane = CurrentThreadExecutor::new(None);
            let remote = lane.clone();
            let job = elsewhere(move || remote.submit(|| ()).unwrap());
            (lane, job)
        });
        assert!(job.wait().unwrap_err().is_lost());
        assert!(lane.is_finished());
        assert!(lane.submit(|| ()).unwrap_err().is_finished());
        assert!(
            lane.run_until_future(ready(()))
                .unwrap_err()
                .is_wrong_thread()
        );
    });
}

#[test]
fn when_the_last_clone_goes_what_is_queued_is_lost() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let inner = CurrentThreadExecutor::new(Some(&lane));
        let remote = lane.clone();
        let mut job = elsewhere(move || remote.submit(|| ()).unwrap());
        drop(lane);
        assert!(job.try_take().is_none(), "the inner lane's link is a clone");
        drop(inner);
        assert!(job.wait().unwrap_err().is_lost());
    });
}

#[test]
fn the_last_clone_may_go_on_another_thread_inside_a_job() {
    guarded(|| {
        let outer = CurrentThreadExecutor::new(None);
        let short = CurrentThreadExecutor::new(None);
        let (lane, gone) = (outer.clone(), short.clone());
        let (job, lost) = elsewhere(move || {
            let lost = gone.submit(|| ()).unwrap();
            (lane.submit(|| 1).unwrap(), (lost, gone))
        });
        drop(short);
        let lost = elsewhere(move || {
            drop(lost.1);
            lost.0
        });
        assert!(lost.wait().unwrap_err().is_lost());
        assert_eq!(outer.run_until_future(job).unwrap().unwrap(), 1);
    });
}

#[test]
fn a_long_chain_of_links_ends_without_recursion() {
    guarded(|| {
        let mut newest = CurrentThreadExecutor::new(None);
        for _ in 0..100_000 {
            newest = CurrentThreadExecutor::new(Some(&newest));
        }
        drop(newest);
    });
}

#[test]
fn a_job_cancelled_before_its_start_never_runs_and_is_not_counted() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let (ran, runs) = channel();
        let (first, last) = elsewhere(move || {
            let first = remote.submit(send(&ran, 1)).unwrap();
            (first, remote.submit(send(&ran, 2)).unwrap())
        });
        assert_eq!(lane.queued(), 2);
        assert_eq!(first.cancel(), Cancel::Prevented);
        assert_eq!(lane.queued(), 1);
        assert!(first.wait().unwrap_err().is_cancelled());
        lane.run_until_future(last).unwrap().unwrap();
        assert_eq!(runs.iter().collect::<Vec<_>>(), [2]);
    });
}

#[test]
fn a_running_job_told_to_cancel_still_delivers() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let job = elsewhere(move || {
            let (pass, passed) = channel();
            let job = remote.submit(move || {
                let cancel: CancelHandle = passed.recv().unwrap();
                (cancel.cancel(), portage::cancel::is_cancelled())
            });
            let job = job.unwrap();
            pass.send(job.cancel_handle()).unwrap();
            job
        });
        let told = lane.run_until_future(job).unwrap().unwrap();
        assert_eq!(told, (Cancel::Requested, true));
    });
}

#[test]
fn a_job_runs_in_the_context_of_its_submission() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let job = elsewhere(move || {
            VAR.set(1);
            let job = remote.submit(|| VAR.get()).unwrap();
            VAR.set(2);
            job
        });
        VAR.set(3);
        assert_eq!(lane.run_until_future(job).unwrap().unwrap(), Some(1));
        assert_eq!(VAR.get(), Some(3));
    });
}

#[test]
fn it_is_an_executor() {
    guarded(|| {
        let lane = CurrentThreadExecutor::new(None);
        let remote: Arc<dyn Executor> = Arc::new(lane.clone());
        let job = elsewhere(move || remote.submit_named("name", || 4).unwrap());
        assert_eq!(job.name(), Some("name"));
        assert_eq!(lane.run_until_future(job).unwrap().unwrap(), 4);
    });
}

#[test]
fn a_new_lane_of_a_thread_local_destructor_refuses() {
    struct Late(Sender<bool>);
    impl Drop for Late {
        fn drop(&mut self) {
            let lane = CurrentThreadExecutor::new(None);
            let remote = lane.clone();
            let refused = thread::spawn(move || {
                let refused = remote.submit(|| ()).is_err();
                drop(remote);
                refused
            });
            let _ = self.0.send(refused.join().unwrap_or(false));
        }
    }
    thread_local! {
        static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) };
    }
    let (tell, told) = channel();
    guarded(move || LATE.with(|late| *late.borrow_mut() = Some(Late(tell))));
    // Whichever local goes first, nothing hangs and nothing panics.
    told.recv_timeout(LIMIT)
        .expect("the destructor ran to its end");
}

#[test]
fn it_is_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<CurrentThreadExecutor>();
}

#[test]
fn timers_fire_in_a_run_inside_a_loop_and_inside_a_block_on() {
    let nap = || portage::time::sleep(Duration::from_millis(5));
    let run = move || {
        let lane = CurrentThreadExecutor::new(None);
        lane.run_until_future(nap()).unwrap();
    };
    guarded(run);
    guarded(move || portage::block_on(async { run() }));
    guarded(move || {
        let event_loop = portage::EventLoop::new();
        event_loop.run_until_complete(async { run() }).unwrap();
    });
}
