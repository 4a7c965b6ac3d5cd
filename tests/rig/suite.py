"""How a test file runs under ctest.

Exit code 0: all passed; 1: failure; 77: everything was skipped (ctest's SKIP_RETURN_CODE). With PRISM_REQUIRE_ALL=1 a
skip is a failure. The servers' logs are printed when something failed, and the folder with them is removed.
"""
import glob
import os
import shutil
import sys
import tempfile
import unittest

from rig import environment

_folder = None
LOG_TAIL_LINES = 60


def folder():
    """The suite's temporary folder."""
    global _folder
    if _folder is None:
        _folder = tempfile.mkdtemp(prefix="prism-test-")
    return _folder


def subfolder(name):
    return tempfile.mkdtemp(prefix=name + "-", dir=folder())


def backend():
    """The backend that ctest chose for this run."""
    return os.environ.get("PRISM_BACKEND", "memstore")


class Case(unittest.TestCase):
    """A test case with a class-wide stack of servers: cls.use(context manager) in setUpClass."""
    maxDiff = 2000

    @classmethod
    def use(cls, manager):
        value = manager.__enter__()
        cls.addClassCleanup(manager.__exit__, None, None, None)
        return value

    def borrow(self, manager):
        """The same for one test."""
        value = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return value


def _print_logs():
    for path in sorted(glob.glob(os.path.join(folder(), "**", "*.log"), recursive=True)):
        with open(path, encoding="utf-8", errors="replace") as f:
            lines = f.readlines()
        name = os.path.relpath(path, folder())
        print(f"---- {name} ({len(lines)} lines), the last {LOG_TAIL_LINES}:", file=sys.stderr)
        sys.stderr.writelines(lines[-LOG_TAIL_LINES:])


def main(names=None):
    """Runs the calling file's tests (or only `names`) and exits."""
    program = unittest.main("__main__", argv=[sys.argv[0], *(names or sys.argv[1:])], verbosity=2, exit=False,
                            buffer=False)
    result = program.result
    failed = not result.wasSuccessful()
    if result.skipped and environment.REQUIRE_ALL:
        failed = True
        for test, reason in result.skipped:
            print(f"PRISM_REQUIRE_ALL: {test} must not be skipped: {reason}", file=sys.stderr)
    if result.testsRun == 0 and not result.skipped:
        print("no test ran", file=sys.stderr)
        failed = True
    if failed:
        _print_logs()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
    if failed:
        sys.exit(1)
    all_skipped = result.skipped and len(result.skipped) >= result.testsRun
    sys.exit(77 if all_skipped else 0)
