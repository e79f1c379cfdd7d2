//! Are the busy workers asleep, or do they run? The evidence that growth rests on.
//!
//! Two sources:
//! * Linux says it outright: the state letter in a thread's `stat` file. One read takes about
//!   two microseconds with the file kept open, so a look samples up to [`SAMPLE`] workers. A
//!   worker inside a job whose letter says asleep, and that is inside the same job afterwards,
//!   is blocked. Runnable without a CPU counts as running: stolen or throttled CPU time, which
//!   makes a process look idle, changes nothing here.
//! * Elsewhere [`Rate`] climbs: grow, and go on as long as jobs end faster for it.
//!
//! Every worker has a [`Pulse`]; the worker alone writes it, with plain stores, so that a job
//! costs two stores to a line of its own.
//!
//! # Ordering
//!
//! All accesses are Relaxed. A look publishes nothing and may see things late; the decision it
//! leads to is right or wrong by a microsecond, and [`plan`](super::elastic::plan) is made for
//! that.

#![forbid(unsafe_code)]

use std::fs::File;
use std::time::Duration;

use crate::base::sync::atomic::{AtomicUsize, Ordering};
use crate::pool::elastic::Seen;

/// Workers looked at in one sample: 18 us at most.
pub(super) const SAMPLE: usize = 8;

/// Files kept open. Beyond it they are opened for the look, so that a pool of five hundred
/// threads does not take five hundred descriptors from its program.
const OPEN_MAX: usize = 32;

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

/// One worker's sign of life; written by that worker alone.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// The kernel's number of the thread; zero while unknown.
    thread: AtomicUsize,
    /// Count of changes, then the [`Phase`].
    beat: AtomicUsize,
}

impl Pulse {
    /// The worker's thread is the calling one from now on; it rests until it says otherwise.
    pub(super) fn comes(&self) {
        self.turn(Phase::Resting);
        self.thread
            .store(thread_number().unwrap_or(0), Ordering::Relaxed);
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
}

/// Looks at workers; keeps the files open and the rates in mind from look to look.
#[derive(Debug, Default)]
pub(super) struct Eyes {
    open: Vec<(usize, File)>,
    rate: Rate,
    /// Pretend that there are no files, in tests.
    blind: bool,
}

impl Eyes {
    /// Looks at the first [`SAMPLE`] of `workers` that are at work.
    pub(super) fn look<'a>(
        &mut self,
        workers: impl IntoIterator<Item = &'a Pulse>,
        moment: Moment,
    ) -> Seen {
        let mut seen = Seen::default();
        let mut unknown = 0;
        for pulse in workers {
            match self.state_of(pulse) {
                State::Elsewhere => {}
                State::Unknown => unknown += 1,
                State::Running => seen.running += 1,
                State::Blocked => seen.blocked += 1,
            }
            if seen.running + seen.blocked + unknown == SAMPLE {
                break;
            }
        }
        if seen == Seen::default() && unknown > 0 {
            return self.rate.judge(moment);
        }
        seen
    }

    fn state_of(&mut self, pulse: &Pulse) -> State {
        let before = pulse.beat.load(Ordering::Relaxed);
        match Pulse::phase_of(before) {
            Phase::Waiting | Phase::Resting => return State::Elsewhere,
            Phase::Looking | Phase::Inside => {}
        }
        let thread = pulse.thread.load(Ordering::Relaxed);
        let Some(letter) = self.letter_of(thread) else {
            return State::Unknown;
        };
        let inside = Pulse::phase_of(before) == Phase::Inside;
        let same = pulse.beat.load(Ordering::Relaxed) == before;
        match letter {
            b'S' | b'D' if inside && same => State::Blocked,
            b'Z' | b'X' | b'x' => State::Elsewhere,
            // Between two jobs or in another one by now: it gets on. Stopped by a debugger:
            // a further thread would be stopped, too.
            _ => State::Running,
        }
    }

    fn letter_of(&mut self, thread: usize) -> Option<u8> {
        if self.blind || thread == 0 || !cfg!(any(target_os = "linux", target_os = "android")) {
            return None;
        }
        let found = self.open.iter().position(|&(number, _)| number == thread);
        let index = match found {
            Some(index) => index,
            None => {
                let file = File::open(format!("/proc/self/task/{thread}/stat")).ok()?;
                if self.open.len() >= OPEN_MAX {
                    self.open.swap_remove(thread % OPEN_MAX);
                }
                self.open.push((thread, file));
                self.open.len() - 1
            }
        };
        let letter = read_letter(&self.open[index].1);
        if letter.is_none() {
            // The thread has ended; its file never comes back to life.
            self.open.swap_remove(index);
        }
        letter
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
    /// Resting, in an announced wait, or gone.
    Elsewhere,
    /// At work, but nothing more can be learned.
    Unknown,
}

#[cfg(unix)]
fn read_letter(file: &File) -> Option<u8> {
    use std::os::unix::fs::FileExt;
    // The number, a name of at most 64 bytes, the letter: all in the first hundred bytes.
    let mut text = [0; 128];
    let length = file.read_at(&mut text, 0).ok()?;
    state_letter(&text[..length])
}

#[cfg(not(unix))]
fn read_letter(_file: &File) -> Option<u8> {
    None
}

/// The state in `number (name) letter ...`. The name may hold anything, also parentheses.
fn state_letter(stat: &[u8]) -> Option<u8> {
    let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
    match stat.get(end_of_name + 1..end_of_name + 3)? {
        [b' ', letter] if letter.is_ascii_alphabetic() => Some(*letter),
        _ => None,
    }
}

/// The kernel's number of the calling thread, where it tells.
fn thread_number() -> Option<usize> {
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return None;
    }
    // Points to `process/task/thread`.
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

/// The first time without any end after which more threads are tried.
const PATIENCE_MIN: Duration = Duration::from_millis(2);

/// The longest such time.
const PATIENCE_MAX: Duration = Duration::from_millis(64);

/// The shortest trial of a number of threads.
const TRIAL_MIN: Duration = Duration::from_micros(400);

/// Ends that make a rate; fewer are chance.
const TRIAL_ENDS: u64 = 12;

/// The longest trial.
const TRIAL_MAX: Duration = Duration::from_millis(32);

/// Growth without thread states: more threads are good if jobs end faster for them.
///
/// One more thread is tried first. Sleepers then end faster by its share, and growth doubles as
/// long as each doubling brings at least half of what it promises; computing jobs end no
/// faster, and the pool stays at one above `core` until they end at half that rate or not at
/// all. Long computing jobs, of which none ends within a trial, cannot be told from sleepers.
#[derive(Debug, Default)]
struct Rate {
    trial: Option<Trial>,
    /// The last trial that was worth it: threads, jobs per second.
    best: Option<(usize, f64)>,
    patience: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    since: Duration,
    ended: u64,
    threads: usize,
}

impl Rate {
    /// The verdict in the form of a sample.
    fn judge(&mut self, moment: Moment) -> Seen {
        let threads = moment.threads.max(1);
        let stay = Seen {
            blocked: 0,
            running: threads,
        };
        let one = Seen {
            blocked: 1,
            running: threads - 1,
        };
        let all = Seen {
            blocked: threads,
            running: 0,
        };
        let fresh = Trial {
            since: moment.now,
            ended: moment.ended,
            threads,
        };
        let trial = match self.trial {
            Some(trial) if trial.threads == threads => trial,
            _ => {
                self.trial = Some(fresh);
                return stay;
            }
        };
        let ended = moment.ended.saturating_sub(trial.ended);
        let length = moment.now.saturating_sub(trial.since);
        let patience = self.patience.unwrap_or(PATIENCE_MIN);
        let enough = (2 * threads as u64).max(TRIAL_ENDS);
        let over = match ended {
            0 => length >= patience,
            _ => length >= TRIAL_MIN && (ended >= enough || length >= TRIAL_MAX),
        };
        if !over {
            return stay;
        }
        self.trial = Some(fresh);
        let careful = if threads <= moment.core { one } else { all };
        if ended == 0 {
            self.patience = Some(patience.saturating_mul(2).min(PATIENCE_MAX));
            return careful;
        }
        let rate = ended as f64 / length.as_secs_f64();
        let Some((before, rate_before)) = self.best else {
            self.best = Some((threads, rate));
            return careful;
        };
        let promised = threads as f64 / before as f64 - 1.0;
        let gain = rate / rate_before - 1.0;
        if promised > 0.0 && gain >= promised / 2.0 {
            self.best = Some((threads, rate));
            return all;
        }
        if rate < rate_before / 2.0 {
            // These are other jobs than those of the best trial: begin again.
            self.best = None;
        }
        stay
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Eyes, Moment, Phase, Pulse, Rate, state_letter};
    use crate::pool::elastic::{Limits, Load, Plan, Seen, plan};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    const MOMENT: Moment = Moment {
        now: Duration::ZERO,
        ended: 0,
        threads: 2,
        core: 2,
    };

    #[test]
    fn the_letter_is_found_behind_any_name() {
        for (text, letter) in [
            ("4676 (cat) R 4674 4674", Some(b'R')),
            ("1 (a b) S 1", Some(b'S')),
            ("1 (a) R (b)) D 1", Some(b'D')),
            ("1 (:-) ) (x) Z 1", Some(b'Z')),
            ("1 () t 1", Some(b't')),
            ("1 (portage-0", None),
            ("1 (portage-0)", None),
            ("1 (portage-0) ", None),
            ("1 (portage-0) 7", None),
            ("", None),
        ] {
            assert_eq!(state_letter(text.as_bytes()), letter, "{text:?}");
        }
    }

    #[test]
    fn phases_count_up_and_are_read_back() {
        let pulse = Pulse::default();
        for phase in [
            Phase::Inside,
            Phase::Looking,
            Phase::Waiting,
            Phase::Resting,
        ] {
            let before = pulse
                .beat
                .load(crate::base::sync::atomic::Ordering::Relaxed);
            pulse.turn(phase);
            assert_eq!(pulse.phase(), phase);
            assert_ne!(
                pulse
                    .beat
                    .load(crate::base::sync::atomic::Ordering::Relaxed),
                before
            );
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
        assert_eq!(eyes.open.len(), 2, "files are kept open");
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
        while !eyes.open.is_empty() {
            let _ = eyes.look([&pulse], MOMENT);
            assert!(Instant::now() < deadline);
        }
    }

    /// Runs the rate rule against a pool whose jobs end `rate(threads)` times per millisecond;
    /// gives the threads after `ms` milliseconds.
    fn climb(rate: impl Fn(usize) -> f64, ms: u64) -> usize {
        let limits = Limits { core: 2, max: 512 };
        let (mut rule, mut threads, mut ended) = (Rate::default(), 2, 0.0);
        for tick in 0..ms * 5 {
            let moment = Moment {
                now: Duration::from_micros(tick * 200),
                ended: ended as u64,
                threads,
                core: limits.core,
            };
            let load = Load {
                queued: 10_000,
                threads,
                seen: rule.judge(moment),
                ..Load::default()
            };
            if let Plan::Grow(count) = plan(&load, &limits) {
                threads += count;
            }
            ended += rate(threads) / 5.0;
        }
        threads
    }

    #[test]
    fn the_rate_rule_grows_for_sleepers_and_stays_at_core_and_one_for_computing() {
        assert!(climb(|threads| threads as f64, 30) >= 128, "1 ms sleepers");
        assert!(
            climb(|threads| threads as f64 / 5.0, 200) >= 128,
            "5 ms sleepers"
        );
        assert_eq!(climb(|_| 40.0, 500), 3, "50 us of computing");
        assert_eq!(climb(|_| 1.0, 500), 3, "2 ms of computing");
        assert_eq!(climb(|_| 2_000.0, 500), 3, "no-ops");
        assert!(climb(|_| 0.0, 200) >= 128, "nothing ever ends");
    }

    #[test]
    fn without_files_the_rate_decides() {
        let pulse = Pulse::default();
        pulse.turn(Phase::Inside);
        let mut eyes = Eyes {
            blind: true,
            ..Eyes::default()
        };
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
