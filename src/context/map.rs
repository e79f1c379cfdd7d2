//! An immutable map with an O(1) copy, for the variables of a context.
//!
//! Most contexts hold a handful of variables: up to [`FEW`] of them are one shared slice that is
//! searched from front to back, which is faster than any tree. Beyond that a tree of sixteen
//! ways takes over, whose update copies the path to the changed leaf and shares all the rest.
//!
//! Keys are numbers given out one by one, so their low bits are spread as well as a hash could
//! spread them: the tree branches on the key itself, four bits a level, the lowest first. Two
//! keys never collide, because they differ in some four bits.
//!
//! # Invariants
//!
//! 1. What two maps share is never written: an update goes through [`Arc::make_mut`], so that
//!    it copies what is shared and writes in place what is not.
//! 2. No update drops a value: the one it displaces is handed back, all others are in the map
//!    still. Callers may therefore update with their own state taken apart.
//! 3. Below a [`Slot::Branch`] there are at least two leaves.

#![forbid(unsafe_code)]

use std::iter::once;
use std::mem;

use crate::base::sync::Arc;

/// From how many entries on a slice is worse than a tree.
const FEW: usize = 8;
const BITS: u32 = 4;

/// Keys to values; a clone is O(1) and independent.
#[derive(Clone)]
pub(super) struct Map<V> {
    len: usize,
    shape: Shape<V>,
}

#[derive(Clone)]
enum Shape<V> {
    Empty,
    Few(Arc<[Leaf<V>]>),
    Many(Node<V>),
}

#[derive(Clone)]
struct Leaf<V> {
    key: u64,
    value: V,
}

/// The children that exist, in the order of their bits in `present`.
#[derive(Clone)]
struct Node<V> {
    present: u16,
    slots: Arc<[Slot<V>]>,
}

#[derive(Clone)]
enum Slot<V> {
    Leaf(Leaf<V>),
    Branch(Node<V>),
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self {
            len: 0,
            shape: Shape::Empty,
        }
    }
}

impl<V: Clone> Map<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<&V> {
        match &self.shape {
            Shape::Empty => None,
            Shape::Few(leaves) => leaves
                .iter()
                .find(|leaf| leaf.key == key)
                .map(|leaf| &leaf.value),
            Shape::Many(top) => top.get(key),
        }
    }

    /// Puts `value` in the place of `key`; hands back what was there.
    pub(super) fn insert(&mut self, key: u64, value: V) -> Option<V> {
        let leaf = Leaf { key, value };
        let displaced = match &mut self.shape {
            Shape::Empty => {
                self.shape = Shape::Few(once(leaf).collect());
                None
            }
            Shape::Few(leaves) => match leaves.iter().position(|leaf| leaf.key == key) {
                Some(at) => Some(mem::replace(
                    &mut Arc::make_mut(leaves)[at].value,
                    leaf.value,
                )),
                None if leaves.len() < FEW => {
                    *leaves = with(leaves, leaves.len(), leaf);
                    None
                }
                None => {
                    self.shape = Shape::Many(Node::of(leaves.iter().cloned().chain(once(leaf))));
                    None
                }
            },
            Shape::Many(top) => top.insert(0, leaf),
        };
        if displaced.is_none() {
            self.len += 1;
        }
        displaced
    }

    /// Takes `key` out; hands back what was there.
    pub(super) fn remove(&mut self, key: u64) -> Option<V> {
        // Looking first spares a copy of the path where there is nothing to take out.
        let removed = self.get(key)?.clone();
        self.len -= 1;
        match &mut self.shape {
            Shape::Empty => {}
            Shape::Few(leaves) => {
                if let Some(at) = leaves.iter().position(|leaf| leaf.key == key) {
                    *leaves = without(leaves, at);
                }
            }
            Shape::Many(top) => {
                top.remove(0, key);
                // Half of FEW, so that a map at the border does not change its shape each time.
                if self.len <= FEW / 2 {
                    let mut leaves = Vec::with_capacity(self.len);
                    top.visit(None, &mut |leaf| leaves.push(leaf.clone()));
                    self.shape = Shape::Few(leaves.into());
                }
            }
        }
        Some(removed)
    }

    /// Shows the entries that may differ from those of `other`: parts that both maps share are
    /// passed over unseen, so that comparing a map with its own past costs what has changed.
    pub(super) fn visit_apart_from(&self, other: &Self, see: &mut impl FnMut(u64, &V)) {
        match (&self.shape, &other.shape) {
            (Shape::Empty, _) => {}
            (Shape::Few(mine), Shape::Few(theirs)) if Arc::ptr_eq(mine, theirs) => {}
            (Shape::Few(mine), _) => mine.iter().for_each(|leaf| see(leaf.key, &leaf.value)),
            (Shape::Many(mine), theirs) => {
                let theirs = match theirs {
                    Shape::Many(theirs) => Some(theirs),
                    _ => None,
                };
                mine.visit(theirs, &mut |leaf| see(leaf.key, &leaf.value));
            }
        }
    }
}

impl<V: Clone> Node<V> {
    fn of(leaves: impl Iterator<Item = Leaf<V>>) -> Self {
        let mut node = Self {
            present: 0,
            slots: Arc::from(Vec::new()),
        };
        leaves.for_each(|leaf| {
            node.insert(0, leaf);
        });
        node
    }

    fn get(&self, key: u64) -> Option<&V> {
        let (mut node, mut shift) = (self, 0);
        loop {
            match node.child(bit(key, shift))? {
                Slot::Leaf(leaf) => return (leaf.key == key).then_some(&leaf.value),
                Slot::Branch(below) => (node, shift) = (below, shift + BITS),
            }
        }
    }

    fn insert(&mut self, shift: u32, leaf: Leaf<V>) -> Option<V> {
        let bit = bit(leaf.key, shift);
        let at = self.index(bit);
        if self.present & bit == 0 {
            self.slots = with(&self.slots, at, Slot::Leaf(leaf));
            self.present |= bit;
            return None;
        }
        let slot = &mut Arc::make_mut(&mut self.slots)[at];
        match slot {
            Slot::Leaf(there) if there.key == leaf.key => {
                Some(mem::replace(&mut there.value, leaf.value))
            }
            Slot::Leaf(there) => {
                let mut below = Self {
                    present: self::bit(there.key, shift + BITS),
                    slots: once(Slot::Leaf(there.clone())).collect(),
                };
                below.insert(shift + BITS, leaf);
                *slot = Slot::Branch(below);
                None
            }
            Slot::Branch(below) => below.insert(shift + BITS, leaf),
        }
    }

    /// Takes out `key`, which must be there.
    fn remove(&mut self, shift: u32, key: u64) {
        let bit = bit(key, shift);
        let at = self.index(bit);
        if let Slot::Leaf(_) = self.slots[at] {
            self.slots = without(&self.slots, at);
            self.present &= !bit;
            return;
        }
        let slot = &mut Arc::make_mut(&mut self.slots)[at];
        if let Slot::Branch(below) = slot {
            below.remove(shift + BITS, key);
            // A branch with one leaf left gives way to the leaf (invariant 3).
            if let [Slot::Leaf(last)] = &*below.slots {
                *slot = Slot::Leaf(last.clone());
            }
        }
    }

    /// Shows every leaf that does not stand in a part shared with `other`, a node of this level.
    fn visit(&self, other: Option<&Self>, see: &mut impl FnMut(&Leaf<V>)) {
        if other.is_some_and(|other| Arc::ptr_eq(&self.slots, &other.slots)) {
            return;
        }
        let mut present = self.present;
        for slot in &*self.slots {
            let bit = present & present.wrapping_neg();
            present &= !bit;
            match slot {
                Slot::Leaf(leaf) => see(leaf),
                Slot::Branch(below) => {
                    let beside = other.and_then(|other| other.child(bit));
                    let beside = match beside {
                        Some(Slot::Branch(beside)) => Some(beside),
                        _ => None,
                    };
                    below.visit(beside, see);
                }
            }
        }
    }

    fn child(&self, bit: u16) -> Option<&Slot<V>> {
        (self.present & bit != 0).then(|| &self.slots[self.index(bit)])
    }

    /// The place of the child with this bit among those that exist.
    fn index(&self, bit: u16) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }
}

/// The one bit that stands for the child of `key` at this level.
fn bit(key: u64, shift: u32) -> u16 {
    1 << ((key >> shift) & ((1 << BITS) - 1))
}

/// A copy of `slice` with `item` put in before `at`.
fn with<T: Clone>(slice: &[T], at: usize, item: T) -> Arc<[T]> {
    let (before, after) = slice.split_at(at);
    let before = before.iter().cloned().chain(once(item));
    before.chain(after.iter().cloned()).collect()
}

/// A copy of `slice` without the item at `at`.
fn without<T: Clone>(slice: &[T], at: usize) -> Arc<[T]> {
    let (before, after) = (&slice[..at], &slice[at + 1..]);
    before.iter().chain(after).cloned().collect()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{FEW, Map, Shape};
    use crate::base::random::Random;
    use std::collections::{BTreeMap, HashMap};

    fn entries(map: &Map<u64>) -> BTreeMap<u64, u64> {
        let mut seen = BTreeMap::new();
        map.visit_apart_from(&Map::default(), &mut |key, value| {
            assert_eq!(seen.insert(key, *value), None, "an entry was shown twice");
        });
        seen
    }

    fn filled(count: u64) -> Map<u64> {
        let mut map = Map::default();
        for key in 1..=count {
            assert_eq!(map.insert(key, key * 10), None);
        }
        map
    }

    /// Keys near and far, so that all shapes, deep branches and their collapse are met.
    fn some_key(random: &Random) -> u64 {
        let near = random.below(40) as u64;
        match random.below(4) {
            0 => near << 60 | 1,
            1 => near << 8,
            _ => near,
        }
    }

    #[test]
    fn random_updates_agree_with_a_hash_map_and_leave_every_copy_alone() {
        for seed in 0..20 {
            let random = Random::new(seed);
            let (mut map, mut model) = (Map::default(), HashMap::new());
            let mut copies = Vec::new();
            for step in 0..if cfg!(miri) { 100 } else { 2_000 } {
                let key = some_key(&random);
                if random.below(100) < 55 {
                    assert_eq!(map.insert(key, step), model.insert(key, step));
                } else {
                    assert_eq!(map.remove(key), model.remove(&key));
                }
                assert_eq!(map.len(), model.len(), "seed {seed}, step {step}");
                let probe = some_key(&random);
                assert_eq!(
                    map.get(probe),
                    model.get(&probe),
                    "seed {seed}, step {step}"
                );
                if random.below(50) == 0 {
                    copies.push((map.clone(), model.clone()));
                }
            }
            copies.push((map, model));
            for (copy, model) in copies {
                assert_eq!(entries(&copy), model.into_iter().collect());
            }
        }
    }

    #[test]
    fn shapes_change_at_their_borders_and_keep_every_entry() {
        for count in [0, 1, FEW - 1, FEW, FEW + 1, 16, 17, 300] {
            let count = count as u64;
            let mut map = filled(count);
            assert_eq!(map.len() as u64, count);
            for key in 1..=count {
                assert_eq!(map.remove(key), Some(key * 10));
                assert_eq!(map.remove(key), None);
                let many = matches!(map.shape, Shape::Many(_));
                assert_eq!(many, count > FEW as u64 && map.len() > FEW / 2);
                assert!((key + 1..=count).all(|rest| map.get(rest) == Some(&(rest * 10))));
            }
            assert_eq!(entries(&map), BTreeMap::new());
        }
    }

    #[test]
    fn comparing_with_the_past_shows_little_more_than_the_change() {
        let before = filled(1_000);
        let mut after = before.clone();
        after.insert(500, 0);
        let mut shown = 0;
        after.visit_apart_from(&before, &mut |_, _| shown += 1);
        assert!((1..=48).contains(&shown), "{shown} entries were shown");
        before.visit_apart_from(&before.clone(), &mut |_, _| panic!("all of it is shared"));
    }

    #[test]
    fn what_nobody_shares_is_written_in_place() {
        let mut map = filled(300);
        let at = std::ptr::from_ref(map.get(77).unwrap());
        map.insert(77, 1);
        assert_eq!(std::ptr::from_ref(map.get(77).unwrap()), at);
        let copy = map.clone();
        map.insert(77, 2);
        assert_eq!((copy.get(77), map.get(77)), (Some(&1), Some(&2)));
    }
}
