//! Are the busy workers asleep, or do they run? The evidence that growth rests on.
//!
//! Two sources:
//! * Linux says it outright: the state letter in a thread's `stat` file ([`files`]). One read takes
//!   about two microseconds with the file kept open, so a look samples up to [`SAMPLE`] workers. A
//!   worker inside a job that sleeps, and did so in the same job at a look some time before, is
//!   blocked. Asleep for the first time proves nothing: computing jobs meet at locks, too. Whoever
//!   may be waiting for a lock must sleep for longer than locks are held, and for several time
//!   slices where the holder may have lost its CPU. Runnable without a CPU counts as running:
//!   stolen or throttled CPU time, which makes a process look idle, changes nothing here.
//! * Elsewhere the [`rate`] climbs: grow, and go on as long as jobs end faster for it.
//!
//! Every worker has a [`Pulse`], which it writes with plain stores, so that a job costs two
//! stores to a line of its own.
//!
//! # Ordering
//!
//! All accesses are Relaxed. A look publishes nothing and may see things late; the decision it
//! leads to is right or wrong by a microsecond, and [`plan`](super::elastic::plan) is made for
//! that.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::sync::atomic::{AtomicUsize, Ordering};
use crate::pool::elastic::Seen;
use crate::pool::evidence::files::{Doing, Files};
use crate::pool::evidence::rate::Rate;

mod files;
mod rate;

pub(super) use files::sharpen_deadlines;

/// Workers looked at in one sample: 18 us at most.
pub(super) const SAMPLE: usize = 8;

/// How long a worker must be seen asleep where it may wait for a lock: locks of computing jobs
/// are held for less, as long as their holders have a CPU.
const SETTLE_LOCK: Duration = Duration::from_millis(1);

/// The same where more threads are runnable than there are CPUs, so that the holder may have
/// none: several time slices.
const SETTLE_CROWDED: Duration = Duration::from_millis(10);

/// Bits of the phase below the count of changes.
const PHASE: usize = 0b11;

/// What a worker is doing, as far as growth is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two jobs.
    Looking = 0,
    /// Inside a job or a poll.
    Inside = 1,
    /// In a wait of ours, announced.
    Waiting = 2,
    /// Parked for want of work.
    Resting = 3,
}

/// One worker's sign of life, on lines of its own: it is written twice for each job.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Pulse {
    /// The kernel's number of the thread; zero while unknown.
    thread: AtomicUsize,
    /// Count of changes, then the [`Phase`].
    beat: AtomicUsize,
    /// The beat at which a look first saw the worker asleep, and when (in microseconds). These
    /// two are written by whoever looks, one at a time.
    asleep_at: AtomicUsize,
    asleep_since: AtomicUsize,
}

impl Pulse {
    /// The worker's thread is the calling one from now on; it rests until it says otherwise.
    pub(super) fn comes(&self) {
        self.turn(Phase::Resting);
        self.thread
            .store(files::thread_number().unwrap_or(0), Ordering::Relaxed);
    }

    /// The thread is about to end; another may get its number.
    pub(super) fn leaves(&self) {
        self.thread.store(0, Ordering::Relaxed);
        self.turn(Phase::Resting);
    }

    /// Enters `phase`.
    #[inline]
    pub(super) fn turn(&self, phase: Phase) {
        // Only the owner writes: no read-modify-write is needed.
        let count = self.beat.load(Ordering::Relaxed) & !PHASE;
        let next = count.wrapping_add(PHASE + 1) | phase as usize;
        self.beat.store(next, Ordering::Relaxed);
    }

    /// A look at `now` sees the worker asleep at `beat`: for how long has one seen that?
    fn asleep(&self, beat: usize, now: Duration) -> Duration {
        // Wrapping, and only as wide as a word: a difference of less than an hour is exact.
        let now = now.as_micros() as usize;
        if self.asleep_at.swap(beat, Ordering::Relaxed) != beat {
            self.asleep_since.store(now, Ordering::Relaxed);
        }
        let since = self.asleep_since.load(Ordering::Relaxed);
        Duration::from_micros(now.wrapping_sub(since) as u64)
    }

    /// The phase that the worker is in.
    pub(super) fn phase(&self) -> Phase {
        Self::phase_of(self.beat.load(Ordering::Relaxed))
    }

    fn phase_of(beat: usize) -> Phase {
        match beat & PHASE {
            0 => Phase::Looking,
            1 => Phase::Inside,
            2 => Phase::Waiting,
            _ => Phase::Resting,
        }
    }
}

/// What a look needs to know besides the workers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Since any fixed moment.
    pub(super) now: Duration,
    /// Jobs that have ended so far.
    pub(super) ended: u64,
    /// Threads that there are.
    pub(super) threads: usize,
    /// Threads that shall run.
    pub(super) core: usize,
    /// How long a worker must have been seen asleep in one job to count as blocked.
    pub(super) settle: Duration,
}

/// Looks at workers; keeps the files open and the rates in mind from look to look.
#[derive(Debug, Default)]
pub(super) struct Eyes {
    files: Files,
    rate: Rate,
    /// Are there more runnable threads than CPUs? Asked at most once per look.
    crowded: Option<bool>,
    /// Sleepers of the last look that will count soon if they go on.
    suspects: usize,
}

impl Eyes {
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    pub(super) fn blind() -> Self {
        Self {
            files: Files::blind(),
            ..Self::default()
        }
    }

    /// Looks at the first [`SAMPLE`] of `workers` that are at work.
    pub(super) fn look<'a>(
        &mut self,
        workers: impl IntoIterator<Item = &'a Pulse>,
        moment: Moment,
    ) -> Seen {
        let mut seen = Seen::default();
        let (mut unknown, mut locked) = (0, 0);
        self.crowded = None;
        self.suspects = 0;
        for pulse in workers {
            match self.state_of(pulse, &moment) {
                State::Elsewhere => {}
                State::Unknown => unknown += 1,
                State::Running => seen.running += 1,
                State::Blocked => seen.blocked += 1,
                State::Locked => locked += 1,
            }
            if seen.running + seen.blocked + locked + unknown == SAMPLE {
                break;
            }
        }
        // In a crowd those who run may keep the holder of the lock from its CPU, and so would
        // whoever is started now.
        if seen.running == 0 || self.crowded == Some(false) {
            seen.blocked += locked;
        }
        if seen == Seen::default() && unknown > 0 {
            return self.rate.judge(moment);
        }
        seen
    }

    fn state_of(&mut self, pulse: &Pulse, moment: &Moment) -> State {
        let before = pulse.beat.load(Ordering::Relaxed);
        match Pulse::phase_of(before) {
            Phase::Waiting | Phase::Resting => return State::Elsewhere,
            Phase::Looking | Phase::Inside => {}
        }
        let thread = pulse.thread.load(Ordering::Relaxed);
        let doing = self.files.doing(thread);
        let inside = Pulse::phase_of(before) == Phase::Inside;
        let same = pulse.beat.load(Ordering::Relaxed) == before;
        match doing {
            Doing::Unknown => State::Unknown,
            Doing::Gone => State::Elsewhere,
            Doing::Asleep if inside && same => {
                let asleep = pulse.asleep(before, moment.now);
                if asleep < moment.settle {
                    self.suspects += 1;
                    State::Elsewhere
                } else if moment.settle.is_zero() || !self.files.may_want_a_lock(thread) {
                    State::Blocked
                } else if asleep >= self.settle_lock() {
                    State::Locked
                } else {
                    State::Elsewhere
                }
            }
            // Between two jobs, or in another one by now: it gets on.
            Doing::Asleep | Doing::Running => State::Running,
        }
    }

    /// How long a worker must sleep that may want a lock.
    fn settle_lock(&mut self) -> Duration {
        if self.is_crowded() {
            SETTLE_CROWDED
        } else {
            SETTLE_LOCK
        }
    }

    /// Are there more runnable threads than CPUs, as far as one can tell?
    pub(super) fn is_crowded(&mut self) -> bool {
        *self.crowded.get_or_insert_with(|| self.files.is_crowded())
    }

    /// Sleepers of the last look that were not asleep for long enough to tell.
    pub(super) fn suspects(&self) -> usize {
        self.suspects
    }

    /// The backlog is over: rates of then say nothing about the next one.
    pub(super) fn rest(&mut self) {
        self.rate = Rate::default();
    }
}

/// What a look at one worker told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Blocked,
    /// Asleep for so long that it is blocked, but maybe by a lock.
    Locked,
    /// Resting, in an announced wait, gone, or not asleep for long enough to tell.
    Elsewhere,
    /// At work, but nothing more can be learned.
    Unknown,
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Eyes, Moment, Phase, Pulse};
    use crate::pool::elastic::Seen;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    const MOMENT: Moment = Moment {
        now: Duration::ZERO,
        ended: 0,
        threads: 2,
        core: 2,
        settle: Duration::ZERO,
    };

    #[test]
    fn phases_count_up_and_are_read_back() {
        let pulse = Pulse::default();
        for phase in [
            Phase::Inside,
            Phase::Looking,
            Phase::Waiting,
            Phase::Resting,
        ] {
            let before = pulse.beat.load(Ordering::Relaxed);
            pulse.turn(phase);
            assert_eq!(pulse.phase(), phase);
            assert_ne!(pulse.beat.load(Ordering::Relaxed), before);
        }
    }

    /// Looks until `expected` is seen; a thread needs a moment to fall asleep.
    #[cfg(target_os = "linux")]
    fn see(eyes: &mut Eyes, pulses: &[&Pulse], expected: Seen) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let seen = eyes.look(pulses.iter().copied(), MOMENT);
            if seen == expected {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{seen:?} instead of {expected:?}"
            );
            std::thread::yield_now();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn sleeping_spinning_resting_and_waiting_workers_are_told_apart() {
        let pulses: Arc<[Pulse; 4]> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (close, closed) = channel::<()>();
        let (ready, all_ready) = channel();
        let sleeper = {
            let (pulses, ready) = (pulses.clone(), ready.clone());
            std::thread::Builder::new()
                .name(") S (x".into())
                .spawn(move || {
                    pulses[0].comes();
                    pulses[0].turn(Phase::Inside);
                    ready.send(()).unwrap();
                    let _ = closed.recv();
                    pulses[0].leaves();
                })
        }
        .unwrap();
        let spinner = {
            let (pulses, stop) = (pulses.clone(), stop.clone());
            std::thread::spawn(move || {
                pulses[1].comes();
                pulses[1].turn(Phase::Inside);
                ready.send(()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                pulses[1].leaves();
            })
        };
        (0..2).for_each(|_| all_ready.recv().unwrap());
        pulses[2].turn(Phase::Resting);
        pulses[3].turn(Phase::Waiting);
        let mut eyes = Eyes::default();
        let all: Vec<_> = pulses.iter().collect();
        see(
            &mut eyes,
            &all,
            Seen {
                blocked: 1,
                running: 1,
            },
        );
        assert_eq!(eyes.files.open_files(), 2, "files are kept open");
        stop.store(true, Ordering::Relaxed);
        drop(close);
        sleeper.join().unwrap();
        spinner.join().unwrap();
        see(&mut eyes, &all, Seen::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_worker_between_two_jobs_is_not_blocked_though_it_sleeps() {
        let pulse = Pulse::default();
        let (close, closed) = channel::<()>();
        let (ready, is_ready) = channel();
        std::thread::scope(|scope| {
            let pulse = &pulse;
            scope.spawn(move || {
                pulse.comes();
                pulse.turn(Phase::Looking);
                ready.send(()).unwrap();
                let _ = closed.recv();
            });
            is_ready.recv().unwrap();
            see(
                &mut Eyes::default(),
                &[pulse],
                Seen {
                    blocked: 0,
                    running: 1,
                },
            );
            drop(close);
        });
    }

    #[test]
    fn sleep_counts_from_the_first_look_at_it_in_the_same_job() {
        let us = Duration::from_micros;
        let pulse = Pulse::default();
        assert_eq!(pulse.asleep(5, us(100)), us(0));
        assert_eq!(pulse.asleep(5, us(140)), us(40));
        assert_eq!(pulse.asleep(9, us(150)), us(0), "another job");
        assert_eq!(pulse.asleep(9, us(350)), us(200));
        assert_eq!(pulse.asleep(5, us(400)), us(0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_of_an_ended_thread_is_dropped() {
        let pulse = Pulse::default();
        let mut eyes = Eyes::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pulse.comes();
                pulse.turn(Phase::Inside);
                assert_eq!(
                    eyes.look([&pulse], MOMENT),
                    Seen {
                        blocked: 0,
                        running: 1
                    }
                );
            });
        });
        // The scope waits for the closure, not for the end of the thread.
        let deadline = Instant::now() + Duration::from_secs(10);
        while eyes.files.open_files() > 0 {
            let _ = eyes.look([&pulse], MOMENT);
            assert!(Instant::now() < deadline);
        }
    }

    #[test]
    fn without_files_the_rate_decides() {
        let pulse = Pulse::default();
        pulse.turn(Phase::Inside);
        let mut eyes = Eyes::blind();
        let at = |ms| Moment {
            now: Duration::from_millis(ms),
            ..MOMENT
        };
        assert_eq!(
            eyes.look([&pulse], at(0)),
            Seen {
                blocked: 0,
                running: 2
            }
        );
        assert_eq!(
            eyes.look([&pulse], at(3)),
            Seen {
                blocked: 1,
                running: 1
            }
        );
        eyes.rest();
        assert_eq!(
            eyes.look([&pulse], at(9)),
            Seen {
                blocked: 0,
                running: 2
            }
        );
    }
}
