//! Blocks of code whose bridged calls share a thread.

#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::pin::pin;

use crate::base::sync::Arc;
use crate::bridge::affinity::{Affinity, Place, scope};

/// Gives `future` a thread of its own for its thread-sensitive calls.
///
/// All [`sync_to_async`](fn@crate::bridge::sync_to_async) calls in it, and in tasks that it
/// spawns, share that thread, which is started with the first of them. Inside another such
/// block it changes nothing: the outermost one counts.
///
/// The thread leaves when the future is done and the thread has finished what it has to do;
/// nobody waits for that. A task that escaped from the block and calls later gets a new thread.
///
/// # Examples
///
/// ```
/// use portage::block_on;
/// use portage::bridge::{Route, sync_to_async, thread_sensitive_context};
///
/// block_on(thread_sensitive_context(async {
///     let call = sync_to_async(|| std::thread::current().id());
///     assert_eq!(call.explain(), Route::ContextThread);
///     let other = sync_to_async(|| std::thread::current().id());
///     assert_eq!(call.await.ok(), other.await.ok());
/// }));
/// ```
#[doc(alias = "ThreadSensitiveContext")]
pub async fn thread_sensitive_context<F: Future>(future: F) -> F::Output {
    let outside = Affinity::current();
    if outside.block.as_ref().is_some_and(|block| !block.is_left()) {
        return future.await;
    }
    let block = Leaving(Arc::new(Place::new("portage-context")));
    let inside = Affinity {
        block: Some(block.0.clone()),
        ..outside
    };
    let inside = inside.into_any();
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _scope = scope(inside.clone());
        future.as_mut().poll(cx)
    })
    .await
}

/// Makes the calls in `f` that need a loop of their own share one thread.
///
/// That is for [`async_to_sync`](fn@crate::bridge::async_to_sync) calls, each of which else runs
/// its loop on any spare thread. A parent loop is still preferred. Inside another such block
/// it changes nothing; a call inside a call whose loop occupies the thread uses another one.
///
/// # Examples
///
/// ```
/// use portage::bridge::{async_single_thread_context, async_to_sync};
///
/// async_single_thread_context(|| {
///     let one = async_to_sync(|| async { std::thread::current().id() }).call();
///     let two = async_to_sync(|| async { std::thread::current().id() }).call();
///     assert_eq!(one.ok(), two.ok());
/// });
/// ```
#[doc(alias = "AsyncSingleThreadContext")]
pub fn async_single_thread_context<R>(f: impl FnOnce() -> R) -> R {
    let outside = Affinity::current();
    if outside.loops.as_ref().is_some_and(|loops| !loops.is_left()) {
        return f();
    }
    let loops = Leaving(Arc::new(Place::new("portage-bridge")));
    let inside = Affinity {
        loops: Some(loops.0.clone()),
        loops_taken: false,
        ..outside
    };
    let _scope = scope(inside.into_any());
    f()
}

/// Ends the block when dropped.
struct Leaving(Arc<Place>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}
