#!/usr/bin/env bash
# Checks every package of both lock files, with cargo alone: its licence is on the list of deny.toml,
# it comes from crates.io with a checksum, and no async runtime is among the crate's dependencies.
#
# This is no check for advisories: their database is not in the registry. `just deny` is.
set -euo pipefail
cd "$(dirname "$0")/.."

bad=0
complain() { echo "licences: $*" >&2; bad=1; }

# the quoted lines between `allow = [` and `]`
allowed=$(sed -n '/^allow = \[/,/^\]/s/^ *"\(.*\)",$/\1/p' deny.toml)
[ -n "$allowed" ] || { echo "licences: deny.toml lists none" >&2; exit 2; }

# All that could be built on any system: `package version<TAB>licence`.
packages() {
    cargo tree --locked --manifest-path "$1" --workspace --all-features --target all --edges normal,build,dev \
        --prefix none --format $'{p}\t{l}' | sed '/^$/d; s/ (\*)$//' | sort -u
}

# Every part of an AND needs one alternative that is allowed. A slash is an old OR.
unlicensed() {
    awk -F '\t' -v allowed="$allowed" '
        BEGIN { n = split(allowed, names, "\n"); for (i = 1; i <= n; i++) ok[names[i]] = 1 }
        $1 ~ /^portage/ { next }
        # for fuzzing only, and only its copy of libFuzzer is under the second licence
        $1 ~ /^libfuzzer-sys / && $2 == "(MIT OR Apache-2.0) AND NCSA" { next }
        {
            text = $2; gsub("/", " OR ", text); gsub(/[()]/, "", text)
            parts = split(text, all, " AND "); good = parts > 0
            for (p = 1; p <= parts; p++) {
                any = 0; m = split(all[p], some, " OR ")
                for (i = 1; i <= m; i++) if (some[i] in ok) any = 1
                if (!any) good = 0
            }
            if (!good) print $1 " (" ($2 == "" ? "no licence" : $2) ")"
        }'
}

count=0
for manifest in Cargo.toml fuzz/Cargo.toml; do
    list=$(packages "$manifest")
    count=$((count + $(wc -l <<<"$list")))
    found=$(unlicensed <<<"$list")
    [ -z "$found" ] || complain "$manifest: not on the list of deny.toml:"$'\n'"$found"

    lock=${manifest%.toml}.lock
    # a package without a source is one of ours; a source that is not the registry, or without a
    # checksum, is nobody's
    found=$(awk '
        /^\[\[package\]\]/ { if (source && !sum) print name; name = source = sum = "" }
        /^name = /     { name = $3 }
        /^source = /   { source = 1; if ($3 != "\"registry+https://github.com/rust-lang/crates.io-index\"") print name, $3 }
        /^checksum = / { sum = 1 }
        END { if (source && !sum) print name }' "$lock")
    [ -z "$found" ] || complain "$lock: not from the registry, or without a checksum: $found"
done

runtimes=$(cargo tree --locked -p portage --all-features --target all --edges normal --prefix none --format '{p}' |
    grep -E '^(tokio|async-std|async-executor|async-global-executor|smol|actix-rt|monoio|glommio) ' || true)
[ -z "$runtimes" ] || complain "an async runtime among the dependencies: $runtimes"

[ $bad -eq 0 ] || exit 1
echo "licences: $count packages, $(wc -l <<<"$allowed") licences; NOT checked here: advisories (\`just deny\`)"
