//! Jobs, and whoever runs them.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;

use crate::base::sync::Arc;
use crate::error::SubmitError;
use crate::join_error::JoinError;
use crate::promise::JoinHandle;
use crate::task::{self, Driving, Schedule, Settle, Spawned, TaskId, TaskRef};

/// A closure to run once, with its way back to a [`JoinHandle`].
///
/// One allocation holds the closure, its outcome and the handle's part. The job runs, and is
/// dropped, inside the [`Context`](crate::Context) that was current at [`Job::new`]. A job that
/// is dropped unrun resolves its handle `is_lost`.
///
/// # Examples
///
/// ```
/// use portage::Job;
///
/// let (job, handle) = Job::new(|| 6 * 7);
/// std::thread::spawn(move || job.run());
/// assert_eq!(handle.wait().unwrap(), 42);
/// ```
#[doc(alias = "_WorkItem")]
#[must_use = "a job that is dropped unrun resolves its handle `is_lost`"]
pub struct Job(TaskRef);

impl Job {
    /// Makes a job of `f`, and the handle of its outcome.
    #[track_caller]
    pub fn new<F, T>(f: F) -> (Job, JoinHandle<T>)
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Self::make(Spawned::here(), None, f)
    }

    /// The same with a name, for reports and diagnostics.
    ///
    /// # Examples
    ///
    /// ```
    /// let (job, handle) = portage::Job::named("answer", || 42);
    /// assert_eq!(handle.name(), Some("answer"));
    /// job.run();
    /// ```
    #[track_caller]
    pub fn named<F, T>(name: impl Into<Cow<'static, str>>, f: F) -> (Job, JoinHandle<T>)
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Self::make(Spawned::here(), Some(name.into()), f)
    }

    /// A job of the call at `line`, which is not the line that makes it.
    pub(crate) fn of_call<F, T>(line: &'static Location<'static>, f: F) -> (Job, JoinHandle<T>)
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Self::make(Spawned::at(line), None, f)
    }

    fn make<F, T>(spawned: Spawned, name: Option<Cow<'static, str>>, f: F) -> (Job, JoinHandle<T>)
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (task, reader) = task::late_job(spawned, name, move || Ok(f()));
        (Self(task), JoinHandle::of(reader))
    }

    /// A job that drives a future, which learns by `driving` that it is to stop.
    #[track_caller]
    pub(crate) fn driving<F, T>(driving: Driving, f: F) -> (Job, JoinHandle<T>)
    where
        F: FnOnce() -> Result<T, JoinError> + Send + 'static,
        T: Send + 'static,
    {
        let (task, reader) = task::driving_job(Spawned::here(), driving, f);
        (Self(task), JoinHandle::of(reader))
    }

    /// A job that stands for a future: made by `create` where the job runs, it stays on that
    /// thread, where it settles as `settle` says, or else with the executor.
    #[track_caller]
    pub(crate) fn remote<C, F>(settle: Option<Settle>, create: C) -> (Job, JoinHandle<F::Output>)
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let (task, reader) = task::remote(Spawned::here(), None, settle, create);
        (Self(task), JoinHandle::of(reader))
    }

    /// Runs the closure here and resolves the handle.
    ///
    /// Does nothing when the handle has cancelled the job. Never unwinds: a panic goes to the
    /// handle.
    ///
    /// # Blocking
    ///
    /// As long as the closure does.
    pub fn run(self) {
        self.0.run();
    }

    /// The number of the job; the same as its handle's.
    pub fn id(&self) -> TaskId {
        self.0.id()
    }

    /// The name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.0.name()
    }

    /// Does it stand for a future?
    pub(crate) fn is_future(&self) -> bool {
        !self.0.is_job()
    }

    /// Tells the job which executor keeps its account. False when its handle has cancelled it
    /// already: then it is to be dropped, uncounted.
    pub(crate) fn assign(&self, home: Arc<dyn Schedule>) -> bool {
        self.0.assign(Some(home))
    }

    /// Takes the executor's name off again, to give the job back. False when a canceller was
    /// first: the executor has been told of its end.
    pub(crate) fn unassign(&self) -> bool {
        self.0.assign(None)
    }

    pub(crate) fn into_task(self) -> TaskRef {
        self.0
    }

    pub(crate) fn from_task(task: TaskRef) -> Self {
        Self(task)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish()
    }
}

/// Runs jobs, now or later, here or elsewhere. Yours to implement.
///
/// An executor that cannot take a job gives it back inside the error; one that takes it either
/// calls [`Job::run`] or drops it, which resolves the handle `is_lost`.
///
/// # Examples
///
/// ```
/// use portage::{Executor, ExecutorExt, Job, error::SubmitError};
///
/// struct OnTheSpot;
///
/// impl Executor for OnTheSpot {
///     fn execute(&self, job: Job) -> Result<(), SubmitError> {
///         job.run();
///         Ok(())
///     }
/// }
///
/// let handle = OnTheSpot.submit(|| 6 * 7).unwrap();
/// assert_eq!(handle.wait().unwrap(), 42);
/// ```
pub trait Executor: Send + Sync {
    /// Takes `job` to run it.
    ///
    /// # Errors
    ///
    /// The refused job comes back inside the error.
    fn execute(&self, job: Job) -> Result<(), SubmitError>;

    /// Takes the next job of a queue that took it before: so also where nothing new is taken any
    /// more, as long as there is somebody to run it. Called on the thread on which the last job has
    /// ended; if that is one of this executor's own, it comes back to serve it.
    #[doc(hidden)]
    fn take_over(&self, job: Job) -> Result<(), SubmitError> {
        self.execute(job)
    }

    /// Stays open, although it drains, for the job of a queue that is about to be handed over, by
    /// the calling thread or by another one; unless all has ended already.
    #[doc(hidden)]
    fn keep_open(&self) -> KeptOpen {
        KeptOpen::by_nobody()
    }

    /// What becomes of a job that stands for a future.
    #[doc(hidden)]
    fn drives(&self) -> Drives {
        Drives::ToTheEnd
    }
}

/// Until it is dropped the executor does not end.
#[doc(hidden)]
#[must_use]
pub struct KeptOpen(Option<Arc<dyn KeepsOpen>>);

/// What can be kept open.
pub(crate) trait KeepsOpen: Send + Sync {
    fn let_go(&self);
}

impl KeptOpen {
    pub(crate) fn by(executor: Arc<dyn KeepsOpen>) -> Self {
        Self(Some(executor))
    }

    pub(crate) fn by_nobody() -> Self {
        Self(None)
    }

    /// Is there something that does not end meanwhile?
    pub(crate) fn is_kept(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for KeptOpen {
    fn drop(&mut self) {
        if let Some(executor) = self.0.take() {
            executor.let_go();
        }
    }
}

impl fmt::Debug for KeptOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptOpen")
    }
}

/// How an executor drives a future without holding its thread while the future is suspended.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drives {
    /// Not at all: a job must drive it to its end.
    ToTheEnd,
    /// On the loop of the thread that runs the job.
    OnThreadLoop,
    /// As a task of its own.
    AsTask,
}

/// Whatever points to an executor is one.
macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<E: Executor + ?Sized> Executor for $pointer {
            fn execute(&self, job: Job) -> Result<(), SubmitError> {
                (**self).execute(job)
            }

            fn take_over(&self, job: Job) -> Result<(), SubmitError> {
                (**self).take_over(job)
            }

            fn keep_open(&self) -> KeptOpen {
                (**self).keep_open()
            }

            fn drives(&self) -> Drives {
                (**self).drives()
            }
        }
    )*};
}

forward!(&E, Arc<E>, Box<E>);

/// What every [`Executor`] can do beyond taking jobs.
pub trait ExecutorExt: Executor {
    /// Hands `f` over and returns the handle of its outcome.
    ///
    /// # Errors
    ///
    /// What [`Executor::execute`] says; the job is inside the error.
    #[track_caller]
    fn submit<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (job, handle) = Job::new(f);
        self.execute(job).map(|()| handle)
    }

    /// The same with a name, for reports and diagnostics.
    ///
    /// # Errors
    ///
    /// What [`Executor::execute`] says; the job is inside the error.
    #[track_caller]
    fn submit_named<F, T>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: F,
    ) -> Result<JoinHandle<T>, SubmitError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (job, handle) = Job::named(name, f);
        self.execute(job).map(|()| handle)
    }
}

impl<E: Executor + ?Sized> ExecutorExt for E {}
