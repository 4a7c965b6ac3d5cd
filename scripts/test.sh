#!/usr/bin/env bash
# Installs what is missing, builds, runs everything. Arguments go to ctest: scripts/test.sh -L e2e
. "$(dirname "$0")/lib.sh"

scripts/setup-test.sh
scripts/build.sh "${PRESET:-release}"
say "running the tests"
exec ctest --preset "${PRESET:-release}" "$@"
