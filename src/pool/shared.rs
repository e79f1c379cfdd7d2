//! The state that handles, workers, wakers and the watchdog of one pool share.
//!
//! Wakers own this state, not the threads: a wake that comes after the last thread has left
//! finds a sealed queue and resolves what it brought.
//!
//! # The way of a job
//!
//! 1. [`Shared::admit`]: is the pool open, and is there a thread, or will one start? Only then
//!    is the job made, so that a refusal gives the closure back in a job of its own.
//! 2. Counted as submitted, pushed, `fence(SeqCst)`.
//! 3. [`Shared::after_push`]: heeds the [`Seal`] once more, then wakes a sleeper by the
//!    [protocol](crate::idle), or tells [`Growth`] that nobody sleeps.

#![forbid(unsafe_code)]

use std::io;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::base::clock;
use crate::base::count::Count;
use crate::base::fork;
use crate::base::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::base::sync::{Arc, Mutex};
use crate::idle::{Claim, Idle};
use crate::pool::builder::Settings;
use crate::pool::called::Called;
use crate::pool::census::Census;
use crate::pool::deadlock::Plights;
use crate::pool::elastic::Limits;
use crate::pool::growth::{Counts, Ground, Growth};
use crate::pool::guard::Announce;
use crate::pool::lease::LeaseSlot;
use crate::pool::metrics::{Outside, PoolMetrics, Totals};
use crate::pool::registry::Registry;
use crate::pool::seal::{Phase, Seal};
use crate::pool::seat::Roster;
use crate::pool::shutdown::Waiters;
use crate::pool::worker::{self, with_worker};
use crate::queue::injector::Injector;
use crate::task::{self, Ended, Hold, TaskRef, WakeKind};

/// Of so few jobs that wait for the one that was woken, each looks how long that takes.
const FEW: usize = 8;

/// Why a job is not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    ShutDown,
    /// A start hook panicked, the system gives no thread at all, or a fork left them behind.
    Broken,
}

/// One pool.
pub(super) struct Shared {
    pub(super) id: u64,
    pub(super) settings: Settings,
    pub(super) epoch: Instant,
    pub(super) idle: Idle,
    /// Since when the one that searches has been awaited.
    pub(super) called: Called,
    pub(super) injector: CachePadded<Injector<TaskRef>>,
    pub(super) seal: Seal,
    pub(super) census: Census,
    pub(super) growth: Growth,
    pub(super) roster: Roster,
    /// Workers in waits that others would have to end.
    pub(super) plights: Plights,
    pub(super) outside: Outside,
    pub(super) suspended: Registry,
    /// Queued work that a shutdown has cancelled, whichever thread came upon it.
    pub(super) swept: AtomicUsize,
    /// Suspended tasks that a shutdown has told to stop.
    pub(super) told: Mutex<Vec<Hold>>,
    /// Running tasks that wait for the pool's end themselves; see [`shutdown`](super::shutdown).
    pub(super) excused: AtomicUsize,
    /// Workers whose task waits for the pool's end.
    pub(super) inside: AtomicUsize,
    pub(super) waiters: Mutex<Waiters>,
    /// A shutdown has begun, or the last handle gone.
    pub(super) stopped: AtomicBool,
    /// For [`ThreadPool::current`](crate::ThreadPool::current).
    pub(super) lease: LeaseSlot,
}

impl Shared {
    pub(super) fn new(id: u64, settings: Settings) -> Self {
        let limits = Limits {
            core: settings.core,
            max: settings.max,
        };
        Self {
            id,
            epoch: clock::now(),
            idle: Idle::new(),
            called: Called::default(),
            injector: CachePadded::new(Injector::new()),
            seal: Seal::new(),
            census: Census::new(),
            growth: Growth::new(limits, settings.starter.clone()),
            roster: Roster::new(),
            plights: Plights::default(),
            outside: Outside::default(),
            suspended: Registry::new(),
            swept: AtomicUsize::new(0),
            told: Mutex::default(),
            excused: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            waiters: Mutex::default(),
            stopped: AtomicBool::new(false),
            lease: LeaseSlot::default(),
            settings,
        }
    }

    /// Is one more job taken from this thread? Starts the first worker if there is none.
    #[inline]
    pub(super) fn admit(self: &Arc<Self>) -> Result<(), Refusal> {
        let has_threads = self.census.now().threads() > 0 && !self.is_left_behind();
        if self.seal.phase() == Phase::Open && has_threads {
            return Ok(());
        }
        self.admit_slowly()
    }

    /// Is this a worker, or a thread that runs a job of the pool in place?
    fn is_inside(&self) -> bool {
        worker::is_worker_of(self.id) || task::is_any_running_of(self.id)
    }

    /// Is this the copy of a pool in a forked child? Its threads are the parent's.
    #[inline]
    pub(super) fn is_left_behind(&self) -> bool {
        fork::POOLS.is_left_behind(self.id)
    }

    #[cold]
    fn admit_slowly(self: &Arc<Self>) -> Result<(), Refusal> {
        match self.seal.phase() {
            Phase::Open if self.is_left_behind() => return Err(Refusal::Broken),
            Phase::Open => {}
            // What running jobs of the pool submit.
            Phase::Drain | Phase::Ending if self.is_inside() => return Ok(()),
            Phase::Drain | Phase::Ending | Phase::Cancel | Phase::Closed => {
                return Err(Refusal::ShutDown);
            }
            Phase::Broken if self.is_stopped() => return Err(Refusal::ShutDown),
            Phase::Broken => return Err(Refusal::Broken),
        }
        let lacks = self.census.reserve_first(self.settings.max);
        match lacks && self.growth.spread(self, 1).is_err() {
            false => Ok(()),
            // Refused by the system, else because the pool has ended meanwhile.
            true if self.seal.phase() == Phase::Open => Err(Refusal::Broken),
            true => self.admit_slowly(),
        }
    }

    /// Something has gone that a shutdown may have been waiting for, and no worker comes by.
    pub(super) fn see_to_the_end(&self) {
        if self.seal.is_ending() {
            self.try_close();
            self.tell_waiters();
        }
    }

    /// Has a shutdown begun, or the last handle gone?
    pub(super) fn is_stopped(&self) -> bool {
        // Ordering: Acquire pairs with `stop`: a refusal is seen after the call of a shutdown. No
        // model needs it: nothing is read behind it.
        self.stopped.load(Ordering::Acquire)
    }

    /// Heeds the seal, then gets somebody to work.
    #[inline]
    pub(super) fn after_push(self: &Arc<Self>) {
        match self.idle.claim() {
            Claim::Searching => self.somebody_comes(),
            Claim::Wake(index) => self.wake(index),
            Claim::Nobody => self.nobody_sleeps(),
        }
        // The fence in `claim` is behind the push and before this look.
        if self.seal.phase() >= Phase::Cancel {
            self.empty_queues();
        }
    }

    /// A task was woken, by whomever.
    pub(super) fn schedule(self: &Arc<Self>, task: TaskRef, kind: WakeKind) {
        let mut task = Some(task);
        let kept = with_worker(self.id, |worker| {
            let Some(task) = task.take() else {
                return false;
            };
            // What a worker keeps needs no look at the phase here: that worker looks before it
            // takes its next task, and when it blocks; who is on guard pushes what it takes away.
            match worker.keep(task, kind) {
                Announce::Now => return false,
                Announce::Later => worker.post_guard(),
                Announce::Never => {}
            }
            true
        });
        if let Some(task) = task {
            self.injector.push(task);
        }
        if kept != Some(true) {
            self.after_push();
        }
    }

    pub(super) fn wake(&self, index: usize) {
        let Some(seat) = self.roster.seat(index) else {
            return;
        };
        let counted = with_worker(self.id, |worker| worker.seat.tally.wakes.bump());
        if counted.is_none() {
            self.outside.wakes.add(1);
        }
        self.called.call(self.epoch.elapsed());
        seat.waker.wake_by_ref();
    }

    /// If there is work that nobody is coming for, gets somebody. After a `fence(SeqCst)`.
    pub(super) fn wake_more(self: &Arc<Self>) {
        if self.has_queued() {
            self.after_push();
        }
    }

    /// Somebody searches, or was woken to: unless that takes too long, it is enough.
    #[inline]
    fn somebody_comes(&self) {
        let waiting = self.injector.len();
        if waiting > 1 && (waiting <= FEW || waiting.is_power_of_two()) {
            self.look_who_comes();
        }
    }

    #[cold]
    fn look_who_comes(&self) {
        let now = self.epoch.elapsed();
        if self.called.is_overdue(now) {
            if let Claim::Wake(index) = self.idle.claim_another() {
                self.wake(index);
            }
        }
    }

    fn nobody_sleeps(self: &Arc<Self>) {
        if self.growth.arrived(self, self.injector.len()).is_err() {
            // No thread and none to be had: whoever waits for what is queued is told.
            self.give_up();
        }
        self.rescue();
    }

    /// Is every worker there can be in a wait of ours? Then nobody takes what is queued.
    pub(super) fn is_stuck(&self) -> bool {
        let now = self.census.now();
        now.blocked() >= now.present()
            && now.starting() == 0
            && (now.present() >= self.settings.max || self.growth.is_refused())
    }

    /// Are these `plights` all that there are, of all workers that there can be?
    pub(super) fn are_all_stuck(&self, plights: usize) -> bool {
        let now = self.census.now();
        now.present() == plights && plights >= self.settings.max && self.is_stuck()
    }

    /// Wakes the workers that await something of the pool, if nobody else is left to run it.
    /// After a `fence(SeqCst)`.
    pub(super) fn rescue(&self) {
        if !self.is_stuck() {
            return;
        }
        for seat in &*self.roster.seats().list {
            if seat.stranded.take() {
                seat.waker.wake_by_ref();
            }
        }
    }

    /// Resolves all that is queued, because nobody is there to run it.
    fn give_up(&self) {
        if self.census.now().threads() == 0 {
            self.empty_queues();
        }
    }

    /// Takes a task from any queue of the pool.
    pub(super) fn take_any(&self) -> Option<TaskRef> {
        let any = self.injector.take();
        any.or_else(|| {
            let seats = self.roster.seats();
            let mut seats = seats.list.iter();
            seats.find_map(|seat| seat.thief.take().or_else(|| seat.next.take()))
        })
    }

    /// Resolves what is queued as the phase says. The caller has passed a fence since it saw
    /// the phase.
    pub(super) fn empty_queues(&self) {
        while let Some(task) = self.take_any() {
            self.resolve(task);
        }
    }

    /// Resolves what was queued in a sealed pool.
    pub(super) fn resolve(&self, task: TaskRef) {
        if self.seal.phase() != Phase::Cancel && task.hold().is_here() {
            task.shut_down();
            return;
        }
        self.sweep(&task);
        // Drops the future of one that had started, or has its own worker do so.
        task.run();
    }

    /// Cancels what lies in a sealed pool, or is about to.
    fn sweep(&self, task: &TaskRef) {
        if task.is_finished() || task.is_job() && task.hold().is_claimed() {
            return; // Only an entry: of what a handle has cancelled, or a joiner runs in place.
        }
        // Ordering: Relaxed, before the end, whose count publishes it: who has seen everything end
        // reads all of this. Taken back if a canceller or a joiner was first, at this
        // very moment: a job that nobody has begun ends here.
        self.swept.fetch_add(1, Ordering::Relaxed);
        let is_told = task.cancel_first();
        let is_begun = task.is_job() && (!task.is_finished() || task.hold().has_outlived_cancel());
        if !is_told || is_begun {
            self.swept.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Jobs and tasks that have not ended. Exact when nothing is submitted from outside.
    pub(super) fn live(&self) -> u64 {
        self.live_by(Count::sum)
    }

    /// The same; whoever submits from outside and is not among them has seen what the caller did
    /// before, and so has whoever runs that.
    pub(super) fn settled_live(&self) -> u64 {
        self.live_by(Count::settle)
    }

    fn live_by(&self, sum: fn(&Count) -> u64) -> u64 {
        self.outside.live(|| self.roster.totals(), sum)
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.roster.totals();
        self.outside.add_to(&mut totals);
        totals
    }

    pub(super) fn metrics(&self) -> PoolMetrics {
        self.totals().metrics(self.idle.sleeping())
    }

    /// A task was claimed for the first time, on this thread.
    #[inline]
    pub(super) fn started(&self, task: &TaskRef) {
        let counted = with_worker(self.id, |worker| worker.started(task));
        if counted.is_none() {
            self.outside.started.add(1);
        }
    }

    /// A future is about to be suspended for the first time.
    pub(super) fn suspended(&self, task: &TaskRef) {
        self.suspended.enter(task.hold());
        // Ordering: the shutdown seals, passes a fence, then looks at the registry. No model needs
        // it: the lock of the registry would do alone.
        fence(Ordering::SeqCst);
        if self.seal.phase() == Phase::Cancel || self.seal.phase() == Phase::Broken {
            self.sweep(task);
        }
    }

    /// A task ended; its outcome is not visible yet.
    #[inline]
    pub(super) fn ended(self: &Arc<Self>, end: &Ended) {
        if end.suspended {
            self.suspended.leave(end.id);
        }
        if with_worker(self.id, |worker| worker.ended(end)).is_some() {
            return;
        }
        self.outside.ended(end);
        self.see_to_the_end();
    }
}

impl Ground for Shared {
    fn growth(&self) -> &Growth {
        &self.growth
    }

    fn counts(&self) -> Counts {
        let totals = self.totals();
        let seats = self.roster.seats();
        let local: usize = seats.list.iter().map(|seat| seat.thief.len()).sum();
        Counts {
            queued: self.injector.len() + local,
            idle: self.idle.sleeping() + self.idle.searching(),
            ended: totals.ended(),
            taken: totals.taken,
            ..self.crew()
        }
    }

    fn crew(&self) -> Counts {
        let census = self.census.now();
        Counts {
            threads: census.threads(),
            starting: census.starting(),
            announced: census.blocked(),
            ..Counts::default()
        }
    }

    fn has_queued(&self) -> bool {
        !self.injector.is_empty() || {
            let seats = self.roster.seats();
            seats.list.iter().any(|seat| !seat.thief.is_empty())
        }
    }

    fn reserve(&self, count: usize) -> usize {
        if self.seal.phase() >= Phase::Cancel || self.is_left_behind() {
            return 0;
        }
        self.census.reserve(count, self.settings.max)
    }

    fn release(&self, count: usize) {
        if count == 0 {
            return;
        }
        if self.census.release(count).threads() == 0 {
            self.give_up();
        }
        self.rescue();
        self.tell_waiters();
    }

    fn start(self: &Arc<Self>, share: usize) -> io::Result<()> {
        if !self.seal.may_start() {
            return Err(io::Error::other("the pool has ended"));
        }
        let pass = self.roster.assign();
        let name = format!("{}-{}", self.settings.thread_name, pass.index);
        let shared = self.clone();
        let body = Box::new(move || worker::main(&shared, pass, share));
        let settings = &self.settings;
        match settings.starter.start(name, settings.stack_size, body) {
            Ok(handle) => {
                self.roster.keep(pass, handle);
                Ok(())
            }
            Err(error) => {
                self.roster.unassign(pass);
                Err(error)
            }
        }
    }
}
