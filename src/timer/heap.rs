//! Things in the order in which they fall due; equal times in the order in which they came.

#![forbid(unsafe_code)]

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Instant;

/// When something falls due. Never is later than every instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    At(Instant),
    Never,
}

impl From<Option<Instant>> for Due {
    fn from(deadline: Option<Instant>) -> Self {
        deadline.map_or(Self::Never, Self::At)
    }
}

/// A priority queue whose ties are first in, first out.
#[derive(Debug)]
pub(super) struct Heap<T> {
    items: BinaryHeap<Reverse<Item<T>>>,
    registered: u64,
}

#[derive(Debug)]
struct Item<T> {
    due: Due,
    turn: u64,
    value: T,
}

impl<T> Heap<T> {
    pub(super) fn new() -> Self {
        Self {
            items: BinaryHeap::new(),
            registered: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn push(&mut self, due: Due, value: T) {
        let turn = self.registered;
        self.registered += 1;
        self.items.push(Reverse(Item { due, turn, value }));
    }

    /// The first in line.
    pub(super) fn first(&self) -> Option<(Due, &T)> {
        let Reverse(item) = self.items.peek()?;
        Some((item.due, &item.value))
    }

    pub(super) fn pop(&mut self) -> Option<(Due, T)> {
        let Reverse(item) = self.items.pop()?;
        Some((item.due, item.value))
    }

    /// Keeps what `keep` accepts; the order stays. Returns how many went.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> usize {
        let before = self.items.len();
        self.items.retain(|Reverse(item)| keep(&item.value));
        if self.items.capacity() > 4 * self.items.len() {
            self.items.shrink_to(2 * self.items.len());
        }
        before - self.items.len()
    }

    /// Everything, in order; the heap is empty afterwards.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Due, T)> + use<T> {
        // Sorted in descending order of `Reverse`, so the last is the first in line.
        std::mem::take(&mut self.items)
            .into_sorted_vec()
            .into_iter()
            .rev()
            .map(|Reverse(item)| (item.due, item.value))
    }
}

impl<T> Item<T> {
    fn place(&self) -> (Due, u64) {
        (self.due, self.turn)
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<T> Eq for Item<T> {}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Due, Heap};
    use crate::base::random::Random;
    use std::time::{Duration, Instant};

    #[test]
    fn equal_deadlines_come_out_in_order_of_registration() {
        let now = Instant::now();
        let mut heap = Heap::new();
        (0..100).for_each(|n| heap.push(Due::At(now), n));
        let order: Vec<_> = std::iter::from_fn(|| heap.pop()).map(|(_, n)| n).collect();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn never_is_later_than_every_instant() {
        let mut heap = Heap::new();
        heap.push(Due::Never, "never");
        heap.push(
            Due::At(Instant::now() + Duration::from_secs(1 << 30)),
            "late",
        );
        assert_eq!(heap.first().map(|(_, name)| *name), Some("late"));
    }

    /// Pushes, pops, removals and full drains against a sorted list.
    #[test]
    fn the_heap_agrees_with_a_sorted_list() {
        let start = Instant::now();
        for seed in 0..if cfg!(miri) { 2 } else { 40 } {
            let random = Random::new(seed);
            let (mut heap, mut list) = (Heap::new(), Vec::<(Due, u64)>::new());
            for n in 0..if cfg!(miri) { 100 } else { 2_000 } {
                match random.below(100) {
                    0..=54 => {
                        let due = match random.below(20) {
                            0 => Due::Never,
                            k => Due::At(start + Duration::from_nanos(k as u64 / 2)),
                        };
                        heap.push(due, n);
                        let at = list.partition_point(|(other, _)| *other <= due);
                        list.insert(at, (due, n));
                    }
                    55..=97 => {
                        let expected = (!list.is_empty()).then(|| list.remove(0));
                        assert_eq!(heap.first().map(|(due, n)| (due, *n)), expected);
                        assert_eq!(heap.pop(), expected);
                    }
                    98 => {
                        let third = random.below(3) as u64;
                        let before = list.len();
                        list.retain(|(_, n)| n % 3 != third);
                        assert_eq!(heap.retain(|n| n % 3 != third), before - list.len());
                    }
                    _ => {
                        assert_eq!(heap.take_all().collect::<Vec<_>>(), list);
                        list.clear();
                    }
                }
                assert_eq!(heap.len(), list.len());
            }
        }
    }
}
