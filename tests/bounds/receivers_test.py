"""What receivers cost: those that wait for messages, and what waits in prismd for those that read nothing."""
import unittest

import grpc

from rig import environment, suite, wait
from rig.keyvalue import pattern_service
from rig.multicast import dropping, namespace, pb, service
from rig.prismd import Prismd

MIB = 1 << 20
MEMSTORE = {"backend": "memstore", "config": {}}
LIMIT = 32 * MIB
STREAMS, EACH = 4, 4            # slow ones, on as many connections, and identities of each
ON_A_STREAM, SHARED, IDENTITY = 10_000, 5, 560         # bytes of each; some 450 are needed
CHANNELS, OWN, STREAM = 10, 1000, 18_000               # likewise, some 16,500
ROUNDS, PAYLOAD = 200, 50_000   # of messages to each of them, no two alike: 152 MiB, if nothing counted them


def keyvalue():
    return {"name": "kv", "pattern": "keyvalue", "slots": {"primary": MEMSTORE}}


@unittest.skipIf(environment.SANITIZER, "the allocator is the sanitizer's")
class SlowReceivers(suite.Case):
    def attach(self, part, when_full):
        """A stream of which nothing more is read: its window of flow control is all that leaves."""
        channel = self.borrow(self.server.channel())
        stream = service(channel, timeout=120).Subscribe(identities=part, when_full=when_full)
        self.addCleanup(stream.cancel)
        next(stream)
        return stream

    def flood(self, when_full):
        """Messages for slow receivers and a quick one; returns the slow streams."""
        self.server = self.borrow(Prismd(
            namespaces=[namespace(MEMSTORE, MEMSTORE, receiver_queue_bytes=1 << 30), keyvalue()],
            limits={"max_inflight_bytes": LIMIT}))
        channel = self.borrow(self.server.channel())
        registry = service(channel, timeout=120)
        kv = pattern_service(channel, "kv", timeout=120)
        parts = [[f"slow-{i}-{j}" for j in range(EACH)] for i in range(STREAMS)]
        slow = [name for part in parts for name in part]
        registry.RegisterBatch(registrations=[pb.RegisterRequest(identity=name) for name in [*slow, "quick"]])
        streams = [self.attach(part, when_full) for part in parts]
        quick = self.attach(["quick"], when_full)
        before = self.server.process.resident_bytes()
        for n in range(ROUNDS):
            for i, name in enumerate([*slow, "quick"]):
                answer = registry.Multicast(identities=[name], payload=b"%04d%04d" % (n, i) + bytes(PAYLOAD - 8))
                self.assertEqual(answer.failed_count, 0)
            self.assertEqual(next(quick).messages[0].payload[:4], b"%04d" % n)
            self.assertTrue(kv.Store(key=f"{n}", value=bytes(1000)).success)
        self.grown = self.server.process.resident_bytes() - before
        return streams

    def test_they_take_their_share(self):
        """The memory of all stays below the limit, nobody else is refused or loses anything, and each message of a slow
        one is delivered or counted."""
        streams = self.flood(dropping.FULL_DROP_NEWEST)
        held = self.server.metric("prism_rpc_held_bytes")
        self.assertGreater(held, LIMIT / 8, "what waits is counted")
        self.assertLess(held, LIMIT)
        self.assertLess(self.grown, LIMIT + 32 * MIB)
        for stream in streams:
            got = dropped = 0
            while got + dropped < ROUNDS * EACH:
                frame = next(stream)
                got += sum(max(1, len(message.identities)) for message in frame.messages)
                dropped += frame.dropped_count
            self.assertEqual(got + dropped, ROUNDS * EACH)
            self.assertGreater(dropped, 0)
        wait.until(lambda: self.server.metric("prism_rpc_held_bytes") < MIB, environment.PATIENCE, "nothing waits")

    def test_end_stream_ends_them(self):
        for stream in self.flood(dropping.FULL_END_STREAM):
            with self.assertRaises(grpc.RpcError) as ended:
                for _ in stream:
                    pass
            self.assertEqual(ended.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        wait.until(lambda: self.server.metric("prism_rpc_held_bytes") < MIB, environment.PATIENCE, "nothing waits")


@unittest.skipIf(environment.SANITIZER, "the allocator is the sanitizer's")
class IdleReceivers(suite.Case):
    """There may be a million: a field more, or a lock, is paid for each."""

    def grown(self, warm, streams):
        """By how many bytes prismd grows for these lists of identities, once it has had the first one's like."""
        server = self.borrow(Prismd(namespaces=[namespace(MEMSTORE, MEMSTORE)],
                                    limits={"connection_share_percent": 100}))
        services = [service(self.borrow(server.channel()), timeout=120) for _ in range(CHANNELS)]
        before = None
        for part in (warm, streams):
            calls = [services[i % CHANNELS].Subscribe(identities=names) for i, names in enumerate(part)]
            for call in calls:
                self.addCleanup(call.cancel)
                self.assertEqual(next(call).attached_count, len(part[0]))
            before, now = server.process.resident_bytes(), before
        return before - now

    def test_an_identity_on_a_shared_stream(self):
        parts = [[f"device-{i:08d}" for i in range(first, first + ON_A_STREAM)]
                 for first in range(0, (SHARED + 1) * ON_A_STREAM, ON_A_STREAM)]
        self.assertLess(self.grown(parts[:1], parts[1:]) / (SHARED * ON_A_STREAM), IDENTITY)

    def test_a_stream_with_one_identity(self):
        parts = [[f"device-{i:08d}"] for i in range(OWN + CHANNELS)]
        self.assertLess(self.grown(parts[:CHANNELS], parts[CHANNELS:]) / OWN, STREAM)


if __name__ == "__main__":
    suite.main()
