"""What goes wrong with the producers of brokers, case by case (docs/cases/messages.md), on the backend that
PRISM_BACKEND names, whose broker the test stops."""
import threading
import time

import grpc

from rig import brokers, environment, suite, wait, wire
from rig.kafka import KafkaServer
from rig.messaging import Member, Stream, consumer, consumer_service, pb, producer, producer_service
from rig.prismd import Prismd
from rig.redis import RedisServer

TIMEOUT_MS = 1500
SETTINGS = {"kafka": {"publish_timeout_ms": TIMEOUT_MS}, "jetstream": {"publish_timeout_ms": TIMEOUT_MS},
            "redis-stream": {"command_timeout_ms": TIMEOUT_MS}}[suite.backend()]


class Cases(brokers.Case):
    def serve(self, workers=2, **settings):
        slot = self.broker.slot(**{**SETTINGS, **settings})
        server = self.borrow(Prismd(workers=workers, namespaces=[producer(slot, window=200)]))
        return server, producer_service(self.borrow(server.channel()))

    def messages(self, first, n):
        return [pb.PublishRequest(payload=b"%d" % i) for i in range(first, first + n)]


class Outage(Cases):
    def test_p8_full_once_and_not_for_ever(self):
        """An outage that is longer than all time-outs, with a full window: each message has one outcome, nothing stays
        unsettled, and the first publish after it works."""
        server, service = self.serve()
        with Stream(service.PublishStream, timeout=60) as stream:
            stream.next()
            stream.send(pb.PublishFrame(topic=self.topic, with_results=True, messages=self.messages(0, 1)))
            acks = stream.until(lambda ack: ack.settled_through == 1)
            self.broker.server.pause()
            for first in range(1, 1001, 100):
                stream.send(pb.PublishFrame(topic=self.topic, messages=self.messages(first, 100)))
            acks += stream.until(lambda ack: ack.settled_through >= 201)
            self.broker.server.resume()
            began = time.monotonic()
            wait.until(lambda: service.Publish(topic=self.topic, payload=b"x").success, environment.PATIENCE,
                       "it is stored")
            self.assertLess(time.monotonic() - began, 1)
            stream.half_close()
            acks += stream.rest()
        results = [result for ack in acks for result in ack.results]
        self.assertEqual(len(results), 1001)
        self.assertGreater(sum(r.outcome != pb.STORED for r in results), 100)
        self.assertEqual(acks[-1].success_count + acks[-1].failure_count, 1001)
        stats = service.GetStats()
        self.assertEqual((stats.unsettled, server.metric("prism_producer_unsettled_messages")), (0, 0))


class Window(Cases):
    def test_p6_identifiers_outlive_prismd_and_their_keeper(self):
        """JetStream keeps them itself; for the others a Redis does, which has each write on its disk."""
        keeper, state = self.broker.server, None
        if suite.backend() != "jetstream":
            keeper = self.borrow(RedisServer(durable=True))
            state = {"backend": "redis", "config": {"address": keeper.address}}
        ids = [b"%d" % i for i in range(200)]

        def publish():
            with Prismd(namespaces=[producer(self.broker.slot(), state=state)]) as server, server.channel() as channel:
                reply = producer_service(channel).PublishBatch(messages=[pb.PublishRequest(
                    topic=self.topic, payload=i, message_id=i.decode()) for i in ids])
                self.assertTrue(reply.all_success)
                return [r.deduplicated for r in reply.results], [r.position or r.offset for r in reply.results]
        first, places = publish()
        self.assertEqual(set(first), {False})
        keeper.kill()
        keeper.start()
        again, told = publish()
        self.assertEqual(set(again), {True})
        self.assertEqual(told, places)


class Traffic(threading.Thread):
    """A client that publishes without pause, as much as its window takes, until it is told to stop."""

    def __init__(self, channel, topic, payload=b"traffic"):
        super().__init__(daemon=True)
        self.frame = pb.PublishFrame(messages=[pb.PublishRequest(topic=topic, payload=payload)] * 50)
        self.stopping, self.error, self.sent, self.settled, self.failed = False, None, 0, 0, 0
        self.answers = producer_service(channel).PublishStream(message=self.frames(), timeout=120)
        self.start()

    def frames(self):
        while not self.stopping:
            self.sent += len(self.frame.messages)
            yield self.frame

    def run(self):
        try:
            for ack in self.answers:
                self.settled, self.failed = ack.settled_through, ack.failure_count
        except grpc.RpcError as e:
            self.error = e

    def stop(self):
        self.stopping = True
        self.answers.cancel()

    def flows(self, more):
        """Returns when so many more are settled."""
        goal = self.settled + more
        wait.until(lambda: self.settled >= goal or not self.is_alive(), environment.PATIENCE, "others publish")


class Flushing(Cases):
    def test_p14_a_flush_ends_while_others_publish_without_pause(self):
        """The broker stands still until the flush has come, so what it covers is known: what was unsettled then, one
        message that will be refused among it. It ends with that, and the others have never stopped."""
        backlog = 500
        server, service = self.serve(workers=1, **dict.fromkeys(SETTINGS, 60000))
        refused = self.broker.refused_message(self.topic + "-refuses")
        others = [Traffic(self.borrow(server.channel()), self.topic) for _ in range(2)]
        for other in others:
            self.addCleanup(other.stop)
            other.flows(1000)
        with Stream(service.PublishStream, timeout=120) as stream:
            stream.next()
            self.broker.server.pause()
            stream.send(pb.PublishFrame(messages=[
                pb.PublishRequest(topic=self.topic, payload=b"x")] * backlog + [refused]))
            unsettled = self.full(server, [backlog + 1, 200, 200])
            flush = service.Flush.future(timeout=environment.PATIENCE)
            wait.until(lambda: server.metric("prism_rpc_in_flight") == 4, environment.PATIENCE, "it has come")
            for _ in range(2):  # the worker takes its work in turn: it has seen the flush, and what that began
                self.assertEqual(service.GetStats().unsettled, unsettled)
            before = [other.settled for other in others]
            self.broker.server.resume()
            reply = flush.result()
            self.assertEqual((reply.flushed_count, reply.failed_count, reply.pending_count), (unsettled, 1, 0))
            self.assertEqual((reply.success, reply.code), (False, grpc.StatusCode.ABORTED.value[0]))
            for other, settled in zip(others, before):
                other.flows(1000)
                self.assertGreater(other.settled, settled + 1000)
                other.stopping = True
            stream.half_close()
            last = stream.rest()[-1]
            self.assertEqual((last.success_count, last.failure_count), (backlog, 1))
        for other in others:
            other.join(environment.PATIENCE)
            self.assertEqual((other.settled, other.failed), (other.sent, 0))

    def full(self, server, least):
        """How many are unsettled, once nobody has room for more."""
        counts = []

        def stands():
            counts.append(server.metric("prism_producer_unsettled_messages"))
            return counts[-1] >= sum(least) and counts[-3:] == counts[-1:] * 3
        wait.until(stands, environment.PATIENCE, "the windows are full")
        return counts[-1]


class Slow(Cases):
    def test_a_broker_that_stands_still_stops_its_publisher(self):
        """The client has no end of 10,000 bytes each: a window of 200 is read, and a little more. The rest waits in the
        client, and goes on with the broker."""
        patient = {name: 60000 for name in (*SETTINGS, *(["ack_timeout_ms"] if suite.backend() == "jetstream" else []))}
        server, _ = self.serve(**patient)
        publisher = Traffic(self.borrow(server.channel()), self.topic, bytes(10000))
        self.addCleanup(publisher.stop)
        publisher.flows(1000)
        self.broker.server.pause()
        counts = []

        def stands():
            counts.append(publisher.sent)
            return (server.metric("prism_producer_unsettled_messages") >= 200 and
                    counts[-50:] == counts[-1:] * 50)
        wait.until(stands, environment.PATIENCE, "it waits")
        held, sent = server.process.resident_bytes(), publisher.sent
        wait.holds(lambda: publisher.sent == sent and server.process.resident_bytes() - held < 4 << 20, 1, "it waits")
        self.assertIn(server.metric("prism_producer_unsettled_messages"), range(200, 251))
        self.assertLess(publisher.sent - publisher.settled, 2000)
        self.broker.server.resume()
        publisher.flows(1000)
        self.assertEqual(publisher.failed, 0)


class Java(suite.Case):
    def test_p10_keys_go_where_a_java_producer_puts_them(self):
        """1,000 keys, of all lengths and not only of ASCII, through Kafka's own console producer and through Prism."""
        partitions = 7
        broker = self.borrow(KafkaServer())
        broker.create_topic("t", partitions)
        slot = {"backend": "kafka", "config": {"brokers": broker.address}}
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot, max_in_flight=2000)]))
        keys = [("k\u00e9y-\u20ac" * (i % 9))[:i % 41] + str(i) * (i > 0) for i in range(1000)]
        self.assertEqual((len(set(keys)), keys[0]), (1000, ""))
        broker.produce_with_java("t", [(key, "java") for key in keys])
        reply = producer_service(self.borrow(server.channel())).PublishBatch(messages=[
            pb.PublishRequest(topic="t", payload=b"prism", ordering_key=key.encode()) for key in keys])
        self.assertTrue(reply.all_success)
        places = {b"java": {}, b"prism": {}}
        reader = consumer_service(self.borrow(server.channel()))
        with Member(reader, topic="t", consumer_group="g", max_in_flight=2 * len(keys)) as member:
            for message in member.take(2 * len(keys)):
                places[message.payload][message.ordering_key.decode()] = message.partition
        self.assertEqual(set(places[b"java"]), set(keys))
        self.assertEqual(places[b"prism"], {key: r.partition for key, r in zip(keys, reply.results)})
        self.assertEqual(places[b"java"], places[b"prism"])
        self.assertEqual(set(places[b"java"].values()), set(range(partitions)))


class Stuck(suite.Case):
    def test_p7_a_topic_without_a_leader_is_refused_alone(self):
        """Its broker is dead, so it fills its half of the room. A topic of another broker goes on meanwhile."""
        controller = self.borrow(KafkaServer())
        settings = controller.settings
        other = KafkaServer(2, voters=settings["controller.quorum.voters"], cluster_id=controller.cluster_id)
        other.settings["process.roles"] = "broker"
        other.settings["listeners"] = other.settings["advertised.listeners"]
        self.borrow(other)
        for topic, node in (("alive", 1), ("dead", 2)):
            wait.until(lambda t=topic, n=node: controller.place_topic(t, n), controller.patience, "it has its place")
        slot = {"backend": "kafka", "config": {"brokers": controller.address, "max_buffer_bytes": 1 << 20,
                                               "publish_timeout_ms": 10000}}
        server = self.borrow(Prismd(namespaces=[producer(slot, retry_for_ms=0), consumer(slot)]))
        service = producer_service(self.borrow(server.channel()), timeout=60)
        consumers = consumer_service(self.borrow(server.channel()))

        def carried(offered=200, each_second=100):
            """The part of what is offered, far less than what could be carried, that is stored by the end of it."""
            began, calls = time.monotonic(), []
            for i in range(offered):
                time.sleep(max(0, began + i / each_second - time.monotonic()))
                calls.append(service.Publish.future(topic="alive", payload=bytes(100)))
            in_time = sum(call.done() for call in calls)
            self.assertTrue(all(call.result().success for call in calls))
            return in_time / offered
        self.assertTrue(service.Publish(topic="dead", payload=b"x").success)
        carried()
        alone = carried()
        other.kill()
        waiting = [service.Publish.future(topic="dead", payload=bytes(20000)) for _ in range(40)]
        wait.until(lambda: any(c.done() for c in waiting), environment.PATIENCE, "there is no room")
        refused = [c.result() for c in waiting if c.done()]
        beside = carried()
        self.assertEqual({(r.outcome, r.code) for r in refused},
                         {(pb.NOT_STORED, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])})
        self.assertTrue(all(r.retry_after_ms > 0 for r in refused))
        open_still = sum(not c.done() for c in waiting)
        self.assertGreater(open_still, 20)
        self.assertGreater(server.metric("prism_kafka_waiting_bytes"), 400000)
        self.assertGreaterEqual(beside, 0.9 * alone)
        self.assertFalse(any(c.result().success for c in waiting), "in the end")
        self.assertEqual(service.GetStats().unsettled, 0)
        error = wait.until(lambda: self.without_leader(consumers), environment.PATIENCE, "the cluster tells of it")
        self.assertIs(error.code(), grpc.StatusCode.UNAVAILABLE, "it is there, if out of reach")

    @staticmethod
    def without_leader(consumers):
        error = wire.failure(consumers.GetState, topic="dead", consumer_group="g")
        return error if "leader" in error.details() else None


if suite.backend() != "kafka":  # the others have one connection, and no partitions that could be away
    del Java, Stuck

if __name__ == "__main__":
    suite.main()
