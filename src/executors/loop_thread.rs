//! A thread with a loop of its own, until it is told to leave.

#![forbid(unsafe_code)]

use std::io;
use std::thread::ThreadId;

use crate::base::fork;
use crate::base::sync::{Arc, Mutex, join, thread};
use crate::entered::block;
use crate::error::BuildError;
use crate::event_loop::{EventLoop, LoopHandle};
use crate::promise::promise;

/// The thread, its loop's handle, and the way to join it.
#[derive(Debug)]
pub(super) struct LoopThread {
    handle: LoopHandle,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    /// Of the process that started it: a forked child has nobody to join.
    generation: u64,
}

impl LoopThread {
    /// Starts a thread of this name and waits until its loop is there.
    pub(super) fn start(name: String) -> Result<Arc<Self>, BuildError> {
        fork::may_start_thread().map_err(BuildError::thread)?;
        let (ready, made) = promise();
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || {
                let event_loop = EventLoop::new();
                let _ = ready.resolve(event_loop.handle());
                let _ = event_loop.run_until_stopped();
                event_loop.close();
            })
            .map_err(BuildError::thread)?;
        let handle = made
            .wait()
            .map_err(|error| BuildError::thread(io::Error::other(error)))?;
        Ok(Arc::new(Self {
            handle,
            thread: Mutex::new(Some(thread)),
            generation: fork::generation(),
        }))
    }

    pub(super) fn handle(&self) -> &LoopHandle {
        &self.handle
    }

    pub(super) fn id(&self) -> ThreadId {
        self.handle.thread_id()
    }

    /// Lets the loop run once more what is queued, close, and its thread leave.
    pub(super) fn stop(&self) {
        self.handle.stop();
    }

    /// Waits until the thread has left; does nothing on that very thread.
    pub(super) fn join(&self) {
        if self.handle.is_current_thread() || fork::generation() != self.generation {
            return;
        }
        block(|| {
            // Held meanwhile, so that everybody who joins waits. The thread itself never asks.
            let mut thread = self.thread.lock();
            if let Some(thread) = thread.take() {
                // It contains all panics of user code.
                let _ = join(thread);
            }
        });
    }
}

impl Drop for LoopThread {
    fn drop(&mut self) {
        self.stop();
    }
}
