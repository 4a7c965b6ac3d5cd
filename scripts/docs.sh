#!/usr/bin/env bash
# Renders the protocol reference from the comments in proto/.
. "$(dirname "$0")/lib.sh"

scripts/setup-build.sh
cmake --preset release >/dev/null
exec cmake --build --preset release --target docs
