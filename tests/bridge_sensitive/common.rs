//! What these tests share.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context as PollContext, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use portage::event_loop::running_loop;
use portage::{EventLoop, promise};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Never done, but never lost either: somebody keeps the waker.
pub(crate) async fn forever() {
    let (kept, never) = promise::<()>();
    std::mem::forget(kept);
    let _ = never.await;
}

pub(crate) fn run<F: Future>(future: F) -> F::Output {
    EventLoop::new().run_until_complete(future).unwrap()
}

pub(crate) fn spawn<F: Future + 'static>(
    create: impl FnOnce() -> F + Send + 'static,
) -> portage::JoinHandle<F::Output>
where
    F::Output: Send + 'static,
{
    running_loop().unwrap().spawn_with(create)
}

pub(crate) fn here() -> ThreadId {
    thread::current().id()
}

/// Says when it is dropped.
pub(crate) struct Tell(pub(crate) Sender<()>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

pub(crate) fn tell() -> (Tell, Receiver<()>) {
    let (tell, told) = channel();
    (Tell(tell), told)
}

pub(crate) fn told(told: &Receiver<()>) {
    told.recv_timeout(LIMIT).expect("it was not dropped");
}

/// Polls `future` once and gives it back, not finished.
pub(crate) fn begun<F: Future + Unpin>(mut future: F) -> F {
    let mut cx = PollContext::from_waker(Waker::noop());
    assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
    future
}
