//! The system refuses threads: the first, later ones, all of them; and stacks it cannot give.

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use portage::bridge::{async_to_sync, exec_in_executor, sync_to_async, thread_sensitive_context};
use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::executors::{DefaultBackgroundExecutor, EventLoopPoolExecutor};
use portage::pool::{Shutdown, Starter};
use portage::sync::{Event, Polling, ThreadWithException, async_lock, await_threading_event};
use portage::time::{sleep, timeout};
use portage::{EventLoop, Executor, Job, ThreadPool, block_on};

use super::books_balance;
use crate::kit::{self, Drops, Gate, OpenAtEnd, watchdog};

/// Starts a thread when `says` of the number of the attempt, which counts from zero.
struct Stingy<F> {
    asked: AtomicUsize,
    /// Gets the number and whether it is for the watchdog.
    says: F,
}

impl<F: Fn(usize, bool) -> bool + Send + Sync + 'static> Stingy<F> {
    fn new(says: F) -> Arc<Self> {
        let asked = AtomicUsize::new(0);
        Arc::new(Self { asked, says })
    }

    fn pool(self: &Arc<Self>, core: usize, max: usize) -> ThreadPool {
        let builder = ThreadPool::builder().core_threads(core).max_threads(max);
        builder.starter(self.clone()).build().expect("legal sizes")
    }
}

impl<F: Fn(usize, bool) -> bool + Send + Sync> Starter for Stingy<F> {
    fn start(
        &self,
        name: String,
        _stack: Option<usize>,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if !(self.says)(number, name.ends_with("watchdog")) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        thread::Builder::new().name(name).spawn(body)
    }
}

#[test]
fn every_way_in_answers_when_the_first_thread_is_refused() {
    let _watch = watchdog(20);
    let pool = Stingy::new(|_, _| false).pool(2, 4);
    let drops = Drops::new();
    let token = || drops.token();
    let held = token();
    let refused = pool.submit(move || drop(held)).unwrap_err();
    assert!(refused.is_broken());
    refused.into_job().expect("the job comes back").run();
    assert_eq!(drops.live(), 0, "it ran here");
    let held = token();
    let (job, handle) = Job::new(move || drop(held));
    assert!(pool.execute(job).unwrap_err().is_broken());
    assert!(handle.wait().unwrap_err().is_lost());
    let (a, b, c, d) = (token(), token(), token(), token());
    let ended = [
        pool.spawn_blocking(move || drop(a)).wait(),
        pool.spawn(async move { drop(b) }).wait(),
        pool.spawn_pinned(move || async move { drop(c) }).wait(),
        pool.spawn_batch([move || drop(d)]).remove(0).wait(),
    ];
    for outcome in ended {
        assert!(outcome.unwrap_err().is_shut_down());
    }
    assert_eq!(drops.live(), 0);
    assert_eq!(pool.metrics().submitted, 0);
    assert!(pool.shutdown(Shutdown::Drain).completed);
}

#[test]
fn a_pool_whose_every_second_thread_is_refused_does_all_its_work() {
    let _watch = watchdog(60);
    for core in [1, 3] {
        let starter = Stingy::new(|number, _| number % 2 == 1);
        let pool = starter.pool(core, 8);
        // the very first one is refused
        assert!(pool.submit(|| ()).unwrap_err().is_broken());
        let drops = Drops::new();
        let jobs: Vec<_> = (0..2_000_u32)
            .map(|number| {
                let token = drops.token();
                pool.spawn_blocking(move || {
                    if number % 100 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                    drop(token);
                    number
                })
            })
            .collect();
        for (number, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.wait().expect("it ran") as usize, number);
        }
        assert_eq!(drops.live(), 0);
        books_balance(&pool);
        assert!(pool.shutdown(Shutdown::Drain).completed);
    }
}

#[test]
fn a_job_behind_a_blocked_one_gets_its_thread_once_the_system_relents() {
    let _watch = watchdog(30);
    let starter = Stingy::new(|number, is_watchdog| is_watchdog || number == 0 || number > 6);
    let pool = starter.pool(1, 4);
    let gate = Gate::new();
    let _end = OpenAtEnd(gate.clone());
    let at = gate.clone();
    let blocked = pool.spawn_blocking(move || at.pass());
    gate.wait_entered(1);
    let open = gate.clone();
    let behind = pool.spawn_blocking(move || open.open());
    behind.wait().expect("another thread comes in the end");
    blocked.wait().expect("it was let go");
    assert!(starter.asked.load(Ordering::Relaxed) > 6);
    books_balance(&pool);
}

#[test]
fn without_a_watchdog_a_pool_still_does_all_its_work() {
    let _watch = watchdog(60);
    let pool = Stingy::new(|_, is_watchdog| !is_watchdog).pool(2, 16);
    let jobs: Vec<_> = (0..500_u32)
        .map(|number| {
            pool.spawn_blocking(move || {
                if number % 10 == 0 {
                    thread::sleep(Duration::from_micros(200));
                }
                number
            })
        })
        .collect();
    for (number, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.wait().expect("it ran") as usize, number);
    }
    // waits of our own are compensated without one
    let inner = pool.clone();
    let nested = pool.spawn_blocking(move || inner.spawn(async { 7 }).wait());
    assert_eq!(nested.wait().unwrap().unwrap(), 7);
    assert!(pool.shutdown(Shutdown::Drain).completed);
}

#[test]
fn refusals_in_the_middle_of_a_shutdown_hang_nobody() {
    let _watch = watchdog(60);
    for mode in [Shutdown::Drain, Shutdown::CancelQueued] {
        let pool = Stingy::new(|number, _| number == 0).pool(4, 8);
        let gate = Gate::new();
        let end = OpenAtEnd(gate.clone());
        let at = gate.clone();
        let first = pool.spawn_blocking(move || at.pass());
        gate.wait_entered(1);
        let rest: Vec<_> = (0..100).map(|_| pool.spawn_blocking(|| ())).collect();
        let ending = {
            let pool = pool.clone();
            thread::spawn(move || pool.shutdown(mode))
        };
        kit::eventually("the call", || pool.is_shut_down());
        drop(end);
        assert!(ending.join().expect("no panic").completed);
        first.wait().expect("it had started");
        for job in rest {
            let outcome = job.wait();
            assert!(outcome.is_ok() || outcome.unwrap_err().is_cancelled());
        }
        books_balance(&pool);
    }
}

#[test]
fn a_pool_that_breaks_while_threads_are_refused_ends_all_that_it_has() {
    let _watch = watchdog(60);
    for round in 0..20 {
        let starter = Stingy::new(|number, is_watchdog| is_watchdog || number % 2 == 0);
        let builder = ThreadPool::builder().core_threads(2 + round % 3);
        let builder = builder.on_thread_start(|index| {
            if index > 0 {
                std::panic::resume_unwind(Box::new("only the first one starts"));
            }
        });
        let pool = builder.starter(starter).build().expect("legal sizes");
        let (gate, drops) = (Gate::new(), Drops::new());
        let end = OpenAtEnd(gate.clone());
        let asleep = {
            let (token, pinned) = (drops.token(), drops.token());
            let nap = |token| async move {
                sleep(Duration::from_secs(3600)).await;
                drop(token);
            };
            [
                pool.spawn(nap(token)),
                pool.spawn_pinned(move || nap(pinned)),
            ]
        };
        let at = gate.clone();
        let first = pool.spawn_blocking(move || at.pass());
        // The second thread may break the pool before the first one gets so far.
        kit::eventually("a start or an end", || {
            gate.entered() == 1 || first.is_finished()
        });
        let queued = [(); 10].map(|()| {
            let token = drops.token();
            pool.spawn_blocking(move || drop(token))
        });
        for job in queued {
            assert!(job.wait().unwrap_err().is_shut_down());
        }
        assert!(pool.submit(|| ()).unwrap_err().is_broken());
        drop(end);
        if let Err(error) = first.wait() {
            assert!(error.is_shut_down() && gate.entered() == 0, "{error}");
        }
        for task in asleep {
            let error = task.wait().unwrap_err();
            assert!(error.is_shut_down() || error.is_cancelled(), "{error}");
        }
        books_balance(&pool);
        assert!(pool.shutdown(Shutdown::Drain).completed);
        assert_eq!(drops.live(), 0);
    }
}

#[test]
fn a_stack_that_no_system_has_is_an_error_and_a_large_one_works() {
    let _watch = watchdog(20);
    for bytes in [0, 1 << 37, 1 << 46, isize::MAX as usize, usize::MAX] {
        let error = ThreadPool::builder().stack_size(bytes).build();
        let Err(error) = error else {
            // some systems promise any amount of memory that is not touched
            assert!(bytes == 1 << 37, "{bytes} was taken");
            continue;
        };
        assert!(error.is_invalid(), "{bytes}: {error}");
        assert!(error.to_string().contains("stack_size"), "{error}");
    }
    for bytes in [1, 64 << 20] {
        let pool = ThreadPool::builder().core_threads(1).stack_size(bytes);
        let pool = pool.build().expect("rounded up, or as asked");
        assert_eq!(pool.spawn_blocking(|| 1).wait().unwrap(), 1);
    }
}

const CHILD: &str = "PORTAGE_TEST_NO_MORE_THREADS";

/// In a process of its own, as the limit is one of the whole process.
#[test]
#[cfg(target_os = "linux")]
fn a_process_that_gets_no_thread_at_all_gets_errors() {
    if std::env::var_os(CHILD).is_some() {
        return without_any_thread();
    }
    let _watch = watchdog(60);
    let me = std::env::current_exe().expect("this program");
    let ran = Command::new(me)
        .args([
            "--exact",
            "threads::a_process_that_gets_no_thread_at_all_gets_errors",
        ])
        .arg("--nocapture")
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[cfg(target_os = "linux")]
fn without_any_thread() {
    let _watch = watchdog(30);
    refuse_threads();
    assert!(
        thread::Builder::new().spawn(|| ()).is_err(),
        "still gets threads"
    );

    let pool = ThreadPool::new().expect("its threads start with its jobs");
    assert!(pool.submit(|| ()).is_err_and(|error| error.is_broken()));
    assert!(
        ThreadPool::global()
            .submit(|| ())
            .is_err_and(|error| error.is_broken())
    );
    assert!(
        pool.spawn(async {})
            .wait()
            .is_err_and(|error| error.is_shut_down())
    );
    assert!(DefaultBackgroundExecutor::new().is_err_and(|error| error.is_thread()));
    assert!(EventLoopPoolExecutor::new(2).is_err_and(|error| error.is_thread()));
    assert!(ThreadWithException::spawn(|| ()).is_err());
    assert!(exec_in_executor(None, || ()).is_err_and(|error| error.is_broken()));

    // time needs no thread
    let short = Duration::from_millis(3);
    block_on(sleep(short));
    kit::foreign_block_on(sleep(short));
    assert!(kit::foreign_block_on(timeout(short, sleep(Duration::MAX))).is_err());
    let events = EventLoop::new();
    events.run_until_complete(sleep(short)).expect("it is idle");

    // bridges: an error where a thread is needed
    assert!(async_to_sync(|| async { 5 }).call().is_err());
    assert!(block_on(sync_to_async(|| 1).into_future()).is_err());
    assert!(block_on(sync_to_async(|| 1).thread_sensitive(false).into_future()).is_err());
    let inside = thread_sensitive_context(async { sync_to_async(|| 1).await });
    assert!(block_on(inside).is_err());

    // a queue gives every job its error
    let queue = AsyncExecutionQueue::new();
    let refused = match queue.add_task(|| ()) {
        Ok(handle) => handle.wait().is_err(),
        Err(error) => error.is_broken(),
    };
    assert!(refused);
    queue.close(Close::Drain);

    // what waits in rounds on the pool looks again from time to time
    let lock = Arc::new(parking_lot::Mutex::new(()));
    let held = lock.lock_arc();
    let wait = timeout(short, async_lock(&lock, "held", Polling::default()));
    assert!(block_on(wait).is_err());
    drop(held);
    drop(block_on(async_lock(&lock, "free", Polling::default())));
    let event = Arc::new(Event::new());
    let wait = await_threading_event(&event, "never", Some(short), Polling::default());
    assert!(!block_on(wait));
}

/// From here on there is no address space for another stack.
#[cfg(target_os = "linux")]
fn refuse_threads() {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = pages
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    // SAFETY: reads a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    let limit = libc::rlimit {
        rlim_cur: pages * page + (1 << 20),
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is ours for the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(set, 0, "the limit was not set");
}
