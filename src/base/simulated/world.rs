//! The one who decides who goes next, and what time it is.
//!
//! # Rules
//!
//! 1. One actor at a time has the turn; it gives it up where it waits, where it gives way, and
//!    at its end.
//! 2. The next is chosen among those who can run: those who were asked to give way, whose token
//!    or notice is there, or whose deadline has passed; whoever has stood still for longest is
//!    number zero.
//! 3. Time stands still while somebody can run. Else it jumps to the next deadline.
//! 4. If there is none, either all have ended, or it is a hang. After a fault nobody gets the
//!    turn again: unwinding threads in the middle of anything would make a second fault of it.

#![forbid(unsafe_code)]

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::base::contain::contained_drop;
use crate::base::park::Unparker;
use crate::base::simulated::{Choices, Kind, Report};

/// The thread that ticks as long as a pool has a backlog that nobody can work on.
const WATCHDOG: &str = "portage-watchdog";

/// Ticks of it in a row, with nobody else able to run, that make a hang.
const TICKS_MAX: u32 = 1_000;

/// Choices of a program that is not endless.
const TURNS_MAX: u64 = 200_000;

type Site = Arc<dyn Any + Send + Sync>;
type Last = Box<dyn FnOnce() + Send>;

pub(crate) struct World {
    state: Mutex<State>,
    /// For whoever waits for the verdict.
    done: Condvar,
    origin: Instant,
    /// Nanoseconds since `origin`.
    clock: AtomicU64,
    sites: Mutex<BTreeMap<TypeId, Site>>,
    last: Mutex<Vec<Last>>,
    cells: Mutex<BTreeMap<u64, Cell>>,
}

struct State {
    choices: Choices,
    trail: Vec<u8>,
    actors: Vec<Actor>,
    /// Who has the turn.
    turn: usize,
    turns: u64,
    ticks: u32,
    verdict: Option<Result<(), Report>>,
}

struct Actor {
    name: String,
    standing: Standing,
    thread: Option<ThreadId>,
    /// The turn in which it ran last.
    ran: u64,
    gate: Arc<Condvar>,
}

enum Standing {
    Able,
    Waits {
        until: Until,
        deadline: Option<Instant>,
        why: Option<String>,
    },
    Gone,
}

/// What an actor waits for.
pub(crate) enum Until {
    Token(Arc<Unparker>),
    /// More notices than it has seen.
    Notice(Arc<AtomicU64>, u64),
    /// The end of another one.
    Ended(usize),
}

struct Cell {
    at: &'static Location<'static>,
    ended: bool,
}

impl State {
    fn is_able(&self, actor: &Actor, now: Instant) -> bool {
        match &actor.standing {
            Standing::Able => true,
            Standing::Gone => false,
            Standing::Waits {
                until, deadline, ..
            } => deadline.is_some_and(|deadline| deadline <= now) || self.is_met(until),
        }
    }

    fn is_met(&self, until: &Until) -> bool {
        match until {
            Until::Token(unparker) => unparker.has_token(),
            // Ordering: Relaxed: one actor runs at a time, and the world's lock passes the turn.
            Until::Notice(notices, seen) => notices.load(Ordering::Relaxed) != *seen,
            Until::Ended(actor) => matches!(self.actors[*actor].standing, Standing::Gone),
        }
    }

    /// Those who can run, whoever has stood still for longest first.
    fn able(&self, now: Instant) -> Vec<usize> {
        let mut able: Vec<usize> = (0..self.actors.len())
            .filter(|at| self.is_able(&self.actors[*at], now))
            .collect();
        able.sort_by_key(|at| self.actors[*at].ran);
        able
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.actors.iter().filter_map(|actor| match actor.standing {
            Standing::Waits { deadline, .. } => deadline,
            _ => None,
        });
        deadlines.min()
    }

    fn choose(&mut self, bound: usize) -> usize {
        if bound < 2 {
            return 0;
        }
        let choice = self.choices.below(bound);
        self.trail.push(choice);
        usize::from(choice)
    }
}

impl World {
    /// With one actor, whose turn it is.
    pub(crate) fn new(choices: Choices) -> Arc<Self> {
        let world = Arc::new(Self {
            state: Mutex::new(State {
                choices,
                trail: Vec::new(),
                actors: Vec::new(),
                turn: 0,
                turns: 0,
                ticks: 0,
                verdict: None,
            }),
            done: Condvar::new(),
            origin: Instant::now(),
            clock: AtomicU64::new(0),
            sites: Mutex::new(BTreeMap::new()),
            last: Mutex::new(Vec::new()),
            cells: Mutex::new(BTreeMap::new()),
        });
        world.enroll("the program".to_owned());
        world
    }

    /// Waits until all actors have ended, or never will.
    pub(crate) fn verdict(&self) -> Result<(), Report> {
        let mut state = self.state.lock();
        loop {
            if let Some(verdict) = state.verdict.clone() {
                return verdict;
            }
            self.done.wait(&mut state);
        }
    }

    /// The choices that were made.
    pub(crate) fn trail(&self) -> Vec<u8> {
        self.state.lock().trail.clone()
    }

    pub(crate) fn now(&self) -> Instant {
        self.origin + self.elapsed()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        // Ordering: Relaxed: whoever gets the turn has passed through the lock.
        Duration::from_nanos(self.clock.load(Ordering::Relaxed))
    }

    pub(crate) fn choose(&self, bound: usize) -> usize {
        self.state.lock().choose(bound)
    }

    // --- actors -------------------------------------------------------------------------------

    pub(super) fn enroll(&self, name: String) -> usize {
        let mut state = self.state.lock();
        let ran = state.turns;
        state.actors.push(Actor {
            name,
            standing: Standing::Able,
            thread: None,
            ran,
            gate: Arc::new(Condvar::new()),
        });
        state.actors.len() - 1
    }

    /// The thread of an actor could not be started.
    pub(super) fn strike(&self, actor: usize) {
        self.state.lock().actors[actor].standing = Standing::Gone;
    }

    pub(super) fn knows(&self, actor: usize, thread: ThreadId) {
        self.state.lock().actors[actor].thread = Some(thread);
    }

    pub(super) fn actor_of(&self, thread: ThreadId) -> Option<usize> {
        let state = self.state.lock();
        state
            .actors
            .iter()
            .position(|actor| actor.thread == Some(thread))
    }

    pub(super) fn await_turn(&self, me: usize) {
        self.stand(self.state.lock(), me);
    }

    pub(super) fn give_way(&self, me: usize) {
        let mut state = self.state.lock();
        self.pass_on(&mut state);
        self.stand(state, me);
    }

    pub(super) fn wait(
        &self,
        me: usize,
        until: Until,
        deadline: Option<Instant>,
        why: Option<String>,
    ) {
        let mut state = self.state.lock();
        state.actors[me].standing = Standing::Waits {
            until,
            deadline,
            why,
        };
        self.pass_on(&mut state);
        self.stand(state, me);
    }

    pub(super) fn leave(&self, me: usize) {
        let mut state = self.state.lock();
        state.actors[me].standing = Standing::Gone;
        self.pass_on(&mut state);
    }

    /// Stands still until it is the turn of `me`.
    fn stand(&self, mut state: MutexGuard<'_, State>, me: usize) {
        let gate = state.actors[me].gate.clone();
        while state.turn != me || state.verdict.is_some() {
            gate.wait(&mut state);
        }
        state.actors[me].standing = Standing::Able;
    }

    /// Chooses whose turn is next.
    fn pass_on(&self, state: &mut State) {
        if state.verdict.is_some() {
            return;
        }
        state.turns += 1;
        let next = loop {
            let able = state.able(self.now());
            if able.is_empty() {
                match state.next_deadline() {
                    Some(deadline) => self.set_clock(deadline),
                    None => return self.end(state),
                }
                continue;
            }
            break able[state.choose(able.len())];
        };
        let alone = state.actors[next].name == WATCHDOG && next == state.turn;
        state.ticks = if alone { state.ticks + 1 } else { 0 };
        if state.ticks > TICKS_MAX {
            return self.fault(state, Kind::Hang);
        }
        if state.turns > TURNS_MAX {
            return self.fault(state, Kind::Endless);
        }
        let turns = state.turns;
        state.actors[next].ran = turns;
        state.turn = next;
        state.actors[next].gate.notify_one();
    }

    fn set_clock(&self, to: Instant) {
        let nanos = to.saturating_duration_since(self.origin).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        // Ordering: Relaxed: as in `is_met`.
        self.clock.store(nanos, Ordering::Relaxed);
    }

    /// Nobody can run, ever.
    fn end(&self, state: &mut State) {
        let gone = |actor: &Actor| matches!(actor.standing, Standing::Gone);
        if !state.actors.iter().all(gone) {
            return self.fault(state, Kind::Hang);
        }
        if !self.cells.lock().is_empty() {
            return self.fault(state, Kind::Leak);
        }
        state.verdict = Some(Ok(()));
        self.done.notify_all();
    }

    fn fault(&self, state: &mut State, kind: Kind) {
        let actors = state.actors.iter().filter_map(|actor| {
            let does = match &actor.standing {
                Standing::Gone => return None,
                Standing::Able => "could go on".to_owned(),
                Standing::Waits { why, .. } => {
                    let why = why.as_deref().unwrap_or("a wake, or work");
                    format!("waits for {why}")
                }
            };
            Some(format!("`{}` {does}", actor.name))
        });
        let actors = actors.collect();
        let cells = self.cells.lock();
        let cells = cells.iter().filter_map(|(id, cell)| {
            let what = match (cell.ended, kind) {
                (false, _) => "has no outcome",
                (true, Kind::Leak) => "is not freed",
                (true, _) => return None,
            };
            Some(format!("{id}, made at {}, {what}", cell.at))
        });
        let cells = cells.collect();
        state.verdict = Some(Err(Report {
            kind,
            actors,
            cells,
        }));
        self.done.notify_all();
    }

    // --- what stands in the place of statics, and the account of cells ------------------------

    pub(super) fn shared<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let key = TypeId::of::<T>();
        let known = self.sites.lock().get(&key).cloned();
        let site = known.unwrap_or_else(|| {
            let made: Site = Arc::new(make());
            self.sites.lock().entry(key).or_insert(made).clone()
        });
        site.downcast().expect("the key is the type")
    }

    pub(super) fn at_end(&self, f: impl FnOnce() + Send + 'static) {
        self.last.lock().push(Box::new(f));
    }

    /// The program has ended: lets go of what the simulation itself keeps.
    pub(crate) fn let_go(&self) {
        let last = std::mem::take(&mut *self.last.lock());
        last.into_iter().for_each(|f| f());
        let sites = std::mem::take(&mut *self.sites.lock());
        contained_drop(sites);
    }

    pub(super) fn born(&self, id: u64, at: &'static Location<'static>) {
        self.cells.lock().insert(id, Cell { at, ended: false });
    }

    pub(super) fn ended(&self, id: u64) {
        if let Some(cell) = self.cells.lock().get_mut(&id) {
            cell.ended = true;
        }
    }

    pub(super) fn freed(&self, id: u64) {
        self.cells.lock().remove(&id);
    }
}
