//! Handles, promises, sleeps, and our own runtimes beside theirs.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portage::promise::Cancel;
use portage::time::{sleep, timeout};
use portage::{Context, ContextVar, EventLoop, ThreadPool, block_on, promise};
use tokio::sync::{mpsc, oneshot};

use crate::kit::{Drops, Gate, OpenAtEnd, watchdog};
use crate::{on_each, runtimes};

fn pool() -> ThreadPool {
    let builder = ThreadPool::builder().core_threads(2).max_threads(8);
    builder.build().expect("legal sizes")
}

#[test]
fn a_tokio_task_awaits_jobs_and_tasks_of_a_pool() {
    on_each(|| async {
        let pool = pool();
        let jobs: Vec<_> = (0..100).map(|i| pool.spawn_blocking(move || i)).collect();
        let mut sum = 0;
        for job in jobs {
            sum += job.await.expect("no panic");
        }
        assert_eq!(sum, 4950);
        assert_eq!(pool.spawn(async { 7 }).await.expect("no panic"), 7);
        assert_eq!(
            pool.spawn_pinned(|| async { 8 }).await.expect("no panic"),
            8
        );
        let panicked = pool.spawn_blocking(|| panic!("seen")).await;
        assert!(panicked.expect_err("it panics").is_panic());
    });
}

#[test]
fn while_a_job_is_awaited_the_runtimes_thread_does_other_things() {
    on_each(|| async {
        let pool = pool();
        let gate = Gate::new();
        let _open = OpenAtEnd(gate.clone());
        let at = gate.clone();
        let job = pool.spawn_blocking(move || at.pass());
        let opens = gate.clone();
        // only another task of the runtime ends the job
        let other = tokio::spawn(async move {
            tokio::task::yield_now().await;
            opens.open();
        });
        job.await.expect("no panic");
        other.await.expect("no panic");
    });
}

#[test]
fn a_handle_takes_part_in_select_and_may_be_cancelled_there() {
    on_each(|| async {
        let pool = pool();
        let mut never = pool.spawn(sleep(Duration::MAX));
        tokio::select! {
            biased;
            _ = &mut never => panic!("it never ends"),
            () = sleep(Duration::from_millis(1)) => {}
        }
        assert_ne!(never.cancel(), Cancel::TooLate);
        assert!(never.await.expect_err("cancelled").is_cancelled());
    });
}

#[test]
fn a_promise_lost_with_its_tokio_task_resolves_its_handle() {
    on_each(|| async {
        let (writer, handle) = promise::<u32>();
        let task = tokio::spawn(async move {
            let _kept = writer;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        task.abort();
        assert!(handle.await.expect_err("nobody is left").is_lost());
        let (writer, handle) = promise::<u32>();
        let answers = tokio::spawn(async move { writer.resolve(5) });
        assert_eq!(handle.await.expect("resolved"), 5);
        assert_eq!(answers.await.expect("no panic"), Ok(()));
    });
}

#[test]
fn a_writer_in_a_tokio_task_hears_of_the_cancel() {
    on_each(|| async {
        let (mut writer, handle) = promise::<u32>();
        assert!(writer.start());
        let task = tokio::spawn(async move {
            writer.cancelled().await;
            drop(writer);
        });
        assert_eq!(handle.cancel(), Cancel::Requested);
        task.await.expect("no panic");
        assert!(handle.await.is_err());
    });
}

#[test]
fn a_runtime_that_ends_drops_what_waits_and_the_job_runs_on() {
    let _watch = watchdog(60);
    for (name, runtime) in runtimes() {
        let pool = pool();
        let gate = Gate::new();
        let at = gate.clone();
        let ran = pool.spawn_blocking(move || at.pass()).map(|()| "ran");
        let drops = Drops::new();
        let token = drops.token();
        let (told, tells) = oneshot::channel();
        let waiter = pool.spawn_blocking(|| ());
        runtime.spawn(async move {
            let _token = token;
            let _ = waiter.await;
            let _ = told.send(());
            sleep(Duration::MAX).await;
        });
        runtime.block_on(tells).expect("it is there");
        drop(runtime);
        assert_eq!(drops.live(), 0, "{name}");
        gate.open();
        assert_eq!(ran.wait().expect("no panic"), "ran", "{name}");
    }
}

#[test]
fn our_sleeps_fire_in_their_tasks_and_never_early() {
    on_each(|| async {
        let begun = Instant::now();
        let tasks = [3_u32, 1, 2].map(|place| {
            let deadline = begun + Duration::from_millis(5) * place;
            tokio::spawn(async move {
                portage::time::sleep_until(deadline).await;
                assert!(Instant::now() >= deadline, "early");
            })
        });
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}

#[test]
fn our_timeout_around_their_future_and_theirs_around_ours() {
    on_each(|| async {
        let (_kept, theirs) = oneshot::channel::<()>();
        assert!(timeout(Duration::from_millis(1), theirs).await.is_err());
        let (_kept, ours) = promise::<()>();
        let cut_off = tokio::time::timeout(Duration::from_millis(1), ours).await;
        assert!(cut_off.is_err());
        let (send, theirs) = oneshot::channel();
        send.send(1).expect("it waits");
        assert_eq!(
            timeout(Duration::MAX, theirs).await.expect("in time"),
            Ok(1)
        );
    });
}

#[test]
fn a_sleep_begun_in_one_runtime_ends_in_another() {
    let _watch = watchdog(60);
    for (_, runtime) in runtimes() {
        let mut asleep = Box::pin(sleep(Duration::from_millis(5)));
        runtime.block_on(async {
            let first = std::future::poll_fn(|cx| std::task::Poll::Ready(asleep.as_mut().poll(cx)));
            assert!(first.await.is_pending());
        });
        drop(runtime);
        block_on(asleep);
    }
}

#[test]
fn their_channels_work_inside_our_tasks_loops_and_block_on() {
    let _watch = watchdog(60);
    for (_, runtime) in runtimes() {
        let pool = pool();
        let (to_loop, mut at_loop) = mpsc::channel::<u32>(1);
        let (to_theirs, mut at_theirs) = mpsc::channel::<u32>(1);
        // a full channel suspends our task, an empty one our loop and theirs
        let ours = pool.spawn(async move {
            for i in 0..100 {
                to_loop.send(i).await.expect("the loop receives");
            }
        });
        let loops = std::thread::spawn(move || {
            EventLoop::new().run_until_complete(async move {
                while let Some(i) = at_loop.recv().await {
                    to_theirs.send(i).await.expect("their task receives");
                }
            })
        });
        let sum = runtime.block_on(async move {
            let mut sum = 0;
            while let Some(i) = at_theirs.recv().await {
                sum += i;
            }
            sum
        });
        assert_eq!(sum, 4950);
        assert!(loops.join().expect("no panic").is_ok());
        block_on(ours).expect("no panic");
    }
}

#[test]
fn blocking_waits_inside_their_tasks_and_blocking_threads_end() {
    let _watch = watchdog(60);
    let [_, (_, runtime)] = runtimes();
    runtime.block_on(async {
        let pool = Arc::new(pool());
        let ours = pool.clone();
        let blocking = tokio::task::spawn_blocking(move || ours.spawn_blocking(|| 1).wait());
        assert_eq!(blocking.await.expect("no panic").expect("no panic"), 1);
        let ours = pool.clone();
        let in_place = tokio::spawn(async move {
            tokio::task::block_in_place(|| ours.spawn(async { sleep(Duration::ZERO).await }).wait())
        });
        in_place.await.expect("no panic").expect("no panic");
        // a plain block_on of ours, on a worker of theirs
        let nested = tokio::spawn(async move { block_on(async { pool.spawn(async { 2 }).await }) });
        assert_eq!(nested.await.expect("no panic").expect("no panic"), 2);
    });
}

#[test]
fn a_context_attached_to_a_tokio_task_goes_along_and_into_its_jobs() {
    static REQUEST: ContextVar<u32> = ContextVar::new("request");
    on_each(|| async {
        let pool = Arc::new(pool());
        let tasks = (0..20).map(|id| {
            let pool = pool.clone();
            let mut context = Context::new();
            context.run(|| REQUEST.set(id));
            tokio::spawn(context.attach(async move {
                tokio::task::yield_now().await;
                let seen = pool
                    .spawn_blocking(|| REQUEST.get())
                    .await
                    .expect("no panic");
                REQUEST.set(id + 100);
                sleep(Duration::from_millis(1)).await;
                (seen, REQUEST.get())
            }))
        });
        for (id, task) in (0..).zip(tasks.collect::<Vec<_>>()) {
            let seen = task.await.expect("no panic");
            assert_eq!(seen, (Some(id), Some(id + 100)));
        }
        assert_eq!(REQUEST.get(), None);
    });
}

#[test]
fn a_loop_of_ours_on_another_thread_serves_their_tasks() {
    on_each(|| async {
        let (tell, told) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let events = EventLoop::new();
            tell.send(events.handle())
                .unwrap_or_else(|_| panic!("it waits"));
            events.run_until_stopped()
        });
        let handle = told.await.expect("the loop is there");
        let there = handle.spawn_with(|| async {
            let local = std::rc::Rc::new(9);
            portage::time::yield_now().await;
            *local
        });
        assert_eq!(there.await.expect("no panic"), 9);
        handle.stop();
        assert!(thread.join().expect("no panic").is_ok());
    });
}

#[test]
fn dropping_a_polled_handle_inside_their_task_lets_its_waker_go() {
    on_each(|| async {
        let (writer, handle) = promise::<u32>();
        let task = tokio::spawn(async move {
            let mut handle = pin!(handle);
            let polled =
                std::future::poll_fn(|cx| std::task::Poll::Ready(handle.as_mut().poll(cx)));
            assert!(polled.await.is_pending());
        });
        task.await.expect("no panic");
        assert_eq!(writer.resolve(1), Ok(()));
    });
}
