//! Destructors and callbacks that call back into the crate, in every place where they run.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portage::bridge::async_to_sync;
use portage::context::{Context, ContextVar};
use portage::event_loop::ensure_thread_event_loop;
use portage::execution_queue::AsyncExecutionQueue;
use portage::pool::Shutdown;
use portage::promise::CancelHandle;
use portage::time::{sleep, timeout, yield_now};
use portage::{CurrentThreadExecutor, EventLoop, Job, ThreadPool, block_on, promise};

use super::books_balance;
use crate::kit::{self, Gate, OnDrop, OpenAtEnd, watchdog};

static LEVEL: ContextVar<u32> = ContextVar::new("level");

/// What a destructor may know of the world that it dies in.
#[derive(Clone)]
struct World {
    pool: ThreadPool,
    own: Arc<std::sync::Mutex<Option<CancelHandle>>>,
    ends: bool,
    is_at_thread_end: bool,
    done: Arc<AtomicUsize>,
}

impl World {
    fn new(ends: bool) -> Self {
        let pool = ThreadPool::builder().core_threads(2).max_threads(8).build();
        Self {
            pool: pool.expect("legal sizes"),
            own: Arc::default(),
            ends,
            is_at_thread_end: false,
            done: Arc::default(),
        }
    }

    /// A guard whose drop does everything that the crate lets one do.
    fn bell(&self) -> impl FnOnce() + Send + 'static {
        let world = self.clone();
        let bell = OnDrop::new(move || {
            world.everything();
            world.done.fetch_add(1, Ordering::Relaxed);
        });
        move || drop(bell)
    }

    fn rang(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    fn everything(&self) {
        // the task that is ending, from inside its end
        let own = kit::lock(&self.own).take();
        if let Some(own) = own {
            let _ = (
                own.cancel(),
                own.is_cancelled(),
                own.is_finished(),
                own.id(),
            );
        }
        // spawns and waits: a value, or a refusal of the pool that goes
        for handle in [
            self.pool.spawn_blocking(|| 1),
            self.pool.spawn(async {
                yield_now().await;
                1
            }),
        ] {
            let outcome = handle.wait();
            assert!(outcome.as_ref().map_or_else(|e| !e.is_panic(), |v| *v == 1));
        }
        let _ = self.pool.submit(|| ()).map(|handle| handle.cancel());
        let _ = self.pool.metrics();
        assert_eq!(
            ThreadPool::global().spawn_blocking(|| 2).wait().ok(),
            Some(2)
        );
        // promises and chains
        let (writer, reader) = promise::<u32>();
        let next = reader.map(|value| value + 1);
        assert!(writer.resolve(1).is_ok());
        assert_eq!(next.wait().ok(), Some(2));
        // variables: the context that it dies in is its own to change
        let token = LEVEL.set(7);
        // a thread whose locals are gone has no current context that could keep it
        assert!(LEVEL.get() == Some(7) || self.is_at_thread_end);
        assert!(LEVEL.reset(token).is_ok() || self.is_at_thread_end);
        Context::new().run(|| assert_eq!(LEVEL.get(), None));
        // loops, lanes, timers
        assert_eq!(block_on(async { 3 }), 3);
        let short = Duration::from_millis(1);
        assert!(block_on(timeout(short, sleep(Duration::MAX))).is_err());
        ensure_thread_event_loop().spawn(async {}).detach();
        let _ = EventLoop::new().run_until_complete(yield_now());
        let lane = CurrentThreadExecutor::new(None);
        // one that is made so late takes nothing
        assert!(lane.run_until_future(async { 4 }).is_ok() || self.is_at_thread_end);
        let _ = async_to_sync(|| async { 5 }).call();
        drop(Job::new(|| ()));
        if self.ends {
            let mode = if self.rang() % 2 == 0 {
                Shutdown::Drain
            } else {
                Shutdown::CancelQueued
            };
            let _ = self.pool.shutdown_timeout(mode, short);
            assert!(self.pool.is_shut_down());
        }
    }
}

/// What rings the bell, with the world already told of its own handle where there is one.
type Scene = fn(&World);

const SCENES: [(&str, Scene); 12] = [
    ("a closure that runs", |world| {
        let bell = world.bell();
        let job = world.pool.spawn_blocking(bell);
        let _ = job.wait();
    }),
    ("a closure that is cancelled", |world| {
        let gate = Gate::new();
        let _end = OpenAtEnd(gate.clone());
        for _ in 0..2 {
            let at = gate.clone();
            world.pool.spawn_blocking(move || at.pass()).detach();
        }
        let bell = world.bell();
        let job = world.pool.spawn_blocking(bell);
        *kit::lock(&world.own) = Some(job.cancel_handle());
        let _ = job.cancel();
    }),
    ("a value that nobody reads", |world| {
        let bell = world.bell();
        let job = world.pool.spawn_blocking(move || OnDrop::new(bell));
        *kit::lock(&world.own) = Some(job.cancel_handle());
        job.detach();
    }),
    ("a value that goes with its handle", |world| {
        let bell = world.bell();
        let job = world.pool.spawn_blocking(move || OnDrop::new(bell));
        kit::eventually("the end", || job.is_finished());
        drop(job);
    }),
    ("a task that is cancelled", |world| {
        let bell = OnDrop::new(world.bell());
        let (told, polled) = std::sync::mpsc::channel();
        let task = world.pool.spawn(async move {
            let _held = bell;
            told.send(()).expect("the test waits");
            sleep(Duration::MAX).await;
        });
        *kit::lock(&world.own) = Some(task.cancel_handle());
        polled.recv().expect("it is polled");
        let _ = task.cancel();
        assert!(task.wait().is_err());
    }),
    ("a task that is lost", |world| {
        let bell = OnDrop::new(world.bell());
        let task = world.pool.spawn(async move {
            let _held = bell;
            kit::Forgotten.await;
        });
        assert!(task.wait().is_err_and(|error| error.is_lost()));
    }),
    ("a panic's payload", |world| {
        let bell = OnDrop::new(world.bell());
        let job = world
            .pool
            .spawn_blocking(move || std::panic::panic_any(bell));
        let outcome: Result<(), _> = job.wait();
        assert!(outcome.is_err_and(|error| error.is_panic()));
    }),
    ("a callback", |world| {
        let bell = world.bell();
        let (writer, reader) = promise::<u8>();
        *kit::lock(&world.own) = Some(reader.cancel_handle());
        reader.on_complete(move |_| bell());
        assert!(writer.resolve(1).is_ok());
    }),
    ("a context", |world| {
        static HELD: ContextVar<Option<Arc<dyn std::any::Any + Send + Sync>>> =
            ContextVar::new("held");
        let bell = OnDrop::new(world.bell());
        let bell: Arc<dyn std::any::Any + Send + Sync> = Arc::new(std::sync::Mutex::new(bell));
        let pool = world.pool.clone();
        let job = Context::new().run(move || {
            let _token = HELD.set(Some(bell));
            pool.spawn_blocking(|| ())
        });
        let _ = job.wait();
    }),
    ("a task of a loop that closes", |world| {
        let bell = OnDrop::new(world.bell());
        let events = EventLoop::new();
        let task = events.spawn_local(async move {
            let _held = bell;
            sleep(Duration::MAX).await;
        });
        *kit::lock(&world.own) = Some(task.cancel_handle());
        events.run_until_complete(yield_now()).expect("it is idle");
        drop(events);
        assert!(task.wait().is_err());
    }),
    ("a job of a lane that ends", |world| {
        let bell = world.bell();
        let lane = CurrentThreadExecutor::new(None);
        let remote = lane.clone();
        let job = kit::on_new_thread(move || remote.submit(bell).expect("open"));
        drop(lane);
        assert!(job.wait().is_err());
    }),
    ("a job of a queue that closes", |world| {
        let gate = Gate::new();
        let queue = AsyncExecutionQueue::new();
        let at = gate.clone();
        let first = queue.add_task(move || at.pass()).expect("open");
        let bell = world.bell();
        let job = queue.add_task(bell).expect("open");
        *kit::lock(&world.own) = Some(job.cancel_handle());
        let _end = OpenAtEnd(gate.clone());
        drop(queue);
        assert!(job.wait().is_err_and(|error| error.is_cancelled()));
        drop(first);
    }),
];

#[test]
fn a_destructor_may_do_everything_wherever_it_runs() {
    for (name, scene) in SCENES {
        let _watch = watchdog(30);
        let world = World::new(false);
        scene(&world);
        kit::eventually(name, || world.rang() == 1);
        assert!(world.pool.shutdown(Shutdown::Drain).completed, "{name}");
        books_balance(&world.pool);
    }
}

#[test]
fn a_destructor_may_shut_the_pool_down_that_runs_it() {
    for (name, scene) in SCENES {
        let _watch = watchdog(30);
        let world = World::new(true);
        scene(&world);
        kit::eventually(name, || world.rang() == 1);
        assert!(world.pool.shutdown(Shutdown::Drain).completed, "{name}");
        assert!(world.pool.submit(|| ()).unwrap_err().is_shut_down());
        books_balance(&world.pool);
    }
}

/// The end of a thread's locals with guards in all of them.
#[test]
fn a_destructor_of_a_threads_local_may_do_everything() {
    type Bell = RefCell<Option<OnDrop<Box<dyn FnOnce()>>>>;
    thread_local! {
        static FIRST: Bell = const { RefCell::new(None) };
        static LAST: Bell = const { RefCell::new(None) };
    }
    for ends in [false, true] {
        let _watch = watchdog(30);
        let mut world = World::new(ends);
        world.is_at_thread_end = true;
        let (first, last) = (world.bell(), world.bell());
        let inside = world.clone();
        std::thread::spawn(move || {
            FIRST.with(|slot| *slot.borrow_mut() = Some(OnDrop::new(Box::new(first))));
            World::new(false).everything();
            let _ = inside.pool.spawn_blocking(|| ()).wait();
            LAST.with(|slot| *slot.borrow_mut() = Some(OnDrop::new(Box::new(last))));
        })
        .join()
        .expect("no panic at the end of the thread");
        assert_eq!(world.rang(), 2);
        assert!(world.pool.shutdown(Shutdown::Drain).completed);
    }
}
