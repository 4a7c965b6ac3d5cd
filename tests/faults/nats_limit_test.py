"""What a real NATS server takes of one message, its max_payload, is announced, and what is larger is refused once."""
import grpc

from rig import environment, suite, wait, wire
from rig.messaging import Member, consumer, consumer_service, producer, producer_service
from rig.multicast import namespace, pb, service
from rig.nats import NatsServer, queue_stream
from rig.prismd import Prismd
from prism.patterns.schemas import slot_schema_pb2 as schemas

SMALL, LARGE = 65536, 131072
ROOM, CAST_ROOM = 1024, 8192     # beside the payload: for key and headers; for the identity as well
MEMORY = {"backend": "memstore"}
SENDING = ("Publish", "PublishBatch", "Multicast", "MulticastStream")
KEPT, LOST = schemas.AT_LEAST_ONCE, schemas.AT_MOST_ONCE


class Limit(suite.Case):
    def setUp(self):
        self.nats = self.borrow(NatsServer(max_payload=SMALL))

    def slot(self, backend):
        more = {"create_streams": True} if backend == "jetstream" else {}
        return {"backend": backend, "config": {"address": self.nats.address, **more}}

    def serve(self, *namespaces):
        return self.borrow(self.borrow(Prismd(namespaces=list(namespaces))).channel())

    def announced(self, rpc, expected):
        """It is known with the connection."""
        def told():
            capabilities = rpc.GetCapabilities()
            limits = {o.limits.max_value_bytes for o in capabilities.operations
                      if o.operation in SENDING and o.availability == schemas.AVAILABLE}
            return capabilities if limits == {expected} else None
        return wait.until(told, environment.PATIENCE, f"{expected} is announced")

    def restart_with(self, max_payload):
        self.nats.kill()
        self.nats.max_payload = max_payload
        self.nats.prepare()
        self.nats.start()

    def refused(self, method, *request, **fields):
        error = wire.failure(method, *request, **fields)
        self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT, error.details())

    def check_publishing(self, backend):
        rpc = producer_service(self.serve(producer(self.slot(backend))))
        before = self.announced(rpc, SMALL - ROOM)
        self.assertEqual(before.max_message_size, SMALL - ROOM)
        self.check_published(rpc, SMALL - ROOM)
        self.restart_with(LARGE)
        after = self.announced(rpc, LARGE - ROOM)
        self.assertNotEqual(after.generation, before.generation)
        self.check_published(rpc, LARGE - ROOM)
        self.restart_with(SMALL)
        self.announced(rpc, SMALL - ROOM)
        self.check_published(rpc, SMALL - ROOM)

    def check_published(self, rpc, most):
        def stored():
            return rpc.Publish(topic="t", payload=bytes(most), ordering_key=b"k", message_id="i").success
        wait.until(stored, environment.PATIENCE, "the largest is published")
        self.refused(rpc.Publish, topic="t", payload=bytes(most + 1))
        self.refused(rpc.Publish, topic="t", payload=bytes(most), headers=[{"name": "h", "value": b"v" * ROOM}])

    def test_publishing_on_topics(self):
        self.check_publishing("nats")

    def test_publishing_on_streams(self):
        self.check_publishing("jetstream")

    def test_what_is_larger_goes_to_the_object_store(self):
        """Also below the threshold that is configured."""
        slot = self.slot("jetstream")
        channel = self.serve(producer(slot, objects=MEMORY, claim_check_threshold=1 << 20),
                             consumer(slot, objects=MEMORY))
        rpc = producer_service(channel)
        wait.until(lambda: rpc.GetCapabilities().claim_check_threshold == SMALL - ROOM, environment.PATIENCE,
                   "the threshold follows")
        largest = rpc.GetCapabilities().max_message_size
        sizes = {SMALL - ROOM: False, SMALL - ROOM + 1: True, largest: True}
        for size, checked in sizes.items():
            reply = rpc.Publish(topic="t", payload=bytes(size))
            self.assertEqual((reply.success, reply.claim_checked), (True, checked), size)
        self.refused(rpc.Publish, topic="t", payload=bytes(largest + 1))
        with Member(consumer_service(channel), topic="t", consumer_group="g", max_inline_bytes=SMALL) as member:
            self.assertCountEqual([m.claim.size if m.HasField("claim") else len(m.payload) for m in member.take(3)],
                                  list(sizes))
            member.settle(3)

    def check_multicast(self, registry, most, delivery):
        names = ["a", "n" * 512]
        for name in names:
            registry.Register(identity=name, replace=True)
        def request(size, **metadata):
            return pb.MulticastRequest(payload=bytes(size), delivery=delivery, **metadata)
        large = {"metadata": [{"name": "n", "value": b"v" * 1023}]}
        for fits in (request(most), request(most - 1024, **large)):
            answer = registry.Multicast(fits)
            self.assertEqual((answer.success, answer.target_count, answer.failed_count), (True, 2, 0), answer.error)
        for larger in (request(most + 1), request(most - 1023, **large)):
            self.refused(registry.Multicast, larger)

    def test_multicast(self):
        registry = service(self.serve(namespace(MEMORY, self.slot("nats"))))
        self.announced(registry, SMALL - CAST_ROOM)
        self.check_multicast(registry, SMALL - CAST_ROOM, LOST)
        self.restart_with(LARGE)
        self.announced(registry, LARGE - CAST_ROOM)
        self.check_multicast(registry, LARGE - CAST_ROOM, LOST)

    def test_multicast_that_is_kept(self):
        queue_stream(self.nats)
        slot = {"backend": "jetstream", "config": {"address": self.nats.address}}
        registry = service(self.serve(namespace(MEMORY, MEMORY, durability=slot)))
        self.announced(registry, SMALL - CAST_ROOM)
        self.check_multicast(registry, SMALL - CAST_ROOM, KEPT)


if __name__ == "__main__":
    suite.main()
