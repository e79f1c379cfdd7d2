//! What a user of `context` may rely on.
#![cfg(not(loom))]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{self, Poll, Waker};
use std::thread;

use portage::context::{InContext, ResetError, ScopeGuard, Token};
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

/// Pending once.
fn pause() -> impl Future<Output = ()> + Send {
    let mut first = true;
    std::future::poll_fn(move |_| {
        if std::mem::replace(&mut first, false) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
}

// ------------------------------------------------------------------------ variables

#[test]
fn a_variable_reads_as_its_value_else_its_default_else_nothing() {
    static PLAIN: ContextVar<u8> = ContextVar::new("plain");
    static SEVEN: ContextVar<u8> = ContextVar::with_default("seven", || 7);
    assert_eq!((PLAIN.get(), SEVEN.get()), (None, Some(7)));
    let _guards = (PLAIN.scope(1), SEVEN.scope(2));
    assert_eq!((PLAIN.get(), SEVEN.get()), (Some(1), Some(2)));
    assert_eq!((PLAIN.name(), SEVEN.name()), ("plain", "seven"));
}

#[test]
fn the_default_of_get_or_beats_the_default_of_the_variable() {
    static SEVEN: ContextVar<u8> = ContextVar::with_default("seven", || 7);
    assert_eq!(SEVEN.get_or(9), 9);
    let _guard = SEVEN.scope(1);
    assert_eq!(SEVEN.get_or(9), 1);
}

#[test]
fn with_shows_the_value_itself_and_the_default_counts() {
    #[derive(Debug, PartialEq)]
    struct NoClone(u8);
    impl Clone for NoClone {
        fn clone(&self) -> Self {
            panic!("cloned")
        }
    }
    static VAR: ContextVar<NoClone> = ContextVar::with_default("var", || NoClone(1));
    assert!(VAR.with(|value| value == Some(&NoClone(1))));
    let _guard = VAR.scope(NoClone(2));
    assert!(VAR.with(|value| value == Some(&NoClone(2))));
    static NONE: ContextVar<u8> = ContextVar::new("none");
    assert!(NONE.with(|value| value.is_none()));
}

#[test]
fn variables_of_one_name_have_nothing_in_common() {
    let (one, two) = (ContextVar::<u8>::new("same"), ContextVar::<u8>::new("same"));
    let token = one.set(1);
    assert_eq!((one.get(), two.get()), (Some(1), None));
    assert!(two.reset(token).unwrap_err().is_different_variable());
}

#[test]
fn moving_a_variable_keeps_its_values_and_tokens() {
    let here = ContextVar::new("mover");
    let token = here.set(1);
    let there = Box::new(here);
    assert_eq!(there.get(), Some(1));
    let elsewhere = thread::spawn(move || *there).join().unwrap();
    assert_eq!(elsewhere.get(), Some(1));
    elsewhere.reset(token).unwrap();
    assert_eq!(elsewhere.get(), None);
}

/// What stands where a variable stood is another variable: the address means nothing.
#[test]
fn another_variable_at_the_same_address_is_another_variable() {
    let mut place = ContextVar::new("first");
    place.set(1);
    place = ContextVar::new("second");
    assert_eq!(place.get(), None);
}

#[test]
fn threads_that_set_a_fresh_variable_at_once_agree_on_what_it_is() {
    for _ in 0..if cfg!(miri) { 3 } else { 200 } {
        let (var, start) = (ContextVar::new("fresh"), Barrier::new(4));
        let contexts = thread::scope(|scope| {
            let setters = [0, 1, 2, 3].map(|n| {
                let (var, start) = (&var, &start);
                scope.spawn(move || {
                    start.wait();
                    var.set(n);
                    Context::current()
                })
            });
            setters.map(|setter| setter.join().unwrap())
        });
        for (n, context) in (0..).zip(contexts) {
            assert_eq!(context.get(&var), Some(n));
        }
    }
}

// --------------------------------------------------------------------------- tokens

#[test]
fn a_token_knows_the_replaced_value_and_its_variable() {
    static VAR: ContextVar<String> = ContextVar::with_default("var", || "default".into());
    let first = VAR.set("one".into());
    assert_eq!((first.var_name(), first.old_value()), ("var", None));
    let second = VAR.set("two".into());
    assert_eq!(second.old_value().map(String::as_str), Some("one"));
}

#[test]
fn reset_restores_what_set_replaced_or_unsets() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let first = VAR.set(1);
    let second = VAR.set(2);
    VAR.reset(second).unwrap();
    assert_eq!(VAR.get(), Some(1));
    VAR.reset(first).unwrap();
    assert_eq!(VAR.get(), None);
    assert!(!Context::current().contains(&VAR));
}

#[test]
fn resets_out_of_order_each_restore_their_own_old_value() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let (first, second, third) = (VAR.set(1), VAR.set(2), VAR.set(3));
    VAR.reset(first).unwrap();
    assert_eq!(VAR.get(), None);
    VAR.reset(third).unwrap();
    assert_eq!(VAR.get(), Some(2));
    VAR.reset(second).unwrap();
    assert_eq!(VAR.get(), Some(1));
}

#[test]
fn a_token_of_another_variable_is_refused_and_stays_good() {
    static ONE: ContextVar<u8> = ContextVar::new("one");
    static TWO: ContextVar<u8> = ContextVar::new("two");
    ONE.set(1);
    let token = ONE.set(11);
    TWO.set(2);
    let error = TWO.reset(token).unwrap_err();
    assert!(error.is_different_variable() && !error.is_different_context());
    assert!(error.to_string().contains("`one`"), "{error}");
    assert_eq!(
        (ONE.get(), TWO.get()),
        (Some(11), Some(2)),
        "nothing changed"
    );
    ONE.reset(error.into_token()).unwrap();
    assert_eq!(ONE.get(), Some(1));
}

#[test]
fn a_token_of_another_context_is_refused_and_stays_good_at_home() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    VAR.set(1);
    let token = VAR.set(2);
    let error = copy_context().run(|| {
        let error = VAR.reset(token).unwrap_err();
        assert_eq!(VAR.get(), Some(2), "nothing changed");
        error
    });
    assert!(error.is_different_context() && !error.is_different_variable());
    VAR.reset(error.into_token()).unwrap();
    assert_eq!(VAR.get(), Some(1));
}

#[test]
fn where_both_are_wrong_the_variable_is_named() {
    static ONE: ContextVar<u8> = ContextVar::new("one");
    static TWO: ContextVar<u8> = ContextVar::new("two");
    let token = ONE.set(1);
    let error = Context::new().run(|| TWO.reset(token)).unwrap_err();
    assert!(error.is_different_variable() && !error.is_different_context());
}

/// Same content, same root even, but not the same context.
#[test]
fn copies_of_a_context_refuse_its_tokens_however_they_were_made() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let mut home = Context::new();
    let (token, mut inner) = home.run(|| (VAR.set(1), Context::current()));
    let mut copies = vec![home.clone(), home.clone().clone(), inner.clone()];
    copies.push(home.run(copy_context));
    let mut token = inner.run(|| VAR.reset(token)).unwrap_err().into_token();
    for copy in &mut copies {
        let error = copy.run(|| VAR.reset(token)).unwrap_err();
        assert!(error.is_different_context());
        token = error.into_token();
    }
    home.run(|| VAR.reset(token)).unwrap();
    assert!(home.is_empty());
}

#[test]
fn a_context_stays_the_same_when_left_entered_again_copied_and_moved() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let mut home = Context::new();
    let first = home.run(|| VAR.set(1));
    let second = home.run(|| VAR.set(2));
    let _copies = (home.clone(), home.run(Context::current));
    let mut moved = Box::new(home);
    thread::scope(|scope| {
        scope.spawn(|| moved.run(|| VAR.reset(second)).unwrap());
    });
    assert_eq!(moved.get(&VAR), Some(1));
    moved.run(|| VAR.reset(first)).unwrap();
    assert!(moved.is_empty());
}

/// An empty context has no memory of its own, but tokens that are still out know it.
#[test]
fn a_context_that_became_empty_again_still_takes_its_tokens() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let mut home = Context::new();
    let (first, second) = home.run(|| (VAR.set(1), VAR.set(2)));
    home.run(|| VAR.reset(first)).unwrap();
    assert!(home.is_empty() && home.clone().is_empty());
    assert!(
        Context::new()
            .run(|| VAR.reset(second))
            .is_err_and(|error| {
                let token = error.into_token();
                home.run(|| VAR.reset(token)).is_ok()
            })
    );
    assert_eq!(home.get(&VAR), Some(1));
}

#[test]
fn contexts_of_two_threads_are_different() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let token = VAR.set(1);
    let error = apart(|| {
        VAR.set(2);
        VAR.reset(token).unwrap_err()
    });
    assert!(error.is_different_context());
    VAR.reset(error.into_token()).unwrap();
}

// --------------------------------------------------------------------------- guards

#[test]
fn a_guard_restores_when_dropped_and_when_unwinding() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    VAR.set(1);
    drop(VAR.scope(2));
    assert_eq!(VAR.get(), Some(1));
    panics(|| {
        let _guard = VAR.scope(2);
        assert_eq!(VAR.get(), Some(2));
        panic!("unwind");
    });
    assert_eq!(VAR.get(), Some(1));
}

#[test]
fn guards_dropped_out_of_order_each_restore_their_own_old_value() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let (first, second) = (VAR.scope(1), VAR.scope(2));
    drop(first);
    assert_eq!(VAR.get(), None);
    drop(second);
    assert_eq!(VAR.get(), Some(1));
}

#[test]
fn a_guard_dropped_in_another_context_leaves_that_one_alone() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let mut other = Context::new();
    let guard = other.run(|| VAR.scope(1));
    VAR.set(5);
    drop(guard);
    assert_eq!((VAR.get(), other.get(&VAR)), (Some(5), Some(1)));
}

// ------------------------------------------------------------------------- contexts

#[test]
fn what_run_changes_stays_in_the_context_and_only_there() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    VAR.set(1);
    let mut context = Context::new();
    assert_eq!(
        context.run(|| (VAR.get(), VAR.set(2).old_value().copied())),
        (None, None)
    );
    assert_eq!((VAR.get(), context.get(&VAR)), (Some(1), Some(2)));
    assert_eq!(context.run(|| VAR.get()), Some(2));
}

#[test]
fn what_run_changed_stays_also_when_it_panics_and_the_outer_context_is_back() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    VAR.set(1);
    let mut context = Context::new();
    panics(|| {
        context.run(|| {
            VAR.set(2);
            panic!("after the change");
        });
    });
    assert_eq!((VAR.get(), context.get(&VAR)), (Some(1), Some(2)));
}

#[test]
fn different_contexts_nest() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let (mut outer, mut inner) = (Context::new(), Context::new());
    outer.run(|| {
        VAR.set(1);
        inner.run(|| {
            assert_eq!(VAR.get(), None);
            VAR.set(2);
        });
        assert_eq!(VAR.get(), Some(1));
    });
    assert_eq!((outer.get(&VAR), inner.get(&VAR)), (Some(1), Some(2)));
}

#[test]
fn looking_into_a_context_never_shows_a_default() {
    static SEVEN: ContextVar<u8> = ContextVar::with_default("seven", || 7);
    let mut context = Context::new();
    assert_eq!(
        (context.get(&SEVEN), context.contains(&SEVEN)),
        (None, false)
    );
    context.run(|| SEVEN.set(1));
    assert_eq!(
        (context.get(&SEVEN), context.contains(&SEVEN)),
        (Some(1), true)
    );
}

#[test]
fn len_counts_the_variables_that_are_set() {
    let vars: Vec<ContextVar<usize>> = (0..50).map(|_| ContextVar::new("var")).collect();
    let mut context = Context::default();
    assert!(context.is_empty());
    for round in 0..2 {
        for (n, var) in vars.iter().enumerate() {
            context.run(|| var.set(n + round));
            let expected = if round == 0 { n + 1 } else { vars.len() };
            assert_eq!((context.len(), context.is_empty()), (expected, false));
        }
    }
}

#[test]
fn a_clone_is_independent_in_both_directions() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let mut one = Context::new();
    one.run(|| VAR.set(1));
    let mut two = one.clone();
    one.run(|| VAR.set(11));
    assert_eq!(two.get(&VAR), Some(1));
    two.run(|| VAR.set(2));
    assert_eq!((one.get(&VAR), two.get(&VAR)), (Some(11), Some(2)));
}

#[test]
fn a_copy_is_of_the_moment_it_was_made() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    VAR.set(1);
    let copies = (Context::current(), copy_context());
    VAR.set(2);
    assert_eq!((copies.0.get(&VAR), copies.1.get(&VAR)), (Some(1), Some(1)));
}

#[test]
fn values_are_shared_and_not_copied() {
    static VAR: ContextVar<Arc<AtomicUsize>> = ContextVar::new("var");
    let count = Arc::new(AtomicUsize::new(0));
    VAR.set(count.clone());
    let add = || VAR.with(|value| value.unwrap().fetch_add(1, Ordering::Relaxed));
    copy_context().run(add);
    copy_context().clone().run(add);
    assert_eq!(count.load(Ordering::Relaxed), 2);
    assert_eq!(
        Arc::strong_count(&count),
        2,
        "one here, one shared by all contexts"
    );
}

#[test]
fn threads_not_started_by_us_begin_empty() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    VAR.set(1);
    apart(|| assert!(Context::current().is_empty() && VAR.get().is_none()));
}

#[test]
fn a_context_is_one_pointer() {
    assert_eq!(size_of::<Context>(), size_of::<usize>());
}

#[test]
fn a_thousand_variables_are_told_apart() {
    let vars: Vec<ContextVar<usize>> = (0..1_000).map(|_| ContextVar::new("var")).collect();
    let mut context = Context::new();
    let tokens: Vec<_> = context.run(|| vars.iter().enumerate().map(|(n, v)| v.set(n)).collect());
    let copy = context.clone();
    for (n, var) in vars.iter().enumerate() {
        assert_eq!(context.get(var), Some(n));
    }
    context.run(|| {
        vars.iter()
            .zip(tokens)
            .for_each(|(v, token)| v.reset(token).unwrap())
    });
    assert_eq!((context.len(), copy.len()), (0, 1_000));
}

// --------------------------------------------------------------------------- attach

#[test]
fn an_attached_future_is_in_its_context_at_every_poll() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    VAR.set(1);
    let mut future = pin!(Context::current().attach(async {
        assert_eq!(VAR.get(), Some(1));
        VAR.set(2);
        pause().await;
        VAR.get()
    }));
    VAR.set(9);
    assert_eq!(poll(future.as_mut()), Poll::Pending);
    assert_eq!(VAR.get(), Some(9), "between the polls");
    assert_eq!(poll(future.as_mut()), Poll::Ready(Some(2)));
    assert_eq!(VAR.get(), Some(9));
}

#[test]
fn an_attached_future_is_dropped_in_its_context() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    struct Probe(Arc<Mutex<Option<Option<u8>>>>);
    impl Drop for Probe {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(VAR.get());
        }
    }
    let seen = Arc::new(Mutex::new(None));
    let probe = Probe(seen.clone());
    let mut context = Context::new();
    context.run(|| VAR.set(1));
    drop(context.attach(async move { drop(probe) }));
    assert_eq!(*seen.lock().unwrap(), Some(Some(1)));
    assert_eq!(VAR.get(), None);
}

#[test]
fn a_panic_in_a_poll_leaves_the_context_of_the_poller_as_it_was() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    VAR.set(1);
    let mut future = Box::pin(Context::new().attach(async {
        VAR.set(2);
        panic!("in the poll");
    }));
    panics(|| {
        let _: Poll<()> = poll(future.as_mut());
    });
    assert_eq!((VAR.get(), future.context().get(&VAR)), (Some(1), Some(2)));
}

/// Tokens and guards over an await: the context is the same at every poll, on any thread.
#[test]
fn a_token_is_good_at_a_later_poll_on_another_thread() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    let future = Context::new().attach(async {
        let token = VAR.set(1);
        pause().await;
        VAR.reset(token).unwrap();
        VAR.get()
    });
    let mut future = Box::pin(future);
    assert_eq!(poll(future.as_mut()), Poll::Pending);
    assert_eq!(apart(|| poll(future.as_mut())), Poll::Ready(None));
}

#[test]
fn futures_attached_to_copies_do_not_see_each_other() {
    static VAR: ContextVar<usize> = ContextVar::new("var");
    VAR.set(100);
    let mut futures = [0, 1, 2].map(|n| {
        Box::pin(copy_context().attach(async move {
            for round in 0..5 {
                let before = VAR.get().unwrap();
                assert_eq!(before, if round == 0 { 100 } else { n * 10 + round - 1 });
                let guard_free = VAR.set(n * 10 + round);
                drop(guard_free);
                pause().await;
            }
        }))
    });
    for _ in 0..5 {
        for future in &mut futures {
            assert_eq!(poll(future.as_mut()), Poll::Pending);
        }
    }
    for future in &mut futures {
        assert_eq!(poll(future.as_mut()), Poll::Ready(()));
    }
    assert_eq!(VAR.get(), Some(100));
}

// ---------------------------------------------------------------------- auto traits

/// True where `T: Send`: the inherent constant exists only there and goes before the trait's.
macro_rules! is_send {
    ($type:ty) => {{
        #[allow(dead_code, reason = "unused where the type is Send")]
        trait Fallback {
            const SEND: bool = false;
        }
        impl<T: ?Sized> Fallback for T {}
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "unused where the type is not Send")]
        impl<T: ?Sized + Send> Probe<T> {
            const SEND: bool = true;
        }
        <Probe<$type>>::SEND
    }};
}

#[test]
fn all_but_the_guard_may_go_to_other_threads() {
    fn both<T: Send + Sync>() {}
    both::<ContextVar<String>>();
    both::<Context>();
    both::<Token<String>>();
    both::<ResetError<String>>();
    both::<InContext<std::future::Ready<u8>>>();
    assert!(is_send!(Token<u8>) && !is_send!(ScopeGuard<'static, u8>));
    assert!(!is_send!(InContext<std::future::Ready<std::rc::Rc<u8>>>));
}
