//! User code at its worst: wakers that panic in every hand-hold, destructors that call back,
//! iterators and hooks that fail half way, and numbers beyond the usual.

#![cfg(not(loom))]

mod kit;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use portage::pool::Shutdown;
use portage::promise::{Cancel, CancelHandle, chain_future_results, promise};
use portage::sync::Event;
use portage::time::{sleep, yield_now};
use portage::{CurrentThreadExecutor, EventLoop, JoinHandle, ThreadPool};

use kit::{Diary, Drops, Gate, OnDrop, OpenAtEnd, lock, on_new_thread, reports, watchdog};

// --- wakers ---------------------------------------------------------------------------------------

/// Which hand-hold of a waker panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bad {
    Wake,
    WakeByRef,
    Drop,
}

const BADS: [Bad; 3] = [Bad::Wake, Bad::WakeByRef, Bad::Drop];

/// A waker of which one hand-hold panics; its data is a static, so nothing leaks.
fn bad_waker(bad: Bad) -> Waker {
    fn same(data: *const ()) -> RawWaker {
        // SAFETY: `data` came from `bad_waker`.
        let bad = unsafe { &*data.cast::<Bad>() };
        RawWaker::new(data, table(*bad))
    }
    fn fails(_: *const ()) {
        if !std::thread::panicking() {
            panic!("a waker that panics");
        }
    }
    fn nothing(_: *const ()) {}
    static WAKE: RawWakerVTable = RawWakerVTable::new(same, fails, nothing, nothing);
    static BY_REF: RawWakerVTable = RawWakerVTable::new(same, nothing, fails, nothing);
    static DROP: RawWakerVTable = RawWakerVTable::new(same, nothing, nothing, fails);
    fn table(bad: Bad) -> &'static RawWakerVTable {
        match bad {
            Bad::Wake => &WAKE,
            Bad::WakeByRef => &BY_REF,
            Bad::Drop => &DROP,
        }
    }
    let data = BADS.iter().find(|other| **other == bad).expect("listed");
    let data: &'static Bad = data;
    // SAFETY: the functions ignore `data` but for reading the static it points to.
    unsafe { Waker::from_raw(same(std::ptr::from_ref(data).cast())) }
}

/// Polls once with a bad waker. Only what was cloned from it can panic: it is not dropped here.
fn poll_badly<F: Future + Unpin>(future: &mut F, bad: Bad) {
    let pending = poll_badly_if_pending(future, bad);
    assert!(pending, "nothing was ready");
}

/// False if there was nothing to wait for.
fn poll_badly_if_pending<F: Future + Unpin>(future: &mut F, bad: Bad) -> bool {
    let waker = std::mem::ManuallyDrop::new(bad_waker(bad));
    contained("poll", || kit::poll_with(future, &waker).is_pending())
}

fn contained<R>(what: &str, f: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => value,
        Err(payload) => panic!("{what}: a panic got out: {}", kit::text_of(&*payload)),
    }
}

#[test]
fn a_waker_that_panics_hurts_no_promise() {
    let _watch = watchdog(20);
    reports::listen();
    for bad in BADS {
        let (writer, mut reader) = promise();
        poll_badly(&mut reader, bad);
        let resolved = contained("resolve", || writer.resolve(1));
        assert_eq!(resolved, Ok(()));
        assert_eq!(reader.wait().expect("a value"), 1);

        let (writer, mut reader) = promise::<u8>();
        poll_badly(&mut reader, bad);
        poll_badly(&mut reader, bad);
        contained("drop of the handle", || drop(reader));
        contained("drop of the promise", || drop(writer));

        let (mut writer, reader) = promise::<u8>();
        poll_badly(&mut writer.cancelled(), bad);
        let cancel = contained("cancel", || reader.cancel());
        assert_eq!(cancel, Cancel::Prevented);
        contained("drop of the promise", || drop(writer));
    }
}

#[test]
fn a_waker_that_panics_hurts_no_pool() {
    let _watch = watchdog(30);
    reports::listen();
    let pool = ThreadPool::builder().core_threads(1).max_threads(1).build();
    let pool = pool.expect("legal sizes");
    for bad in BADS {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        let mut handle = pool.spawn_blocking(move || at.pass());
        gate.wait_entered(1);
        poll_badly(&mut handle, bad);
        gate.open();
        handle.wait().expect("a value");
        assert_eq!(pool.spawn_blocking(|| 2).wait().expect("a value"), 2);
    }
    assert_eq!(pool.metrics().threads_started, 1);
}

#[test]
fn a_waker_that_panics_hurts_no_timer() {
    let _watch = watchdog(20);
    reports::listen();
    for bad in BADS {
        let (time, timer) = kit::in_time(|time| {
            let mut timer = sleep(time);
            poll_badly_if_pending(&mut timer, bad).then_some((time, timer))
        });
        // the driver lives on and serves the next
        kit::foreign_block_on(sleep(time + Duration::from_millis(1)));
        contained("drop of the sleep", || drop(timer));
        let mut timer = sleep(Duration::from_secs(3600));
        poll_badly(&mut timer, bad);
        contained("drop of the sleep", || drop(timer));
        let events = EventLoop::new();
        kit::in_time(|time| {
            let mut timer = sleep(time);
            let polled = events.run_until_complete(async {
                let polled = poll_badly_if_pending(&mut timer, bad);
                sleep(time + Duration::from_millis(1)).await;
                polled
            });
            contained("drop of the sleep", || drop(timer));
            polled.expect("it is idle").then_some(())
        });
    }
}

#[test]
fn a_waker_that_panics_hurts_no_event() {
    let _watch = watchdog(20);
    reports::listen();
    for bad in BADS {
        let event = Event::new();
        let mut first = Box::pin(event.wait_async());
        poll_badly(&mut first, bad);
        let (waker, wakes) = kit::counting_waker();
        let mut second = Box::pin(event.wait_async());
        assert!(kit::poll_with(&mut second, &waker).is_pending());
        contained("set", || event.set());
        assert_eq!(wakes.count(), 1, "{bad:?}");
        contained("drop of the wait", || drop(first));
        event.clear();
        let mut third = Box::pin(event.wait_async());
        poll_badly(&mut third, bad);
        contained("drop of the wait", || drop(third));
    }
}

#[test]
fn a_waker_that_panics_hurts_no_batch_and_no_queue() {
    use futures_core::Stream;
    use portage::execution_queue::AsyncExecutionQueue;
    use portage::executors::{AsyncExecutorExt, DefaultBackgroundExecutor, RunMultiple};
    let _watch = watchdog(30);
    reports::listen();
    let executor = DefaultBackgroundExecutor::new().expect("one thread");
    for bad in BADS {
        let (conductor, first) = kit::scripted();
        let (other, second) = kit::scripted();
        let one_worker = RunMultiple {
            max_workers: 1,
            timeout: None,
        };
        let mut results = executor.run_multiple_async([first, second], one_worker);
        for _ in 0..2 {
            let mut next = poll_fn(|cx| std::pin::Pin::new(&mut results).poll_next(cx));
            poll_badly(&mut next, bad);
        }
        kit::eventually("the first poll", || conductor.polls() > 0);
        conductor.complete(1);
        kit::eventually("the next poll", || other.polls() > 0);
        other.complete(2);
        for value in [1, 2] {
            let next = poll_fn(|cx| std::pin::Pin::new(&mut results).poll_next(cx));
            let result = kit::foreign_block_on(next).expect("one more");
            assert_eq!(result.output.expect("a value"), value, "{bad:?}");
        }

        let queue = AsyncExecutionQueue::builder().capacity(1).build();
        let queue = queue.expect("legal");
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        let held = queue.add_task(move || at.pass()).expect("a place");
        gate.wait_entered(1);
        let mut adding = Box::pin(queue.aadd_task(|| 3));
        poll_badly(&mut adding, bad);
        poll_badly(&mut adding, bad);
        gate.open();
        held.wait().expect("a value");
        let added = kit::foreign_block_on(adding).expect("a place");
        assert_eq!(added.wait().expect("a value"), 3);
    }
}

#[test]
fn a_waker_that_panics_hurts_no_bridge_and_no_lock() {
    use portage::bridge::sync_to_async;
    use portage::sync::{Polling, async_lock};
    use std::future::IntoFuture;
    let _watch = watchdog(30);
    reports::listen();
    for bad in BADS {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        let call = sync_to_async(move || at.pass()).thread_sensitive(false);
        let mut call = Box::pin(call.into_future());
        poll_badly(&mut call, bad);
        poll_badly(&mut call, bad);
        gate.open();
        kit::foreign_block_on(call).expect("a value");

        let lock = Arc::new(parking_lot::Mutex::new(1));
        let held = lock.lock();
        let mut taking = Box::pin(async_lock(&lock, "bad", Polling::default()));
        poll_badly(&mut taking, bad);
        poll_badly(&mut taking, bad);
        drop(held);
        drop(kit::foreign_block_on(taking));
        kit::eventually("the lock", || lock.try_lock().is_some());
    }
}

// --- destructors ----------------------------------------------------------------------------------

#[test]
fn a_value_whose_drop_uses_the_pool_that_drops_it() {
    let _watch = watchdog(20);
    let pool = ThreadPool::builder().core_threads(1).max_threads(2).build();
    let pool = Arc::new(pool.expect("legal sizes"));
    let seen = Diary::new();
    for round in 0..3 {
        let (inner, diary) = (pool.clone(), seen.clone());
        let bell = OnDrop::new(move || {
            diary.note(inner.spawn_blocking(|| 1).wait().expect("a value"));
            let _ = inner.metrics();
        });
        let handle = match round {
            0 => pool.spawn_blocking(move || drop(bell)),
            1 => pool.spawn(async move {
                let _held = bell;
                kit::Forgotten.await;
            }),
            _ => {
                // its value is dropped by the worker, as nobody reads it
                pool.spawn_blocking(move || bell).detach();
                pool.spawn_blocking(|| ())
            }
        };
        let _ = handle.wait();
        kit::eventually("the drop", || seen.len() == round + 1);
    }
}

#[test]
fn a_future_whose_drop_uses_its_own_handles_and_loop() {
    let _watch = watchdog(20);
    let events = EventLoop::new();
    type Own = (JoinHandle<()>, CancelHandle);
    let slot: Arc<Mutex<Option<Own>>> = Arc::default();
    let seen = Diary::new();
    let (inside, diary, handle) = (slot.clone(), seen.clone(), events.handle());
    let bell = OnDrop::new(move || {
        let (mut own, cancel) = lock(&inside).take().expect("put there");
        let _ = (own.cancel(), cancel.cancel(), own.is_cancelled());
        own.on_complete(|_| ());
        let _ = own.try_take();
        drop(own);
        handle.spawn(yield_now()).detach();
        diary.note(handle.pending());
    });
    let (_conductor, future) = kit::scripted::<()>();
    let task = events.spawn_local(async move {
        let _held = bell;
        future.await;
    });
    let cancel = task.cancel_handle();
    *lock(&slot) = Some((task, cancel.clone()));
    events.run_until_complete(yield_now()).expect("it is idle");
    let _ = cancel.cancel();
    for _ in 0..3 {
        events.run_until_complete(yield_now()).expect("it is idle");
    }
    assert_eq!(seen.len(), 1);
}

#[test]
fn values_that_hold_handles_that_hold_values() {
    struct Link(#[allow(dead_code, reason = "it is only dropped")] Option<JoinHandle<Link>>);
    let _watch = watchdog(20);
    let mut last = Link(None);
    for _ in 0..500 {
        let (writer, reader) = promise();
        assert!(writer.resolve(last).is_ok());
        last = Link(Some(reader));
    }
    drop(last);
}

#[test]
fn a_chain_whose_closures_panic_in_their_drop_is_cancelled_all_the_way() {
    let _watch = watchdog(20);
    reports::listen();
    let (first, mut last) = promise::<u32>();
    for _ in 0..100 {
        let bomb = kit::PanicOnDrop("in a chain");
        last = last.map(move |value| {
            let _held = &bomb;
            value
        });
        let (target, next) = promise();
        chain_future_results(last, target);
        last = next;
    }
    let verdict = contained("cancel", || last.cancel());
    assert_eq!(verdict, Cancel::Prevented);
    assert!(first.is_cancelled());
    assert!(last.wait().expect_err("cancelled").is_cancelled());
}

// --- half way -------------------------------------------------------------------------------------

#[test]
fn an_iterator_of_jobs_that_panics_leaves_the_books_balanced() {
    let _watch = watchdog(20);
    let pool = ThreadPool::builder()
        .core_threads(1)
        .build()
        .expect("legal");
    let drops = Drops::new();
    let batch = catch_unwind(AssertUnwindSafe(|| {
        pool.spawn_batch((0..10).map(|number| {
            assert!(number < 5, "no more jobs");
            let token = drops.token();
            move || drop(token)
        }))
    }));
    assert!(batch.is_err(), "the panic is the caller's own");
    kit::eventually("the drops", || drops.live() == 0);
    let sum = |metrics: &portage::pool::PoolMetrics| {
        let ended = metrics.completed + metrics.panicked + metrics.cancelled;
        ended + (metrics.queued + metrics.running) as u64
    };
    kit::eventually("a balance", || {
        let metrics = pool.metrics();
        metrics.submitted == sum(&metrics)
    });
    assert_eq!(pool.spawn_blocking(|| 1).wait().expect("a value"), 1);
    assert!(pool.shutdown(Shutdown::Drain).completed);
}

#[test]
fn hooks_of_a_pool_may_use_pools() {
    let _watch = watchdog(20);
    let seen = Arc::new(AtomicUsize::new(0));
    let (started, stopped) = (seen.clone(), seen.clone());
    let pool = ThreadPool::builder()
        .core_threads(1)
        .on_thread_start(move |_| {
            let value = ThreadPool::global().spawn_blocking(|| 1).wait();
            started.fetch_add(value.expect("a value"), Ordering::Relaxed);
            if let Some(own) = ThreadPool::current() {
                own.spawn_blocking(|| ()).detach();
            }
        })
        .on_thread_stop(move |_| {
            let value = ThreadPool::global().spawn_blocking(|| 10).wait();
            stopped.fetch_add(value.expect("a value"), Ordering::Relaxed);
        })
        .build()
        .expect("legal");
    assert_eq!(pool.spawn_blocking(|| 2).wait().expect("a value"), 2);
    assert!(pool.shutdown(Shutdown::Drain).completed);
    kit::eventually("the stop", || seen.load(Ordering::Relaxed) == 11);
}

// --- beyond the usual -----------------------------------------------------------------------------

#[test]
fn more_workers_than_a_word_has_bits() {
    let _watch = watchdog(60);
    let pool = ThreadPool::builder()
        .core_threads(1)
        .max_threads(150)
        .build();
    let pool = pool.expect("legal sizes");
    for _ in 0..2 {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        let handles: Vec<_> = (0..150)
            .map(|_| {
                let at = gate.clone();
                pool.spawn_blocking(move || at.pass())
            })
            .collect();
        gate.wait_entered(150);
        gate.open();
        for handle in handles {
            handle.wait().expect("a value");
        }
    }
    assert!(pool.shutdown(Shutdown::Drain).completed);
    assert_eq!(pool.metrics().threads, 0);
}

#[test]
fn a_hundred_thousand_of_everything() {
    const MANY: usize = 100_000;
    let _watch = watchdog(60);
    let pool = ThreadPool::builder().core_threads(2).max_threads(4).build();
    let pool = pool.expect("legal sizes");
    let gate = Gate::new();
    let end = OpenAtEnd(gate.clone());
    for _ in 0..4 {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
    }
    let drops = Drops::new();
    let jobs: Vec<_> = (0..MANY)
        .map(|_| {
            let token = drops.token();
            pool.spawn_blocking(move || drop(token))
        })
        .collect();
    for job in jobs.iter().skip(1).step_by(2) {
        let _ = job.cancel();
    }
    gate.open();
    drop(end);
    let ran = jobs
        .into_iter()
        .filter(|_| true)
        .map(JoinHandle::wait)
        .filter(Result::is_ok)
        .count();
    assert_eq!(ran, MANY / 2);
    assert_eq!((drops.live(), drops.dropped()), (0, MANY));

    let events = EventLoop::new();
    let tasks: Vec<_> = (0..MANY)
        .map(|number| {
            events.spawn_local(async move {
                if number % 2 == 0 {
                    yield_now().await;
                }
                number
            })
        })
        .collect();
    let sum = events.run_until_complete(async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await.expect("a value");
        }
        sum
    });
    assert_eq!(sum.expect("it is idle"), MANY * (MANY - 1) / 2);

    let lane = CurrentThreadExecutor::new(None);
    let last = on_new_thread(|| {
        let submit = |number| lane.submit(move || number).expect("taken");
        (0..MANY - 1).for_each(|number| submit(number).detach());
        submit(MANY - 1)
    });
    let last = lane.run_until_future(last);
    assert_eq!(last.expect("its owner").expect("a value"), MANY - 1);
}

#[test]
fn a_shutdown_with_a_hundred_thousand_queued_resolves_them_all() {
    let _watch = watchdog(60);
    let gate = Gate::new();
    let pool = ThreadPool::builder().core_threads(1).max_threads(1).build();
    let pool = pool.expect("legal sizes");
    let at = gate.clone();
    pool.spawn_blocking(move || at.pass()).detach();
    gate.wait_entered(1);
    let handles: Vec<_> = (0..100_000).map(|_| pool.spawn_blocking(|| ())).collect();
    std::thread::scope(|scope| {
        let _end = OpenAtEnd(gate.clone());
        let ending = scope.spawn(|| pool.shutdown(Shutdown::CancelQueued));
        for handle in handles {
            assert!(handle.wait().expect_err("cancelled").is_cancelled());
        }
        gate.open();
        assert_eq!(ending.join().expect("no panic").cancelled, 100_000);
    });
}

#[test]
fn a_future_that_is_polled_by_two_runtimes_in_turn() {
    let _watch = watchdog(20);
    let pool = ThreadPool::builder()
        .core_threads(1)
        .build()
        .expect("legal");
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let mut handle = pool.spawn_blocking(move || {
        at.pass();
        9
    });
    let events = EventLoop::new();
    for _ in 0..3 {
        let looked = events.run_until_complete(poll_fn(|cx| {
            Poll::Ready(std::pin::Pin::new(&mut handle).poll(cx).is_pending())
        }));
        assert!(looked.expect("it is idle"));
        let looked = kit::foreign_block_on(poll_fn(|cx| {
            Poll::Ready(std::pin::Pin::new(&mut handle).poll(cx).is_pending())
        }));
        assert!(looked);
    }
    gate.open();
    assert_eq!(kit::foreign_block_on(handle).expect("a value"), 9);
}
