//! When to start a thread and when to let one go.
//!
//! "Nobody is idle" is no reason to start a thread: a burst of short or computing jobs makes
//! every thread busy, and each further one only takes its share from the others. "The busy
//! ones are *asleep*" is a reason: then CPUs stand still while work waits. So a backlog starts a
//! look at the busy workers ([`evidence`](super::evidence)), and [`plan`] decides on what was
//! seen. Where one sleeps, the others of its burst will, hence growth is geometric: a burst of
//! two hundred sleepers has two hundred threads after five looks.
//!
//! Who looks:
//! * whoever submits into an empty queue while nobody is idle and nobody is on the way: one
//!   blocked worker too many is noticed without waiting for anybody's tick;
//! * every thread that growth has started, once it has taken its first job: the tree that gives
//!   a burst of sleepers its threads;
//! * the [`watchdog`](super::watchdog) while a backlog lasts: whatever nobody else noticed;
//! * in its place, where it cannot be started, every worker that ends a job.
//!
//! # The rules of [`plan`]
//!
//! 1. Never above `max`, never more than there are jobs that nobody is coming for.
//! 2. Fewer than `core` threads that are not blocked in a wait of ours: fill up to `core`.
//! 3. The sample shows blocked workers, and either fewer than `core` run or nearly all are
//!    blocked: as many threads more as there are blocked ones, twice as many in the second case,
//!    and no fewer than [`SMALL_BURST`] where none of the sample runs.
//!    Not where the backlog drains within [`DRAIN_SOON`] at the pace at which jobs end: then
//!    threads would come too late to be of use, and stay.
//! 4. No sample to be had: one more for an isolated arrival, within [`UNSEEN_EXTRA`].
//! 5. Nothing taken for [`patience`]: one more, whatever the sample says. Wrong evidence costs
//!    time, never liveness. Where more threads want a CPU than there are CPUs, those that run
//!    get ten times as long.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

#[cfg(all(test, not(any(loom, shuttle))))]
mod simulation;

/// Threads above `core` that isolated arrivals may start while no sample can be had.
///
/// Eight: enough for a service that waits for eight things at a time, few enough to be harmless
/// where the jobs compute.
const UNSEEN_EXTRA: usize = 8;

/// From this share of blocked workers on (in eighths) those who run do not hold growth back.
///
/// Sleepers run for some microseconds between two sleeps; in a crowd of them one or two are
/// always seen running.
const NEARLY_ALL: usize = 6;

/// Jobs that start at once where all of the sample sleep: a small burst of sleepers is not worth
/// a look for each doubling, each of which waits for the threads of the one before to get a CPU.
const SMALL_BURST: usize = 16;

/// A shrinking backlog that is gone after this time needs no more threads: the starts would
/// take the CPU time that the jobs need between their sleeps.
const DRAIN_SOON: Duration = Duration::from_millis(20);

/// The time over which a pace is taken; a tick of the watchdog is no shorter.
const WINDOW: Duration = Duration::from_micros(150);

/// Jobs that take less on average are short: they get done, so that a sleep among them must
/// last before it counts.
const SHORT: Duration = Duration::from_micros(500);

/// Time without any dequeue before a thread is added where the evidence does not ask for one.
pub(super) const STALL: Duration = Duration::from_millis(10);

/// The same for each thread more than one above `core` that would then run: computing jobs that
/// take this long each are rare, and jobs that spin until a queued one has run are broken but
/// not dead.
const LONG_STALL: Duration = Duration::from_secs(1);

/// The first pause after a refused start.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The longest pause after refused starts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The sizes that growth keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Threads that stay; as many as shall run at a time.
    pub(super) core: usize,
    /// Threads that there may be at all.
    pub(super) max: usize,
}

impl Limits {
    /// May a pool of this many threads grow at all? If not, no look is worth its costs.
    pub(super) fn allow_more_than(&self, threads: usize) -> bool {
        threads < self.max
    }
}

/// What a sample of the busy workers showed; nothing at all where it could not be taken.
///
/// Workers in an announced wait are neither: [`Load::announced`] counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Asleep in the kernel in the middle of a job.
    pub(super) blocked: usize,
    /// Running, or waiting for a CPU.
    pub(super) running: usize,
}

/// The state of a pool at one look. Counts may be a little late: every rule tolerates that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Jobs that nobody has taken.
    pub(super) queued: usize,
    /// Threads, with those being started.
    pub(super) threads: usize,
    /// Threads being started: each is going to take a job.
    pub(super) starting: usize,
    /// Workers that are parked or searching: each is going to take a job, or is about to be woken.
    pub(super) idle: usize,
    /// Workers blocked in a wait of ours.
    pub(super) announced: usize,
    /// The sample of the others.
    pub(super) seen: Seen,
    /// The worker that looks is about to run a job, and not in the sample.
    pub(super) looker: bool,
    /// Time since a job was last taken, while some are queued.
    pub(super) stalled: Duration,
    /// The time in which the backlog is gone at the pace at which jobs end; `None`: none ends.
    pub(super) drain: Option<Duration>,
    /// More threads are runnable than there are CPUs; asked for in a stall only.
    pub(super) crowded: bool,
    /// The look is made for one arrival that found the queue empty.
    pub(super) isolated: bool,
    /// An extra worker asks: its keep-alive has run out.
    pub(super) rested: bool,
}

/// What to do about a [`Load`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Start this many threads; never zero.
    Grow(usize),
    /// Leave it as it is.
    Keep,
    /// The worker that asks may leave.
    Retire,
}

/// Decides; see the rules in the module's header.
pub(super) fn plan(load: &Load, limits: &Limits) -> Plan {
    let coming = load.starting.saturating_add(load.idle);
    let missing = load.queued.saturating_sub(coming);
    if missing == 0 {
        let spare = load.threads > limits.core && load.queued == 0;
        return if load.rested && spare {
            Plan::Retire
        } else {
            Plan::Keep
        };
    }
    let most = missing.min(limits.max.saturating_sub(load.threads));
    match wanted(load, limits, coming).min(most) {
        0 => Plan::Keep,
        count => Plan::Grow(count),
    }
}

/// Threads that rules 2 to 5 ask for, before rule 1.
fn wanted(load: &Load, limits: &Limits, coming: usize) -> usize {
    let free = load.threads.saturating_sub(load.announced);
    if free < limits.core {
        return limits.core - free;
    }
    let sampled = load.seen.blocked + load.seen.running;
    let looker = usize::from(load.looker);
    let others = free.saturating_sub(coming).saturating_sub(looker);
    if sampled == 0 && others > 0 {
        let modest = load.threads < limits.core.saturating_add(UNSEEN_EXTRA);
        let alone = load.isolated && load.starting == 0;
        return usize::from((alone && modest) || load.stalled >= STALL);
    }
    // Rounded up: where one of eight is blocked, somebody is.
    let blocked = others
        .saturating_mul(load.seen.blocked)
        .div_ceil(sampled.max(1));
    let running = others - blocked.min(others) + looker;
    let idle_cpus = limits.core.saturating_sub(running);
    let nearly_all = load.seen.blocked * 8 >= sampled * NEARLY_ALL;
    let flows = !load.isolated && load.drain.is_some_and(|drain| drain <= DRAIN_SOON);
    if blocked > 0 && !flows && (idle_cpus > 0 || nearly_all) {
        let more = match (nearly_all, load.seen.running) {
            (true, 0) => blocked.saturating_mul(2).max(SMALL_BURST),
            (true, _) => blocked.saturating_mul(2),
            (false, _) => blocked,
        };
        let more = more.max(idle_cpus).saturating_sub(coming);
        if more > 0 {
            return more;
        }
    }
    let surplus = running.saturating_add(coming).saturating_sub(limits.core);
    let crowd = if load.crowded && blocked == 0 { 10 } else { 1 };
    usize::from(load.stalled >= patience(surplus).saturating_mul(crowd))
}

/// How long nothing may be taken before one more thread starts, with `surplus` threads above
/// `core` that run already.
fn patience(surplus: usize) -> Duration {
    match surplus {
        0 => STALL,
        _ => LONG_STALL.saturating_mul(1 << (surplus - 1).min(6)),
    }
}

/// How fast jobs end: by the last whole window, or by what there is of the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Where the present window begins: when, and how many had ended by then.
    window: Option<(Duration, u64)>,
    /// Jobs that ended in the last window, and its length.
    last: Option<(u64, Duration)>,
    /// The same of the last window in which any did, and its end.
    moved: Option<(u64, Duration, Duration)>,
    whole: bool,
}

impl Pace {
    /// Until `at` (since any fixed moment) `ended` jobs have ended.
    pub(super) fn note(&mut self, at: Duration, ended: u64) {
        let Some((since, before)) = self.window else {
            self.window = Some((at, ended));
            return;
        };
        let length = at.saturating_sub(since);
        let over = length >= WINDOW;
        if over || !self.whole {
            let count = ended.saturating_sub(before);
            self.last = Some((count, length));
            if count > 0 {
                self.moved = Some((count, length, at));
            } else if self
                .moved
                .is_some_and(|(.., end)| at.saturating_sub(end) >= SHORT)
            {
                self.moved = None;
            }
        }
        if over {
            self.whole = true;
            self.window = Some((at, ended));
        }
    }

    /// How long `queued` jobs take at this pace; `None` where no end is to be seen.
    pub(super) fn drain(&self, queued: usize) -> Option<Duration> {
        let (ended, length) = self.last.filter(|&(ended, _)| ended > 0)?;
        Some(time_for(queued, ended, length))
    }

    /// Did `threads` threads end a job each in less than [`SHORT`], a moment ago?
    pub(super) fn is_short(&self, threads: usize) -> bool {
        let moved = self.moved;
        moved.is_some_and(|(ended, length, _)| time_for(threads, ended, length) < SHORT)
    }
}

/// The time that `count` take where `ended` took `length`.
fn time_for(count: usize, ended: u64, length: Duration) -> Duration {
    let nanos = length.as_nanos() * count as u128 / u128::from(ended.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The pauses after refused starts: doubling, so that a system out of threads is not kept busy
/// with refusing.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause: Option<Duration>,
    until: Option<Instant>,
}

impl Backoff {
    /// May a start be tried at `now`?
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// Was the last start not refused?
    pub(super) fn is_clear(&self) -> bool {
        self.until.is_none()
    }

    /// A start was refused at `now`.
    pub(super) fn refused(&mut self, now: Instant) {
        let pause = self
            .pause
            .map_or(PAUSE_MIN, |pause| pause.saturating_mul(2).min(PAUSE_MAX));
        self.pause = Some(pause);
        self.until = now.checked_add(pause);
    }

    /// A start went well; true if the last one had not.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(self).until.is_some()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Backoff, Limits, Load, Pace, Plan, Seen, patience, plan};
    use std::time::{Duration, Instant};

    const LIMITS: Limits = Limits { core: 2, max: 512 };

    fn sample(blocked: usize, running: usize) -> Seen {
        Seen { blocked, running }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_rules_hold_for_the_loads_of_the_table() {
        let busy = Load {
            queued: 100,
            threads: 2,
            ..Load::default()
        };
        #[rustfmt::skip]
        let table = [
            ("nothing queued", Load { queued: 0, ..busy }, Plan::Keep),
            ("first job", Load { queued: 1, threads: 0, ..busy }, Plan::Grow(1)),
            ("first burst", Load { threads: 0, ..busy }, Plan::Grow(2)),
            ("the core is on its way", Load { queued: 2, starting: 2, ..busy }, Plan::Keep),
            ("somebody is idle for each", Load { queued: 2, idle: 2, ..busy }, Plan::Keep),
            ("computing", Load { seen: sample(0, 2), ..busy }, Plan::Keep),
            ("all asleep: a small burst at once", Load { seen: sample(2, 0), ..busy }, Plan::Grow(16)),
            ("all asleep, a smaller one", Load { queued: 5, seen: sample(2, 0), ..busy }, Plan::Grow(5)),
            ("one asleep, one computes", Load { seen: sample(1, 1), ..busy }, Plan::Grow(1)),
            ("all asleep, so many on the way", Load { threads: 18, starting: 16, seen: sample(2, 0), ..busy }, Plan::Keep),
            ("asleep, one on the way", Load { threads: 4, starting: 1, seen: sample(3, 0), ..busy }, Plan::Grow(15)),
            ("64 asleep by a sample of 8", Load { queued: 300, threads: 64, seen: sample(8, 0), ..busy }, Plan::Grow(128)),
            ("64, 7 of 8 asleep", Load { queued: 300, threads: 64, seen: sample(7, 1), ..busy }, Plan::Grow(112)),
            ("a new thread looks, two others sleep", Load { threads: 6, looker: true, seen: sample(2, 0), ..busy }, Plan::Grow(16)),
            ("a new thread looks, twelve others sleep", Load { threads: 13, looker: true, seen: sample(8, 0), ..busy }, Plan::Grow(24)),
            ("a new thread looks, one of the others runs", Load { threads: 3, looker: true, seen: sample(1, 1), ..busy }, Plan::Keep),
            ("64, half asleep: CPUs are busy", Load { threads: 64, seen: sample(4, 4), ..busy }, Plan::Keep),
            ("never more than jobs", Load { queued: 3, threads: 64, seen: sample(8, 0), ..busy }, Plan::Grow(3)),
            ("never above max", Load { threads: 510, seen: sample(8, 0), ..busy }, Plan::Grow(2)),
            ("at max", Load { threads: 512, seen: sample(8, 0), stalled: ms(100_000), ..busy }, Plan::Keep),
            ("beyond max", Load { threads: 600, seen: sample(8, 0), ..busy }, Plan::Keep),
            ("a wait of ours", Load { announced: 1, ..busy }, Plan::Grow(1)),
            ("all in waits of ours", Load { announced: 2, ..busy }, Plan::Grow(2)),
            ("waits of ours at max", Load { threads: 512, announced: 512, ..busy }, Plan::Keep),
            ("a wait of ours, compensated", Load { threads: 3, announced: 1, seen: sample(0, 2), ..busy }, Plan::Keep),
            ("isolated, computing", Load { queued: 1, isolated: true, seen: sample(0, 2), ..busy }, Plan::Keep),
            ("isolated, one asleep", Load { queued: 1, isolated: true, seen: sample(1, 1), ..busy }, Plan::Grow(1)),
            ("stalled, all woken and none there yet", Load { idle: 2, stalled: ms(10), ..busy }, Plan::Grow(1)),
            ("stalled, one more was woken", Load { threads: 3, idle: 3, stalled: ms(999), ..busy }, Plan::Keep),
            ("isolated, unseen", Load { queued: 1, isolated: true, ..busy }, Plan::Grow(1)),
            ("isolated, unseen, enough", Load { queued: 1, threads: 10, isolated: true, ..busy }, Plan::Keep),
            ("backlog, unseen", busy, Plan::Keep),
            ("stalled, unseen", Load { stalled: ms(10), ..busy }, Plan::Grow(1)),
            ("stalled, computing: core + 1", Load { stalled: ms(10), seen: sample(0, 2), ..busy }, Plan::Grow(1)),
            ("stalled in a crowd", Load { stalled: ms(99), crowded: true, seen: sample(0, 2), ..busy }, Plan::Keep),
            ("stalled for long in a crowd", Load { stalled: ms(100), crowded: true, seen: sample(0, 2), ..busy }, Plan::Grow(1)),
            ("stalled in a crowd, one asleep", Load { threads: 3, stalled: ms(10), crowded: true, seen: sample(1, 2), ..busy }, Plan::Grow(1)),
            ("not yet stalled", Load { stalled: ms(9), seen: sample(0, 2), ..busy }, Plan::Keep),
            ("stalled, computing, core + 1 there", Load { threads: 3, stalled: ms(999), seen: sample(0, 3), ..busy }, Plan::Keep),
            ("stalled for long", Load { threads: 3, stalled: ms(1_000), seen: sample(0, 3), ..busy }, Plan::Grow(1)),
            ("stalled, sleepers beside a full core", Load { threads: 6, stalled: ms(10), seen: sample(4, 2), ..busy }, Plan::Grow(1)),
            ("a rested extra worker", Load { queued: 0, threads: 3, idle: 1, rested: true, ..busy }, Plan::Retire),
            ("rested at core size", Load { queued: 0, idle: 2, rested: true, ..busy }, Plan::Keep),
            ("rested, but there is work", Load { queued: 1, threads: 3, idle: 1, rested: true, ..busy }, Plan::Keep),
        ];
        for (name, load, expected) in table {
            assert_eq!(plan(&load, &LIMITS), expected, "{name}: {load:?}");
            let grows = matches!(expected, Plan::Grow(_));
            assert!(!grows || LIMITS.allow_more_than(load.threads), "{name}");
        }
        let open = [(0, true), (511, true), (512, false), (600, false)];
        for (threads, expected) in open {
            assert_eq!(LIMITS.allow_more_than(threads), expected, "{threads}");
        }
    }

    #[test]
    fn nonsense_counts_never_overflow() {
        let all = [0, 1, usize::MAX / 16, usize::MAX];
        for queued in all {
            for threads in all {
                for part in all {
                    let load = Load {
                        queued,
                        threads,
                        starting: part,
                        idle: part,
                        announced: part,
                        seen: sample(8, 0),
                        stalled: Duration::MAX,
                        drain: None,
                        crowded: true,
                        isolated: true,
                        looker: true,
                        rested: true,
                    };
                    let _ = plan(&load, &LIMITS);
                }
            }
        }
    }

    #[test]
    fn patience_grows_with_the_surplus() {
        let of: Vec<_> = (0..4).map(patience).collect();
        assert_eq!(of, [ms(10), ms(1_000), ms(2_000), ms(4_000)]);
        assert_eq!(patience(usize::MAX), ms(64_000));
    }

    #[test]
    fn a_pace_tells_when_a_backlog_is_gone_and_whether_jobs_are_short() {
        let us = Duration::from_micros;
        let mut pace = Pace::default();
        assert_eq!(pace.drain(10), None);
        pace.note(us(1_000), 50);
        assert_eq!(pace.drain(10), None, "one note is no pace");
        pace.note(us(1_050), 52);
        assert_eq!(
            pace.drain(10),
            Some(us(250)),
            "a part of the first window will do"
        );
        assert!(pace.is_short(2));
        pace.note(us(1_200), 52);
        assert_eq!(
            pace.drain(10),
            Some(us(1_000)),
            "the first window as a whole"
        );
        assert!(!pace.is_short(5));
        pace.note(us(1_250), 90);
        assert_eq!(
            pace.drain(10),
            Some(us(1_000)),
            "a part of a later one will not"
        );
        pace.note(us(1_400), 52);
        assert_eq!(pace.drain(10), None, "nothing ended in this one");
        let mut pace = Pace::default();
        [(0, 0), (200, 100), (400, 100)]
            .into_iter()
            .for_each(|(at, ended)| pace.note(us(at), ended));
        assert!(pace.is_short(2), "a pause of one window");
        pace.note(us(800), 100);
        assert!(!pace.is_short(2), "a long pause");
    }

    #[test]
    fn refusals_back_off_and_a_success_forgets_them() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.allows(start));
        backoff.refused(start);
        assert!(!backoff.allows(start));
        assert!(backoff.allows(start + ms(1)));
        backoff.refused(start);
        assert!(!backoff.allows(start + ms(1)));
        assert!(backoff.allows(start + ms(2)));
        (0..20).for_each(|_| backoff.refused(start));
        assert!(!backoff.allows(start + ms(999)));
        assert!(
            backoff.allows(start + ms(1_000)),
            "never longer than a second"
        );
        assert!(!backoff.is_clear());
        backoff.succeeded();
        assert!(backoff.is_clear() && backoff.allows(start));
        backoff.refused(start);
        assert!(backoff.allows(start + ms(1)), "from the beginning again");
    }
}
