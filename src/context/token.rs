//! The way back from a change: a token to hand in, a guard that hands it in itself.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use crate::base::contain::contained_drop;
use crate::base::sync::Arc;
use crate::context::ContextVar;

/// A user's value in a context; whoever drops it last is spared a panic of its destructor.
///
/// That may be anybody: another thread's worker, a guard during unwinding, the end of a thread.
pub(super) struct Held<T>(Option<T>);

impl<T> Held<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Some(value))
    }

    #[inline]
    pub(super) fn value(&self) -> &T {
        self.0.as_ref().expect("only a drop empties it")
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() {
            contained_drop(self.0.take());
        }
    }
}

/// Remembers what [`ContextVar::set`] replaced.
///
/// Handed to [`ContextVar::reset`] by value, so it cannot be used twice. Dropping it is fine:
/// the variable just keeps its new value.
///
/// # Examples
///
/// ```
/// use portage::context::ContextVar;
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
///
/// let first = USER.set("ada");
/// assert_eq!((first.var_name(), first.old_value()), ("user", None));
/// let second = USER.set("grace");
/// assert_eq!(second.old_value(), Some(&"ada"));
/// ```
pub struct Token<T> {
    pub(super) variable: u64,
    pub(super) name: &'static str,
    /// The identity of the context that made it.
    pub(super) home: u64,
    pub(super) old: Option<Arc<Held<T>>>,
}

impl<T> Token<T> {
    /// The value that was replaced; `None` if the variable was unset.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// # static LEVEL: ContextVar<u8> = ContextVar::new("level");
    /// assert_eq!(LEVEL.set(1).old_value(), None);
    /// assert_eq!(LEVEL.set(2).old_value(), Some(&1));
    /// ```
    pub fn old_value(&self) -> Option<&T> {
        self.old.as_deref().map(Held::value)
    }

    /// The name of the variable that was set.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// # static LEVEL: ContextVar<u8> = ContextVar::new("level");
    /// assert_eq!(LEVEL.set(1).var_name(), "level");
    /// ```
    pub fn var_name(&self) -> &'static str {
        self.name
    }
}

impl<T> fmt::Debug for Token<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("var_name", &self.name)
            .field("was_set", &self.old.is_some())
            .finish_non_exhaustive()
    }
}

/// A token was handed to the wrong variable, or in the wrong context.
///
/// Nothing was changed, and the token is still good where it belongs: see
/// [`into_token`](ResetError::into_token).
///
/// # Examples
///
/// ```
/// use portage::context::{Context, ContextVar};
///
/// static LEVEL: ContextVar<u8> = ContextVar::new("level");
///
/// let token = LEVEL.set(1);
/// let error = Context::new().run(|| LEVEL.reset(token)).unwrap_err();
/// assert!(error.is_different_context());
///
/// LEVEL.reset(error.into_token()).unwrap();
/// assert_eq!(LEVEL.get(), None);
/// ```
pub struct ResetError<T> {
    token: Token<T>,
    wrong: Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Variable,
    Context,
}

impl<T> ResetError<T> {
    pub(super) fn new(token: Token<T>, wrong: Wrong) -> Self {
        Self { token, wrong }
    }

    /// Was the token made by another variable?
    ///
    /// This is asked first: where the context differs as well, only this is true.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// let (one, two) = (ContextVar::new("one"), ContextVar::new("two"));
    /// let token = one.set(1);
    /// assert!(two.reset(token).unwrap_err().is_different_variable());
    /// ```
    pub fn is_different_variable(&self) -> bool {
        self.wrong == Wrong::Variable
    }

    /// Was the token made in another context?
    ///
    /// A copy of a context is another context.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::{ContextVar, copy_context};
    /// # static LEVEL: ContextVar<u8> = ContextVar::new("level");
    /// let token = LEVEL.set(1);
    /// let error = copy_context().run(|| LEVEL.reset(token)).unwrap_err();
    /// assert!(error.is_different_context());
    /// ```
    pub fn is_different_context(&self) -> bool {
        self.wrong == Wrong::Context
    }

    /// The token, as good as before.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// let (one, two) = (ContextVar::new("one"), ContextVar::new("two"));
    /// let error = two.reset(one.set(1)).unwrap_err();
    /// one.reset(error.into_token()).unwrap();
    /// assert_eq!(one.get(), None);
    /// ```
    pub fn into_token(self) -> Token<T> {
        self.token
    }
}

impl<T> fmt::Debug for ResetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetError")
            .field("wrong", &self.wrong)
            .field("token", &self.token)
            .finish()
    }
}

impl<T> fmt::Display for ResetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = match self.wrong {
            Wrong::Variable => "by a different variable",
            Wrong::Context => "in a different context",
        };
        write!(f, "the token of `{}` was made {other}", self.token.name)
    }
}

impl<T> Error for ResetError<T> {}

/// Keeps a value in a variable until dropped; made by [`ContextVar::scope`].
///
/// Its drop restores what the variable was before, also during unwinding, and in whatever
/// order guards are dropped: each restores its own old value. A guard that is dropped in a
/// context other than its own leaves that one alone.
///
/// # Examples
///
/// ```
/// use portage::context::ContextVar;
///
/// static DEPTH: ContextVar<u32> = ContextVar::with_default("depth", || 0);
///
/// fn descend() -> u32 {
///     let _guard = DEPTH.scope(DEPTH.get_or(0) + 1);
///     if DEPTH.get_or(0) < 3 { descend() } else { DEPTH.get_or(0) }
/// }
/// assert_eq!(descend(), 3);
/// assert_eq!(DEPTH.get(), Some(0));
/// ```
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// static LEVEL: portage::ContextVar<u8> = portage::ContextVar::new("level");
/// let guard = LEVEL.scope(1);
/// std::thread::spawn(move || drop(guard));
/// ```
#[must_use = "the old value is restored as soon as the guard is dropped"]
pub struct ScopeGuard<'a, T: Clone + Send + Sync + 'static> {
    variable: &'a ContextVar<T>,
    /// `None` only while it is being dropped.
    token: Option<Token<T>>,
    /// The context belongs to this thread, or to the task that the guard stands in.
    here: PhantomData<*const ()>,
}

impl<'a, T: Clone + Send + Sync + 'static> ScopeGuard<'a, T> {
    pub(super) fn new(variable: &'a ContextVar<T>, token: Token<T>) -> Self {
        Self {
            variable,
            token: Some(token),
            here: PhantomData,
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for ScopeGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            // An error means that its context is gone or is not this one: nothing to restore.
            let _ = self.variable.reset(token);
        }
    }
}

impl<T: Clone + Send + Sync + 'static> fmt::Debug for ScopeGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeGuard")
            .field("var_name", &self.variable.name())
            .finish_non_exhaustive()
    }
}
