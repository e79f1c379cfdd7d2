use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::pool::Shutdown;
use portage::{
    CurrentThreadExecutor, EventLoop, Executor, Job, JoinHandle, SubmitError, block_on, promise,
};

use crate::kit::{Diary, Gate, eventually, lock, watchdog};
use crate::{pool, running};

fn on(executor: impl Executor + 'static) -> AsyncExecutionQueue {
    AsyncExecutionQueue::builder()
        .executor(Arc::new(executor))
        .build()
        .expect("the defaults are valid")
}

/// Keeps jobs until the test takes them.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Job>>>);

impl Kept {
    fn take(&self) -> Vec<Job> {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl Executor for Kept {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        lock(&self.0).push(job);
        Ok(())
    }
}

struct OnTheSpot;

impl Executor for OnTheSpot {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        job.run();
        Ok(())
    }
}

/// Refuses every job whose number is in the list.
struct Moody {
    seen: AtomicUsize,
    refuses: &'static [usize],
    rest: Kept,
}

impl Executor for Moody {
    fn execute(&self, job: Job) -> Result<(), SubmitError> {
        if self
            .refuses
            .contains(&self.seen.fetch_add(1, Ordering::Relaxed))
        {
            return Err(SubmitError::full(job));
        }
        self.rest.execute(job)
    }
}

fn moody(refuses: &'static [usize]) -> (AsyncExecutionQueue, Kept) {
    let rest = Kept::default();
    let executor = Moody {
        seen: AtomicUsize::new(0),
        refuses,
        rest: rest.clone(),
    };
    (on(executor), rest)
}

#[test]
fn a_refusal_goes_to_the_add_with_the_job_and_the_queue_goes_on() {
    let _watchdog = watchdog(30);
    let (queue, rest) = moody(&[0, 2]);
    for _ in 0..2 {
        let error = queue.add_task(|| 1).unwrap_err();
        assert!(error.is_full());
        assert_eq!(queue.len(), 0);
        let job = error.into_job().expect("the job comes back");
        job.run();
        let handle = queue.add_task(|| 2).unwrap();
        rest.take().into_iter().for_each(Job::run);
        assert_eq!(handle.wait().unwrap(), 2);
    }
}

#[test]
fn a_later_refusal_goes_to_the_handle_and_the_queue_goes_on() {
    let _watchdog = watchdog(30);
    let (queue, rest) = moody(&[1, 2]);
    let handles: Vec<_> = (0..4)
        .map(|index| queue.add_task(move || index).unwrap())
        .collect();
    rest.take().into_iter().for_each(Job::run);
    rest.take().into_iter().for_each(Job::run);
    let ends: Vec<_> = handles.into_iter().map(JoinHandle::wait).collect();
    assert_eq!(*ends[0].as_ref().unwrap(), 0);
    assert!(ends[1].as_ref().unwrap_err().is_shut_down());
    assert!(ends[2].as_ref().unwrap_err().is_shut_down());
    assert_eq!(*ends[3].as_ref().unwrap(), 3);
    assert!(queue.is_empty());
}

#[test]
fn a_job_that_its_executor_drops_is_lost_and_the_queue_goes_on() {
    let _watchdog = watchdog(30);
    let kept = Kept::default();
    let queue = on(kept.clone());
    let first = queue.add_task(|| 1).unwrap();
    let second = queue.add_task(|| 2).unwrap();
    assert_eq!(lock(&kept.0).len(), 1);
    drop(kept.take());
    assert!(first.wait().unwrap_err().is_lost());
    kept.take().into_iter().for_each(Job::run);
    assert_eq!(second.wait().unwrap(), 2);
}

#[test]
fn a_job_tells_where_it_was_added() {
    let queue = on(Kept::default());
    let added = queue.add_task(|| 1).unwrap();
    let added_async = block_on(queue.aadd_task_async(|| async {})).unwrap();
    assert_eq!(added.spawned_at().file(), file!());
    assert_eq!(added_async.spawned_at().file(), file!());
}

struct Panics;

impl Executor for Panics {
    fn execute(&self, _: Job) -> Result<(), SubmitError> {
        panic!("an executor that panics");
    }
}

#[test]
fn an_executor_that_panics_loses_the_job_and_nothing_else() {
    let _watchdog = watchdog(30);
    let queue = on(Panics);
    for _ in 0..2 {
        let handle = queue.add_task(|| ()).unwrap();
        assert!(handle.wait().unwrap_err().is_lost());
    }
    queue.close(Close::Drain);
}

#[test]
fn a_pool_that_was_shut_down_refuses_and_a_draining_one_serves_the_line() {
    let _watchdog = watchdog(30);
    let workers = pool(2);
    let queue = on(workers.clone());
    let (gate, _first) = running(&queue);
    let later: Vec<_> = (0..20)
        .map(|index| queue.add_task(move || index).unwrap())
        .collect();
    let ends = {
        let workers = workers.clone();
        std::thread::spawn(move || workers.shutdown(Shutdown::Drain).completed)
    };
    eventually("the shutdown", || workers.is_shut_down());
    gate.open();
    assert!(ends.join().unwrap());
    for (index, handle) in later.into_iter().enumerate() {
        assert_eq!(handle.wait().unwrap(), index);
    }
    let error = queue.add_task(|| ()).unwrap_err();
    assert!(error.is_shut_down() && error.into_job().is_some());
}

#[test]
fn an_executor_that_runs_on_the_spot_needs_no_stack_for_a_long_line() {
    let _watchdog = watchdog(60);
    let queue = Arc::new(on(OnTheSpot));
    let diary = Diary::new();
    let (own, notes) = (queue.clone(), diary.clone());
    let first = queue.add_task(move || {
        let mut last = None;
        for index in 0..20_000 {
            let notes = notes.clone();
            last = Some(own.add_task(move || notes.note(index)).unwrap());
        }
        last
    });
    let last = first.unwrap().wait().unwrap().unwrap();
    last.wait().unwrap();
    assert_eq!(diary.read(), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn on_the_spot_a_job_may_wait_for_a_later_one_where_a_slot_is_free() {
    let _watchdog = watchdog(30);
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(OnTheSpot))
        .concurrency(2)
        .build()
        .unwrap();
    let queue = Arc::new(queue);
    let own = queue.clone();
    let first = queue.add_task(move || own.add_task(|| 7).unwrap().wait().unwrap());
    assert_eq!(first.unwrap().wait().unwrap(), 7);
}

#[test]
fn on_the_spot_a_job_finds_the_one_before_it_finished() {
    let _watchdog = watchdog(30);
    let kept = Kept::default();
    struct SpotAfter(Kept, AtomicUsize);
    impl Executor for SpotAfter {
        fn execute(&self, job: Job) -> Result<(), SubmitError> {
            match self.1.fetch_add(1, Ordering::Relaxed) {
                0 => self.0.execute(job),
                _ => OnTheSpot.execute(job),
            }
        }
    }
    let queue = on(SpotAfter(kept.clone(), AtomicUsize::new(0)));
    let first = queue.add_task(|| 1).unwrap();
    let second = queue.add_task(move || first.wait()).unwrap();
    kept.take().into_iter().for_each(Job::run);
    assert_eq!(second.wait().unwrap().unwrap(), 1);
}

#[test]
fn a_line_behind_a_dead_executor_resolves_without_recursion() {
    let _watchdog = watchdog(60);
    let event_loop = EventLoop::new();
    let queue = on(event_loop.handle());
    let handles: Vec<_> = (0..20_000)
        .map(|_| queue.add_task(|| ()).unwrap())
        .collect();
    drop(event_loop);
    for handle in handles {
        let error = handle.wait().unwrap_err();
        assert!(
            error.is_shut_down() || error.is_cancelled() || error.is_lost(),
            "{error}"
        );
    }
    assert!(queue.is_empty());
}

#[test]
fn a_lane_takes_the_next_job_from_wherever_the_last_one_ended() {
    let _watchdog = watchdog(30);
    let lane = CurrentThreadExecutor::new(None);
    let queue = Arc::new(on(lane.clone()));
    let here = std::thread::current().id();
    let (done, finished) = promise();
    let remote = queue.clone();
    let adder = std::thread::spawn(move || {
        let gate = Gate::new();
        gate.open();
        let handles: Vec<_> = (0..10)
            .map(|_| remote.add_task(|| std::thread::current().id()).unwrap())
            .collect();
        // Ends on this thread, not on the lane's.
        let cancelled = remote.add_task(|| ()).unwrap();
        let _ = cancelled.cancel();
        let last = remote.add_task(|| std::thread::current().id()).unwrap();
        let mut threads: Vec<_> = handles.into_iter().map(|h| h.wait().unwrap()).collect();
        threads.push(last.wait().unwrap());
        done.resolve(threads).unwrap();
    });
    let threads = lane.run_until_future(finished).unwrap().unwrap();
    assert_eq!(threads, vec![here; 11]);
    adder.join().unwrap();
}

#[test]
fn a_job_on_a_lane_may_add_the_next_one() {
    let _watchdog = watchdog(30);
    let lane = CurrentThreadExecutor::new(None);
    let queue = Arc::new(on(lane.clone()));
    let (done, finished) = promise();
    let remote = queue.clone();
    std::thread::spawn(move || {
        let own = remote.clone();
        let first = move || own.add_task(|| 7).unwrap();
        let second = remote.add_task(first).unwrap().wait().unwrap();
        done.resolve(second.wait().unwrap()).unwrap();
    });
    assert_eq!(lane.run_until_future(finished).unwrap().unwrap(), 7);
}

#[test]
fn the_owner_of_an_idle_lane_gets_the_lanes_refusal() {
    let lane = CurrentThreadExecutor::new(None);
    let queue = on(lane.clone());
    let error = queue.add_task(|| ()).unwrap_err();
    assert!(error.is_own_thread() && error.into_job().is_some());
    assert!(queue.is_empty());
}

#[test]
fn the_line_of_a_finished_lane_resolves() {
    let _watchdog = watchdog(30);
    let lane = CurrentThreadExecutor::new(None);
    let queue = Arc::new(on(lane.clone()));
    let remote = queue.clone();
    let handles = std::thread::spawn(move || {
        (0..5)
            .map(|_| remote.add_task(|| 1).unwrap())
            .collect::<Vec<_>>()
    });
    let handles = handles.join().unwrap();
    lane.run_until_future(async {}).unwrap();
    let ends: Vec<_> = handles.into_iter().map(JoinHandle::wait).collect();
    assert_eq!(*ends[0].as_ref().unwrap(), 1, "drained");
    assert!(ends[1..].iter().all(Result::is_err), "{ends:?}");
}

#[test]
fn an_async_job_on_a_lane_is_driven_to_its_end() {
    let _watchdog = watchdog(30);
    let lane = CurrentThreadExecutor::new(None);
    let queue = on(lane.clone());
    let (done, finished) = promise();
    std::thread::spawn(move || {
        let add = queue.aadd_task_async(|| async {
            portage::time::yield_now().await;
            5
        });
        done.resolve(block_on(add).unwrap().wait().unwrap())
            .unwrap();
    });
    assert_eq!(lane.run_until_future(finished).unwrap().unwrap(), 5);
}
