//! A blocking call into async code that runs on the main loop.

#![forbid(unsafe_code)]

use crate::bridge::answer::{Answer, Outcome};
use crate::bridge::config::get_main_event_loop;
use crate::error::BridgeError;
use crate::event_loop::{LoopState, block_on};

/// Runs a future on the main loop, in this context, and blocks for its output.
///
/// The main loop is the one of [`init_config`](crate::bridge::init_config). `create` runs on
/// that loop, and its future need not be `Send`.
///
/// # Errors
///
/// [`is_would_deadlock`](BridgeError::is_would_deadlock) on the main loop's own thread, where
/// nothing is created. [`is_no_loop`](BridgeError::is_no_loop) when there is no main loop, when
/// it is not running, or when it stops before it has answered; the future is cancelled then.
/// [`is_panic`](BridgeError::is_panic) when the future panics.
///
/// # Blocking
///
/// Blocks this thread; runs the jobs of its lanes meanwhile.
///
/// # Examples
///
/// ```
/// use portage::EventLoop;
/// use portage::bridge::{Config, init_config, lift_to_async, sync_to_async};
///
/// let event_loop = EventLoop::new();
/// init_config(Config::new().main_loop(event_loop.handle()))?;
/// let answer = event_loop
///     .run_until_complete(async {
///         // Blocking code, away from the loop, calls back into it.
///         let blocking = sync_to_async(|| lift_to_async(|| async { 6 * 7 }));
///         blocking.thread_sensitive(false).await
///     })
///     .expect("no loop runs here yet");
/// assert_eq!(answer??, 42);
/// # Ok::<(), portage::error::BridgeError>(())
/// ```
#[track_caller]
pub fn lift_to_async<C, F>(create: C) -> Result<F::Output, BridgeError>
where
    C: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let main_loop = get_main_event_loop().ok_or_else(BridgeError::no_loop)?;
    if main_loop.state() != LoopState::Running {
        return Err(BridgeError::no_loop());
    }
    if main_loop.is_current_thread() {
        return Err(BridgeError::would_deadlock());
    }
    let answer = Answer::of(main_loop.stopped(), main_loop.spawn_with(create));
    match block_on(answer) {
        Outcome::Answered(Ok(value)) => Ok(value),
        Outcome::Answered(Err(error)) => Err(BridgeError::from(error)),
        Outcome::Stopped | Outcome::TimedOut => Err(BridgeError::no_loop()),
    }
}
