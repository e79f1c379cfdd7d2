//! Loops, `block_on` and waits inside one another.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use portage::event_loop::running_loop;
use portage::time::sleep;
use portage::{EventLoop, Promise, block_on, promise};

use crate::kit::{guarded, in_time};

#[test]
fn no_run_begins_inside_a_running_loop_of_this_thread() {
    guarded(|| {
        let (event_loop, other) = (EventLoop::new(), EventLoop::new());
        event_loop
            .run_until_complete(async {
                let polled = Cell::new(false);
                let inner = event_loop.run_until_complete(async { polled.set(true) });
                assert!(inner.unwrap_err().is_already_running());
                assert!(other.run_until_stopped().unwrap_err().is_already_running());
                let nested = block_on(async { other.run_until_complete(async {}) });
                assert!(
                    nested.unwrap_err().is_already_running(),
                    "block_on changes nothing"
                );
                assert!(!polled.get());
            })
            .unwrap();
        let inside = block_on(async { other.run_until_complete(async { 1 }) });
        assert_eq!(inside.unwrap(), 1, "block_on itself is no loop");
    });
}

#[test]
fn running_loop_is_none_inside_block_on_at_any_depth() {
    guarded(|| {
        assert!(running_loop().is_none());
        let event_loop = EventLoop::new();
        event_loop
            .run_until_complete(async {
                assert!(running_loop().is_some());
                block_on(async { assert!(running_loop().is_none()) });
                assert!(running_loop().is_some(), "and is there again afterwards");
            })
            .unwrap();
        block_on(async {
            assert!(running_loop().is_none());
            event_loop
                .run_until_complete(async { assert!(running_loop().is_some()) })
                .unwrap();
            assert!(running_loop().is_none());
        });
    });
}

#[test]
fn block_on_nests_three_deep_and_keeps_time() {
    guarded(|| {
        let nap = || sleep(Duration::from_millis(1));
        let depth = block_on(async {
            nap().await;
            1 + block_on(async {
                nap().await;
                1 + block_on(async {
                    nap().await;
                    1
                })
            })
        });
        assert_eq!(depth, 3);
    });
}

/// A token that the inner frame took must not be missed by the outer one.
#[test]
fn a_wake_meant_for_the_outer_frame_survives_an_inner_one() {
    guarded(|| {
        let (to, wakers) = mpsc::channel::<(Waker, mpsc::Sender<()>)>();
        let waking = thread::spawn(move || {
            for (waker, done) in wakers {
                waker.wake();
                done.send(()).unwrap();
            }
        });
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(());
            }
            let (done, woken) = mpsc::channel();
            to.send((cx.waker().clone(), done)).unwrap();
            woken.recv().unwrap();
            // Sleeps once, so that it takes the token that lies there.
            block_on(sleep(Duration::from_millis(2)));
            Poll::Pending
        }));
        drop(to);
        waking.join().unwrap();
    });
}

#[test]
fn an_inner_block_on_keeps_time_for_the_outer_loop() {
    /// Resolves its promise when it is woken.
    struct Bell(Mutex<Option<Promise<()>>>);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            if let Some(rung) = self.0.lock().unwrap().take() {
                rung.resolve(()).unwrap();
            }
        }
    }
    guarded(|| {
        let event_loop = EventLoop::new();
        in_time(|time| {
            let (rung, hear) = promise();
            let done = event_loop.run_until_complete(async {
                let bell = Waker::from(Arc::new(Bell(Mutex::new(Some(rung)))));
                let mut nap = Box::pin(sleep(time));
                let mut cx = Context::from_waker(&bell);
                if nap.as_mut().poll(&mut cx).is_ready() {
                    return false;
                }
                // The timer is the loop's, which stands still until the inner one returns.
                block_on(hear).unwrap();
                assert!(nap.as_mut().poll(&mut cx).is_ready());
                true
            });
            done.unwrap().then_some(())
        });
    });
}

#[test]
fn waiting_on_the_only_thread_that_could_do_it_is_an_error() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let idle = event_loop.handle().spawn(async {});
        assert!(idle.wait().unwrap_err().is_would_deadlock());
        let handle = event_loop.handle();
        let inside = event_loop.run_until_complete(async { handle.spawn(async {}).wait() });
        assert!(inside.unwrap().unwrap_err().is_would_deadlock());
    });
}

/// The destructors of a thread's locals run in an order that nobody chooses; a wait in one of
/// them finds some of what it uses gone.
#[test]
fn block_on_works_while_the_locals_of_its_thread_are_destroyed() {
    struct Late(Cell<Option<mpsc::Sender<u8>>>);
    impl Drop for Late {
        fn drop(&mut self) {
            let (to, from) = promise();
            let other = thread::spawn(move || to.resolve(1).unwrap());
            let sum = block_on(async {
                sleep(Duration::from_millis(1)).await;
                from.await.unwrap() + block_on(async { 1 })
            });
            other.join().unwrap();
            if let Some(done) = self.0.take() {
                done.send(sum).unwrap();
            }
        }
    }
    thread_local! {
        static FIRST: Late = const { Late(Cell::new(None)) };
        static LAST: Late = const { Late(Cell::new(None)) };
    }
    guarded(|| {
        let (to, from) = mpsc::channel();
        thread::spawn(move || {
            FIRST.with(|late| late.0.set(Some(to.clone())));
            block_on(sleep(Duration::from_millis(1)));
            EventLoop::new().run_until_complete(async {}).unwrap();
            LAST.with(|late| late.0.set(Some(to)));
        })
        .join()
        .unwrap();
        assert_eq!(from.iter().collect::<Vec<_>>(), [2, 2]);
    });
}
