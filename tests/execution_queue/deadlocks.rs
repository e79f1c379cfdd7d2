use std::sync::Arc;

use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::{EventLoop, JoinError, JoinHandle, SubmitError, block_on};

use crate::kit::{Gate, watchdog};
use crate::{TICK, pool, queue};

/// Runs `job` as a job of the queue, with the queue.
fn inside<T: Send + 'static>(
    queue: &Arc<AsyncExecutionQueue>,
    job: impl FnOnce(&AsyncExecutionQueue) -> T + Send + 'static,
) -> T {
    let own = queue.clone();
    let handle = queue.add_task(move || job(&own));
    let handle = handle.expect("there is room");
    handle.wait().expect("the job does not panic")
}

#[test]
fn blocking_for_room_from_the_job_that_holds_the_place_is_refused() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(1, 1));
    let error: SubmitError = inside(&queue, |own| own.add_task(|| ()).unwrap_err());
    assert!(error.is_would_deadlock());
    assert!(error.into_job().is_some());
    let error = inside(&queue, |own| block_on(own.aadd_task(|| ())).unwrap_err());
    assert!(error.is_would_deadlock());
    assert!(inside(&queue, |own| own
        .try_add_task(|| ())
        .unwrap_err()
        .is_full()));
}

#[test]
fn awaiting_room_in_the_async_job_that_holds_the_place_is_refused() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(1, 1));
    let own = queue.clone();
    let job = move || async move { own.aadd_task(|| ()).await.unwrap_err() };
    let error = block_on(queue.aadd_task_async(job))
        .unwrap()
        .wait()
        .unwrap();
    assert!(error.is_would_deadlock());
}

#[test]
fn places_that_wait_behind_the_job_count_as_held_by_it() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(3, 1));
    let error = inside(&queue, |own| {
        own.add_task(|| ()).unwrap().detach();
        own.add_task(|| ()).unwrap().detach();
        own.add_task(|| ()).unwrap_err()
    });
    assert!(error.is_would_deadlock());
}

#[test]
fn waiting_for_a_later_job_from_the_job_before_it_is_refused() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(usize::MAX, 1));
    let errors: [JoinError; 3] = inside(&queue, |own| {
        let later = own.add_task(|| 1).unwrap();
        let mut timed = own.add_task(|| 2).unwrap();
        let awaited = own.add_task(|| 3).unwrap();
        [
            later.wait().unwrap_err(),
            timed.wait_timeout(TICK).unwrap().unwrap_err(),
            block_on(awaited).unwrap_err(),
        ]
    });
    assert!(
        errors.iter().all(JoinError::is_would_deadlock),
        "{errors:?}"
    );
    let own = queue.clone();
    let job = move || async move { own.aadd_task(|| ()).await.unwrap().await.unwrap_err() };
    let error = block_on(queue.aadd_task_async(job))
        .unwrap()
        .wait()
        .unwrap();
    assert!(error.is_would_deadlock());
}

#[test]
fn a_later_job_may_be_waited_for_where_another_slot_is_free() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(usize::MAX, 2));
    assert_eq!(
        inside(&queue, |own| own.add_task(|| 7).unwrap().wait().unwrap()),
        7
    );
    let own = queue.clone();
    let job = move || async move { own.aadd_task(|| 8).await.unwrap().await.unwrap() };
    assert_eq!(
        block_on(queue.aadd_task_async(job))
            .unwrap()
            .wait()
            .unwrap(),
        8
    );
}

#[test]
fn an_earlier_job_may_be_waited_for() {
    let _watchdog = watchdog(30);
    let queue = queue(usize::MAX, 1);
    let first = queue.add_task(|| 1).unwrap();
    let second = queue.add_task(move || first.wait().unwrap() + 1).unwrap();
    assert_eq!(second.wait().unwrap(), 2);
}

#[test]
fn of_two_jobs_that_wait_for_room_the_last_one_is_refused_and_the_first_goes_on() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(2, 2));
    let gate = Gate::new();
    let handles: Vec<_> = (0..2)
        .map(|_| {
            let (own, gate) = (queue.clone(), gate.clone());
            let job = move || {
                gate.pass();
                own.add_task(|| ()).map(|handle| handle.detach())
            };
            queue.add_task(job).unwrap()
        })
        .collect();
    gate.wait_entered(2);
    gate.open();
    let refused: Vec<bool> = handles
        .into_iter()
        .map(|handle| match handle.wait().unwrap() {
            Ok(()) => false,
            Err(error) => {
                assert!(error.is_would_deadlock());
                true
            }
        })
        .collect();
    assert!(
        refused.contains(&true) && refused.contains(&false),
        "{refused:?}"
    );
}

#[test]
fn of_two_jobs_that_wait_for_later_ones_one_is_refused() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(usize::MAX, 2));
    let gate = Gate::new();
    let jobs: Vec<_> = (0..2)
        .map(|_| {
            let (own, gate) = (queue.clone(), gate.clone());
            let job = move || {
                gate.pass();
                let later = own.add_task(|| 7).unwrap();
                later.wait()
            };
            queue.add_task(job).unwrap()
        })
        .collect();
    gate.wait_entered(2);
    gate.open();
    let outcomes: Vec<_> = jobs.into_iter().map(|job| job.wait().unwrap()).collect();
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert_eq!(refused, 1, "{outcomes:?}");
}

#[test]
fn a_stranger_who_waits_is_not_refused() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(1, 1));
    let gate = Gate::new();
    let inside = gate.clone();
    queue.add_task(move || inside.pass()).unwrap().detach();
    gate.wait_entered(1);
    let remote = queue.clone();
    let adder = std::thread::spawn(move || remote.add_task(|| 7).unwrap().wait().unwrap());
    gate.open();
    assert_eq!(adder.join().unwrap(), 7);
}

#[test]
fn the_only_worker_may_wait_for_queued_jobs_in_any_order() {
    let _watchdog = watchdog(30);
    let only = pool(1);
    let queue = AsyncExecutionQueue::builder().executor(Arc::new(only.clone()));
    let queue = queue.build().unwrap();
    let outer = only.spawn_blocking(move || {
        let first = queue.add_task(|| 1).unwrap();
        let second = queue.add_task(|| 2).unwrap();
        let third = queue.add_task(|| 3).unwrap().map(|three| three * 10);
        [third, second, first].map(|handle| handle.wait().unwrap())
    });
    assert_eq!(outer.wait().unwrap(), [30, 2, 1]);
}

#[test]
fn a_later_job_may_not_be_waited_for_through_a_link_of_its_chain_either() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(usize::MAX, 1));
    let error = inside(&queue, |own| {
        let later = own.add_task(|| 1).unwrap().map(|one| one + 1);
        later.wait().unwrap_err()
    });
    assert!(error.is_would_deadlock());
}

// In the original this hangs until a timeout.
#[test]
fn blocking_on_the_thread_of_the_loop_that_runs_the_jobs_is_refused() {
    let _watchdog = watchdog(30);
    let event_loop = EventLoop::new();
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(event_loop.handle()))
        .capacity(2)
        .build()
        .unwrap();
    let refused = event_loop.run_until_complete(async {
        let first = queue.add_task(|| 1).unwrap();
        let second = queue.add_task(|| 2).unwrap();
        let room = queue.add_task(|| 3).unwrap_err();
        assert!(room.is_would_deadlock());
        let mut refused = vec![second.wait().unwrap_err(), first.wait().unwrap_err()];
        // Awaited, the loop comes to them.
        let fourth = queue.aadd_task(|| 4).await.unwrap();
        assert_eq!(fourth.await.unwrap(), 4);
        queue.close(Close::Drain);
        refused.retain(JoinError::is_would_deadlock);
        refused.len()
    });
    assert_eq!(refused.unwrap(), 2);
}

/// The worker that waits for room, or for the end, is the only one that could run the jobs.
#[test]
fn the_only_worker_may_wait_for_room_and_for_the_end() {
    let _watchdog = watchdog(30);
    let workers = pool(1);
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(workers.clone()))
        .capacity(2)
        .build()
        .expect("legal sizes");
    let queue = Arc::new(queue);
    let own = queue.clone();
    let blocking = workers.spawn_blocking(move || {
        let jobs: Vec<_> = (0..6)
            .map(|i| own.add_task(move || i).expect("room"))
            .collect();
        own.close(Close::Drain);
        jobs.iter().all(JoinHandle::is_finished)
    });
    assert!(blocking.wait().expect("no panic"));

    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(workers.clone()))
        .capacity(1)
        .build()
        .expect("legal sizes");
    let awaiting = workers.spawn_blocking(move || {
        block_on(async {
            let mut jobs = Vec::new();
            for i in 0..6 {
                jobs.push(
                    queue
                        .aadd_task_async(move || async move { i })
                        .await
                        .expect("room"),
                );
            }
            queue.aclose(Close::Drain).await;
            jobs.iter().all(JoinHandle::is_finished)
        })
    });
    assert!(awaiting.wait().expect("no panic"));
}
