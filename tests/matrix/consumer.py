"""What each operation of the consumer pattern must do when it is available. `test` is the running test case,
`announced` the operation's entry in the capabilities. Each cell publishes what it consumes: beforehand, or, where the
source keeps nothing (a topic, at most once), as soon as it is subscribed."""
import grpc

from rig.messaging import (Member, consumed as pb, consumer, consumer_service, pb as published, producer,
                           producer_service)

MESSAGES = 10
SUMMARY = {"Acknowledge": "supports_acknowledgment", "Reject": "supports_negative_ack", "Seek": "supports_replay"}


class service:
    """ConsumerPattern, and beside it the producer that fills the topic."""

    def __init__(self, channel):
        self.consumer = consumer_service(channel)
        self.producer = producer_service(channel)
        self.keeps = self.consumer.GetCapabilities().supports_acknowledgment

    def __getattr__(self, rpc):
        return getattr(self.consumer, rpc)

    def fill(self, test, n=MESSAGES):
        if n == 0:
            return
        reply = self.producer.PublishBatch(messages=[published.PublishRequest(topic="t", payload=b"%d" % i)
                                                     for i in range(n)])
        test.assertTrue(reply.all_success)

    def member(self, **subscribe):
        return Member(self.consumer, topic="t", consumer_group="g", **subscribe)

    def subscribe(self, test, n=MESSAGES, **subscribe):
        """A subscription that has got n messages: its stream, its identifier, the messages."""
        if self.keeps:
            self.fill(test, n)
        stream = self.consumer.Subscribe(topic="t", consumer_group="g", timeout=60, **subscribe)
        messages, started = [], next(stream)
        messages.extend(started.messages)
        if not self.keeps:
            self.fill(test, n)
        while len(messages) < n:
            messages.extend(next(stream).messages)
        return stream, started.started.subscription_id, messages


def namespaces(slot):
    topics_only = slot["backend"] in ("nats", "redis")
    return [producer(slot), consumer(slot, dead_letters=None if topics_only else slot, retry_delay_ms=0)]


def backend_type(capabilities):
    return capabilities.slots.source_backend_type


def summary_agrees(capabilities, operation, announced):
    return getattr(capabilities, SUMMARY[operation]) if operation in SUMMARY else capabilities.generation > 0


def smallest_request(operation):
    return getattr(pb, operation + "Request")()


def GetCapabilities(test, rpc, announced):
    first, second = rpc.GetCapabilities(), rpc.GetCapabilities()
    test.assertEqual(first, second)
    test.assertTrue(first.ack_means)
    test.assertEqual(first.slots.HasField("dead_letter_backend_type"), first.supports_dead_letter)


def Consume(test, rpc, announced):
    if rpc.keeps:
        rpc.fill(test)
    before = rpc.GetCapabilities().generation
    with rpc.member() as member:
        if not rpc.keeps:
            rpc.fill(test)
        test.assertEqual([m.payload for m in member.take(MESSAGES)], [b"%d" % i for i in range(MESSAGES)])
        # It may have learned meanwhile what the topic's retention does.
        test.assertIn(member.started.generation, (before, rpc.GetCapabilities().generation))
        if rpc.keeps:
            member.settle(MESSAGES)
            test.assertEqual(rpc.GetState(topic="t", consumer_group="g").lag, 0)


def Subscribe(test, rpc, announced):
    stream, _, messages = rpc.subscribe(test)
    test.assertEqual([m.sequence for m in messages], list(range(1, MESSAGES + 1)))
    stream.cancel()


def Unsubscribe(test, rpc, announced):
    stream, name, _ = rpc.subscribe(test, 0)
    reply = rpc.Unsubscribe(subscription_id=name)
    test.assertEqual((reply.success, reply.existed, reply.code), (True, True, 0))
    list(stream)
    test.assertEqual(stream.code(), grpc.StatusCode.OK)
    test.assertFalse(rpc.Unsubscribe(topic="t", consumer_group="g").existed)


def Acknowledge(test, rpc, announced):
    stream, name, _ = rpc.subscribe(test)
    reply = rpc.Acknowledge(deliveries={"subscription_id": name, "through": MESSAGES})
    test.assertEqual((reply.acknowledged_count, len(reply.failures)), (MESSAGES, 0))
    reply = rpc.Acknowledge(deliveries={"subscription_id": name, "sequences": [1]})
    test.assertEqual((reply.acknowledged_count, len(reply.failures)), (0, 1))
    test.assertEqual(rpc.GetState(topic="t", consumer_group="g").lag, 0)
    stream.cancel()


def Reject(test, rpc, announced):
    stream, name, _ = rpc.subscribe(test, 1)
    for attempt in (2, 3):
        reply = rpc.Reject(deliveries={"subscription_id": name, "through": attempt - 1}, delay_ms=0)
        test.assertEqual((reply.rejected_count, len(reply.failures)), (1, 0))
        message = next(m for frame in stream for m in frame.messages)
        test.assertEqual((message.attempt, message.sequence), (attempt, attempt))
    stream.cancel()


def Extend(test, rpc, announced):
    stream, name, _ = rpc.subscribe(test, 1, lease_ms=10000)
    reply = rpc.Extend(deliveries={"subscription_id": name, "sequences": [1, 2]}, lease_ms=60000)
    test.assertEqual((reply.extended_count, [f.sequence for f in reply.failures]), (1, [2]))
    test.assertGreater(reply.expires_at_ms, 0)
    stream.cancel()


def Seek(test, rpc, announced):
    rpc.fill(test)
    with rpc.member() as member:
        member.take(MESSAGES)
        member.settle(MESSAGES)
        reply = rpc.Seek(topic="t", consumer_group="g", position=pb.EARLIEST)
        test.assertEqual((reply.success, reply.code), (True, 0))
        test.assertEqual([m.payload for m in member.take(MESSAGES)], [b"%d" % i for i in range(MESSAGES)])


def GetState(test, rpc, announced):
    rpc.fill(test)
    with rpc.member(consumer_id="me") as member:
        member.take(MESSAGES)
        member.settle(4)
        state = rpc.GetState(topic="t", consumer_group="g")
        test.assertEqual((state.lag, state.in_flight, state.running), (MESSAGES - 4, MESSAGES - 4, True))
        test.assertEqual([(m.consumer_id, m.in_flight) for m in state.members], [("me", MESSAGES - 4)])


def Redrive(test, rpc, announced):
    stream, name, _ = rpc.subscribe(test, 2)
    reply = rpc.Reject(deliveries={"subscription_id": name, "through": 2}, disposition=pb.DESCRIPTOR.dependencies[0]
                       .enum_types_by_name["Disposition"].values_by_name["DEAD_LETTER"].number)
    test.assertEqual((reply.dead_lettered_count, len(reply.failures)), (2, 0))
    reply = rpc.Redrive(topic="t", consumer_group="g")
    test.assertEqual((reply.redriven_count, reply.failed_count), (2, 0))
    again = (m.payload for frame in stream for m in frame.messages)
    test.assertEqual({next(again), next(again)}, {b"0", b"1"})
    stream.cancel()
