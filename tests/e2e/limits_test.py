"""Message size, deadlines, cancellation, calls in flight, connection age."""
import time

import grpc

from rig import backends, environment, suite, wait, wire
from rig.keyvalue import Pattern, pattern_service, pb
from rig.prismd import Prismd
from rig.redis import RedisServer

MEMSTORE = [backends.keyvalue({"backend": "memstore", "config": {}})]
MIB = 1 << 20


class MessageSize(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.use(Prismd(namespaces=MEMSTORE, limits={"max_message_bytes": MIB}))
        cls.kv = pattern_service(cls.use(cls.server.channel(grpc__max_send_message_length=-1)))

    def test_at_the_limit(self):
        request = pb.StoreRequest(key="k", value=b"x" * (MIB - 7))
        self.assertEqual(request.ByteSize(), MIB)
        self.assertTrue(self.kv.Store(request).success)
        request.value += b"x"
        self.assertEqual(wire.failure(self.kv.Store, request).code(), grpc.StatusCode.RESOURCE_EXHAUSTED)

    def test_beyond_the_limit(self):
        error = wire.failure(self.kv.Store, key="big", value=b"x" * (MIB + 1))
        self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertFalse(self.kv.Exists(key="big").exists)
        self.assertTrue(self.kv.Store(key="small", value=b"v").success, "the connection goes on")

    def test_far_beyond_the_limit(self):
        resident = self.server.process.resident_bytes()
        for _ in range(5):
            error = wire.failure(self.kv.Store, key="big", value=b"x" * (64 * MIB), timeout=30)
            self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        if not environment.SANITIZER:
            self.assertLess(self.server.process.resident_bytes() - resident, 64 * MIB,
                            "a refused message is not taken into memory")

    def test_answers_fit(self):
        """Every answer stays under the limit as well, whatever was stored."""
        for i in range(4):
            self.kv.Store(key=f"half{i}", value=b"x" * (MIB // 2))
        reply = self.kv.RetrieveBatch(keys=[f"half{i}" for i in range(4)])
        self.assertLessEqual(reply.ByteSize(), MIB)
        for message in self.kv.Scan(prefix="half", include_values=True):
            self.assertLessEqual(message.ByteSize(), MIB)


class Deadlines(suite.Case):
    """A paused Redis never answers: what comes back is the deadline's doing."""

    @classmethod
    def setUpClass(cls):
        cls.redis = cls.use(RedisServer())
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(
            {"backend": "redis", "config": {"address": cls.redis.address}})]))
        cls.kv = pattern_service(cls.use(cls.server.channel()))

    def setUp(self):
        self.kv.Store(key="k", value=b"v")
        self.redis.pause()
        self.addCleanup(self.redis.resume)

    def in_flight(self):
        return self.server.metric("prism_rpc_in_flight")

    def test_deadline(self):
        for call, fields in ((self.kv.Retrieve, {"key": "k"}), (self.kv.Store, {"key": "k", "value": b"w"}),
                             (self.kv.RetrieveBatch, {"keys": ["k"] * 20}), (self.kv.Scan, {}), (self.kv.Count, {})):
            start = time.monotonic()
            error = wire.failure(call, timeout=0.5, **fields)
            self.assertEqual(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            self.assertLess(time.monotonic() - start, 5)
        wait.until(lambda: self.in_flight() == 0, environment.PATIENCE, "the server has let go of the calls")

    def test_cancellation(self):
        calls = [self.kv.Retrieve.future(key="k", timeout=60) for _ in range(20)]
        wait.until(lambda: self.in_flight() >= 20, environment.PATIENCE, "the calls are in flight")
        for call in calls:
            call.cancel()
        wait.until(lambda: self.in_flight() == 0, environment.PATIENCE, "cancelled calls are over")
        stream = self.kv.Scan(timeout=60)
        wait.until(lambda: self.in_flight() == 1, environment.PATIENCE, "the stream is in flight")
        stream.cancel()
        wait.until(lambda: self.in_flight() == 0, environment.PATIENCE, "the cancelled stream is over")

    def test_vanished_client(self):
        channel = self.server.channel()
        kv = pattern_service(channel)
        calls = [kv.Retrieve.future(key="k", timeout=60) for _ in range(10)]
        wait.until(lambda: self.in_flight() >= 10, environment.PATIENCE, "the calls are in flight")
        channel.close()
        wait.until(lambda: self.in_flight() == 0, environment.PATIENCE, "nobody waits any more")
        self.assertTrue(all(c.done() for c in calls))

    def test_late_answers_go_to_nobody(self):
        """Answers that come after the deadline must not be given to later calls."""
        for i in range(10):
            wire.failure(self.kv.Store, key=f"late{i}", value=b"%d" % i, timeout=0.2)
        self.redis.resume()
        for i in range(10):
            self.assertTrue(self.kv.Store(key=f"k{i}", value=b"new %d" % i).success)
            self.assertEqual(self.kv.Retrieve(key=f"k{i}").value, b"new %d" % i)


class InFlight(suite.Case):
    def test_limit_of_calls_in_flight(self):
        redis = self.borrow(RedisServer())
        server = self.borrow(Prismd(namespaces=[backends.keyvalue(
            {"backend": "redis", "config": {"address": redis.address}})], limits={"max_inflight_calls": 32}))
        kv = pattern_service(self.borrow(server.channel()))
        kv.Store(key="k", value=b"v")
        redis.pause()
        self.addCleanup(redis.resume)
        calls = [kv.Retrieve.future(key="k", timeout=60) for _ in range(100)]
        wait.until(lambda: sum(c.done() for c in calls) >= 68, environment.PATIENCE, "what is too much is refused")
        refused = [c for c in calls if c.done()]
        for call in refused:
            self.assertEqual(call.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.assertGreater(wire.retry_delay_seconds(call.exception()), 0)
        redis.resume()
        for call in calls:
            if call not in refused:
                self.assertEqual(call.result(wire.TIMEOUT).value, b"v")
        self.assertEqual(len(refused), 68)


class Connections(suite.Case):
    def test_connection_age(self):
        """Connections are closed when they are old; clients notice nothing."""
        server = self.borrow(Prismd(namespaces=MEMSTORE, connection={"max_age_ms": 1000, "max_age_grace_ms": 1000}))
        kv = Pattern(self.borrow(server.channel()))
        kv.set("k", b"v")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            self.assertEqual(kv.get("k"), b"v")


if __name__ == "__main__":
    suite.main()
