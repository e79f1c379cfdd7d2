//! What stands behind the door under `--cfg shuttle`: a scheduler that may change the thread at
//! every access of an atomic, a lock or a cell, and that knows what time it is.
//!
//! shuttle runs the real crate, whole pools of it, in interleavings that a seed decides. It is for
//! what is too big for loom. Its memory is sequentially consistent: orderings are loom's to check.
//!
//! * [`door`]: locks, cells, threads, thread-locals over shuttle's.
//! * [`dice`]: who goes next, and when time passes.
//! * [`explore`]: many runs of one program, and how one of them is made again.
//!
//! This module gives the answers that `simulated` gives in a simulation, under the same names:
//! what stands in the place of statics, what time it is, which cells are there. One run of a
//! program stays on one thread of the system, so its state is a thread-local of that.

#![forbid(unsafe_code)]

pub(crate) mod dice;
pub(crate) mod door;
pub(crate) mod explore;

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::park::Parker;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// When does a wait with a deadline end by itself?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimePasses {
    /// Once nobody else can go on: a wake that is lost shows in the clock.
    InIdleness,
    /// In half of the runs at any moment.
    AtAnyMoment,
}

type Last = Box<dyn FnOnce() + Send>;

/// One run.
struct World {
    origin: Instant,
    passed: Duration,
    /// Tasks of shuttle's that stand still until then at the latest.
    sleepers: BTreeMap<usize, Instant>,
    /// `None` once the program has ended: what comes later is kept by nobody.
    sites: Option<BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    last: Vec<Last>,
    numbers: u64,
    /// The cells that have not been freed: where they were made, and whether they have an outcome.
    cells: BTreeMap<u64, (&'static Location<'static>, bool)>,
}

impl World {
    fn new() -> Self {
        Self {
            origin: Instant::now(),
            passed: Duration::ZERO,
            sleepers: BTreeMap::new(),
            sites: Some(BTreeMap::new()),
            last: Vec::new(),
            numbers: 0,
            cells: BTreeMap::new(),
        }
    }

    /// Time does not go back.
    fn reach(&mut self, at: Instant) {
        let passed = at.saturating_duration_since(self.origin);
        self.passed = self.passed.max(passed);
    }
}

/// `None` between two runs, and where the world is being looked at already.
fn with<R>(f: impl FnOnce(&mut World) -> R) -> Option<R> {
    let seen = WORLD.try_with(|world| world.try_borrow_mut().ok()?.as_mut().map(f));
    seen.ok().flatten()
}

/// Always: there is nothing else under `--cfg shuttle`.
pub(crate) fn is_on() -> bool {
    true
}

/// The time of this run.
pub(crate) fn now() -> Option<Instant> {
    with(|world| world.origin + world.passed)
}

/// The time that has passed in this run.
pub(crate) fn elapsed() -> Duration {
    with(|world| world.passed).unwrap_or_default()
}

/// The `T` that stands in the place of a static for this run.
pub(crate) fn shared<T: Send + Sync + 'static>(make: impl FnOnce() -> T) -> Option<Arc<T>> {
    let key = TypeId::of::<T>();
    let known = with(|world| world.sites.as_ref()?.get(&key).cloned())?;
    let site = known.unwrap_or_else(|| {
        // the thread may change in here, and another one be first
        let made: Arc<dyn Any + Send + Sync> = Arc::new(make());
        let kept = with(|world| {
            let sites = world.sites.as_mut()?;
            Some(sites.entry(key).or_insert_with(|| made.clone()).clone())
        });
        kept.flatten().unwrap_or(made)
    });
    site.downcast().ok()
}

/// Runs `f` when the program of this run has ended.
pub(crate) fn at_end(f: impl FnOnce() + Send + 'static) {
    let _ = with(|world| world.last.push(Box::new(f)));
}

/// A number for a cell: the same in every repetition of a run.
pub(crate) fn number() -> Option<u64> {
    with(|world| {
        world.numbers += 1;
        world.numbers
    })
}

/// A cell has been made.
pub(crate) fn born(id: u64, at: &'static Location<'static>) {
    let _ = with(|world| world.cells.insert(id, (at, false)));
}

/// A cell has its outcome.
pub(crate) fn ended(id: u64) {
    let _ = with(|world| {
        if let Some((_, ended)) = world.cells.get_mut(&id) {
            *ended = true;
        }
    });
}

/// A cell has been freed.
pub(crate) fn freed(id: u64) {
    let _ = with(|world| world.cells.remove(&id));
}

/// A run fails with shuttle's own list of who waits where.
pub(crate) fn waits_for(_what: impl FnOnce() -> String) -> Reason {
    Reason
}

/// See [`waits_for`].
#[must_use]
#[derive(Debug)]
pub(crate) struct Reason;

/// The parker's own code is explored: nothing stands in its place.
pub(crate) fn park(_parker: &Parker, _deadline: Option<Instant>) -> Option<bool> {
    None
}

/// As [`park`]: what comes next is a switch anyhow.
pub(crate) fn switch() {}
