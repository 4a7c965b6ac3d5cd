"""One connection cannot take everything: a polite client beside each kind of hog loses no call."""
import contextlib
import socket
import ssl
import threading

import grpc

from grpc_health.v1 import health_pb2
from rig import backends, environment, http2, suite, tls, wait, wire
from rig.keyvalue import pattern_service, pb
from rig.prismd import Prismd
from rig.redis import RedisServer

MEMSTORE = [backends.keyvalue({"backend": "memstore", "config": {}})]
MIB = 1 << 20


class Hog:
    """One connection that sends calls and throws away what comes."""

    def __init__(self, port, calls, settings=b""):
        self.socket = http2.connection(port, environment.PATIENCE, settings)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        self.socket.sendall(calls)

    def read(self):
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()


def streams(n, path, message):
    return b"".join(http2.call(2 * i + 1, path, http2.message(message.SerializeToString())) for i in range(n))


class Fairness(suite.Case):
    def server(self, **limits):
        server = self.borrow(Prismd(namespaces=MEMSTORE, limits=limits))
        self.kv = pattern_service(self.borrow(server.channel()))
        return server

    def assert_polite_client_is_served(self):
        for i in range(50):
            self.assertTrue(self.kv.Store(key=f"polite{i}", value=b"v").success)
            self.assertTrue(self.kv.Retrieve(key=f"polite{i}").found)

    def refused(self, server):
        return server.metric("prism_rpc_refused_total", reason="connection_share")

    def test_answers_that_nobody_takes(self):
        server = self.server(max_inflight_bytes=32 * MIB, unread_answer_ms=60_000)
        self.kv.Store(key="big", value=b"x" * MIB)
        path = http2.PATTERN + "Retrieve"
        no_window = http2.setting(http2.INITIAL_WINDOW_SIZE, 0)
        with Hog(server.port, streams(300, path, pb.RetrieveRequest(key="big")), no_window):
            wait.until(lambda: self.refused(server) >= 200, environment.PATIENCE, "what is beyond its share is refused")
            self.assert_polite_client_is_served()
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "nothing is left over")
        self.assertIn("connection_share_exceeded", [event["event"] for event in server.log_events()])

    def test_answers_end_in_time(self):
        """With their connection, as it takes nothing at all."""
        server = self.server(unread_answer_ms=200)
        self.kv.Store(key="big", value=b"x" * MIB)
        no_window = http2.setting(http2.INITIAL_WINDOW_SIZE, 0)
        calls = [(http2.PATTERN + "Retrieve", pb.RetrieveRequest(key="big")),
                 (http2.PATTERN + "Scan", pb.ScanRequest(prefix="big", include_values=True))]
        for ended, (path, message) in enumerate(calls, 1):
            with self.subTest(path), Hog(server.port, streams(10, path, message), no_window) as hog:
                hog.thread.join(environment.PATIENCE)
                self.assertFalse(hog.thread.is_alive(), "the connection is ended")
                wait.until(lambda: server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "the calls end")
                self.assertEqual(server.metric("prism_connections_ended_total", reason="unread"), ended)
                self.assertGreaterEqual(server.metric("prism_rpc_unread_answers_total"), ended)
                self.assert_polite_client_is_served()

    def test_answers_end_in_time_under_tls(self):
        authority = tls.Authority(suite.subfolder("tls"))
        cert, key = authority.issue("server")
        server = self.borrow(Prismd(credentials=authority.credentials(), namespaces=MEMSTORE,
                                    limits={"unread_answer_ms": 200}, tls={"cert": cert, "key": key}))
        self.kv = pattern_service(self.borrow(server.channel()))
        self.kv.Store(key="big", value=b"x" * MIB)
        stuck = self.borrow(http2.connection(
            server.port, environment.PATIENCE, http2.setting(http2.INITIAL_WINDOW_SIZE, 0),
            ssl.create_default_context(cafile=authority.cert)))
        stuck.sendall(streams(1, http2.PATTERN + "Retrieve", pb.RetrieveRequest(key="big")))
        with contextlib.suppress(OSError):              # no farewell of TLS, or one
            while stuck.recv(1 << 16):
                pass
        self.assertEqual(server.metric("prism_connections_ended_total", reason="unread"), 1)
        self.assert_polite_client_is_served()

    def test_an_answer_ends_alone(self):
        """Nobody takes it, but other answers of its connection are taken."""
        server = self.server(unread_answer_ms=200)
        self.kv.Store(key="big", value=b"x" * MIB)
        path, message = http2.PATTERN + "Retrieve", http2.message(pb.RetrieveRequest(key="big").SerializeToString())
        shared = self.borrow(http2.connection(server.port, environment.PATIENCE,
                                              http2.setting(http2.INITIAL_WINDOW_SIZE, 0)))
        shared.sendall(http2.window_update(0, 1 << 30) + http2.call(1, path, message))
        reader, stream = http2.Reader(shared), 3
        while 1 not in reader.ended:
            shared.sendall(http2.call(stream, path, message) + http2.window_update(stream, 2 * MIB))
            self.assertIn(stream, reader.until_ended({stream}))
            stream += 2
        self.assertEqual(server.metric("prism_rpc_unread_answers_total"), 1)
        self.assertEqual(server.metric("prism_connections_ended_total", reason="unread"), 0)

    def test_an_answer_ends_beside_an_idle_stream(self):
        """Which takes nothing because there is nothing."""
        server = self.server(unread_answer_ms=200)
        self.kv.Store(key="big", value=b"x" * MIB)
        watch, path = "/grpc.health.v1.Health/Watch", http2.PATTERN + "Retrieve"
        message = http2.message(pb.RetrieveRequest(key="big").SerializeToString())
        shared = self.borrow(http2.connection(server.port, environment.PATIENCE,
                                              http2.setting(http2.INITIAL_WINDOW_SIZE, 0)))
        shared.sendall(http2.window_update(0, 1 << 30))
        shared.sendall(http2.call(1, watch, http2.message(b"")) + http2.window_update(1, 1 << 20))
        shared.sendall(http2.call(3, path, message))
        reader = http2.Reader(shared)
        self.assertEqual(reader.until_ended({3}), {3})
        self.assertEqual(server.metric("prism_rpc_unread_answers_total"), 1)
        shared.sendall(http2.call(5, path, message) + http2.window_update(5, 2 * MIB))
        self.assertEqual(reader.until_ended({5}), {3, 5})
        self.assertEqual(server.metric("prism_connections_ended_total", reason="unread"), 0)

    def test_health_watches(self):
        server = self.server(max_general_streams=200, max_inflight_calls=150)
        request, path = health_pb2.HealthCheckRequest(), "/grpc.health.v1.Health/Watch"
        with Hog(server.port, streams(1000, path, request)):
            wait.until(lambda: self.refused(server) == 900, environment.PATIENCE, "what is beyond its share is refused")
            self.assert_polite_client_is_served()
            watch = self.borrow(server.channel()).unary_stream(
                path, request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=health_pb2.HealthCheckResponse.FromString)(request, timeout=environment.PATIENCE)
            self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
            watch.cancel()

    def test_calls_in_flight(self):
        redis = self.borrow(RedisServer())
        server = self.borrow(Prismd(namespaces=[backends.keyvalue(
            {"backend": "redis", "config": {"address": redis.address}})], limits={"max_inflight_calls": 32}))
        greedy, other, modest = (pattern_service(self.borrow(server.channel())) for _ in range(3))
        for client in (greedy, other, modest):
            self.assertFalse(client.Retrieve(key="k").found)
        redis.pause()
        self.addCleanup(redis.resume)
        calls = [greedy.Retrieve.future(key="k", timeout=60) for _ in range(100)]
        wait.until(lambda: sum(c.done() for c in calls) == 84, environment.PATIENCE, "it gets half")
        calls += [other.Retrieve.future(key="k", timeout=60) for _ in range(100)]
        wait.until(lambda: sum(c.done() for c in calls) == 84 + 92, environment.PATIENCE, "it gets half of the rest")
        others = [modest.Retrieve.future(key="k", timeout=60) for _ in range(4)]
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 28, environment.PATIENCE, "room for a third")
        for call in calls:
            if call.done():
                self.assertEqual(call.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
                self.assertGreater(wire.retry_delay_seconds(call.exception()), 0)
        redis.resume()
        for call in others:
            self.assertFalse(call.result(wire.TIMEOUT).found)


if __name__ == "__main__":
    suite.main()
