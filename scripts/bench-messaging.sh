#!/usr/bin/env bash
# Messages through prismd against the brokers' own clients; the arguments go to perf/messaging.py.
. "$(dirname "$0")/lib.sh"

scripts/setup-test.sh
scripts/build.sh release
PYTHONPATH=tests:build/release/python PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 perf/messaging.py "$@"
