# Every recipe is a step of `.ci/run`, which needs no `just`.

# all steps, as CI runs them
ci:
    .ci/run

# what to run before a commit
check:
    .ci/run fmt clippy docs test tidy

test:
    .ci/run test

fmt:
    .ci/run fmt

clippy:
    .ci/run clippy clippy-loom clippy-shuttle

docs:
    .ci/run docs

tidy:
    .ci/run tidy

# all loom models, or those whose name holds FILTER
loom filter="loom_":
    ci/loom.sh {{filter}}

# whole pools in orders that seeds decide, or those whose name holds FILTER; SHUTTLE_SEED=0x...
# makes one run again, SHUTTLE_RUNS=10 makes ten times as many
shuttle filter="shuttle_":
    ci/shuttle.sh {{filter}}

# every weakening in tests/mutants must make its model fail; FILTER is part of its line, or of its list
mutants-loom *filter:
    ci/mutants-loom.sh {{filter}}

# the same for tests/mutants/shuttle
mutants-shuttle *filter:
    ci/mutants-shuttle.sh {{filter}}

examples:
    .ci/run five-shapes examples checksum

# the service on tokio with its clients, and the tests under a foreign runtime
tokio-service:
    .ci/run tokio-service

# compiles with the oldest Rust that Cargo.toml promises
msrv:
    .ci/run msrv

package:
    .ci/run package

# instructions, locked instructions, allocations and sleeps of the hottest operations, against
# benches/guard/baseline.txt
guard:
    .ci/run guard

# writes what `guard` finds into the baseline
bless:
    ci/guard.sh --bless

# portage beside its peers: a few minutes; ROWS by number, or all
bench *rows:
    cargo bench -p portage-benches -- {{rows}}

# the queues, promises, contexts and timers by themselves; FILTER is part of a row's name
micro filter="":
    cargo bench -p portage-benches --bench micro {{filter}}

# the same as `bench`, and keeps what it finds in benches/RESULTS.md and RESULTS.json
bench-report:
    cargo bench -p portage-benches -- --report

# writes the table of UNSAFE.md anew, for review
unsafe-inventory:
    PORTAGE_WRITE_INVENTORY=1 cargo test --test tidy inventory

# licences, sources and doubles, and with the network the advisories; wants `cargo install cargo-deny`
deny *checks:
    cargo deny --workspace check {{checks}}
    cargo deny --manifest-path fuzz/Cargo.toml check {{checks}}

# all public operations at random under load, with faults; PORTAGE_SOAK_SEED=N makes the same choices
soak minutes="10":
    PORTAGE_SOAK_SECONDS=$(({{minutes}} * 60)) cargo test --release --test soak

# one fuzz target for so long, on stable or nightly; what it finds lies in fuzz/artifacts
fuzz target seconds="60":
    fuzz/run.sh {{target}} -max_total_time={{seconds}}

# makes the corpus of a target small again: the fewest inputs with the same coverage
fuzz-minimise target:
    fuzz/minimise.sh {{target}}

# what the stored corpus reaches, file by file; `--missed` adds every line that it does not
fuzz-coverage *how:
    ci/fuzz-coverage.sh {{how}}

# plants a bug of each class in a copy of the tree; its check must fail
planted filter="":
    ci/planted.sh {{filter}}

# all tests under the sanitizers, the fuzz targets too; `quick` is what CI runs
sanitizers how="":
    ci/sanitizers.sh {{how}}
