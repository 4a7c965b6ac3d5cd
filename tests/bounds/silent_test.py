"""What calls and streams of the patterns hold while they wait for a backend that does nothing, and who suffers."""
import contextlib
import unittest

import grpc

from rig import backends, environment, messaging, multicast, session, suite, wait
from rig.keyvalue import pattern_service
from rig.prismd import Prismd
from rig.redis import RedisServer

MIB = 1 << 20
LIMIT = 32 * MIB
LIMITS = {"transport_bytes": LIMIT, "max_inflight_bytes": LIMIT, "connection_share_percent": 100}
ALLOWANCE = 64 * MIB            # allocator, gRPC's calls, what the backend holds
CALLS = 400
STREAMS, FRAMES = 8, 16         # of a MiB each, on one connection: four times the limit
POLITE = 200                    # calls beside them


@unittest.skipIf(environment.SANITIZER, "the allocator is the sanitizer's")
class Silent(suite.Case):
    def serve(self, make, kind="redis", **limits):
        """A server of this namespace, and another one, `kv`, on memory; a channel to it."""
        self.redis = self.borrow(RedisServer())
        slot = {"backend": kind, "config": {"address": self.redis.address, "command_timeout_ms": 60_000}}
        other = backends.keyvalue({"backend": "memstore", "config": {}}, name="kv")
        self.server = self.borrow(Prismd(workers=2, namespaces=[make(slot), other], limits=limits or LIMITS))
        return self.borrow(self.server.channel())

    def pause(self):
        self.before = self.server.process.resident_bytes()
        self.redis.pause()

    def grown(self):
        return self.server.process.resident_bytes() - self.before

    def flood(self, begin):
        """All calls wait or are refused; then the backend goes on, and nothing is left."""
        self.pause()
        calls = [begin(i) for i in range(CALLS)]
        wait.until(lambda: sum(c.done() for c in calls) + self.server.metric("prism_rpc_in_flight") == CALLS,
                   environment.PATIENCE, "each call is refused or waits")
        self.assertLess(self.grown(), 2 * LIMIT + ALLOWANCE)
        self.redis.resume()
        codes = {c.code() for c in calls}
        self.assertEqual(codes, {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED})
        self.nothing_is_left()

    def nothing_is_left(self):
        wait.until(lambda: self.server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "all calls are over")
        wait.until(lambda: self.server.metric("prism_rpc_held_bytes") == 0, environment.PATIENCE, "nothing is held")

    def test_sessions(self):
        sessions = session.service(self.serve(session.namespace), timeout=60)
        made = sessions.CreateSession(metadata={"user_id": "u"}).session_id
        value = session.value(bytes(60_000))
        self.flood(lambda i: sessions.SetSessionData.future(session_id=made, key=f"k{i % 4}", value=value))

    def test_registrations(self):
        """Short on the wire, more once decoded."""
        memstore = {"backend": "memstore", "config": {}}
        registry = multicast.service(self.serve(lambda slot: multicast.namespace(slot, memstore)), timeout=60)
        registry.Register(identity="warm")
        self.flood(lambda i: registry.RegisterBatch.future(registrations=[
            multicast.pb.RegisterRequest(identity=f"{i}-{j}", metadata=multicast.struct(city="Oslo"))
            for j in range(900)]))

    def test_batches_of_messages(self):
        producer = messaging.producer_service(self.serve(messaging.producer, "redis-stream"), timeout=60)
        producer.Publish(topic="t", payload=b"x")
        self.flood(lambda i: producer.PublishBatch.future(messages=[
            messaging.pb.PublishRequest(topic="t", payload=b"x") for _ in range(900)]))

    def test_streams_of_messages(self):
        """They are held back once their connection has its share; others are served, and nothing is lost."""
        channel = self.serve(messaging.producer, "redis-stream", max_inflight_bytes=LIMIT)
        producer = messaging.producer_service(channel, timeout=60)
        kv = pattern_service(self.borrow(self.server.channel()), "kv")
        producer.Publish(topic="t", payload=b"x")
        frame = messaging.pb.PublishFrame(topic="t", messages=[messaging.pb.PublishRequest(payload=bytes(MIB))])
        self.pause()
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(messaging.Stream(producer.PublishStream)) for _ in range(STREAMS)]
            for stream in streams:
                for _ in range(FRAMES):
                    stream.send(frame)
                stream.half_close()
            wait.until(lambda: self.server.metric("prism_rpc_receives_waiting") == STREAMS, environment.PATIENCE,
                       "all are held back")
            for i in range(POLITE):
                self.assertTrue(kv.Store(key=f"{i}", value=b"v").success)
            self.assertLess(self.server.metric("prism_rpc_held_bytes"), LIMIT * 7 / 8)
            self.redis.resume()
            for stream in streams:
                self.assertEqual(stream.rest()[-1].settled_through, FRAMES)
        self.nothing_is_left()


if __name__ == "__main__":
    suite.main()
