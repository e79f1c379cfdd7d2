//! The pool as an executor of jobs that were made elsewhere, and of futures of other crates.

#![forbid(unsafe_code)]

use futures_task::{FutureObj, Spawn, SpawnError};

use crate::base::sync::Arc;
use crate::error::SubmitError;
use crate::executor::{Drives, Executor, Job, KeepsOpen, KeptOpen};
use crate::pool::ThreadPool;
use crate::pool::caller::Caller;
use crate::pool::home::Pinned;
use crate::pool::seal::Phase;
use crate::pool::shared::{Refusal, Shared};

impl ThreadPool {
    /// Queues a job that was admitted, and gets somebody to run it.
    fn take(&self, job: Job) {
        let shared = self.shared();
        let (caller, door) = self.caller();
        caller.count_submitted(shared, 1);
        let home = if job.is_future() {
            Arc::new(Pinned::new(shared.clone()))
        } else {
            door
        };
        if job.assign(home) {
            caller.put(shared, job.into_task());
            shared.after_push();
        } else {
            // Its handle has cancelled it: it is nobody's.
            caller.uncount_submitted(shared);
        }
    }
}

impl Refusal {
    pub(super) fn with(self, job: Job) -> SubmitError {
        match self {
            Self::ShutDown => SubmitError::shut_down(job),
            Self::Broken => SubmitError::broken(job),
        }
    }
}

impl Executor for ThreadPool {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        match self.shared().admit() {
            Ok(()) => {
                self.take(job);
                Ok(())
            }
            Err(refusal) => Err(refusal.with(job)),
        }
    }

    fn take_over(&self, job: Job) -> Result<(), SubmitError> {
        let Err(refusal) = self.shared().admit() else {
            self.take(job);
            return Ok(());
        };
        let kept = self.keep_open();
        if !kept.is_kept() {
            return Err(refusal.with(job));
        }
        self.take(job);
        Ok(())
    }

    /// Counts one job more, as the next job will be, so that no reader sees the last one gone and
    /// the next one not there.
    fn keep_open(&self) -> KeptOpen {
        let shared = self.shared();
        if shared.is_left_behind() {
            return KeptOpen::by_nobody();
        }
        let caller = Caller::of(shared);
        caller.count_submitted(shared, 1);
        // What a worker runs has not ended, and the pool neither.
        if matches!(caller, Caller::Worker(_)) {
            return KeptOpen::by(shared.clone());
        }
        if shared.seal.is_kept() {
            return KeptOpen::by(shared.clone());
        }
        caller.uncount_submitted(shared);
        KeptOpen::by_nobody()
    }

    fn drives(&self) -> Drives {
        Drives::OnThreadLoop
    }
}

impl KeepsOpen for Shared {
    fn let_go(&self) {
        Caller::of(self).uncount_submitted(self);
    }
}

impl Spawn for ThreadPool {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        self.spawn(future).detach();
        Ok(())
    }

    fn status(&self) -> Result<(), SpawnError> {
        match self.shared().seal.phase() {
            Phase::Open => Ok(()),
            _ => self.shared().admit().map_err(|_| SpawnError::shutdown()),
        }
    }
}
