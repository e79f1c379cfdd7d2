//! The first table of `docs/cost.md`, counted: allocations of all threads, and wakes of workers.
//!
//! Its locked instructions are counted by the guard (`ci/guard.sh`), which wants valgrind.

#![cfg(not(loom))]

#[path = "kit/counting.rs"]
mod counting;
#[path = "cost/operations.rs"]
mod operations;

use operations::{ALL, void};

/// Operations per count; the second one is free of what only the first pays.
const COUNT: usize = 2_000;

/// Shares of blocks of queues, and of what the test harness allocates meanwhile.
const SLACK: f64 = 0.1;

/// One test, because it counts what all threads of the process do.
#[test]
fn the_table_of_costs_is_true() {
    let table = include_str!("../docs/cost.md");
    let mut seen = 0;
    let rows = table.lines().skip_while(|line| !line.starts_with("| `"));
    for line in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells[1].split('`').nth(1).expect("a name in backquotes");
        let number = |at: usize| cells[at].parse::<f64>().expect("a number");
        let allocations = number(2);
        let wakes = (cells[4] != "-").then(|| number(4));
        let known = ALL.iter().find(|operation| operation.name == name);
        let known = known.unwrap_or_else(|| panic!("{name} is not counted"));
        (known.run)(COUNT);
        let (allocated, woken) = (0..10)
            .find_map(|_| {
                let before = void();
                let counted = counting::everywhere(|| (known.run)(COUNT));
                (void() == before).then_some(counted)
            })
            .expect("a count of nothing but the operation");
        let each = |count: f64| count / COUNT as f64;
        let counted = each(allocated.calls as f64);
        assert!(
            (counted - allocations).abs() <= SLACK,
            "{name}: {counted} allocations, {allocations} in the table"
        );
        let woken = woken.map(|woken| each(woken as f64));
        assert_eq!(woken.is_some(), wakes.is_some(), "{name}: a pool has wakes");
        assert!(
            woken <= wakes.map(|wakes| wakes + 0.01),
            "{name}: {woken:?} wakes, {wakes:?} in the table"
        );
        seen += 1;
    }
    assert_eq!(seen, ALL.len(), "every operation is in the table");
}
