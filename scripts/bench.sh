#!/usr/bin/env bash
# Ours against the baselines, alternately in one run; the arguments go to prism-bench.
. "$(dirname "$0")/lib.sh"

scripts/setup-test.sh
scripts/build.sh release
exec build/release/bin/prism-bench ratios "$@"
