//! What is left when a loop closes, is dropped, or loses its thread; what is cancelled.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use futures_task::Spawn;
use portage::event_loop::{LoopState, ensure_thread_event_loop, with_thread_event_loop};
use portage::promise::Cancel;
use portage::time::{sleep, yield_now};
use portage::{EventLoop, Executor, ExecutorExt, Job, JoinHandle, promise};

use crate::OnDrop;
use crate::kit::guarded;

#[test]
fn a_closed_loop_refuses_at_once() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let handle = event_loop.handle();
        event_loop.close();
        event_loop.close();
        assert_eq!(handle.state(), LoopState::Closed);
        let made = Arc::new(AtomicBool::new(false));
        let seen = made.clone();
        for task in [
            handle.spawn(async {}),
            handle.spawn_with(move || {
                seen.store(true, Ordering::Relaxed);
                async {}
            }),
            event_loop.spawn_local(async {}),
        ] {
            assert!(task.wait().unwrap_err().is_shut_down());
        }
        assert!(!made.load(Ordering::Relaxed));
        assert!(
            handle
                .spawn_obj(Box::pin(async {}).into())
                .unwrap_err()
                .is_shutdown()
        );
        assert!(handle.status().is_err());
        let (job, value) = Job::new(|| 7);
        let refused = handle.execute(job).unwrap_err();
        assert!(refused.is_shut_down());
        refused.into_job().unwrap().run();
        assert_eq!(
            value.wait().unwrap(),
            7,
            "the job came back and is as good as new"
        );
        assert_eq!(handle.pending(), 0);
        assert!(
            event_loop
                .run_until_complete(async {})
                .unwrap_err()
                .is_closed()
        );
        assert!(event_loop.run_until_stopped().unwrap_err().is_closed());
    });
}

#[test]
fn a_close_from_inside_acts_when_the_run_ends() {
    guarded(|| {
        let event_loop = Rc::new(EventLoop::new());
        let (inner, handle) = (event_loop.clone(), event_loop.handle());
        let left = event_loop.spawn_local(sleep(Duration::MAX));
        event_loop
            .run_until_complete(async move {
                inner.close();
                assert_eq!(handle.state(), LoopState::Running);
                let still = inner.spawn_local(async { 1 });
                assert_eq!(still.await.unwrap(), 1);
            })
            .unwrap();
        assert_eq!(event_loop.handle().state(), LoopState::Closed);
        assert!(left.wait().unwrap_err().is_cancelled());
    });
}

/// Queued, suspended, woken, not yet created, and jobs: all of them end at the close.
#[test]
fn a_dropped_loop_cancels_what_is_left_and_drops_it_on_its_thread() {
    guarded(|| {
        let dropped = Arc::new(Mutex::new(Vec::<(u32, ThreadId)>::new()));
        let witness = |n: u32| {
            let dropped = dropped.clone();
            OnDrop(move || dropped.lock().unwrap().push((n, thread::current().id())))
        };
        let event_loop = EventLoop::new();
        let handle = event_loop.handle();
        let woken: Rc<RefCell<Option<Waker>>> = Rc::default();
        let (suspended, asleep, wakes) = (witness(0), witness(1), witness(2));
        let slot = woken.clone();
        let mut tasks = vec![
            event_loop.spawn_local(async move {
                let _kept = (suspended, Rc::new(()));
                pending::<()>().await;
            }),
            handle.spawn(async move {
                let _kept = asleep;
                sleep(Duration::MAX).await;
            }),
            event_loop.spawn_local(poll_fn(move |cx| {
                let _kept = &wakes;
                *slot.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })),
        ];
        // `pending` keeps no waker: that one is lost at once, and said so.
        event_loop.run_until_complete(yield_now()).unwrap();
        woken.borrow().as_ref().unwrap().wake_by_ref();
        let (queued, create, job) = (witness(3), witness(4), witness(5));
        tasks.push(event_loop.spawn_local(async move { drop(queued) }));
        tasks.push(handle.spawn_with(move || async move { drop(create) }));
        tasks.push(handle.submit(move || drop(job)).unwrap());
        assert_eq!(handle.pending(), 4, "the job is no task");
        drop(event_loop);
        let mut ends = tasks.into_iter().map(|task| task.wait().unwrap_err());
        assert!(ends.next().unwrap().is_lost());
        assert!(ends.all(|end| end.is_cancelled()));
        assert_eq!(handle.pending(), 0);
        let mut dropped = dropped.lock().unwrap().clone();
        dropped.sort_by_key(|(n, _)| *n);
        let here = thread::current().id();
        assert_eq!(dropped, (0..6).map(|n| (n, here)).collect::<Vec<_>>());
        woken.borrow().as_ref().unwrap().wake_by_ref();
    });
}

#[test]
fn what_destructors_submit_during_a_close_is_refused() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let refused = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..3 {
            let (handle, refused) = (event_loop.handle(), refused.clone());
            let again = OnDrop(move || {
                let late = handle.spawn(async {});
                refused.borrow_mut().push(late);
                assert!(handle.submit(|| ()).unwrap_err().is_shut_down());
            });
            event_loop
                .spawn_local(async move {
                    let _again = again;
                    sleep(Duration::MAX).await;
                })
                .detach();
        }
        event_loop.run_until_complete(yield_now()).unwrap();
        event_loop.close();
        let refused = refused.take();
        assert_eq!(refused.len(), 3);
        for late in refused {
            assert!(late.wait().unwrap_err().is_shut_down());
        }
    });
}

#[test]
fn the_threads_own_loop_is_closed_when_the_thread_ends() {
    guarded(|| {
        let (handle, task) = thread::spawn(|| {
            let handle = ensure_thread_event_loop();
            let task = handle.spawn(async {
                sleep(Duration::MAX).await;
            });
            with_thread_event_loop(|own| own.run_until_complete(yield_now())).unwrap();
            (handle, task)
        })
        .join()
        .unwrap();
        assert_eq!(handle.state(), LoopState::Closed);
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_closed_own_loop_is_made_again() {
    guarded(|| {
        let first = ensure_thread_event_loop();
        with_thread_event_loop(EventLoop::close);
        assert_eq!(first.state(), LoopState::Closed);
        let task = ensure_thread_event_loop().spawn(async { 9 });
        let value = with_thread_event_loop(|own| own.run_until_complete(task));
        assert_eq!(value.unwrap().unwrap(), 9);
    });
}

#[test]
fn destructors_at_the_end_of_the_thread_may_ask_for_its_loop() {
    guarded(|| {
        thread::spawn(|| {
            let task = OnDrop(|| {
                let late = ensure_thread_event_loop();
                let late = late.spawn(async {});
                drop(late);
                with_thread_event_loop(|own| own.run_until_complete(async {})).unwrap();
            });
            ensure_thread_event_loop()
                .spawn_with(move || async move {
                    let _task = task;
                })
                .detach();
        })
        .join()
        .unwrap();
    });
}

#[test]
fn a_local_task_cancelled_from_afar_resolves_at_once_and_is_dropped_at_home() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let dropped_on = Rc::new(Cell::new(None));
        let witness = dropped_on.clone();
        let witness = OnDrop(move || witness.set(Some(thread::current().id())));
        let task: JoinHandle<()> = event_loop.spawn_local(async move { drop(witness) });
        let canceller = task.cancel_handle();
        thread::spawn(move || assert_eq!(canceller.cancel(), Cancel::Prevented))
            .join()
            .unwrap();
        assert!(task.is_finished());
        assert_eq!(dropped_on.get(), None);
        event_loop.run_until_complete(yield_now()).unwrap();
        assert_eq!(dropped_on.get(), Some(thread::current().id()));
        assert!(task.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_suspended_task_cancelled_from_afar_is_dropped_at_home() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let dropped_on = Rc::new(Cell::new(None));
        let witness = dropped_on.clone();
        let task = event_loop.spawn_local(async move {
            let _witness = OnDrop(move || witness.set(Some(thread::current().id())));
            sleep(Duration::MAX).await;
        });
        event_loop.run_until_complete(yield_now()).unwrap();
        let canceller = task.cancel_handle();
        thread::spawn(move || assert_eq!(canceller.cancel(), Cancel::Requested))
            .join()
            .unwrap();
        assert!(
            event_loop
                .run_until_complete(task)
                .unwrap()
                .unwrap_err()
                .is_cancelled()
        );
        assert_eq!(dropped_on.get(), Some(thread::current().id()));
    });
}

#[test]
fn a_waker_may_fire_long_after_the_loop_is_gone() {
    guarded(|| {
        let event_loop = EventLoop::new();
        let slot = Arc::new(Mutex::new(None));
        let theirs = slot.clone();
        let task = event_loop
            .handle()
            .spawn(poll_fn(move |cx: &mut Context<'_>| {
                *theirs.lock().unwrap() = Some(cx.waker().clone());
                Poll::<()>::Pending
            }));
        event_loop.run_until_complete(yield_now()).unwrap();
        drop(event_loop);
        assert!(task.wait().unwrap_err().is_cancelled());
        let waker: Waker = slot.lock().unwrap().take().unwrap();
        thread::spawn(move || {
            waker.wake_by_ref();
            waker.wake();
        })
        .join()
        .unwrap();
    });
}

#[test]
fn submissions_that_race_the_close_all_resolve() {
    guarded(|| {
        for _ in 0..if cfg!(miri) { 3 } else { 200 } {
            let event_loop = EventLoop::new();
            let handle = event_loop.handle();
            let (ready, go) = mpsc::channel();
            let submitter = thread::spawn(move || {
                ready.send(()).unwrap();
                let tasks: Vec<_> = (0..20)
                    .map(|n| match n % 3 {
                        0 => handle.spawn(async {}),
                        1 => handle.spawn_with(|| async {}),
                        _ => match handle.submit(|| ()) {
                            Ok(job) => job,
                            Err(refused) => {
                                assert!(refused.is_shut_down());
                                handle.spawn(async {})
                            }
                        },
                    })
                    .collect();
                for task in tasks {
                    let end = task.wait().unwrap_err();
                    assert!(end.is_cancelled() || end.is_shut_down());
                }
                assert_eq!(handle.pending(), 0);
            });
            go.recv().unwrap();
            drop(event_loop);
            submitter.join().unwrap();
        }
    });
}

/// Leaked, or held by a task of its own: nobody can drop such a loop.
#[test]
fn a_loop_that_nobody_drops_is_closed_when_its_thread_ends() {
    guarded(|| {
        let ends = thread::spawn(|| {
            let leaked = EventLoop::new();
            let first = leaked.handle().spawn(sleep(Duration::MAX));
            leaked.run_until_complete(yield_now()).unwrap();
            std::mem::forget(leaked);
            let circle = Rc::new(EventLoop::new());
            let inner = circle.clone();
            circle
                .spawn_local(async move {
                    sleep(Duration::MAX).await;
                    drop(inner);
                })
                .detach();
            let second = circle.handle().spawn(async {});
            (first, second)
        });
        let (first, second) = ends.join().unwrap();
        assert!(first.wait().unwrap_err().is_cancelled());
        assert!(second.wait().unwrap_err().is_cancelled());
    });
}

/// Tasks that are woken, resolved and cancelled by two other threads while their loop runs and
/// then closes: every handle resolves, and every future is dropped once, on the loop's thread.
#[test]
fn wakes_and_cancels_that_race_the_close_leave_nothing_behind() {
    guarded(|| {
        for round in 0..if cfg!(miri) { 2 } else { 150 } {
            let event_loop = EventLoop::new();
            let (here, dropped) = (thread::current().id(), Arc::new(Mutex::new(0)));
            let tasks = 30;
            let (mut ends, mut writers) = (Vec::new(), Vec::new());
            for n in 0..tasks {
                let (writer, reader) = promise::<usize>();
                let dropped = dropped.clone();
                let witness = OnDrop(move || {
                    assert_eq!(thread::current().id(), here);
                    *dropped.lock().unwrap() += 1;
                });
                let create = move || async move {
                    let _stays = (Rc::new(()), witness);
                    if n % 2 == 0 {
                        sleep(Duration::from_micros(n as u64)).await;
                    }
                    reader.await.unwrap()
                };
                ends.push(if n % 3 == 0 {
                    event_loop.spawn_local(create())
                } else {
                    event_loop.handle().spawn_with(create)
                });
                writers.push((n, writer));
            }
            let cancels: Vec<_> = ends
                .iter()
                .skip(1)
                .step_by(4)
                .map(JoinHandle::cancel_handle)
                .collect();
            let (go, ready) = mpsc::channel::<()>();
            let resolving = thread::spawn(move || {
                ready.recv().unwrap();
                for (n, writer) in writers {
                    let _ = writer.resolve(n);
                }
            });
            let (go_too, ready) = mpsc::channel::<()>();
            let cancelling = thread::spawn(move || {
                ready.recv().unwrap();
                for cancel in cancels {
                    cancel.cancel();
                }
            });
            event_loop
                .run_until_complete(async {
                    for _ in 0..round % 3 {
                        yield_now().await;
                    }
                    go.send(()).unwrap();
                    go_too.send(()).unwrap();
                    for _ in 0..round % 5 {
                        yield_now().await;
                    }
                })
                .unwrap();
            drop(event_loop);
            for (n, end) in ends.into_iter().enumerate() {
                match end.wait() {
                    Ok(value) => assert_eq!(value, n),
                    Err(end) => assert!(end.is_cancelled() || end.is_lost(), "{end}"),
                }
            }
            resolving.join().unwrap();
            cancelling.join().unwrap();
            assert_eq!(*dropped.lock().unwrap(), tasks);
        }
    });
}
