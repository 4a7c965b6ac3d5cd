"""Ten times more load than the server can take. A slow backend sets its capacity, so that this holds on any machine."""
import json
import subprocess
import time

import grpc

from rig import backends, environment, suite, wait, wire
from rig.keyvalue import pattern_service
from rig.load import Load
from rig.prismd import Prismd
from rig.proxy import Proxy
from rig.redis import RedisServer

S = grpc.StatusCode
IN_FLIGHT = 10
BACKEND_SECONDS = 0.2       # so 50 calls a second are what it can take
DEADLINE = 2.0
LATE = 5 if environment.SANITIZER else 1
SECONDS = 5
MIB = 1 << 20
ALLOWANCE = 16 * MIB        # the allocator's slack, threads' stacks, connections' own state


class SlowBackend(suite.Case):
    BYTES, TRANSPORT, BUFFER, WORKERS = 4 * MIB, 16 * MIB, MIB, 2

    def test_ten_times_too_much(self):
        redis = self.borrow(RedisServer())
        proxy = self.borrow(Proxy(redis.port, delay_seconds=BACKEND_SECONDS))
        server = self.borrow(Prismd(
            workers=self.WORKERS,
            namespaces=[backends.keyvalue(
                {"backend": "redis", "config": {"address": proxy.address, "max_buffer_bytes": self.BUFFER}})],
            limits={"max_inflight_calls": IN_FLIGHT, "max_inflight_bytes": self.BYTES,
                    "transport_bytes": self.TRANSPORT, "connection_share_percent": 100}))
        kv = pattern_service(self.borrow(server.channel()))
        other = pattern_service(self.borrow(server.channel()))
        self.assertTrue(kv.Store(key="k", value=b"v" * 1000).success)
        before = server.process.resident_bytes()
        self.delays = set()
        load = Load(lambda i: kv.Retrieve.future(key="k", timeout=DEADLINE), 10 * IN_FLIGHT, self.inspect)
        end = time.monotonic() + SECONDS
        peak = 0
        while time.monotonic() < end:
            peak = max(peak, server.process.resident_bytes())
            self.assertEqual(server.http("/healthz")[0], 200)
        outcomes = load.stop(environment.PATIENCE)
        # At once: the very next call is served.
        self.assertEqual(other.Retrieve(key="k", timeout=DEADLINE).value, b"v" * 1000)
        self.assertEqual(load.unexpected[:5], [])
        self.assertEqual(set(outcomes), {S.OK, S.RESOURCE_EXHAUSTED})
        self.assertGreater(len(self.delays), 10, "M10: who is refused is told to come back at a time of his own")
        self.assertGreater(outcomes[S.OK], IN_FLIGHT)
        self.assertGreater(outcomes[S.RESOURCE_EXHAUSTED], 5 * outcomes[S.OK], "the load was not an overload")
        self.assertGreaterEqual(server.metric("prism_rpc_refused_total"), outcomes[S.RESOURCE_EXHAUSTED])
        if not environment.SANITIZER:
            bound = self.BYTES + self.TRANSPORT + self.BUFFER * self.WORKERS + ALLOWANCE
            self.assertLess(peak - before, bound)

    def inspect(self, future, number, seconds):
        if seconds > DEADLINE + LATE:
            return f"call {number} took {seconds:.1f} s"
        if future.code() == S.OK:
            return None if future.result().found else f"call {number}: wrong answer"
        if future.code() == S.RESOURCE_EXHAUSTED:
            delay = wire.retry_delay_seconds(future.exception())
            self.delays.add(delay)
            return None if delay and delay > 0 else f"call {number}: refused without a retry delay"
        return f"call {number}: {future.code()}: {future.details()}"


class Flood(suite.Case):
    """ghz, a client that we did not write, on many connections, against small lanes."""

    def flood(self, server, concurrency, connections, total):
        done = subprocess.run(
            [environment.tool("ghz"), "--insecure", "--call", "prism.patterns.keyvalue.KeyValuePattern/Store",
             "--data", json.dumps({"key": "k{{.RequestNumber}}", "value": "eHh4eHh4eHh4eHh4eHh4eA=="}),
             "--concurrency", str(concurrency), "--connections", str(connections), "--total", str(total),
             "--timeout", "20s", "--format", "json", server.address],
            capture_output=True, text=True, timeout=300, check=True)
        return json.loads(done.stdout)

    def test_small_lanes(self):
        server = self.borrow(Prismd(
            namespaces=[backends.keyvalue({"backend": "memstore", "config": {"max_keys": 100_000}})],
            workers=1, dispatch="ring", limits={"intake_depth": 8, "max_inflight_calls": 16}))
        kv = pattern_service(self.borrow(server.channel()))
        counts = {}
        for width in (320, 640, 1280, 2560):    # how much is too much, the machine decides
            counts = self.flood(server, concurrency=width, connections=16, total=20_000)["statusCodeDistribution"]
            self.assertLessEqual(set(counts), {"OK", "ResourceExhausted"})
            self.assertEqual(sum(counts.values()), 20_000, "one answer for each call")
            self.assertGreater(counts["OK"], 0)
            if "ResourceExhausted" in counts:
                break
        self.assertGreater(counts.get("ResourceExhausted", 0), 0, "the load was not an overload")
        self.assertGreaterEqual(server.metric("prism_rpc_refused_total"), counts["ResourceExhausted"])
        self.assertTrue(kv.Store(key="after", value=b"v").success)
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "nothing is left over")

    def test_no_refusal_within_the_limits(self):
        server = self.borrow(Prismd(
            namespaces=[backends.keyvalue({"backend": "memstore", "config": {"max_keys": 100_000}})]))
        report = self.flood(server, concurrency=100, connections=4, total=20_000)
        self.assertEqual(report["statusCodeDistribution"], {"OK": 20_000})


class FullStore(suite.Case):
    ALLOWANCE = 48 * MIB    # the table of a million keys, and calls on their way

    def test_memstore_full(self):
        """The store's bound in bytes: a clear refusal, memory stays near the bound, and room again after a removal."""
        server = self.borrow(Prismd(namespaces=[backends.keyvalue(
            {"backend": "memstore", "config": {"max_keys": 1_000_000, "max_bytes": 16 * MIB}})]))
        kv = pattern_service(self.borrow(server.channel()))
        before = server.process.resident_bytes()
        for i in range(120):
            self.assertTrue(kv.Store(key=f"k{i}", value=b"x" * 100_000).success, i)
        for i in range(120, 300):
            refused = kv.Store.future(key=f"k{i}", value=b"x" * 100_000)
            if refused.code() != S.OK:
                self.assertEqual(refused.code(), S.RESOURCE_EXHAUSTED)
                self.assertIn("max_bytes", refused.details())
        self.assertEqual(refused.code(), S.RESOURCE_EXHAUSTED, "16 MiB take no 30 MB")
        if not environment.SANITIZER:
            self.assertLess(server.process.resident_bytes() - before, 16 * MIB + self.ALLOWANCE)
        for i in range(10):
            self.assertTrue(kv.Remove(key=f"k{i}").existed)
        self.assertTrue(kv.Store(key="again", value=b"x" * 100_000).success)


if __name__ == "__main__":
    suite.main()
