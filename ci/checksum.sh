#!/usr/bin/env bash
# Drives the main job over generated trees and compares with `sha256sum -c`.
#   ci/checksum.sh           BIG_MB (default 2048): size of the one big file
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --example checksum
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
bin=$target/release/examples/checksum
here=$PWD
work=$(mktemp -d)
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "checksum: $*" >&2
    [ -f err ] && tail -n 20 err >&2
    exit 1
}
ok() { printf '  ok  %s\n' "$*"; }

# Runs the job to `out` and `err`; its exit code must be the first argument.
job() {
    local expected=$1 code=0
    shift
    timeout 300 "$bin" "$@" >out 2>err || code=$?
    [ "$code" -eq "$expected" ] || fail "exit code $code instead of $expected: $*"
    tail -n 1 err | grep -qE '^checksum: [0-9]+ files, [0-9]+ bytes, [0-9.]+ MB/s, [0-9]+ threads$' ||
        fail "the last line is: $(tail -n 1 err)"
}

agrees() { sha256sum --check --strict --quiet out >check 2>&1 || { head -n 5 check >&2; fail "sha256sum does not agree"; }; }

# --- ten thousand small files ----------------------------------------------------------------

mkdir small
for d in $(seq 100); do
    mkdir "small/$d"
    for f in $(seq 100); do echo "$d $f" >"small/$d/$f.txt"; done
done
: >small/empty
echo x >small/1-2 # sorts before what is in `1`
job 0 small
agrees
[ "$(wc -l <out)" -eq 10002 ] || fail "$(wc -l <out) lines for 10002 files"
[ "$(wc -l <err)" -eq 1 ] || fail "something to say about a tree without fault"
ok "10 000 small files: $(cat err)"

sort out >unsorted
job 0 --sorted small
agrees
LC_ALL=C sort -k 2 out | cmp -s - out || fail "--sorted is not in the order of paths"
sort out | cmp -s - unsorted || fail "--sorted has other lines"
ok "--sorted gives the same lines in the order of their paths"

(cd small/1 && timeout 60 "$bin" >"$work/out" 2>"$work/err")
(cd small/1 && sha256sum --check --strict --quiet "$work/out") || fail "the current directory is not the default"
[ "$(wc -l <out)" -eq 100 ] || fail "the current directory is not the default"
ok "the current directory is the default"

# --- the registry of a real machine ------------------------------------------------------------

registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
if [ -d "$registry" ]; then
    job 0 "$registry"
    agrees
    ok "the sources of our dependencies: $(cat err)"
else
    fail "no sources in the registry, although this crate has dependencies"
fi

# --- one big file among others, in bounded memory -----------------------------------------------

mkdir big
for f in $(seq 64); do truncate -s 16M "big/$f"; done
truncate -s "${BIG_MB:-2048}M" big/one
"$bin" big >out 2>err &
pid=$!
peak=0
while kill -0 $pid 2>/dev/null; do
    now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$pid/status 2>/dev/null) || true
    [ "${now:-0}" -gt "$peak" ] && peak=$now
    sleep 0.05
done
wait $pid || fail "exit code $?"
agrees
# the stated limit, and room for threads, code and names
[ "$peak" -le $(((64 + 32) * 1024)) ] || fail "$peak kB of memory for a limit of 64 MiB"
[ "$peak" -gt 0 ] || fail "the memory of a run cannot be measured here"
ok "one file of ${BIG_MB:-2048} MB and 64 of 16 MB in $((peak / 1024)) MB of memory: $(cat err)"

# --- odd files -----------------------------------------------------------------------------------

mkdir -p odd/folder
echo 1 >odd/$'new\nline'
echo 2 >odd/'back\slash'
echo 3 >odd/$'not\xffutf8'
echo 4 >odd/$'return\r'
echo 5 >odd/'-dash and  spaces'
echo 6 >odd/folder/file
ln -s folder odd/link-to-folder
ln -s .. odd/folder/loop
ln -s folder/file odd/link-to-file
ln -s nowhere odd/dangling
mkfifo odd/pipe
if [ "$(id -u)" -eq 0 ]; then
    # nothing is unreadable for root, except what the kernel refuses
    unreadable=/proc/self/mem
else
    echo 7 >unreadable && chmod 000 unreadable
    mkdir odd/closed && chmod 000 odd/closed
    unreadable=unreadable
fi
job 1 odd "$unreadable" gone
agrees
[ "$(wc -l <out)" -eq 7 ] || fail "$(wc -l <out) lines for 7 files that can be read"
once() { [ "$(grep -cE "$1" err)" -eq 1 ] || fail "not one line: $1"; }
once '^checksum\[1\]: .*dangling: is a dangling link$'
once '^checksum\[1\]: .*pipe: is a pipe, not a file$'
once '^checksum\[1\]: "odd/new\\nline": .*a newline$'
once '^checksum\[1\]: "odd/back\\\\slash": .*a backslash$'
once '^checksum\[1\]: "odd/not\\xFFutf8": .*not UTF-8$'
once '^checksum\[1\]: "odd/return\\r": .*a carriage return$'
once '^checksum\[2\]: .*(mem|unreadable): '
once '^checksum\[3\]: gone: is not there'
others=$(grep -cE '^checksum\[' err)
[ "$others" -eq $((8 + $([ -d odd/closed ] && echo 1 || echo 0))) ] || fail "$others diagnostics"
ok "odd files have one line each, the rest goes on: $(tail -n 1 err)"

code=0
"$bin" --fast >out 2>err || code=$?
[ $code -eq 2 ] || fail "exit code $code for an option that is not there"
ok "an option that is not there is refused"

# --- nobody reads, no room -------------------------------------------------------------------------

set +e
"$bin" small 2>err | head -n 1 >out
code=${PIPESTATUS[0]}
set -e
[ "$code" -eq 141 ] || fail "exit code $code when nobody reads"
grep -q 'nobody reads the output' err && ! grep -qi panic err || fail "a closed pipe is not said so"
ok "a closed pipe ends the run: $(head -n 1 err)"

if [ -e /dev/full ]; then
    code=0
    "$bin" small >/dev/full 2>err || code=$?
    [ "$code" -eq 1 ] && grep -q 'the output cannot be written' err || fail "exit code $code on a full disk"
    ok "a full disk ends the run"
fi

# --- Ctrl-C ----------------------------------------------------------------------------------------

mkdir endless
for f in $(seq 300); do truncate -s 64G "endless/$f"; done
"$bin" small endless >out 2>err &
pid=$!
# when it has printed something, it listens; the endless files take hours
for _ in $(seq 600); do
    [ -s out ] && break
    sleep 0.1
done
sleep 0.5
pressed=$(date +%s%N)
kill -INT $pid
code=0
wait $pid || code=$?
took=$((($(date +%s%N) - pressed) / 1000000))
[ "$code" -eq 130 ] || fail "exit code $code after Ctrl-C"
[ "$took" -lt 20000 ] || fail "$took ms from Ctrl-C to the end"
said=$(grep -E '^checksum: interrupted: ' err) || fail "an interrupted run does not say so"
agrees
[[ $said =~ interrupted:\ ([0-9]+)\ of\ the\ ([0-9]+)\ files ]] || fail "$said"
[ "${BASH_REMATCH[1]}" -eq "$(wc -l <out)" ] || fail "$said, but $(wc -l <out) lines"
[ "${BASH_REMATCH[2]}" -gt "${BASH_REMATCH[1]}" ] || fail "$said"
ok "Ctrl-C, $took ms: $said"

cd "$here"
echo "checksum: agrees with sha256sum on every tree"
