#!/usr/bin/env bash
# Runs every example that says `Prints:` in its header and compares what it prints with that.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --examples
target=${CARGO_TARGET_DIR:-target}
checked=0
for source in examples/*.rs; do
    grep -q '^//! Prints:$' "$source" || continue
    name=$(basename "$source" .rs)
    expected=$(sed -n '/^\/\/! Prints:$/,/^\/\/! ```$/p' "$source" | sed -n 's/^\/\/! \([^`P].*\)$/\1/p')
    printed=$(timeout 240 "$target/debug/examples/$name")
    if [ "$printed" != "$expected" ]; then
        diff <(echo "$expected") <(echo "$printed") || true
        echo "$name does not print what its header says" >&2
        exit 1
    fi
    checked=$((checked + 1))
done
[ "$checked" -ge 4 ] || { echo "only $checked examples were found" >&2; exit 1; }
echo "examples: $checked print what their headers say"
