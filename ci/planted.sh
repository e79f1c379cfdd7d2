#!/usr/bin/env bash
# Plants the bugs of tests/planted.txt one by one, in a copy of the tree; each must make its check
# fail, which must pass without it. Prints how long each check took to notice, without the build.
#   ci/planted.sh [FILTER]      FILTER: part of a line of the list
# Exit code 77: a sanitizer is not to be had here, and nothing else failed.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD filter=${1:-}
work=$root/target/planted tree=$root/target/planted/tree log=$root/target/planted/log
export CARGO_TARGET_DIR=${PLANTED_TARGET_DIR:-$work/target}
rm -rf "$tree" && mkdir -p "$tree"
for entry in *; do
    [ "$entry" = target ] || [ "$entry" = fuzz ] || cp -r "$entry" "$tree"
done
mkdir -p "$tree/fuzz" && { [ ! -d fuzz/corpus ] || cp -r fuzz/corpus "$tree/fuzz"; }

fail() { echo "planted: $*" >&2; exit 2; }

# A hang is found by a watchdog; none of the checks takes nearly as long.
export PORTAGE_WATCHDOG=20
TRIPLE=$(rustc -vV | sed -n 's/^host: //p')
export TRIPLE

# Before a command of cargo: with this sanitizer, in a folder of its own. The flags are unstable.
sanitized() { # NAME COMMAND...
    local name=$1
    shift
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$name -Cunsafe-allow-abi-mismatch=sanitizer" \
        "$@" --target "$TRIPLE" --target-dir "$CARGO_TARGET_DIR/$name"
}
address() { ASAN_OPTIONS=detect_stack_use_after_return=0 sanitized address "$@"; }
# A program of its own: the harness of cargo's tests talks through channels that are not instrumented.
thread() {
    TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp halt_on_error=1" PORTAGE_SOAK_SECONDS=4 sanitized thread "$@"
}
export -f sanitized address thread

# Can this toolchain build and run a program with it?
has() { # NAME
    mkdir -p "$work/probe"
    echo 'fn main() {}' >"$work/probe/$1.rs"
    RUSTC_BOOTSTRAP=1 rustc "-Zsanitizer=$1" --target "$TRIPLE" -Cunsafe-allow-abi-mismatch=sanitizer \
        -o "$work/probe/$1" "$work/probe/$1.rs" >"$work/probe/$1.log" 2>&1 && "$work/probe/$1"
}
absent=
for name in address thread; do has $name || absent+=" $name"; done

# Builds and runs a check in the copy: 0 it passed, 1 it failed, 2 it does not build.
check() {
    (cd "$tree" && eval "$1 --no-run") >"$log" 2>&1 || return 2
    started=$(date +%s%N)
    local code=0
    { (cd "$tree" && timeout --kill-after=5 120 bash -c "$1") >"$log" 2>&1; } 2>/dev/null || code=1
    took=$((($(date +%s%N) - started) / 1000000))
    return $code
}

# Fields may hold a bar as `\|`.
field() { printf '%s' "$line" | sed 's/\\|/\x01/g' | awk -F' \\| ' -v n="$1" '{printf "%s", $n}' | tr '\001' '|'; }

declare -A sane=()
caught=0 missed=0
printf '%-16s %-8s %6s  %s\n' class verdict ms check
while IFS= read -r line || [ -n "$line" ]; do
    case $line in '' | '#'*) continue ;; esac
    [[ $line == *"$filter"* ]] || continue
    class=$(field 1) file=$(field 2) old=$(field 3) new=$(field 4) command=$(field 5)
    [ -n "$command" ] || fail "not five fields: $line"
    if [[ " $absent " == *" ${command%% *} "* ]]; then
        printf '%-16s %-8s %6s  %s\n' "$class" ABSENT - "$command"
        continue
    fi
    if [ -z "${sane[$command]:-}" ]; then
        check "$command" || { tail -n 20 "$log"; fail "without a bug it does not pass: $command"; }
        sane[$command]=yes
    fi
    text=$(cat "$root/$file" && echo .) text=${text%.}
    [ "$(grep -cF -- "$old" "$root/$file")" = 1 ] || fail "$file does not hold it once: $old"
    printf '%s' "${text/"$old"/"$new"}" >"$tree/$file"
    code=0
    check "$command" || code=$?
    case $code in
        0) verdict=MISSED missed=$((missed + 1)) ;;
        1) verdict=caught caught=$((caught + 1)) ;;
        *) tail -n 30 "$log"; fail "it does not build: $line" ;;
    esac
    printf '%-16s %-8s %6s  %s\n' "$class" "$verdict" "$took" "$command"
    # What the check said, the plainest first.
    for word in 'AddressSanitizer: ' 'ThreadSanitizer: ' 'it must hold' 'nobody can go on' 'there is no end' \
        'what was made is still there' 'watchdog: ' 'panicked at'; do
        grep -a -m 1 -- "$word" "$log" | cut -c 1-160 | sed 's/^/                 /' && break || :
    done
    printf '%s' "$text" >"$tree/$file"
done <tests/planted.txt
echo "planted: $caught caught, $missed missed"
[ $missed -eq 0 ] || exit 1
[ -z "$absent" ] || {
    echo "!!! NOT CHECKED: no$absent sanitizer in this compiler" >&2
    exit 77
}
