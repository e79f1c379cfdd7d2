#!/usr/bin/env bash
# Runs the five call shapes and checks what they print.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --example five_shapes
bin=${CARGO_TARGET_DIR:-target}/release/examples/five_shapes
diff <(timeout 240 "$bin") - <<'END'
1. async calls blocking code:                   2 + 3 = 5
2. blocking calls blocking that drives async:   2 * 3 = 6
3. async calls blocking that drives async:      2 * 3 = 6
4. async moves badly behaved async elsewhere:   2 + 3 + 2 * 3 = 11
5. blocking calls async:                        2 * 3 = 6
the pool has ended
END
echo "five_shapes: every shape gives its result"
