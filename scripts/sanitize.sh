#!/usr/bin/env bash
# The whole suite under the sanitizers: scripts/sanitize.sh [asan|tsan]; both without an argument.
. "$(dirname "$0")/lib.sh"

for preset in ${1:-asan tsan}; do
    PRESET=$preset scripts/test.sh -LE lint
done
