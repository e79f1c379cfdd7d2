#!/usr/bin/env bash
# What the stored corpus reaches in the rooms that it is made for, by lines and branches of each file.
#   ci/fuzz-coverage.sh [--missed]     --missed: also every line that no input reaches
# Wants llvm-profdata and llvm-cov of the compiler's LLVM: `rustup component add llvm-tools`, or a
# package such as Debian's llvm-22; LLVM_BIN names their folder.
set -euo pipefail
cd "$(dirname "$0")/.."
major=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
tool() {
    local own
    own=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/$1
    for candidate in "${LLVM_BIN:+$LLVM_BIN/$1}" "$own" "$(command -v "$1-$major")" "/usr/lib/llvm-$major/bin/$1"; do
        [ -n "$candidate" ] && [ -x "$candidate" ] && { echo "$candidate"; return; }
    done
    echo "fuzz-coverage: no $1 of LLVM $major; see the head of this file" >&2
    exit 2
}
profdata=$(tool llvm-profdata) cov=$(tool llvm-cov)
out=$PWD/target/fuzz-coverage
rm -rf "$out/raw" && mkdir -p "$out/raw"

# The replays are the corpus as `cargo test` runs it, without the made programs.
export RUSTFLAGS=-Cinstrument-coverage LLVM_PROFILE_FILE=$out/raw/%p-%m.profraw PORTAGE_MADE=0
objects=()
while IFS= read -r binary; do objects+=("$binary"); done < <(
    cargo test --lib --test fuzz_regress --no-run --message-format=json-render-diagnostics --target-dir "$out/build" |
        sed -n '/"reason":"compiler-artifact"/s/.*"executable":"\([^"]*\)".*/\1/p'
)
rm -f "$out"/raw/*
for binary in "${objects[@]}"; do
    case $binary in
        */fuzz_regress-*) "$binary" ;;
        *) "$binary" simulation::replay ;;
    esac >/dev/null 2>&1
done
"$profdata" merge -sparse "$out"/raw/*.profraw -o "$out/all.profdata"

rooms='src/((promise|task|current_thread|execution_queue|timer|context)/|pool/(seal|shutdown|stranded|worker))'
more=(); for object in "${objects[@]:1}"; do more+=(-object "$object"); done
"$cov" export -format=lcov -instr-profile="$out/all.profdata" "${objects[0]}" "${more[@]}" \
    --ignore-filename-regex='(registry|rustc|tests|models)' >"$out/all.lcov"

awk -v rooms="$rooms" -v missed="${1:-}" -v root="$PWD/" '
    /^SF:/ { file = substr($0, 4); sub(root, "", file); use = file ~ rooms; lines = hit = 0; gone = ""; skip = 0
             if (use) { n = 0; intest = 0; while ((getline text < file) > 0) { n++; if (text ~ /^(pub\(crate\) )?mod (tests|models) \{/) intest = 1; test[n] = intest; source[n] = text } close(file) } }
    /^DA:/ && use { split(substr($0, 4), part, ","); at = part[1] + 0; if (!test[at]) { lines++; if (part[2] > 0) hit++; else gone = gone sprintf("    %d: %s\n", at, source[at]) } }
    /^end_of_record/ && use { all += lines; allhit += hit; if (lines) { printf "%-40s %4d of %4d lines  %5.1f %%\n", file, hit, lines, 100 * hit / lines; if (missed != "") printf "%s", gone } }
    END { printf "%-40s %4d of %4d lines  %5.1f %%\n", "all of these rooms", allhit, all, 100 * allhit / all }
' "$out/all.lcov"
