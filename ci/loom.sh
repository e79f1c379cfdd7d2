#!/usr/bin/env bash
# Runs the loom models whose name holds FILTER (default: all of them).
#   ci/loom.sh [FILTER]
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="${LOOM_TARGET_DIR:-target/loom}"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
cargo test --profile model --lib -- "${1:-loom_}" 2>&1 | tee "$out"
# a filter that matches nothing proves nothing
grep -qE '^test result: ok\. [1-9]' "$out" || { echo "loom: no model named ${1:-loom_}" >&2; exit 1; }
