#!/usr/bin/env bash
# Line coverage of patterns/ and pool/ by the whole suite: at least 90 %. A report in HTML: build/coverage/html.
. "$(dirname "$0")/lib.sh"

need_packages "coverage" gcovr
find build/coverage -name '*.gcda' -delete 2>/dev/null || true
PRESET=coverage scripts/test.sh -LE lint
mkdir -p build/coverage/html
# Files that share no test still count: their .gcno says how many lines they have.
exec gcovr --root . --object-directory build/coverage --filter 'patterns/' --filter 'pool/' \
    --exclude-unreachable-branches --exclude-throw-branches --print-summary \
    --html-details build/coverage/html/index.html --txt --fail-under-line 90
