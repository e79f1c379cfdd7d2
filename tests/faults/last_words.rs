//! The end of things while others still use them.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::Waker;
use std::time::Duration;

use portage::bridge::sync_to_async;
use portage::execution_queue::AsyncExecutionQueue;
use portage::executors::{AsyncExecutorExt, DefaultBackgroundExecutor, EventLoopPoolExecutor};
use portage::pool::Shutdown;
use portage::promise::CancelHandle;
use portage::sync::Event;
use portage::time::{sleep, yield_now};
use portage::{CurrentThreadExecutor, EventLoop, JoinHandle, ThreadPool, promise};

use super::{books_balance, fixed};
use crate::kit::{self, Conductor, Diary, Drops, OnDrop, scripted, watchdog};

#[test]
fn a_pool_may_be_dropped_on_its_own_worker_by_everything_that_runs_there() {
    let _watch = watchdog(30);
    for round in 0..5 {
        let pool = ThreadPool::builder().core_threads(1).max_threads(2).build();
        let pool = pool.expect("legal");
        let prefix = format!("end-{round}-");
        let own = Arc::new(pool);
        let pool = Arc::downgrade(&own);
        let handle = {
            let pool = pool.upgrade().expect("it is here");
            let inside = own.clone();
            match round {
                0 => pool.spawn_blocking(move || drop(inside)),
                1 => pool.spawn(async move {
                    yield_now().await;
                    drop(inside);
                }),
                2 => pool.spawn_pinned(move || async move {
                    yield_now().await;
                    drop(inside);
                }),
                // the value that nobody reads
                3 => {
                    pool.spawn_blocking(move || inside).detach();
                    pool.spawn_blocking(|| ())
                }
                // a callback
                _ => {
                    let handle = pool.spawn_blocking(|| ());
                    handle.on_complete(move |_| drop(inside));
                    handle
                }
            }
        };
        drop(own);
        handle.wait().expect("a value");
        kit::eventually(&prefix, || pool.strong_count() == 0);
    }
}

/// Wakers of tasks of every kind of home.
struct Survivors {
    conductors: Vec<Conductor<()>>,
    handles: Vec<JoinHandle<()>>,
    wakers: Vec<Waker>,
}

fn survivors() -> Survivors {
    let (mut conductors, mut handles) = (Vec::new(), Vec::new());
    let mut next = || {
        let (conductor, future) = scripted::<()>();
        conductors.push(conductor);
        future
    };
    let pool = fixed(2);
    let background = DefaultBackgroundExecutor::new().expect("a thread");
    let loops = EventLoopPoolExecutor::new(2).expect("threads");
    let events = EventLoop::new();
    let (a, b) = (next(), next());
    handles.push(pool.spawn(a));
    handles.push(pool.spawn_pinned(move || b));
    handles.push(background.submit(next()));
    handles.push(loops.submit(next()));
    handles.push(events.spawn_local(next()));
    let c = next();
    handles.push(events.handle().spawn_with(move || c));
    events.run_until_complete(yield_now()).expect("it is idle");
    events.run_until_complete(yield_now()).expect("it is idle");
    kit::eventually("all polls", || conductors.iter().all(|c| c.polls() > 0));
    let wakers = conductors.iter().map(|conductor| {
        let waker = conductor.take_waker().expect("it was polled");
        [waker.clone(), waker]
    });
    let wakers = wakers.flatten().collect();
    // an orderly end for one, a drop for the others
    assert!(pool.shutdown(Shutdown::CancelQueued).completed);
    drop((pool, background, loops, events));
    Survivors {
        conductors,
        handles,
        wakers,
    }
}

#[test]
fn wakes_after_everything_is_gone_are_harmless() {
    let _watch = watchdog(30);
    let Survivors {
        conductors,
        handles,
        wakers,
    } = survivors();
    for (number, waker) in wakers.into_iter().enumerate() {
        match number % 3 {
            0 => waker.wake(),
            1 => waker.wake_by_ref(),
            _ => drop(waker.clone()),
        }
    }
    for conductor in &conductors {
        conductor.complete(());
    }
    for (number, handle) in handles.into_iter().enumerate() {
        let cancel: CancelHandle = handle.cancel_handle();
        // executors that were only dropped may still have polled a task that was woken so soon
        let may_be_done = (2..4).contains(&number);
        assert!(handle.wait().is_err() || may_be_done, "task {number}");
        let _ = cancel.cancel();
    }
}

#[test]
fn wakes_from_threads_and_locals_that_die_are_harmless() {
    thread_local! {
        static KEPT: std::cell::RefCell<Vec<Waker>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let _watch = watchdog(30);
    let Survivors { wakers, .. } = survivors();
    std::thread::spawn(move || {
        let wakers = OnDrop::new(move || wakers.into_iter().for_each(Waker::wake));
        // used before and after: the destructors of the crate's locals stand on both sides
        let _ = ThreadPool::global().spawn_blocking(|| ()).wait();
        KEPT.with(|kept| kept.borrow_mut().push(Waker::noop().clone()));
        drop(wakers);
    })
    .join()
    .expect("no panic");
}

/// One of each, alive in a thread-local when its thread ends.
struct Household {
    _events: EventLoop,
    _lane: CurrentThreadExecutor,
    _pool: ThreadPool,
    _queue: AsyncExecutionQueue,
    _handles: Vec<JoinHandle<()>>,
    _sleep: portage::time::Sleep,
    _told: OnDrop<Box<dyn FnOnce()>>,
}

#[test]
fn a_household_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static FIRST: std::cell::RefCell<Option<Household>> = const { std::cell::RefCell::new(None) };
        static LAST: std::cell::RefCell<Option<Household>> = const { std::cell::RefCell::new(None) };
    }
    let _watch = watchdog(60);
    let drops = Drops::new();
    let make = |told: Diary<u32>, drops: &Drops| {
        let events = EventLoop::new();
        let lane = CurrentThreadExecutor::new(None);
        let pool = fixed(1);
        let queue = AsyncExecutionQueue::new();
        let token = drops.token();
        let (far, near) = (drops.token(), drops.token());
        let mut sleep = sleep(Duration::from_secs(3600));
        let _ = kit::poll_once(&mut sleep);
        let remote = lane.clone();
        let queued = kit::on_new_thread(move || remote.submit(move || drop(near)).expect("open"));
        let handles = vec![
            events.spawn_local(async move {
                let _held = token;
                portage::time::sleep(Duration::MAX).await;
            }),
            pool.spawn(async move {
                let _held = far;
                portage::time::sleep(Duration::MAX).await;
            }),
            queued,
            queue.add_task(|| ()).expect("open"),
        ];
        events.run_until_complete(yield_now()).expect("it is idle");
        Household {
            _events: events,
            _lane: lane,
            _pool: pool,
            _queue: queue,
            _handles: handles,
            _sleep: sleep,
            _told: OnDrop::new(Box::new(move || told.note(1))),
        }
    };
    let told = Diary::new();
    let (inside, counted) = (told.clone(), drops.clone());
    std::thread::spawn(move || {
        FIRST.with(|slot| *slot.borrow_mut() = Some(make(inside.clone(), &counted)));
        LAST.with(|slot| *slot.borrow_mut() = Some(make(inside, &counted)));
    })
    .join()
    .expect("no panic at the end of the thread");
    assert_eq!(told.len(), 2);
    // what was in loops and lanes went with them; the pool's tasks sleep on, as they may
    kit::eventually("the drops", || drops.live() <= 2);
}

#[test]
fn handles_outlive_everything_and_still_answer() {
    let _watch = watchdog(30);
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let events = EventLoop::new();
        let lane = CurrentThreadExecutor::new(None);
        let pool = fixed(1);
        sender
            .send((events.handle(), lane.clone(), pool.clone(), promise::<u8>()))
            .expect("the test waits");
        let _ = pool.shutdown(Shutdown::Drain);
    })
    .join()
    .expect("no panic");
    let (events, lane, pool, (writer, reader)) = receiver.recv().expect("sent");
    assert!(events.spawn(async {}).wait().unwrap_err().is_shut_down());
    events.stop();
    assert_eq!(events.pending(), 0);
    assert!(lane.submit(|| ()).unwrap_err().is_finished());
    assert!(
        lane.run_until_future(async {})
            .unwrap_err()
            .is_wrong_thread()
    );
    assert!(pool.submit(|| ()).unwrap_err().is_shut_down());
    books_balance(&pool);
    drop(writer);
    assert!(reader.wait().unwrap_err().is_lost());
    let event = Event::new();
    event.set();
    event.wait();
    assert_eq!(
        portage::block_on(sync_to_async(|| 1).into_future()).unwrap(),
        1
    );
}
