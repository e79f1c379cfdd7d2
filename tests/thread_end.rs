//! Everything works on threads the crate did not start, also in the last moments of one: in
//! the destructors of its locals, and while it unwinds. A panic there would abort the process.

#![cfg(not(loom))]

mod kit;

use std::cell::{Cell, RefCell};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use portage::bridge::{async_to_sync, sync_to_async};
use portage::context::{Context, ContextVar, copy_context};
use portage::event_loop::{ensure_thread_event_loop, running_loop};
use portage::sync::{Event, Polling, async_lock};
use portage::time::{sleep, timeout, yield_now};
use portage::{CurrentThreadExecutor, EventLoop, Job, LoopHandle, ThreadPool, block_on, promise};

use kit::{OnDrop, watchdog};

static LABEL: ContextVar<u32> = ContextVar::new("label");

type Step = fn();

thread_local! {
    /// The destructors of this thread's locals are running.
    static ENDING: Cell<bool> = const { Cell::new(false) };
}

fn waits_for_promises() {
    let (writer, reader) = promise();
    writer.resolve(1).expect("nobody cancelled");
    assert_eq!(reader.wait().expect("a value"), 1);
    let (writer, mut reader) = promise::<u8>();
    assert!(reader.wait_timeout(Duration::from_millis(1)).is_none());
    std::thread::spawn(move || writer.resolve(2));
    assert_eq!(reader.map(|value| value + 1).wait().expect("a value"), 3);
}

fn uses_pools() {
    let handle = ThreadPool::global().spawn_blocking(|| 1);
    assert_eq!(handle.wait().expect("a value"), 1);
    let handle = ThreadPool::global().spawn(async { 2 });
    assert_eq!(handle.wait().expect("a value"), 2);
    let handle = ThreadPool::global().spawn_pinned(|| async { 3 });
    assert_eq!(handle.wait_helping().expect("a value"), 3);
    assert!(ThreadPool::current().is_none());
}

fn blocks_on_timers() {
    assert_eq!(block_on(async { 1 }), 1);
    block_on(sleep(Duration::from_millis(1)));
    assert!(block_on(timeout(Duration::from_millis(1), sleep(Duration::MAX))).is_err());
    block_on(yield_now());
}

fn runs_loops() {
    let events = EventLoop::new();
    let task = events.spawn_local(async {
        yield_now().await;
        4
    });
    let value = events.run_until_complete(task).expect("it is idle");
    assert_eq!(value.expect("a value"), 4);
    assert!(running_loop().is_none());
}

fn asks_for_its_own_loop() {
    let own: LoopHandle = ensure_thread_event_loop();
    // it may be closed already, but it answers
    let task = own.spawn(async { 1 });
    let _ = (own.state(), own.pending(), own.is_current_thread());
    drop(task);
}

fn uses_lanes() {
    let lane = CurrentThreadExecutor::new(None);
    let inner = lane.clone();
    let taken = std::thread::spawn(move || inner.submit(|| 5)).join();
    if let Ok(handle) = taken.expect("no panic") {
        let value = lane.run_until_future(handle).expect("its owner");
        let _ = value;
    }
    assert!(lane.submit(|| 1).is_err());
}

fn uses_contexts() {
    let _scope = LABEL.scope(6);
    let _ = (LABEL.get(), copy_context().len());
    let mut context = Context::new();
    context.run(|| drop(LABEL.set(7)));
    // a thread whose locals are gone has no current context that could keep it
    assert!(context.get(&LABEL) == Some(7) || ENDING.get());
    let (job, handle) = Job::new(|| LABEL.get_or(0));
    job.run();
    let _ = handle.wait().expect("a value");
}

fn uses_bridges() {
    let value = async_to_sync(|| async { sync_to_async(|| 8).await.unwrap_or_default() });
    // a thread whose locals are gone has no lane, and says so
    assert!(matches!(value.call(), Ok(8)) || ENDING.get());
}

fn uses_events_and_locks() {
    let event = Event::new();
    assert!(!event.wait_timeout(Duration::from_millis(1)));
    event.set();
    event.wait();
    block_on(event.wait_async());
    let lock = std::sync::Arc::new(parking_lot::Mutex::new(1));
    *block_on(async_lock(&lock, "late", Polling::default())) += 1;
}

fn wakes_and_drops() {
    let events = EventLoop::new();
    let (conductor, future) = kit::scripted::<()>();
    let task = events.spawn_local(future);
    events.run_until_complete(yield_now()).expect("it is idle");
    conductor.wake();
    drop(events);
    conductor.complete(());
    assert!(task.wait().expect_err("closed").is_cancelled());
}

const STEPS: [(&str, Step); 10] = [
    ("promises", waits_for_promises),
    ("pools", uses_pools),
    ("block_on", blocks_on_timers),
    ("loops", runs_loops),
    ("the own loop", asks_for_its_own_loop),
    ("lanes", uses_lanes),
    ("contexts", uses_contexts),
    ("bridges", uses_bridges),
    ("events", uses_events_and_locks),
    ("wakes", wakes_and_drops),
];

/// Does a step when its thread ends, and tells.
struct AtEnd(Step, Sender<()>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        ENDING.set(true);
        (self.0)();
        let _ = self.1.send(());
    }
}

thread_local! {
    static FIRST: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
    static LAST: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
}

#[test]
fn in_the_destructors_of_a_threads_locals_everything_answers() {
    for (name, step) in STEPS {
        for used_before in [false, true] {
            let _watch = watchdog(20);
            let (sender, receiver) = channel();
            let thread = std::thread::spawn(move || {
                // locals are destroyed in an order nobody promises: one is made before those
                // of the crate, one after
                FIRST.with(|slot| *slot.borrow_mut() = Some(AtEnd(step, sender.clone())));
                if used_before {
                    for (_, step) in STEPS {
                        step();
                    }
                }
                LAST.with(|slot| *slot.borrow_mut() = Some(AtEnd(step, sender)));
            });
            assert!(thread.join().is_ok(), "{name}");
            assert_eq!(
                receiver.iter().count(),
                2,
                "{name}, used before: {used_before}"
            );
        }
    }
}

#[test]
fn while_a_thread_unwinds_everything_works() {
    for (name, step) in STEPS {
        let _watch = watchdog(20);
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || {
            let _bell = OnDrop::new(move || {
                assert!(std::thread::panicking());
                step();
                let _ = sender.send(());
            });
            panic!("on the way down");
        });
        assert!(thread.join().is_err());
        assert_eq!(receiver.iter().count(), 1, "{name}");
    }
}

#[test]
fn inside_a_job_a_task_and_a_lane_everything_works() {
    let _watch = watchdog(60);
    let pool = ThreadPool::builder().core_threads(1).max_threads(4).build();
    let pool = pool.expect("legal sizes");
    for (name, step) in STEPS {
        if name == "pools" {
            // it asserts that it is on no worker
            continue;
        }
        pool.spawn_blocking(step).wait().expect(name);
        pool.spawn(async move { step() }).wait().expect(name);
        let lane = CurrentThreadExecutor::new(None);
        let job = kit::on_new_thread(|| lane.submit(step)).expect("taken");
        let done = lane.run_until_future(job).expect("its owner");
        done.expect(name);
    }
}

#[test]
fn a_waker_fired_by_a_dying_thread_is_heard() {
    type Bell = OnDrop<Box<dyn FnOnce()>>;
    thread_local! {
        static WAKES: RefCell<Option<Bell>> = const { RefCell::new(None) };
    }
    let _watch = watchdog(20);
    let (conductor, future) = kit::scripted();
    let pool = ThreadPool::builder()
        .core_threads(1)
        .build()
        .expect("legal");
    let task = pool.spawn(future);
    let events = EventLoop::new();
    let (local, future) = kit::scripted();
    let other = events.spawn_local(future);
    events.run_until_complete(yield_now()).expect("it is idle");
    kit::eventually("the first poll", || conductor.polls() == 1);
    std::thread::spawn(move || {
        let wake: Box<dyn FnOnce()> = Box::new(move || {
            conductor.complete(1);
            local.complete(2);
        });
        WAKES.with(|slot| *slot.borrow_mut() = Some(OnDrop::new(wake)));
    });
    assert_eq!(task.wait().expect("a value"), 1);
    let value = events.run_until_complete(other).expect("it is idle");
    assert_eq!(value.expect("a value"), 2);
}
