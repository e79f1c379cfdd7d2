//! Counts what is captured by work: run once at most, and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::must;

/// All tickets of a program.
#[derive(Clone, Default)]
pub struct Account(Arc<Counts>);

#[derive(Default)]
struct Counts {
    submitted: AtomicUsize,
    ran: AtomicUsize,
    live: AtomicUsize,
}

/// Captured by one job or task: it may run once.
pub struct Ticket {
    account: Account,
    mark: Mark,
}

/// What others may see of one ticket.
#[derive(Clone, Default)]
pub struct Mark(Arc<Marks>);

#[derive(Default)]
struct Marks {
    ran: AtomicBool,
    gone: AtomicBool,
}

impl Account {
    pub fn ticket(&self) -> Ticket {
        self.0.submitted.fetch_add(1, Ordering::SeqCst);
        self.0.live.fetch_add(1, Ordering::SeqCst);
        Ticket {
            account: self.clone(),
            mark: Mark::default(),
        }
    }

    /// At the end of a program: nothing lives, nothing ran twice.
    pub fn settle(&self) {
        let live = self.0.live.load(Ordering::SeqCst);
        must(live == 0, &format!("{live} captured and not dropped"));
        let ran = self.0.ran.load(Ordering::SeqCst);
        let submitted = self.0.submitted.load(Ordering::SeqCst);
        must(ran <= submitted, "no more runs than submissions");
    }
}

impl Ticket {
    pub fn mark(&self) -> Mark {
        self.mark.clone()
    }

    /// The work has begun.
    pub fn stamp(&mut self) {
        let again = self.mark.0.ran.swap(true, Ordering::SeqCst);
        must(!again, "work runs once");
        self.account.0.ran.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let again = self.mark.0.gone.swap(true, Ordering::SeqCst);
        must(!again, "work is dropped once");
        self.account.0.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Mark {
    pub fn has_run(&self) -> bool {
        self.0.ran.load(Ordering::SeqCst)
    }

    pub fn is_gone(&self) -> bool {
        self.0.gone.load(Ordering::SeqCst)
    }
}
