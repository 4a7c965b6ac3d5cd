"""P9: where retention may remove unread messages, producers and consumers are told, the log names the topic and the
setting, and strict_retention refuses."""
import grpc

from rig import environment, suite, wait
from rig.kafka import KafkaServer
from rig.messaging import Member, consumer, consumer_service, producer, producer_service
from rig.nats import NatsServer
from rig.prismd import Prismd
from rig.redis import RedisServer
from prism.patterns.schemas import messaging_pb2 as schemas


class Retention(suite.Case):
    def serve(self, **config):
        slot = {"backend": "memstore", "config": config}
        self.server = self.borrow(Prismd(workers=2, namespaces=[producer(slot), consumer(slot)]))
        return consumer_service(self.borrow(self.server.channel()))

    def events(self, slot="message_source"):
        return [e for e in self.server.log_events() if e["event"] == "retention_lossy" and e["slot"] == slot]

    def test_a_lossy_topic_is_told_and_named(self):
        rpc = self.serve(stream_drop_unread=True)
        before = rpc.GetCapabilities()
        self.assertEqual(before.retention, schemas.RETENTION_UNKNOWN)
        with Member(rpc, topic="t", consumer_group="g"):
            wait.until(lambda: rpc.GetCapabilities().retention == schemas.RETENTION_LOSSY, environment.PATIENCE,
                       "the capabilities say so")
            for _ in range(8):  # on each worker
                told = consumer_service(self.borrow(self.server.channel())).GetCapabilities()
                self.assertEqual(told.retention, schemas.RETENTION_LOSSY)
                self.assertNotEqual(told.generation, before.generation)
        with Member(rpc, topic="t", consumer_group="g") as again:
            self.assertEqual(again.started.generation, told.generation)
        event = wait.until(self.events, environment.PATIENCE, "the log says so")[0]
        self.assertEqual(event["level"], "warn")
        self.assertEqual([event[name] for name in ("namespace", "slot", "topic", "group", "setting")],
                         ["default", "message_source", "t", "g", "stream_drop_unread"])

    def test_each_topic_is_named_once(self):
        """However often groups come and go."""
        rpc = self.serve(stream_drop_unread=True)
        for topic in ("t", "u"):
            for _ in range(3):
                for group in ("g", "h"):
                    with Member(rpc, topic=topic, consumer_group=group):
                        wait.until(lambda topic=topic: topic in [e["topic"] for e in self.events()],
                                   environment.PATIENCE, "the log names it")
        self.server.terminate()
        self.assertEqual([e["topic"] for e in self.events()], ["t", "u"])

    def test_a_topic_that_keeps_is_not(self):
        rpc = self.serve()
        producer_service(self.borrow(self.server.channel())).Publish(topic="t", payload=b"x")
        with Member(rpc, topic="t", consumer_group="g") as member:
            member.take(1)
        self.assertEqual(rpc.GetCapabilities().retention, schemas.RETENTION_UNKNOWN)
        publisher = producer_service(self.borrow(self.server.channel()))
        self.assertEqual(publisher.GetCapabilities().retention, schemas.RETENTION_UNKNOWN)
        self.server.terminate()
        self.assertEqual(self.events() + self.events("message_sink"), [])

    def test_producers_are_told_once(self):
        self.serve(stream_drop_unread=True)
        rpc = producer_service(self.borrow(self.server.channel()))
        self.assertEqual(rpc.GetCapabilities().retention, schemas.RETENTION_UNKNOWN)
        for _ in range(100):
            self.assertTrue(rpc.Publish(topic="t", payload=b"x").success)
        wait.until(lambda: rpc.GetCapabilities().retention == schemas.RETENTION_LOSSY, environment.PATIENCE,
                   "the capabilities say so")
        for _ in range(8):  # on each worker
            again = producer_service(self.borrow(self.server.channel()))
            self.assertTrue(again.Publish(topic="t", payload=b"x").success)
            self.assertEqual(again.GetCapabilities().retention, schemas.RETENTION_LOSSY)
        self.server.terminate()
        event, = self.events("message_sink")
        self.assertEqual([event[name] for name in ("level", "namespace", "topic", "setting")],
                         ["warn", "default", "t", "stream_drop_unread"])


class Strict(suite.Case):
    """strict_retention, on each stream, with a topic that may lose messages and one that keeps them."""

    def kafka(self):
        broker = self.borrow(KafkaServer())
        broker.create_topic("loses", 1)
        broker.create_topic("keeps", 1, retention_ms=-1)
        return {"backend": "kafka", "config": {"brokers": broker.address}}, "retention.ms"

    def jetstream(self):
        broker = self.borrow(NatsServer())
        broker.create_stream("keeps")
        broker.create_stream("loses", max_msgs=10)
        return {"backend": "jetstream", "config": {"address": broker.address}}, "max_msgs with discard: old"

    def memstore(self, **config):
        return {"backend": "memstore", "config": config}

    def redis(self, **config):
        return {"backend": "redis-stream", "config": {"address": self.borrow(RedisServer()).address, **config}}

    def serve(self, slot, allowed="*"):
        behavior = {"strict_retention": True, "allowed_topics": allowed}
        server = self.borrow(Prismd(namespaces=[producer(slot, **behavior), consumer(slot, **behavior)]))
        return server, producer_service(self.borrow(server.channel())), consumer_service(self.borrow(server.channel()))

    def expect_refused(self, slot, setting, topic="loses"):
        _, publisher, reader = self.serve(slot)
        reply = publisher.Publish(topic=topic, payload=b"x")
        self.assertEqual((reply.success, reply.code), (False, grpc.StatusCode.FAILED_PRECONDITION.value[0]))
        for word in (f'"{topic}"', setting):
            self.assertIn(word, reply.error)
        with self.assertRaises(grpc.RpcError) as refused, Member(reader, topic=topic, consumer_group="g"):
            pass
        self.assertEqual(refused.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
        for word in (f'"{topic}"', setting):
            self.assertIn(word, refused.exception.details())
        return publisher, reader

    def expect_kept(self, publisher, reader, topic="keeps"):
        self.assertTrue(publisher.Publish(topic=topic, payload=b"x").success)
        with Member(reader, topic=topic, consumer_group="g") as member:
            member.take(1)

    def expect_no_start(self, slot, *words, pattern=producer, allowed="loses", event="pattern_not_opened", key="error"):
        server = Prismd(namespaces=[pattern(slot, strict_retention=True, allowed_topics=allowed)]).launch()
        try:
            self.assertEqual(server.process.wait(environment.PATIENCE), 1)
            text, = [e[key] for e in server.log_events() if e["event"] == event]
            for word in words:
                self.assertIn(word, text)
        finally:
            server.process.kill()

    def expect_all(self, slot, setting):
        self.expect_kept(*self.expect_refused(slot, setting))
        for pattern in producer, consumer:
            self.expect_no_start(slot, '"loses"', setting, pattern=pattern, allowed="keeps, loses")
        _, publisher, reader = self.serve(slot, allowed="keeps")
        self.expect_kept(publisher, reader)

    def test_kafka(self):
        self.expect_all(*self.kafka())

    def test_jetstream(self):
        self.expect_all(*self.jetstream())

    def test_memstore(self):
        lossy = self.memstore(stream_drop_unread=True)
        self.expect_refused(lossy, "stream_drop_unread")
        for pattern in producer, consumer:
            self.expect_no_start(lossy, '"loses"', "stream_drop_unread", pattern=pattern)
        _, publisher, reader = self.serve(self.memstore(), allowed="keeps")
        self.expect_kept(publisher, reader)

    def test_redis_stream(self):
        lossy = self.redis(max_length=100, trim_unread=True)
        self.expect_refused(lossy, "max_length, trim_unread")
        for pattern in producer, consumer:
            self.expect_no_start(lossy, '"loses"', "max_length, trim_unread", pattern=pattern)
        _, publisher, reader = self.serve(self.redis(max_length=100), allowed="keeps")
        self.expect_kept(publisher, reader)

    def test_what_keeps_nothing_does_not_start(self):
        slot = {"backend": "redis", "config": {"address": self.borrow(RedisServer()).address}}
        for pattern in producer, consumer:
            self.expect_no_start(slot, "at most once", pattern=pattern, allowed="*", event="config_fault",
                                 key="message")


if __name__ == "__main__":
    suite.main()
