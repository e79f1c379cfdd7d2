//! A context variable: a name, a default, and a key of its own.

#![forbid(unsafe_code)]

use std::fmt;

use crate::base::sync::Arc;
use crate::base::sync::plain::{AtomicU64, Ordering};
use crate::context::token::{Held, ResetError, ScopeGuard, Token, Wrong};
use crate::context::{Value, scope};

/// A variable whose value belongs to the context that the code runs in.
///
/// Usually a `static`. It is the object that counts, not its name or its address: two variables
/// of one name have nothing in common, and moving a variable keeps its values.
///
/// Reading costs a few nanoseconds and never blocks. A copy of a context shares the values with
/// its original, they are not copied: a value with a lock in it is one value for both.
///
/// # Reentrancy
///
/// Nothing is held while code of `T` runs (clone, drop, the closure given to
/// [`with`](ContextVar::with), the default): it may use any variable and any context. Once the
/// locals of a thread are gone, at its very end, variables are unset there and setting one has
/// no effect.
///
/// # Examples
///
/// ```
/// use portage::context::{ContextVar, copy_context};
///
/// static REQUEST: ContextVar<u64> = ContextVar::new("request");
///
/// REQUEST.set(7);
/// let mut copy = copy_context();
/// std::thread::spawn(move || {
///     assert_eq!(REQUEST.get(), None);
///     copy.run(|| assert_eq!(REQUEST.get(), Some(7)));
/// })
/// .join()
/// .unwrap();
/// ```
#[doc(alias = "contextvars")]
#[doc(alias = "Local")]
pub struct ContextVar<T> {
    name: &'static str,
    default: Option<fn() -> T>,
    /// Zero until first set, so that the constructors are `const` and a move keeps the key.
    key: AtomicU64,
}

impl<T> ContextVar<T> {
    /// The key, if it was ever needed; zero is nobody's.
    #[inline]
    pub(super) fn assigned_key(&self) -> u64 {
        // Ordering: Relaxed: the number is all there is to know.
        self.key.load(Ordering::Relaxed)
    }

    fn key(&self) -> u64 {
        // One by one, as the map likes its keys.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        match self.assigned_key() {
            // Ordering: Relaxed: only uniqueness counts.
            0 => self.settle_for(NEXT.fetch_add(1, Ordering::Relaxed)),
            assigned => assigned,
        }
    }

    /// Takes `fresh` as the key, unless another thread came first; the key in either case.
    fn settle_for(&self, fresh: u64) -> u64 {
        // Ordering: Relaxed, as above; of the threads that come first, one wins.
        let race = (self.key).compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
        race.err().unwrap_or(fresh)
    }
}

/// The user's value in one that is kept under a variable's own key.
#[inline]
pub(super) fn typed<T: Send + Sync + 'static>(value: &Value) -> &T {
    let held = value.downcast_ref::<Held<T>>();
    held.expect("a key belongs to one variable, thus to one type")
        .value()
}

impl<T: Clone + Send + Sync + 'static> ContextVar<T> {
    /// A variable without a default.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// static USER: ContextVar<String> = ContextVar::new("user");
    /// assert_eq!(USER.get(), None);
    /// ```
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            default: None,
            key: AtomicU64::new(0),
        }
    }

    /// A variable that reads as `default()` where it is not set.
    ///
    /// The function is called at each such read; its result is not kept.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// static DEPTH: ContextVar<u32> = ContextVar::with_default("depth", || 1);
    /// assert_eq!(DEPTH.get(), Some(1));
    /// assert_eq!(DEPTH.get_or(9), 9);
    /// ```
    #[must_use]
    pub const fn with_default(name: &'static str, default: fn() -> T) -> Self {
        Self {
            name,
            default: Some(default),
            key: AtomicU64::new(0),
        }
    }

    /// The name given at construction; for people only.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// assert_eq!(ContextVar::<u8>::new("level").name(), "level");
    /// ```
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The value here, else the variable's default, else `None`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// static LEVEL: ContextVar<u8> = ContextVar::new("level");
    /// LEVEL.set(3);
    /// assert_eq!(LEVEL.get(), Some(3));
    /// ```
    pub fn get(&self) -> Option<T> {
        self.look(|value| value.cloned())
            .or_else(|| self.default.map(|default| default()))
    }

    /// The value here, else `default`, whatever the variable's own default is.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// static LEVEL: ContextVar<u8> = ContextVar::with_default("level", || 1);
    /// assert_eq!(LEVEL.get_or(2), 2);
    /// LEVEL.set(3);
    /// assert_eq!(LEVEL.get_or(2), 3);
    /// ```
    pub fn get_or(&self, default: T) -> T {
        self.look(|value| value.cloned()).unwrap_or(default)
    }

    /// Shows the value to `f` without cloning it; the variable's default counts.
    ///
    /// `f` may set the variable: what it was shown stays as it was until `f` returns.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// static USER: ContextVar<String> = ContextVar::new("user");
    /// USER.set("ada".to_owned());
    /// assert_eq!(USER.with(|user| user.map(String::len)), Some(3));
    /// ```
    pub fn with<R>(&self, f: impl FnOnce(Option<&T>) -> R) -> R {
        self.look(|value| match (value, self.default) {
            (None, Some(default)) => f(Some(&default())),
            (value, _) => f(value),
        })
    }

    /// Sets the value here, and gives a token with which to take that back.
    ///
    /// Costs the same with three variables as with thousands. Nobody but code in this context,
    /// and in copies made of it from here on, sees the change.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// static LEVEL: ContextVar<u8> = ContextVar::new("level");
    /// let token = LEVEL.set(1);
    /// assert_eq!(LEVEL.get(), Some(1));
    /// LEVEL.reset(token).unwrap();
    /// assert_eq!(LEVEL.get(), None);
    /// ```
    pub fn set(&self, value: T) -> Token<T> {
        let variable = self.key();
        let (home, old) = scope::set(variable, Arc::new(Held::new(value)));
        let old = old.map(|old| {
            let typed = old.downcast::<Held<T>>().ok();
            typed.expect("a key belongs to one variable, thus to one type")
        });
        Token {
            variable,
            name: self.name,
            home,
            old,
        }
    }

    /// Restores what the variable was before the `set` that made `token`, or un-sets it.
    ///
    /// Resets are legal in any order: each restores its own old value.
    ///
    /// # Errors
    ///
    /// The token was made by another variable, or in another context. Nothing is changed then,
    /// and the token inside the error stays good at home.
    ///
    /// # Reentrancy
    ///
    /// The value that is taken out is dropped in here, if this was its last place, as the last
    /// step. Its destructor may use any variable; a panic of it is contained.
    ///
    /// # Examples
    ///
    /// ```
    /// use portage::context::ContextVar;
    ///
    /// static LEVEL: ContextVar<u8> = ContextVar::new("level");
    ///
    /// let token = LEVEL.set(1);
    /// LEVEL.reset(token)?;
    /// assert_eq!(LEVEL.get(), None);
    /// # Ok::<(), portage::context::ResetError<u8>>(())
    /// ```
    pub fn reset(&self, mut token: Token<T>) -> Result<(), ResetError<T>> {
        if self.assigned_key() != token.variable {
            return Err(ResetError::new(token, Wrong::Variable));
        }
        let (home, variable) = (token.home, token.variable);
        match scope::reset(home, variable, || token.old.take().map(|old| old as _)) {
            Ok(_displaced) => Ok(()),
            Err(()) => Err(ResetError::new(token, Wrong::Context)),
        }
    }

    /// Sets the value until the guard is dropped.
    ///
    /// The guard restores on unwinding too. It is not `Send`: a task that holds one over an
    /// `.await` belongs to its thread.
    ///
    /// # Examples
    ///
    /// ```
    /// # use portage::context::ContextVar;
    /// static LEVEL: ContextVar<u8> = ContextVar::new("level");
    /// {
    ///     let _guard = LEVEL.scope(5);
    ///     assert_eq!(LEVEL.get(), Some(5));
    /// }
    /// assert_eq!(LEVEL.get(), None);
    /// ```
    pub fn scope(&self, value: T) -> ScopeGuard<'_, T> {
        ScopeGuard::new(self, self.set(value))
    }

    /// Shows the value in the running context to `f`; the default does not count.
    #[inline]
    fn look<R>(&self, f: impl FnOnce(Option<&T>) -> R) -> R {
        let running = scope::running();
        let value = running
            .as_ref()
            .and_then(|running| running.value(self.assigned_key()));
        f(value.map(typed))
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextVar")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::ContextVar;

    /// Two threads may both have drawn a number before either could give it to the variable.
    #[test]
    fn the_first_key_that_arrives_is_the_key() {
        let var = ContextVar::<u8>::new("var");
        assert_eq!([var.settle_for(u64::MAX), var.settle_for(5)], [u64::MAX; 2]);
        assert_eq!((var.key(), var.assigned_key()), (u64::MAX, u64::MAX));
    }
}
