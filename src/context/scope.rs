//! Which context this thread is in, and how one is entered and left.
//!
//! # State
//!
//! | a context that is      | its variables                             | its identity       |
//! |------------------------|-------------------------------------------|--------------------|
//! | running on this thread | `CURRENT.shown`                           | `CURRENT.identity` |
//! | waiting for its inside | the [`Context`] that its inside came from | [`Entered::outer`] |
//! | at rest                | a [`Context`]                             | `Root::identity`   |
//!
//! A copy of a context is another context, though both share one root. What makes a context
//! the one that it is, is a number given to it when a token is first made in it, and the
//! question is where one pointer leaves room for that number. While a context is entered, it
//! stands beside the root, so that copies of the root are nameless. When the context is left,
//! it moves into the root, which is then no longer shared with anybody.
//!
//! # Invariants
//!
//! 1. The root of an entered context has no identity. A root that has one belongs to one
//!    context only.
//! 2. `CURRENT.shown` is taken out only in [`Current::look`] and [`Current::change`], where nothing
//!    but code of this module runs: no clone, drop or closure of a user. (No update of the map
//!    drops a value, see there.)
//! 3. Readers hold what is shown by a count, not by a borrow. A change that meets a reader
//!    works on a copy, so user code may read, set and enter whatever it likes. The count is
//!    the thread's own, so that reading writes nothing that other threads read.
//!
//! A thread whose locals are gone already has an empty context that keeps nothing.
//! Not here: what is shared between threads; roots are immutable once they are shared.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task;

use crate::base::sync::plain::{AtomicU64, Ordering};
use crate::base::sync::{Arc, local};
use crate::context::{Affinity, Context, Value};

local! {
    static CURRENT: Current = Current { identity: Cell::new(0), shown: Cell::new(None) };
}

/// The context that a thread is in.
struct Current {
    /// Zero until a token asks for it.
    identity: Cell<u64>,
    /// `None` is an empty one on a thread that has never been in another.
    shown: Cell<Option<Rc<Context>>>,
}

impl Current {
    fn identity(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if self.identity.get() == 0 {
            // Ordering: Relaxed: only uniqueness counts.
            self.identity.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        self.identity.get()
    }

    #[inline]
    fn look<R>(&self, look: impl FnOnce(Option<&Rc<Context>>) -> R) -> R {
        let shown = self.shown.take();
        let result = look(shown.as_ref());
        self.shown.set(shown);
        result
    }

    #[inline]
    fn change<R>(&self, change: impl FnOnce(&mut Context) -> R) -> R {
        match self.shown.take() {
            Some(mut shown) => {
                let result = change(Rc::make_mut(&mut shown));
                self.shown.set(Some(shown));
                result
            }
            None => {
                // Passing through an empty context allocates nothing.
                let mut context = Context::new();
                let result = change(&mut context);
                self.shown
                    .set(context.0.is_some().then(|| Rc::new(context)));
                result
            }
        }
    }
}

/// The context that this thread is in, for reading; `None` is an empty one.
#[inline]
pub(super) fn running() -> Option<Rc<Context>> {
    let running = CURRENT.try_with(|current| current.look(|shown| shown.cloned()));
    running.unwrap_or_default()
}

/// A copy of the context that this thread is in.
#[inline]
pub(super) fn copy() -> Context {
    let copy = CURRENT.try_with(|current| {
        // The root has no identity (invariant 1), so a copy of the pointer is a copy.
        current.look(|shown| Context(shown.and_then(|shown| shown.0.clone())))
    });
    copy.unwrap_or_default()
}

/// Sets a variable here; tells the identity of this context, and what it displaced.
pub(super) fn set(key: u64, value: Value) -> (u64, Option<Value>) {
    CURRENT
        .try_with(|current| {
            let displaced = current.change(|context| context.put(key, Some(value)));
            (current.identity(), displaced)
        })
        .unwrap_or_default()
}

/// Puts back what [`set`] displaced, if this is the context with that `identity`.
///
/// Hands back what stood there, to be dropped by the caller. `Err` is another context; `old`
/// was not called then.
pub(super) fn reset(
    identity: u64,
    key: u64,
    old: impl FnOnce() -> Option<Value>,
) -> Result<Option<Value>, ()> {
    CURRENT
        .try_with(|current| {
            if current.identity.get() == identity {
                Ok(current.change(|context| context.put(key, old())))
            } else {
                Err(())
            }
        })
        // A variable set while the thread's locals were gone was never set.
        .unwrap_or(if identity == 0 { Ok(None) } else { Err(()) })
}

/// Sets and un-sets many variables here; hands back what that displaced.
pub(super) fn put_all(changes: Vec<(u64, Option<Value>)>) -> Vec<Value> {
    let displaced = CURRENT.try_with(|current| {
        current.change(|context| {
            let changes = changes.into_iter();
            changes
                .filter_map(|(key, value)| context.put(key, value))
                .collect()
        })
    });
    displaced.unwrap_or_default()
}

/// Sends `affinity` along with this context from now on; hands back what it was before.
pub(crate) fn replace_affinity(affinity: Option<Affinity>) -> Option<Affinity> {
    let replaced =
        CURRENT.try_with(|current| current.change(|context| context.put_affinity(affinity)));
    replaced.unwrap_or_default()
}

/// Inside a context, until the guard is dropped.
#[must_use]
pub(crate) struct Entered<'a> {
    /// Keeps the context around this one meanwhile.
    context: &'a mut Context,
    /// The identity of the context around this one.
    outer: u64,
    /// The thread that entered must be the one that leaves.
    here: PhantomData<*const ()>,
}

impl<'a> Entered<'a> {
    #[inline]
    pub(super) fn new(context: &'a mut Context) -> Self {
        // Most tasks: from nothing to nothing.
        let outer = if context.0.is_none() && is_nowhere() {
            0
        } else {
            let inner = context.take_identity();
            swap(context, inner)
        };
        Self {
            context,
            outer,
            here: PhantomData,
        }
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.outer == 0 && self.context.0.is_none() && is_nowhere() {
            return;
        }
        let inner = swap(self.context, self.outer);
        self.context.give_identity(inner);
    }
}

/// Is this thread in an empty context that nobody has named? To swap it with another such one
/// changes nothing.
#[inline]
fn is_nowhere() -> bool {
    let nowhere = CURRENT
        .try_with(|current| current.identity.get() == 0 && current.look(|shown| shown.is_none()));
    nowhere.unwrap_or(false)
}

/// Swaps `context` with that of this thread, and `identity` with the one handed back.
///
/// Does nothing, twice, where the thread's locals are gone.
fn swap(context: &mut Context, identity: u64) -> u64 {
    let swapped = CURRENT.try_with(|current| {
        match current.shown.take() {
            None if context.0.is_none() => {}
            None => current.shown.set(Some(Rc::new(mem::take(context)))),
            Some(mut shown) => {
                mem::swap(Rc::make_mut(&mut shown), context);
                current.shown.set(Some(shown));
            }
        }
        current.identity.replace(identity)
    });
    swapped.unwrap_or(identity)
}

impl Context {
    /// Takes the identity out before this context is entered.
    #[inline]
    fn take_identity(&mut self) -> u64 {
        let Some(named) = self.0.as_mut().filter(|root| root.identity != 0) else {
            return 0;
        };
        // Nobody else has a root with an identity, so this copies nothing.
        let identity = mem::take(&mut Arc::make_mut(named).identity);
        self.let_go_if_vacant();
        identity
    }

    /// Puts the identity in after this context was left.
    #[inline]
    fn give_identity(&mut self, identity: u64) {
        if identity != 0 {
            Arc::make_mut(self.0.get_or_insert_default()).identity = identity;
        }
    }

    fn put_affinity(&mut self, affinity: Option<Affinity>) -> Option<Affinity> {
        if affinity.is_none() && self.0.is_none() {
            return None;
        }
        let root = self.0.get_or_insert_default();
        let replaced = mem::replace(&mut Arc::make_mut(root).affinity, affinity);
        self.let_go_if_vacant();
        replaced
    }

    /// Puts in a value, or takes the variable out; hands back what was there.
    fn put(&mut self, key: u64, value: Option<Value>) -> Option<Value> {
        match value {
            Some(value) => {
                let root = self.0.get_or_insert_default();
                Arc::make_mut(root).variables.insert(key, value)
            }
            None => {
                let root = self.0.as_mut()?;
                root.variables.get(key)?;
                let removed = Arc::make_mut(root).variables.remove(key);
                self.let_go_if_vacant();
                removed
            }
        }
    }
}

/// A future in a context of its own; made by [`Context::attach`].
#[must_use = "futures do nothing unless polled"]
pub struct InContext<F> {
    /// `None` only while it is being dropped.
    future: Option<Pin<Box<F>>>,
    context: Context,
}

impl<F> InContext<F> {
    pub(super) fn new(context: Context, future: F) -> Self {
        Self {
            future: Some(Box::pin(future)),
            context,
        }
    }

    /// The context as the last poll left it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::{Context, ContextVar};
    /// # use std::{future::Future, pin::pin, task};
    /// static STEP: ContextVar<u32> = ContextVar::new("step");
    ///
    /// let mut work = pin!(Context::new().attach(async { STEP.set(1); }));
    /// let mut cx = task::Context::from_waker(task::Waker::noop());
    /// assert!(work.as_mut().poll(&mut cx).is_ready());
    /// assert_eq!(work.context().get(&STEP), Some(1));
    /// ```
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<F::Output> {
        let this = &mut *self;
        let future = this.future.as_mut();
        let future = future.expect("a future that is being dropped is not polled");
        let _entered = this.context.swap_in();
        future.as_mut().poll(cx)
    }
}

impl<F> Drop for InContext<F> {
    fn drop(&mut self) {
        let _entered = self.context.swap_in();
        self.future = None;
    }
}

impl<F> fmt::Debug for InContext<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InContext")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
