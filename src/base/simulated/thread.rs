//! Threads: one that is started by an actor is an actor of the same simulation.

#![forbid(unsafe_code)]

use std::io;

pub(crate) use std::thread::{JoinHandle, Result};

use crate::base::simulated::world::Until;
use crate::base::simulated::{seat, sit};

/// `std`'s, as far as the crate uses it.
#[derive(Debug)]
pub(crate) struct Builder {
    real: std::thread::Builder,
    name: String,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            real: std::thread::Builder::new(),
            name: "a thread".to_owned(),
        }
    }

    pub(crate) fn name(self, name: String) -> Self {
        Self {
            real: self.real.name(name.clone()),
            name,
        }
    }

    pub(crate) fn stack_size(self, bytes: usize) -> Self {
        Self {
            real: self.real.stack_size(bytes),
            ..self
        }
    }

    pub(crate) fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let Some((world, _)) = seat() else {
            return self.real.spawn(f);
        };
        let actor = world.enroll(self.name);
        let theirs = world.clone();
        let started = self.real.spawn(move || {
            sit(theirs, actor);
            f()
        });
        match &started {
            Ok(thread) => world.knows(actor, thread.thread().id()),
            Err(_) => world.strike(actor),
        }
        started
    }
}

/// Waits for the end of a thread.
pub(crate) fn join<T>(thread: JoinHandle<T>) -> Result<T> {
    if let Some((world, me)) = seat() {
        if let Some(actor) = world.actor_of(thread.thread().id()) {
            let why = format!("the end of `{}`", thread.thread().name().unwrap_or("?"));
            world.wait(me, Until::Ended(actor), None, Some(why));
        }
    }
    thread.join()
}
