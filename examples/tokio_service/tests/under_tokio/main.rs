//! What holds under a foreign runtime, with the real one: both flavours of tokio.
//!
//! On its current-thread flavour nothing of ours may block the one thread there is; on the other
//! one everything may be polled anywhere. A hang becomes a message ([`kit::watchdog`]).

#[path = "../../../../tests/kit/mod.rs"]
mod kit;

mod bridges;
mod executors;
mod handles;
mod queues;
mod sync;

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

/// One thread, or four.
pub(crate) fn runtimes() -> [(&'static str, Runtime); 2] {
    let one = Builder::new_current_thread().enable_all().build();
    let four = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build();
    [
        ("current thread", one.expect("a runtime")),
        ("multi thread", four.expect("a runtime")),
    ]
}

/// Runs `test` as a task of each flavour.
pub(crate) fn on_each<F>(test: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let _watch = kit::watchdog(60);
    for (name, runtime) in runtimes() {
        let task = runtime.spawn(test());
        if let Err(error) = runtime.block_on(task) {
            panic!("on {name}: {error}");
        }
    }
}
