//! The cellar: what every floor stands on and what knows nothing of tasks.
//!
//! * [`sync`]: the one door to atomics, cells, locks, threads.
//! * [`park`]: a one-token parker with a deadline, and its waker.
//! * `patience`: for how long a parker looks before it sleeps.
//! * [`clock`]: real and virtual time.
//! * [`random`]: cheap numbers for choosing victims.
//! * [`cpus`]: how many CPUs this process may use.
//! * [`count`]: counters that many threads bump and few read.
//! * [`contain`]: runs user code and keeps its panic.
//! * [`fork`]: what a forked child knows of the threads it was born without.
//! * `simulated` (tests only): who goes next in a simulation, and what time it is there.
//! * `shuttled` (`--cfg shuttle`, in its place): the same for what shuttle explores.

pub(crate) mod clock;
pub(crate) mod contain;
pub(crate) mod count;
pub(crate) mod cpus;
pub(crate) mod fork;
pub(crate) mod park;
#[cfg(not(any(loom, shuttle)))]
mod patience;
pub(crate) mod random;
#[cfg(shuttle)]
pub(crate) mod shuttled;
#[cfg(all(not(any(loom, shuttle)), any(test, feature = "test-util")))]
pub(crate) mod simulated;
pub(crate) mod sync;

#[cfg(shuttle)]
pub(crate) use shuttled as simulated;
