//! The pool as an executor of futures with an end.

#![forbid(unsafe_code)]

use super::AsyncExecutor;
use super::place::Place;
use crate::pool::{Shutdown, ThreadPool};

impl AsyncExecutor for ThreadPool {
    fn is_own_thread(&self) -> bool {
        self.is_worker()
    }

    /// Cancels what is queued or suspended; running jobs end by themselves.
    ///
    /// Without `wait` it returns at once.
    fn shutdown(&self, wait: bool) {
        if wait {
            let _ = ThreadPool::shutdown(self, Shutdown::CancelQueued);
        } else {
            let _ = self.shutdown_timeout(Shutdown::CancelQueued, std::time::Duration::ZERO);
        }
    }

    fn place(&self) -> Place {
        Place::on_pool(self.clone())
    }
}
