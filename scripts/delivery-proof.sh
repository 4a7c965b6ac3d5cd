#!/usr/bin/env bash
# Proves that what multicasts report as delivered is what receivers got, on real Redis and NATS, also while they fail.
# Arguments go to the checker: scripts/delivery-proof.sh --seconds 10 --many 20000
. "$(dirname "$0")/lib.sh"

scripts/setup-test.sh
scripts/build.sh release
export PYTHONPATH=tests:build/release/python PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 tests/nightly/delivery_proof.py "$@"
