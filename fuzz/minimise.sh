#!/usr/bin/env bash
# The fewest inputs that reach the same edges, in the place of corpus/TARGET.
#   fuzz/minimise.sh TARGET [FOLDER...]      folders with more inputs
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?which target?}
shift
built=$(./run.sh --build "$target")
small=$(mktemp -d)
trap 'rm -rf "$small"' EXIT
mkdir -p "corpus/$target"
"$built/$target" -set_cover_merge=1 -use_counters=0 -max_len=256 "$small" "$@" "corpus/$target" 2>&1 | tail -n 1
rm -rf "corpus/$target" && mkdir -p "corpus/$target"
cp "$small"/* "corpus/$target"
echo "corpus/$target: $(find "corpus/$target" -type f | wc -l) inputs"
