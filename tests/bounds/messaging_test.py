"""What subscriptions hold while nothing happens, and what a slow consumer makes prismd hold while a backlog grows."""
import os
import time
import unittest

from rig import environment, suite, wait
from rig.kafka import KafkaServer
from rig.messaging import Member, consumed, consumer, consumer_service, pb, producer, producer_service
from rig.nats import NatsServer
from rig.prismd import Prismd
from rig.redis import RedisServer

MIB = 1 << 20
SUBSCRIPTIONS, WARM = 240, 40
UNSETTLED, PAYLOAD = 100_000, 123
MESSAGE_BYTES = {"memstore": 144, "redis-stream": 272}      # some 117, and 255 with the payload
CHANNELS = 4
BATCH = 1000
PARTITIONS = 6
SUBSCRIPTION_BYTES = {"memstore": 31_000, "redis-stream": 41_000,      # with a message each; to 28,500 and 37,400
                      "jetstream": 52_000}                              # to 43,500


def ticks(server):
    """CPU of the process so far, in hundredths of a second."""
    with open(f"/proc/{server.pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def entries(server, folder):
    return len(os.listdir(f"/proc/{server.pid}/{folder}"))


class Messaging(suite.Case):
    def serve(self, **settings):
        slot = {"backend": suite.backend(), "config": {}}
        if suite.backend() == "kafka":
            kafka = self.borrow(KafkaServer())
            kafka.create_topic("t", PARTITIONS)
            slot["config"].update(brokers=kafka.address, subscription_buffer_bytes=16 * MIB)
        if suite.backend() == "jetstream":
            nats = self.borrow(NatsServer())
            slot["config"].update(address=nats.address, create_streams=True)
        if suite.backend() == "redis-stream":
            self.redis = self.borrow(RedisServer())
            slot["config"]["address"] = self.redis.address
        return self.borrow(Prismd(namespaces=[producer(slot), consumer(slot, **settings)], workers=2,
                                  limits={"connection_share_percent": 100}))

    def publish(self, service, topic, first, n, size=16):
        messages = [pb.PublishRequest(topic=topic, payload=b"%d" % i + b"." * size) for i in range(first, first + n)]
        self.assertTrue(service.PublishBatch(messages=messages).all_success)

    @unittest.skipIf(environment.SANITIZER, "memory, threads and CPU are the sanitizer's")
    def test_idle_subscriptions(self):
        server = self.serve()
        channels = [self.borrow(server.channel()) for _ in range(CHANNELS)]
        services = [consumer_service(channel, timeout=300) for channel in channels]
        publisher = producer_service(channels[0])
        for i in range(SUBSCRIPTIONS):
            self.publish(publisher, f"t{i}", 0, 1)
        before = {what: entries(server, what) for what in ("fd", "task")}

        def subscribe(first, end):
            streams = [services[i % CHANNELS].Subscribe(topic=f"t{i}", consumer_group="g") for i in range(first, end)]
            for stream in streams:
                self.addCleanup(stream.cancel)
                while not next(stream).messages:
                    pass
        subscribe(0, WARM)
        memory = server.process.resident_bytes()
        subscribe(WARM, SUBSCRIPTIONS)

        def few():
            """Two seconds in which next to nothing was done; opening is over then."""
            begin = ticks(server)
            time.sleep(2)
            return ticks(server) - begin <= 4
        wait.until(few, environment.PATIENCE, "no CPU is used while nothing happens")
        self.assertLessEqual(entries(server, "task"), before["task"] + 2)      # gRPC's own come and go
        self.assertLessEqual(entries(server, "fd"), before["fd"] + CHANNELS + 8)
        self.assertLess((server.process.resident_bytes() - memory) / (SUBSCRIPTIONS - WARM),
                        SUBSCRIPTION_BYTES[suite.backend()])

    @unittest.skipIf(environment.SANITIZER, "the allocator is the sanitizer's")
    def test_unsettled_messages(self):
        """What a member has and does not settle is packed: the broker's structs and buffers go back to it."""
        server = self.serve(max_in_flight=1_000_000, max_in_flight_bytes=1 << 30, max_group_bytes=1 << 30,
                            max_message_memory=1 << 30)
        publisher = producer_service(self.borrow(server.channel()), timeout=60)
        for first in range(0, UNSETTLED, BATCH):
            self.publish(publisher, "t", first, BATCH, PAYLOAD)
        service = consumer_service(self.borrow(server.channel()), timeout=300)
        with Member(service, topic="t", consumer_group="f", if_none=consumed.EARLIEST, max_in_flight=BATCH) as first, \
                Member(service, topic="t", consumer_group="g", if_none=consumed.EARLIEST,
                       max_in_flight=UNSETTLED) as member:
            first.take(BATCH)
            before = server.process.resident_bytes()
            member.take(UNSETTLED)
            self.assertLess((server.process.resident_bytes() - before) / UNSETTLED, MESSAGE_BYTES[suite.backend()])

    @unittest.skipIf(environment.SANITIZER, "the allocator is the sanitizer's")
    def test_a_backlog_waits_in_the_broker(self):
        """C19: 120 MiB are published while a member that settles nothing is subscribed; then it takes all of them."""
        messages = 120_000
        server = self.serve(max_group_bytes=8 * MIB)
        publisher = producer_service(self.borrow(server.channel()), timeout=60)
        self.publish(publisher, "t", 0, BATCH, 1000)
        with Member(consumer_service(self.borrow(server.channel()), timeout=300), topic="t", consumer_group="g",
                    if_none=consumed.EARLIEST) as member:
            member.take(BATCH)
            self.publish(publisher, "t", BATCH, BATCH, 1000)
            before, most = server.process.resident_bytes(), 0
            for first in range(2 * BATCH, messages, BATCH):
                self.publish(publisher, "t", first, BATCH, 1000)
                most = max(most, server.process.resident_bytes())
            self.assertLess(most - before, 48 * MIB)
            member.acknowledge(through=BATCH)
            last = BATCH
            while last < messages:
                last += len(member.take(len(member.pending) or 1))
                member.acknowledge(through=last)
            self.assertEqual(last, messages)
            member.settle(messages)


if suite.backend() == "kafka":  # a handle with four threads for each topic and group: not what it is for
    del Messaging.test_idle_subscriptions
    del Messaging.test_unsettled_messages
if suite.backend() == "jetstream":
    del Messaging.test_unsettled_messages
if suite.backend() == "memstore":  # what waits is its own
    del Messaging.test_a_backlog_waits_in_the_broker


if __name__ == "__main__":
    suite.main()
