"""grpc.health.v1 for the server, each pattern and each slot; /healthz and /readyz; /metrics."""
import re
import threading

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rig import backends, environment, suite, wait, wire
from rig.keyvalue import Pattern
from rig.prismd import Prismd
from rig.redis import RedisServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
PATTERN = "prism.patterns.keyvalue.KeyValuePattern"


class Watcher:
    """Collects what Watch streams."""

    def __init__(self, channel, service):
        self.seen = []
        self.call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            for reply in self.call:
                self.seen.append(reply.status)
        except grpc.RpcError:
            pass

    def last_is(self, status):
        wait.until(lambda: self.seen and self.seen[-1] == status, environment.PATIENCE,
                   f"Watch reports {status}; it has reported {self.seen}")


class Memstore(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue({"backend": "memstore", "config": {}})]))
        cls.channel = cls.use(cls.server.channel())

    def test_check(self):
        self.assertEqual(self.server.health(""), SERVING)
        self.assertEqual(self.server.health(PATTERN), SERVING)

    def test_check_unknown_service(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        error = wire.failure(stub.Check, health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=wire.TIMEOUT)
        self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)

    def test_watch_unknown_service(self):
        Watcher(self.channel, "no.such.Service").last_is(SERVICE_UNKNOWN)

    def test_a_watch_ends_with_the_code_of_its_end(self):
        """A client that leaves is no server that failed: alerts look at UNAVAILABLE."""
        def ended(*codes):
            return sum(self.server.metric("prism_rpc_total", service="grpc.health.v1.Health", method="Watch", code=code)
                       for code in codes)
        clients, unavailable = ended("CANCELLED", "DEADLINE_EXCEEDED"), ended("UNAVAILABLE")
        watcher = Watcher(self.channel, "")
        watcher.last_is(SERVING)
        watcher.call.cancel()
        late = health_pb2_grpc.HealthStub(self.channel).Watch(health_pb2.HealthCheckRequest(), timeout=0.5)
        self.assertEqual(wire.failure(list, late).code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        wait.until(lambda: ended("CANCELLED", "DEADLINE_EXCEEDED") == clients + 2, environment.PATIENCE,
                   "both ends are counted")
        self.assertEqual(ended("UNAVAILABLE"), unavailable)

    def test_list(self):
        listed = self.listed()
        self.assertIn("", listed)
        self.assertIn(PATTERN, listed)
        slots = [name for name in listed if name.endswith("primary")]
        self.assertEqual(len(slots), 1, f"one entry for the slot in {sorted(listed)}")
        self.assertEqual(set(listed.values()), {SERVING})
        for name in listed:
            self.assertEqual(self.server.health(name), SERVING, name)

    def listed(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        statuses = stub.List(health_pb2.HealthListRequest(), timeout=wire.TIMEOUT).statuses
        return {k: v.status for k, v in statuses.items()}

    def test_http(self):
        self.assertEqual(self.server.http("/healthz")[0], 200)
        self.assertEqual(self.server.http("/readyz")[0], 200)
        self.assertEqual(self.server.http("/nothing")[0], 404)

    def test_metrics_format(self):
        Pattern(self.channel).set("k", b"v")
        status, text = self.server.http("/metrics")
        self.assertEqual(status, 200)
        typed = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", text, re.M))
        sample = re.compile(r'^([a-zA-Z_:][\w:]*)(\{(\w+="([^"\\]|\\.)*",?)*\})? (-?[\d.e+-]+|[+-]Inf|NaN)$')
        seen = set()
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = sample.match(line)
            self.assertTrue(match, f"not a sample: {line}")
            family = re.sub(r"_(bucket|sum|count)$", "", match.group(1))
            self.assertTrue({match.group(1), family} & typed, f"no TYPE for {line}")
            key = line.rpartition(" ")[0]
            self.assertNotIn(key, seen, "a series twice")
            seen.add(key)
        self.assertFalse([name for name in typed if re.search("_(ms|millis|us|ns|kb|mb)(_|$)", name)],
                         "seconds and bytes, no other units")

    def test_metrics_count_calls(self):
        kv = Pattern(self.channel)

        def count(code):
            return self.server.metric("prism_rpc_total", service=PATTERN, method="Retrieve", code=code)
        good, bad = count("OK"), count("INVALID_ARGUMENT")
        for _ in range(7):
            kv.get("k")
        wire.failure(kv.rpc.Retrieve, key="")
        self.assertEqual((count("OK"), count("INVALID_ARGUMENT")), (good + 7, bad + 1))
        series = self.server.metrics()
        self.assertTrue(any(name.startswith("prism_rpc_duration_seconds_bucket") for name in series))
        self.assertEqual(self.server.metric("prism_rpc_in_flight"), 0)

    def test_logs_are_json(self):
        self.assertGreater(len(self.server.log_events()), 0)


class Redis(suite.Case):
    """Health reflects the backend; the server itself stays up, and recovers without a restart."""

    def test_backend_goes_and_comes_back(self):
        redis = self.borrow(RedisServer())
        server = self.borrow(Prismd(namespaces=[backends.keyvalue(
            {"backend": "redis", "config": {"address": redis.address}})]))
        channel = self.borrow(server.channel())
        watcher = Watcher(channel, PATTERN)
        watcher.last_is(SERVING)
        redis.kill()
        watcher.last_is(NOT_SERVING)
        self.assertEqual(server.health(PATTERN), NOT_SERVING)
        self.assertEqual(server.http("/healthz")[0], 200, "the process itself is well")
        self.assertEqual(server.http("/readyz")[0], 503)
        self.assertIn(f"({redis.address})", server.http("/readyz")[1], "it says who is missing")
        self.assertTrue(server.process.alive())
        redis.start()
        watcher.last_is(SERVING)
        self.assertEqual(server.http("/readyz")[0], 200)
        watcher.call.cancel()

    def test_starts_without_its_backend(self):
        redis = RedisServer()
        server = self.borrow(Prismd(wait_for=lambda s: s.health(PATTERN) is not None, namespaces=[backends.keyvalue(
            {"backend": "redis", "config": {"address": redis.address}})]))
        self.assertEqual(server.health(PATTERN), NOT_SERVING)
        self.borrow(redis)
        wait.until(lambda: server.health(PATTERN) == SERVING, environment.PATIENCE, "the backend is found")
        kv = Pattern(self.borrow(server.channel()))
        kv.set("k", b"v")
        self.assertEqual(kv.get("k"), b"v")


if __name__ == "__main__":
    suite.main()
