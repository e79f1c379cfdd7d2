//! Things in the order in which they fall due; equal times in the order in which they came.
//!
//! A heap with four children per node: half as deep as a binary one, and the four keys that a
//! step down compares lie side by side. A key is two words, nanoseconds since an origin well
//! before the heap was made, and a serial number, compared as one.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::base::clock;

const CHILDREN: usize = 4;

/// So long before the heap is made is its origin: what is due before that is due anyway.
const PAST: Duration = Duration::from_secs(3_600);

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
    items: Vec<Item<T>>,
    registered: u64,
    /// Where the nanoseconds are counted from.
    origin: Instant,
}

#[derive(Debug)]
struct Item<T> {
    at: u64,
    turn: u64,
    value: T,
}

impl<T> Item<T> {
    fn key(&self) -> u128 {
        (u128::from(self.at) << 64) | u128::from(self.turn)
    }
}

impl<T> Heap<T> {
    pub(super) fn new() -> Self {
        let now = clock::now();
        Self {
            items: Vec::new(),
            registered: 0,
            origin: now.checked_sub(PAST).unwrap_or(now),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn push(&mut self, due: Due, value: T) {
        let at = self.place(due);
        let turn = self.registered;
        self.registered += 1;
        self.items.push(Item { at, turn, value });
        self.rise(self.items.len() - 1);
    }

    /// The first in line.
    pub(super) fn first(&self) -> Option<(Due, &T)> {
        let item = self.items.first()?;
        Some((self.due(item.at), &item.value))
    }

    pub(super) fn pop(&mut self) -> Option<(Due, T)> {
        if self.items.is_empty() {
            return None;
        }
        let item = self.items.swap_remove(0);
        self.sink(0);
        Some((self.due(item.at), item.value))
    }

    /// Keeps what `keep` accepts; the order stays. Returns how many went.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> usize {
        let before = self.items.len();
        self.items.retain(|item| keep(&item.value));
        let len = self.items.len();
        if self.items.capacity() > 4 * len {
            self.items.shrink_to(2 * len);
        }
        for parent in (0..len.div_ceil(CHILDREN)).rev() {
            self.sink(parent);
        }
        before - len
    }

    /// Everything, in order; the heap is empty afterwards.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Due, T)> + use<T> {
        let origin = self.origin;
        let mut items = std::mem::take(&mut self.items);
        items.sort_unstable_by_key(Item::key);
        items
            .into_iter()
            .map(move |item| (due_at(origin, item.at), item.value))
    }

    /// What lies before the origin is due at once; what lies more than 584 years after it is
    /// never.
    fn place(&self, due: Due) -> u64 {
        match due {
            Due::At(instant) => {
                let after = instant.saturating_duration_since(self.origin);
                u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)
            }
            Due::Never => u64::MAX,
        }
    }

    fn due(&self, at: u64) -> Due {
        due_at(self.origin, at)
    }

    /// Moves the item at `index` up to where its key belongs.
    fn rise(&mut self, mut index: usize) {
        while index > 0 {
            let parent = (index - 1) / CHILDREN;
            if self.items[parent].key() <= self.items[index].key() {
                return;
            }
            self.items.swap(parent, index);
            index = parent;
        }
    }

    /// Moves the item at `index` down to where its key belongs.
    fn sink(&mut self, mut index: usize) {
        loop {
            let first = index * CHILDREN + 1;
            let last = (first + CHILDREN).min(self.items.len());
            let Some(least) = (first..last).min_by_key(|child| self.items[*child].key()) else {
                return;
            };
            if self.items[index].key() <= self.items[least].key() {
                return;
            }
            self.items.swap(index, least);
            index = least;
        }
    }
}

fn due_at(origin: Instant, at: u64) -> Due {
    if at == u64::MAX {
        return Due::Never;
    }
    origin.checked_add(Duration::from_nanos(at)).into()
}

#[cfg(all(test, not(any(loom, shuttle))))]
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
    fn what_lies_before_the_origin_is_due_at_once_and_the_far_future_never() {
        let mut heap = Heap::new();
        if let Some(long_ago) = heap.origin.checked_sub(Duration::from_secs(1)) {
            heap.push(Due::At(long_ago), ());
            assert_eq!(heap.pop(), Some((Due::At(heap.origin), ())));
        }
        let eons = Duration::from_secs(600 * 365 * 86_400);
        heap.push(heap.origin.checked_add(eons).into(), ());
        assert_eq!(heap.pop(), Some((Due::Never, ())));
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
