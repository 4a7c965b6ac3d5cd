"""M7: kept messages that were handed over too often, and the slot for dead letters."""
from rig import environment, suite, wait
from rig.identities import MEMSTORE, Identities
from rig.messaging import Member, Stream, consumer, consumer_service
from rig.multicast import dropping, namespace, pb, service
from rig.prismd import Prismd
from prism.patterns.schemas import slot_schema_pb2 as schemas


class DeadLetters(Identities):
    def fails(self, registry, payload, times):
        """A device that ends with the message each time."""
        for _ in range(times):
            with Stream(registry.Attach, timeout=environment.PATIENCE) as stream:
                stream.send(pb.AttachRequest(attach={"identities": ["device"]}, ack_mode=schemas.ACK_MANUAL))
                self.assertEqual(stream.until(lambda frame: frame.messages)[-1].messages[0].payload, payload)
            self.left()

    def left(self):
        wait.until(lambda: self.prismd.metric("prism_multicast_attached") == 0, environment.PATIENCE, "it has left")

    def letters(self, outcome):
        return self.prismd.metric("prism_multicast_dead_letters_total", outcome=outcome)

    def with_letters(self, slot, dead=None, payload=b"bad"):
        """One message has been handed over as often as it may."""
        self.prismd = self.borrow(Prismd(namespaces=[
            namespace(MEMSTORE, MEMSTORE, durability=slot, dead=dead or slot, max_deliveries=2),
            consumer(slot, dead_letters=dead or slot)]))
        channel = self.borrow(self.prismd.channel())
        registry = service(channel, timeout=2 * environment.PATIENCE)
        self.register(registry, ["device"])
        bad = pb.MulticastRequest(identities=["device"], payload=payload, message_id="m",
                                  metadata=[{"name": "k", "value": b"v"}])
        wait.until(lambda: registry.Multicast(bad).pending_count, environment.PATIENCE, "it is kept")
        self.fails(registry, payload, 2)
        return registry, consumer_service(channel, timeout=2 * environment.PATIENCE)

    def attached(self, registry):
        stream = self.borrow(Stream(registry.Attach, timeout=2 * environment.PATIENCE))
        stream.send(pb.AttachRequest(attach={"identities": ["device"]}, ack_mode=schemas.ACK_MANUAL))
        stream.until(lambda frame: frame.attached_count)
        return stream

    def becomes_a_dead_letter(self, slot, payload=b"bad"):
        """M7: with its bytes, its headers and the reason; and by Redrive it is a message again."""
        registry, letters = self.with_letters(slot, payload=payload)
        stream = self.attached(registry)
        dropped = stream.until(lambda frame: frame.dropped_count)[-1]
        self.assertEqual([(one.reason, one.count) for one in dropped.drops], [(dropping.DROP_GIVEN_UP, 1)])
        wait.until(lambda: self.letters("stored") == 1, environment.PATIENCE, "it is a dead letter")
        which = {"topic": "prism.queue.device", "consumer_group": "prism.multicast"}
        with Member(letters, dead_letters=True, **which) as member:
            letter, = member.take(1)
        headers = {header.name: header.value for header in letter.headers}
        self.assertEqual((letter.payload, headers["k"], headers["prism-dead-letter-for"],
                          headers["prism-dead-letter-topic"]), (payload, b"v", b"device", b"prism.queue.device"))
        self.assertIn(b"2 times", headers["prism-dead-letter-reason"])
        wait.until(lambda: letters.Redrive(**which).redriven_count == 1, environment.PATIENCE, "it is given back")
        again = stream.until(lambda frame: frame.messages)[-1].messages[0]
        self.assertEqual((again.payload, again.message_id), (payload, "m"))
        self.assertEqual([(header.name, header.value) for header in again.metadata], [("k", b"v")])

    def test_m7_dead_letter_redis_stream(self):
        self.becomes_a_dead_letter(self.redis("redis-stream"))

    def test_m7_dead_letter_postgres(self):
        self.becomes_a_dead_letter(self.postgres())

    def test_m7_dead_letter_jetstream(self):
        self.becomes_a_dead_letter(self.jetstream())

    def test_m7_large_dead_letter_jetstream(self):
        """Its receiver has room for 256 KiB at a time."""
        self.becomes_a_dead_letter(self.jetstream(), payload=bytes(300 << 10))

    def test_m7_no_place_for_the_dead_letter(self):
        """It stays in its queue, what stands behind it comes, and it is tried again."""
        durability = self.postgres()
        dead = self.redis("redis-stream")
        registry, _ = self.with_letters(durability, dead)
        self.server.kill()
        stream = self.attached(registry)
        wait.until(lambda: self.letters("failed") > 1, environment.PATIENCE, "it was tried twice")
        self.assertEqual(registry.Multicast(identities=["device"], payload=b"good").pending_count, 1)
        self.assertEqual(stream.until(lambda frame: frame.messages)[-1].messages[0].payload, b"good")
        slot = {"slot": "dead_letter_queue", "pattern": "multicast_registry"}
        self.assertEqual((self.letters("stored"), self.prismd.metric("prism_backend_degraded", **slot)), (0, 1))
        self.server.start()
        wait.until(lambda: self.letters("stored") == 1, environment.PATIENCE, "it is a dead letter")
        self.assertEqual(self.server.call("XLEN", "prism.queue.device.prism.multicast.dead"), 1)
        self.assertEqual(self.prismd.metric("prism_backend_degraded", **slot), 0)


if __name__ == "__main__":
    suite.main()
