#!/usr/bin/env bash
# Every libFuzzer target for FUZZ_SECONDS each (600), or only those named: FUZZ_SECONDS=60 scripts/fuzz.sh config
. "$(dirname "$0")/lib.sh"

need_packages "fuzz" clang-14 libclang-rt-14-dev
scripts/build.sh fuzz
names=${*:-$(cd build/fuzz/fuzz && ls)}
for name in $names; do
    say "fuzzing $name for ${FUZZ_SECONDS:-600} s"
    mkdir -p "build/fuzz/corpus/$name" "build/fuzz/findings"
    "build/fuzz/fuzz/$name" -max_total_time="${FUZZ_SECONDS:-600}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/findings/$name-" "build/fuzz/corpus/$name" "tests/fuzz/seeds/$name"
done
