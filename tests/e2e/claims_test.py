"""Claim check through a running prismd: producer and consumer on the backend that PRISM_BACKEND names."""
import gzip
import hashlib
import os

from rig import backends, suite
from rig.keyvalue import pattern_service
from rig.messaging import Member, consumer, consumer_service, producer, producer_service, topics_of
from rig.prismd import Prismd


class ClaimCase(suite.Case):
    """Claim check: large payloads lie in an object store."""
    THRESHOLD = 1000
    COMPRESSION = "none"

    @classmethod
    def serve(cls, object_backend):
        slot = cls.use(backends.slot(suite.backend(), topics_of(cls)))
        objects = slot if suite.backend() == object_backend else cls.use(backends.slot(object_backend))
        cls.server = cls.use(Prismd(workers=2, namespaces=[
            producer(slot, objects=objects, claim_check_threshold=cls.THRESHOLD,
                     claim_compression=cls.COMPRESSION),
            consumer(slot, dead_letters=slot, objects=objects), backends.keyvalue(objects)]))
        cls.channel = cls.use(cls.server.channel())
        cls.publisher = producer_service(cls.channel)
        cls.rpc = consumer_service(cls.channel)
        cls.objects = pattern_service(cls.channel)

    def publish(self, payload):
        reply = self.publisher.Publish(topic=self._testMethodName, payload=payload,
                                       headers=[{"name": "h", "value": b"v"}])
        self.assertTrue(reply.success)
        return reply.claim_checked

    def member(self, group="g", **subscribe):
        return Member(self.rpc, topic=self._testMethodName, consumer_group=group, **subscribe)


class Claims(ClaimCase):
    @classmethod
    def setUpClass(cls):
        cls.serve("memstore" if suite.backend() == "memstore" else "redis")

    def test_large_payloads_come_whole(self):
        payload = os.urandom(2 << 20)
        self.assertTrue(self.publish(payload))
        with self.member() as member:
            message, = member.take(1)
            self.assertEqual(message.payload, payload)
            self.assertEqual([(h.name, h.value) for h in message.headers], [("h", b"v")])
            self.assertFalse(message.HasField("claim"))
            member.settle(1)

    def test_the_threshold_is_exact(self):
        sizes = [self.THRESHOLD - 1, self.THRESHOLD, self.THRESHOLD + 1]
        self.assertEqual([self.publish(b"x" * size) for size in sizes], [False, False, True])
        with self.member() as member:
            self.assertEqual(sorted(len(m.payload) for m in member.take(3)), sizes)

    def test_each_group_gets_the_payload(self):
        """B2: the first that has read it takes nothing from the second."""
        self.publish(b"y" * 5000)
        for group in ("quick", "slow"):
            with self.member(group) as member:
                self.assertEqual(member.take(1)[0].payload, b"y" * 5000)
                member.settle(1)


class ClaimFaults(ClaimCase):
    """With objects that KeyValue reaches."""

    @classmethod
    def setUpClass(cls):
        cls.serve("redis")

    def test_what_is_larger_than_asked_for_comes_as_a_claim(self):
        payload = b"z" * 5000
        self.publish(payload)
        with self.member(max_inline_bytes=4999) as member:
            message, = member.take(1)
            self.assertFalse(message.HasField("payload"))
            self.assertEqual((message.claim.size, message.claim.sha256), (5000, hashlib.sha256(payload).digest()))
            self.assertEqual(self.objects.Retrieve(key=message.claim.key).value, payload)

    def test_lost_and_corrupt_payloads_are_dead_letters(self):
        """B3, C12: and the messages behind them come."""
        for letter in b"abc":
            self.publish(bytes([letter]) * 5000)
        with self.member("looks", max_inline_bytes=0) as looks:
            keys = [m.claim.key for m in looks.take(3)]
        self.assertTrue(self.objects.Remove(key=keys[0]).success)
        self.assertTrue(self.objects.Store(key=keys[1], value=b"b" * 4999 + b"B").success)
        with self.member() as member, self.member(dead_letters=True) as dead:
            self.assertEqual(member.take(1)[0].payload, b"c" * 5000)
            reasons = sorted(h.value.partition(b":")[0] for m in dead.take(2) for h in m.headers
                             if h.name == "prism-dead-letter-reason")
            self.assertEqual(reasons, [b"CLAIM_CORRUPT", b"CLAIM_LOST"])
            self.assertTrue(all(m.claim.size == 5000 for frame in dead.frames for m in frame.messages))


class Compressed(ClaimCase):
    COMPRESSION = "gzip"

    @classmethod
    def setUpClass(cls):
        cls.serve("redis")

    def claim(self):
        with self.member("looks", max_inline_bytes=0) as looks:
            return looks.take(1)[0].claim

    def test_the_object_is_smaller_and_the_payload_comes_back(self):
        payload = b"".join(b"line %d of a text that has much in common with the next\n" % i for i in range(40000))
        payload = payload[:2 << 20]
        self.assertEqual(len(payload), 2 << 20)
        self.assertTrue(self.publish(payload))
        claim = self.claim()
        self.assertEqual((claim.encoding, claim.size, claim.sha256),
                         ("gzip", len(payload), hashlib.sha256(payload).digest()))
        stored = self.objects.Retrieve(key=claim.key).value
        self.assertLess(len(stored), len(payload) / 4)
        self.assertEqual(gzip.decompress(stored), payload)
        with self.member() as member:
            message, = member.take(1)
            self.assertEqual(message.payload, payload)
            self.assertFalse(message.HasField("claim"))
            self.assertEqual([(h.name, h.value) for h in message.headers], [("h", b"v")])
            member.settle(1)

    def test_what_gzip_makes_no_smaller_is_stored_as_it_is(self):
        payload = os.urandom(2 << 20)
        self.publish(payload)
        claim = self.claim()
        self.assertEqual((claim.encoding, claim.size), ("", len(payload)))
        self.assertEqual(self.objects.Retrieve(key=claim.key).value, payload)
        with self.member() as member:
            self.assertEqual(member.take(1)[0].payload, payload)

    def test_what_inflates_to_something_else_is_a_dead_letter(self):
        for _ in range(3):
            self.publish(b"a" * 500000)
        with self.member("looks", max_inline_bytes=0) as looks:
            claims = [m.claim for m in looks.take(3)]
        stored = self.objects.Retrieve(key=claims[0].key).value
        self.objects.Store(key=claims[0].key, value=gzip.compress(b"a" * 50000000)[:len(stored)])
        self.objects.Store(key=claims[1].key, value=stored[:-1] + b"?")
        with self.member() as member, self.member(dead_letters=True) as dead:
            self.assertEqual(member.take(1)[0].payload, b"a" * 500000)
            reasons = [h.value.partition(b":")[0] for m in dead.take(2) for h in m.headers
                       if h.name == "prism-dead-letter-reason"]
            self.assertEqual(reasons, [b"CLAIM_CORRUPT"] * 2)
            self.assertTrue(all(m.claim.encoding == "gzip" for frame in dead.frames for m in frame.messages))

    def test_it_is_told(self):
        self.assertTrue(self.publisher.GetCapabilities().supports_compression)


if __name__ == "__main__":
    suite.main()
