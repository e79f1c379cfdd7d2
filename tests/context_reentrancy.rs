//! Code of a user that runs inside calls of `context`: clones, drops, closures, ends of threads.
#![cfg(not(loom))]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll, Waker};
use std::thread;

use portage::{Context, ContextVar, copy_context};

/// A thread of its own, so that each test begins in an empty context and ends one.
fn apart<R: Send>(test: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| match scope.spawn(test).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn panics(f: impl FnOnce()) {
    assert!(
        catch_unwind(AssertUnwindSafe(f)).is_err(),
        "it should have panicked"
    );
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut task::Context::from_waker(Waker::noop()))
}

/// Runs what it is given when it is dropped; a clone shares it.
#[derive(Clone)]
struct OnDrop(#[allow(dead_code, reason = "dropped, not read")] Arc<Act>);

struct Act(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl OnDrop {
    fn new(act: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::new(Act(Mutex::new(Some(Box::new(act))))))
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        let act = self.0.lock().expect("nobody panics in there").take();
        act.into_iter().for_each(|act| act());
    }
}

#[test]
fn the_drop_of_a_value_may_read_and_change_its_own_context() {
    static VAR: ContextVar<OnDrop> = ContextVar::new("var");
    static LOG: ContextVar<Arc<Mutex<Vec<String>>>> = ContextVar::new("log");
    apart(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        LOG.set(log.clone());
        let noisy = |name: &'static str| {
            OnDrop::new(move || {
                let set = VAR.with(|value| value.is_some());
                LOG.with(|log| log.unwrap().lock().unwrap().push(format!("{name} {set}")));
                drop(LOG.scope(Arc::default()));
                Context::current().run(|| LOG.get());
            })
        };
        drop(VAR.set(noisy("replaced")));
        drop(VAR.set(noisy("guarded over")));
        drop(VAR.scope(noisy("guarded")));
        let token = VAR.set(noisy("reset"));
        VAR.reset(token).unwrap();
        let mut copy = copy_context();
        copy.run(|| VAR.set(noisy("in a copy")));
        drop(copy);
        VAR.with(|_| VAR.set(noisy("set while shown")));
        let expected = [
            "replaced true",
            "guarded true",
            "reset true",
            "in a copy true",
            "guarded over true",
        ];
        assert_eq!(*log.lock().unwrap(), expected);
    });
}

#[test]
fn the_clone_of_a_value_may_use_its_own_variable() {
    struct Busy(u8);
    static VAR: ContextVar<Busy> = ContextVar::new("var");
    impl Clone for Busy {
        fn clone(&self) -> Self {
            VAR.with(|value| assert!(value.is_some()));
            VAR.set(Busy(self.0 + 1));
            Context::new().run(|| assert!(VAR.with(|value| value.is_none())));
            Busy(self.0)
        }
    }
    VAR.set(Busy(1));
    assert_eq!(VAR.get().map(|value| value.0), Some(1));
    assert_eq!(VAR.with(|value| value.map(|value| value.0)), Some(2));
    assert_eq!(Context::current().get(&VAR).map(|value| value.0), Some(2));
    assert_eq!(VAR.get_or(Busy(0)).0, 3);
}

#[test]
fn the_closure_of_with_may_do_anything_and_keeps_seeing_what_it_was_shown() {
    static VAR: ContextVar<String> = ContextVar::new("var");
    let token = VAR.set("old".into());
    VAR.with(|value| {
        VAR.set("new".into());
        VAR.reset(token).unwrap();
        let mut inner = Context::new();
        inner.run(|| VAR.set("inner".into()));
        assert_eq!(VAR.get(), None);
        assert_eq!(value.map(String::as_str), Some("old"));
    });
    assert_eq!(VAR.get(), None);
}

#[test]
fn a_default_may_read_other_variables() {
    static BASE: ContextVar<u8> = ContextVar::new("base");
    static NEXT: ContextVar<u8> = ContextVar::with_default("next", || BASE.get_or(0) + 1);
    let _guard = BASE.scope(4);
    assert_eq!(NEXT.get(), Some(5));
    assert_eq!(NEXT.with(|value| value.copied()), Some(5));
}

/// Guards drop during unwinding, where a second panic would abort the process.
#[test]
fn a_panic_of_a_values_destructor_is_contained() {
    static VAR: ContextVar<OnDrop> = ContextVar::new("var");
    let bomb = || OnDrop::new(|| panic!("destructor"));
    panics(|| {
        let _guard = VAR.scope(bomb());
        panic!("unwind");
    });
    let token = VAR.set(bomb());
    VAR.reset(token).unwrap();
    apart(|| drop(VAR.set(bomb())));
    assert!(VAR.with(|value| value.is_none()));
}

/// Both orders: the thread's own context may be gone already or not when the local ends.
#[test]
fn everything_stays_legal_while_the_locals_of_a_thread_end() {
    static VAR: ContextVar<u8> = ContextVar::with_default("var", || 7);
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            let token = VAR.set(1);
            assert!(VAR.get().is_some());
            VAR.reset(token).unwrap();
            drop(VAR.scope(2));
            let mut context = Context::current();
            context.run(|| drop(VAR.set(3)));
            let mut future = pin!(copy_context().attach(async { VAR.get_or(4) }));
            assert!(poll(future.as_mut()).is_ready());
            ENDED.fetch_add(1, Ordering::Relaxed);
        }
    }
    thread_local! {
        static LAST: Last = const { Last };
    }
    apart(|| {
        LAST.with(|_| {});
        VAR.set(0);
    });
    apart(|| {
        VAR.set(0);
        LAST.with(|_| {});
    });
    assert_eq!(ENDED.load(Ordering::Relaxed), 2);
}

#[test]
fn a_value_dropped_at_the_end_of_its_thread_may_read_its_variable() {
    static VAR: ContextVar<OnDrop> = ContextVar::new("var");
    let dropped = Arc::new(AtomicUsize::new(0));
    apart(|| {
        let dropped = dropped.clone();
        VAR.set(OnDrop::new(move || {
            assert!(VAR.with(|value| value.is_none()));
            dropped.fetch_add(1, Ordering::Relaxed);
        }));
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}
