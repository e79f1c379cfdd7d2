//! Locks and events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use portage::sync::{
    BlockingEvent, Event, Polling, async_lock, async_null_context, await_event_with_stop,
    await_threading_event,
};

use crate::on_each;

#[test]
fn an_event_releases_a_thousand_tasks_though_it_is_cleared_at_once() {
    on_each(|| async {
        let event = Arc::new(Event::new());
        let begun = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..1000)
            .map(|_| {
                let (event, begun) = (event.clone(), begun.clone());
                tokio::spawn(async move {
                    let wait = event.wait_async();
                    begun.fetch_add(1, Ordering::Relaxed);
                    wait.await;
                })
            })
            .collect();
        while begun.load(Ordering::Relaxed) < 1000 {
            tokio::task::yield_now().await;
        }
        let setter = event.clone();
        std::thread::spawn(move || {
            setter.set();
            setter.clear();
        });
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}

#[test]
fn an_aborted_wait_is_forgotten() {
    on_each(|| async {
        let event = Arc::new(Event::new());
        let theirs = event.clone();
        let task = tokio::spawn(async move { theirs.wait_async().await });
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.expect_err("aborted").is_cancelled());
        event.set();
        event.wait_async().await;
    });
}

#[test]
fn a_lock_is_shared_by_their_tasks_and_plain_threads() {
    on_each(|| async {
        let lock = Arc::new(Mutex::new(0_u32));
        let theirs = lock.clone();
        let thread = std::thread::spawn(move || (0..200).for_each(|_| *theirs.lock() += 1));
        let tasks = (0..20).map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let mut guard = async_lock(&lock, "count", Polling::default()).await;
                    let seen = *guard;
                    // held over a suspension
                    tokio::task::yield_now().await;
                    *guard = seen + 1;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
        tokio::task::spawn_blocking(move || thread.join().expect("no panic"))
            .await
            .expect("no panic");
        assert_eq!(*lock.lock(), 400);
    });
}

#[test]
fn a_waiter_that_is_aborted_leaves_the_lock_alone() {
    on_each(|| async {
        let lock = Arc::new(Mutex::new(()));
        for polling in [Polling::default(), Polling::NoPolling] {
            let held = lock.lock_arc();
            let theirs = lock.clone();
            let waiter = tokio::spawn(async move {
                let _guard = async_lock(&theirs, "held", polling).await;
            });
            tokio::task::yield_now().await;
            waiter.abort();
            assert!(waiter.await.expect_err("aborted").is_cancelled());
            assert!(lock.is_locked(), "still the holder's");
            drop(held);
            drop(async_lock(&lock, "free again", polling).await);
        }
        let _nothing = async_null_context().await;
    });
}

/// Knows no wakers.
#[derive(Default)]
struct Flag(AtomicBool);

impl BlockingEvent for Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn wait_timeout(&self, timeout: Duration) -> bool {
        std::thread::park_timeout(timeout.min(Duration::from_millis(1)));
        self.is_set()
    }
}

#[test]
fn foreign_and_native_events_are_awaited_with_timeouts_and_stops() {
    on_each(|| async {
        let (native, foreign) = (Arc::new(Event::new()), Arc::new(Flag::default()));
        let (stop, tick) = (
            Arc::new(Event::new()),
            Polling::Every(Duration::from_millis(1)),
        );
        let zero = Some(Duration::ZERO);
        assert!(!await_threading_event(&native, "native", zero, tick).await);
        assert!(!await_threading_event(&foreign, "foreign", zero, tick).await);
        let theirs = (foreign.clone(), stop.clone());
        let waits = tokio::spawn(async move {
            await_event_with_stop(&theirs.0, &theirs.1, "foreign", tick).await
        });
        tokio::task::yield_now().await;
        stop.set();
        assert!(!waits.await.expect("no panic"), "the stop came first");
        let theirs = foreign.clone();
        let waits =
            tokio::spawn(async move { await_threading_event(&theirs, "f", None, tick).await });
        foreign.0.store(true, Ordering::Release);
        assert!(waits.await.expect("no panic"));
        native.set();
        stop.clear();
        assert!(await_event_with_stop(&native, &stop, "native", Polling::NoPolling).await);
    });
}
