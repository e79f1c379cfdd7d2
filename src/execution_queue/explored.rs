//! A line before a pool that ends, in orders that seeds decide. Run: `just shuttle queue`.

#![forbid(unsafe_code)]

use super::{AsyncExecutionQueue, Close};
use crate::base::shuttled::explore::{TimePasses, explore};
use crate::base::sync::{Arc, Mutex, join, thread};
use crate::pool::{Shutdown, ThreadPool};
use crate::promise::{JoinHandle, promise};
use crate::{JoinError, block_on};

fn pool(threads: usize) -> ThreadPool {
    let pool = ThreadPool::builder().core_threads(threads);
    pool.max_threads(threads)
        .build()
        .expect("the sizes are valid")
}

fn queue(pool: &ThreadPool, capacity: usize, concurrency: usize) -> Arc<AsyncExecutionQueue> {
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(pool.clone()))
        .capacity(capacity)
        .concurrency(concurrency);
    Arc::new(queue.build().expect("the sizes are valid"))
}

/// What may become of a job of a line whose executor ends, or that is cancelled.
fn may_end(error: &JoinError) -> bool {
    error.is_shut_down() || error.is_cancelled()
}

/// Question: what was in line when its pool began to drain: is all of it run, in order, and does
/// the pool end?
///
/// Bound: one or two workers, three jobs, one of which is a future that is suspended; the drain
/// begins at any moment after the last was added.
///
/// Must fail when: the end of a job does not keep the pool open for the next one, or not for one
/// that is added only then; what keeps it open is never let go.
#[test]
fn shuttle_queue_line_runs_in_a_draining_pool() {
    explore(800, TimePasses::InIdleness, || {
        let pool = pool(2);
        let queue = queue(&pool, 8, 1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |number: u32| {
            let order = order.clone();
            move || order.lock().push(number)
        };
        let (promise, handle) = promise::<()>();
        let first = queue.add_task(note(1)).unwrap();
        let noted = note(2);
        let second = queue.aadd_task_async(move || async move {
            handle.await.unwrap();
            noted();
        });
        let second = block_on(second).unwrap();
        let third = queue.add_task(note(3)).unwrap();
        let resolver = thread::spawn(move || promise.resolve(()));
        assert!(pool.shutdown(Shutdown::Drain).completed);
        join(resolver).unwrap().unwrap();
        for handle in [first, second, third] {
            handle.wait().unwrap();
        }
        assert_eq!(*order.lock(), [1, 2, 3]);
    });
}

/// Question: two threads add a job each, which start at the same time; one of them may hand over the
/// other's, and the other returns. The pool drains only after that: does the other's job run?
///
/// Bound: one or two workers, two slots, two adders, one of which shuts down once it has added; and
/// the same with a job that is just about to end.
///
/// Must fail when: an adder that leaves its job to another one does not keep the pool open for it;
/// what was added before is not taken over by a pool that drains.
#[test]
fn shuttle_queue_adders_hand_over_for_each_other() {
    explore(3_000, TimePasses::InIdleness, || {
        let pool = pool(2);
        let queue = queue(&pool, 8, 2);
        let first = queue.add_task(|| 0).unwrap();
        let at = queue.clone();
        let other = thread::spawn(move || at.add_task(|| 1).map(JoinHandle::wait));
        let own = queue.add_task(|| 2).unwrap();
        assert!(pool.shutdown(Shutdown::Drain).completed);
        assert_eq!(own.wait().unwrap(), 2, "added before the drain");
        assert_eq!(first.wait().unwrap(), 0);
        match join(other).unwrap() {
            Ok(Ok(one)) => assert_eq!(one, 1),
            // Added while the pool drained.
            Ok(Err(error)) => assert!(error.is_shut_down(), "{error}"),
            Err(error) => assert!(error.is_shut_down(), "{error}"),
        }
    });
}

/// Question: a job ends the pool itself, with others behind it that were just added: does it wait for
/// what waits for its own end?
///
/// Bound: two workers, one slot, two adders; the job comes first, or behind one that ends.
///
/// Must fail when: what was kept open for a job of the line is not let go once that job has to wait
/// for the end of another one.
#[test]
fn shuttle_queue_job_ends_the_pool_of_those_behind_it() {
    explore(1_500, TimePasses::InIdleness, || {
        let pool = pool(2);
        let queue = queue(&pool, 8, 1);
        let first = queue.add_task(|| 0).unwrap();
        let own = pool.clone();
        let ends = queue.add_task(move || own.shutdown(Shutdown::Drain).completed);
        let at = queue.clone();
        let other = thread::spawn(move || at.add_task(|| 1).map(JoinHandle::wait));
        let last = queue.add_task(|| 2).map(JoinHandle::wait);
        assert_eq!(first.wait().unwrap(), 0);
        assert!(ends.unwrap().wait().unwrap());
        for outcome in [last, join(other).unwrap()] {
            match outcome {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => assert!(error.is_shut_down(), "{error}"),
                Err(error) => assert!(error.is_shut_down(), "{error}"),
            }
        }
        assert!(pool.shutdown(Shutdown::Drain).completed);
    });
}

/// Question: jobs are cancelled, and others wait for room, while the pool drains: does every handle
/// resolve, every adder go on, and the pool end?
///
/// Bound: two workers, two slots, two places; one thread adds, one cancels, one shuts down.
///
/// Must fail when: what keeps the pool open is never let go; a place that is free goes to nobody.
#[test]
fn shuttle_queue_cancels_meet_a_drain() {
    explore(1_500, TimePasses::InIdleness, || {
        let pool = pool(2);
        let queue = queue(&pool, 2, 2);
        let first = queue.add_task(|| 1).unwrap();
        let second = queue.add_task(|| 2).unwrap();
        let cancels = [first.cancel_handle(), second.cancel_handle()];
        let canceller = thread::spawn(move || cancels.map(|cancel| cancel.cancel()));
        let at = queue.clone();
        let adder = thread::spawn(move || (at.add_task(|| 3), at.add_task(|| 4)));
        assert!(pool.shutdown(Shutdown::Drain).completed);
        join(canceller).unwrap();
        let (third, fourth) = join(adder).unwrap();
        for handle in [Ok(first), Ok(second), third, fourth] {
            match handle.map(|handle| handle.wait()) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => assert!(may_end(&error), "{error}"),
                Err(error) => assert!(error.is_shut_down(), "{error}"),
            }
        }
        queue.close(Close::Drain);
        assert!(queue.is_empty());
    });
}

/// Question: one slot, a job cancelled from afar, the queue closed by one thread and its pool
/// drained by another: does all of it come to an end?
///
/// Bound: one worker, three jobs, three threads.
///
/// Must fail when: a closer is not told of the last end; what keeps the pool open is never let go.
#[test]
fn shuttle_queue_close_meets_a_drain() {
    explore(1_500, TimePasses::InIdleness, || {
        let pool = pool(1);
        let queue = queue(&pool, 8, 1);
        let jobs = [1, 2, 3].map(|number| queue.add_task(move || number).unwrap());
        let cancel = jobs[0].cancel_handle();
        let at = queue.clone();
        let closer = thread::spawn(move || {
            cancel.cancel();
            at.close(Close::CancelPending);
        });
        assert!(pool.shutdown(Shutdown::Drain).completed);
        join(closer).unwrap();
        for job in jobs {
            assert!(job.is_finished());
            if let Err(error) = job.wait() {
                assert!(may_end(&error), "{error}");
            }
        }
    });
}
