//! The execution queue, added to and closed by their tasks.

use std::sync::Arc;

use portage::JoinHandle;
use portage::execution_queue::{AsyncExecutionQueue, Close};

use crate::kit::{Diary, Gate, OpenAtEnd};
use crate::on_each;

/// A queue for one, whose job is held at a gate.
async fn held() -> (Arc<AsyncExecutionQueue>, JoinHandle<()>, Gate) {
    let queue = AsyncExecutionQueue::builder().capacity(1).build();
    let queue = Arc::new(queue.expect("a legal size"));
    let gate = Gate::new();
    let at = gate.clone();
    let job = queue.aadd_task(move || at.pass()).await;
    gate.wait_entered(1);
    (queue, job.expect("it is open"), gate)
}

#[test]
fn their_tasks_wait_for_room_in_order() {
    on_each(|| async {
        let (queue, first, gate) = held().await;
        let _open = OpenAtEnd(gate.clone());
        let diary = Diary::new();
        let (mut adders, mut waits) = (Vec::new(), Vec::new());
        for i in 0..20 {
            // polled here, so that the order is known; awaited in tasks of theirs
            let note = diary.clone();
            let mut add = queue.aadd_task(move || note.note(i));
            assert!(crate::kit::poll_once(&mut add).is_pending());
            adders.push(tokio::spawn(add));
        }
        assert!(queue.try_add_task(|| ()).expect_err("no room").is_full());
        gate.open();
        first.await.expect("no panic");
        for add in adders {
            waits.push(add.await.expect("no panic").expect("it is open"));
        }
        for wait in waits {
            wait.await.expect("no panic");
        }
        assert_eq!(diary.read(), (0..20).collect::<Vec<_>>());
        queue.aclose(Close::Drain).await;
    });
}

#[test]
fn async_jobs_await_what_their_tasks_send() {
    on_each(|| async {
        let queue = AsyncExecutionQueue::new();
        let (send, receive) = tokio::sync::oneshot::channel();
        let waits = queue
            .aadd_task_async(move || receive)
            .await
            .expect("it is open");
        let after = queue.aadd_task(|| "after").await.expect("it is open");
        tokio::spawn(async move { send.send(3) });
        assert_eq!(waits.await.expect("no panic"), Ok(3));
        assert_eq!(after.await.expect("no panic"), "after");
        assert!(queue.is_empty());
    });
}

#[test]
fn an_aborted_adder_leaves_no_trace_and_a_close_gives_jobs_back() {
    on_each(|| async {
        let (queue, running, gate) = held().await;
        let _open = OpenAtEnd(gate.clone());
        let mut add = queue.aadd_task(|| unreachable!("given up"));
        assert!(crate::kit::poll_once(&mut add).is_pending());
        let given_up = tokio::spawn(add);
        given_up.abort();
        let mut add = queue.aadd_task(|| unreachable!("closed"));
        assert!(crate::kit::poll_once(&mut add).is_pending());
        let refused = tokio::spawn(add);
        let closes = queue.clone();
        let closing = tokio::spawn(async move { closes.aclose(Close::CancelPending).await });
        let error = refused.await.expect("no panic").expect_err("closed");
        assert!(error.is_shut_down());
        assert!(error.into_job().is_some());
        gate.open();
        running.await.expect("no panic");
        closing.await.expect("no panic");
        assert!(queue.is_empty());
    });
}
