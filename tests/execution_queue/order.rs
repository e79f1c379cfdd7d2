use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::time::yield_now;
use portage::{ContextVar, EventLoop, block_on};

use crate::kit::{Diary, Gate, scripted, watchdog};
use crate::{pool, queue, running};

// The original's completion order is free.
#[test]
fn jobs_are_executed_one_at_a_time_in_order_whatever_the_pool() {
    let _watchdog = watchdog(60);
    let queue = queue(usize::MAX, 1);
    let diary = Diary::new();
    let inside = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..500)
        .map(|index| {
            let (diary, inside) = (diary.clone(), inside.clone());
            let job = move || {
                assert_eq!(inside.fetch_add(1, Ordering::AcqRel), 0, "two at a time");
                diary.note(index);
                inside.fetch_sub(1, Ordering::AcqRel);
                index
            };
            queue.add_task(job).unwrap()
        })
        .collect();
    for (index, handle) in handles.into_iter().enumerate() {
        assert_eq!(handle.wait().unwrap(), index);
    }
    assert_eq!(diary.read(), (0..500).collect::<Vec<_>>());
}

#[test]
fn a_job_that_starts_finds_those_before_it_finished() {
    let _watchdog = watchdog(60);
    let queue = queue(usize::MAX, 1);
    let mut before = Vec::new();
    let mut last = None;
    for _ in 0..200 {
        let earlier: Vec<_> = before.clone();
        let handle = queue
            .add_task(move || {
                earlier
                    .iter()
                    .all(portage::promise::CancelHandle::is_finished)
            })
            .unwrap();
        before.push(handle.cancel_handle());
        if let Some(last) = last.replace(handle) {
            let last: portage::JoinHandle<bool> = last;
            assert!(last.wait().unwrap());
        }
    }
    assert!(last.unwrap().wait().unwrap());
}

#[test]
fn a_few_at_once_start_in_order() {
    let _watchdog = watchdog(60);
    let queue = queue(usize::MAX, 3);
    let diary = Diary::new();
    let gates: Vec<Gate> = (0..6).map(|_| Gate::new()).collect();
    let handles: Vec<_> = gates
        .iter()
        .enumerate()
        .map(|(index, gate)| {
            let (gate, diary) = (gate.clone(), diary.clone());
            let job = move || {
                gate.pass();
                diary.note(index);
            };
            queue.add_task(job).unwrap()
        })
        .collect();
    for gate in &gates[..3] {
        gate.wait_entered(1);
    }
    assert!(gates[3..].iter().all(|gate| gate.entered() == 0));
    gates[1].open();
    gates[3].wait_entered(1);
    assert_eq!(gates[4].entered(), 0);
    gates.iter().for_each(Gate::open);
    handles
        .into_iter()
        .for_each(|handle| handle.wait().unwrap());
    assert_eq!(diary.read()[0], 1);
}

#[test]
fn each_job_runs_in_the_context_of_its_call() {
    static NAME: ContextVar<u32> = ContextVar::new("name");
    let _watchdog = watchdog(30);
    let queue = queue(usize::MAX, 1);
    let (gate, _first) = running(&queue);
    let late = {
        let _scope = NAME.scope(1);
        queue.aadd_task(|| NAME.get())
    };
    let late_async = {
        let _scope = NAME.scope(2);
        queue.aadd_task_async(|| async {
            yield_now().await;
            NAME.set(9);
            NAME.get()
        })
    };
    let _scope = NAME.scope(3);
    let last = queue.add_task(|| NAME.get()).unwrap();
    let late = block_on(late).unwrap();
    let late_async = block_on(late_async).unwrap();
    gate.open();
    assert_eq!(last.wait().unwrap(), Some(3));
    assert_eq!(late.wait().unwrap(), Some(1));
    assert_eq!(late_async.wait().unwrap(), Some(9));
    assert_eq!(NAME.get(), Some(3), "what a job sets stays with it");
}

#[test]
fn the_order_is_that_of_the_polls_not_of_the_calls() {
    let _watchdog = watchdog(30);
    let queue = queue(usize::MAX, 1);
    let (gate, _first) = running(&queue);
    let diary = Diary::new();
    let (one, two) = (diary.clone(), diary.clone());
    let called_first = queue.aadd_task(move || one.note(1));
    let called_second = queue.aadd_task(move || two.note(2));
    block_on(called_second).unwrap().detach();
    let last = block_on(called_first).unwrap();
    gate.open();
    last.wait().unwrap();
    assert_eq!(diary.read(), [2, 1]);
}

#[test]
fn an_async_job_holds_its_turn_but_no_worker_while_it_is_suspended() {
    let _watchdog = watchdog(30);
    let only = pool(1);
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(only.clone()))
        .build()
        .unwrap();
    let (conductor, script) = scripted::<u32>();
    let first = block_on(queue.aadd_task_async(move || {
        let not_send = Rc::new(1);
        async move { script.await + *not_send }
    }))
    .unwrap();
    let second = queue.add_task(|| "second").unwrap();
    // The worker is free: it runs what does not belong to the queue.
    assert_eq!(only.spawn_blocking(|| "other").wait().unwrap(), "other");
    assert!(!second.is_finished() && queue.len() == 2);
    conductor.complete(41);
    assert_eq!(first.wait().unwrap(), 42);
    assert_eq!(second.wait().unwrap(), "second");
    assert_eq!(queue.len(), 0);
}

#[test]
fn async_jobs_run_on_a_loop_as_its_tasks() {
    let _watchdog = watchdog(30);
    let event_loop = EventLoop::new();
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(event_loop.handle()))
        .build()
        .unwrap();
    let here = std::thread::current().id();
    let sum = event_loop.run_until_complete(async {
        let first = queue.aadd_task_async(|| async {
            yield_now().await;
            (std::thread::current().id(), 1)
        });
        let first = first.await.unwrap();
        let second = queue.aadd_task(|| 2).await.unwrap();
        let (thread, one) = first.await.unwrap();
        assert_eq!(thread, here);
        let sum = one + second.await.unwrap();
        queue.aclose(Close::Drain).await;
        sum
    });
    assert_eq!(sum.unwrap(), 3);
}

// A `BaseException` leaves the original's future pending for ever.
#[test]
fn a_job_that_panics_resolves_and_the_next_one_runs() {
    let _watchdog = watchdog(30);
    let queue = queue(2, 1);
    for _ in 0..10 {
        let bad = queue
            .add_task(|| -> u8 { std::panic::panic_any(7_u8) })
            .unwrap();
        let bad_async = block_on(queue.aadd_task_async(|| async {
            yield_now().await;
            if true {
                panic!("async");
            }
        }))
        .unwrap();
        let bad_create =
            block_on(queue.aadd_task_async(|| -> std::future::Ready<()> { panic!("create") }))
                .unwrap();
        assert!(bad.wait().unwrap_err().is_panic());
        assert!(bad_async.wait().unwrap_err().is_panic());
        assert!(bad_create.wait().unwrap_err().is_panic());
    }
    assert_eq!(queue.add_task(|| 1).unwrap().wait().unwrap(), 1);
    assert!(queue.is_empty());
}

#[test]
fn the_place_of_a_job_is_free_before_its_handle_resolves() {
    let _watchdog = watchdog(60);
    let queue = queue(1, 1);
    for round in 0..500 {
        let handle = queue
            .try_add_task(move || round)
            .expect("there is room again");
        assert_eq!(handle.wait().unwrap(), round);
        assert_eq!(queue.len(), 0);
    }
}
