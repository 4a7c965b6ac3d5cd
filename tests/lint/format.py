#!/usr/bin/env python3
"""Our C is as clang-format 14 writes it by .clang-format. `scripts/format.sh` mends it."""
import os
import shutil
import subprocess
import sys

import source

SKIPPED = 77
STYLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".clang-format")


def check(root):
    paths = source.files(root, ".c", ".h")
    faults = []
    for path in paths:
        done = subprocess.run(["clang-format-14", f"--style=file:{STYLE}", path], cwd=root, capture_output=True,
                              text=True, check=True)
        old, new = source.read(root, path).split("\n"), done.stdout.split("\n")
        if old != new:
            line = next((i for i, (a, b) in enumerate(zip(old, new), 1) if a != b), min(len(old), len(new)))
            faults.append(f"{path}:{line}: not as clang-format writes it (scripts/format.sh mends it)")
    return faults


SAMPLES = [
    ({"a.c": "int f(void)\n{\n    return 1;\n}\n"}, None),
    ({"a.c": "int f(void) {\n  return 1;\n}\n"}, "a.c:1: not as clang-format"),
]

if __name__ == "__main__":
    if not shutil.which("clang-format-14"):
        print("clang-format-14 is not installed")
        sys.exit(1 if os.environ.get("PRISM_REQUIRE_ALL", "") not in ("", "0") else SKIPPED)
    source.run(check, SAMPLES)
