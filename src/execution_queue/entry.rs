//! A job of the line, how it goes to its executor, and how those are told who wait.

#![forbid(unsafe_code)]

use std::panic::Location;
use std::task::Waker;

use crate::base::contain::{contain, discard, message};
use crate::base::sync::Arc;
use crate::error::SubmitError;
use crate::executor::{Executor, Job};
use crate::pool::ThreadPool;
use crate::task::{self, Hold, report_failure};

/// A job with all that it takes to hand it over.
pub(super) struct Entry {
    pub(super) ticket: u64,
    pub(super) job: Job,
    pub(super) hold: Hold,
    pub(super) executor: Option<Arc<dyn Executor>>,
}

impl Entry {
    /// Gives the job to its executor.
    pub(super) fn offer(self, is_own: bool) -> Result<(), SubmitError> {
        let Self {
            job,
            hold,
            executor,
            ..
        } = self;
        // Cancelled at this moment: it ends by itself.
        if !job.unassign() {
            return Ok(());
        }
        let executor: &dyn Executor = match &executor {
            Some(executor) => executor,
            None => ThreadPool::global(),
        };
        let taken = contain(|| match is_own {
            true => executor.execute(job),
            false => executor.take_over(job),
        });
        taken.unwrap_or_else(|payload| {
            let text = format!(
                "panic in an executor: {}",
                message(&*payload).unwrap_or("no text")
            );
            report_failure(hold.id(), hold.name(), hold.spawned_at(), &text);
            discard(payload);
            Ok(())
        })
    }

    /// The job as its adder gets it back: nobody's.
    pub(super) fn into_job(self) -> Job {
        let _ = self.job.unassign();
        self.job
    }
}

/// Calls them; their panics are reported.
pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        if let Err(payload) = contain(|| waker.wake()) {
            let text = format!(
                "panic in a waker: {}",
                message(&*payload).unwrap_or("no text")
            );
            report_failure(task::TaskId::fresh(), None, Location::caller(), &text);
            discard(payload);
        }
    }
}
