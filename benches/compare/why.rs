//! Why a row misses its bar, as far as it was found out; `NOTES.md` has the measurements.

/// By row, and where a row has several lines, by a part of what it says.
const REASONS: &[(u32, &str, &str)] = &[
    (
        1,
        "bare boxes",
        "a job has a cell with handle, context and account; a box has one call",
    ),
    (
        1,
        "",
        "what is left is malloc and the accounts; see row 1 in NOTES",
    ),
    (2, "bare boxes", "as row 1"),
    (4, "best peer", "two futex wakes, as with the peer"),
    (4, "", "the tail is when the machine gives the worker a CPU"),
    (6, "", "as the tail of row 4"),
    (
        7,
        "spawn_batch",
        "a batch saves the push and the look at sleepers, not the cells",
    ),
    (7, "", "the cells: as row 1"),
    (8, "bare boxes", "as row 1"),
    (9, "", "how soon a started thread gets a CPU; see NOTES"),
    (
        11,
        "",
        "a thread that stands by begins no sooner: when it gets a CPU; see NOTES",
    ),
    (12, "joins", "each batch wakes the other worker; see NOTES"),
    (
        12,
        "",
        "the context of each poll, a place that others may empty; see NOTES",
    ),
    (
        13,
        "",
        "a worker without a CPU; what its watch fires goes through the injector",
    ),
    (
        14,
        "bare channel",
        "it depends on the CPUs that the kernel gives the two threads; see NOTES",
    ),
    (
        15,
        "one thread",
        "a block of 120 bytes with place for callbacks and chains; see NOTES",
    ),
    (15, "polled", "as the line above"),
    (15, "", "two futex wakes, as with the peer"),
    (
        20,
        "",
        "an executor has 30 of 340 us; the tail is when threads get a CPU; see NOTES",
    ),
];

/// The reason of a line that misses.
pub fn why(row: u32, what: &str) -> &'static str {
    let known = REASONS
        .iter()
        .find(|(known, part, _)| *known == row && what.contains(part));
    known.map_or("not known", |(_, _, reason)| reason)
}
