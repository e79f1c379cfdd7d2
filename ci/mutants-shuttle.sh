#!/usr/bin/env bash
# ci/mutants-loom.sh with the weakenings that shuttle must notice: tests/mutants/shuttle/*.txt.
#   ci/mutants-shuttle.sh [FILTER...]
MODELS=shuttle exec "$(dirname "$0")/mutants-loom.sh" "$@"
