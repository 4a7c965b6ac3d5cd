#!/usr/bin/env bash
# Configures and builds a preset: scripts/build.sh release
. "$(dirname "$0")/lib.sh"
preset=${1:?which preset of CMakePresets.json}

scripts/setup-build.sh
say "building $preset into build/$preset"
cmake --preset "$preset"
cmake --build --preset "$preset"
