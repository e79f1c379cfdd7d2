use std::sync::Arc;

use portage::execution_queue::{AsyncExecutionQueue, Close};
use portage::promise::Cancel;
use portage::{JoinHandle, SubmitError, block_on};

use crate::kit::{Diary, Drops, Gate, counting_waker, eventually, poll_once, poll_with, watchdog};
use crate::{queue, running};

#[test]
fn zero_is_no_size_and_the_error_says_which() {
    let capacity = AsyncExecutionQueue::builder()
        .capacity(0)
        .build()
        .unwrap_err();
    assert!(capacity.is_invalid() && capacity.to_string().contains("capacity"));
    let concurrency = AsyncExecutionQueue::builder()
        .concurrency(0)
        .build()
        .unwrap_err();
    assert!(concurrency.is_invalid() && concurrency.to_string().contains("concurrency"));
    assert!(
        AsyncExecutionQueue::builder()
            .capacity(usize::MAX)
            .concurrency(usize::MAX)
            .build()
            .is_ok()
    );
}

// The original dispatches without waiting: six adds through a queue of one took no time.
#[test]
fn a_place_is_held_until_the_job_ends() {
    let _watchdog = watchdog(30);
    let queue = queue(2, 1);
    let (gate, first) = running(&queue);
    let second = queue.try_add_task(|| 2).unwrap();
    assert_eq!(queue.len(), 2);
    let full = queue.try_add_task(|| 3).unwrap_err();
    assert!(full.is_full());
    full.into_job().expect("the job comes back").run();
    gate.open();
    first.wait().unwrap();
    assert_eq!(second.wait().unwrap(), 2);
    assert_eq!(queue.len(), 0);
}

#[test]
fn cancelling_a_queued_job_frees_its_place_at_once() {
    let _watchdog = watchdog(30);
    let queue = queue(3, 1);
    let (gate, first) = running(&queue);
    let drops = Drops::new();
    let token = drops.token();
    let second: JoinHandle<()> = queue.try_add_task(move || drop(token)).unwrap();
    let third = queue.try_add_task(|| 3).unwrap();
    assert!(queue.try_add_task(|| ()).unwrap_err().is_full());
    assert_eq!(second.cancel(), Cancel::Prevented);
    assert_eq!((queue.len(), drops.live()), (2, 0));
    let fourth = queue.try_add_task(|| 4).unwrap();
    assert!(second.wait().unwrap_err().is_cancelled());
    gate.open();
    first.wait().unwrap();
    assert_eq!((third.wait().unwrap(), fourth.wait().unwrap()), (3, 4));
}

#[test]
fn cancelling_a_running_job_keeps_its_place_until_it_ends() {
    let _watchdog = watchdog(30);
    let queue = queue(1, 1);
    let (gate, first) = running(&queue);
    assert_eq!(first.cancel(), Cancel::Requested);
    assert!(queue.try_add_task(|| ()).unwrap_err().is_full());
    gate.open();
    first.wait().unwrap();
    assert!(queue.try_add_task(|| ()).is_ok());
}

#[test]
fn who_waits_for_room_gets_it_in_order_threads_and_tasks_alike() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(1, 1));
    let (gate, _first) = running(&queue);
    let diary = Diary::new();
    let mut adders = Vec::new();
    for index in 0..6 {
        let (remote, diary) = (queue.clone(), diary.clone());
        let (told, waits) = std::sync::mpsc::channel();
        adders.push(std::thread::spawn(move || {
            let note = move || diary.note(index);
            if index % 2 == 0 {
                told.send(()).unwrap();
                remote.add_task(note).unwrap()
            } else {
                let mut add = remote.aadd_task(note);
                assert!(poll_once(&mut add).is_pending());
                told.send(()).unwrap();
                block_on(add).unwrap()
            }
        }));
        waits.recv().unwrap();
        // A thread that blocks is in line a moment after it said so.
        eventually("in line", || waiting(&queue) == index + 1);
    }
    gate.open();
    for adder in adders {
        adder.join().unwrap().wait().unwrap();
    }
    assert_eq!(diary.read(), [0, 1, 2, 3, 4, 5]);
}

fn waiting(queue: &AsyncExecutionQueue) -> usize {
    let text = format!("{queue:?}");
    let after = text.split("waiting: ").nth(1).expect("shown for diagnosis");
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn nobody_new_overtakes_those_who_wait() {
    let _watchdog = watchdog(30);
    let queue = queue(1, 1);
    let (gate, first) = running(&queue);
    let mut waits = queue.aadd_task(|| 1);
    assert!(poll_once(&mut waits).is_pending());
    gate.open();
    first.wait().unwrap();
    // The place is theirs, whether they have come to look or not.
    if let Ok(handle) = queue.try_add_task(|| 2) {
        assert!(waits_ran(&mut waits), "overtaken");
        handle.wait().unwrap();
    }
}

fn waits_ran(add: &mut portage::execution_queue::AddTask<i32>) -> bool {
    match poll_once(add) {
        std::task::Poll::Ready(handle) => handle.is_ok_and(|handle| handle.is_finished()),
        std::task::Poll::Pending => false,
    }
}

#[test]
fn a_waiting_add_that_is_dropped_gives_its_place_on() {
    let _watchdog = watchdog(30);
    let queue = queue(1, 1);
    let (gate, first) = running(&queue);
    let drops = Drops::new();
    let (waker, wakes) = counting_waker();
    let token = drops.token();
    let mut gone = queue.aadd_task(move || drop(token));
    assert!(poll_with(&mut gone, &waker).is_pending());
    let mut next = queue.aadd_task(|| 2);
    assert!(poll_with(&mut next, &waker).is_pending());
    drop(gone);
    assert_eq!(drops.live(), 0);
    gate.open();
    first.wait().unwrap();
    assert_eq!(block_on(next).unwrap().wait().unwrap(), 2);
    assert!(wakes.count() <= 1, "the dropped one is not woken");
}

#[test]
fn an_add_that_is_dropped_after_it_got_its_place_never_runs_and_gives_it_on() {
    let _watchdog = watchdog(30);
    let queue = queue(2, 1);
    let (gate, _first) = running(&queue);
    let second = queue.try_add_task(|| ()).unwrap();
    let drops = Drops::new();
    let token = drops.token();
    let mut gone = queue.aadd_task(move || {
        let _token = token;
        unreachable!("its add was dropped");
    });
    assert!(poll_once(&mut gone).is_pending());
    // It has its place now, in line behind the running job, and has not looked.
    let _ = second.cancel();
    assert_eq!(queue.len(), 2);
    let mut next = queue.aadd_task(|| 3);
    assert!(poll_once(&mut next).is_pending());
    drop(gone);
    assert_eq!(drops.live(), 0);
    let third = match poll_once(&mut next) {
        std::task::Poll::Ready(handle) => handle.unwrap(),
        std::task::Poll::Pending => panic!("the place went on"),
    };
    gate.open();
    assert_eq!(third.wait().unwrap(), 3);
}

#[test]
fn an_add_that_was_never_polled_adds_nothing() {
    let queue = queue(1, 1);
    let drops = Drops::new();
    let token = drops.token();
    drop(queue.aadd_task(move || drop(token)));
    assert_eq!((queue.len(), drops.live()), (0, 0));
}

#[test]
fn the_latest_waker_of_a_waiting_add_counts() {
    let _watchdog = watchdog(30);
    let queue = queue(1, 1);
    let (gate, first) = running(&queue);
    let (old, old_wakes) = counting_waker();
    let (new, new_wakes) = counting_waker();
    let mut add = queue.aadd_task(|| ());
    assert!(poll_with(&mut add, &old).is_pending());
    assert!(poll_with(&mut add, &new).is_pending());
    drop(old);
    assert_eq!(Arc::strong_count(&old_wakes), 1, "let go at once");
    gate.open();
    first.wait().unwrap();
    eventually("woken", || new_wakes.count() == 1);
    assert_eq!(old_wakes.count(), 0);
}

#[test]
fn adds_and_handles_are_send_and_static() {
    fn check<T: Send + 'static>(value: T) -> T {
        value
    }
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(1, 1));
    let add = check(queue.aadd_task(|| 1));
    let add_async = check(queue.aadd_task_async(|| async { 2 }));
    let both = std::thread::spawn(move || {
        let one = block_on(add)?;
        let one = one.wait();
        Ok::<_, SubmitError>((one, block_on(add_async)?.wait()))
    });
    let (one, two) = both.join().unwrap().unwrap();
    assert_eq!((one.unwrap(), two.unwrap()), (1, 2));
    block_on(check({
        let queue = queue.clone();
        async move { queue.aclose(Close::Drain).await }
    }));
}

#[test]
fn what_a_job_drops_may_come_back_to_the_queue() {
    let _watchdog = watchdog(30);
    let queue = Arc::new(queue(usize::MAX, 1));
    let (gate, _first) = running(&queue);
    let diary = Diary::new();
    let (remote, inner) = (queue.clone(), diary.clone());
    let last_wish = crate::kit::OnDrop::new(move || {
        assert_eq!(
            remote.len(),
            1,
            "its place is free or still held, but no lock is"
        );
        let note = move || inner.note("added while dropped");
        remote.try_add_task(note).unwrap().detach();
    });
    let holder = Gate::new();
    let kept = (last_wish, holder);
    let second: JoinHandle<()> = queue.try_add_task(move || drop(kept)).unwrap();
    let _ = second.cancel();
    gate.open();
    eventually("the last wish", || diary.len() == 1);
}
