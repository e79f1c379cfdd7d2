//! `wrap_async_iterable`: a stream as an iterator for blocking code.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use portage::executors::{AsyncExecutor, AsyncExecutorExt};
use portage::time::{Sleep, sleep};

use super::{background, each};
use crate::kit::{self, Diary, Drops, Gate, OnDrop, OpenAtEnd, watchdog};

/// Counts up; sleeps a little before every third item; can end badly.
struct Numbers {
    next: u32,
    end: u32,
    panics_at: Option<u32>,
    nap: Option<Pin<Box<Sleep>>>,
    polls: Diary<std::thread::ThreadId>,
    given: Diary<u32>,
    _token: kit::Token,
    _bell: Box<dyn Send>,
}

struct Watch {
    drops: Drops,
    polls: Diary<std::thread::ThreadId>,
    given: Diary<u32>,
    dropped_on: Diary<std::thread::ThreadId>,
}

fn numbers(end: u32) -> (Numbers, Watch) {
    let watch = Watch {
        drops: Drops::new(),
        polls: Diary::new(),
        given: Diary::new(),
        dropped_on: Diary::new(),
    };
    let dropped_on = watch.dropped_on.clone();
    let bell = OnDrop::new(move || dropped_on.note(std::thread::current().id()));
    let stream = Numbers {
        next: 0,
        end,
        panics_at: None,
        nap: None,
        polls: watch.polls.clone(),
        given: watch.given.clone(),
        _token: watch.drops.token(),
        _bell: Box::new(bell),
    };
    (stream, watch)
}

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        self.polls.note(std::thread::current().id());
        if self.next == self.end {
            return Poll::Ready(None);
        }
        if self.next % 3 == 2 {
            let nap = self
                .nap
                .get_or_insert_with(|| Box::pin(sleep(Duration::from_micros(200))));
            if nap.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.nap = None;
        }
        assert!(self.panics_at != Some(self.next), "as planned");
        let number = self.next;
        self.next += 1;
        self.given.note(number);
        Poll::Ready(Some(number))
    }
}

#[test]
fn items_come_in_order_and_then_the_end() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        for prefetch in [None, Some(0), Some(1), Some(5), Some(usize::MAX)] {
            let (stream, watch) = numbers(20);
            let mut items = executor.wrap_async_iterable(stream);
            if let Some(prefetch) = prefetch {
                items = items.prefetch(prefetch);
            }
            for number in 0..20 {
                let item = items.next().expect("one more");
                assert_eq!(item.expect("an item"), number, "{kind} {prefetch:?}");
            }
            assert!(items.next().is_none());
            assert!(items.next().is_none(), "it stays at its end");
            kit::eventually("the drop of the stream", || watch.drops.live() == 0);
        }
        let (empty, _) = numbers(0);
        assert!(executor.wrap_async_iterable(empty).next().is_none());
    }
}

#[test]
fn it_starts_with_its_first_next() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let (stream, watch) = numbers(5);
        let items = executor.wrap_async_iterable(stream);
        executor.run(async {}).expect("a value");
        assert_eq!(watch.polls.len(), 0, "{kind}");
        drop(items);
        kit::eventually("the drop of the stream", || watch.drops.live() == 0);
        assert_eq!(watch.polls.len(), 0, "{kind}");
    }
}

#[test]
fn at_most_n_items_wait() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        for prefetch in [0u32, 1, 3] {
            let (stream, watch) = numbers(1000);
            let mut items = executor
                .wrap_async_iterable(stream)
                .prefetch(prefetch as usize);
            for taken in 1..10 {
                items.next().expect("one more").expect("an item");
                // one more may be on its way while n wait
                let most = taken + prefetch as usize + 1;
                let too_many = kit::within(Duration::from_millis(2), || watch.given.len() > most);
                assert!(!too_many, "{kind} {prefetch}: {}", watch.given.len());
            }
        }
    }
}

#[test]
fn all_steps_run_in_one_task() {
    let _watch = watchdog(20);
    let executor = super::loops(3);
    let (stream, watch) = numbers(30);
    assert_eq!(executor.wrap_async_iterable(stream).count(), 30);
    let threads: BTreeSet<_> = watch
        .polls
        .read()
        .iter()
        .map(|thread| format!("{thread:?}"))
        .collect();
    assert_eq!(threads.len(), 1);
}

#[test]
fn an_early_drop_drops_the_stream_on_its_loop() {
    let _watch = watchdog(20);
    for (kind, executor) in each().into_iter().take(2) {
        let (stream, watch) = numbers(1000);
        let mut items = executor.wrap_async_iterable(stream);
        items.next().expect("one more").expect("an item");
        drop(items);
        kit::eventually("the drop of the stream", || watch.dropped_on.len() > 0);
        assert_eq!(watch.dropped_on.read(), [watch.polls.read()[0]], "{kind}");
        assert!(watch.given.len() < 1000);
    }
}

#[test]
fn a_drop_before_the_driver_was_polled_drops_the_stream_on_its_loop_too() {
    let _watch = watchdog(20);
    let executors: [Arc<dyn AsyncExecutor>; 3] = [
        Arc::new(background()),
        Arc::new(super::loops(1)),
        Arc::new(super::pool_of(1)),
    ];
    for executor in executors {
        let gate = Gate::new();
        let _open = OpenAtEnd(gate.clone());
        let busy = gate.clone();
        let held = executor.submit(async move { busy.pass() });
        gate.wait_entered(1);
        let (stream, watch) = numbers(1);
        drop(executor.wrap_async_iterable(stream));
        assert_eq!(watch.dropped_on.len(), 0, "its thread is not free yet");
        gate.open();
        held.wait().expect("no panic");
        kit::eventually("the drop of the stream", || watch.dropped_on.len() > 0);
        let here = executor.run(async { std::thread::current().id() });
        assert_eq!(watch.dropped_on.read(), [here.expect("a value")]);
        assert_eq!(watch.polls.len(), 0);
    }
}

#[test]
fn a_panic_of_the_stream_is_one_error_and_then_the_end() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let (mut stream, watch) = numbers(10);
        stream.panics_at = Some(4);
        let mut items = executor.wrap_async_iterable(stream);
        for number in 0..4 {
            let item = items.next().expect("one more");
            assert_eq!(item.expect("an item"), number, "{kind}");
        }
        let error = items.next().expect("the panic").expect_err("the panic");
        assert!(error.is_panic(), "{kind}");
        assert!(items.next().is_none() && items.next().is_none(), "{kind}");
        kit::eventually("the drop of the stream", || watch.drops.live() == 0);
    }
}

#[test]
fn a_stream_cut_off_by_a_shutdown_gives_one_error_and_then_ends() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        let (stream, watch) = numbers(u32::MAX);
        let mut items = executor.wrap_async_iterable(stream).prefetch(2);
        items.next().expect("one more").expect("an item");
        executor.shutdown(true);
        let mut errors = 0;
        for item in items.by_ref().take(10) {
            match item {
                Ok(_) => assert_eq!(errors, 0, "{kind}: an item after the error"),
                Err(error) => {
                    assert!(!error.is_panic(), "{kind}: {error}");
                    errors += 1;
                }
            }
        }
        assert_eq!(errors, 1, "{kind}");
        assert!(items.next().is_none(), "{kind}");
        kit::eventually("the drop of the stream", || watch.drops.live() == 0);
    }
}

#[test]
fn a_stream_on_an_executor_that_is_shut_down_gives_one_error() {
    let _watch = watchdog(20);
    for (kind, executor) in each() {
        executor.shutdown(true);
        let (stream, watch) = numbers(5);
        let mut items = executor.wrap_async_iterable(stream);
        let error = items.next().expect("an error").expect_err("refused");
        assert!(error.is_shut_down(), "{kind}");
        assert!(items.next().is_none(), "{kind}");
        drop(items);
        assert_eq!(watch.drops.live(), 0, "{kind}");
    }
}

#[test]
fn consumed_on_the_only_thread_that_could_do_the_work_it_is_an_error() {
    let _watch = watchdog(20);
    let executor = Arc::new(background());
    let inner = executor.clone();
    let answer = executor.submit(async move {
        let (stream, _) = numbers(5);
        let mut items = inner.wrap_async_iterable(stream);
        let error = items.next().expect("an error").expect_err("never");
        (error.is_would_deadlock(), items.next().is_none())
    });
    assert_eq!(answer.wait().expect("a value"), (true, true));
}

/// scraipe places every step anew: under other load the steps hop between loops.
#[test]
fn steps_stay_on_their_loop_when_the_loads_change_between_them() {
    let _watch = watchdog(20);
    let executor = super::loops(3);
    let (stream, watch) = numbers(30);
    let mut others = Vec::new();
    for item in executor.wrap_async_iterable(stream).prefetch(0) {
        item.expect("an item");
        others.push(executor.submit(sleep(Duration::MAX)));
    }
    let mut threads = watch.polls.read();
    threads.dedup();
    assert_eq!((others.len(), threads.len()), (30, 1));
}

#[test]
fn on_the_only_worker_of_its_pool_it_is_an_error_too() {
    let _watch = watchdog(20);
    let pool = super::pool_of(1);
    let inner = pool.clone();
    let answer = pool.spawn_blocking(move || {
        let (stream, _) = numbers(5);
        let mut items = inner.wrap_async_iterable(stream);
        let error = items.next().expect("an error").expect_err("never");
        (error.is_would_deadlock(), items.next().is_none())
    });
    assert_eq!(answer.wait().expect("a value"), (true, true));
}

#[test]
fn workers_that_all_iterate_over_streams_of_their_own_pool_make_the_items() {
    let _watch = watchdog(30);
    let pool = super::pool_of(2);
    let gate = Gate::new();
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            let (inner, at) = (pool.clone(), gate.clone());
            pool.spawn_blocking(move || {
                at.pass();
                let (stream, _) = numbers(20);
                inner
                    .wrap_async_iterable(stream)
                    .map(|item| item.expect("an item"))
                    .sum::<u32>()
            })
        })
        .collect();
    gate.wait_entered(2);
    gate.open();
    for consumer in consumers {
        assert_eq!(consumer.wait().expect("a value"), 190);
    }
}
