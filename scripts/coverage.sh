#!/usr/bin/env bash
# Line coverage by the whole suite: patterns/ and pool/ at least 90 %, each backend at least 85 %. A report in HTML:
# build/coverage/html.
. "$(dirname "$0")/lib.sh"

need_packages "coverage" gcovr
find build/coverage -name '*.gcda' -delete 2>/dev/null || true
PRESET=coverage scripts/test.sh -LE lint
mkdir -p build/coverage/html
# Files that share no test still count: their .gcno says how many lines they have.
gcovr --root . --object-directory build/coverage --filter 'patterns/' --filter 'pool/' --filter 'backends/' \
    --exclude-unreachable-branches --exclude-throw-branches --json build/coverage/lines.json \
    --html-details build/coverage/html/index.html
missed=0
at_least() { # PERCENT FOLDER...
    local least=$1 folder
    shift
    for folder in "$@"; do
        say "$folder: at least $least %"
        gcovr --root . --add-tracefile build/coverage/lines.json --filter "$folder" --txt --fail-under-line "$least" ||
            missed=1
    done
}
at_least 90 patterns/ pool/
at_least 85 backends/*/
exit $missed
