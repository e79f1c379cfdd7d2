//! Growth at work: who looks when, and how the threads are started that a look asks for.
//!
//! [`plan`] decides, [`Eyes`] see, [`Watch`] calls the watchdog; this module joins them to a
//! pool, of which it knows only its [`Ground`].
//!
//! # Invariants
//!
//! 1. Threads are started outside every lock. A look reserves them (so that the next look
//!    counts them), lets go of everything, then starts.
//! 2. Many starts spread like a tree: whoever starts gives half of what is left to the thread it
//!    has started, down to a few, which it starts itself: each of the others would wait for a
//!    CPU first. The last of a generation looks again, so growth goes on without a tick.
//! 3. One look at a time; whoever finds another one in progress leaves it to the watchdog, unless
//!    there is none, or there is a place that the other has not seen, and then looks itself.
//! 4. Where jobs are queued and nobody is coming for them, the watchdog has been called: by
//!    whoever found the core complete or a look in progress, by the new threads of an incomplete
//!    core once they have their first jobs, or because a start was refused.
//! 5. A refused start gives its reservation back and pauses all starts ([`Backoff`]), except
//!    the one that would be the pool's only thread.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::park::{Parker, Unparker};
use crate::base::sync::atomic::{Ordering, fence};
use crate::base::sync::{Arc, Mutex, Weak};
use crate::pool::builder::Starter;
use crate::pool::elastic::{Backoff, Limits, Load, Pace, Plan, STALL, Seen, plan};
use crate::pool::evidence::{Eyes, Moment, Phase, Pulse, SAMPLE, sharpen_deadlines};
use crate::pool::watchdog::{Alarm, CALM_TICKS, FIRST_TICK, Rest, TICK, Watch};

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

/// Looks of arrivals and of ending jobs are at least this far apart: a look costs up to 20 us.
const LOOK_GAP: Duration = Duration::from_micros(60);

/// How long a worker is seen asleep in one job before it counts as blocked.
const SETTLE: Duration = Duration::from_micros(40);

/// The same while short jobs get done: long enough for the owner of a lock to come back to its
/// CPU.
const SETTLE_SHORT: Duration = Duration::from_micros(500);

/// Threads that one thread starts without the help of those that it has started.
const HANDFUL: usize = 16;

/// The stack of the watchdog: it reads files and starts threads.
const WATCHDOG_STACK: usize = 128 << 10;

/// The counts of a pool at one moment; see [`Load`] for their meanings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) queued: usize,
    pub(super) threads: usize,
    pub(super) starting: usize,
    pub(super) idle: usize,
    pub(super) announced: usize,
    /// Jobs that have ended so far.
    pub(super) ended: u64,
    /// Jobs that have been taken so far; `ended` will do where nobody counts them.
    pub(super) taken: u64,
}

/// What growth sees of a pool and asks of it.
pub(super) trait Ground: Send + Sync + Sized + 'static {
    /// The growth of this pool.
    fn growth(&self) -> &Growth;
    /// The counts; each may be a little late.
    fn counts(&self) -> Counts;
    /// Of the counts those of the threads, where they are cheaper to have alone.
    fn crew(&self) -> Counts {
        self.counts()
    }
    /// Is anything queued? After a `fence(SeqCst)` of the caller it sees every push that was
    /// made before a fence of the pusher.
    fn has_queued(&self) -> bool;
    /// Counts up to `count` threads as started and starting, within `max`; returns how many.
    fn reserve(&self, count: usize) -> usize;
    /// Takes a reservation back.
    fn release(&self, count: usize);
    /// Starts one thread that is reserved, and tells it to [`Growth::spread`] `share` others.
    fn start(self: &Arc<Self>, share: usize) -> io::Result<()>;
}

/// One pool's growth.
pub(super) struct Growth {
    limits: Limits,
    starter: Arc<dyn Starter>,
    watch: Watch,
    watchdog: Mutex<Option<Arc<Unparker>>>,
    sight: Mutex<Sight>,
    roster: Mutex<Vec<Arc<Pulse>>>,
    backoff: Mutex<Backoff>,
    /// Its own: a watchdog refused again and again must not hold up the workers.
    watchdog_backoff: Mutex<Backoff>,
    epoch: Instant,
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
struct Sight {
    eyes: Eyes,
    pace: Pace,
    /// Where the next sample begins in the roster.
    turn: usize,
    /// Jobs queued at the last tick.
    queued: usize,
    looked: Option<Duration>,
    /// Jobs taken when a look last saw that some had been, and when that was; `None` while
    /// there was no backlog since.
    taken: Option<u64>,
    taken_at: Duration,
    /// Kept from look to look for its memory: a look allocates nothing.
    some: Vec<Arc<Pulse>>,
}

/// Why somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Pushed, and found nobody to wake.
    Arrival,
    /// The last thread of a generation has taken its first job.
    Began,
    /// A worker blocks in a wait of ours.
    Blocked,
    /// A thread is gone that had a place under the cap.
    Room,
    /// A worker ended a job, and there is no watchdog.
    Ended,
    /// The watchdog.
    Tick,
}

impl Growth {
    /// The most threads that the pool may have.
    pub(super) fn thread_max(&self) -> usize {
        self.limits.max
    }

    /// Was the last start refused?
    pub(super) fn is_refused(&self) -> bool {
        !self.backoff.lock().is_clear()
    }

    pub(super) fn new(limits: Limits, starter: Arc<dyn Starter>) -> Self {
        let growth = Self {
            limits,
            starter,
            watch: Watch::new(),
            watchdog: Mutex::new(None),
            sight: Mutex::new(Sight::default()),
            roster: Mutex::new(Vec::new()),
            backoff: Mutex::new(Backoff::default()),
            watchdog_backoff: Mutex::new(Backoff::default()),
            epoch: clock::steady(),
        };
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        if crate::base::simulated::is_on() {
            // Whoever stands still there is asleep, whatever it would be elsewhere.
            growth.go_blind();
        }
        growth
    }

    /// Takes the thread states away, as where the system does not tell them.
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    pub(super) fn go_blind(&self) {
        self.sight.lock().eyes = Eyes::blind();
    }

    /// The calling thread becomes a worker.
    pub(super) fn enroll(&self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        pulse.comes();
        self.roster.lock().push(pulse.clone());
        pulse
    }

    /// The worker leaves.
    pub(super) fn dismiss(&self, pulse: &Arc<Pulse>) {
        pulse.leaves();
        self.roster
            .lock()
            .retain(|other| !Arc::ptr_eq(other, pulse));
    }

    /// A push found nobody to wake. The caller has passed a `fence(SeqCst)` since the push.
    ///
    /// `queued` is the length of the queue that it went to: one says that it is alone there.
    ///
    /// # Errors
    ///
    /// The system refused the only thread of the pool: the job has nobody to run it.
    #[inline]
    pub(super) fn arrived<G: Ground>(&self, ground: &Arc<G>, queued: usize) -> io::Result<()> {
        if queued != 1 && self.watch.is_alarmed() {
            return Ok(());
        }
        self.look_into(ground, queued)
    }

    #[cold]
    fn look_into<G: Ground>(&self, ground: &Arc<G>, queued: usize) -> io::Result<()> {
        if self.lacks_core(&ground.crew()) {
            let looked = self.look(ground, Why::Arrival);
            if !self.backoff.lock().is_clear() {
                self.call_watchdog(ground);
            }
            return looked;
        }
        self.call_watchdog(ground);
        if queued != 1 && !self.watch.is_unable() {
            return Ok(());
        }
        self.look(ground, Why::Arrival)
    }

    /// A new thread has taken its first job and is about to run it: the last one of its
    /// generation looks. Its [`Pulse`] still says that it rests, so it does not see itself.
    pub(super) fn began<G: Ground>(&self, ground: &Arc<G>) {
        if ground.crew().starting == 0 && ground.has_queued() {
            // It may be the last one that looks: those who pushed while it started did not.
            self.call_watchdog(ground);
            let _ = self.look(ground, Why::Began);
            if self.has_suspects() {
                // The burst goes on sleeping: what is suspected now is certain in a moment, long
                // before the next tick.
                self.hurry_watchdog();
            }
        }
    }

    /// A worker is about to block in a wait of ours; `announced` counts it already.
    pub(super) fn blocked<G: Ground>(&self, ground: &Arc<G>) {
        if ground.has_queued() {
            self.call_watchdog(ground);
            let _ = self.look(ground, Why::Blocked);
        }
    }

    /// A thread is gone that had a place under the cap: a start may have found none. The caller
    /// has passed a `fence(SeqCst)` since.
    pub(super) fn made_room<G: Ground>(&self, ground: &Arc<G>) {
        if ground.has_queued() {
            self.call_watchdog(ground);
            let _ = self.look(ground, Why::Room);
        }
    }

    /// A worker has ended a job. One load, unless the watchdog cannot be started.
    #[inline]
    pub(super) fn ended<G: Ground>(&self, ground: &Arc<G>) {
        if self.watch.is_unable() && ground.has_queued() {
            self.call_watchdog(ground);
            let _ = self.look(ground, Why::Ended);
        }
    }

    /// Did the last look see workers asleep of whom it cannot tell yet?
    fn has_suspects(&self) -> bool {
        let sight = self.sight.try_lock();
        sight.is_some_and(|sight| sight.eyes.suspects() > 0)
    }

    /// The watchdog sees no backlog: what was seen of the last one says nothing about the next.
    fn nothing_waits(&self) {
        if let Some(mut sight) = self.sight.try_lock() {
            sight.eyes.rest();
            sight.pace = Pace::default();
            sight.taken = None;
            sight.queued = 0;
        }
    }

    /// Starts `count` reserved threads, half of the rest by the one just started, as long as there
    /// are many.
    ///
    /// # Errors
    ///
    /// The system refused one; the reservations that were left are taken back.
    pub(super) fn spread<G: Ground>(&self, ground: &Arc<G>, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let share = if left > HANDFUL { (left - 1) / 2 } else { 0 };
            if let Err(error) = ground.start(share) {
                self.backoff.lock().refused(clock::steady());
                ground.release(left);
                return Err(error);
            }
            left -= 1 + share;
        }
        if count > 0 && self.backoff.lock().succeeded() {
            // Whoever looked at the refusal has left its work to those who wait themselves, and
            // they look no more: the refusal may be younger than this start.
            self.look_again(ground);
        }
        Ok(())
    }

    /// May an extra worker leave whose keep-alive has run out?
    pub(super) fn may_retire(&self, counts: &Counts) -> bool {
        let load = Load {
            queued: counts.queued,
            threads: counts.threads,
            idle: counts.idle,
            rested: true,
            ..Load::default()
        };
        plan(&load, &self.limits) == Plan::Retire
    }

    /// The pool goes: the watchdog leaves.
    pub(super) fn close(&self) {
        if self.watch.close() {
            self.hurry_watchdog();
        }
    }

    /// Looks, decides, starts. Fails only if the pool has no thread and gets none.
    fn look<G: Ground>(&self, ground: &Arc<G>, why: Why) -> io::Result<()> {
        let reserved = {
            // Without a watchdog, nobody would look again after the one that looks now; which may
            // have found no place a moment ago, and there is one now.
            let waits = why == Why::Room || self.watch.is_unable();
            let mut sight = match self.sight.try_lock() {
                Some(sight) => sight,
                None if waits => self.sight.lock(),
                None => {
                    // That one may have decided already, for what it saw before the push.
                    self.call_watchdog(ground);
                    return Ok(());
                }
            };
            match self.decide(&mut sight, ground, why) {
                Plan::Grow(count) => ground.reserve(count),
                Plan::Keep | Plan::Retire => return Ok(()),
            }
        };
        match self.spread(ground, reserved) {
            Err(error) if ground.crew().threads == 0 => Err(error),
            Err(_) => {
                // The others go on with the work; the watchdog tries again.
                self.call_watchdog(ground);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Fewer threads than `core` that are not in a wait of ours: no sample is needed.
    fn lacks_core(&self, crew: &Counts) -> bool {
        crew.threads.saturating_sub(crew.announced) < self.limits.core
    }

    /// Whether the pool is to grow: the cheap reasons to keep it as it is come first.
    fn decide<G: Ground>(&self, sight: &mut Sight, ground: &Arc<G>, why: Why) -> Plan {
        let crew = ground.crew();
        if !self.limits.allow_more_than(crew.threads) {
            return Plan::Keep;
        }
        let at = clock::steady();
        let now = at.saturating_duration_since(self.epoch);
        let limited = matches!(why, Why::Arrival | Why::Ended);
        if limited
            && sight.looked.is_some_and(|looked| now - looked < LOOK_GAP)
            && !self.lacks_core(&crew)
        {
            return Plan::Keep;
        }
        let counts = ground.counts();
        if counts.queued <= counts.starting + counts.idle {
            return Plan::Keep;
        }
        if counts.threads > 0 && !self.backoff.lock().allows(at) {
            return Plan::Keep;
        }
        let mut load = Load {
            queued: counts.queued,
            threads: counts.threads,
            starting: counts.starting,
            idle: counts.idle,
            announced: counts.announced,
            isolated: why == Why::Arrival && counts.queued == 1,
            looker: why == Why::Began,
            ..Load::default()
        };
        if self.lacks_core(&counts) {
            return plan(&load, &self.limits);
        }
        self.look_closely(sight, &mut load, &counts, now);
        let plan = plan(&load, &self.limits);
        if plan != Plan::Keep {
            // A thread that was started for a stall has as long as the one before it.
            sight.taken_at = now;
        }
        if why == Why::Tick {
            sight.queued = counts.queued;
        }
        plan
    }

    /// What the workers do, and for how long it has been so, into the load.
    fn look_closely(&self, sight: &mut Sight, load: &mut Load, counts: &Counts, now: Duration) {
        sight.looked = Some(now);
        sight.pace.note(now, counts.ended);
        if sight.taken != Some(counts.taken) || load.isolated {
            (sight.taken, sight.taken_at) = (Some(counts.taken), now);
        }
        // Whoever has just taken a job is no sign of a stall.
        if !load.looker {
            load.stalled = now.saturating_sub(sight.taken_at);
        }
        // A backlog that does not shrink is a flow: draining soon is no comfort to it.
        if counts.queued < sight.queued {
            load.drain = sight.pace.drain(counts.queued);
        }
        // A lone arrival is worth a thread on suspicion.
        let settle = match sight.pace.is_short(counts.threads) {
            _ if load.isolated => Duration::ZERO,
            true => SETTLE_SHORT,
            false => SETTLE,
        };
        load.seen = self.sample(sight, counts, now, settle);
        load.crowded = load.stalled >= STALL && sight.eyes.is_crowded();
    }

    fn sample(&self, sight: &mut Sight, counts: &Counts, now: Duration, settle: Duration) -> Seen {
        let moment = Moment {
            now,
            ended: counts.ended,
            threads: counts.threads,
            core: self.limits.core,
            settle,
        };
        // Copied out: files are not read under the lock that a starting worker waits for.
        let some = &mut sight.some;
        {
            let roster = self.roster.lock();
            let skip = sight.turn % roster.len().max(1);
            let around = roster.iter().skip(skip).chain(roster.iter().take(skip));
            some.extend(
                around
                    .filter(|pulse| matches!(pulse.phase(), Phase::Looking | Phase::Inside))
                    .take(SAMPLE)
                    .cloned(),
            );
        }
        let seen = sight.eyes.look(some.iter().map(|pulse| &**pulse), moment);
        // Whoever is under suspicion is looked at again.
        if sight.eyes.suspects() == 0 {
            sight.turn = sight.turn.wrapping_add(some.len().max(1));
        }
        some.clear();
        seen
    }

    fn call_watchdog<G: Ground>(&self, ground: &Arc<G>) {
        let again = self.watch.is_unable() && self.watchdog_backoff.lock().allows(clock::steady());
        let alarm = if again {
            self.watch.retry()
        } else {
            self.watch.alarm()
        };
        match alarm {
            Alarm::Heard => {}
            Alarm::Wake => self.hurry_watchdog(),
            Alarm::Start => self.start_watchdog(ground),
        }
    }

    /// Has the watchdog look now.
    fn hurry_watchdog(&self) {
        let watchdog = self.watchdog.lock().clone();
        if let Some(watchdog) = watchdog {
            watchdog.unpark();
        }
    }

    /// Somebody may have relied on what has just turned out otherwise.
    fn look_again<G: Ground>(&self, ground: &Arc<G>) {
        // Ordering: who relied on it has passed a fence between its push, or its count as
        // blocked, and its look; one of the two sees the other's move.
        fence(Ordering::SeqCst);
        if ground.has_queued() {
            let _ = self.look(ground, Why::Blocked);
        }
    }

    fn start_watchdog<G: Ground>(&self, ground: &Arc<G>) {
        let weak = Arc::downgrade(ground);
        let body = move || keep_watch(&weak);
        let name = "portage-watchdog".to_owned();
        let started = self
            .starter
            .start(name, Some(WATCHDOG_STACK), Box::new(body));
        if started.is_err() {
            self.watchdog_backoff.lock().refused(clock::steady());
            self.watch.refused();
            self.look_again(ground);
        }
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Growth")
            .field("limits", &self.limits)
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

/// The watchdog's thread.
fn keep_watch<G: Ground>(ground: &Weak<G>) {
    let parker = Parker::new();
    sharpen_deadlines();
    let Some(pool) = ground.upgrade() else {
        return;
    };
    *pool.growth().watchdog.lock() = Some(parker.unparker().clone());
    drop(pool);
    let mut calm_ticks = 0;
    let mut tick = FIRST_TICK;
    loop {
        // Held for the tick alone: the watchdog keeps no pool alive.
        let Some(pool) = ground.upgrade() else {
            return;
        };
        let growth = pool.growth();
        if growth.watch.is_closed() {
            return;
        }
        if pool.has_queued() {
            calm_ticks = 0;
            let _ = growth.look(&pool, Why::Tick);
            if growth.has_suspects() {
                tick = FIRST_TICK;
            }
        } else {
            if growth.watch.calm() {
                calm_ticks = 0;
            }
            calm_ticks += 1;
            growth.nothing_waits();
        }
        let rest = if calm_ticks > CALM_TICKS {
            growth.watch.sleep(|| pool.has_queued())
        } else {
            Rest::Stay
        };
        drop(pool);
        match rest {
            Rest::Leave => return,
            Rest::Sleep => {
                parker.park();
                (calm_ticks, tick) = (0, FIRST_TICK);
            }
            Rest::Stay => {
                parker.park_until(clock::now().checked_add(tick));
                tick = (tick * 2).min(TICK);
            }
        }
    }
}
