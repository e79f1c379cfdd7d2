#!/usr/bin/env bash
# Every fuzz target for a while, from the stored corpus; fails on a crash, a hang, a leak, a lack
# of memory. What it finds lies in fuzz/artifacts. Nothing is added to the corpus.
#   ci/fuzz.sh [TARGET...]     FUZZ_SECONDS for each (default 14)
# Then `pool_real` once more with AddressSanitizer and its search for leaks, where the compiler has it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-14}
targets=("$@")
[ $# -gt 0 ] || targets=($(cd fuzz/targets && echo *.rs | sed 's/\.rs//g'))
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
log=$found/log

fuzz() { # FOLDER TARGET NAME [libFuzzer arguments]
    local folder=$1 target=$2 name=$3 code=0
    shift 3
    mkdir -p "$found/$name" "fuzz/artifacts/$target" "fuzz/corpus/$target"
    # The same random numbers every time, so that red says something about the change; `just fuzz` has
    # others, and looks for what nobody knows of.
    "$folder/$target" -seed=1 -artifact_prefix="fuzz/artifacts/$target/" -timeout=10 -rss_limit_mb=2048 \
        -max_len=256 -max_total_time="$seconds" "$@" "$found/$name" "fuzz/corpus/$target" >"$log" 2>&1 || code=$?
    local runs
    runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log")
    printf '%-22s %8s runs in %s s: %s\n' "$name" "${runs:-?}" "$seconds" "$([ $code -eq 0 ] && echo ok || echo FAILED)"
    [ $code -eq 0 ] || { tail -n 60 "$log"; failed=1; }
}

# A worker judges the room on its stack by the address of a local; with this on, locals lie elsewhere.
export ASAN_OPTIONS=detect_stack_use_after_return=0:${ASAN_OPTIONS:-}
export LSAN_OPTIONS=suppressions=$PWD/ci/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}

failed=0
echo "the engine is libFuzzer, guided by the coverage that $(rustc --version) gives it"
plain=$(fuzz/run.sh --build)
for target in "${targets[@]}"; do
    fuzz "$plain" "$target" "$target"
done

case " ${targets[*]} " in *" pool_real "*)
    # Not exported: it changes what build scripts of dependencies find.
    if echo 'fn main() {}' | RUSTC_BOOTSTRAP=1 rustc -Zsanitizer=address -o "$found/probe" - 2>/dev/null; then
        sanitized=$(RUSTC_BOOTSTRAP=1 SAN=address fuzz/run.sh --build pool_real)
        fuzz "$sanitized" pool_real pool_real-address
    else
        echo "!!! no AddressSanitizer in this compiler: nothing has looked for a use after free on real threads"
    fi
    ;;
esac
exit $failed
