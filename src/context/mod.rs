//! Values that follow the work: across jobs, tasks, threads and the bridges between them.
//!
//! A thread-local belongs to a thread, but a request wanders: it is read on one thread, computed
//! on another, continued on a third. A [`ContextVar`] belongs to the *context* that code runs
//! in. Every job and task of this crate runs in a copy of the context in which it was submitted,
//! so what was set before the submission is seen there, and what is set there stays there.
//!
//! # Rules
//!
//! * Copying a [`Context`] is O(1) and makes an independent one; an empty one is a null pointer.
//!   Values are shared between copies, never copied.
//! * Threads that this crate did not start begin in an empty context.
//! * A [`Token`] is good in the context that made it and nowhere else. Which context that is,
//!   does not depend on its content: a copy is another one; moving one, leaving it and entering
//!   it again keeps it the same.
//! * No code of a user (closures, clones, drops of values) runs while anything of ours is held.
//!
//! In here: [`map`] (the immutable map), [`scope`] (which context a thread is in), [`token`] (the
//! way back), [`var`] (the variable).
//!
//! # Examples
//!
//! ```
//! use portage::context::{Context, ContextVar};
//!
//! static REQUEST: ContextVar<u32> = ContextVar::new("request");
//!
//! let _guard = REQUEST.scope(1);
//! let mut other = Context::current();
//! other.run(|| REQUEST.set(2));
//!
//! assert_eq!(REQUEST.get(), Some(1));
//! assert_eq!(other.get(&REQUEST), Some(2));
//! ```

#![forbid(unsafe_code)]

mod map;
mod scope;
mod token;
mod var;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::base::sync::Arc;
use map::Map;

pub(crate) use scope::Entered;
pub use scope::InContext;
pub use token::{ResetError, ScopeGuard, Token};
pub use var::ContextVar;

/// A user's value: always a [`Held`](token::Held) of the variable's type.
type Value = Arc<dyn Any + Send + Sync>;

/// What the bridge sends along with a context; no variable, so users do not see it.
pub(crate) type Affinity = Arc<dyn Any + Send + Sync>;

/// The variables that are set, and their values.
///
/// A clone is an independent copy, made in O(1) whatever the number of variables.
///
/// # Examples
///
/// ```
/// use portage::context::{Context, ContextVar};
///
/// static COLOR: ContextVar<&str> = ContextVar::new("color");
///
/// let mut context = Context::new();
/// context.run(|| COLOR.set("green"));
/// let copy = context.clone();
/// context.run(|| COLOR.set("blue"));
///
/// assert_eq!(context.get(&COLOR), Some("blue"));
/// assert_eq!(copy.get(&COLOR), Some("green"));
/// assert_eq!(COLOR.get(), None);
/// ```
#[derive(Default)]
pub struct Context(Option<Arc<Root>>);

const _: () = assert!(size_of::<Context>() == size_of::<usize>());

/// What a context that is not empty points to.
#[derive(Clone, Default)]
struct Root {
    /// Zero where nothing asked for it yet, and while the context is entered: see [`scope`].
    identity: u64,
    variables: Map<Value>,
    affinity: Option<Affinity>,
}

impl Root {
    fn is_vacant(&self) -> bool {
        self.variables.len() == 0 && self.affinity.is_none()
    }
}

impl Context {
    /// An empty context.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// A copy of the running context, in O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::{Context, ContextVar};
    /// static COLOR: ContextVar<&str> = ContextVar::new("color");
    /// COLOR.set("green");
    /// let context = Context::current();
    /// COLOR.set("blue");
    /// assert_eq!(context.get(&COLOR), Some("green"));
    /// ```
    #[must_use]
    pub fn current() -> Self {
        scope::copy()
    }

    /// Runs `f` inside this context, on this thread.
    ///
    /// What `f` changes stays in `self`, also when `f` panics; the context around the call is
    /// back afterwards as it was. Entering a context from within itself is impossible, because
    /// it is borrowed mutably.
    ///
    /// # Panics
    ///
    /// A panic of `f` unwinds through here.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::{Context, ContextVar};
    /// static COLOR: ContextVar<&str> = ContextVar::new("color");
    /// let mut context = Context::new();
    /// context.run(|| COLOR.set("green"));
    /// assert_eq!(context.run(|| COLOR.get()), Some("green"));
    /// assert_eq!(COLOR.get(), None);
    /// ```
    pub fn run<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let _entered = self.swap_in();
        f()
    }

    /// The value of `var` in this context; never the variable's default.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::{Context, ContextVar};
    /// static DEPTH: ContextVar<u8> = ContextVar::with_default("depth", || 1);
    /// assert_eq!(Context::new().get(&DEPTH), None);
    /// ```
    pub fn get<T: Clone + Send + Sync + 'static>(&self, var: &ContextVar<T>) -> Option<T> {
        let value = self.0.as_ref()?.variables.get(var.assigned_key())?;
        Some(var::typed::<T>(value).clone())
    }

    /// Is `var` set in this context? A default does not count.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::{Context, ContextVar};
    /// static COLOR: ContextVar<&str> = ContextVar::new("color");
    /// COLOR.set("green");
    /// assert!(Context::current().contains(&COLOR));
    /// assert!(!Context::new().contains(&COLOR));
    /// ```
    pub fn contains<T>(&self, var: &ContextVar<T>) -> bool {
        let root = self.0.as_ref();
        root.is_some_and(|root| root.variables.get(var.assigned_key()).is_some())
    }

    /// How many variables are set.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |root| root.variables.len())
    }

    /// Is no variable set?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes `future` run in this context, wherever it is polled.
    ///
    /// The context is entered around every poll, and around the drop of the future. What the
    /// future sets, it finds again at its next poll; nobody else sees it. Allocates once.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::{Context, ContextVar};
    /// # use std::{future::Future, pin::pin, task};
    /// static COLOR: ContextVar<&str> = ContextVar::new("color");
    ///
    /// COLOR.set("green");
    /// let mut work = pin!(Context::current().attach(async { COLOR.get() }));
    /// COLOR.set("blue");
    ///
    /// let mut cx = task::Context::from_waker(task::Waker::noop());
    /// assert_eq!(work.as_mut().poll(&mut cx), task::Poll::Ready(Some("green")));
    /// ```
    pub fn attach<F: Future>(self, future: F) -> InContext<F> {
        InContext::new(self, future)
    }

    /// The context for work submitted here and now: a copy of the running one.
    pub(crate) fn capture() -> Self {
        scope::copy()
    }

    /// Enters this context until the guard is dropped; what changes meanwhile stays in `self`.
    pub(crate) fn swap_in(&mut self) -> Entered<'_> {
        Entered::new(self)
    }

    /// What the bridge sends along.
    pub(crate) fn affinity(&self) -> Option<&Affinity> {
        self.0.as_ref()?.affinity.as_ref()
    }

    /// The same context with another thing to send along.
    pub(crate) fn with_affinity(mut self, affinity: Option<Affinity>) -> Self {
        if affinity.is_some() || self.affinity().is_some() {
            let root = Arc::make_mut(self.0.get_or_insert_default());
            root.affinity = affinity;
            if root.is_vacant() && root.identity == 0 {
                self.0 = None;
            }
        }
        self
    }

    /// Brings into the running context what has changed from `before` to `self`: variables
    /// that were set, and such that were un-set. Costs what has changed.
    pub(crate) fn flow_back(&self, before: &Self) {
        let (none, mut changes) = (Map::default(), Vec::new());
        let now = self.0.as_ref().map_or(&none, |root| &root.variables);
        let then = before.0.as_ref().map_or(&none, |root| &root.variables);
        now.visit_apart_from(then, &mut |key, value| {
            if !then.get(key).is_some_and(|old| Arc::ptr_eq(old, value)) {
                changes.push((key, Some(value.clone())));
            }
        });
        then.visit_apart_from(now, &mut |key, _| {
            if now.get(key).is_none() {
                changes.push((key, None));
            }
        });
        // What that displaces is dropped out here, with nothing of ours taken apart.
        drop(scope::put_all(changes));
    }
}

/// A copy of the running context, in O(1); the same as [`Context::current`].
///
/// # Examples
///
/// ```
/// use portage::copy_context;
///
/// assert!(copy_context().is_empty());
/// ```
#[must_use]
pub fn copy_context() -> Context {
    Context::current()
}

impl Clone for Context {
    fn clone(&self) -> Self {
        match &self.0 {
            // An identity stays with its context, so this copy needs a root of its own.
            Some(root) if root.identity != 0 => Self((!root.is_vacant()).then(|| {
                let mut root = Root::clone(root);
                root.identity = 0;
                Arc::new(root)
            })),
            shared => Self(shared.clone()),
        }
    }
}

// A context changes by swapping one pointer, so a panic never leaves one half changed.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
