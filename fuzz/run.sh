#!/usr/bin/env bash
# Fuzzes one target, or builds them, with libFuzzer on a stable toolchain; a C++ compiler builds
# libFuzzer.
#   fuzz/run.sh TARGET [libFuzzer arguments]
#   fuzz/run.sh --build [TARGET]             builds all, or this one; prints where they are
#   SAN=address fuzz/run.sh ...              with AddressSanitizer: nightly, or RUSTC_BOOTSTRAP=1
# The compiler's ordinary -C options give libFuzzer its coverage, so the search is guided also
# without cargo-fuzz; `cargo +nightly fuzz run TARGET` works too.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?which target? $(cd targets && echo *.rs | sed 's/\.rs//g')}
shift
sanitizer=${SAN:-none}
triple=$(rustc -vV | sed -n 's/^host: //p')
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
flags+=" --cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks"
[ "$sanitizer" = none ] || flags+=" -Zsanitizer=$sanitizer"
what=(--bin "$target")
if [ "$target" = --build ]; then
    what=(--bins)
    [ $# -eq 0 ] || what=(--bin "$1")
fi
built=${FUZZ_TARGET_DIR:-target}/$sanitizer
# A target triple of its own keeps the flags away from build scripts and proc macros.
RUSTFLAGS="$flags ${RUSTFLAGS:-}" cargo build --locked --release --target "$triple" \
    --target-dir "$built" "${what[@]}" >&2
built=$built/$triple/release
if [ "$target" = --build ]; then
    (cd "$built" && pwd)
    exit
fi
mkdir -p "corpus/$target" "artifacts/$target"
# A worker judges the room on its stack by the address of a local; with this on, locals lie elsewhere.
export ASAN_OPTIONS=detect_stack_use_after_return=0:${ASAN_OPTIONS:-}
export LSAN_OPTIONS=suppressions=$PWD/../ci/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}
exec "$built/$target" -artifact_prefix="artifacts/$target/" -timeout=10 -rss_limit_mb=2048 \
    -max_len=256 -print_final_stats=1 "$@" "corpus/$target"
