"""The largest messages that are taken, read by clients as they come: 4 MiB at a time. On PRISM_BACKEND."""
import grpc

from rig import backends, suite, wire
from rig.messaging import Member, Stream, consumed, consumer, consumer_service, producer, producer_service
from rig.multicast import namespace, pb, service
from rig.prismd import Prismd

DEAD_LETTER = consumed.DESCRIPTOR.dependencies[0].enum_types_by_name["Disposition"].values_by_name["DEAD_LETTER"]
TOPIC, GROUP = "t" * 150, "g" * 90
MEMORY = {"backend": "memstore"}
LIMIT, ROOM, AROUND = 4 << 20, 8192, 32
HEADERS = [{"name": f"header-{i:03}", "value": b"v" * 245} for i in range(250)]
KEY, ID = b"k" * 65536, "i" * 256


class Largest(suite.Case):
    @classmethod
    def setUpClass(cls):
        slot = cls.use(backends.slot(suite.backend()))
        cls.server = cls.use(Prismd(namespaces=[producer(slot), consumer(slot, dead_letters=slot), namespace(
            MEMORY, MEMORY, durability=slot)]))
        stock = cls.use(grpc.insecure_channel(cls.server.address, [("grpc.use_local_subchannel_pool", 1)]))
        cls.producer, cls.consumer, cls.registry = producer_service(stock), consumer_service(stock), service(stock)

    def publish(self, size, **message):
        return self.producer.Publish(topic=TOPIC, payload=bytes(size), **message)

    def largest(self, **message):
        """The size of the largest payload that is taken with this."""
        beside = len(message.get("ordering_key", b"")) + len(message.get("message_id", "")) + sum(
            2 * (len(header["name"]) + len(header["value"])) + AROUND for header in message.get("headers", []))
        size = LIMIT - ROOM - beside
        self.assertEqual(wire.failure(self.publish, size + 1, **message).code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertTrue(self.publish(size, **message).success)
        return size

    def check_readable(self, size, **message):
        """As it was published, and as a dead letter."""
        which = {"topic": TOPIC, "consumer_group": GROUP}
        with Member(self.consumer, **which) as member:
            got, = member.take(1)
            self.assertEqual((len(got.payload), len(got.headers)), (size, len(message.get("headers", []))))
            member.reject(1, disposition=DEAD_LETTER.number, reason="r" * 1024)
            member.told(lambda frame: frame.settled_through == 1)
        with Member(self.consumer, dead_letters=True, **which) as letters:
            got, = letters.take(1)
            self.assertEqual(len(got.payload), size)
            letters.settle(1)

    def test_of_payload(self):
        announced = self.producer.GetCapabilities().max_message_size
        size = self.largest()
        self.assertEqual(size, announced)
        self.check_readable(size)

    def test_of_key_headers_and_payload(self):
        message = {"ordering_key": KEY, "message_id": ID, "headers": HEADERS}
        self.check_readable(self.largest(**message), **message)

    def test_news_come_before_it(self):
        """Who has much to hear gets the message in a frame of its own."""
        with Member(self.consumer, topic=TOPIC, consumer_group=GROUP) as member:
            member.credit(messages=1)
            self.publish(1)
            member.take(1)
            size = self.largest()
            member.acknowledge(*range(1000, 11000))
            member.credit(messages=1)
            got, = member.take(1)
            self.assertEqual(len(got.payload), size)
            member.told(lambda frame: sum(len(one.failures) for one in member.frames) == 10000)
            member.settle(2)

    def test_of_a_multicast(self):
        """Behind a smaller one that a frame would have room for."""
        self.assertTrue(self.registry.Register(identity="device").success)
        metadata = [{"name": header["name"], "value": header["value"]} for header in HEADERS[:120]]
        size = LIMIT - ROOM - sum(2 * (len(one["name"]) + len(one["value"])) + AROUND for one in metadata)

        def multicast(some):
            return pb.MulticastRequest(identities=["device"], payload=bytes(some), metadata=metadata)

        for some in (200 << 10, size):
            self.assertEqual(self.registry.Multicast(multicast(some)).pending_count, 1)
        too_large = wire.failure(self.registry.Multicast, multicast(size + 1))
        self.assertEqual(too_large.code(), grpc.StatusCode.INVALID_ARGUMENT)
        seen = []
        with Stream(self.registry.Attach, timeout=20) as stream:
            stream.send(pb.AttachRequest(attach={"identities": ["device"]}))
            while len(seen) < 2:
                seen += [len(message.payload) for message in stream.next().messages]
        self.assertEqual(seen, [200 << 10, size])


if __name__ == "__main__":
    suite.main()
