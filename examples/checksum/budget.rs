//! A bound on bytes in flight. One thread's own: who reserves and who gives back run on the loop.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

pub(crate) struct Budget {
    limit: usize,
    taken: Cell<usize>,
    /// The walk; nobody else waits here.
    waiting: RefCell<Option<Waker>>,
}

/// Bytes that are spoken for until this is dropped.
pub(crate) struct Reserved {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self {
            limit,
            taken: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    /// Waits until `bytes` fit below the limit.
    pub(crate) async fn reserve(self: &Rc<Self>, bytes: usize) -> Reserved {
        assert!(bytes <= self.limit, "{bytes} bytes never fit");
        self.below(self.limit - bytes).await;
        self.taken.set(self.taken.get() + bytes);
        Reserved {
            budget: Rc::clone(self),
            bytes,
        }
    }

    /// Waits until everything was given back.
    pub(crate) async fn idle(&self) {
        self.below(0).await;
    }

    async fn below(&self, most: usize) {
        poll_fn(|cx| {
            if self.taken.get() <= most {
                return Poll::Ready(());
            }
            let before = self.waiting.replace(Some(cx.waker().clone()));
            drop(before);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.taken.set(self.budget.taken.get() - self.bytes);
        let waiting = self.budget.waiting.take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::Budget;

    #[test]
    fn what_does_not_fit_waits_until_it_does() {
        let budget = Budget::new(10);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(budget.reserve(6)).poll(&mut cx) else {
            panic!("six of ten fit");
        };
        let mut second = pin!(budget.reserve(5));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(pin!(budget.idle()).poll(&mut cx).is_pending());
        drop(first);
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert!(pin!(budget.idle()).poll(&mut cx).is_ready());
    }
}
