//! A pool in virtual time: replays loads through [`plan`] and through the rule "start one when
//! none is idle", and compares the threads and the times.
//!
//! Two CPUs are shared evenly among whoever runs; a job is a stretch of computing, then a
//! sleep or a wait for another job; a started thread needs [`START_COST`] of CPU before it is
//! there, its starter [`SPAWN_COST`]. Steps of [`STEP`]: coarse, and the same for both rules.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use super::{Limits, Load, Pace, Plan, Seen, plan};

const CPUS: u64 = 2;
const CORE: usize = 2;
const STEP: u64 = 10;
const START_COST: u64 = 40;
const SPAWN_COST: u64 = 20;
const TICK: u64 = 200;
const FIRST_TICK: u64 = 60;

/// Microseconds of CPU, then of sleep; `after` waits for the end of another job first.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    at: u64,
    cpu: u64,
    sleep: u64,
    after: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    NoneIdle,
    Evidence,
    /// No sample can be had.
    Blind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Starting(u64),
    Idle,
    /// Looks around before its first job.
    Looking,
    /// Starts others for so long before it begins its job.
    Spawning(u64, usize),
    Computing(u64, usize),
    Waiting(usize),
    Sleeping(u64, usize),
}

#[derive(Debug)]
struct Report {
    end: u64,
    threads: usize,
    waits: Vec<u64>,
}

impl Report {
    fn wait_p99(&self) -> u64 {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        waits[(waits.len() - 1) * 99 / 100]
    }
}

struct Pool<'a> {
    rule: Rule,
    limits: Limits,
    works: &'a [Work],
    now: u64,
    queue: VecDeque<usize>,
    workers: Vec<Doing>,
    done: Vec<bool>,
    waits: Vec<u64>,
    last_taken: u64,
    next_tick: Option<u64>,
    submitter_busy_until: u64,
    turn: usize,
    ended: u64,
    pace: Pace,
    queued_before: usize,
}

fn run(rule: Rule, max: usize, works: &[Work]) -> Report {
    let mut pool = Pool {
        rule,
        limits: Limits { core: CORE, max },
        works,
        now: 0,
        queue: VecDeque::new(),
        workers: Vec::new(),
        done: vec![false; works.len()],
        waits: Vec::new(),
        last_taken: 0,
        next_tick: None,
        submitter_busy_until: 0,
        turn: 0,
        ended: 0,
        pace: Pace::default(),
        queued_before: 0,
    };
    let mut next = 0;
    while pool.done.contains(&false) {
        assert!(pool.now < 60_000_000, "the pool is stuck: {rule:?}");
        while next < works.len()
            && works[next].at <= pool.now
            && pool.submitter_busy_until <= pool.now
        {
            pool.push(next);
            next += 1;
        }
        if pool.next_tick.is_some_and(|tick| tick <= pool.now) {
            pool.tick();
        }
        pool.advance();
    }
    Report {
        end: pool.now,
        threads: pool.workers.len(),
        waits: pool.waits,
    }
}

impl Pool<'_> {
    fn push(&mut self, job: usize) {
        let was_empty = self.queue.is_empty();
        self.queue.push_back(job);
        if self.workers.contains(&Doing::Idle) {
            return;
        }
        let grown = match self.rule {
            Rule::NoneIdle => {
                let room = self.workers.len() < self.limits.max;
                room.then(|| self.workers.push(Doing::Starting(START_COST)));
                usize::from(room)
            }
            Rule::Evidence | Rule::Blind => {
                self.next_tick.get_or_insert(self.now + FIRST_TICK);
                let core = self.workers.len() < CORE;
                if was_empty || core {
                    self.look(was_empty)
                } else {
                    0
                }
            }
        };
        self.submitter_busy_until = self.now + SPAWN_COST * grown as u64;
    }

    fn tick(&mut self) {
        if self.queue.is_empty() {
            self.next_tick = None;
            return;
        }
        self.pace.note(Duration::from_micros(self.now), self.ended);
        // One at a time, so that the next decision knows of the last start.
        let more = self.look(false);
        self.queued_before = self.queue.len();
        self.next_tick = Some(self.now + if more > 0 { SPAWN_COST } else { TICK });
    }

    fn look(&mut self, isolated: bool) -> usize {
        match plan(&self.load(isolated), &self.limits) {
            Plan::Grow(_) => {
                self.workers.push(Doing::Starting(START_COST));
                1
            }
            Plan::Keep => 0,
            Plan::Retire => unreachable!("nobody asked"),
        }
    }

    fn load(&self, isolated: bool) -> Load {
        let count = |like: fn(&Doing) -> bool| self.workers.iter().filter(|w| like(w)).count();
        let mut seen = Seen::default();
        let busy: Vec<_> = self
            .workers
            .iter()
            .filter(|w| !matches!(w, Doing::Starting(_) | Doing::Idle | Doing::Looking))
            .collect();
        // Eight of them, spread over all.
        for index in 0..busy.len().min(8) {
            match busy[index * busy.len() / busy.len().min(8)] {
                Doing::Waiting(_) | Doing::Sleeping(..) => seen.blocked += 1,
                _ => seen.running += 1,
            }
        }
        if self.rule == Rule::Blind {
            seen = Seen::default();
        }
        Load {
            queued: self.queue.len(),
            threads: self.workers.len(),
            starting: count(|w| matches!(w, Doing::Starting(_))),
            idle: count(|w| *w == Doing::Idle),
            seen,
            stalled: Duration::from_micros(self.now - self.last_taken),
            isolated,
            looker: self.workers.contains(&Doing::Looking),
            drain: (self.queue.len() < self.queued_before)
                .then(|| self.pace.drain(self.queue.len()))
                .flatten(),
            ..Load::default()
        }
    }

    /// Takes a job; a thread that growth started looks around first.
    fn take(&mut self, fresh: bool) -> Doing {
        let Some(job) = self.queue.pop_front() else {
            return Doing::Idle;
        };
        self.last_taken = self.now;
        self.waits.push(self.now - self.works[job].at);
        if fresh && self.rule == Rule::Evidence && !self.queue.is_empty() {
            let last = !self.workers.iter().any(|w| matches!(w, Doing::Starting(_)));
            let grown = if last { self.look(false) as u64 } else { 0 };
            return Doing::Spawning(SPAWN_COST * grown, job);
        }
        Doing::Computing(self.works[job].cpu, job)
    }

    /// Gives the CPUs of one step to the workers in turn.
    fn advance(&mut self) {
        self.now += STEP;
        let mut budget = STEP * CPUS;
        for offset in 0..self.workers.len() {
            let index = (self.turn + offset) % self.workers.len();
            let mut left = STEP.min(budget);
            budget -= left;
            while self.step(index, &mut left) {}
            budget += left;
        }
        self.turn += 1;
    }

    /// One change of one worker; false where it needs time, or CPU that it has not got.
    fn step(&mut self, index: usize, left: &mut u64) -> bool {
        let mut spend = |need: u64| {
            let spent = need.min(*left);
            *left -= spent;
            need - spent
        };
        let before = self.workers[index];
        let after = match before {
            Doing::Starting(need) => match spend(need) {
                0 => {
                    // No longer on its way when it looks around, and not in its own sample.
                    self.workers[index] = Doing::Looking;
                    self.take(true)
                }
                need => Doing::Starting(need),
            },
            Doing::Idle | Doing::Looking => self.take(false),
            Doing::Spawning(need, job) => match spend(need) {
                0 => Doing::Computing(self.works[job].cpu, job),
                need => Doing::Spawning(need, job),
            },
            Doing::Computing(need, job) => match (spend(need), self.works[job]) {
                (
                    0,
                    Work {
                        after: Some(other), ..
                    },
                ) if !self.done[other] => Doing::Waiting(job),
                (0, Work { sleep, .. }) if sleep > 0 => Doing::Sleeping(self.now + sleep, job),
                (0, _) => self.end(job),
                (need, _) => Doing::Computing(need, job),
            },
            Doing::Waiting(job) => match self.works[job].after {
                Some(other) if !self.done[other] => before,
                _ => self.end(job),
            },
            Doing::Sleeping(until, _) if until > self.now => before,
            Doing::Sleeping(_, job) => self.end(job),
        };
        self.workers[index] = after;
        after != before && *left > 0
    }

    fn end(&mut self, job: usize) -> Doing {
        self.done[job] = true;
        self.ended += 1;
        self.take(false)
    }
}

fn burst(count: usize, cpu: u64, sleep: u64) -> Vec<Work> {
    vec![
        Work {
            cpu,
            sleep,
            ..Work::default()
        };
        count
    ]
}

/// Both rules over the same works.
fn both(works: &[Work]) -> (Report, Report) {
    let (ours, theirs) = (
        run(Rule::Evidence, 512, works),
        run(Rule::NoneIdle, 512, works),
    );
    println!(
        "{} us with {} threads, wait p99 {} us; none idle: {} us with {} threads, wait p99 {} us",
        ours.end,
        ours.threads,
        ours.wait_p99(),
        theirs.end,
        theirs.threads,
        theirs.wait_p99(),
    );
    (ours, theirs)
}

#[test]
fn bursts_of_sleepers_are_done_as_soon_as_with_a_thread_each() {
    for (count, sleep) in [
        (16, 1_000),
        (16, 5_000),
        (30, 5_000),
        (40, 1_000),
        (200, 5_000),
        (200, 20_000),
        (1_000, 1_000),
    ] {
        print!("{count} x sleep {sleep} us: ");
        let (ours, theirs) = both(&burst(count, 2, sleep));
        // The first look comes 60 us after the first backlog, and every doubling takes a start.
        assert!(
            ours.end * 10 <= theirs.end * 11 + 2_000,
            "{count} x {sleep}: {} {}",
            ours.end,
            theirs.end
        );
        assert!(
            ours.threads <= theirs.threads.max(count.min(200)) * 5 / 4,
            "{count} x {sleep}: {}",
            ours.threads
        );
    }
}

#[test]
fn computing_and_short_bursts_stay_at_core() {
    for (count, cpu, most) in [
        (10_000, 1, CORE),
        (2_000, 50, CORE),
        (200, 2_000, CORE),
        (20, 50_000, CORE + 1),
    ] {
        print!("{count} x cpu {cpu} us: ");
        let (ours, theirs) = both(&burst(count, cpu, 0));
        assert!(
            ours.threads <= most,
            "{count} x {cpu}: {} threads",
            ours.threads
        );
        assert!(
            ours.end * 20 <= theirs.end * 21,
            "{count} x {cpu}: {} {}",
            ours.end,
            theirs.end
        );
    }
}

#[test]
fn a_trickle_of_sleepers_never_waits_for_a_tick() {
    let works: Vec<_> = (0..500)
        .map(|n| Work {
            at: n * 100,
            cpu: 2,
            sleep: 2_000,
            after: None,
        })
        .collect();
    let (ours, theirs) = both(&works);
    assert!(ours.wait_p99() <= theirs.wait_p99().max(300));
    assert!(ours.threads <= theirs.threads + 2);
}

#[test]
fn mixed_bursts_grow_with_the_sleepers_among_them() {
    let (ours, theirs) = both(&burst(200, 30, 10_000));
    assert!(
        ours.end * 10 <= theirs.end * 12,
        "{} {}",
        ours.end,
        theirs.end
    );
    // One of a hundred sleeps, the others compute: at most a handful of threads more.
    let works: Vec<_> = (0..3_000)
        .map(|n| Work {
            at: n * 333,
            cpu: 10,
            sleep: if n % 100 == 7 { 5_000 } else { 0 },
            after: None,
        })
        .collect();
    let (ours, theirs) = both(&works);
    assert!(ours.threads <= CORE + 2, "{}", ours.threads);
    assert!(ours.wait_p99() <= theirs.wait_p99().max(20));
}

/// Twenty jobs, and the one behind them for which they wait.
fn all_wait_for_the_last() -> Vec<Work> {
    let last = Work {
        cpu: 2,
        ..Work::default()
    };
    let waits = Work {
        after: Some(20),
        ..last
    };
    let mut works = vec![waits; 20];
    works.push(last);
    works
}

#[test]
fn jobs_blocked_by_a_queued_one_get_a_thread_for_it() {
    let works = all_wait_for_the_last();
    let (ours, _) = both(&works);
    assert!(ours.end <= 5_000, "{}", ours.end);
    assert!(ours.threads <= works.len());
}

#[test]
fn all_blocked_at_the_cap_goes_on_when_one_ends() {
    let report = run(Rule::Evidence, 4, &burst(12, 2, 3_000));
    assert_eq!(report.threads, 4);
    assert!((9_000..11_000).contains(&report.end), "{}", report.end);
}

#[test]
fn without_a_sample_the_stall_rule_keeps_blocked_jobs_alive() {
    let works = all_wait_for_the_last();
    let report = run(Rule::Blind, 512, &works);
    // A thread every 10 ms at the latest.
    assert!(report.end <= 20 * 11_000, "{}", report.end);
}
