//! Calls through both worlds, in orders that seeds decide. Run: `just shuttle bridge`.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::ThreadPool;
use crate::base::shuttled::explore::{TimePasses, explore};
use crate::base::sync::{join, thread};
use crate::bridge::{async_to_sync, sync_to_async};
use crate::pool::Shutdown;
use crate::promise::promise;

/// Question: blocking code in async code in blocking code in async code, on a task of a pool, whose
/// cancel meets the innermost wait at any moment, which nothing else would end: does every layer
/// return?
///
/// Bound: one or two workers, the thread for sensitive calls, one that cancels.
///
/// Must fail when: a cancel does not reach a nested call that waits, or one that begins to at that
/// moment; the end of a thread for calls is told to nobody.
#[test]
fn shuttle_bridge_cancel_meets_a_round() {
    explore(800, TimePasses::InIdleness, || {
        let pool = ThreadPool::builder().core_threads(1).max_threads(2);
        let pool = pool.build().unwrap();
        let (kept, handle) = promise::<u32>();
        let (told, cancelled) = promise::<bool>();
        let task = pool.spawn(async move {
            let inner = async_to_sync(move || handle);
            let call = move || told.resolve(inner.call().is_err_and(|error| error.is_cancelled()));
            sync_to_async(call).await
        });
        let cancel = task.cancel_handle();
        let canceller = thread::spawn(move || cancel.cancel());
        match task.wait() {
            Ok(answer) => assert!(answer.is_ok_and(|told| told.is_ok())),
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
        // Lost, where the blocking code had not begun.
        assert!(cancelled.wait().unwrap_or(true));
        join(canceller).unwrap();
        assert!(pool.shutdown(Shutdown::Drain).completed);
        drop(kept);
    });
}

/// Question: a call with a limit, back on the thread that waits and down again: whenever the time
/// is over, does it end, either with the value or with the limit?
///
/// Bound: three layers, one thread and the loop's, a clock that may run out at any step.
///
/// Must fail when: a parked thread is not woken by its token; a thread for calls that nobody can
/// give any more does not leave.
#[test]
fn shuttle_bridge_limit_meets_a_round() {
    explore(500, TimePasses::AtAnyMoment, || {
        let call = async_to_sync(|| async {
            sync_to_async(|| async_to_sync(|| async { 7 }).call())
                .await
                .and_then(|answer| answer)
        });
        match call.timeout(Duration::from_millis(1)).call() {
            Ok(Ok(seven)) => assert_eq!(seven, 7),
            Ok(Err(error)) => assert!(error.is_cancelled(), "{error}"),
            Err(error) => assert!(error.is_timed_out(), "{error}"),
        }
    });
}
