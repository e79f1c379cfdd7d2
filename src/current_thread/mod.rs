//! Runs jobs from other threads on the thread that made the executor.
//!
//! A [`CurrentThreadExecutor`] is a lane into one thread: others [`submit`] jobs, the owner
//! runs them while it waits in [`run_until_future`]. This is what lets code on other threads
//! call back into the thread that waits for it.
//!
//! Lanes nest. Each frame that waits makes its own lane and links it to the older one:
//!
//! * A lane that has finished passes late submissions on to the nearest older lane that has
//!   not; the walk holds no lock from one link to the next.
//! * A thread inside an inner lane serves its outer lanes too: all its lanes share one queue,
//!   run in order of arrival by whichever frame is on top. So does every other blocking wait
//!   of this crate on that thread.
//!
//! What decides is in two rooms: [`lane`] (queue, seal, migrate) and [`mailbox`] (the owner's
//! end, one per thread).
//!
//! [`submit`]: CurrentThreadExecutor::submit
//! [`run_until_future`]: CurrentThreadExecutor::run_until_future

#![forbid(unsafe_code)]

mod lane;
mod mailbox;

use std::panic::{Location, RefUnwindSafe, UnwindSafe, resume_unwind};
use std::thread::ThreadId;

use crate::base::contain::contain;
use crate::base::fork;
use crate::base::sync::Arc;
use crate::current_thread::lane::{Lane, NoBegin};
use crate::entered::thread_key;
use crate::error::{RunError, SubmitError};
use crate::executor::{Executor, Job};
use crate::frame::drive;
use crate::promise::JoinHandle;
use crate::task::{Home, Schedule, TaskRef, WakeKind};

/// An executor whose jobs run on the thread that created it.
///
/// Clones are the same executor. The owner runs the jobs inside [`run_until_future`], and
/// while it waits for anything else of this crate. Submit from other threads, and hand clones
/// to them; the executor ends with its last clone or with the owner thread, and then what is
/// queued resolves [`is_lost`](crate::JoinError::is_lost).
///
/// # Examples
///
/// ```
/// use portage::CurrentThreadExecutor;
///
/// let lane = CurrentThreadExecutor::new(None);
/// let here = std::thread::current().id();
/// let (done, finished) = portage::promise();
/// let remote = lane.clone();
/// let worker = std::thread::spawn(move || {
///     let job = remote.submit(|| std::thread::current().id()).expect("the lane is open");
///     done.resolve(job.wait().expect("the owner runs it")).expect("nobody cancelled");
/// });
/// let ran_on = lane.run_until_future(finished)?.expect("the worker resolves it");
/// assert_eq!(ran_on, here);
/// worker.join().expect("the worker ends");
/// # Ok::<(), portage::error::RunError>(())
/// ```
///
/// [`run_until_future`]: CurrentThreadExecutor::run_until_future
#[derive(Clone, Debug)]
pub struct CurrentThreadExecutor {
    shared: Arc<Shared>,
}

// As for a pool.
impl UnwindSafe for CurrentThreadExecutor {}
impl RefUnwindSafe for CurrentThreadExecutor {}

/// What the clones share; its drop ends the lane.
#[derive(Debug)]
struct Shared {
    lane: Arc<Lane<TaskRef>>,
    older: Option<CurrentThreadExecutor>,
    /// [`thread_key`] of the owner.
    owner: u64,
    thread: ThreadId,
}

impl CurrentThreadExecutor {
    /// Creates an executor for this thread, linked to an older one.
    ///
    /// The older one may belong to another thread. The link is a clone of it and keeps it
    /// from ending.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::CurrentThreadExecutor;
    ///
    /// let outer = CurrentThreadExecutor::new(None);
    /// let inner = CurrentThreadExecutor::new(Some(&outer));
    /// inner.run_until_future(async {})?;
    /// // Late work for the inner one goes to the outer one.
    /// let submitter = std::thread::spawn(move || inner.submit(|| 7));
    /// let late = submitter.join().expect("no panic").expect("the outer one is open");
    /// assert_eq!(outer.run_until_future(late)?.ok(), Some(7));
    /// # Ok::<(), portage::error::RunError>(())
    /// ```
    #[doc(alias = "old_executor")]
    #[must_use]
    pub fn new(old_executor: Option<&CurrentThreadExecutor>) -> Self {
        Self {
            shared: Arc::new(Shared {
                lane: Arc::new(mailbox::new_lane()),
                older: old_executor.cloned(),
                owner: thread_key(),
                thread: std::thread::current().id(),
            }),
        }
    }

    /// Runs what is queued here until `future` is done, then finishes for good.
    ///
    /// Looks at the future first and then between any two jobs in which it was woken. Jobs of
    /// all lanes of this thread run in order of arrival. When the future is done, nothing more
    /// is taken, and what was queued until then runs before this returns.
    ///
    /// # Errors
    ///
    /// [`is_wrong_thread`](RunError::is_wrong_thread) on any thread but the owner;
    /// [`is_already_running`](RunError::is_already_running) from inside its own run;
    /// [`is_finished`](RunError::is_finished) when it ran before. The future is dropped unpolled.
    ///
    /// # Panics
    ///
    /// With the panic of `future`. What is queued then resolves
    /// [`is_lost`](crate::JoinError::is_lost), and the executor is finished.
    ///
    /// # Blocking
    ///
    /// Blocks this thread, without polling on a timer.
    ///
    /// # Reentrancy
    ///
    /// A job may run another executor of this thread; the inner run serves this one too.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::CurrentThreadExecutor;
    ///
    /// let lane = CurrentThreadExecutor::new(None);
    /// assert_eq!(lane.run_until_future(async { 42 })?, 42);
    /// assert!(lane.run_until_future(async {}).unwrap_err().is_finished());
    /// # Ok::<(), portage::error::RunError>(())
    /// ```
    #[track_caller]
    pub fn run_until_future<F: Future>(&self, future: F) -> Result<F::Output, RunError> {
        if !self.is_own() {
            return Err(RunError::wrong_thread());
        }
        let lane = &*self.shared.lane;
        lane.begin().map_err(|why| match why {
            NoBegin::Running => RunError::already_running(),
            NoBegin::Finished => RunError::finished(),
        })?;
        let caller = Location::caller();
        let outcome = contain(|| drive(future, caller));
        if outcome.is_ok() {
            let bound = lane.seal();
            while let Some(task) = lane.inbox().take_until(bound) {
                task.run();
            }
        }
        drop(lane.close());
        outcome.map_err(|payload| resume_unwind(payload))
    }

    /// Queues a job for the owner thread.
    ///
    /// When this executor is finished, the job goes to the nearest older one that is not.
    ///
    /// # Errors
    ///
    /// [`is_own_thread`](SubmitError::is_own_thread) from the owner thread, also when the
    /// nearest unfinished executor is one that the caller owns: only the caller could run
    /// that job. [`is_finished`](SubmitError::is_finished) when none is left. The job comes
    /// back in the error.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::CurrentThreadExecutor;
    ///
    /// let lane = CurrentThreadExecutor::new(None);
    /// let refused = lane.submit(|| ()).unwrap_err();
    /// assert!(refused.is_own_thread() && refused.into_job().is_some());
    /// ```
    #[track_caller]
    pub fn submit<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (job, handle) = Job::new(f);
        self.execute(job)?;
        Ok(handle)
    }

    /// The thread whose lane this is.
    #[must_use]
    pub fn thread_id(&self) -> ThreadId {
        self.shared.thread
    }

    /// Takes this executor no more jobs? True from the moment its future is done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.shared.lane.is_finished() || fork::is_thread_gone(self.shared.owner)
    }

    /// How many jobs wait here; a cancelled one does not count.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::CurrentThreadExecutor;
    ///
    /// let lane = CurrentThreadExecutor::new(None);
    /// let remote = lane.clone();
    /// let submitter = std::thread::spawn(move || remote.submit(|| ()).map(|job| job.detach()));
    /// assert!(submitter.join().expect("no panic").is_ok());
    /// assert_eq!(lane.queued(), 1);
    /// ```
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.lane.queued(|task| !task.is_finished())
    }

    /// Is this the owner thread?
    pub(crate) fn is_own(&self) -> bool {
        self.shared.owner == thread_key()
    }

    /// This executor or the nearest older one that takes work.
    pub(crate) fn nearest_unfinished(&self) -> Option<&Self> {
        self.links().find(|link| !link.is_finished())
    }

    /// Queues a job like [`execute`](Executor::execute), also from the owner thread: for a
    /// caller that knows that the owner pumps. Gives it back when all links have finished.
    pub(crate) fn post(&self, job: Job) -> Result<(), Job> {
        self.walk(job, None).map_err(|refused| match refused {
            Refused::Own(job) | Refused::Finished(job) => job,
        })
    }

    /// This executor, its older one, and so on.
    fn links(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |link| link.shared.older.as_ref())
    }

    /// Queues a job at the nearest unfinished link, which may not be one of `except`.
    fn walk(&self, mut job: Job, except: Option<u64>) -> Result<(), Refused> {
        for link in self.links() {
            let shared = &*link.shared;
            if fork::is_thread_gone(shared.owner) {
                continue;
            }
            if except == Some(shared.owner) {
                if link.is_finished() {
                    continue;
                }
                return Err(Refused::Own(job));
            }
            // Only a future needs to know the lane, to come back when it is woken.
            if job.is_future() && !job.assign(shared.lane.clone()) {
                // Cancelled already.
                return Ok(());
            }
            match shared.lane.push(job.into_task()) {
                Ok(()) => return Ok(()),
                Err(task) => job = Job::from_task(task),
            }
            // Cancelled while the lane had it: it is done with.
            if job.is_future() && !job.unassign() {
                return Ok(());
            }
        }
        Err(Refused::Finished(job))
    }
}

impl Executor for CurrentThreadExecutor {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        let caller = thread_key();
        if self.shared.owner == caller {
            return Err(SubmitError::own_thread(Some(job)));
        }
        self.walk(job, Some(caller))
            .map_err(|refused| match refused {
                Refused::Own(job) => SubmitError::own_thread(Some(job)),
                Refused::Finished(job) => SubmitError::finished(Some(job)),
            })
    }

    fn take_over(&self, job: Job) -> Result<(), SubmitError> {
        self.post(job)
            .map_err(|job| SubmitError::finished(Some(job)))
    }
}

/// Why no lane of a walk took the job.
enum Refused {
    Own(Job),
    Finished(Job),
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.lane.close());
        // A long chain of links that nobody else holds ends here, without recursion.
        let mut older = self.older.take();
        while let Some(mut shared) = older.and_then(|link| Arc::into_inner(link.shared)) {
            older = shared.older.take();
        }
    }
}

impl Schedule for Lane<TaskRef> {
    fn schedule(&self, task: TaskRef, _kind: WakeKind) {
        if let Err(task) = self.push(task) {
            task.shut_down();
        }
    }

    /// Not the owner thread: a wait there for a job of a lane runs the job.
    fn home(&self) -> Home {
        Home::Anywhere
    }
}
