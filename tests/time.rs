//! What a user of `time` may rely on.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod kit;

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use kit::{guarded, in_time, run_all};
use portage::event_loop::with_thread_event_loop;
use portage::pool::Shutdown;
use portage::time::{Sleep, sleep, sleep_until, timeout, yield_now};
use portage::{EventLoop, ThreadPool, block_on};

/// For what comes at once, or never.
const SOON: Duration = Duration::from_secs(60);

struct Unpark(Thread);
impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A foreign runtime: knows nothing of this crate.
fn foreign<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        thread::park();
    }
}

async fn nap(duration: Duration) {
    let start = Instant::now();
    sleep(duration).await;
    assert!(start.elapsed() >= duration, "never early");
    sleep_until(start + duration).await;
}

#[test]
fn a_sleep_is_never_early_and_ends_wherever_it_is_awaited() {
    guarded(|| {
        let naps = [0, 1, 999, 100_000, 1_500_000, 7_000_001].map(Duration::from_nanos);
        for duration in naps {
            block_on(nap(duration));
            foreign(nap(duration));
            EventLoop::new().run_until_complete(nap(duration)).unwrap();
        }
    });
}

#[test]
fn a_sleep_ends_on_a_pool_worker_in_every_kind_of_work() {
    guarded(|| {
        let pool = ThreadPool::builder().core_threads(2).build().unwrap();
        let duration = Duration::from_millis(3);
        let tasks: Vec<_> = (0..20)
            .map(|n| match n % 4 {
                0 => pool.spawn(nap(duration)),
                1 => pool.spawn_pinned(move || {
                    let local = Rc::new(duration);
                    async move { nap(*local).await }
                }),
                2 => pool.spawn_blocking(move || block_on(nap(duration))),
                _ => pool.spawn_blocking(move || {
                    with_thread_event_loop(|own| own.run_until_complete(nap(duration))).unwrap();
                }),
            })
            .collect();
        for task in tasks {
            task.wait().unwrap();
        }
    });
}

/// One deadline for all, which nobody has come after: who does need not sleep, and has no place
/// among those who do.
fn who_ends_when(round: impl Fn(Instant) -> Vec<(usize, bool)>) -> Vec<usize> {
    in_time(|time| {
        let ends = round(Instant::now() + time);
        let all_slept = ends.iter().all(|(_, slept)| *slept);
        all_slept.then(|| ends.into_iter().map(|(n, _)| n).collect())
    })
}

/// Whether there was anything to wait for.
async fn slept_until(deadline: Instant) -> bool {
    let mut asleep = pin!(sleep_until(deadline));
    let slept = poll_fn(|cx| Poll::Ready(asleep.as_mut().poll(cx).is_pending())).await;
    if slept {
        asleep.await;
    }
    slept
}

#[test]
fn equal_deadlines_end_in_order_of_registration() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let ends = who_ends_when(|deadline| {
            let ends = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..500)
                .map(|n| {
                    let ends = ends.clone();
                    event_loop.spawn_local(async move {
                        let slept = slept_until(deadline).await;
                        ends.borrow_mut().push((n, slept));
                    })
                })
                .collect();
            run_all(&event_loop, tasks);
            ends.take()
        });
        assert_eq!(ends, (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn ten_thousand_sleeps_end_in_order_of_their_deadlines() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let start = Instant::now();
        let ends = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..10_000_u64)
            .map(|n| {
                let deadline = start + Duration::from_micros(n * 7_919 % 10_000);
                let ends = ends.clone();
                event_loop.spawn_local(async move {
                    sleep_until(deadline).await;
                    assert!(Instant::now() >= deadline);
                    ends.borrow_mut().push(deadline);
                })
            })
            .collect();
        run_all(&event_loop, tasks);
        assert_eq!(ends.borrow().len(), 10_000);
    });
}

#[test]
fn the_longest_duration_is_legal_and_is_never() {
    guarded(|| {
        for never in [Duration::MAX, Duration::from_secs(u64::MAX / 2)] {
            let mut endless = sleep(never);
            let limit = timeout(Duration::from_millis(2), &mut endless);
            assert!(block_on(limit).is_err());
            assert!(foreign(timeout(Duration::from_millis(2), endless)).is_err());
            assert_eq!(block_on(timeout(never, async { 1 })).unwrap(), 1);
            assert!(foreign(timeout(never, sleep(Duration::from_millis(1)))).is_ok());
        }
        for centuries in [1, 5, 50, 5_000_000] {
            let far = Duration::from_secs(centuries * 100 * 365 * 86_400);
            let nap = || sleep(Duration::from_millis(1));
            assert!(block_on(timeout(far, nap())).is_ok());
            assert!(block_on(timeout(Duration::from_millis(1), sleep(far))).is_err());
            assert!(foreign(timeout(Duration::from_millis(1), sleep(far))).is_err());
        }
        assert_eq!(sleep(Duration::MAX).deadline(), None);
    });
}

#[test]
fn a_timeout_polls_the_future_first_and_drops_it_before_it_returns() {
    guarded(|| {
        assert_eq!(block_on(timeout(Duration::ZERO, async { 5 })).unwrap(), 5);
        let alive = Rc::new(());
        let held = alive.clone();
        block_on(async {
            let limit = timeout(Duration::ZERO, async move {
                let _held = held;
                pending::<()>().await;
            });
            let elapsed = limit.await.unwrap_err();
            assert_eq!(Rc::strong_count(&alive), 1);
            assert!(!elapsed.to_string().is_empty());
        });
    });
}

#[derive(Default)]
struct Wakes(AtomicUsize);
impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_dropped_sleep_lets_its_waker_go_at_once() {
    guarded(|| {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let begun = |place: &dyn Fn(&mut Sleep)| {
            let mut sleep = sleep(Duration::from_secs(3_600));
            place(&mut sleep);
            sleep
        };
        let poll = |sleep: &mut Sleep| {
            assert!(
                Pin::new(sleep)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        };
        let on_loop = begun(&|sleep| {
            EventLoop::new()
                .run_until_complete(async { poll(sleep) })
                .unwrap();
        });
        let in_block_on = begun(&|sleep| block_on(async { poll(sleep) }));
        let outside = begun(&|sleep| poll(sleep));
        drop(waker);
        assert_eq!(Arc::strong_count(&wakes), 4);
        for (left, sleep) in [on_loop, in_block_on, outside].into_iter().enumerate() {
            thread::spawn(move || drop(sleep)).join().unwrap();
            assert_eq!(Arc::strong_count(&wakes), 3 - left);
        }
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    });
}

/// The loop that was to keep its time idles, or is gone; the waker is called all the same.
#[test]
fn a_sleep_begun_on_a_loop_that_ends_fires_wherever_it_is_polled_next() {
    guarded(|| {
        for close in [false, true] {
            let (deadline, sleep) = in_time(|time| {
                let event_loop = EventLoop::new();
                let deadline = Instant::now() + time;
                let mut sleep = sleep_until(deadline);
                let sleeps = event_loop
                    .run_until_complete(poll_fn(|cx| {
                        Poll::Ready(Pin::new(&mut sleep).poll(cx).is_pending())
                    }))
                    .unwrap();
                if close {
                    event_loop.close();
                }
                sleeps.then_some((deadline, sleep))
            });
            thread::spawn(move || foreign(sleep)).join().unwrap();
            assert!(Instant::now() >= deadline);
        }
    });
}

/// Nobody polls it again before it fires: the wake itself must come.
#[test]
fn a_sleep_left_by_its_loop_wakes_its_task() {
    guarded(|| {
        let (_event_loop, mut sleep, from) = in_time(|time| {
            let event_loop = EventLoop::new();
            let (to, from) = mpsc::channel();
            let waker = waker_that(move || to.send(()).unwrap());
            let mut sleep = sleep(time);
            let sleeps = event_loop
                .run_until_complete(async {
                    let cx = &mut Context::from_waker(&waker);
                    Pin::new(&mut sleep).poll(cx).is_pending()
                })
                .unwrap();
            sleeps.then_some((event_loop, sleep, from))
        });
        from.recv_timeout(SOON).expect("the driver fires it");
        assert!(
            Pin::new(&mut sleep)
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        );
    });
}

fn waker_that(f: impl Fn() + Send + Sync + 'static) -> Waker {
    struct Call<F>(F);
    impl<F: Fn() + Send + Sync> Wake for Call<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }
    Waker::from(Arc::new(Call(f)))
}

#[test]
fn a_task_whose_loop_idles_over_its_deadline_goes_on_in_the_next_run() {
    guarded(|| {
        let (event_loop, task) = in_time(|time| {
            let event_loop = EventLoop::new();
            let task = event_loop.spawn_local(nap(time));
            event_loop.run_until_complete(yield_now()).unwrap();
            (!task.is_finished()).then_some((event_loop, task))
        });
        event_loop.run_until_complete(task).unwrap().unwrap();
    });
}

#[test]
fn a_sleep_may_move_between_threads_and_loops() {
    guarded(|| {
        let (time, start, sleep) = in_time(|time| {
            let start = Instant::now();
            let mut sleep = sleep(time);
            for _ in 0..3 {
                let ended;
                (sleep, ended) = thread::spawn(move || {
                    let limited = timeout(Duration::from_millis(1), &mut sleep);
                    let limited = EventLoop::new().run_until_complete(limited).unwrap();
                    (sleep, limited.is_ok())
                })
                .join()
                .unwrap();
                if ended {
                    return None;
                }
            }
            Some((time, start, sleep))
        });
        foreign(sleep);
        assert!(start.elapsed() >= time);
    });
}

/// A rounding to whole milliseconds would make every one of them take as long.
#[test]
fn a_sleep_of_a_tenth_of_a_millisecond_does_not_take_a_whole_one() {
    guarded(|| {
        let mut took = (0..2_000).map(|_| {
            let start = Instant::now();
            block_on(sleep(Duration::from_micros(100)));
            start.elapsed()
        });
        assert!(took.any(|took| took < Duration::from_millis(1)));
    });
}

#[test]
fn the_futures_are_send_where_their_content_is() {
    fn send<T: Send>(_: &T) {}
    fn sync_unpin<T: Sync + Unpin + 'static>(_: &T) {}
    let sleep = sleep(Duration::ZERO);
    send(&sleep);
    sync_unpin(&sleep);
    send(&timeout(Duration::ZERO, async {}));
    send(&yield_now());
    assert!(format!("{sleep:?}").contains("deadline"));
}

#[test]
fn an_elapsed_sleep_stays_elapsed() {
    guarded(|| {
        let mut sleep = sleep(Duration::ZERO);
        for _ in 0..2 {
            block_on(&mut sleep);
        }
    });
}

/// What a worker does that is told which one it is.
type Work = Box<dyn FnOnce(ThreadId) + Send>;

/// Both workers are inside the same kind of code; the one that has a task's timer stays there until
/// the task has ended.
fn a_timer_fires_behind(begin: impl Fn(&ThreadPool, Work) + Send + 'static) {
    guarded(move || {
        in_time(|time| {
            let pool = two_workers();
            let (came, polled) = mpsc::channel();
            let (woken, ended) = mpsc::channel::<()>();
            let sleeper = pool.spawn(async move {
                came.send(thread::current().id()).unwrap();
                nap(time).await;
                drop(woken);
            });
            let its_worker = polled.recv().unwrap();
            let ended = Arc::new(Mutex::new(ended));
            let both = Arc::new(Barrier::new(2));
            let (tell, told) = mpsc::channel();
            for _ in 0..2 {
                let (both, ended, tell) = (both.clone(), ended.clone(), tell.clone());
                let work = move |here: ThreadId| {
                    both.wait();
                    if here == its_worker {
                        let ended = ended.lock().unwrap();
                        let came_first = ended.try_recv() == Err(mpsc::TryRecvError::Empty);
                        block_until_gone(&ended);
                        tell.send(came_first).unwrap();
                    }
                };
                begin(&pool, Box::new(work));
            }
            sleeper.wait().unwrap();
            told.recv_timeout(SOON).unwrap().then_some(())
        });
    });
}

#[test]
fn a_job_that_blocks_holds_up_no_timer_of_its_worker() {
    a_timer_fires_behind(|pool, work| {
        pool.spawn_blocking(|| work(thread::current().id()))
            .detach();
    });
}

#[test]
fn a_poll_that_blocks_holds_up_no_timer_of_its_worker() {
    a_timer_fires_behind(|pool, work| {
        pool.spawn(async move { work(thread::current().id()) })
            .detach();
    });
}

#[test]
fn a_wait_holds_up_no_timer_of_its_worker() {
    a_timer_fires_behind(|pool, work| {
        pool.spawn_blocking(move || {
            let (done, end) = portage::promise();
            let here = thread::current().id();
            thread::spawn(move || {
                work(here);
                let _ = done.resolve(());
            });
            end.wait().unwrap();
        })
        .detach();
    });
}

#[test]
fn an_executor_that_a_poll_runs_gets_its_sleeps() {
    guarded(|| {
        let pool = ThreadPool::builder()
            .core_threads(1)
            .max_threads(1)
            .build()
            .unwrap();
        let inside = pool.spawn(async {
            foreign(nap(Duration::from_millis(2)));
            // First as the task's own, then as that executor's.
            let (start, duration) = (Instant::now(), Duration::from_millis(5));
            let mut begun = Box::pin(sleep(duration));
            poll_fn(|cx| Poll::Ready(begun.as_mut().poll(cx).is_pending())).await;
            foreign(begun);
            assert!(start.elapsed() >= duration);
        });
        inside.wait().unwrap();
    });
}

#[test]
fn equal_deadlines_of_a_worker_s_tasks_end_in_order_of_registration() {
    guarded(|| {
        let pool = ThreadPool::builder()
            .core_threads(1)
            .max_threads(1)
            .build()
            .unwrap();
        let ends = who_ends_when(|deadline| {
            let ends = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..500)
                .map(|n| {
                    let ends = ends.clone();
                    pool.spawn(async move {
                        let slept = slept_until(deadline).await;
                        ends.lock().unwrap().push((n, slept));
                    })
                })
                .collect();
            tasks.into_iter().for_each(|task| task.wait().unwrap());
            mem::take(&mut *ends.lock().unwrap())
        });
        assert_eq!(ends, (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn the_sleeps_of_many_tasks_among_jobs_are_never_early() {
    guarded(|| {
        let pool = ThreadPool::builder().core_threads(2).build().unwrap();
        let tasks: Vec<_> = (0..2_000)
            .map(|n| match n % 4 {
                0 => pool.spawn_blocking(|| thread::sleep(Duration::from_micros(20))),
                _ => pool.spawn(nap(Duration::from_micros(n * 7 % 3_000))),
            })
            .collect();
        tasks.into_iter().for_each(|task| task.wait().unwrap());
    });
}

#[test]
fn a_pool_that_drains_waits_for_the_sleeps_of_its_tasks() {
    guarded(|| {
        let pool = ThreadPool::builder().core_threads(2).build().unwrap();
        let tasks: Vec<_> = (1..20)
            .map(|n| pool.spawn(nap(Duration::from_millis(n))))
            .collect();
        pool.shutdown(Shutdown::Drain);
        for task in tasks {
            assert!(task.is_finished());
            task.wait().unwrap();
        }
    });
}

fn two_workers() -> ThreadPool {
    let builder = ThreadPool::builder().core_threads(2).max_threads(2);
    builder.build().unwrap()
}

/// Blocks the thread, in a way that nobody sees, until the other end is dropped.
fn block_until_gone(end: &mpsc::Receiver<()>) {
    let outcome = end.recv_timeout(SOON);
    assert_eq!(outcome, Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn a_pinned_task_that_blocks_holds_up_no_timer_of_its_worker() {
    guarded(|| {
        let pool = two_workers();
        let (pinned, home) = mpsc::channel();
        let (go, gone) = portage::promise::<()>();
        let (woken, ended) = mpsc::channel::<()>();
        let blocker = pool.spawn_pinned(move || async move {
            pinned.send(thread::current().id()).unwrap();
            gone.await.unwrap();
            block_until_gone(&ended);
        });
        let its_worker = home.recv().unwrap();
        // Both workers poll at once; the one with the pinned task begins to sleep, and has that
        // woken meanwhile, so that it comes right after this poll.
        let both = Arc::new(Barrier::new(2));
        let duties = Arc::new(Mutex::new(Some((go, woken))));
        let tasks = [0, 1].map(|_| {
            let (both, duties) = (both.clone(), duties.clone());
            pool.spawn(async move {
                both.wait();
                if thread::current().id() != its_worker {
                    return;
                }
                let (go, woken) = duties.lock().unwrap().take().unwrap();
                let mut sleep = Box::pin(sleep(Duration::from_millis(20)));
                poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_pending())).await;
                thread::spawn(move || go.resolve(()).unwrap())
                    .join()
                    .unwrap();
                sleep.await;
                drop(woken);
            })
        });
        tasks.into_iter().for_each(|task| task.wait().unwrap());
        blocker.wait().unwrap();
    });
}

#[test]
fn a_sleep_that_another_task_takes_over_is_not_held_up_by_the_first() {
    guarded(|| {
        let pool = two_workers();
        let (begun, to_end) = portage::promise();
        let (woken, ended) = mpsc::channel::<()>();
        let second = pool.spawn(async move {
            let sleep: Pin<Box<Sleep>> = to_end.await.unwrap();
            sleep.await;
            drop(woken);
        });
        let first = pool.spawn(async move {
            let mut sleep = Box::pin(sleep(Duration::from_millis(20)));
            poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_pending())).await;
            let _ = begun.resolve(sleep);
            block_until_gone(&ended);
        });
        second.wait().unwrap();
        first.wait().unwrap();
    });
}
