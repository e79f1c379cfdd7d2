//! Row 15: an outcome from one hand to another, without a pool.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use super::{histogram, nanoseconds_each, percentiles};
use crate::{Check, Contender, Effort, Sample, Scenario};

const CONTENDERS: &[&str] = &["portage", "tokio", "futures", "oneshot"];
const PEERS: &[&str] = &["tokio", "futures"];

pub const ONE_THREAD: Scenario = Scenario {
    name: "promise",
    contenders: CONTENDERS,
    enter: on_one_thread,
    checks: &[
        Check::ratio(
            15,
            "promise made, resolved, read on one thread",
            "ns",
            PEERS,
            1.0,
        ),
        Check::ratio(
            15,
            "promise made, polled, resolved, read",
            "polled_ns",
            PEERS,
            1.0,
        ),
    ],
};

pub const TWO_THREADS: Scenario = Scenario {
    name: "promise-threads",
    contenders: CONTENDERS,
    enter: across_threads,
    checks: &[Check::ratio(
        15,
        "promise resolved by another thread",
        "p50_us",
        PEERS,
        1.0,
    )],
};

/// Polls once and expects a value.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it was resolved before"),
    }
}

/// Polls once while nothing is there, resolves, polls again.
fn polled<T>(future: impl Future<Output = T>, resolve: impl FnOnce()) -> T {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    resolve();
    match future.poll(&mut cx) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it was resolved before"),
    }
}

fn on_one_thread(name: &str, effort: Effort) -> Box<dyn Contender> {
    let (straight, in_between): (fn(), fn()) = match name {
        "portage" => (
            || {
                let (promise, handle) = portage::promise();
                let _ = promise.resolve(1_u64);
                assert_eq!(handle.wait().ok(), Some(1));
            },
            || {
                let (promise, handle) = portage::promise();
                let value = polled(handle, || {
                    let _ = promise.resolve(1_u64);
                });
                assert_eq!(value.ok(), Some(1));
            },
        ),
        "tokio" => (
            || {
                let (send, receive) = tokio::sync::oneshot::channel();
                let _ = send.send(1_u64);
                assert_eq!(receive.blocking_recv(), Ok(1));
            },
            || {
                let (send, receive) = tokio::sync::oneshot::channel();
                assert_eq!(
                    polled(receive, || {
                        let _ = send.send(1_u64);
                    }),
                    Ok(1)
                );
            },
        ),
        "futures" => (
            || {
                let (send, receive) = futures::channel::oneshot::channel();
                let _ = send.send(1_u64);
                assert_eq!(ready(receive), Ok(1));
            },
            || {
                let (send, receive) = futures::channel::oneshot::channel();
                assert_eq!(
                    polled(receive, || {
                        let _ = send.send(1_u64);
                    }),
                    Ok(1)
                );
            },
        ),
        "oneshot" => (
            || {
                let (send, receive) = oneshot::channel();
                let _ = send.send(1_u64);
                assert_eq!(receive.recv(), Ok(1));
            },
            || {
                let (send, receive) = oneshot::channel();
                assert_eq!(
                    polled(receive, || {
                        let _ = send.send(1_u64);
                    }),
                    Ok(1)
                );
            },
        ),
        other => panic!("no contender {other}"),
    };
    let count = 200_000 * effort.scale;
    Box::new(move || {
        let ns = nanoseconds_each(count, || (0..count).for_each(|_| straight()));
        let polled = nanoseconds_each(count, || (0..count).for_each(|_| in_between()));
        Sample::of("ns", ns).and("polled_ns", polled)
    })
}

/// Another thread resolves what it is sent; this one waits for each.
fn across_threads(name: &str, effort: Effort) -> Box<dyn Contender> {
    let count = 3_000 * effort.scale;
    match name {
        "portage" => {
            let requests = resolver(|promise: portage::Promise<u64>| {
                let _ = promise.resolve(1);
            });
            trips(count, move || {
                let (promise, handle) = portage::promise();
                let _ = requests.send(promise);
                assert_eq!(handle.wait().ok(), Some(1));
            })
        }
        "tokio" => {
            let requests = resolver(|send: tokio::sync::oneshot::Sender<u64>| {
                let _ = send.send(1);
            });
            trips(count, move || {
                let (send, receive) = tokio::sync::oneshot::channel();
                let _ = requests.send(send);
                assert_eq!(receive.blocking_recv(), Ok(1));
            })
        }
        "futures" => {
            let requests = resolver(|send: futures::channel::oneshot::Sender<u64>| {
                let _ = send.send(1);
            });
            trips(count, move || {
                let (send, receive) = futures::channel::oneshot::channel();
                let _ = requests.send(send);
                assert_eq!(futures::executor::block_on(receive), Ok(1));
            })
        }
        "oneshot" => {
            let requests = resolver(|send: oneshot::Sender<u64>| {
                let _ = send.send(1);
            });
            trips(count, move || {
                let (send, receive) = oneshot::channel();
                let _ = requests.send(send);
                assert_eq!(receive.recv(), Ok(1));
            })
        }
        other => panic!("no contender {other}"),
    }
}

fn resolver<S: Send + 'static>(resolve: fn(S)) -> mpsc::Sender<S> {
    let (requests, received) = mpsc::channel();
    std::thread::spawn(move || received.into_iter().for_each(resolve));
    requests
}

fn trips(count: usize, mut trip: impl FnMut() + 'static) -> Box<dyn Contender> {
    Box::new(move || {
        let mut latencies = histogram();
        for _ in 0..count {
            let start = std::time::Instant::now();
            trip();
            latencies.saturating_record(start.elapsed().as_nanos() as u64);
        }
        percentiles(&latencies)
    })
}
