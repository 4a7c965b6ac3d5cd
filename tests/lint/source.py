"""What the lints share: which files are ours, their text without comments, reports and self-tests.

Each lint is run as `lint.py ROOT` and as `lint.py --self-test`; the latter shows that it can fail.
"""
import os
import re
import sys
import tempfile

SKIPPED_FOLDERS = {".git", "build", "__pycache__"}
_COMMENT_OR_TEXT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def files(root, *suffixes):
    """Paths of our files, relative to root, sorted."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS and not os.path.islink(os.path.join(folder, f))]
        found += [os.path.relpath(os.path.join(folder, n), root) for n in names if n.endswith(suffixes)]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def code(text):
    """The text with comments and the contents of literals blanked; lines keep their numbers."""
    def blank(match):
        found = match.group(0)
        kept = re.sub(r"[^\n]", " ", found)
        return f'"{kept[1:-1]}"' if found[0] == '"' else "0".ljust(len(found)) if found[0] == "'" else kept
    return _COMMENT_OR_TEXT.sub(blank, text)


def run(check, samples):
    """check(root) -> list of faults. samples: [({path: text}, words that the report must contain, or None)]."""
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(_self_test(check, samples))
    faults = check(sys.argv[1])
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults")
    sys.exit(1 if faults else 0)


def _self_test(check, samples):
    failed = 0
    for number, (tree, expected) in enumerate(samples):
        with tempfile.TemporaryDirectory() as root:
            for path, text in tree.items():
                os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                    f.write(text)
            report = "\n".join(check(root))
        good = expected in report if expected else not report
        failed += not good
        print(f"sample {number}: {'ok' if good else 'FAILED'}: expected {expected!r}, reported {report!r}")
    return 1 if failed else 0
