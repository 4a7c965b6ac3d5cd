#!/usr/bin/env python3
"""The bench of messages does what it says: checks form and that figures come, never speed."""
import json
import os
import subprocess
import sys
import unittest

from rig import environment, suite

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "perf", "messaging.py")
ROWS = {"pass-memstore": 2, "publish-redis-stream": 1, "consume-redis-stream": 1, "multicast-inprocess": 2,
        "multicast-deliver": 2}


class Rows(unittest.TestCase):
    def test_every_row_has_figures(self):
        environment.tool("redis-server")
        done = subprocess.run(
            [sys.executable, BENCH, "--rounds", "1", "--scale", "0.02", "--targets", "1000", "--output", "json",
             "--only", ",".join(ROWS)], capture_output=True, text=True, timeout=240, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = json.loads(done.stdout)
        for name, n in ROWS.items():
            of_name = [row for row in rows if row["name"] == name]
            self.assertEqual(len(of_name), n, done.stdout)
            for row in of_name:
                self.assertFalse(row.get("error"), row)
                self.assertGreater(row["ours"], 0, row)
                self.assertGreater(row["baseline"], 0, row)


if __name__ == "__main__":
    suite.main()
