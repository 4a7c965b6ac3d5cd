#!/usr/bin/env bash
# Proves that nothing is lost while brokers, prismd and members fail. Arguments go to the checker:
# scripts/nothing-lost.sh --backend kafka,jetstream,redis-stream --minutes 2, or --messages 5000000
. "$(dirname "$0")/lib.sh"

scripts/setup-test.sh
scripts/build.sh release
PYTHONPATH=tests:build/release/python PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/nightly/nothing_lost.py "$@"
