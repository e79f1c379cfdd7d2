//! A task on somebody else's executor: one future in its hands stands for it.
//!
//! [`Spawn`](futures_task::Spawn) takes a future and gives nothing back. So it gets a [`Carrier`],
//! whose polls run the task whenever that is queued. The task itself is a cell as everywhere, with
//! its handle, its context, and its cancel at any moment.
//!
//! # State, behind one lock
//!
//! | the task is        | `task` | `waker`               | the next poll of the carrier |
//! |--------------------|--------|-----------------------|------------------------------|
//! | queued             | `Some` | gone: it was called   | runs it                      |
//! | running, suspended | `None` | that of the last poll | finds nothing to do          |
//! | ended              | any    | gone: it was called   | is the last                  |
//!
//! # Invariants
//!
//! 1. Who queues the task, or ends it, takes the waker along and calls it. A poll leaves its waker
//!    before it looks whether the task has ended, and a task that it has taken is queued by nobody
//!    else. So nothing comes while the carrier sleeps unheard.
//! 2. Nothing is queued once the carrier is `left`: what comes then, and what is there, is shut
//!    down.
//!
//! No user code runs under the lock. The lock orders everything.

#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Cx, Poll, Waker};

use futures_task::FutureObj;

use super::AsyncExecutor;
use crate::base::contain::{contain, contained_drop, discard};
use crate::base::sync::{Arc, Mutex};
use crate::promise::JoinHandle;
use crate::spawn;
use crate::task::{Ended, Hold, Home, Schedule, TaskRef, WakeKind};

/// Hands `future` to the executor; refused, the handle says that it is shut down.
#[track_caller]
pub(super) fn submit<E, F>(executor: &E, future: F) -> JoinHandle<F::Output>
where
    E: AsyncExecutor + ?Sized,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let seat = Arc::new(Seat::default());
    let (task, handle) = spawn::future(seat.clone(), future);
    let carrier = Carrier::new(seat, task);
    // A refusal drops the carrier.
    let _ = executor.spawn_obj(FutureObj::new(Box::new(carrier)));
    handle
}

/// What the task knows of its carrier.
#[derive(Default)]
struct Seat(Mutex<State>);

#[derive(Default)]
struct State {
    task: Option<TaskRef>,
    waker: Option<Waker>,
    ended: bool,
    /// The carrier was dropped.
    left: bool,
}

/// The future that the executor drives.
struct Carrier {
    seat: Arc<Seat>,
    hold: Hold,
}

impl Carrier {
    fn new(seat: Arc<Seat>, task: TaskRef) -> Self {
        let hold = task.hold();
        seat.0.lock().task = Some(task);
        Self { seat, hold }
    }
}

impl Future for Carrier {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let (task, old) = {
            let mut state = self.seat.0.lock();
            (state.task.take(), state.waker.replace(waker))
        };
        contained_drop(old);
        if let Some(task) = task {
            task.run();
        }
        let waker = {
            let mut state = self.seat.0.lock();
            if !state.ended {
                return Poll::Pending;
            }
            state.waker.take()
        };
        contained_drop(waker);
        Poll::Ready(())
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let (task, waker) = {
            let mut state = self.seat.0.lock();
            state.left = true;
            (state.task.take(), state.waker.take())
        };
        contained_drop(waker);
        match task {
            Some(task) => task.shut_down(),
            // No effect on one that has ended.
            None => self.hold.shut_down(),
        }
    }
}

impl Seat {
    /// Changes the state, and calls the carrier to look at it.
    fn call(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.0.lock();
            change(&mut state);
            state.waker.take()
        };
        if let Some(Err(payload)) = waker.map(|waker| contain(|| waker.wake())) {
            discard(payload);
        }
    }
}

impl Schedule for Seat {
    fn schedule(&self, task: TaskRef, _: WakeKind) {
        let mut task = Some(task);
        self.call(|state| {
            if !state.left {
                state.task = task.take();
            }
        });
        if let Some(late) = task {
            late.shut_down();
        }
    }

    fn home(&self) -> Home {
        Home::Anywhere
    }

    fn ended(&self, _: Ended) {
        self.call(|state| state.ended = true);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Carrier, Seat};
    use crate::base::park::Parker;
    use crate::base::sync::{Arc, thread};
    use crate::promise::JoinHandle;
    use crate::spawn;
    use std::future::{Future, poll_fn};
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// What another thread does with the task while the carrier is polled.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Woken,
        Cancelled,
        Lost,
    }

    /// Question: can the carrier sleep over a wake of its task, or over its end?
    /// Bound: a wake, a cancel or a loss, against two polls; two preemptions.
    ///
    /// Must fail when: a wake does not call the carrier.
    #[test]
    fn loom_carrier_the_fate_of_its_task_races_its_polls() {
        for fate in [Fate::Woken, Fate::Cancelled, Fate::Lost] {
            check(move || {
                let (give, take) = loom::sync::mpsc::channel::<Waker>();
                let mut give = Some(give);
                let work = poll_fn(move |cx| match give.take() {
                    Some(give) => {
                        give.send(cx.waker().clone()).expect("it is received");
                        Poll::Pending
                    }
                    None => Poll::Ready(()),
                });
                let (mut carrier, handle) = carried(work);
                let parker = Parker::new();
                let own = Waker::from(parker.unparker().clone());
                assert!(poll(&mut carrier, &own).is_pending());
                let waker = take.recv().expect("it was polled");
                let cancel = handle.cancel_handle();
                let remote = thread::spawn(move || match fate {
                    Fate::Woken => waker.wake(),
                    Fate::Cancelled => drop(cancel.cancel()),
                    Fate::Lost => drop(waker),
                });
                while poll(&mut carrier, &own).is_pending() {
                    parker.park();
                }
                remote.join().unwrap();
                assert_eq!(handle.wait().is_ok(), fate == Fate::Woken);
            });
        }
    }

    /// Question: the same for a cancel that comes with the first poll, and ends the task while the
    /// carrier has it in hand.
    /// Bound: one cancel, two polls; two preemptions.
    ///
    /// Must fail when: an end does not call the carrier; a poll leaves its waker after it has
    /// looked for the end.
    #[test]
    fn loom_carrier_a_cancel_races_its_first_poll() {
        check(|| {
            let (mut carrier, handle) = carried(std::future::pending::<()>());
            let cancel = handle.cancel_handle();
            let remote = thread::spawn(move || cancel.cancel());
            let parker = Parker::new();
            let waker = Waker::from(parker.unparker().clone());
            while poll(&mut carrier, &waker).is_pending() {
                parker.park();
            }
            remote.join().unwrap();
            assert!(handle.wait().is_err());
        });
    }

    fn check(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(2));
        builder.check(model);
    }

    fn carried<F>(work: F) -> (Carrier, JoinHandle<F::Output>)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let seat = Arc::new(Seat::default());
        let (task, handle) = spawn::future(seat.clone(), work);
        (Carrier::new(seat, task), handle)
    }

    fn poll(carrier: &mut Carrier, waker: &Waker) -> Poll<()> {
        Pin::new(carrier).poll(&mut Context::from_waker(waker))
    }
}
