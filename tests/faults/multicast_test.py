"""Kept multicasts while what stands between sender and receiver fails: instances of prismd, Redis, receivers."""
import random

import grpc

from rig import environment, suite, wait
from rig.messaging import Stream
from rig.multicast import messages, namespace, pb, service
from rig.nats import NatsServer
from rig.prismd import Prismd
from rig.redis import RedisServer
from prism.patterns.schemas import slot_schema_pb2 as schemas

MANUAL = schemas.ACK_MANUAL


class Kept(suite.Case):
    def setUp(self):
        self.redis, self.nats = self.borrow(RedisServer(durable=True)), self.borrow(NatsServer())

    def slots(self):
        return {"registry": {"backend": "redis", "config": {"address": self.redis.address}},
                "messaging": {"backend": "nats", "config": {"address": self.nats.address}},
                "durability": {"backend": "redis-stream",
                               "config": {"address": self.redis.address, "claim_idle_ms": 1000}}}

    def serve(self):
        server = self.borrow(Prismd(namespaces=[namespace(**self.slots())]))
        return server, service(self.borrow(server.channel()))

    def subscribe(self, registry, *names, **options):
        stream = registry.Subscribe(identities=names, ack_mode=MANUAL, timeout=environment.PATIENCE, **options)
        self.addCleanup(stream.cancel)
        return stream, next(stream)

    def test_two_instances_on_one_registry(self):
        """Registered on one; listed, multicast to and received on the other."""
        (_, first), (_, second) = self.serve(), self.serve()
        self.assertTrue(first.Register(identity="a").success)
        self.assertEqual([i.identity for i in second.Enumerate().identities], ["a"])
        self.assertEqual(second.Multicast(payload=b"1").pending_count, 1)
        stream, _ = self.subscribe(first, "a")
        self.assertEqual(messages(stream, 1)[0].payload, b"1")
        self.assertTrue(second.Unregister(identity="a").existed)
        self.assertEqual(first.Multicast(payload=b"2").target_count, 0)

    def test_an_instance_dies_with_messages_in_hand(self):
        """M9: what was pending, and what was handed over and not confirmed, comes from another instance."""
        server, registry = self.serve()
        registry.Register(identity="a")
        for text in (b"1", b"2", b"3"):
            registry.Multicast(payload=text)
        with Stream(registry.Attach) as stream:
            stream.send(pb.AttachRequest(attach={"identities": ["a"]}, ack_mode=MANUAL))
            got = messages(stream.answers, 3)
            stream.send(pb.AttachRequest(acknowledge={"sequences": [got[1].sequence]}))
            wait.until(lambda: server.metric("prism_multicast_settled_total", how="confirmed") == 1,
                       environment.PATIENCE, "one is confirmed")
            server.process.kill()
        _, registry = self.serve()
        stream, _ = self.subscribe(registry, "a")
        self.assertEqual({m.payload for m in messages(stream, 2)}, {b"1", b"3"})

    def test_redis_is_restarted(self):
        """With its file, nothing that was PENDING is lost."""
        _, registry = self.serve()
        registry.Register(identity="a")
        stream, _ = self.subscribe(registry, "a")
        self.assertEqual(registry.Multicast(payload=b"1").pending_count, 1)
        messages(stream, 1)
        self.redis.kill()
        self.redis.start()
        wait.until(lambda: self.pending(registry, b"2"), environment.PATIENCE, "multicasts go on")
        got = set()
        while got < {b"1", b"2"}:
            stream.cancel()
            stream, _ = self.subscribe(registry, "a")
            got |= {m.payload for m in messages(stream, 2)}

    @staticmethod
    def pending(registry, text):
        try:
            return registry.Multicast(payload=text, identities=["a"]).pending_count == 1
        except grpc.RpcError:
            return False

    def test_random_disconnects(self):
        """M9: in a thousand disconnects nothing is lost, whenever the receiver goes; each first frame says so."""
        _, registry = self.serve()
        registry.Register(identity="a")
        chance = random.Random(7)
        sent, got, token, goes = 3300, set(), None, 0
        for n in range(sent):
            self.assertEqual(registry.Multicast(payload=b"%d" % n).pending_count, 1)
        while len(got) < sent:
            options = {"resume_token": token} if token else {}
            stream, frame = self.subscribe(registry, "a", **options)
            if token:
                self.assertEqual((frame.recovered, frame.missed_count), (True, 0))
            name = frame.subscription_id
            taken = messages(stream, min(chance.randint(1, 5), sent - len(got)))
            for message in taken[:chance.randint(1, 5)]:
                got.add(message.payload)
                self.assertEqual(registry.Acknowledge(subscription_id=name, message_ids=[message.message_id])
                                 .acknowledged_count, 1)
            token = frame.resume_token
            stream.cancel()
            goes += 1
        self.assertEqual(got, {b"%d" % n for n in range(sent)})
        self.assertGreater(goes, 1000)


if __name__ == "__main__":
    suite.main()
