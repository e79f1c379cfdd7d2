#!/usr/bin/env bash
# The tests under AddressSanitizer with LeakSanitizer, the soak under ThreadSanitizer, Miri where it is.
#   ci/sanitizers.sh quick     what CI runs: the tests that do most to memory, in a few minutes
#   ci/sanitizers.sh           all tests, and the fuzz targets for FUZZ_SECONDS (default 30) each
#
# The flags are unstable. A stable compiler takes them with RUSTC_BOOTSTRAP=1, which is set for these
# builds alone. Exit code 77: a sanitizer is not to be had here, and nothing else failed.
set -uo pipefail
cd "$(dirname "$0")/.."
quick=${1:-}
triple=$(rustc -vV | sed -n 's/^host: //p')
target=${SANITIZER_TARGET_DIR:-target/sanitizers}
failed=() missing=()

loudly() {
    printf '\n!!! %s\n' "$1" >&2
    shift
    printf '!!! %s\n' "$@" >&2
}

# Can this toolchain build and run a program with `-Zsanitizer=$1`?
has() {
    mkdir -p "$target/probe"
    echo 'fn main() { println!("{}", std::env::args().count()); }' >"$target/probe/probe.rs"
    RUSTC_BOOTSTRAP=1 rustc "-Zsanitizer=$1" --target "$triple" -Cunsafe-allow-abi-mismatch=sanitizer \
        -o "$target/probe/$1" "$target/probe/probe.rs" >"$target/probe/$1.log" 2>&1 &&
        "$target/probe/$1" >>"$target/probe/$1.log" 2>&1
}

# step NAME SECONDS COMMAND...: bounded, because a sanitizer can hang in its own report
step() {
    local name=$1 seconds=$2 started=$SECONDS
    shift 2
    echo "--- $name"
    if timeout --kill-after=10 "$seconds" "$@"; then
        echo "--- $name: clean ($((SECONDS - started)) s)"
    else
        echo "--- $name: FAILED ($((SECONDS - started)) s)" >&2
        failed+=("$name")
    fi
}

address() {
    local which=(--tests)
    [ "$quick" = quick ] && which=(--lib --test soak --test faults --test cancel --test hostile
        --test promise --test execution_queue --test executors --test event_loop --test thread_end)
    # A worker tells from the address of a local how much of its stack is used, and the check for
    # uses after a return would move that local to the heap.
    # `a_process_that_gets_no_thread`: the shadow memory alone is more than its limit.
    # tidy reads text, and the allocations that `alloc` counts are not the sanitizer's.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" \
        ASAN_OPTIONS=detect_stack_use_after_return=0 LSAN_OPTIONS="suppressions=$PWD/ci/lsan.supp:print_suppressions=0" \
        PORTAGE_SOAK_SECONDS=10 RUST_BACKTRACE=0 \
        step "AddressSanitizer and LeakSanitizer" "${ADDRESS_SECONDS:-900}" \
        cargo test --target "$triple" --target-dir "$target/address" --no-fail-fast "${which[@]}" -- \
        --skip a_process_that_gets_no_thread --skip tidy
}

# As a program: the harness of cargo's tests talks through std's channels, which are not instrumented.
thread() {
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
        TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp history_size=4" PORTAGE_SOAK_SECONDS=20 \
        step "ThreadSanitizer" "${THREAD_SECONDS:-600}" \
        cargo test --target "$triple" --target-dir "$target/thread" --test soak
}

# The unsafe rooms; most of what is above them needs more than Miri has time for.
miri() {
    MIRIFLAGS=-Zmiri-ignore-leaks step "Miri" "${MIRI_SECONDS:-900}" \
        cargo miri test --target-dir "$target/miri" --lib task::
}

if has address; then
    address
    if [ "$quick" != quick ]; then
        for one in $(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | grep -v portage); do
            RUSTC_BOOTSTRAP=1 SAN=address step "fuzz target $one with AddressSanitizer" 900 \
                fuzz/run.sh "$one" "-max_total_time=${FUZZ_SECONDS:-30}"
        done
    fi
else
    missing+=(address)
    loudly "NOT CHECKED: AddressSanitizer, LeakSanitizer (see $target/probe/address.log)." \
        "This is no pass: a use after free, a double free or a leak in the unsafe rooms would not be" \
        "seen here. Run it on x86-64 or aarch64 Linux or macOS with a rustc that has the runtimes."
fi

if has thread; then
    thread
else
    missing+=(thread)
    loudly "NOT CHECKED: ThreadSanitizer (see $target/probe/thread.log)." \
        "This is no pass: the models know the protocols, but only this sees a data race that nobody" \
        "has modelled."
fi

if cargo miri --version >/dev/null 2>&1; then
    miri
else
    missing+=(miri)
    loudly "NOT CHECKED: Miri is not installed for this toolchain." \
        "This is no pass: pointers used against the aliasing rules would not be seen by anything else." \
        "\`rustup +nightly component add miri\`, then \`cargo +nightly miri test --lib task::\`."
fi

echo
echo "sanitizers: ${#failed[@]} failed${failed[*]:+ (${failed[*]})}, ${#missing[@]} not to be had${missing[*]:+ (${missing[*]})}"
[ ${#failed[@]} -eq 0 ] || exit 1
# Miri comes with nightly alone; its absence is said above and does not hold CI up
case " ${missing[*]} " in *address* | *thread*) exit 77 ;; esac
