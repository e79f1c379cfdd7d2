//! The parts by themselves, with their allocations. Times move with the machine: for a comparison
//! take `compare`, for a regression the guard.
//!
//! ```text
//! cargo bench -p portage-benches --bench micro [FILTER]
//! ```

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};

use divan::{AllocProfiler, Bencher};
use portage::time::sleep;
use portage::{ContextVar, EventLoop, Job, ThreadPool, copy_context, promise};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// The ground floor on which the files of the queues are compiled here.
mod base {
    pub(crate) mod sync {
        pub(crate) use parking_lot::Mutex;
        pub(crate) use std::sync::atomic;
    }
}

mod queue;

mod jobs {
    use super::*;

    #[divan::bench]
    fn job_made_and_run() {
        let (job, handle) = Job::new(|| black_box(1));
        job.run();
        black_box(handle.wait().ok());
    }

    /// The one who waits takes it out of the queue.
    #[divan::bench]
    fn pool_spawn_and_help(bencher: Bencher<'_, '_>) {
        let pool = ThreadPool::builder().core_threads(1).max_threads(1).build();
        let pool = pool.expect("legal sizes");
        bencher.bench_local(|| black_box(pool.spawn_blocking(|| 1).wait_helping().ok()));
    }

    #[divan::bench]
    fn loop_spawn_and_run(bencher: Bencher<'_, '_>) {
        let events = EventLoop::new();
        bencher.bench_local(|| {
            let task = events.spawn_local(async { black_box(1) });
            black_box(events.run_until_complete(task).ok())
        });
    }
}

mod promises {
    use super::*;

    #[divan::bench]
    fn made_resolved_and_read() {
        let (promise, handle) = promise();
        let _ = promise.resolve(black_box(1));
        black_box(handle.wait().ok());
    }

    #[divan::bench]
    fn made_polled_resolved_and_read() {
        let mut cx = Context::from_waker(Waker::noop());
        let (promise, handle) = promise();
        let mut handle = pin!(handle);
        assert!(handle.as_mut().poll(&mut cx).is_pending());
        let _ = promise.resolve(black_box(1));
        black_box(handle.poll(&mut cx).is_ready());
    }
}

mod contexts {
    use super::*;

    static NUMBER: ContextVar<u64> = ContextVar::new("number");

    #[divan::bench]
    fn variable_read() {
        black_box(NUMBER.get());
    }

    #[divan::bench]
    fn captured_and_entered(bencher: Bencher<'_, '_>) {
        let _scope = NUMBER.scope(5);
        bencher.bench_local(|| copy_context().run(|| black_box(NUMBER.get())));
    }

    #[divan::bench]
    fn variable_scoped() {
        let _scope = NUMBER.scope(black_box(5));
    }
}

mod timers {
    use super::*;
    use std::time::Duration;

    #[divan::bench(args = [0, 10_000])]
    fn set_and_dropped(bencher: Bencher<'_, '_>, others: u64) {
        let hour = Duration::from_secs(3_600);
        let mut cx = Context::from_waker(Waker::noop());
        let timers = async {
            let mut waiting: Vec<_> = (0..others)
                .map(|n| Box::pin(sleep(hour + Duration::from_micros(n))))
                .collect();
            for sleep in &mut waiting {
                assert!(sleep.as_mut().poll(&mut cx).is_pending());
            }
            bencher.bench_local(|| {
                let mut sleep = pin!(sleep(hour));
                black_box(sleep.as_mut().poll(&mut cx).is_pending())
            });
        };
        let ran = EventLoop::new().run_until_complete(timers);
        ran.expect("no loop runs here");
    }
}
