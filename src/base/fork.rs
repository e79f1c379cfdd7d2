//! What a forked child knows of the threads that it was born without.
//!
//! `fork` copies the memory of a process, but of its threads only the one that calls it. Pools,
//! loops and lanes of the others look alive in the child, and whoever waits for them would wait
//! for ever. So threads and pools have numbers that grow, and at a fork the child draws a line
//! under those that were given out so far: what stands above the line was left behind. The
//! places where work is handed in or waited for ask, and give an error.
//!
//! The child starts no threads either. std takes a lock at each start, which a thread of the parent
//! may have held; and `parking_lot`'s locks, where they are contended, put threads into a table of
//! the whole process, with entries on the stacks of those who sleep: in the child the system hands
//! the same stacks to new threads, and the next one that sleeps there follows an entry into them.
//! (A child that was forked before a second thread came here has nothing of all this: there
//! everything works as in its parent.)
//!
//! The thread that is left sleeps and wakes without that table ([`park`](crate::base::park)), and
//! finds its errors by numbers alone. More cannot be done: a lock that another thread held at the
//! fork stays locked in the child. A child should `exec`.
//!
//! # Ordering
//!
//! The child has one thread when the line is drawn; the threads that it starts later see it by
//! their start. So all accesses are relaxed.

use std::cell::Cell;
use std::io;
#[cfg(all(unix, not(any(loom, shuttle))))]
use std::sync::Once;

use crate::base::sync::local;
use crate::base::sync::plain::{AtomicBool, AtomicU64, Ordering};

/// Numbers that are given out once in the life of a process and its children; never zero.
#[derive(Debug)]
pub(crate) struct Numbers {
    last: AtomicU64,
    /// Up to here they were given out before the last fork.
    line: AtomicU64,
}

/// Of threads; see [`thread_key`](crate::entered::thread_key).
pub(crate) static THREADS: Numbers = Numbers::new();
/// Of pools.
pub(crate) static POOLS: Numbers = Numbers::new();
/// Of threads that run jobs for the bridge.
pub(crate) static LONE_THREADS: Numbers = Numbers::new();

/// Has this crate started a thread?
static STARTED: AtomicBool = AtomicBool::new(false);
/// How many forks that left threads behind lie between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// The number of the thread that called the last fork; zero if it had none.
static SURVIVOR: AtomicU64 = AtomicU64::new(0);

local! {
    static KEY: Cell<u64> = Cell::new(0);
}

impl Numbers {
    const fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
            line: AtomicU64::new(0),
        }
    }

    pub(crate) fn take(&self) -> u64 {
        watch();
        // Ordering: Relaxed: see the module's header.
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Was the number given out before the fork that made this process?
    #[inline]
    pub(crate) fn is_left_behind(&self, number: u64) -> bool {
        // Ordering: Relaxed: see the module's header.
        number <= self.line.load(Ordering::Relaxed)
    }

    fn draw_line(&self) {
        // Ordering: Relaxed: see the module's header.
        let last = self.last.load(Ordering::Relaxed);
        self.line.store(last, Ordering::Relaxed);
    }
}

/// The number of this thread; a fresh one at each call once its locals are gone.
pub(crate) fn thread_number() -> u64 {
    KEY.try_with(|key| {
        if key.get() == 0 {
            key.set(THREADS.take());
        }
        key.get()
    })
    .unwrap_or_else(|_| THREADS.take())
}

/// Was that thread left behind in the parent?
#[inline]
pub(crate) fn is_thread_gone(number: u64) -> bool {
    // Ordering: Relaxed: see the module's header.
    THREADS.is_left_behind(number) && number != SURVIVOR.load(Ordering::Relaxed)
}

/// Zero in a process that no fork has cut off from threads of its parent; else greater than
/// there.
#[inline]
pub(crate) fn generation() -> u64 {
    // Ordering: Relaxed: see the module's header.
    FORKS.load(Ordering::Relaxed)
}

/// Asked before a thread is started.
///
/// # Errors
///
/// This is a child that was forked from a process with threads; see the module's header.
pub(crate) fn may_start_thread() -> io::Result<()> {
    if generation() > 0 {
        return Err(io::Error::other(
            "a process that was forked from one with threads starts none",
        ));
    }
    watch();
    // Ordering: Relaxed: see the module's header.
    STARTED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Has the system call [`child`] in every child from now on.
#[cfg(all(unix, not(any(loom, shuttle))))]
fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY: the handler only loads and stores atomics and a thread-local that needs
        // neither memory nor a destructor, all of which is legal in a child of a process with
        // threads. Where there is no memory for its registration, children are not told.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(child)) };
    });
}

#[cfg(not(all(unix, not(any(loom, shuttle)))))]
fn watch() {}

/// Runs in the child, before `fork` returns there.
#[cfg(all(unix, not(any(loom, shuttle))))]
extern "C" fn child() {
    let survivor = KEY.try_with(Cell::get).unwrap_or(0);
    // Ordering: Relaxed: see the module's header.
    let threads = THREADS.last.load(Ordering::Relaxed);
    if !STARTED.load(Ordering::Relaxed) && threads <= u64::from(survivor != 0) {
        return;
    }
    for numbers in [&THREADS, &POOLS, &LONE_THREADS] {
        numbers.draw_line();
    }
    SURVIVOR.store(survivor, Ordering::Relaxed);
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Numbers;

    #[test]
    fn a_line_leaves_the_older_numbers_behind() {
        let numbers = Numbers::new();
        let (first, second) = (numbers.take(), numbers.take());
        assert_eq!((first, second), (1, 2));
        assert!(!numbers.is_left_behind(first));
        numbers.draw_line();
        assert!(numbers.is_left_behind(first) && numbers.is_left_behind(second));
        assert!(!numbers.is_left_behind(numbers.take()));
    }
}
