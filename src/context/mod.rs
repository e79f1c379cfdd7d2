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
//! In here, in reading order: `var` (the variable), `token` (the way back), `map` (the immutable
//! map), `scope` (which context a thread is in, and how it is entered and left).
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

pub use scope::InContext;
pub(crate) use scope::{Entered, replace_affinity};
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
    /// An empty context; allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(portage::Context::new().len(), 0);
    /// ```
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
        let value = self.value(var.assigned_key())?;
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
        self.value(var.assigned_key()).is_some()
    }

    /// How many variables are set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::{Context, ContextVar};
    /// static COLOR: ContextVar<&str> = ContextVar::new("color");
    /// let mut context = Context::new();
    /// context.run(|| COLOR.set("green"));
    /// assert_eq!(context.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |root| root.variables.len())
    }

    /// Is no variable set?
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(portage::Context::new().is_empty());
    /// ```
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
    #[inline]
    pub(crate) fn capture() -> Self {
        scope::copy()
    }

    /// Enters this context until the guard is dropped; what changes meanwhile stays in `self`.
    #[inline]
    pub(crate) fn swap_in(&mut self) -> Entered<'_> {
        Entered::new(self)
    }

    /// What the bridge sends along.
    pub(crate) fn affinity(&self) -> Option<&Affinity> {
        self.0.as_ref()?.affinity.as_ref()
    }

    /// The same context with another thing to send along.
    pub(crate) fn with_affinity(mut self, affinity: Option<Affinity>) -> Self {
        Arc::make_mut(self.0.get_or_insert_default()).affinity = affinity;
        self.let_go_if_vacant();
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

    #[inline]
    fn value(&self, key: u64) -> Option<&Value> {
        self.0.as_ref()?.variables.get(key)
    }

    /// Goes back to the null pointer when nothing is left to point to.
    fn let_go_if_vacant(&mut self) {
        let vacant = |root: &mut Arc<Root>| root.is_vacant() && root.identity == 0;
        self.0.take_if(vacant);
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

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Affinity, Context, ContextVar, copy_context};
    use crate::base::sync::Arc;

    fn filled(vars: &[ContextVar<usize>]) -> Context {
        let mut context = Context::new();
        context.run(|| vars.iter().for_each(|var| drop(var.set(0))));
        context
    }

    #[test]
    fn what_changed_in_a_copy_flows_back_and_nothing_else() {
        for count in [3, 8, 9, 200] {
            let vars: Vec<_> = (0..count).map(|_| ContextVar::new("var")).collect();
            filled(&vars[1..]).run(|| {
                let before = copy_context();
                let mut inside = before.clone();
                inside.run(|| {
                    vars[0].set(10);
                    vars[1].set(11);
                    Context::new().run(|| vars[2].set(99));
                });
                // Changed out here meanwhile, and not in there: stays.
                vars[2].set(2);
                // Changed on both sides: what flows back wins.
                vars[1].set(1);
                inside.flow_back(&before);
                let now = |n: usize| vars[n].get();
                assert_eq!((now(0), now(1), now(2)), (Some(10), Some(11), Some(2)));
                assert_eq!(Context::current().len(), count);
            });
        }
    }

    #[test]
    fn what_was_unset_in_a_copy_is_unset_by_flowing_back() {
        for count in [1, 2, 9, 200] {
            let vars: Vec<_> = (0..count).map(|_| ContextVar::new("var")).collect();
            let last = count - 1;
            let mut inside = Context::new();
            let token = inside.run(|| vars[last].set(7));
            inside.run(|| vars[..last].iter().for_each(|var| drop(var.set(0))));
            inside.clone().run(|| {
                let before = inside.clone();
                inside.run(|| vars[last].reset(token)).unwrap();
                inside.flow_back(&before);
                assert_eq!((vars[last].get(), Context::current().len()), (None, last));
            });
        }
    }

    #[test]
    fn flowing_back_keeps_the_tokens_of_the_receiver_good() {
        static VAR: ContextVar<u8> = ContextVar::new("var");
        let token = VAR.set(1);
        let (before, mut inside) = (copy_context(), copy_context());
        inside.run(|| VAR.set(2));
        inside.flow_back(&before);
        assert_eq!(VAR.get(), Some(2));
        VAR.reset(token).unwrap();
        assert_eq!(VAR.get(), None);
    }

    #[test]
    fn the_affinity_travels_with_copies_and_is_no_variable() {
        let affinity: Affinity = Arc::new("here");
        let is_here = |context: &Context| {
            (context.affinity()).is_some_and(|found| Arc::ptr_eq(found, &affinity))
        };
        let mut context = Context::new().with_affinity(Some(affinity.clone()));
        assert!(is_here(&context) && context.is_empty());
        static VAR: ContextVar<u8> = ContextVar::new("var");
        let (captured, token) = context.run(|| (Context::capture(), VAR.set(1)));
        assert!(is_here(&captured) && is_here(&context) && is_here(&context.clone()));
        assert_eq!((captured.len(), context.len()), (0, 1));
        context.run(|| VAR.reset(token)).unwrap();
        assert!(is_here(&context) && is_here(&context.clone()) && context.is_empty());
        assert!(captured.with_affinity(None).0.is_none(), "empty is null");
        assert!(Context::new().with_affinity(None).0.is_none());
    }

    /// The last variable gone, an empty context costs nothing to submit with.
    #[test]
    fn a_context_that_became_empty_is_null_again() {
        static VAR: ContextVar<u8> = ContextVar::new("var");
        drop(VAR.scope(1));
        assert!(Context::capture().0.is_none());
        let mut context = Context::new();
        context.run(|| drop(VAR.scope(1)));
        assert!(context.clone().0.is_none());
        context.run(|| assert!(Context::capture().0.is_none()));
    }

    /// What makes capturing a pointer copy: the running root never carries an identity.
    #[test]
    fn the_identity_stands_beside_the_root_while_inside_and_in_it_at_rest() {
        static VAR: ContextVar<u8> = ContextVar::new("var");
        let identity = |context: &Context| context.0.as_ref().unwrap().identity;
        let mut context = Context::new();
        let captured = context.run(|| {
            VAR.set(1);
            Context::capture()
        });
        assert_eq!(identity(&captured), 0);
        let mine = identity(&context);
        assert_ne!(mine, 0);
        assert_eq!(context.run(|| identity(&Context::capture())), 0);
        assert_eq!((identity(&context), identity(&context.clone())), (mine, 0));
    }
}
