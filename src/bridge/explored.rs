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
/// cancel meets the innermost wait at any moment: does every layer return, and with what it may?
///
/// Bound: one worker, the thread for sensitive calls, one that cancels, one that resolves.
///
/// Must fail when: a cancel does not reach a nested call that begins to wait at that moment; an
/// answer wakes nobody.
#[test]
fn shuttle_bridge_cancel_meets_a_round() {
    explore(500, TimePasses::InIdleness, || {
        let pool = ThreadPool::builder().core_threads(1).max_threads(2);
        let pool = pool.build().unwrap();
        let (promise, handle) = promise::<u32>();
        let task = pool.spawn(async move {
            let inner = async_to_sync(move || async move { handle.await });
            sync_to_async(move || inner.call()).await
        });
        let cancel = task.cancel_handle();
        let canceller = thread::spawn(move || cancel.cancel());
        let resolver = thread::spawn(move || promise.resolve(7));
        match task.wait() {
            Ok(Ok(Ok(Ok(seven)))) => assert_eq!(seven, 7),
            Ok(Ok(Err(error))) => assert!(error.is_cancelled(), "{error}"),
            Ok(outcome) => panic!("{outcome:?}"),
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
        join(canceller).unwrap();
        let _ = join(resolver).unwrap();
        assert!(pool.shutdown(Shutdown::Drain).completed);
    });
}

/// Question: a call with a limit, back on the thread that waits and down again: whenever the time
/// is over, does it end, either with the value or with the limit?
///
/// Bound: three layers, one thread and the loop's, a clock that may run out at any step.
///
/// Must fail when: a limit wakes nobody; a lane does not run what comes for a thread that waits.
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
