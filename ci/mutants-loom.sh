#!/usr/bin/env bash
# Weakens the code one line at a time, in a copy of the tree, and fails if a model does not notice.
#   ci/mutants-loom.sh [FILTER...]      FILTER: part of a line of tests/mutants/*.txt, or of the
#                                       name of a list (`mutants/pool.txt`)
#   ci/mutants-shuttle.sh [FILTER...]   the same for tests/mutants/shuttle/*.txt
#
# A line is `file | old text | new text | test filter`. The old text stands in the file exactly
# once. A bar of the texts themselves is written as it is or as `\|`; where it leaves a choice, the
# longest old text that stands in the file wins.
# MUTANT_SECONDS (default 300) bounds one model: one that runs longer has decided nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
filters=("${@:-}")
seconds=${MUTANT_SECONDS:-300}
# set by mutants-shuttle.sh
models=${MODELS:-loom}
case $models in
    loom) target=${LOOM_TARGET_DIR:-$root/target/loom} folder=tests/mutants ;;
    shuttle) target=${SHUTTLE_TARGET_DIR:-$root/target/shuttle} folder=tests/mutants/shuttle ;;
esac
case $target in /*) ;; *) target=$root/$target ;; esac
work=$root/target/mutants-$models
tree=$work/tree

fail() { echo "mutants-$models: $*" >&2; exit 2; }

shopt -s nullglob
lists=("$folder"/*.txt)
[ ${#lists[@]} -gt 0 ] || fail "no list in $folder"

rm -rf "$work" && mkdir -p "$tree"
for entry in *; do
    case $entry in target | fuzz) ;; *) cp -r "$entry" "$tree" ;; esac
done

export RUSTFLAGS="--cfg $models" CARGO_TARGET_DIR=$target
log=$work/log
# cargo takes what it has built of the copy for the tree's own: nobody else is to run that
trap 'rm -rf "$target"/model/.fingerprint/portage-*' EXIT

# Builds the models of the copy; the path of the test binary goes to $binary.
build() {
    (cd "$tree" && cargo test --profile model --lib --no-run --message-format=json-render-diagnostics) \
        >"$work/build.json" 2>"$log" || return 1
    binary=$(sed -n '/"reason":"compiler-artifact"/s/.*"executable":"\([^"]*\)".*/\1/p' "$work/build.json" | tail -n 1)
    [ -x "$binary" ] || fail "no test binary in what cargo said"
}

# Runs one model: 0 it passed, 1 it failed, 124 it was still running; 3 there is none.
model() {
    local code=0
    # the braces keep the shell's own word about a crash out of the table
    { timeout --kill-after=5 "$seconds" "$binary" "$1" --test-threads=1 >"$log" 2>&1; } 2>/dev/null || code=$?
    case $code in
        0) grep -qE '^test result: ok\. [1-9]' "$log" || code=3 ;;
        124 | 137) code=124 ;;
        *) code=1 ;;
    esac
    return $code
}

# Splits $line into $file $old $new $test; old must stand in the file exactly once.
split() {
    local rest=$1 parts=() i cut
    while [[ $rest == *" | "* ]]; do
        parts+=("${rest%%" | "*}")
        rest=${rest#*" | "}
    done
    parts+=("$rest")
    local n=${#parts[@]}
    [ "$n" -ge 4 ] || fail "not \`file | old | new | test\`: $1"
    file=${parts[0]} test=${parts[n - 1]}
    [ -f "$root/$file" ] || fail "no file $file: $1"
    text=$(cat "$root/$file" && echo .) text=${text%.}
    for ((cut = n - 3; cut >= 1; cut--)); do
        old=${parts[1]}
        for ((i = 2; i <= cut; i++)); do old+=" | ${parts[i]}"; done
        old=${old//'\|'/'|'}
        [[ $text == *"$old"* ]] || continue
        local after=${text#*"$old"}
        [[ $after == *"$old"* ]] && continue
        new=${parts[cut + 1]}
        for ((i = cut + 2; i < n - 1; i++)); do new+=" | ${parts[i]}"; done
        new=${new//'\|'/'|'}
        return 0
    done
    fail "$file does not hold it exactly once: $1"
}

lines=()
for list in "${lists[@]}"; do
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in '' | '#'*) continue ;; esac
        for filter in "${filters[@]}"; do
            [[ "$list: $line" == *"$filter"* ]] && lines+=("$line") && break
        done
    done <"$list"
done
[ ${#lines[@]} -gt 0 ] || fail "no mutant matches ${filters[*]}"

# A model that fails, or is not there, without a mutant says nothing about one.
build || { tail -n 30 "$log"; fail "the models do not build"; }
declare -A sane=()
for line in "${lines[@]}"; do
    split "$line"
    [ -n "${sane[$test]:-}" ] && continue
    code=0
    model "$test" || code=$?
    [ $code -eq 0 ] || { tail -n 15 "$log"; fail "$test does not pass on the code as it is ($code)"; }
    sane[$test]=yes
done

killed=0 survived=0 broken=0
printf '%-9s %5s  %-44s %s\n' verdict sec model weakening
for line in "${lines[@]}"; do
    split "$line"
    printf '%s' "${text/"$old"/"$new"}" >"$tree/$file"
    started=$SECONDS
    if ! build; then
        verdict=BROKEN broken=$((broken + 1))
    else
        code=0
        model "$test" || code=$?
        case $code in
            1) verdict=killed killed=$((killed + 1)) ;;
            124) verdict=UNDECIDED survived=$((survived + 1)) ;;
            *) verdict=SURVIVED survived=$((survived + 1)) ;;
        esac
    fi
    printf '%-9s %5s  %-44s %s: %s  ->  %s\n' "$verdict" $((SECONDS - started)) "$test" "$file" "$old" "$new"
    [ "$verdict" = BROKEN ] && grep -A6 '^error' "$log" | head -n 20
    printf '%s' "$text" >"$tree/$file"
done
echo "mutants-$models: $killed killed, $survived survived, $broken do not build"
[ $((survived + broken)) -eq 0 ]
