//! Growth without thread states: more threads are good if jobs end faster for them.
//!
//! One more thread is tried first. Sleepers then end faster by its share, and growth doubles as
//! long as each doubling brings at least half of what it promises; computing jobs end no faster,
//! and the pool stays at one above `core` (at `core` if they are short) until they end at half that
//! rate or not at all. Long computing jobs, of which none ends within a trial, cannot be told from
//! sleepers.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::pool::elastic::Seen;
use crate::pool::evidence::Moment;

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

/// A thread that ends more jobs per second than this is not blocked by them.
const SHORT_RATE: f64 = 2_000.0;

/// [`PATIENCE_MIN`] where the last jobs were short: then a pause is the scheduler's.
const PATIENCE_SHORT: Duration = Duration::from_millis(50);

/// The climb.
#[derive(Debug, Default)]
pub(super) struct Rate {
    trial: Option<Trial>,
    /// The last trial that was worth it: threads, jobs per second.
    best: Option<(usize, f64)>,
    patience: Option<Duration>,
    /// The last trial had short jobs.
    short: bool,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    since: Duration,
    ended: u64,
    threads: usize,
}

impl Rate {
    /// The verdict in the form of a sample.
    pub(super) fn judge(&mut self, moment: Moment) -> Seen {
        let threads = moment.threads.max(1);
        let blocked = |blocked| Seen {
            blocked,
            running: threads - blocked,
        };
        let (stay, one, all) = (blocked(0), blocked(1), blocked(threads));
        let Some((ended, length)) = self.end_of_trial(moment, threads) else {
            return stay;
        };
        let careful = if threads <= moment.core { one } else { all };
        if ended == 0 {
            self.patience = Some(self.patience().saturating_mul(2).min(PATIENCE_MAX));
            self.short = false;
            return careful;
        }
        let rate = ended as f64 / length.as_secs_f64();
        self.short = rate > SHORT_RATE * threads as f64;
        if self.short {
            self.best = None;
            return stay;
        }
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

    /// How many jobs have ended in a trial of so many threads, and how long it was, once it is over;
    /// then the next one begins.
    fn end_of_trial(&mut self, moment: Moment, threads: usize) -> Option<(u64, Duration)> {
        let fresh = Trial {
            since: moment.now,
            ended: moment.ended,
            threads,
        };
        let Some(trial) = self.trial.filter(|trial| trial.threads == threads) else {
            self.trial = Some(fresh);
            return None;
        };
        let ended = moment.ended.saturating_sub(trial.ended);
        let length = moment.now.saturating_sub(trial.since);
        let enough = (2 * threads as u64).max(TRIAL_ENDS);
        let is_over = match ended {
            0 => length >= self.patience(),
            _ => length >= TRIAL_MIN && (ended >= enough || length >= TRIAL_MAX),
        };
        if !is_over {
            return None;
        }
        self.trial = Some(fresh);
        Some((ended, length))
    }

    /// How long nothing may end before more threads are tried.
    fn patience(&self) -> Duration {
        match self.short {
            true => PATIENCE_SHORT,
            false => self.patience.unwrap_or(PATIENCE_MIN),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Rate;
    use crate::pool::elastic::{Limits, Load, Plan, plan};
    use crate::pool::evidence::Moment;
    use std::time::Duration;

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
                settle: Duration::ZERO,
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
        assert_eq!(climb(|_| 40.0, 500), 2, "50 us of computing");
        assert_eq!(climb(|_| 1.0, 500), 3, "2 ms of computing");
        assert_eq!(climb(|_| 2_000.0, 500), 2, "no-ops");
        assert!(climb(|_| 0.0, 200) >= 128, "nothing ever ends");
    }
}
