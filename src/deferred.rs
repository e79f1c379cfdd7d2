//! Steps that a completion sets off, one after another instead of one inside another.
//!
//! The end of a task runs callbacks, a callback may end the next task of a chain, and so on,
//! and a cancel climbs the same chain in the other direction. Run as nested calls, a long chain
//! would use up the stack. The outermost step of a thread therefore keeps a queue: what its
//! callees set off is queued and run when they have returned.
//!
//! A callee that waits must not wait for a step that is queued behind it: whoever blocks on
//! this thread runs queued steps first ([`run_one`]).

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::base::contain::{contain, discard};
use crate::base::sync::local;

type Step = Box<dyn FnOnce()>;

local! {
    static ACTIVE: Cell<bool> = Cell::new(false);
}
local! {
    static STEPS: RefCell<VecDeque<Step>> = RefCell::new(VecDeque::new());
}

/// Runs `step` at once, or after the step that is running on this thread.
///
/// Panics of a step are contained; steps that run user code report them themselves.
pub(crate) fn run(step: impl FnOnce() + 'static) {
    match ACTIVE.try_with(|active| active.replace(true)) {
        Ok(false) => {
            let _end = Outermost;
            run_contained(step);
            while run_one() {}
        }
        Ok(true) => {
            let mut step = Some(step);
            let queued = STEPS.try_with(|steps| {
                if let Some(step) = step.take() {
                    steps.borrow_mut().push_back(Box::new(step));
                }
            });
            if queued.is_err() {
                step.into_iter().for_each(run_contained);
            }
        }
        Err(_) => run_contained(step),
    }
}

/// Runs the oldest queued step of this thread; false when there is none.
pub(crate) fn run_one() -> bool {
    let step = STEPS
        .try_with(|steps| steps.borrow_mut().pop_front())
        .unwrap_or_default();
    match step {
        Some(step) => {
            run_contained(step);
            true
        }
        None => false,
    }
}

fn run_contained(step: impl FnOnce()) {
    if let Err(payload) = contain(step) {
        discard(payload);
    }
}

/// Marks the end of the outermost step.
struct Outermost;

impl Drop for Outermost {
    fn drop(&mut self) {
        let _ = ACTIVE.try_with(|active| active.set(false));
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::run;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn a_step_set_off_by_a_step_runs_after_it_and_before_the_outermost_returns() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let seen = order.clone();
        run(move || {
            let inner = seen.clone();
            run(move || inner.borrow_mut().push("inner"));
            seen.borrow_mut().push("outer");
        });
        assert_eq!(*order.borrow(), ["outer", "inner"]);
    }

    #[test]
    fn a_chain_of_steps_needs_no_stack() {
        fn step(left: usize) {
            if left > 0 {
                run(move || step(left - 1));
            }
        }
        run(|| step(1_000_000));
    }
}
