#!/usr/bin/env bash
# Runs the programs for shuttle whose name holds FILTER (default: all of them).
#   ci/shuttle.sh [FILTER]
# Each takes the same orders every time. SHUTTLE_SEED=0x... makes one run again, as the failure
# says; SHUTTLE_RUNS=10 makes ten times as many, SHUTTLE_FROM=N other ones.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR="${SHUTTLE_TARGET_DIR:-target/shuttle}"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
cargo test --profile model --lib -- "${1:-shuttle_}" 2>&1 | tee "$out"
# a filter that matches nothing proves nothing
grep -qE '^test result: ok\. [1-9]' "$out" || { echo "shuttle: no program named ${1:-shuttle_}" >&2; exit 1; }
