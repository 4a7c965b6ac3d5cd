"""Connections beyond every bound: the server goes on accepting, answers probes, and keeps those it has."""
import contextlib
import http.client
import os
import re
import resource
import socket
import ssl
import sys
import threading

import grpc

from bounds.attacks import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, STORE, block, frame
from rig import backends, environment, http2, messaging, suite, tls, wait, wire
from rig.keyvalue import pattern_service
from rig.neighbour import Pair, waits_at_most
from rig.prismd import Prismd

MEMSTORE = [backends.keyvalue({"backend": "memstore", "config": {}})]
FILES = resource.RLIMIT_NOFILE


def read_until_closed(connection, seconds):
    """All that comes; None if the connection is still open then."""
    connection.settimeout(seconds)
    got = b""
    try:
        while piece := connection.recv(1 << 16):
            got += piece
    except TimeoutError:
        return None
    except ConnectionError:
        pass
    return got


def half_request(stream):
    return frame(HEADERS, END_HEADERS, stream, block()) + frame(DATA, 0, stream, STORE[:-1])


class Crowd:
    """Clients that keep a connection open, and open another one when they are thrown out."""

    def __init__(self, port, count):
        self.port, self.thrown_out = port, -count
        self.members = [None] * count

    def some_send(self, turn, piece):
        """Ten of them: a few turns throw out whoever has connected and said nothing."""
        for i in range(turn * 10 % len(self.members), turn * 10 % len(self.members) + 10):
            member = self.members[i]
            if member is None or not sends(member, piece):
                self.thrown_out += 1
                if member is not None:
                    member.close()
                self.members[i] = socket.create_connection(("127.0.0.1", self.port), environment.PATIENCE)

    def leave(self):
        for member in self.members:
            member.close()


def sends(connection, piece):
    try:
        connection.sendall(piece)
        return connection.recv(1, socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


class Connections(suite.Case):
    def serve(self, **limits):
        self.server = self.borrow(Prismd(namespaces=MEMSTORE, limits=limits))
        return self.server

    def connect(self, n):
        connections = []
        for _ in range(n):
            connections.append(self.borrow(socket.create_connection(("127.0.0.1", self.server.port),
                                                                    environment.PATIENCE)))
            connections[-1].sendall(PREFACE)
        return connections

    def served(self):
        """A client that was not there before gets an answer."""
        with self.server.channel() as channel:
            return pattern_service(channel).Store(key="k", value=b"v", timeout=5).success

    def cpu_seconds(self):
        with open(f"/proc/{self.server.pid}/stat", encoding="ascii") as f:
            words = f.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def test_more_than_max_connections(self):
        server = self.serve(max_connections=20, max_connections_per_peer=20)
        kv = pattern_service(self.borrow(server.channel()))
        kv.Store(key="k", value=b"v")
        crowd = self.connect(60)
        wait.until(lambda: server.metric("prism_connections_refused_total", reason="max_connections") >= 41,
                   environment.PATIENCE, "the rest is refused")
        self.assertEqual(server.metric("prism_connections"), 20)
        self.assertEqual(server.http("/readyz")[0], 503)
        self.assertIn("max_connections", server.http("/readyz")[1])
        self.assertTrue(kv.Store(key="k", value=b"v").success)      # one that stands is not touched
        with server.channel() as channel:
            error = wire.failure(pattern_service(channel).Store, key="k", value=b"v")
        self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
        for c in crowd:
            c.close()
        wait.until(lambda: server.http("/readyz")[0] == 200, environment.PATIENCE, "ready again")
        self.assertTrue(self.served())

    def test_out_of_descriptors(self):
        """The limit is lowered under its feet: nothing is left for accept4, nor for anybody else."""
        server = self.serve()
        kv = pattern_service(self.borrow(server.channel()))
        kv.Store(key="k", value=b"v")
        used = len(os.listdir(f"/proc/{server.pid}/fd"))
        before = resource.prlimit(server.pid, FILES)
        resource.prlimit(server.pid, FILES, (used + 5, before[1]))
        crowd = self.connect(40)
        wait.until(lambda: sum(read_until_closed(c, 0.01) is not None for c in crowd) >= 30, environment.PATIENCE,
                   "those beyond the limit are closed")
        start = self.cpu_seconds()
        wait.holds(lambda: kv.Store(key="k", value=b"v").success, 1, "a connection that stands is served")
        self.assertLess(self.cpu_seconds() - start, 0.5)            # nothing spins
        for c in crowd:
            c.close()
        wait.until(self.served, environment.PATIENCE, "a new client is served")
        resource.prlimit(server.pid, FILES, before)
        self.assertGreater(server.metric("prism_connections_refused_total", reason="descriptors"), 0)
        self.assertEqual(server.http("/readyz")[0], 200)

    def test_soft_limit_is_raised(self):
        server = self.serve()
        soft, hard = resource.prlimit(server.pid, FILES)
        self.assertEqual(soft, hard)
        self.assertLess(server.metric("prism_connections_max"), soft)
        self.assertGreater(server.metric("prism_connections_max"), 0)

    def test_streams_without_acknowledged_settings(self):
        """The bound that was announced holds for those who never say that they have read it."""
        server = self.serve(max_streams_per_connection=100)
        polite, rude = self.connect(2)
        rude.sendall(b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, block()) for i in range(101)))
        self.assertIsNotNone(read_until_closed(rude, environment.PATIENCE))
        polite.sendall(b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, block()) for i in range(100)))
        wait.until(lambda: server.metric("prism_requests_incomplete") == 100, environment.PATIENCE, "100 are open")
        polite.sendall(b"".join(frame(DATA, 1, 2 * i + 1, STORE) for i in range(100)))
        wait.until(lambda: server.metric("prism_streams_open") == 0, environment.PATIENCE, "all are answered")
        self.assertEqual(server.metric("prism_connections_ended_total", reason="streams"), 1)

    def test_an_overdue_request_ends_alone(self):
        """Half a request on an idle connection: it is answered, and the connection goes on."""
        server = self.serve(request_timeout_ms=200)
        shared, = self.connect(1)
        shared.sendall(frame(SETTINGS, 0, 0) + half_request(1) + half_request(3))
        reader = http2.Reader(shared)
        self.assertEqual(reader.until_ended({1, 3}), {1, 3})
        shared.sendall(frame(HEADERS, END_HEADERS, 5, block()) + frame(DATA, 1, 5, STORE))
        self.assertIn(5, reader.until_ended({5}))
        self.assertEqual(server.metric("prism_requests_overdue_total"), 2)
        self.assertEqual(server.metric("prism_requests_incomplete"), 0)

    def test_an_overdue_message_of_a_stream(self):
        """What came before it is settled and told. The status is not OK: the client did not end its side."""
        server = self.borrow(Prismd(namespaces=[messaging.producer({"backend": "memstore", "config": {}})],
                                    limits={"request_timeout_ms": 200}))
        stream = self.borrow(http2.connection(server.port, environment.PATIENCE))
        whole = http2.message(messaging.pb.PublishFrame(topic="t", messages=[
            messaging.pb.PublishRequest(payload=b"x")]).SerializeToString())
        path = "/prism.patterns.producer.ProducerPattern/PublishStream"
        stream.sendall(frame(HEADERS, END_HEADERS, 1, block(path)) + frame(DATA, 0, 1, whole + whole[:-1]))
        got = b""
        while not (status := re.search(rb"grpc-status(?:\x01([0-9])|\x02([0-9]{2}))", got)):
            piece = stream.recv(1 << 16)
            self.assertTrue(piece, f"closed without an answer: {got}")
            got += piece
        self.assertEqual(int(status[1] or status[2]), grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
        self.assertIn(messaging.pb.PublishAck(settled_through=1, success_count=1).SerializeToString(), got)
        self.assertEqual(server.metric("prism_requests_overdue_total"), 1)

    def test_an_overdue_request_ends_alone_under_tls(self):
        """Its place is between what the connection sends for other calls."""
        authority = tls.Authority(suite.subfolder("tls"))
        cert, key = authority.issue("server")
        server = self.borrow(Prismd(credentials=authority.credentials(), namespaces=MEMSTORE,
                                    limits={"request_timeout_ms": 200}, tls={"cert": cert, "key": key}))
        shared = self.borrow(http2.connection(server.port, environment.PATIENCE,
                                              context=ssl.create_default_context(cafile=authority.cert)))
        shared.sendall(half_request(1))
        reader, stream = http2.Reader(shared), 3
        while 1 not in reader.ended:
            shared.sendall(frame(HEADERS, END_HEADERS, stream, block()) + frame(DATA, 1, stream, STORE))
            self.assertIn(stream, reader.until_ended({stream}))
            stream += 2
        self.assertEqual(server.metric("prism_requests_overdue_total"), 1)

    def test_a_frame_without_end_ends_its_connection(self):
        server = self.serve(request_timeout_ms=100)
        stuck, = self.connect(1)
        stuck.sendall(frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, 1, 1, STORE)[:-1])
        self.assertIsNotNone(read_until_closed(stuck, environment.PATIENCE))
        self.assertEqual(server.metric("prism_connections_ended_total", reason="overdue"), 1)

    def test_a_drain_tells_of_incomplete_requests(self):
        server = self.serve()
        half, = self.connect(1)
        half.sendall(frame(HEADERS, END_HEADERS, 1, block()) + frame(HEADERS, END_HEADERS, 3, block()))
        wait.until(lambda: server.metric("prism_requests_incomplete") == 2, environment.PATIENCE, "two are open")
        server.terminate()
        drained, = [e for e in server.log_events() if e["event"] == "drained"]
        self.assertEqual(drained["incomplete"], 2)

    def test_too_much_metadata_ends_the_call_alone(self):
        server = self.serve(max_metadata_bytes=2048)
        channel = self.borrow(server.channel())
        kv = pattern_service(channel)
        kv.Store(key="k", value=b"v")
        error = wire.failure(kv.Store, key="k", value=b"v", metadata=(("x-big", "y" * 2100),))
        self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertIn("metadata", error.details())
        self.assertTrue(kv.Store(key="k", value=b"v", metadata=(("x-big", "y" * 1000),)).success)
        self.assertEqual(server.metric("prism_connections"), 1)

    def test_header_list_without_end(self):
        server = self.serve()
        kv = pattern_service(self.borrow(server.channel()))
        rude, = self.connect(1)
        rude.sendall(frame(HEADERS, 0, 1, block()) + b"".join(frame(9, 0, 1, b"\0\1a\1b" * 2000) for _ in range(20)))
        self.assertIsNotNone(read_until_closed(rude, environment.PATIENCE))
        self.assertTrue(kv.Store(key="k", value=b"v").success)
        self.assertEqual(server.metric("prism_connections_ended_total", reason="headers"), 1)
        self.assertEqual([e["event"] for e in server.log_events() if e["event"] == "connection_ended"],
                         ["connection_ended"])

    def test_probes_in_a_crowd(self):
        """Clients of the admin port that never end a request, and come again: probes are answered within a second."""
        server, control = self.serve(), self.borrow(Prismd(namespaces=MEMSTORE))
        turns = threading.Lock()

        def status(of, path):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", of.admin_port, timeout=10)) as client:
                with turns:     # a busy machine may keep a probe from asking for longer than its place is its own
                    client.request("GET", path)
                return client.getresponse().status

        def probe(of):
            assert [status(of, path) for path in ("/healthz", "/readyz")] == [200, 200]

        def measure():
            with Pair(probe, server, control, "prismd") as pair:
                crowd = Crowd(server.admin_port, 100)
                for turn in range(1000):
                    with turns:
                        crowd.some_send(turn, b"G")
                    pair.polite.ended.wait(0.002)
            crowd.leave()
            print(f"admin port: {crowd.thrown_out} were thrown out; probes {pair}", file=sys.stderr)
            self.assertGreater(crowd.thrown_out, 0)
            return pair
        waits_at_most(self, 1, measure)


if __name__ == "__main__":
    suite.main()
