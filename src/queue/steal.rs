//! Whom a searcher robs: everybody else once, from a random start, so that several searchers
//! do not queue up at the same victim.

#![forbid(unsafe_code)]

/// The victims of worker `own` among `count` workers, from `start` on, around.
pub(crate) fn victims(count: usize, own: usize, start: usize) -> impl Iterator<Item = usize> {
    (0..count)
        .map(move |step| (start % count + step) % count)
        .filter(move |victim| *victim != own)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::victims;

    #[test]
    fn every_other_worker_is_a_victim_exactly_once() {
        for count in 0..6 {
            for own in 0..=count {
                for start in [0, 1, 4, usize::MAX] {
                    let mut order: Vec<_> = victims(count, own, start).collect();
                    order.sort_unstable();
                    let expected: Vec<_> = (0..count).filter(|other| *other != own).collect();
                    assert_eq!(order, expected, "{count} workers, own {own}, start {start}");
                }
            }
        }
    }

    #[test]
    fn the_start_decides_who_comes_first() {
        assert_eq!(victims(4, 0, 2).collect::<Vec<_>>(), [2, 3, 1]);
        assert_eq!(victims(4, 2, 2).collect::<Vec<_>>(), [3, 0, 1]);
    }
}
