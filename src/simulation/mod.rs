//! Runs a program one step at a time, with chosen steps and a clock of its own. For tests.
//!
//! A concurrent program does something else each time it is run. In here it does not: one thread
//! at a time has the turn, who gets it next is decided by the [`Choices`] that the
//! simulation was given, and time passes only when nobody can run. The same choices make the
//! same program do the same, so a failure that one seed has found is found again by
//! that seed; and a byte string of a fuzzer is a schedule.
//!
//! Nothing is mocked: pools, loops, lanes, timers, queues and bridges are those of every other
//! build. Only four things are different in a simulation, at the very bottom of the crate: to
//! sleep, to be woken, to start or join a thread, and to read the clock. So a program that would
//! hang is told from one that is slow, at once and for sure: [`Fault::is_hang`] says who waits for
//! what.
//!
//! This module needs the feature `test-util`, which belongs into `[dev-dependencies]`:
//!
//! ```toml
//! [dev-dependencies]
//! portage = { version = "0.1", features = ["test-util"] }
//! ```
//!
//! # What is inside
//!
//! The program given to [`run`], and every thread that this crate starts from inside: the workers
//! of a [`ThreadPool`](crate::ThreadPool) made there, of
//! [`ThreadPool::global`](crate::ThreadPool::global), which is another one in each simulation,
//! [`ThreadWithException`](crate::sync::ThreadWithException), the loops of
//! [`executors`](crate::executors), the threads of the [`bridge`](crate::bridge). The turn changes
//! when a thread waits for something of this crate, when it wakes another one, when it ends, and at
//! [`switch`].
//!
//! What is not: threads that the program starts by itself, and waits that this crate knows
//! nothing of. A thread that blocks in a channel of the standard library keeps its turn, and
//! everything stands still for real. [`std::thread::sleep`] takes real time and nobody else's
//! turn; write `block_on(sleep(..))`. [`Instant::now`] is not the time in here; use [`now`].
//!
//! # Examples
//!
//! Two threads, and all orders in which they can add to a list:
//!
//! ```
//! use portage::simulation;
//! use portage::sync::ThreadWithException;
//! use std::collections::BTreeSet;
//! use std::sync::{Arc, Mutex};
//!
//! let seen = Arc::new(Mutex::new(BTreeSet::new()));
//! let all = seen.clone();
//! simulation::explore(0..50, move || {
//!     let list = Arc::new(Mutex::new(Vec::new()));
//!     let threads = ["a", "b"].map(|name| {
//!         let list = list.clone();
//!         ThreadWithException::spawn(move || list.lock().unwrap().push(name)).unwrap()
//!     });
//!     threads.map(ThreadWithException::join);
//!     all.lock().unwrap().insert(list.lock().unwrap().clone());
//! });
//! assert_eq!(seen.lock().unwrap().len(), 2);
//! ```
//!
//! A hang, and an hour that takes no time:
//!
//! ```
//! use portage::{simulation, time::sleep};
//! use std::time::Duration;
//!
//! let fault = simulation::run(7, || {
//!     portage::block_on(sleep(Duration::from_secs(3600)));
//!     let (promise, handle) = portage::promise::<()>();
//!     std::thread::spawn(|| std::mem::forget(promise));
//!     drop(handle.wait());
//! })
//! .unwrap_err();
//! assert!(fault.is_hang());
//! assert!(fault.to_string().contains("`the program` waits for the outcome of"), "{fault}");
//! ```

#![forbid(unsafe_code)]

mod fault;
#[cfg(all(test, not(any(loom, shuttle))))]
mod replay;

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::contain::contain;
use crate::base::simulated::{self, World};
use crate::base::sync::Arc;

pub use crate::base::simulated::Choices;
pub use fault::Fault;

/// Runs `program`, and all threads that the crate starts for it, in chosen turns.
///
/// Returns when all of them have ended, with what `program` gave. Under the same choices the
/// same program does the same.
///
/// # Errors
///
/// [`Fault::is_hang`]: nobody can run, and no time that passes would change that; also when
/// `program` has ended and a thread has not, as that of a pool that was never dropped.
/// [`Fault::is_endless`]: after 200 000 turns it has not come to an end.
/// [`Fault::is_leak`]: it has ended, and handles, jobs or tasks of it are still alive. The
/// threads of a hang are left as they stand, with all they own.
///
/// # Panics
///
/// With the panic of `program`; the choices that led to it are printed.
///
/// # Examples
///
/// ```
/// use portage::{ThreadPool, simulation};
///
/// let program = || {
///     let pool = ThreadPool::builder().core_threads(2).build().unwrap();
///     let halves = [pool.spawn_blocking(|| 20), pool.spawn_blocking(|| 22)];
///     let sum = halves.map(|half| half.wait().unwrap()).iter().sum::<i32>();
///     (sum, simulation::elapsed())
/// };
/// // bytes that were used up go on as zeros
/// assert_eq!(simulation::run(b"any bytes", program), simulation::run(b"any bytes", program));
/// ```
pub fn run<T, F>(choices: impl Into<Choices>, program: F) -> Result<T, Fault>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let world = World::new(choices.into());
    let theirs = world.clone();
    let first = std::thread::Builder::new().name("simulation".into());
    let first = first.spawn(move || {
        simulated::sit(theirs.clone(), 0);
        let output = contain(program);
        theirs.let_go();
        output
    });
    let first = first.expect("the system has one thread more");
    let verdict = world.verdict();
    let fault = verdict.map_err(|report| Fault::new(report, world.trail()));
    if fault.is_ok() || first.is_finished() {
        // A panic explains more than the fault that came of it.
        match first.join().and_then(|output| output) {
            Ok(output) => fault.map(|()| output),
            Err(payload) => {
                eprintln!("the choices of the simulation: {:?}", world.trail());
                resume_unwind(payload)
            }
        }
    } else {
        Err(fault.expect_err("looked at just now"))
    }
}

/// Runs `program` once with each of these seeds.
///
/// # Panics
///
/// With the first panic or fault; the seed and its choices are in the message, and
/// [`run`] with either does the same again.
///
/// # Examples
///
/// ```
/// use portage::{ThreadPool, promise::Cancel, simulation};
///
/// simulation::explore(0..20, || {
///     let pool = ThreadPool::builder().core_threads(1).build().unwrap();
///     let job = pool.spawn_blocking(|| "ran");
///     simulation::switch();
///     match job.cancel() {
///         Cancel::Prevented => assert!(job.wait().unwrap_err().is_cancelled()),
///         _ => assert_eq!(job.wait().unwrap(), "ran"),
///     }
/// });
/// ```
#[track_caller]
pub fn explore<F>(seeds: impl IntoIterator<Item = u64>, program: F)
where
    F: Fn() + Send + Sync + 'static,
{
    let program = Arc::new(program);
    for seed in seeds {
        let program = program.clone();
        let outcome = contain(|| run(seed, move || program()));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => panic!("seed {seed}: {fault}"),
            Err(payload) => {
                eprintln!("the seed of the simulation: {seed}");
                resume_unwind(payload)
            }
        }
    }
}

/// Lets another thread of the simulation go first, if the choices say so.
///
/// For places in a job where another thread could do something in between. Does nothing outside
/// of a simulation.
pub fn switch() {
    simulated::switch();
}

/// A number below `bound`, from the choices of the simulation; zero outside of one.
///
/// So that one string of bytes is a program and its schedule. `bound` is 256 at most.
#[must_use]
pub fn choose(bound: usize) -> usize {
    simulated::choose(bound)
}

/// The time in the simulation; outside of one, [`Instant::now`].
#[must_use]
pub fn now() -> Instant {
    clock::now()
}

/// How much time has passed in the simulation; zero outside of one.
#[must_use]
pub fn elapsed() -> Duration {
    simulated::seat().map_or(Duration::ZERO, |(world, _)| world.elapsed())
}
