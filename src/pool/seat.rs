//! A worker's seat: what others may see of it, and the roster of all seats.
//!
//! A worker takes its seat when its thread has started and leaves it at the end; the counts of
//! those who left are kept, so that sums never shrink.
//!
//! # Ordering
//!
//! Of the [`Desk`], `named` and `since` are Relaxed: a report shows what lay there at about the
//! same time, `look` reads the number of the task twice, and a name has its lock.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::panic::Location;
use std::task::Waker;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use crossbeam_utils::atomic::AtomicCell;

use crate::base::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::base::sync::{Arc, Mutex, thread};
use crate::pool::evidence::Pulse;
use crate::pool::guard::Kept;
use crate::pool::metrics::Totals;
use crate::pool::stranded::Stranded;
use crate::queue::local::Thief;
use crate::task::{Place, TaskId, TaskRef};

/// What others may see of a worker.
pub(super) struct Seat {
    /// Its place in the idle mask, and in the thread's name.
    pub(super) index: usize,
    /// The thieves' end of its own queue.
    pub(super) thief: Thief<TaskRef>,
    /// The task that it runs next.
    pub(super) next: Place,
    pub(super) waker: Waker,
    pub(super) pulse: Arc<Pulse>,
    pub(super) tally: CachePadded<Tally>,
    pub(super) desk: Desk,
    /// Pinned tasks that have started here and not ended.
    pub(super) pinned: AtomicUsize,
    /// Does it keep something that nobody was woken for?
    pub(super) kept: Kept,
    /// Its loop has got something from another thread.
    pub(super) called: AtomicBool,
    /// It sleeps in a wait of ours and awaits something of its pool.
    pub(super) stranded: Stranded,
}

/// Counts of one worker, written by it alone.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) submitted: Tick,
    pub(super) taken: Tick,
    pub(super) started: Tick,
    pub(super) unstarted: Tick,
    pub(super) completed: Tick,
    pub(super) panicked: Tick,
    pub(super) cancelled: Tick,
    pub(super) stolen: Tick,
    pub(super) wakes: Tick,
    pub(super) parks: Tick,
}

/// A count with one writer: no read-modify-write.
#[derive(Debug, Default)]
pub(super) struct Tick(AtomicU64);

impl Tick {
    #[inline]
    pub(super) fn bump(&self) {
        self.add(1);
    }

    #[inline]
    pub(super) fn add(&self, n: u64) {
        // Ordering: Release pairs with `read`: who sees an end counted sees everything counted
        // before it. The owner alone writes.
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now.wrapping_add(n), Ordering::Release);
    }

    pub(super) fn read(&self) -> u64 {
        // Ordering: Acquire pairs with `add`.
        self.0.load(Ordering::Acquire)
    }
}

/// What a worker is working on, for the report of a shutdown.
///
/// Written with plain stores before each task. The clock is read for the first task after a
/// pause and then for every sixteenth, unless tasks take long: a time that is a few
/// short tasks too old costs nothing in a report, reading the clock for each would cost a tenth
/// of a short task.
#[derive(Default)]
pub(super) struct Desk {
    task: AtomicCell<Option<TaskId>>,
    spawned_at: AtomicCell<Option<&'static Location<'static>>>,
    /// Microseconds since the pool's epoch.
    since: AtomicU64,
    named: AtomicBool,
    name: Mutex<Option<String>>,
}

/// A task on a desk.
#[derive(Clone, Debug)]
pub(super) struct AtWork {
    pub(super) id: TaskId,
    pub(super) name: Option<String>,
    pub(super) spawned_at: &'static Location<'static>,
    pub(super) since: Duration,
}

impl Desk {
    #[inline]
    pub(super) fn put(&self, task: &TaskRef) {
        self.spawned_at.store(Some(task.spawned_at()));
        if let Some(name) = task.name() {
            *self.name.lock() = Some(name.to_owned());
            self.named.store(true, Ordering::Relaxed);
        }
        self.task.store(Some(task.id()));
    }

    pub(super) fn stamp(&self, since: Duration) {
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        self.since.store(micros, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn clear(&self) {
        self.task.store(None);
        if self.named.load(Ordering::Relaxed) {
            self.named.store(false, Ordering::Relaxed);
            *self.name.lock() = None;
        }
    }

    /// What lies there; read twice, because the worker does not wait for the reader.
    pub(super) fn look(&self) -> Option<AtWork> {
        for _ in 0..64 {
            let id = self.task.load()?;
            let work = AtWork {
                id,
                name: self.name.lock().clone(),
                spawned_at: self.spawned_at.load()?,
                since: Duration::from_micros(self.since.load(Ordering::Relaxed)),
            };
            if self.task.load() == Some(id) {
                return Some(work);
            }
        }
        None
    }
}

/// All seats of a pool.
pub(super) struct Roster {
    /// Changes with every arrival and departure, so that workers may keep a copy of the list.
    version: AtomicUsize,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// Indices that are taken, also by threads that are being started.
    taken: Vec<bool>,
    seats: Arc<Vec<Arc<Seat>>>,
    /// Sums of those who left.
    departed: Totals,
    threads: usize,
    threads_peak: usize,
    /// Starts that were tried; the number of each is the thread's pass.
    passes: u64,
    refused: u64,
    retired: u64,
    /// The threads that have not left, by pass; `None` until the start has returned.
    handles: HashMap<u64, Option<thread::JoinHandle<()>>>,
    /// Threads that left at a shutdown, which joins them.
    gone: Vec<thread::JoinHandle<()>>,
}

/// What a thread is started with: its index, and a number that no other thread of the pool has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub(super) index: usize,
    number: u64,
}

/// A copy of the list of seats.
pub(super) struct Seats {
    version: usize,
    pub(super) list: Arc<Vec<Arc<Seat>>>,
}

impl Roster {
    pub(super) fn new() -> Self {
        Self {
            version: AtomicUsize::new(0),
            book: Mutex::new(Book::default()),
        }
    }

    /// Takes the lowest free index for a thread to be started.
    pub(super) fn assign(&self) -> Pass {
        let mut book = self.book.lock();
        let free = book.taken.iter().position(|taken| !taken);
        let index = free.unwrap_or(book.taken.len());
        if free.is_none() {
            book.taken.push(true);
        }
        book.taken[index] = true;
        let number = book.passes;
        book.passes += 1;
        book.handles.insert(number, None);
        book.threads += 1;
        book.threads_peak = book.threads_peak.max(book.threads);
        Pass { index, number }
    }

    /// The thread was refused.
    pub(super) fn unassign(&self, pass: Pass) {
        let mut book = self.book.lock();
        book.taken[pass.index] = false;
        book.handles.remove(&pass.number);
        book.threads -= 1;
        book.refused += 1;
    }

    /// Keeps the handle of a started thread, which may have come and gone meanwhile.
    pub(super) fn keep(&self, pass: Pass, handle: thread::JoinHandle<()>) {
        let mut book = self.book.lock();
        if let Some(place) = book.handles.get_mut(&pass.number) {
            *place = Some(handle);
        }
    }

    pub(super) fn arrive(&self, seat: Arc<Seat>) {
        let mut book = self.book.lock();
        let mut seats = book.seats.to_vec();
        seats.push(seat);
        book.seats = Arc::new(seats);
        self.changed();
    }

    /// The worker leaves its seat; its queue is empty.
    pub(super) fn depart(&self, seat: &Arc<Seat>, pass: Pass, retired: bool) {
        let mut book = self.book.lock();
        let mut seats = book.seats.to_vec();
        seats.retain(|other| !Arc::ptr_eq(other, seat));
        book.seats = Arc::new(seats);
        book.departed.add(&seat.tally);
        book.taken[pass.index] = false;
        book.threads -= 1;
        book.retired += u64::from(retired);
        if let (Some(Some(handle)), false) = (book.handles.remove(&pass.number), retired) {
            book.gone.push(handle);
        }
        self.changed();
    }

    fn changed(&self) {
        // Ordering: Release, under the lock: who sees the number and locks sees the list. No model
        // needs it: the lock alone would do, and the number says only when to take it.
        let now = self.version.load(Ordering::Relaxed);
        self.version.store(now.wrapping_add(1), Ordering::Release);
    }

    pub(super) fn seats(&self) -> Seats {
        let book = self.book.lock();
        // Ordering: Relaxed: it is written under this lock.
        Seats {
            version: self.version.load(Ordering::Relaxed),
            list: book.seats.clone(),
        }
    }

    /// Makes `copy` the present list; one load where it is already.
    #[inline]
    pub(super) fn refresh(&self, copy: &mut Seats) {
        // Ordering: Acquire pairs with `changed`, and no model needs it either.
        if self.version.load(Ordering::Acquire) != copy.version {
            *copy = self.seats();
        }
    }

    pub(super) fn seat(&self, index: usize) -> Option<Arc<Seat>> {
        let book = self.book.lock();
        book.seats.iter().find(|seat| seat.index == index).cloned()
    }

    /// Threads that have not left, with those that are being started.
    pub(super) fn threads(&self) -> usize {
        self.book.lock().threads
    }

    /// The sums of all workers, present and past, at one moment.
    pub(super) fn totals(&self) -> Totals {
        let book = self.book.lock();
        let mut totals = book.departed;
        totals.threads = book.threads;
        totals.threads_peak = book.threads_peak;
        totals.threads_started = book.passes - book.refused;
        totals.threads_retired = book.retired;
        book.seats.iter().for_each(|seat| totals.add(&seat.tally));
        totals
    }

    /// The threads that have left at a shutdown, to be joined.
    pub(super) fn take_gone(&self) -> Vec<thread::JoinHandle<()>> {
        std::mem::take(&mut self.book.lock().gone)
    }
}
