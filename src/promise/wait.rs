//! Waiting on a thread: what it may run meanwhile, and when it must not wait at all.

#![forbid(unsafe_code)]

use std::any::Any;
use std::time::{Duration, Instant};

use super::awaited::{self, Awaiting, Awaits, is_of_this_thread};
use super::handle::JoinHandle;
use super::help::{Help, in_place, is_out_of_reach};
use crate::base::clock::deadline_after;
use crate::base::sync::Arc;
use crate::entered::{self, Parking, Waited};
use crate::join_error::JoinError;
use crate::task::{Chain, Hold, Home, Reader, Schedule, Waits};

impl<T> JoinHandle<T> {
    /// Blocks this thread until the outcome is there, and takes it.
    ///
    /// # Errors
    ///
    /// Why there is no value. `is_would_deadlock` when only this very thread could bring the
    /// outcome about: a task of a loop of this thread, a task that waits for itself, or work of a
    /// pool of one thread whose stack is used up by such waits. Also on a worker of a pool that may
    /// have no more threads, each of which waits like this one, once the stacks of all are used up
    /// (waits through `block_on` or an await are not seen there: somebody outside might end them).
    ///
    /// # Blocking
    ///
    /// A plain thread sleeps. A worker of the pool that has the work, or the root of its chain,
    /// runs that in place if nobody has started it; else the pool makes up for the blocked
    /// worker. Where the pool may have no more threads, and all of them wait, the worker also
    /// runs what the awaited task awaits of the pool, and starts a pinned task. The owner of
    /// lanes runs their jobs meanwhile. On the thread of a loop it blocks that loop.
    ///
    /// # Examples
    ///
    /// ```
    /// let (promise, handle) = portage::promise();
    /// std::thread::spawn(move || promise.resolve("done"));
    /// assert_eq!(handle.wait().unwrap(), "done");
    /// ```
    #[doc(alias = "result")]
    pub fn wait(mut self) -> Result<T, JoinError> {
        self.wait_until(None, Help::OwnPool)?;
        self.reader.take_ended()
    }

    /// Blocks until the outcome is there, at most for `timeout`; zero looks once.
    ///
    /// `None` means that it is still pending; the handle is as good as before.
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (promise, mut handle) = portage::promise();
    /// assert!(handle.wait_timeout(Duration::from_millis(1)).is_none());
    /// promise.resolve(7).unwrap();
    /// assert_eq!(handle.wait_timeout(Duration::ZERO).unwrap().unwrap(), 7);
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<T, JoinError>> {
        if timeout.is_zero() {
            return self.reader.take();
        }
        let deadline = deadline_after(timeout);
        // Work that is run in place knows no deadline; without one there is nothing to miss.
        let help = match deadline {
            Some(_) => Help::Nobody,
            None => Help::OwnPool,
        };
        match self.wait_until(deadline, help) {
            Ok(()) => self.reader.take(),
            Err(error) => Some(Err(error)),
        }
    }

    /// Like [`JoinHandle::wait`], but runs a pool's job right here if it has not started.
    ///
    /// For closures that may run on any thread: the two thread switches of a round trip are
    /// saved.
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::ThreadPool;
    ///
    /// let handle = ThreadPool::global().spawn_blocking(|| 6 * 7);
    /// assert_eq!(handle.wait_helping().unwrap(), 42);
    /// ```
    pub fn wait_helping(mut self) -> Result<T, JoinError> {
        self.wait_until(None, Help::AnyPool)?;
        self.reader.take_ended()
    }

    /// Waits for the end or the deadline; an error when neither can come.
    fn wait_until(&mut self, deadline: Option<Instant>, help: Help) -> Result<(), JoinError> {
        if self.reader.is_finished() {
            return Ok(());
        }
        if self.is_left_behind() {
            return Err(JoinError::lost());
        }
        let awaiting = (help != Help::Nobody).then(|| Awaiting::begin(Awaits::Wait));
        let chain = self.bring_about(help);
        let parking = Parking::current();
        if self.is_left_to_this_thread(&chain, help) && !self.reader.is_finished() {
            return Err(JoinError::would_deadlock());
        }
        let Some(_told) = Told::begin(chain.root.as_ref()) else {
            return Err(JoinError::would_deadlock());
        };
        // Registered before help is offered: whoever calls a helper finds this thread's waker.
        self.reader.watch(parking.waker());
        let helper = Helper::begin(&self.reader, help);
        #[cfg(all(not(loom), any(test, feature = "test-util")))]
        let _reason = crate::base::simulated::waits_for(|| reason(&self.reader));
        if awaiting.is_some() {
            awaited::waited_for(&self.reader);
        }
        let mut is_bound_here = false;
        let waited = parking.wait_for(
            chain.root.as_ref().map(|root| root as &dyn Any),
            || {
                self.reader.watch(parking.waker()) || helper.help(&self.reader) || {
                    // A pinned task, by the last resort.
                    is_bound_here = is_of_this_thread(&self.reader, self.reader.origin());
                    is_bound_here
                }
            },
            deadline,
        );
        let is_hopeless = is_bound_here || waited == Waited::Hopeless;
        if is_hopeless && !self.reader.is_finished() {
            return Err(JoinError::would_deadlock());
        }
        Ok(())
    }

    /// Could nobody but this thread bring the outcome about, which does not while it waits?
    fn is_left_to_this_thread(&self, chain: &Chain, help: Help) -> bool {
        let is_left = |root: &Hold| match help {
            Help::Nobody => is_left_to_this_worker(root),
            Help::OwnPool | Help::AnyPool => is_out_of_reach(root),
        };
        is_of_this_thread(&self.reader, chain.origin) || chain.root.as_ref().is_some_and(is_left)
    }

    /// Runs the root of the chain as far as this thread may, and the next root where the end of
    /// the first shows that there is another one.
    fn bring_about(&self, help: Help) -> Chain {
        let mut chain = self.reader.chain();
        loop {
            if let Some(root) = &chain.root {
                let _ = help.bring_about(root);
            }
            let next = self.reader.chain();
            if next.origin.id == chain.origin.id || self.reader.is_finished() {
                return next;
            }
            chain = next;
        }
    }
}

/// What a simulation says of this wait.
#[cfg(all(not(loom), any(test, feature = "test-util")))]
fn reason<T>(reader: &Reader<T>) -> String {
    let name = reader.name().map(|name| format!(" `{name}`"));
    let (id, name, at) = (reader.id(), name.unwrap_or_default(), reader.spawned_at());
    format!("the outcome of {id}{name}, made at {at}")
}

/// A worker that waits for a suspended task of its own pool: it polls the task whenever that is
/// scheduled, as the pool may have no other thread left that could.
struct Helper(Option<Hold>);

impl Helper {
    fn begin<T>(reader: &Reader<T>, help: Help) -> Self {
        if help == Help::Nobody || reader.is_finished() {
            return Self(None);
        }
        let own = entered::worker().map(|worker| worker.pool());
        let task = reader.hold();
        if own.is_none() || task.is_job() || task.pool() != own {
            return Self(None);
        }
        task.offer_help();
        Self(Some(task))
    }

    /// One poll, if one is due; true if it was the last.
    fn help<T>(&self, reader: &Reader<T>) -> bool {
        let Some(task) = &self.0 else { return false };
        let has_room = entered::worker().is_some_and(|worker| worker.has_room());
        has_room && in_place(|| task.help()) && reader.is_finished()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.withdraw_help();
        }
    }
}

/// Whoever has the task in a line was told that this thread waits for it.
struct Told(Option<Arc<dyn Schedule>>);

impl Told {
    /// `None`: the line would not move before this thread goes on.
    fn begin(task: Option<&Hold>) -> Option<Self> {
        let line = task.and_then(Hold::late_home);
        match &line {
            Some(line) if !line.wait_begins(Waits::Thread) => None,
            _ => Some(Self(line)),
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            line.wait_ends();
        }
    }
}

/// Is it a pinned task that has not started, in a pool whose only worker is about to wait for it?
fn is_left_to_this_worker(root: &Hold) -> bool {
    let Some(worker) = entered::worker() else {
        return false;
    };
    let is_pinned = root.origin().home == Home::Pool(worker.pool()) && root.pool().is_none();
    is_pinned && worker.is_only_one() && !root.is_claimed()
}
