#!/usr/bin/env python3
"""The protocol reference leaves nothing out, its links lead somewhere, and --check notices an edit."""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "proto" / "tools"))
import descriptors  # noqa: E402


def run(*options):
    command = [sys.executable, str(ROOT / "scripts" / "proto-docs.py"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class ProtoDocs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.out = pathlib.Path(folder.name) / "protocol.md"
        done = run("--out", cls.out)
        assert done.returncode == 0, done.stdout + done.stderr
        cls.text = cls.out.read_text(encoding="utf-8")

    def section(self, full_name):
        parts = self.text.split(f'<a id="{full_name}"></a>')
        self.assertEqual(len(parts), 2, f"{full_name} has {len(parts) - 1} sections")
        return parts[1].split('<a id="')[0]

    def test_every_declaration_is_there(self):
        rows = {"rpc": "| **{}** |", "field": "| `{}`", "value": "| `{}` |", "oneof": "Oneof `{}`:"}
        count = 0
        for file in descriptors.load(ROOT / "proto"):
            for item in file.walk():
                if item.kind not in ("service", "message", "enum"):
                    continue
                section = self.section(item.full_name)
                for child in item.children:
                    if child.kind in rows:
                        self.assertIn(rows[child.kind].format(child.name), section)
                        count += 1
        self.assertGreater(count, 700)

    def test_links_lead_somewhere(self):
        anchors = re.findall(r'<a id="([^"]+)"></a>', self.text)
        self.assertEqual(len(anchors), len(set(anchors)), "an anchor stands twice")
        links = set(re.findall(r"\]\(#([^)]+)\)", self.text))
        self.assertGreater(len(links), 100)
        self.assertEqual(links - set(anchors), set())

    def test_table_rows_are_whole(self):
        """A stray | in a comment would add a column."""
        columns = None
        for line in self.text.split("\n"):
            if not line.startswith("|"):
                columns = None
                continue
            have = len(re.findall(r"(?<!\\)\|", line))
            columns = columns or have
            self.assertEqual(have, columns, line)

    def test_check_notices_an_edit(self):
        self.assertEqual(run("--check", self.out).returncode, 0)
        edited = self.out.with_name("edited.md")
        edited.write_text(self.text.replace("Writes one value", "Writes a value"), encoding="utf-8")
        done = run("--check", edited)
        self.assertEqual(done.returncode, 1)
        self.assertIn("Writes a value", done.stdout)
        self.assertEqual(run("--check", self.out.with_name("missing.md")).returncode, 1)


if __name__ == "__main__":
    unittest.main()
