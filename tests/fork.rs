//! A forked child gets errors where its parent's threads would have to act, and no hang.
//!
//! A program of its own with one test: a fork copies whatever other threads are in the middle of,
//! so nothing else may run here.

#![cfg(not(loom))]
#![cfg(unix)]

mod kit;

#[path = "kit/forked.rs"]
mod forked;

use std::sync::Arc;
use std::time::Duration;

use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::executors::{AsyncExecutor, AsyncExecutorExt, DefaultBackgroundExecutor};
use portage::pool::Shutdown;
use portage::sync::{Event, ThreadWithException};
use portage::time::{sleep, timeout};
use portage::{CurrentThreadExecutor, EventLoop, JoinHandle, ThreadPool, block_on, promise};

use forked::in_child;
use kit::{Gate, OpenAtEnd, watchdog};

/// Both ways to wait for it say that it is lost.
fn assert_lost<T>(mut handle: JoinHandle<T>) {
    let awaited = block_on(&mut handle).err().expect("an error");
    assert!(awaited.is_lost(), "awaited: {awaited}");
    let timed = handle.wait_timeout(Duration::from_secs(5)).expect("an end");
    assert!(timed.err().expect("an error").is_lost());
    let waited = handle.wait().err().expect("an error");
    assert!(waited.is_lost(), "waited: {waited}");
}

#[test]
fn a_forked_child_gets_errors_and_no_hang() {
    let _watch = watchdog(120);
    in_child(
        "before there are threads a child is like its parent",
        || {
            let own = ThreadPool::builder().core_threads(1).build().unwrap();
            assert_eq!(own.spawn_blocking(|| 1).wait().unwrap(), 1);
            own.spawn(sleep(Duration::from_millis(2))).wait().unwrap();
            assert!(own.shutdown(Shutdown::Drain).completed);
        },
    );
    let pool = ThreadPool::builder().core_threads(2).build().unwrap();
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let background = DefaultBackgroundExecutor::new().unwrap();
    let queue = AsyncExecutionQueue::builder().capacity(1).build().unwrap();
    // a thread of timers, and one that naps and then has its locals
    block_on(pool.spawn(sleep(Duration::from_millis(1)))).unwrap();
    let remote_lane = ThreadWithException::spawn(|| CurrentThreadExecutor::new(None));
    let dead_lane = remote_lane.unwrap().join();

    let held = |pool: &ThreadPool| {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass())
    };

    let running = held(&pool);
    gate.wait_entered(1);
    let suspended = pool.spawn(sleep(Duration::from_secs(3600)));
    in_child("what runs in the parent is lost", || {
        assert_lost(running);
        assert_lost(suspended);
    });

    let chained = held(&pool).map(|()| 1);
    gate.wait_entered(2);
    in_child("so is what is chained to it", || assert_lost(chained));

    in_child("the pool refuses", || {
        let refused = pool.submit(|| 1).unwrap_err();
        assert!(refused.is_broken() && refused.into_job().is_some());
        assert!(pool.spawn_blocking(|| 1).wait().unwrap_err().is_shut_down());
        let task = pool.spawn(async { 1 });
        assert!(task.wait().unwrap_err().is_shut_down());
        let batch = pool.spawn_batch([|| 1, || 2]);
        assert!(batch.into_iter().all(|job| job.wait().is_err()));
    });

    in_child(
        "a shutdown does not wait for threads that are not there",
        || {
            let report = pool.shutdown(Shutdown::CancelQueued);
            assert!(!report.completed);
            assert!(!pool.shutdown(Shutdown::Drain).completed);
            drop(pool.clone());
        },
    );

    in_child("a pool that the child makes gets no thread", || {
        let own = ThreadPool::builder().core_threads(1).build().unwrap();
        assert!(own.submit(|| 1).unwrap_err().is_broken());
        assert!(own.spawn(async { 2 }).wait().unwrap_err().is_shut_down());
        assert!(own.shutdown(Shutdown::Drain).completed);
        assert!(ThreadPool::global().submit(|| 1).unwrap_err().is_broken());
        assert!(DefaultBackgroundExecutor::new().unwrap_err().is_thread());
        assert!(ThreadWithException::spawn(|| ()).is_err());
    });

    in_child("loops and timers need no thread", || {
        kit::foreign_block_on(sleep(Duration::from_millis(2)));
        block_on(sleep(Duration::from_millis(2)));
        let events = EventLoop::new();
        let late = events.run_until_complete(timeout(
            Duration::from_millis(2),
            sleep(Duration::from_secs(3600)),
        ));
        assert!(late.unwrap().is_err());
    });

    let nap = kit::in_time(|time| {
        let mut nap = sleep(time);
        let (waker, _) = kit::counting_waker();
        let sleeps = kit::poll_with(&mut nap, &waker).is_pending();
        sleeps.then_some(nap)
    });
    in_child("a sleep begun in the parent goes on", || {
        kit::foreign_block_on(nap);
    });

    let (writer, reader) = promise::<u8>();
    let local = EventLoop::new();
    let kept = local.spawn_local(async { 3 });
    in_child("what the thread that forked has goes on", || {
        writer.resolve(7).unwrap();
        assert_eq!(reader.wait().unwrap(), 7);
        assert_eq!(local.run_until_complete(kept).unwrap().unwrap(), 3);
        let lane = CurrentThreadExecutor::new(None);
        assert_eq!(lane.run_until_future(async { 4 }).unwrap(), 4);
    });

    let handle = background.handle();
    in_child("a loop of another thread is closed", || {
        assert!(handle.spawn(async {}).wait().unwrap_err().is_shut_down());
        assert!(background.run(async {}).is_err());
        background.shutdown(true);
    });

    in_child("a lane of another thread is finished", || {
        assert!(dead_lane.is_finished());
        assert!(dead_lane.submit(|| ()).unwrap_err().is_finished());
    });

    let stop = Arc::new(Event::new());
    let seen = stop.clone();
    let thread = ThreadWithException::spawn(move || seen.wait()).unwrap();
    in_child("a thread of the parent is not alive", || {
        assert!(!thread.is_alive());
        assert!(thread.try_join().unwrap_err().is_lost());
    });
    stop.set();

    let at = gate.clone();
    let place = queue.add_task(move || at.pass()).unwrap();
    in_child("a queue whose jobs run in the parent is closed", || {
        assert!(queue.add_task(|| ()).unwrap_err().is_shut_down());
        queue.close(Close::Drain);
    });
    in_child("so is what stands in it lost", || assert_lost(place));

    let again = held(&pool);
    in_child("a grandchild too", || {
        in_child("below", || assert_lost(again))
    });

    // the parent has noticed nothing
    gate.open();
    assert_eq!(pool.spawn_blocking(|| 5).wait().unwrap(), 5);
    assert_eq!(background.run(async { 6 }).unwrap(), 6);
    assert!(queue.add_task(|| 7).unwrap().wait().is_ok());
}
