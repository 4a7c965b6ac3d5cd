#!/usr/bin/env python3
"""Our C is as clang-format 14 writes it by .clang-format. `scripts/format.sh` mends it."""
import os
import re
import shutil
import subprocess
import sys

import source

SKIPPED = 77
STYLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".clang-format")


def check(root):
    paths = source.files(root, ".c", ".h")
    program = ["clang-format-14", f"--style=file:{STYLE}", "--dry-run", "--ferror-limit=0", "-Werror"]
    done = subprocess.run([*program, *paths], cwd=root, capture_output=True, text=True, check=False)
    places = re.findall(r"^(\S+?:\d+):\d+: error: code should be clang-formatted", done.stderr, re.M)
    assert bool(places) == (done.returncode != 0), done.stderr
    first = {place.split(":")[0]: place for place in reversed(places)}
    return [f"{first[path]}: not as clang-format writes it (scripts/format.sh mends it)" for path in sorted(first)]


SAMPLES = [
    ({"a.c": "int f(void)\n{\n    return 1;\n}\n"}, None),
    ({"a.c": "int f(void) {\n  return 1;\n}\n"}, "a.c:1: not as clang-format"),
]

if __name__ == "__main__":
    if not shutil.which("clang-format-14"):
        print("clang-format-14 is not installed")
        sys.exit(1 if os.environ.get("PRISM_REQUIRE_ALL", "") not in ("", "0") else SKIPPED)
    source.run(check, SAMPLES)
