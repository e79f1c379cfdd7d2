//! Runs user code and keeps its panic, so that no worker, loop or lane unwinds.

#![forbid(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs `code` to its end or its panic.
pub(crate) fn contain<R>(code: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(code))
}

/// Drops `value` and contains a panic of its destructor; true if there was none.
///
/// A payload whose own destructor panics is forgotten rather than dropped twice.
pub(crate) fn contained_drop<T>(value: T) -> bool {
    match contain(move || drop(value)) {
        Ok(()) => true,
        Err(payload) => {
            discard(payload);
            false
        }
    }
}

/// Drops a panic's payload; one that panics in turn is forgotten.
pub(crate) fn discard(payload: Payload) {
    if let Err(second) = contain(move || drop(payload)) {
        std::mem::forget(second);
    }
}

/// The text of a panic, where it has one.
pub(crate) fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        return Some(text);
    }
    payload.downcast_ref::<String>().map(String::as_str)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{contain, contained_drop, message};

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }

    #[test]
    fn a_payload_whose_drop_panics_is_contained() {
        assert!(!contained_drop(Bomb));
    }

    #[test]
    fn texts_of_both_kinds_are_read() {
        let fixed = contain(|| panic!("fixed")).unwrap_err();
        let number = 7;
        let made = contain(|| panic!("made {number}")).unwrap_err();
        assert_eq!(message(&*fixed), Some("fixed"));
        assert_eq!(message(&*made), Some("made 7"));
        assert_eq!(
            message(&*contain(|| std::panic::panic_any(3_u8)).unwrap_err()),
            None
        );
    }
}
