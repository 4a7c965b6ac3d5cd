"""Message size, deadlines, cancellation, calls in flight, connection age."""
import socket
import time

import grpc

from google.rpc import error_details_pb2
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
        self.assertIn("value is", wire.bad_fields(wire.failure(self.kv.Store, request))["value"])
        request.value += b"x"
        self.assertEqual(wire.failure(self.kv.Store, request).code(), grpc.StatusCode.RESOURCE_EXHAUSTED)

    def test_what_is_stored_can_be_read(self):
        """By every read: the largest value that is announced, under the longest key that it goes with."""
        size = self.kv.GetCapabilities().max_value_size
        key = "k" * 256
        self.assertTrue(self.kv.Store(key=key, value=b"x" * size).success)
        self.addCleanup(self.kv.Remove, key=key)
        self.assertEqual(len(self.kv.Retrieve(key=key).value), size)
        self.assertEqual(len(self.kv.RetrieveBatch(keys=[key]).results[0].value), size)
        pages = list(self.kv.Scan(prefix="k" * 256, include_values=True))
        self.assertEqual([len(value) for page in pages for value in page.values], [size])
        for key, value in (("k", size + 1), ("k" * 600, size)):
            refused = wire.failure(self.kv.Store, key=key, value=b"x" * value)
            self.assertEqual((refused.code(), list(wire.bad_fields(refused))),
                             (grpc.StatusCode.INVALID_ARGUMENT, ["value"]))

    def test_beyond_the_limit(self):
        error = wire.failure(self.kv.Store, key="big", value=b"x" * (MIB + 1))
        self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertFalse(self.kv.Exists(key="big").exists)
        self.assertTrue(self.kv.Store(key="small", value=b"v").success, "the connection goes on")

    def test_far_beyond_the_limit(self):
        """gRPC judges a message when it is complete, so one or two may be there at once; they do not pile up."""
        large, resident, most = 32 * MIB, self.server.process.resident_bytes(), 0
        for _ in range(12):
            error = wire.failure(self.kv.Store, key="big", value=b"x" * large, timeout=environment.PATIENCE)
            self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
            most = max(most, self.server.process.resident_bytes() - resident)
        self.assertFalse(self.kv.Exists(key="big").exists)
        if not environment.SANITIZER:
            self.assertLess(most, 6 * large)

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
            {"backend": "redis", "config": {"address": redis.address}})],
            limits={"max_inflight_calls": 32, "connection_share_percent": 100}))
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


class Bytes(suite.Case):
    """limits.max_inflight_bytes: requests that nobody answers are refused before they take the memory."""
    IN_FLIGHT, TRANSPORT, WORKERS = 16 * MIB, 64 * MIB, 2
    BUFFER = IN_FLIGHT      # of one worker, so that redis is never the first to refuse
    ALLOWANCE = 32 * MIB    # the allocator's slack, and what 200 calls hold besides their requests
    CALLS = 200

    def flood(self, **limits):
        """More requests than fit, while nobody answers: the calls that were refused, and the others."""
        redis = self.borrow(RedisServer())
        server = self.borrow(Prismd(
            workers=self.WORKERS,
            namespaces=[backends.keyvalue({"backend": "redis", "config": {
                "address": redis.address, "max_buffer_bytes": self.BUFFER, "command_timeout_ms": 60_000}})],
            limits={"max_inflight_bytes": self.IN_FLIGHT, "transport_bytes": self.TRANSPORT,
                    "connection_share_percent": 100, **limits}))
        kv = pattern_service(self.borrow(server.channel()))
        self.assertTrue(kv.Store(key="before", value=b"v").success)
        resident = server.process.resident_bytes()
        redis.pause()
        self.addCleanup(redis.resume)
        calls = [kv.Store.future(key=f"k{i}", value=b"x" * MIB, timeout=60) for i in range(self.CALLS)]
        wait.until(lambda: self.settled(server, calls), environment.PATIENCE, "what is too much is refused")
        refused = [c for c in calls if c.done()]
        growth = server.process.resident_bytes() - resident
        if not environment.SANITIZER:
            bound = self.IN_FLIGHT + self.TRANSPORT + self.BUFFER * self.WORKERS + self.ALLOWANCE
            self.assertLess(bound, self.CALLS * MIB, "the bound is less than what was sent")
            self.assertLess(growth, bound)
        redis.resume()
        wait.until(lambda: all(c.done() for c in calls), environment.PATIENCE, "each call has an answer")
        wait.until(lambda: kv.Store.future(key="after", value=b"x" * MIB).code() == grpc.StatusCode.OK,
                   environment.PATIENCE, "redis has taken what waited for it")
        return refused, set(calls) - set(refused)

    def test_limit_of_bytes_in_flight(self):
        """As many streams as transport_bytes has room for: each refusal is ours."""
        refused, accepted = self.flood(max_streams_per_connection=self.TRANSPORT // MIB // 2)
        self.assertEqual({self.limit(c) for c in refused}, {"limits.max_inflight_bytes"})
        self.assertGreater(len(refused), self.CALLS // 2)
        for call in accepted:
            self.assertTrue(call.result().success, "what was accepted is done")

    def test_limit_of_transport(self):
        """More streams than that: gRPC's quota has room for the requests in flight as well, so most refusals are ours.
        If it runs short, streams are reset."""
        ours = 0
        for call in set().union(*self.flood(transport_bytes=16 * MIB)):
            if call.code() == grpc.StatusCode.OK:
                self.assertTrue(call.result().success)
            elif call.code() == grpc.StatusCode.UNAVAILABLE or wire.status(call.exception()) is None:
                self.assertIn(call.code(), (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED))
            else:   # calls that were reset leave room for others, but their commands still wait for redis
                self.assertIn(self.limit(call), ("limits.max_inflight_bytes", "max_buffer_bytes"))
                ours += 1
        self.assertGreater(ours, self.CALLS // 2)

    def test_limit_of_answers_in_flight(self):
        """Small requests whose answers are large: those that find no room are refused after the read."""
        redis = self.borrow(RedisServer())
        server = self.borrow(Prismd(
            workers=self.WORKERS,
            namespaces=[backends.keyvalue({"backend": "redis", "config": {
                "address": redis.address, "command_timeout_ms": 60_000}})],
            limits={"max_inflight_bytes": self.IN_FLIGHT, "transport_bytes": self.TRANSPORT,
                    "connection_share_percent": 100}))
        kv = pattern_service(self.borrow(server.channel()))
        self.assertTrue(kv.Store(key="k", value=b"x" * MIB).success)
        resident = server.process.resident_bytes()
        calls = [kv.Retrieve.future(key="k", timeout=60) for _ in range(2 * self.CALLS)]
        batch = kv.RetrieveBatch.future(keys=["k"] * (2 * self.CALLS), timeout=60)
        peak = resident
        while not (batch.done() and all(c.done() for c in calls)):
            peak = max(peak, server.process.resident_bytes())
        for call in calls:
            if call.code() == grpc.StatusCode.OK:
                self.assertEqual(len(call.result().value), MIB)
            else:
                self.assertEqual(self.limit(call), "limits.max_inflight_bytes")
        if batch.code() == grpc.StatusCode.OK:
            self.assertEqual({(r.code, len(r.value)) for r in batch.result().results},
                             {(0, MIB), (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], 0)})
        else:
            self.assertEqual(self.limit(batch), "limits.max_inflight_bytes")
        if not environment.SANITIZER:
            self.assertLess(peak - resident, self.IN_FLIGHT + self.TRANSPORT + self.ALLOWANCE)
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "all answers are taken")
        self.assertEqual(len(kv.Retrieve(key="k").value), MIB)

    @staticmethod
    def settled(server, calls):
        """Every call is refused or in flight: those on their way, which may still be refused, are neither."""
        in_flight = server.metric("prism_rpc_in_flight")
        return sum(c.done() for c in calls) + in_flight == len(calls)

    def limit(self, call):
        """The limit that a refusal names."""
        self.assertEqual(call.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, call.details())
        self.assertGreater(wire.retry_delay_seconds(call.exception()), 0)
        return wire.detail(call.exception(), error_details_pb2.ErrorInfo).metadata["subject"]


def frame(kind, stream=0, payload=b"", flags=0):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class Peer:
    """An HTTP/2 client that only greets, answers pings, and notes when the server says farewell."""
    SETTINGS, PING, GOAWAY, ACK = 4, 6, 7, 1

    def __init__(self, port, seconds):
        self.socket = socket.create_connection(("127.0.0.1", port), seconds)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(self.SETTINGS))
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def farewell(self):
        """True once GOAWAY has come and then the end; False if the end comes without it."""
        said = False
        while len(head := self.file.read(9)) == 9:
            payload = self.file.read(int.from_bytes(head[:3], "big"))
            said = said or head[3] == self.GOAWAY
            if head[3] in (self.SETTINGS, self.PING) and not head[4] & self.ACK:
                self.socket.sendall(frame(head[3], 0, payload if head[3] == self.PING else b"", self.ACK))
        return said


class Connections(suite.Case):
    def farewell_after(self, server):
        """Seconds until the server has closed a silent connection, which it must announce."""
        begin = time.monotonic()
        with Peer(server.port, environment.PATIENCE) as peer:
            self.assertTrue(peer.farewell(), "GOAWAY, then the end")
        return time.monotonic() - begin

    def test_connection_age(self):
        """Connections are closed when they are old; clients notice nothing."""
        server = self.borrow(Prismd(namespaces=MEMSTORE, connection={"max_age_ms": 1000, "max_age_grace_ms": 1000}))
        kv = Pattern(self.borrow(server.channel()))
        kv.set("k", b"v")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            self.assertEqual(kv.get("k"), b"v")
        self.assertGreater(self.farewell_after(server), 0.8, "gRPC takes up to a tenth off")

    def test_connection_idle(self):
        """A connection without calls is closed."""
        server = self.borrow(Prismd(namespaces=MEMSTORE, connection={"max_idle_ms": 1000}))
        self.assertGreater(self.farewell_after(server), 0.8)

    def test_connection_without_bounds(self):
        """Neither is on by default: nothing comes in three times the time of the tests above."""
        server = self.borrow(Prismd(namespaces=MEMSTORE))
        with Peer(server.port, 3) as peer, self.assertRaises(TimeoutError):
            peer.farewell()


if __name__ == "__main__":
    suite.main()
