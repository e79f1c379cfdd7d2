#!/usr/bin/env bash
# Counts what the hottest operations cost, and fails if one became dearer than its baseline.
#   ci/guard.sh [--bless] [OPERATION...]
# Instructions are counted by valgrind. Where it is missing and can be installed, it is; where not,
# the guard counts the rest and says what it did not look at.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v valgrind >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    timeout 60 apt-get install -y -qq valgrind >/dev/null 2>&1 || true
fi
cargo run --quiet --release -p portage-guard -- "$@"
