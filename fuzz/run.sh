#!/usr/bin/env bash
# Fuzzes one target with libFuzzer on a stable toolchain; a C++ compiler builds libFuzzer.
#   fuzz/run.sh TARGET [libFuzzer arguments]
#   SAN=address fuzz/run.sh TARGET ...      with AddressSanitizer: nightly, or RUSTC_BOOTSTRAP=1
# Coverage comes from the compiler's ordinary -C options, so cargo-fuzz is not needed; it works too.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?which target? chain, program}
shift
sanitizer=${SAN:-none}
triple=$(rustc -vV | sed -n 's/^host: //p')
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
flags+=" --cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks"
[ "$sanitizer" = none ] || flags+=" -Zsanitizer=$sanitizer"
# A target triple of its own keeps the flags away from build scripts and proc macros.
RUSTFLAGS="$flags ${RUSTFLAGS:-}" cargo build --locked --release --target "$triple" \
    --target-dir "target/$sanitizer" --bin "$target"
mkdir -p "corpus/$target" "artifacts/$target"
exec "target/$sanitizer/$triple/release/$target" -artifact_prefix="artifacts/$target/" -timeout=10 \
    -rss_limit_mb=2048 -max_len=256 -print_final_stats=1 "$@" "corpus/$target"
