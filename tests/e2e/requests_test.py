"""What is no whole request is refused before any effect: HTTP/2 by hand, as no gRPC library would send it."""
import gzip
import os
import re
import struct
import zlib

from rig import backends, environment, http2, messaging, suite
from rig.http2 import message
from rig.keyvalue import Pattern, pb
from rig.prismd import Prismd

GZIP = 2
LIMIT = 16 << 20  # bytes of limits.max_inflight_bytes
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 3, 8, 12


class Requests(suite.Case):
    @classmethod
    def setUpClass(cls):
        memstore = {"backend": "memstore", "config": {"stream_drop_unread": True}}
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(memstore), messaging.producer(memstore)],
                                    limits={"max_inflight_bytes": LIMIT}))
        channel = cls.use(cls.server.channel())
        cls.kv, cls.producer = Pattern(channel), messaging.producer_service(channel)

    def answer(self, method, body, **more):
        """(status, all bytes) of one call; body None: headers alone. C core writes its first answer as plain text."""
        with http2.connection(self.server.port, environment.PATIENCE) as s:
            path = method if method.startswith("/") else http2.PATTERN + method
            s.sendall(http2.call(1, path, body, **more))
            got, found = b"", None
            while found is None:
                chunk = s.recv(65536)
                self.assertTrue(chunk, f"closed without an answer: {got}")
                got += chunk
                found = re.search(rb"grpc-status(?:\x01([0-9])|\x02([0-9]{2}))", got)
        return int(found[1] or found[2]), got

    def assert_refused(self, status, *call, **more):
        got, text = self.answer(*call, **more)
        self.assertEqual(got, status, text)
        return text

    def test_good_request(self):
        self.assertEqual(self.answer("Store", message(pb.StoreRequest(key="good").SerializeToString()))[0], 0)
        self.assertIsNotNone(self.kv.get("good"))

    def test_without_a_whole_message(self):
        batch = message(pb.StoreBatchRequest(requests=[
            pb.StoreRequest(key=f"cut{i}", value=b"x" * 50) for i in range(10)]).SerializeToString())
        for cut in (None, b"", batch[:3], batch[:5], batch[:200], batch[:-1]):
            for method in ("StoreBatch", "GetCapabilities", "Scan", "Count"):
                with self.subTest(method=method, bytes=cut if cut is None else len(cut)):
                    self.assertIn(b"without a whole message", self.assert_refused(INVALID_ARGUMENT, method, cut))
        self.assertEqual(self.kv.count("cut"), 0)

    def test_unknown_encodings(self):
        store = pb.StoreRequest(key="encoded").SerializeToString()
        for encoding in ({}, {"grpc_encoding": "identity"}, {"grpc_encoding": "snappy"}):
            with self.subTest(encoding):
                text = self.assert_refused(UNIMPLEMENTED, "Store", message(store, 1), **encoding)
                self.assertIn(b"grpc-accept-encoding", text)
        self.assertIsNone(self.kv.get("encoded"))

    def test_unknown_encodings_in_a_stream(self):
        frame = messaging.pb.PublishFrame(topic="t", messages=[messaging.pb.PublishRequest(payload=b"x")])
        path = "/prism.patterns.producer.ProducerPattern/PublishStream"
        body = message(frame.SerializeToString(), 1)
        before = self.producer.GetStats().messages_published
        self.assert_refused(UNIMPLEMENTED, path, body, grpc_encoding="snappy")
        self.assertEqual(self.producer.GetStats().messages_published, before)

    def test_content_types(self):
        """What is framed as gRPC's, but says to be another's, is refused before any effect; gRPC's own are taken."""
        for kind in ("application/grpc-web", "application/grpc-web+proto", "application/json", "application/grpcx", "",
                     "text/plain; application/grpc"):
            for method, request in (("Store", pb.StoreRequest(key="kind", value=b"v" * 10_000)),
                                    ("Store", pb.StoreRequest(key="kind")), ("GetCapabilities", None)):
                body = request.SerializeToString() if request else b""
                for flag, more in ((0, {}), (1, {"grpc_encoding": "gzip"})):
                    with self.subTest(kind, method=method, bytes=len(body), flag=flag):
                        text = self.assert_refused(UNIMPLEMENTED, method, message(body, flag), content_type=kind,
                                                   **more)
                        self.assertIn(b"content-type is not application/grpc", text)
        none = http2.call(1, http2.PATTERN + "Store", message(pb.StoreRequest(key="kind").SerializeToString()),
                          content_type="?").replace(http2.header("content-type", "?"), b"")
        none = bytes([0, 0, none.index(b"trailers") + 8 - 9]) + none[3:]
        with http2.connection(self.server.port, environment.PATIENCE) as s:
            s.sendall(none)
            self.assertEqual(http2.Reader(s).until_ended({1}), {1})
        self.assertIsNone(self.kv.get("kind"))
        for kind in ("application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"):
            self.assertEqual(self.answer("Store", message(pb.StoreRequest(key=kind).SerializeToString()),
                                         content_type=kind)[0], 0)
            self.assertIsNotNone(self.kv.get(kind))

    def test_content_types_of_a_stream(self):
        frame = messaging.pb.PublishFrame(topic="t", messages=[messaging.pb.PublishRequest(payload=b"x")])
        path = "/prism.patterns.producer.ProducerPattern/PublishStream"
        before = self.producer.GetStats().messages_published
        text = self.assert_refused(UNIMPLEMENTED, path, message(frame.SerializeToString()) * 3,
                                   content_type="application/grpc-web")
        self.assertIn(b"grpc-web", text)
        self.assertEqual(self.producer.GetStats().messages_published, before)

    def test_content_types_that_the_connection_knows(self):
        """A client's library names them by their place in HPACK's table after the first call."""
        plain = http2.header("content-type", "application/grpc")

        def block(kind):
            return http2.headers(http2.PATTERN + "Store").replace(plain, kind)

        def kept(value):
            return b"\x5f" + bytes([len(value)]) + value     # RFC 7541, 6.2.1, with the name at 31
        kinds = [kept(b"application/json"), kept(b"application/grpc"), b"\xbf", b"\xbe", b"\xbf", b"\xbe",
                 kept(b"application/grpc-web"), b"\xbe", b"\xbf", b"\xc0"]
        good = [1, 3, 5, 8]
        with http2.connection(self.server.port, environment.PATIENCE) as s:
            for i, kind in enumerate(kinds):
                body = message(pb.StoreRequest(key=f"known-{i}").SerializeToString())
                for j in range(0, len(block(kind)), 7):     # in continuations
                    last = j + 7 >= len(block(kind))
                    s.sendall(http2.frame(http2.CONTINUATION if j else http2.HEADERS, http2.END_HEADERS if last else 0,
                                          2 * i + 1, block(kind)[j:j + 7]))
                s.sendall(http2.frame(http2.DATA, http2.END_STREAM, 2 * i + 1, body))
            streams = {2 * i + 1 for i in range(len(kinds))}
            self.assertEqual(http2.Reader(s).until_ended(streams), streams)
        self.assertEqual([i for i in range(len(kinds)) if self.kv.get(f"known-{i}") is not None], good)

    def test_a_connection_gets_back_what_its_streams_held(self):
        """Many times the limit goes over one connection, a stream after the other."""
        payload = bytes(1 << 20)
        for _ in range(2 * LIMIT // len(payload)):
            with messaging.Stream(self.producer.PublishStream) as stream:
                stream.send(messaging.pb.PublishFrame(topic="large", messages=[
                    messaging.pb.PublishRequest(payload=payload)]))
                stream.half_close()
                self.assertEqual(stream.rest()[-1].settled_through, 1)

    def test_gzip(self):
        """Requests and answers, by a client that compresses all it can."""
        kv = Pattern(self.borrow(self.server.channel(grpc__default_compression_algorithm=GZIP)))
        value = b"compressible " * 50_000
        before = self.server.metric("prism_rpc_bytes_total")
        kv.set("gzip", value)
        self.assertEqual(kv.get("gzip"), value)
        self.assertEqual(kv.scan("gzip"), [("gzip", value)])
        self.assertLess(self.server.metric("prism_rpc_bytes_total") - before, 2 * len(value),
                        "a request, inflated, and two answers, as they are sent")
        kv.set("gzip", noise := os.urandom(100_000))
        self.assertEqual(kv.get("gzip"), noise, "what does not shrink is sent as it is")

    def test_gzip_that_is_not_good(self):
        """Too large when inflated, damaged, or not what it claims: nothing is stored, and nothing large allocated."""
        good = gzip.compress(pb.StoreRequest(key="bad", value=b"x" * 100_000).SerializeToString())
        bomb, lie = gzip.compress(bytes(8 << 20)), struct.pack("<I", 100)
        resident = self.server.process.resident_bytes()
        for status, body in ((RESOURCE_EXHAUSTED, bomb), (INVALID_ARGUMENT, bomb[:-4] + lie),
                             (INVALID_ARGUMENT, good[:-4] + lie), (INVALID_ARGUMENT, good[:-8] + good[-4:]),
                             (INVALID_ARGUMENT, good[:50] + b"?" + good[51:]), (INVALID_ARGUMENT, good + good),
                             (INVALID_ARGUMENT, b"plain")):
            self.assert_refused(status, "Store", message(body, 1), grpc_encoding="gzip")
        text = self.assert_refused(UNIMPLEMENTED, "Store", message(zlib.compress(b""), 1), grpc_encoding="deflate")
        self.assertIn(b"identity, gzip", text)
        self.assertIsNone(self.kv.get("bad"))
        if not environment.SANITIZER:
            self.assertLess(self.server.process.resident_bytes() - resident, 6 << 20)

    def test_reserved_flags(self):
        """C core 1.51 would read them as an empty message, which is a good request of some methods."""
        for flag in (2, 128, 255):
            for method, request in (("Store", pb.StoreRequest(key="flag")), ("GetCapabilities", None)):
                body = request.SerializeToString() if request else b""
                self.assert_refused(UNIMPLEMENTED, method, message(body, flag))
        self.assertIsNone(self.kv.get("flag"))


if __name__ == "__main__":
    suite.main()
