#!/usr/bin/env bash
# Reads through prismd against the stores' own clients; the arguments go to perf/storage.py.
. "$(dirname "$0")/lib.sh"

scripts/setup-test.sh
scripts/build.sh release
PYTHONPATH=tests:build/release/python PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 perf/storage.py "$@"
