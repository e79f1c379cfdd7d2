#!/usr/bin/env bash
# Nothing of the simulation is in a normal build, not even a check whether there is one: no object
# code of its library holds a symbol, a message or a file name of it.
set -euo pipefail
cd "$(dirname "$0")/.."
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT

knows() { # FEATURES
    local library
    library=$(cargo build --release --quiet --message-format=json-render-diagnostics --features "$1" |
        sed -n 's/.*"filenames":\["\([^"]*libportage[^"]*\.rlib\)".*/\1/p' | tail -n 1)
    [ -f "$library" ] || { echo "normal-build: cargo names no library" >&2; exit 2; }
    rm -f "$objects"/*
    (cd "$objects" && ar x "$library" && rm -f lib.rmeta)
    grep -rqa 'simulated\|simulation' "$objects"
}

# With the feature it must be found, or the look itself is worth nothing.
knows test-util || { echo "normal-build: the look finds nothing at all" >&2; exit 1; }
! knows '' || { echo "normal-build: it knows of the simulation" >&2; exit 1; }
echo "normal-build: knows nothing of the simulation"
