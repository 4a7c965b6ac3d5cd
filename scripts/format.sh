#!/usr/bin/env bash
# Formats our C in place; arguments name files, without any all are done.
. "$(dirname "$0")/lib.sh"

need_packages "format" clang-format-14
if [ $# = 0 ]; then
    mapfile -t files < <(git ls-files '*.c' '*.h')
    set -- "${files[@]}"
fi
exec clang-format-14 -i "$@"
