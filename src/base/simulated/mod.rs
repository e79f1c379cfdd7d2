//! A thread's place in a [simulation](crate::simulation): what the door asks before it goes to
//! the system. Compiled for tests only.
//!
//! Every thread that the crate starts from inside a simulation is an *actor* of it. One actor
//! at a time has the turn; the others stand still in one of the calls below. Nothing else
//! of the crate knows: what runs between two calls is the code of every other build.
//!
//! | the door                | asks                 |
//! |-------------------------|----------------------|
//! | `Parker`, `Unparker`    | [`park`], [`switch`] |
//! | `Condvar`               | [`condvar`]          |
//! | `thread::Builder`, join | [`thread`]           |
//! | `clock::now`            | [`now`]              |
//!
//! The seat is the first thread-local of an actor's thread and so the last to be destroyed: the
//! destructors of all others run while the actor still has the turn.

#![forbid(unsafe_code)]

mod choices;
pub(crate) mod condvar;
mod report;
pub(crate) mod thread;
mod world;

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use crate::base::park::Parker;
use crate::base::simulated::world::Until;

pub use choices::Choices;
pub(crate) use report::{Kind, Report};
pub(crate) use world::World;

thread_local! {
    static SITS: Cell<bool> = const { Cell::new(false) };
    static SEAT: RefCell<Option<Seat>> = const { RefCell::new(None) };
    static REASONS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Gives the turn up for good when the thread has ended.
struct Seat {
    world: Arc<World>,
    actor: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = SITS.try_with(|sits| sits.set(false));
        self.world.leave(self.actor);
    }
}

/// The calling thread is `actor` from now on; returns when it has the turn.
pub(crate) fn sit(world: Arc<World>, actor: usize) {
    SEAT.with(|seat| {
        *seat.borrow_mut() = Some(Seat {
            world: world.clone(),
            actor,
        });
    });
    SITS.with(|sits| sits.set(true));
    world.await_turn(actor);
}

/// Is this thread an actor?
pub(crate) fn is_on() -> bool {
    SITS.try_with(Cell::get).unwrap_or(false)
}

/// The simulation of this thread, and which of its actors this is.
pub(crate) fn seat() -> Option<(Arc<World>, usize)> {
    if !is_on() {
        return None;
    }
    let seat = SEAT.try_with(|seat| {
        let seat = seat.try_borrow().ok()?;
        seat.as_ref().map(|seat| (seat.world.clone(), seat.actor))
    });
    seat.ok().flatten()
}

/// The time of the simulation.
pub(crate) fn now() -> Option<Instant> {
    seat().map(|(world, _)| world.now())
}

/// Stands still until the token of `parker` is there, or the deadline; whether it was the token.
/// `None` outside a simulation.
pub(crate) fn park(parker: &Parker, deadline: Option<Instant>) -> Option<bool> {
    let (world, actor) = seat()?;
    let until = Until::Token(parker.unparker().clone());
    world.wait(actor, until, deadline, reason());
    Some(parker.take_token())
}

/// Whoever else can run may go first.
pub(crate) fn switch() {
    if let Some((world, actor)) = seat() {
        world.give_way(actor);
    }
}

/// A number below `bound` from the choices of the simulation; zero outside of one.
pub(crate) fn choose(bound: usize) -> usize {
    seat().map_or(0, |(world, _)| world.choose(bound))
}

/// The `T` that the actors of this simulation share in place of a static.
pub(crate) fn shared<T: Send + Sync + 'static>(make: impl FnOnce() -> T) -> Option<Arc<T>> {
    seat().map(|(world, _)| world.shared(make))
}

/// Runs `f` on the first actor when its program has ended.
pub(crate) fn at_end(f: impl FnOnce() + Send + 'static) {
    if let Some((world, _)) = seat() {
        world.at_end(f);
    }
}

/// A cell has been made.
pub(crate) fn born(id: u64, at: &'static Location<'static>) {
    if let Some((world, _)) = seat() {
        world.born(id, at);
    }
}

/// A cell has its outcome.
pub(crate) fn ended(id: u64) {
    if let Some((world, _)) = seat() {
        world.ended(id);
    }
}

/// A cell has been freed.
pub(crate) fn freed(id: u64) {
    if let Some((world, _)) = seat() {
        world.freed(id);
    }
}

/// What this thread waits for, as a report would say it, until the guard is dropped.
pub(crate) fn waits_for(what: impl FnOnce() -> String) -> Reason {
    let is_on = is_on();
    if is_on {
        let what = what();
        REASONS.with(|reasons| reasons.borrow_mut().push(what));
    }
    Reason(is_on)
}

/// See [`waits_for`].
#[must_use]
#[derive(Debug)]
pub(crate) struct Reason(bool);

impl Drop for Reason {
    fn drop(&mut self) {
        if self.0 {
            let _ = REASONS.try_with(|reasons| reasons.borrow_mut().pop());
        }
    }
}

fn reason() -> Option<String> {
    let last = REASONS.try_with(|reasons| reasons.borrow().last().cloned());
    last.ok().flatten()
}
