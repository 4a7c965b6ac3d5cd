#!/usr/bin/env python3
"""The bench of messages does what it says: checks form and that figures come, never speed."""
import json
import os
import subprocess
import sys
import unittest

from rig import environment, kafka, suite
from rig.nats import NatsServer
from rig.postgres import PostgresServer

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "perf", "messaging.py")
ROWS = {"pass-memstore": 2, "publish-redis-stream": 1, "consume-redis-stream": 1, "multicast-inprocess": 2,
        "multicast-deliver": 2}
SUBSCRIPTIONS = {"ack-cost": 3, "inflight-memory": 2, "handback": 2, "drain-redeliveries": 2}
IDENTITIES = {"shared-identity": 1, "dedicated-identity": 2, "deliver-shared": 1, "deliver-own": 1, "filter-walk": 3}
PRESENCE = {"heartbeat-batch": 1, "reconnect-storm": 4}
QUEUES = {"queue-held-horizon": 2}
KAFKA = {"consume-per-key": 2, "parked-retries": 3, "stuck-topic": 2}
ZERO = {"drain-redeliveries"}   # is what it should be


class Rows(unittest.TestCase):
    def rows(self, expected):
        environment.tool("redis-server")
        done = subprocess.run(
            [sys.executable, BENCH, "--rounds", "1", "--scale", "0.02", "--targets", "1000", "--output", "json",
             "--only", ",".join(expected)], capture_output=True, text=True, timeout=240, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = json.loads(done.stdout)
        for name, n in expected.items():
            of_name = [row for row in rows if row["name"] == name]
            self.assertEqual(len(of_name), n, done.stdout)
            for row in of_name:
                self.assertFalse(row.get("error"), row)
                self.assertGreaterEqual(row["ours"], 0 if name in ZERO else 1e-9, row)
                if row["of"] == "ratio":
                    self.assertGreater(row["baseline"], 0, row)

    def test_flows_and_multicasts(self):
        self.rows(ROWS)

    def test_subscriptions(self):
        self.rows(SUBSCRIPTIONS)

    def test_identities(self):
        NatsServer()
        PostgresServer()
        self.rows(IDENTITIES)

    def test_presence(self):
        environment.tool("ghz")
        self.rows(PRESENCE)

    def test_queues(self):
        PostgresServer()
        self.rows(QUEUES)

    def test_kafka(self):
        kafka.jars()
        self.rows(KAFKA)


if __name__ == "__main__":
    suite.main()
