#!/usr/bin/env python3
"""The bench of stores does what it says: checks form and that figures come, never speed."""
import json
import os
import subprocess
import sys
import unittest

from rig import environment, s3, suite
from rig.postgres import PostgresServer

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "perf", "storage.py")
# What a part compares may be less than a clock tells in so short a time, but for rates and prismd's own.
PARTS = {"postgres-retrieve": ["rate", "cpu"], "postgres-batch": ["rate", "many", "cpu"],
         "s3-retrieve": ["rate", "cpu"],
         "session-get": ["memstore", "redis"], "session-create": ["memstore", "redis"]}


class Rows(unittest.TestCase):
    def test_every_row_has_figures(self):
        environment.tool("redis-server")
        PostgresServer()
        s3.jars()
        done = subprocess.run([sys.executable, BENCH, "--rounds", "1", "--seconds", "0.3", "--output", "json"],
                              capture_output=True, text=True, timeout=240, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = {(row["name"], row["part"]): row for row in json.loads(done.stdout)}
        for key, row in rows.items():
            self.assertFalse(row.get("error"), row)
            self.assertIn(key[0], PARTS)
        for name, parts in PARTS.items():
            for part in parts:
                self.assertGreater(rows[name, part]["ours"], 0, rows[name, part])
                self.assertGreater(rows[name, part]["baseline"], 0, rows[name, part])


if __name__ == "__main__":
    suite.main()
