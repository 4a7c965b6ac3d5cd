"""The deprecated PubSubBasicInterface: on the same core as ProducerPattern and ConsumerPattern."""
import grpc

from rig import backends, suite, wire
from rig.messaging import Member, consumer, consumer_service, producer, producer_service
from rig.prismd import Prismd
from prism.interfaces.pubsub import pubsub_basic_pb2 as pb


class PubSub(suite.Case):
    @classmethod
    def setUpClass(cls):
        slot = cls.use(backends.slot(suite.backend()))
        cls.server = cls.use(Prismd(workers=2, namespaces=[producer(slot), consumer(slot, default_group="everybody")]))
        cls.channel = cls.use(cls.server.channel())
        cls.old = wire.Service(cls.channel, pb.DESCRIPTOR.services_by_name["PubSubBasicInterface"], None)
        cls.publisher, cls.rpc = producer_service(cls.channel), consumer_service(cls.channel)

    @property
    def topic(self):
        return self._testMethodName

    def subscribe(self, name="me"):
        """A subscription that stands."""
        stream = self.old.Subscribe(topic=self.topic, subscriber_id=name, timeout=60)
        self.assertIn("x-prism-subscription-id", [key for key, _ in stream.initial_metadata()])
        return stream

    def publish(self, payload, **metadata):
        reply = self.old.Publish(pb.PublishRequest(topic=self.topic, payload=payload, metadata=metadata))
        self.assertEqual((reply.success, reply.error), (True, ""))
        return reply

    def test_every_subscriber_gets_every_message(self):
        streams = [self.subscribe("one"), self.subscribe("two")]
        replies = [self.publish(b"%d" % i, kind="number") for i in range(10)]
        for stream in streams:
            messages = [next(stream) for _ in range(10)]
            self.assertEqual([m.payload for m in messages], [b"%d" % i for i in range(10)])
            self.assertEqual([m.message_id for m in messages], [reply.message_id for reply in replies])
            self.assertEqual((messages[0].topic, dict(messages[0].metadata)), (self.topic, {"kind": "number"}))
            self.assertGreater(messages[0].timestamp, 10**12, "milliseconds")
            stream.cancel()

    def test_old_and_new_meet(self):
        stream = self.subscribe()
        self.publish(b"from old")
        self.assertTrue(self.publisher.Publish(topic=self.topic, payload=b"from new",
                                               headers=[{"name": "h", "value": b"v"}]).success)
        self.assertEqual([(m.payload, dict(m.metadata)) for m in (next(stream), next(stream))],
                         [(b"from old", {}), (b"from new", {"h": "v"})])
        stream.cancel()
        with Member(self.rpc, topic=self.topic, consumer_group="g") as member:
            self.assertEqual([m.payload for m in member.take(2)], [b"from old", b"from new"])

    def test_unsubscribe_ends_the_streams_of_that_name(self):
        leaving, staying = [self.subscribe("leaver") for _ in range(2)], self.subscribe("stayer")
        for _ in range(2):
            reply = self.old.Unsubscribe(topic=self.topic, subscriber_id="leaver")
            self.assertEqual((reply.success, reply.error), (True, ""))
        for stream in leaving:
            self.assertEqual((list(stream), stream.code()), ([], grpc.StatusCode.OK))
        self.publish(b"x")
        self.assertEqual(next(staying).payload, b"x")
        staying.cancel()

    def test_faults_are_told_in_band(self):
        reply = self.old.Publish(topic="", payload=b"x")
        self.assertFalse(reply.success)
        self.assertIn("topic", reply.error)
        self.assertFalse(self.old.Unsubscribe(topic=self.topic).success)
        with self.assertRaises(grpc.RpcError) as caught:
            next(self.old.Subscribe(topic="", timeout=20))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_use_is_counted_apart_and_warned_of(self):
        def counted(api):
            return self.server.metric("prism_api_calls_total", api=api)
        deprecated, pattern = counted("deprecated"), counted("pattern")
        self.publish(b"x")
        self.publisher.Publish(topic=self.topic, payload=b"x")
        self.assertEqual((counted("deprecated"), counted("pattern")), (deprecated + 1, pattern + 1))
        self.assertIn("prism.patterns.producer.ProducerPattern.Publish", self.server.process.log())


if __name__ == "__main__":
    suite.main()
