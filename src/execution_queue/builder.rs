//! How a queue is asked for.

#![forbid(unsafe_code)]

use std::fmt;

use super::AsyncExecutionQueue;
use super::line::Shared;
use crate::base::sync::Arc;
use crate::error::BuildError;
use crate::executor::Executor;

/// Asks for an [`AsyncExecutionQueue`]; see [`AsyncExecutionQueue::builder`].
#[must_use]
pub struct ExecutionQueueBuilder {
    executor: Option<Arc<dyn Executor>>,
    capacity: usize,
    concurrency: usize,
}

impl ExecutionQueueBuilder {
    pub(super) fn new() -> Self {
        Self {
            executor: None,
            capacity: usize::MAX,
            concurrency: 1,
        }
    }

    /// Who runs the jobs.
    ///
    /// Default: the one of [`init_config`](crate::bridge::init_config) at the time of the call, else
    /// [`ThreadPool::global`](crate::ThreadPool::global).
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executor = Some(executor);
        self
    }

    /// How many places there are. Default: no limit.
    #[doc(alias = "queue")]
    #[doc(alias = "maxsize")]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// How many jobs may run at once.
    ///
    /// Default: one, so that they run in order.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Makes the queue. No thread starts before the first job.
    ///
    /// # Errors
    ///
    /// [`is_invalid`](BuildError::is_invalid): a capacity or a concurrency of zero.
    pub fn build(self) -> Result<AsyncExecutionQueue, BuildError> {
        for (argument, value) in [
            ("capacity", self.capacity),
            ("concurrency", self.concurrency),
        ] {
            if value == 0 {
                let message = format!("{argument}: 0, but a queue needs one at least");
                return Err(BuildError::invalid(message));
            }
        }
        let shared = Shared::new(self.capacity, self.concurrency, self.executor);
        Ok(AsyncExecutionQueue { shared })
    }
}

impl fmt::Debug for ExecutionQueueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutionQueueBuilder")
            .field("executor", &self.executor.as_ref().map(|_| "<executor>"))
            .field("capacity", &self.capacity)
            .field("concurrency", &self.concurrency)
            .finish()
    }
}
