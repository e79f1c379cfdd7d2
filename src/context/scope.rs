//! Which context this thread is in, and how one is entered and left.
//!
//! # State
//!
//! | where                     | what                                       | identity          |
//! |---------------------------|--------------------------------------------|-------------------|
//! | [`CURRENT`], one a thread | the [`Frame`] that the thread is in        | `Frame::identity` |
//! | [`Entered`]               | the frame to go back to                    | `Frame::identity` |
//! | a [`Context`] at rest     | its [`Root`](super::Root), null when empty | `Root::identity`  |
//!
//! A copy of a context is another context, though both share one root. What makes a context
//! the one that it is, is a number given to it when a token is first made in it, and the
//! question is where one pointer leaves room for that number. While a context is entered, it
//! stands in the frame, beside the root, so that copies of the root are nameless. When the
//! context is left, it moves into the root, which is then no longer shared with anybody.
//!
//! # Invariants
//!
//! 1. The root in a frame has no identity. A root that has one belongs to one context only.
//! 2. [`CURRENT`] is taken apart only in [`change`] and [`running`], where nothing but code of
//!    this module runs: no clone, drop or closure of a user. (No update of the map drops a
//!    value, see there.)
//! 3. Readers hold the frame by a count, not by a borrow. A change that meets a reader works
//!    on a copy of the frame, so user code may read, set and enter whatever it likes.
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
use std::sync::atomic::{AtomicU64, Ordering};
use std::task;

use crate::base::sync::{Arc, local};
use crate::context::{Context, Root, Value};

local! {
    static CURRENT: Cell<Option<Rc<Frame>>> = Cell::new(None);
}

/// A context that a thread is in, or was in before it entered another one.
#[derive(Clone, Default)]
pub(super) struct Frame {
    /// Zero until a token asks for it.
    identity: u64,
    root: Option<Arc<Root>>,
}

impl Frame {
    fn of(context: Context) -> Self {
        let mut root = context.0;
        let mut identity = 0;
        if let Some(named) = root.as_mut().filter(|root| root.identity != 0) {
            // Nobody else has a named root, so this copies nothing.
            identity = mem::take(&mut Arc::make_mut(named).identity);
        }
        Self { identity, root }.without_empty_root()
    }

    fn into_context(self) -> Context {
        let mut root = self.root;
        if self.identity != 0 {
            Arc::make_mut(root.get_or_insert_default()).identity = self.identity;
        }
        Context(root)
    }

    fn without_empty_root(mut self) -> Self {
        if self.root.as_ref().is_some_and(|root| root.is_vacant()) {
            self.root = None;
        }
        self
    }

    fn identity(&mut self) -> u64 {
        // A plain number in a static, where loom's cannot stand; it publishes nothing.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if self.identity == 0 {
            // Ordering: Relaxed: only uniqueness counts.
            self.identity = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        self.identity
    }

    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<&Value> {
        self.root.as_ref()?.variables.get(key)
    }

    /// Puts in a value, or takes the variable out; hands back what was there.
    fn put(&mut self, key: u64, value: Option<Value>) -> Option<Value> {
        match value {
            Some(value) => {
                let root = self.root.get_or_insert_default();
                Arc::make_mut(root).variables.insert(key, value)
            }
            None => {
                let root = self.root.as_mut()?;
                root.variables.get(key)?;
                let removed = Arc::make_mut(root).variables.remove(key);
                *self = mem::take(self).without_empty_root();
                removed
            }
        }
    }
}

/// The frame that this thread is in; `None` is an empty one without identity.
#[inline]
pub(super) fn running() -> Option<Rc<Frame>> {
    CURRENT
        .try_with(|slot| {
            let frame = slot.take();
            let reader = frame.clone();
            slot.set(frame);
            reader
        })
        .unwrap_or_default()
}

/// Changes the frame that this thread is in; `None` where the thread's locals are gone.
fn change<R>(change: impl FnOnce(&mut Frame) -> R) -> Option<R> {
    CURRENT
        .try_with(|slot| match slot.take() {
            Some(mut frame) => {
                let result = change(Rc::make_mut(&mut frame));
                slot.set(Some(frame));
                result
            }
            None => {
                // Passing through an empty context allocates nothing.
                let mut frame = Frame::default();
                let result = change(&mut frame);
                if frame.identity != 0 || frame.root.is_some() {
                    slot.set(Some(Rc::new(frame)));
                }
                result
            }
        })
        .ok()
}

/// A copy of the context that this thread is in.
pub(super) fn copy() -> Context {
    CURRENT
        .try_with(|slot| {
            let frame = slot.take();
            let root = frame.as_ref().and_then(|frame| frame.root.clone());
            slot.set(frame);
            Context(root)
        })
        .unwrap_or_default()
}

/// Sets a variable here; tells the identity of this context, and what it displaced.
pub(super) fn set(key: u64, value: Value) -> (u64, Option<Value>) {
    change(|frame| (frame.identity(), frame.put(key, Some(value)))).unwrap_or_default()
}

/// Puts back what [`set`] displaced, if this is the context with that `identity`.
///
/// Hands back what stood there, to be dropped by the caller; `Err` is another context.
pub(super) fn reset(identity: u64, key: u64, old: Option<Value>) -> Result<Option<Value>, ()> {
    change(|frame| {
        if frame.identity == identity {
            Ok(frame.put(key, old))
        } else {
            Err(())
        }
    })
    // A variable set while the thread's locals were gone was never set.
    .unwrap_or(if identity == 0 { Ok(None) } else { Err(()) })
}

/// Sets and un-sets many variables here; hands back what that displaced.
pub(super) fn put_all(changes: Vec<(u64, Option<Value>)>) -> Vec<Value> {
    change(|frame| {
        let displaced = changes.into_iter();
        displaced
            .filter_map(|(key, value)| frame.put(key, value))
            .collect()
    })
    .unwrap_or_default()
}

/// Inside a context, until the guard is dropped.
#[must_use]
pub(crate) struct Entered<'a> {
    context: &'a mut Context,
    outer: Frame,
    /// The thread that entered must be the one that leaves.
    here: PhantomData<*const ()>,
}

impl<'a> Entered<'a> {
    pub(super) fn new(context: &'a mut Context) -> Self {
        let mut frame = Frame::of(mem::take(context));
        change(|current| mem::swap(current, &mut frame));
        Self {
            context,
            outer: frame,
            here: PhantomData,
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut frame = mem::take(&mut self.outer);
        change(|current| mem::swap(current, &mut frame));
        *self.context = frame.into_context();
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
