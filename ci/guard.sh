#!/usr/bin/env bash
# Counts what the hottest operations cost, and fails if one became dearer than its baseline.
#   ci/guard.sh [--bless] [OPERATION...]
# Instructions are counted by valgrind. Where it is missing and can be installed, it is; where not,
# the guard counts the rest and says what it did not look at. Without arguments it also counts how
# often work and outcomes are copied.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v valgrind >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    timeout 60 apt-get install -y -qq valgrind >/dev/null 2>&1 || true
fi
# On one CPU, where it is the same at every run who waits for whom; on more, that depends on what else
# the machine does, and the counts with it.
pin=()
cpu=$(taskset -cp $$ 2>/dev/null | sed 's/.*: //; s/[,-].*//') || true
if [ -n "$cpu" ]; then
    pin=(taskset -c "$cpu")
else
    echo "*** no taskset here: the counts of what goes between threads depend on the machine's load ***" >&2
fi
[ $# -gt 0 ] || cargo test --quiet --release -p portage-guard --test copies
cargo build --quiet --release -p portage-guard
"${pin[@]}" cargo run --quiet --release -p portage-guard -- "$@"
