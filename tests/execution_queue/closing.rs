use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::{JoinHandle, block_on, promise};

use crate::kit::{Diary, Gate, poll_once, scripted, watchdog};
use crate::{pool, queue, running};

#[test]
fn drain_runs_what_is_queued_and_waits_for_it() {
    let _watchdog = watchdog(30);
    for block in [true, false] {
        let queue = queue(usize::MAX, 2);
        let ran = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..50)
            .map(|_| {
                let ran = ran.clone();
                queue
                    .add_task(move || ran.fetch_add(1, Ordering::AcqRel))
                    .unwrap()
            })
            .collect();
        if block {
            queue.close(Close::Drain);
        } else {
            block_on(queue.aclose(Close::Drain));
        }
        assert_eq!(ran.load(Ordering::Acquire), 50);
        assert!(handles.iter().all(JoinHandle::is_finished));
        assert!(queue.is_closed() && queue.is_empty());
    }
}

#[test]
fn cancel_pending_cancels_the_queued_and_waits_for_the_running() {
    let _watchdog = watchdog(30);
    let queue = queue(usize::MAX, 1);
    let (gate, first) = running(&queue);
    let queued: Vec<JoinHandle<()>> = (0..10)
        .map(|_| queue.add_task(|| unreachable!("cancelled")).unwrap())
        .collect();
    {
        let mut closing = pin!(queue.aclose(Close::CancelPending));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(closing.as_mut().poll(&mut cx).is_pending());
        assert_eq!(queue.len(), 1, "the running one");
        for handle in queued {
            assert!(handle.wait().unwrap_err().is_cancelled());
        }
        gate.open();
        block_on(closing);
    }
    assert!(first.is_finished());
}

#[test]
fn a_cancelled_running_job_is_waited_for() {
    let _watchdog = watchdog(30);
    let queue = queue(usize::MAX, 1);
    let (gate, first) = running(&queue);
    let _ = first.cancel();
    {
        let mut closing = pin!(queue.aclose(Close::Drain));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(closing.as_mut().poll(&mut cx).is_pending());
        gate.open();
        block_on(closing);
    }
    assert!(first.is_finished());
}

// The original takes jobs after its close and never runs them, or reopens.
#[test]
fn a_closed_queue_gives_every_job_back() {
    let _watchdog = watchdog(30);
    let queue = queue(usize::MAX, 1);
    queue.close(Close::Drain);
    queue.close(Close::CancelPending);
    let ran = Diary::new();
    for way in ["add", "try", "await", "async"] {
        let note = ran.clone();
        let job = move || note.note(way);
        let refused = match way {
            "add" => queue.add_task(job).map(drop),
            "try" => queue.try_add_task(job).map(drop),
            "await" => block_on(queue.aadd_task(job)).map(drop),
            _ => block_on(queue.aadd_task_async(move || async move { job() })).map(drop),
        };
        let error = refused.unwrap_err();
        assert!(error.is_shut_down(), "{way}");
        let job = error.into_job().expect("the job comes back");
        if way != "async" {
            job.run();
        }
    }
    assert_eq!(ran.read(), ["add", "try", "await"]);
}

#[test]
fn adders_that_wait_for_room_get_their_jobs_back_at_a_close() {
    let _watchdog = watchdog(30);
    for mode in [Close::Drain, Close::CancelPending] {
        let queue = Arc::new(queue(1, 1));
        let (gate, first) = running(&queue);
        let mut waits = queue.aadd_task(|| 7);
        assert!(poll_once(&mut waits).is_pending());
        let remote = queue.clone();
        let (told, begun) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            told.send(()).unwrap();
            remote.add_task(|| 8)
        });
        begun.recv().unwrap();
        let remote = queue.clone();
        let closer = std::thread::spawn(move || remote.close(mode));
        for error in [
            block_on(waits).unwrap_err(),
            thread.join().unwrap().unwrap_err(),
        ] {
            assert!(error.is_shut_down());
            assert!(error.into_job().is_some());
        }
        gate.open();
        closer.join().unwrap();
        assert!(first.is_finished());
    }
}

#[test]
fn dropping_the_queue_cancels_the_queued_and_waits_for_nothing() {
    let _watchdog = watchdog(30);
    let queue = queue(2, 1);
    let (gate, first) = running(&queue);
    let second: JoinHandle<()> = queue.add_task(|| unreachable!("cancelled")).unwrap();
    let mut waits = queue.aadd_task(|| ());
    assert!(poll_once(&mut waits).is_pending());
    drop(queue);
    assert!(!first.is_finished());
    assert!(second.wait().unwrap_err().is_cancelled());
    assert!(block_on(waits).unwrap_err().is_shut_down());
    gate.open();
    first.wait().unwrap();
}

#[test]
fn a_close_from_its_own_job_does_not_wait_for_that_job() {
    let _watchdog = watchdog(30);
    for mode in [Close::Drain, Close::CancelPending] {
        let queue = Arc::new(queue(usize::MAX, 1));
        let gate = Gate::new();
        let (own, inside) = (queue.clone(), gate.clone());
        let first = queue.add_task(move || {
            inside.pass();
            own.close(mode);
            own.is_closed()
        });
        let first = first.unwrap();
        let later = queue.add_task(|| 2).unwrap();
        gate.open();
        assert!(first.wait().unwrap());
        match mode {
            Close::Drain => assert_eq!(later.wait().unwrap(), 2),
            Close::CancelPending => assert!(later.wait().unwrap_err().is_cancelled()),
        }
        queue.close(mode);
    }
}

#[test]
fn a_close_from_an_async_job_of_its_own_does_not_wait_for_that_job() {
    let _watchdog = watchdog(30);
    for mode in [Close::Drain, Close::CancelPending] {
        let queue = Arc::new(queue(usize::MAX, 1));
        let own = queue.clone();
        let first = queue.aadd_task_async(move || async move { own.aclose(mode).await });
        block_on(first).unwrap().wait().unwrap();
    }
}

#[test]
fn two_jobs_that_both_close_their_queue_do_not_wait_for_each_other() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(usize::MAX, 2));
    let gate = Gate::new();
    let handles: Vec<_> = (0..2)
        .map(|_| {
            let (own, gate) = (queue.clone(), gate.clone());
            let close = move || {
                gate.pass();
                own.close(Close::Drain);
            };
            queue.add_task(close).unwrap()
        })
        .collect();
    let third = queue.add_task(|| 3).unwrap();
    gate.wait_entered(2);
    gate.open();
    handles
        .into_iter()
        .for_each(|handle| handle.wait().unwrap());
    assert_eq!(third.wait().unwrap(), 3);
}

#[test]
fn a_close_from_a_job_waits_for_what_can_end_without_it() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(usize::MAX, 2));
    let (gate, other) = running(&queue);
    let ready = Gate::new();
    let (told, closing) = promise::<()>();
    let (own, inside) = (queue.clone(), ready.clone());
    let closer = queue.add_task(move || {
        inside.pass();
        told.resolve(()).unwrap();
        own.close(Close::Drain);
        other.is_finished()
    });
    let closer = closer.unwrap();
    let later = queue.add_task(|| ()).unwrap();
    ready.open();
    closing.wait().unwrap();
    gate.open();
    assert!(closer.wait().unwrap());
    assert!(later.is_finished());
}

#[test]
fn a_close_that_is_dropped_leaves_the_queue_closed_and_its_jobs_at_work() {
    let _watchdog = watchdog(30);
    let queue = queue(usize::MAX, 1);
    let (gate, first) = running(&queue);
    let second = queue.add_task(|| 2).unwrap();
    {
        let mut closing = pin!(queue.aclose(Close::Drain));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(closing.as_mut().poll(&mut cx), Poll::Pending);
    }
    assert!(queue.try_add_task(|| ()).unwrap_err().is_shut_down());
    gate.open();
    first.wait().unwrap();
    assert_eq!(second.wait().unwrap(), 2);
}

#[test]
fn drain_waits_for_suspended_async_jobs_too() {
    let _watchdog = watchdog(30);
    let queue = AsyncExecutionQueue::builder()
        .executor(Arc::new(pool(1)))
        .build()
        .unwrap();
    let (conductor, script) = scripted::<u8>();
    let first = block_on(queue.aadd_task_async(move || script)).unwrap();
    {
        let mut closing = pin!(queue.aclose(Close::Drain));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(closing.as_mut().poll(&mut cx).is_pending());
        conductor.complete(5);
        block_on(closing);
    }
    assert!(first.is_finished());
}
