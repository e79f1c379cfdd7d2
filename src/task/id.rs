//! A number for every task of the process.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;

use crate::base::count::Ticket;

/// Ids that a thread takes at once, so that threads do not meet at the counter.
const BLOCK: u64 = 1 << 10;

static NEXT: Ticket = Ticket::new();

std::thread_local! {
    /// The next id of this thread and the end of its block.
    static MINE: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Names one job, task or promise; never used twice in a process.
///
/// # Examples
///
/// ```
/// let (_first, first) = portage::promise::<()>();
/// let (_second, second) = portage::promise::<()>();
/// assert_ne!(first.id(), second.id());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(NonZeroU64);

impl TaskId {
    #[inline]
    pub(crate) fn fresh() -> Self {
        #[cfg(shuttle)]
        if let Some(number) = crate::base::shuttled::number() {
            return Self(NonZeroU64::MIN.saturating_add(number));
        }
        let number = MINE
            .try_with(|mine| {
                let (next, end) = mine.get();
                let (next, end) = if next == end { block() } else { (next, end) };
                mine.set((next + 1, end));
                next
            })
            .unwrap_or_else(|_| block().0);
        Self(NonZeroU64::MIN.saturating_add(number))
    }

    pub(crate) fn number(self) -> u64 {
        self.0.get()
    }
}

fn block() -> (u64, u64) {
    let start = NEXT.take(BLOCK);
    (start, start + BLOCK)
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.0)
    }
}
