//! Pools whose every worker blocks in a wait of ours: what is awaited there still runs, and
//! what only the waiting thread could do is an error, not a hang.

#![cfg(not(loom))]

mod kit;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use portage::bridge::async_to_sync;
use portage::event_loop::{ensure_thread_event_loop, running_loop, with_thread_event_loop};
use portage::pool::Starter;
use portage::promise::{Cancel, promise};
use portage::time::{sleep, timeout, yield_now};
use portage::{CurrentThreadExecutor, EventLoop, JoinHandle, ThreadPool, block_on};

use kit::{Gate, OpenAtEnd, on_new_thread, watchdog};

fn pool(threads: usize) -> ThreadPool {
    let builder = ThreadPool::builder().core_threads(threads);
    builder.max_threads(threads).build().expect("legal sizes")
}

fn current() -> ThreadPool {
    ThreadPool::current().expect("a worker")
}

/// Runs `job` on the only worker of a pool, whose stack has so many bytes.
fn on_the_only_worker_of<T: Send + 'static>(
    stack: usize,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    let builder = ThreadPool::builder().core_threads(1).max_threads(1);
    let pool = builder.stack_size(stack).build().expect("legal sizes");
    pool.spawn_blocking(job).wait().expect("a value")
}

/// Runs `job` on the only worker of a pool.
fn on_the_only_worker<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    let pool = pool(1);
    let outcome = pool.spawn_blocking(job).wait().expect("a value");
    assert_eq!(pool.metrics().threads_peak, 1);
    outcome
}

fn would_deadlock<T>(outcome: Result<T, portage::JoinError>) -> bool {
    outcome.is_err_and(|error| error.is_would_deadlock())
}

// --- a worker that has no stack left ----------------------------------------------------------

/// Jobs that wait for each other, so deep that no stack holds them: how many were nested.
fn nested(levels: u32, wait: fn(JoinHandle<u32>) -> Result<u32, portage::JoinError>) -> u32 {
    if levels == 0 {
        return 0;
    }
    let next = current().spawn_blocking(move || nested(levels - 1, wait));
    match wait(next) {
        Ok(deeper) => deeper + 1,
        Err(error) => {
            assert!(error.is_would_deadlock());
            1
        }
    }
}

#[test]
fn a_wait_that_the_stack_of_the_only_worker_cannot_hold_is_an_error() {
    let _watch = watchdog(60);
    for wait in [JoinHandle::wait, JoinHandle::wait_helping, block_on] {
        let depth = on_the_only_worker(move || nested(1_000_000, wait));
        assert!((20..1_000_000).contains(&depth), "{depth}");
    }
}

/// Pools of a few workers with small stacks, each with all that nests on it.
fn small_stacks<T: Send + 'static>(
    threads: usize,
    job: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let builder = ThreadPool::builder().core_threads(threads);
    let builder = builder.max_threads(threads).stack_size(128 << 10);
    builder.build().expect("legal sizes").spawn_blocking(job)
}

#[test]
fn waits_that_the_stacks_of_all_workers_cannot_hold_are_an_error() {
    let _watch = watchdog(60);
    for threads in [2, 3, 5] {
        for wait in [JoinHandle::wait, JoinHandle::wait_helping] {
            for _ in 0..5 {
                let depth = small_stacks(threads, move || nested(4_000, wait)).wait();
                let depth = depth.expect("a value");
                assert!((5..4_000).contains(&depth), "{depth}");
            }
        }
    }
}

#[test]
fn a_worker_with_room_goes_on_with_what_the_stack_of_another_cannot_hold() {
    let _watch = watchdog(60);
    for _ in 0..5 {
        let alone = on_the_only_worker_of(128 << 10, || nested(4_000, JoinHandle::wait));
        let (entered, inside) = mpsc::channel();
        let waits = small_stacks(2, move || {
            // Taken by the other worker, whose stack is used up first.
            let deep = current().spawn_blocking(move || {
                entered.send(()).expect("the first waits");
                nested(4_000, JoinHandle::wait)
            });
            inside.recv().expect("it runs");
            deep.wait().expect("a value")
        });
        let both = waits.wait().expect("a value");
        assert!(both > alone + alone / 2, "{both}, and {alone} on one stack");
    }
}

#[test]
fn trees_of_waits_deeper_than_all_stacks_come_to_an_end() {
    /// How many got an error.
    fn tree(levels: u32) -> u32 {
        if levels == 0 {
            return 0;
        }
        let below = || current().spawn_blocking(move || tree(levels - 1));
        let (left, right) = (below(), (levels % 250 == 0).then(below));
        let both = [Some(left), right].into_iter().flatten();
        both.map(|handle| match handle.wait() {
            Ok(errors) => errors,
            Err(error) => {
                assert!(error.is_would_deadlock(), "{error}");
                1
            }
        })
        .sum()
    }
    let _watch = watchdog(60);
    for threads in [2, 4] {
        let errors = small_stacks(threads, || tree(1_000)).wait();
        assert!(errors.expect("a value") > 0);
    }
}

#[test]
fn a_deep_wait_for_what_somebody_outside_brings_is_no_deadlock() {
    let _watch = watchdog(60);
    /// Waits at the end for what comes from outside.
    fn down(levels: u32, told: JoinHandle<u32>, at: mpsc::Sender<()>) -> u32 {
        if levels == 0 {
            at.send(()).expect("the test waits");
            return told.wait().expect("resolved");
        }
        let next = current().spawn_blocking(move || down(levels - 1, told, at));
        next.wait().expect("a value") + 1
    }
    let (done, told) = promise();
    let (at, deep) = mpsc::channel();
    let waits = small_stacks(2, move || down(8, told, at));
    deep.recv().expect("it goes down");
    done.resolve(1).expect("it is awaited");
    assert_eq!(waits.wait().expect("a value"), 9);
}

// --- a future that is driven on a worker ------------------------------------------------------

#[test]
fn block_on_runs_a_job_of_the_pool_that_it_awaits() {
    let _watch = watchdog(20);
    let same = on_the_only_worker(|| {
        let here = thread::current().id();
        let job = current().spawn_blocking(|| thread::current().id());
        block_on(job).expect("a value") == here
    });
    assert!(same);
}

#[test]
fn block_on_runs_a_task_of_the_pool_that_it_awaits_and_what_that_awaits() {
    let _watch = watchdog(20);
    let sum = on_the_only_worker(|| {
        let task = current().spawn(async {
            yield_now().await;
            let inner = current().spawn(async {
                let job = current().spawn_blocking(|| 1);
                yield_now().await;
                job.await.expect("a value") + 1
            });
            inner.await.expect("a value") + 1
        });
        block_on(async { task.await.expect("a value") + 1 })
    });
    assert_eq!(sum, 4);
}

#[test]
fn every_way_to_block_for_a_future_does() {
    let _watch = watchdog(20);
    let sum = on_the_only_worker(|| {
        let job = || current().spawn_blocking(|| 1);
        let nested = block_on(async { block_on(job()).expect("a value") });
        let looped = EventLoop::new().run_until_complete(job());
        let laned = CurrentThreadExecutor::new(None).run_until_future(job());
        let event_loop = EventLoop::new();
        let local = event_loop.spawn_local(async move { job().await.expect("a value") });
        let task = event_loop.run_until_complete(local);
        nested
            + looped.expect("it is idle").expect("a value")
            + laned.expect("it is new").expect("a value")
            + task.expect("it is idle").expect("a value")
    });
    assert_eq!(sum, 4);
}

#[test]
fn all_of_many_awaited_jobs_run() {
    let _watch = watchdog(60);
    let sum = on_the_only_worker(|| {
        let jobs = current().spawn_batch((0..500_u32).map(|n| move || n));
        block_on(async {
            let mut jobs: Vec<JoinHandle<u32>> = jobs;
            let mut sum = 0;
            // All are awaited at once, again and again.
            poll_fn(|cx| {
                jobs.retain_mut(|job| match pin!(job).poll(cx) {
                    Poll::Ready(n) => {
                        sum += n.expect("a value");
                        false
                    }
                    Poll::Pending => true,
                });
                if jobs.is_empty() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            sum
        })
    });
    assert_eq!(sum, 499 * 500 / 2);
}

#[test]
fn what_is_not_awaited_does_not_run_on_top_of_what_waits() {
    let _watch = watchdog(20);
    let pool = pool(1);
    let (done, told) = promise();
    let (entered, inside) = mpsc::channel();
    let first = pool.spawn_blocking(move || {
        entered.send(()).expect("the test waits");
        block_on(told).expect("resolved")
    });
    inside.recv().expect("it runs");
    // It waits for the first, which would be below it on the stack.
    let second = pool.spawn_blocking(move || first.wait().expect("a value") + 1);
    done.resolve(1).expect("it is awaited");
    assert_eq!(second.wait().expect("a value"), 2);
}

#[test]
fn a_limit_of_time_is_kept_and_nothing_runs_in_place_meanwhile() {
    let _watch = watchdog(20);
    let (late, resolve) = promise();
    let in_time = on_the_only_worker(move || {
        // Run in place, it would wait for what comes only after the limit.
        let job = current().spawn_blocking(move || resolve.wait().expect("resolved"));
        let limited = block_on(timeout(Duration::from_millis(5), job));
        late.resolve(1).expect("it is awaited");
        limited.is_err()
    });
    assert!(in_time);
}

// --- a handle that is waited for --------------------------------------------------------------

#[test]
fn a_wait_for_a_task_runs_the_job_that_it_awaits() {
    let _watch = watchdog(20);
    for helping in [false, true] {
        let two = on_the_only_worker(move || {
            let task = current().spawn(async {
                let job = current().spawn_blocking(|| 1);
                job.await.expect("a value") + 1
            });
            if helping {
                task.wait_helping()
            } else {
                task.wait()
            }
        });
        assert_eq!(two.expect("a value"), 2);
    }
}

#[test]
fn a_wait_for_a_task_that_was_suspended_before_runs_the_job_that_it_awaits() {
    let _watch = watchdog(20);
    for depth in 0..3 {
        let pool = pool(1);
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
        gate.wait_entered(1);
        // Polled before the job that waits has started; what it awaits stands behind that job.
        let mut task = pool.spawn(async {
            let job = current().spawn_blocking(|| 1);
            job.await.expect("a value")
        });
        for _ in 0..depth {
            task = pool.spawn(async { task.await.expect("a value") });
        }
        let waiting = pool.spawn_blocking(move || task.wait());
        gate.open();
        assert_eq!(waiting.wait().expect("a value").expect("a value"), 1);
    }
}

#[test]
fn a_task_that_another_thread_wakes_goes_on_however_deep() {
    let _watch = watchdog(20);
    for _ in 0..100 {
        let pool = pool(1);
        let (done, told) = promise();
        let (entered, inside) = mpsc::channel();
        let inner = pool.spawn(async { told.await.expect("resolved") + 1 });
        let outer = pool.spawn(async { inner.await.expect("a value") + 1 });
        let waiting = pool.spawn_blocking(move || {
            entered.send(()).expect("the test waits");
            block_on(outer)
        });
        inside.recv().expect("it runs");
        done.resolve(1).expect("it is awaited");
        assert_eq!(waiting.wait().expect("a value").expect("a value"), 3);
    }
}

#[test]
fn a_task_that_nobody_can_wake_is_lost_though_the_worker_that_would_find_out_waits_for_it() {
    let _watch = watchdog(20);
    let lost =
        |outcome: Result<(), portage::JoinError>| outcome.is_err_and(|error| error.is_lost());
    let both = on_the_only_worker(move || {
        let task = || current().spawn(std::future::pending::<()>());
        let nested = current().spawn(async move { task().await });
        let nested = lost(nested.wait().expect("a value"));
        nested && lost(task().wait()) && lost(block_on(task()))
    });
    assert!(both);
    // Its last waker goes while it is waited for.
    let (send, receive) = mpsc::channel();
    let pool = pool(1);
    let waits = pool.spawn_blocking(move || {
        let task = current().spawn(poll_fn(move |cx| {
            let _ = send.send(cx.waker().clone());
            Poll::<()>::Pending
        }));
        lost(task.wait())
    });
    drop(receive.recv().expect("it is polled"));
    drop(receive);
    assert!(waits.wait().expect("a value"));
}

// --- more workers than one --------------------------------------------------------------------

#[test]
fn the_last_worker_that_blocks_lets_another_one_go_on() {
    let _watch = watchdog(60);
    for round in 0..200 {
        let pool = pool(2);
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        let (done, told) = promise();
        // Free at first, then it blocks for what comes of the job that the other one awaits.
        let last = pool.spawn_blocking(move || {
            at.pass();
            told.wait()
        });
        gate.wait_entered(1);
        let (entered, inside) = mpsc::channel();
        let first = pool.spawn_blocking(move || {
            let job = current().spawn_blocking(move || done.resolve(1));
            entered.send(()).expect("the test waits");
            block_on(job)
        });
        inside.recv().expect("it runs");
        for _ in 0..round {
            std::hint::spin_loop();
        }
        gate.open();
        assert_eq!(last.wait().expect("a value").expect("resolved"), 1);
        first
            .wait()
            .expect("a value")
            .expect("a value")
            .expect("awaited");
    }
}

#[test]
fn all_workers_wait_for_tasks_that_await_jobs() {
    let _watch = watchdog(60);
    let pool = pool(3);
    let waiting: Vec<_> = (0..60)
        .map(|n| {
            let at = pool.clone();
            pool.spawn_blocking(move || {
                let inner = at.clone();
                let task = at.spawn(async move {
                    let job = inner.spawn_blocking(move || n);
                    yield_now().await;
                    job.await.expect("a value")
                });
                if n % 2 == 0 {
                    task.wait()
                } else {
                    block_on(task)
                }
            })
        })
        .collect();
    for (n, handle) in waiting.into_iter().enumerate() {
        assert_eq!(handle.wait().expect("a value").expect("a value"), n);
    }
}

/// Starts one worker, and the watchdog's thread, then no more.
#[derive(Default)]
struct Stingy(AtomicUsize);

impl Starter for Stingy {
    fn start(
        &self,
        name: String,
        _stack: Option<usize>,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>> {
        let is_worker = !name.contains("watchdog");
        if is_worker && self.0.fetch_add(1, Ordering::Relaxed) > 0 {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        thread::Builder::new().name(name).spawn(body)
    }
}

#[test]
fn where_the_system_gives_no_further_thread_the_one_there_is_goes_on() {
    let _watch = watchdog(20);
    let builder = ThreadPool::builder().core_threads(1).max_threads(8);
    let pool = builder.starter(Arc::new(Stingy::default())).build();
    let waiting = pool.expect("legal sizes").spawn_blocking(|| {
        let task = current().spawn(async {
            let job = current().spawn_blocking(|| 1);
            job.await.expect("a value")
        });
        (block_on(current().spawn_blocking(|| 1)), task.wait())
    });
    let (one, also) = waiting.wait().expect("a value");
    assert_eq!((one.expect("a value"), also.expect("a value")), (1, 1));
}

// --- pinned tasks -----------------------------------------------------------------------------

#[test]
fn a_pinned_task_that_never_waits_is_run_in_place() {
    let _watch = watchdog(20);
    let sum = on_the_only_worker(|| {
        let pinned = || current().spawn_pinned(|| async { 1 });
        let waited = pinned().wait().expect("a value");
        waited + block_on(pinned()).expect("a value")
    });
    assert_eq!(sum, 2);
}

#[test]
fn a_pinned_task_that_waits_on_the_thread_that_waits_for_it_would_deadlock() {
    let _watch = watchdog(20);
    let pool = pool(1);
    let (send, receive) = mpsc::channel();
    let both = pool.spawn_blocking(move || {
        let pinned = || {
            let send = send.clone();
            current().spawn_pinned(move || async move {
                yield_now().await;
                send.send(()).expect("the test waits");
            })
        };
        let limited = pinned().wait_timeout(Duration::from_secs(100));
        would_deadlock(pinned().wait())
            && would_deadlock(block_on(pinned()))
            && would_deadlock(block_on(async { pinned().await }))
            && would_deadlock(limited.expect("no timeout"))
    });
    assert!(both.wait().expect("a value"));
    for _ in 0..4 {
        receive.recv().expect("they go on once the job has ended");
    }
}

// --- only this very thread --------------------------------------------------------------------

#[test]
fn a_task_that_awaits_its_own_handle_gets_an_error() {
    let _watch = watchdog(20);
    let pool = pool(1);
    for is_chained in [false, true] {
        let (give, own) = promise::<JoinHandle<bool>>();
        let task = pool.spawn(async move {
            let own = own.await.expect("resolved");
            let own = if is_chained {
                own.map(|value| value)
            } else {
                own
            };
            would_deadlock(own.await)
        });
        let (outcome, told) = mpsc::channel();
        task.on_complete(move |how| outcome.send(how).expect("the test waits"));
        give.resolve(task).expect("it is awaited");
        let how = told.recv().expect("it ends");
        assert_eq!(how, portage::promise::Completion::Value);
    }
}

#[test]
fn a_job_that_blocks_on_its_own_handle_gets_an_error() {
    let _watch = watchdog(20);
    let pool = pool(2);
    let (give, own) = promise::<JoinHandle<bool>>();
    let (outcome, told) = mpsc::channel();
    let job = pool.spawn_blocking(move || {
        let mut own = own.wait().expect("resolved");
        let first = would_deadlock(block_on(&mut own));
        outcome
            .send(first && would_deadlock(block_on(async { (&mut own).await })))
            .expect("the test waits");
        drop(own);
        first
    });
    give.resolve(job).expect("it is awaited");
    assert!(told.recv().expect("it ends"));
}

#[test]
fn block_on_for_a_task_of_a_loop_of_this_thread_gets_an_error_and_the_outcome_stays() {
    let _watch = watchdog(20);
    on_new_thread(|| {
        let event_loop = EventLoop::new();
        let mut task = event_loop.spawn_local(async { 1 });
        assert!(would_deadlock(block_on(&mut task)));
        assert!(would_deadlock(block_on(async { (&mut task).await })));
        let mut far = ensure_thread_event_loop().spawn(async { 2 });
        assert!(would_deadlock(block_on(&mut far)));
        // Inside a task of the loop it is held up as well.
        let at = event_loop.handle();
        let nested =
            event_loop.spawn_local(async move { would_deadlock(block_on(at.spawn(async {}))) });
        let nested = event_loop.run_until_complete(nested).expect("it is idle");
        assert!(nested.expect("a value"));
        let task = event_loop.run_until_complete(task).expect("it is idle");
        assert_eq!(task.expect("it was not taken"), 1);
    });
}

#[test]
fn a_chain_whose_root_another_thread_is_just_cancelling_is_waited_for() {
    let _watch = watchdog(20);
    on_new_thread(|| {
        for by_await in [false, true] {
            let event_loop = EventLoop::new();
            let gate = Gate::new();
            let _end = OpenAtEnd(gate.clone());
            let task = event_loop.spawn_local(async { 1 });
            let cancel = task.cancel_handle();
            let at = gate.clone();
            task.on_complete(move |_| at.pass());
            let derived = task.map(|value| value + 1);
            thread::scope(|scope| {
                let canceller = scope.spawn(move || cancel.cancel());
                gate.wait_entered(1);
                // The root has ended, and the link is about to, on the other thread.
                assert!(!derived.is_finished());
                let opens = gate.clone();
                scope.spawn(move || {
                    thread::yield_now();
                    opens.open();
                });
                let outcome = if by_await {
                    block_on(derived)
                } else {
                    derived.wait()
                };
                assert!(outcome.expect_err("cancelled").is_cancelled());
                assert_eq!(canceller.join().expect("no panic"), Cancel::Prevented);
            });
        }
    });
}

#[test]
fn looking_at_a_handle_that_only_this_thread_can_satisfy_is_no_wait() {
    let _watch = watchdog(20);
    on_new_thread(|| {
        let event_loop = EventLoop::new();
        let mut task = event_loop.spawn_local(async { 1 });
        let mut cx = std::task::Context::from_waker(Waker::noop());
        assert!(pin!(&mut task).poll(&mut cx).is_pending());
        let done = event_loop.run_until_complete(async {
            // Another task of the same loop, and the root of the run: both may await it.
            sleep(Duration::from_millis(1)).await;
            task.await
        });
        assert_eq!(done.expect("it is idle").expect("a value"), 1);
    });
}

#[test]
fn a_nested_wait_for_what_waits_below_gets_an_error_also_by_await() {
    let _watch = watchdog(20);
    let ran = Arc::new(AtomicBool::new(false));
    let inside = ran.clone();
    let pool = pool(1);
    let (give, own) = promise::<JoinHandle<()>>();
    let outer = pool.spawn_blocking(move || {
        let own = own.wait().expect("resolved");
        let job = current().spawn_blocking(move || would_deadlock(block_on(own)));
        inside.store(block_on(job).expect("a value"), Ordering::Release);
    });
    let (ended, told) = mpsc::channel();
    outer.on_complete(move |_| ended.send(()).expect("the test waits"));
    give.resolve(outer).expect("it is awaited");
    told.recv().expect("it ends");
    assert!(ran.load(Ordering::Acquire));
}

// --- what runs in place is no part of what it lies on -----------------------------------------

#[test]
fn a_job_that_runs_in_place_inside_a_loop_is_not_inside_that_loop() {
    let _watch = watchdog(20);
    /// Does everything that a loop below would refuse.
    fn free() -> bool {
        let own = with_thread_event_loop(|own| own.run_until_complete(async { 1 }));
        let fresh = EventLoop::new().run_until_complete(async { 1 });
        let bridged = async_to_sync(|| async { 1 }).call();
        running_loop().is_none() && own.is_ok() && fresh.is_ok() && bridged.is_ok()
    }
    let job = || current().spawn_blocking(free);
    let waited = on_the_only_worker(move || {
        let event_loop = EventLoop::new();
        let task = event_loop.spawn_local(async move { job().wait() });
        let waited = event_loop.run_until_complete(task).expect("it is idle");
        let awaited = event_loop.run_until_complete(job());
        (waited.expect("a value"), awaited.expect("it is idle"))
    });
    assert!(waited.0.expect("a value") && waited.1.expect("a value"));
}

#[test]
fn the_loop_that_a_job_in_place_lies_on_cannot_be_run_by_it() {
    let _watch = watchdog(20);
    let refused = on_the_only_worker(|| {
        with_thread_event_loop(|own| {
            own.run_until_complete(async {
                let job = current().spawn_blocking(|| {
                    with_thread_event_loop(|own| own.run_until_complete(async { 1 }))
                });
                job.wait()
            })
        })
    });
    let inner = refused.expect("it is idle").expect("a value");
    assert!(inner.is_err_and(|error| error.is_already_running()));
}
