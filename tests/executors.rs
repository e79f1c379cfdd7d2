//! What a user of `executors` may rely on, on all three of them.
#![cfg(not(loom))]

mod kit;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use kit::watchdog;
use portage::context::ContextVar;
use portage::executors::{
    AsyncExecutor, AsyncExecutorExt, DefaultBackgroundExecutor, EventLoopPoolExecutor, RunMultiple,
    TaskResult,
};
use portage::{ThreadPool, block_on, promise};

fn background() -> DefaultBackgroundExecutor {
    DefaultBackgroundExecutor::new().expect("a thread")
}

fn loops(size: usize) -> EventLoopPoolExecutor {
    EventLoopPoolExecutor::new(size).expect("threads")
}

fn pool() -> ThreadPool {
    ThreadPool::builder()
        .core_threads(2)
        .build()
        .expect("a legal pool")
}

/// Runs `check` on each kind of executor.
fn on_each(check: impl Fn(&dyn AsyncExecutor)) {
    let _dog = watchdog(60);
    check(&background());
    check(&loops(2));
    check(&pool());
}

fn options(max_workers: usize, timeout: Option<Duration>) -> RunMultiple {
    RunMultiple {
        max_workers,
        timeout,
    }
}

/// Never ready, and never lost: it keeps the waker of its task.
fn stuck() -> impl Future<Output = ()> + Send {
    let mut _kept = None;
    poll_fn(move |cx| {
        _kept = Some(cx.waker().clone());
        Poll::Pending
    })
}

/// Counts 0, 1, 2, ... up to an end; tells when it is dropped.
struct Numbers {
    next: u32,
    end: u32,
    made: Arc<AtomicUsize>,
    _dropped: Option<Tell>,
}

struct Tell(mpsc::Sender<std::thread::ThreadId>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(std::thread::current().id());
    }
}

impl Stream for Numbers {
    type Item = u32;
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        if self.next == self.end {
            return Poll::Ready(None);
        }
        self.next += 1;
        self.made.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(self.next - 1))
    }
}

fn numbers(end: u32) -> (Numbers, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let stream = Numbers {
        next: 0,
        end,
        made: made.clone(),
        _dropped: None,
    };
    (stream, made)
}

#[test]
fn run_gives_the_output() {
    on_each(|executor| assert_eq!(executor.run(async { 5 + 7 }).unwrap(), 12));
}

#[test]
fn a_panic_ends_only_its_task() {
    on_each(|executor| {
        let error = executor.run(async { panic!("boom") }).unwrap_err();
        assert!(error.is_panic());
        assert_eq!(executor.run(async { 1 }).unwrap(), 1);
    });
}

#[test]
fn run_on_an_own_thread_would_deadlock_and_does_not_run_the_future() {
    let _dog = watchdog(60);
    let cases: [Arc<dyn AsyncExecutor>; 3] =
        [Arc::new(background()), Arc::new(loops(2)), Arc::new(pool())];
    for executor in cases {
        let inside = executor.clone();
        let ran = Arc::new(AtomicUsize::new(0));
        let counted = ran.clone();
        let error = executor
            .run(async move {
                assert!(inside.is_own_thread());
                inside
                    .run(async move { counted.fetch_add(1, Ordering::SeqCst) })
                    .unwrap_err()
            })
            .unwrap();
        assert!(error.is_would_deadlock());
        assert_eq!(ran.load(Ordering::SeqCst), 0);
        assert!(!executor.is_own_thread());
    }
}

#[test]
fn shutdown_ends_every_pending_handle_and_later_submits_are_shut_down() {
    on_each(|executor| {
        let (started, begun) = mpsc::channel();
        let suspended = executor.submit(async move {
            started.send(()).unwrap();
            stuck().await;
        });
        begun.recv().unwrap();
        executor.shutdown(true);
        let error = suspended.wait().unwrap_err();
        assert!(error.is_cancelled() || error.is_shut_down() || error.is_lost());
        assert!(executor.run(async { 1 }).unwrap_err().is_shut_down());
        executor.shutdown(true);
        executor.shutdown(false);
    });
}

#[test]
fn shutdown_from_an_own_thread_is_legal() {
    let _dog = watchdog(60);
    let cases: [Arc<dyn AsyncExecutor>; 3] =
        [Arc::new(background()), Arc::new(loops(2)), Arc::new(pool())];
    for executor in cases {
        let inside = executor.clone();
        let handle = executor.submit(async move { inside.shutdown(true) });
        let _ = handle.wait();
        assert!(executor.run(async { 1 }).unwrap_err().is_shut_down());
    }
}

#[test]
fn dropping_an_executor_ends_what_is_pending() {
    let _dog = watchdog(60);
    let executor = background();
    let handle = executor.submit(stuck());
    drop(executor);
    assert!(handle.wait().is_err());
}

#[test]
fn results_come_in_the_order_of_completion() {
    on_each(|executor| {
        let (release_first, gate) = promise::<()>();
        let (release, second_gate) = promise::<()>();
        type Boxed = Pin<Box<dyn Future<Output = u8> + Send>>;
        let tasks: Vec<Boxed> = vec![
            Box::pin(async move {
                gate.await.unwrap();
                1
            }),
            Box::pin(async move {
                second_gate.await.unwrap();
                2
            }),
        ];
        let mut results = executor.run_multiple(tasks, RunMultiple::default());
        release.resolve(()).unwrap();
        let first = results.next().unwrap();
        assert_eq!((first.index, first.output.unwrap()), (1, 2));
        release_first.resolve(()).unwrap();
        let second = results.next().unwrap();
        assert_eq!((second.index, second.output.unwrap()), (0, 1));
        assert!(results.next().is_none());
    });
}

#[test]
fn no_more_than_max_workers_run_at_once_and_zero_counts_as_one() {
    on_each(|executor| {
        for (limit, allowed) in [(0, 1), (3, 3)] {
            let now = Arc::new(AtomicUsize::new(0));
            let most = Arc::new(AtomicUsize::new(0));
            let tasks = (0..20).map(|_| {
                let (now, most) = (now.clone(), most.clone());
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    portage::time::yield_now().await;
                    now.fetch_sub(1, Ordering::SeqCst);
                }
            });
            let results: Vec<_> = executor.run_multiple(tasks, options(limit, None)).collect();
            assert_eq!(results.len(), 20);
            assert!(most.load(Ordering::SeqCst) <= allowed);
        }
    });
}

#[test]
fn each_task_has_its_time_from_its_start() {
    on_each(|executor| {
        let tasks = (0..3).map(|_| stuck());
        let limit = options(1, Some(Duration::from_millis(5)));
        let results: Vec<TaskResult<()>> = executor.run_multiple(tasks, limit).collect();
        assert_eq!(
            results.len(),
            3,
            "the second waits for the first and still has its time"
        );
        assert!(results.iter().all(|result| !result.success()));
        assert!(
            results
                .iter()
                .all(|result| result.exception().unwrap().is_timed_out())
        );
    });
}

#[test]
fn a_late_result_is_a_timeout() {
    on_each(|executor| {
        let late = async {
            std::thread::sleep(Duration::from_millis(20)); // a poll that outlasts its limit
            7
        };
        let limit = options(1, Some(Duration::from_millis(1)));
        let result = executor.run_multiple([late], limit).next().unwrap();
        assert!(result.exception().unwrap().is_timed_out());
    });
}

#[test]
fn one_tasks_panic_leaves_the_others_their_results() {
    on_each(|executor| {
        let tasks = (0..5).map(|n| async move {
            assert_ne!(n, 2, "the one that fails");
            n
        });
        let mut sum = 0;
        let mut panics = 0;
        for result in executor.run_multiple(tasks, options(1, None)) {
            match result.output {
                Ok(n) => sum += n,
                Err(error) if error.is_panic() => panics += 1,
                Err(error) => panic!("unexpected: {error}"),
            }
        }
        assert_eq!((sum, panics), (8, 1));
    });
}

#[test]
fn dropping_the_stream_drops_what_has_not_started_and_cancels_what_runs() {
    on_each(|executor| {
        let (told, dropped) = mpsc::channel();
        let started = Arc::new(AtomicUsize::new(0));
        let (running, begun) = mpsc::channel();
        let tasks = (0..4).map(|_| {
            let tell = Tell(told.clone());
            let (started, running) = (started.clone(), running.clone());
            async move {
                let _tell = tell;
                started.fetch_add(1, Ordering::SeqCst);
                running.send(()).unwrap();
                stuck().await;
            }
        });
        let results = executor.run_multiple_async(tasks, options(1, None));
        begun.recv().unwrap();
        drop(results);
        for _ in 0..4 {
            dropped.recv().unwrap();
        }
        assert_eq!(started.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_batch_cut_off_by_a_shutdown_still_gives_one_result_per_task() {
    on_each(|executor| {
        let (running, begun) = mpsc::channel();
        let tasks = (0..5).map(|_| {
            let running = running.clone();
            async move {
                running.send(()).unwrap();
                stuck().await;
            }
        });
        let results = executor.run_multiple(tasks, options(2, None));
        begun.recv().unwrap();
        executor.shutdown(true);
        let mut indices: Vec<usize> = results
            .map(|result| {
                assert!(result.output.is_err());
                result.index
            })
            .collect();
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_batch_consumed_on_the_only_thread_that_could_do_it_would_deadlock() {
    let _dog = watchdog(60);
    let executors: [Arc<dyn AsyncExecutor>; 2] = [Arc::new(background()), Arc::new(loops(1))];
    for executor in executors {
        let inside = executor.clone();
        let errors = executor
            .run(async move {
                let tasks = (0..3).map(|n| async move { n });
                let results = inside.run_multiple(tasks, RunMultiple::default());
                results
                    .map(|result| result.output.unwrap_err())
                    .collect::<Vec<_>>()
            })
            .unwrap();
        assert_eq!(errors.len(), 3);
        assert!(errors.iter().all(portage::JoinError::is_would_deadlock));
    }
}

#[test]
fn a_batch_sees_the_context_of_the_call() {
    static REQUEST: ContextVar<u32> = ContextVar::new("request");
    on_each(|executor| {
        let _scope = REQUEST.scope(17);
        let tasks = (0..2).map(|_| async {
            let seen = REQUEST.get();
            let _ = REQUEST.set(99);
            seen
        });
        let seen: Vec<_> = executor
            .run_multiple(tasks, options(1, None))
            .map(|result| result.output.unwrap())
            .collect();
        assert_eq!(seen, [Some(17), Some(17)]);
    });
}

#[test]
fn a_stream_is_driven_by_one_task_and_starts_with_the_first_next() {
    on_each(|executor| {
        let (stream, made) = numbers(100);
        let mut items = executor.wrap_async_iterable(stream).prefetch(2);
        assert_eq!(made.load(Ordering::SeqCst), 0);
        assert_eq!(items.next().unwrap().unwrap(), 0);
        assert!(
            made.load(Ordering::SeqCst) <= 4,
            "at most two wait, one is taken, one is made"
        );
        let rest: Vec<u32> = items.map(Result::unwrap).collect();
        assert_eq!(rest, (1..100).collect::<Vec<_>>());
    });
}

#[test]
fn a_prefetch_of_zero_makes_each_item_on_demand() {
    on_each(|executor| {
        let (stream, made) = numbers(3);
        let mut items = executor.wrap_async_iterable(stream).prefetch(0);
        for expected in 0..3 {
            assert_eq!(items.next().unwrap().unwrap(), expected);
            assert_eq!(made.load(Ordering::SeqCst), expected as usize + 1);
        }
        assert!(items.next().is_none());
        assert!(items.next().is_none());
    });
}

#[test]
fn a_stream_cut_off_gives_one_error_then_ends() {
    on_each(|executor| {
        struct Stuck(u8);
        impl Stream for Stuck {
            type Item = u8;
            fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u8>> {
                if self.0 > 0 {
                    self.0 -= 1;
                    return Poll::Ready(Some(self.0));
                }
                // Keeps its waker, so that it is stuck and not lost.
                std::mem::forget(cx.waker().clone());
                Poll::Pending
            }
        }
        let mut items = executor.wrap_async_iterable(Stuck(1));
        assert_eq!(items.next().unwrap().unwrap(), 0);
        executor.shutdown(true);
        assert!(items.next().unwrap().is_err());
        assert!(items.next().is_none());
    });
}

#[test]
fn a_panicking_stream_gives_one_error_then_ends() {
    on_each(|executor| {
        struct Bad;
        impl Stream for Bad {
            type Item = u8;
            fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u8>> {
                panic!("bad stream")
            }
        }
        let mut items = executor.wrap_async_iterable(Bad);
        assert!(items.next().unwrap().unwrap_err().is_panic());
        assert!(items.next().is_none());
    });
}

#[test]
fn an_early_drop_drops_the_stream_on_its_loop() {
    let _dog = watchdog(60);
    let executor = background();
    let home = executor.handle().thread_id();
    let (told, dropped) = mpsc::channel();
    let (mut stream, _) = numbers(100);
    stream._dropped = Some(Tell(told));
    let mut items = executor.wrap_async_iterable(stream);
    assert!(items.next().is_some());
    drop(items);
    assert_eq!(dropped.recv().unwrap(), home);
}

#[test]
fn a_stream_consumed_on_its_only_thread_would_deadlock() {
    let _dog = watchdog(60);
    let executor = Arc::new(background());
    let inside = executor.clone();
    let (error, end) = executor
        .run(async move {
            let (stream, _) = numbers(3);
            let mut items = inside.wrap_async_iterable(stream);
            (items.next().unwrap().unwrap_err(), items.next().is_none())
        })
        .unwrap();
    assert!(error.is_would_deadlock() && end);
}

#[test]
fn a_pool_of_no_loops_is_invalid() {
    assert!(EventLoopPoolExecutor::new(0).unwrap_err().is_invalid());
}

#[test]
fn the_least_loaded_loop_is_chosen_and_asking_does_not_skew_the_balance() {
    let _dog = watchdog(60);
    let executor = loops(2);
    for _ in 0..5 {
        assert_eq!(executor.get_event_loop().unwrap().1, 0);
    }
    assert_eq!(executor.loads(), [0, 0]);
    let first = executor.submit(stuck());
    let second = executor.submit(stuck());
    assert_eq!(executor.loads(), [1, 1]);
    let tasks = executor.tasks();
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    assert_eq!(ids, [first.id(), second.id()]);
    assert_eq!(tasks[1].loop_index, 1);
    assert_ne!(tasks[0].thread, tasks[1].thread);
    drop((first.cancel(), first.wait()));
    assert_eq!(executor.get_event_loop().unwrap().1, 0);
    executor.shutdown(true);
    assert!(second.wait().is_err());
    assert!(executor.get_event_loop().unwrap_err().is_shut_down());
}

#[test]
fn the_loop_of_a_foreign_executor_is_a_spawn_away() {
    let _dog = watchdog(60);
    struct Foreign(Mutex<Option<EventLoopPoolExecutor>>);
    impl futures_task::Spawn for Foreign {
        fn spawn_obj(
            &self,
            future: futures_task::FutureObj<'static, ()>,
        ) -> Result<(), futures_task::SpawnError> {
            match &*self.0.lock().unwrap() {
                Some(executor) => executor.spawn_obj(future),
                None => Err(futures_task::SpawnError::shutdown()),
            }
        }
    }
    impl AsyncExecutor for Foreign {
        fn is_own_thread(&self) -> bool {
            false
        }
        fn shutdown(&self, _wait: bool) {
            *self.0.lock().unwrap() = None;
        }
    }
    let foreign = Foreign(Mutex::new(Some(loops(1))));
    assert_eq!(foreign.run(async { 3 }).unwrap(), 3);
    assert!(
        foreign
            .run(async { panic!("boom") })
            .unwrap_err()
            .is_panic()
    );
    let stuck = foreign.submit(stuck());
    let _ = stuck.cancel();
    assert!(stuck.wait().unwrap_err().is_cancelled());
    foreign.shutdown(true);
    assert!(foreign.run(async { 3 }).unwrap_err().is_shut_down());
}

#[test]
fn the_async_form_streams_the_same_results() {
    on_each(|executor| {
        let tasks = (0..4_u64).map(|n| async move { n * n });
        let mut results = executor.run_multiple_async(tasks, options(2, None));
        let mut sum = 0;
        while let Some(result) = block_on(poll_fn(|cx| Pin::new(&mut results).poll_next(cx))) {
            sum += result.output.unwrap();
        }
        assert_eq!(sum, 14);
    });
}
