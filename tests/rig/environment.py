"""Where things are, as ctest passes it, and what may be skipped.

By hand: PYTHONPATH=tests:build/release/python /usr/bin/python3 tests/e2e/keyvalue_test.py"""
import os
import shutil
import unittest

BIN = os.environ.get("PRISM_BIN", "build/release/bin")
REQUIRE_ALL = os.environ.get("PRISM_REQUIRE_ALL", "") not in ("", "0")
SANITIZER = os.environ.get("PRISM_SANITIZE", "")
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "prism")

# Patience with servers that start, stop or recover; instrumented builds are slower.
PATIENCE = 60 if SANITIZER else 20


def ours(name):
    """The path of one of our executables."""
    path = os.path.abspath(os.path.join(BIN, name))
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is not built; PRISM_BIN names the folder")
    return path


def helper(name):
    """The path of a part of the tests that is built."""
    path = os.path.abspath(os.path.join(BIN, os.pardir, "tests", name))
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is not built")
    return path


def tool(name):
    """The path of a foreign program; without it the test is skipped."""
    found = shutil.which(name, path=os.path.join(CACHE, "bin") + os.pathsep + os.environ.get("PATH", ""))
    if not found:
        raise unittest.SkipTest(f"{name} is not installed (scripts/setup-test.sh installs it)")
    return found
