#!/usr/bin/env python3
"""prism-bench does what it says: checks form and behaviour, never speed."""
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

from rig import environment, suite

BENCH = environment.ours("prism-bench")
QUICK = ["--seconds", "0.2", "--warmup", "0.05"]


def bench(*words, expect=0):
    done = subprocess.run([BENCH, *words], capture_output=True, text=True, timeout=240)
    if done.returncode != expect:
        raise AssertionError(f"{words}: exit status {done.returncode}, not {expect}\n{done.stdout}{done.stderr}")
    return done


def run_json(*words):
    return json.loads(bench("run", "--output", "json", *QUICK, *words).stdout)


class Runs(unittest.TestCase):
    def test_every_keyvalue_operation_has_figures(self):
        answer = run_json("--keys", "2000", "--batch", "10", "--in-flight", "8", "--connections", "2")
        found = {r["operation"] for r in answer["results"]}
        self.assertEqual(found, {"store", "retrieve", "remove", "exists", "store-batch", "retrieve-batch",
                                 "remove-batch", "scan", "set-expiration", "get-expiration", "clear-expiration",
                                 "count", "capabilities", "deprecated-set", "deprecated-get"})
        for r in answer["results"]:
            self.assertEqual(r["errors"], 0, r)
            self.assertGreater(r["calls"], 0, r)
            self.assertGreater(r["server_cpu_us_per_call"], 0, r)
            self.assertGreater(r["client_cpu_us_per_call"], 0, r)
            latency = r["latency_us"]
            self.assertLessEqual(latency["min"], latency["p50"])
            self.assertLessEqual(latency["p50"], latency["p99"])
            self.assertLessEqual(latency["p99"], latency["max"])
        by_name = {r["operation"]: r for r in answer["results"]}
        self.assertEqual(by_name["store-batch"]["items"], 10 * by_name["store-batch"]["calls"])
        self.assertEqual(by_name["retrieve"]["hits"], by_name["retrieve"]["items"])

    def test_the_open_loop_keeps_its_rate(self):
        answer = run_json("--server", "bare", "--rate", "500", "--seconds", "1")
        result = answer["results"][0]
        self.assertEqual(answer["loop"], "open")
        self.assertAlmostEqual(result["calls"], 500, delta=1)

    def test_an_open_loop_counts_the_wait_of_calls_that_are_late(self):
        """Far above what the server can do, latencies grow with the backlog instead of staying at the service time.
        What it can do is looked at anew where the machine was busy at that moment and then was not."""
        tries = []
        while not tries or tries[-1] <= 3 and len(tries) < 6:
            closed = run_json("--server", "bare", "--in-flight", "64")["results"][0]
            rate = 4 * closed["calls_per_s"]
            opened = run_json("--server", "bare", "--rate", f"{rate:.0f}")["results"][0]
            tries.append(opened["latency_us"]["p50"] / closed["latency_us"]["p50"])
        self.assertGreater(tries[-1], 3, tries)

    def test_the_stock_client_and_the_cpp_baselines(self):
        for server in ("cpp-async", "cpp-callback"):
            answer = run_json("--server", server, "--operation", "store,retrieve", "--client", "stock")
            self.assertEqual([r["errors"] for r in answer["results"]], [0, 0])
        answer = run_json("--server", "cpp-callback", "--operation", "store-batch")
        self.assertGreater(answer["results"][0]["items"], 0)

    def test_large_values_pass_flow_control(self):
        answer = run_json("--operation", "store,retrieve", "--keys", "20", "--value-bytes", "1000000",
                          "--in-flight", "8")
        self.assertEqual([r["errors"] for r in answer["results"]], [0, 0])

    def test_an_error_is_no_figure(self):
        # Nobody listens at port 1.
        done = bench("run", *QUICK, "--server", "127.0.0.1:1", "--operation", "store", "--no-preload", expect=1)
        self.assertIn("refused", done.stderr)
        self.assertNotIn("store ", done.stdout)

    def test_wrong_usage_is_told(self):
        for words in (["run", "--keys", "-1"], ["run", "--operation", "fly"],
                      ["run", "--server", "bare", "--operation", "store"], ["run", "--server", "localhost:1"],
                      ["run", "--server", "nobody"],
                      ["run", "--batch", "0"], ["ratios", "--only", "nothing"], ["ratios", "--rounds", "0"], ["fly"]):
            self.assertNotEqual(bench(*words, expect=2).stderr, "", words)


class Ratios(unittest.TestCase):
    def test_a_record_for_each_part_of_a_target(self):
        done = bench("ratios", "--output", "json", "--only", "unary-cpu,unary-tail", "--rounds", "2",
                     "--seconds", "0.2")
        records = json.loads(done.stdout)
        self.assertEqual([(r["name"], r["part"]) for r in records],
                         [("unary-cpu", "store"), ("unary-cpu", "retrieve"), ("unary-tail", "")])
        for r in records:
            self.assertGreater(r["ours"], 0)
            self.assertGreater(r["baseline"], 0)
            self.assertLessEqual(r["ratio_min"], r["ratio"])
            self.assertLessEqual(r["ratio"], r["ratio_max"])
            self.assertIn(r["holds"], (r["ratio"] <= r["target"],) if r["client_share"] <= 0.5 else (None,))
            self.assertEqual(r["rounds"], 2)

    def test_the_baselines_on_redis(self):
        environment.tool("redis-server")
        done = bench("ratios", "--output", "json", "--only", "redis-batch,redis-unary,memory-per-key", "--rounds", "1",
                     "--seconds", "0.2")
        records = json.loads(done.stdout)
        self.assertEqual([(r["name"], r["part"]) for r in records],
                         [("redis-batch", "retrieve"), ("redis-batch", "store"), ("redis-batch", "mget"),
                          ("redis-batch", "mset"), ("redis-unary", ""), ("memory-per-key", "")])
        for r in records:
            self.assertGreater(r["ours"], 0)
            self.assertGreater(r["baseline"], 0)

    def test_a_signal_ends_it_and_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            with subprocess.Popen([BENCH, "ratios", "--only", "unary-cpu"], stderr=subprocess.PIPE, text=True,
                                  env={**os.environ, "TMPDIR": folder}) as running:
                self.assertIn("round 1/5", running.stderr.readline())
                children = self.wait_for_children(running.pid)
                running.send_signal(signal.SIGINT)
                self.assertEqual(running.wait(60), 1)
            self.assertEqual(os.listdir(folder), [])
            self.assertEqual([c for c in children if self.runs(c)], [])

    def wait_for_children(self, pid):
        path = f"/proc/{pid}/task/{pid}/children"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with open(path, encoding="ascii") as f:
                children = f.read().split()
            if children:
                return children
        raise AssertionError("it has started nothing")

    def runs(self, pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False


class Programs(unittest.TestCase):
    def test_the_table_bench_checks_and_prints(self):
        done = subprocess.run([environment.ours("prism-table-bench"), "20000", "2", "--output", "json"],
                              capture_output=True, text=True, timeout=120, check=True)
        answer = json.loads(done.stdout)
        self.assertGreater(answer["expire_ns"], 0)
        self.assertGreater(answer["expire_to_remove"], 0)

    def test_the_ring_bench_checks_and_prints(self):
        done = subprocess.run([environment.ours("prism-ring-bench"), "--output", "json"], capture_output=True,
                              text=True, timeout=240, check=True)
        self.assertEqual(len(json.loads(done.stdout)), 7)


if __name__ == "__main__":
    suite.main()
