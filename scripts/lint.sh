#!/usr/bin/env bash
# The checks that read the code and run nothing.
. "$(dirname "$0")/lib.sh"

scripts/setup-test.sh
[ -e build/release/build.ninja ] || cmake --preset release
exec ctest --preset release -L lint "$@"
