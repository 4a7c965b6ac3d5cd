"""A broker by its backend's name, for tests that break it or look into it without Prism."""
import json
import os
import struct

from rig import suite
from rig.kafka import KafkaServer
from rig.messaging import pb
from rig.nats import NatsServer
from rig.postgres import PostgresServer
from rig.redis import RedisServer
from rig.server import exchange


class Kafka:
    backend, partitions = "kafka", 4

    def __init__(self):
        self.server = KafkaServer()

    def slot(self, **settings):
        return {"backend": "kafka", "config": {"brokers": self.server.address, "session_timeout_ms": 2000, **settings}}

    def create(self, topic, partitions=1, **settings):
        self.server.create_topic(topic, partitions, **settings)

    def refused_message(self, topic):
        """A message that the broker refuses, for a topic made for that."""
        self.create(topic, max_message_bytes=1000)
        return pb.PublishRequest(topic=topic, payload=os.urandom(5000))

    def drop_before(self, topic, n, message):
        """The first n messages of its only partition, by DeleteRecords version 0."""
        name = topic.encode()
        body = struct.pack(">ih", 1, len(name)) + name + struct.pack(">iiqi", 1, 0, message.offset, 10000)
        answer = self.server._ask(21, 0, body)  # noqa: SLF001
        assert struct.unpack(">h", answer[-2:])[0] == 0, answer


class JetStream:
    backend, partitions = "jetstream", 1

    def __init__(self):
        self.server = NatsServer()

    def slot(self, **settings):
        return {"backend": "jetstream", "config": {
            "address": self.server.address, "create_streams": True, "ack_wait_ms": 1000, "ack_timeout_ms": 500,
            **settings}}

    def create(self, topic, partitions=1):
        """It is made when it is first used."""

    def refused_message(self, topic):
        self.server.create_stream(topic, max_msg_size=100)
        return pb.PublishRequest(topic=topic, payload=bytes(5000))

    def names(self, topic):
        """How many consumers the topic's stream has."""
        answer = exchange(self.server.monitor_port, b"GET /jsz?accounts=true&streams=true HTTP/1.0\r\n\r\n",
                          lambda _: False)
        accounts = json.loads(answer.partition(b"\r\n\r\n")[2])["account_details"]
        return next(stream["state"]["consumer_count"] for account in accounts for stream in account["stream_detail"]
                    if stream["name"] == topic)


class RedisStream:
    backend, partitions = "redis-stream", 1

    def __init__(self):
        self.server = RedisServer()

    def slot(self, **settings):
        return {"backend": "redis-stream", "config": {
            "address": self.server.address, "claim_idle_ms": 1000, "command_timeout_ms": 1000, **settings}}

    def create(self, topic, partitions=1):
        """It is made when it is first used."""

    def refused_message(self, topic):
        """Redis takes messages of any size: this name is no stream's."""
        self.server.call("SET", topic, "text")
        return pb.PublishRequest(topic=topic, payload=bytes(5000))

    def drop_before(self, topic, n, message):
        assert self.server.call("XTRIM", topic, "MINID", message.position) == n

    def unsettled(self, topic):
        """Messages that the topic's groups were handed and have not settled."""
        groups = [dict(zip(g[::2], g[1::2])) for g in self.server.call("XINFO", "GROUPS", topic)]
        return sum(g[b"pending"] for g in groups)

    def names(self, topic):
        """How many consumers the topic's groups have."""
        groups = [dict(zip(g[::2], g[1::2])) for g in self.server.call("XINFO", "GROUPS", topic)]
        return sum(g[b"consumers"] for g in groups)


class Postgres:
    backend, partitions = "postgres", 1

    def __init__(self):
        self.server = PostgresServer()

    def slot(self, **settings):
        return {"backend": "postgres", "config": {
            "address": self.server.address, "username": "postgres", "database": "postgres", "queue_lease_ms": 5000,
            **settings}}

    def create(self, topic, partitions=1):
        """It is made when it is first used."""

    def unsettled(self, topic):
        """Messages of the queue that are not settled."""
        return int(self.server.sql(f"SELECT count(*) FROM prism.messages WHERE queue = '{topic}'::bytea"))


BROKERS = {broker.backend: broker for broker in (Kafka, JetStream, RedisStream, Postgres)}


class Case(suite.Case):
    """Tests of the broker that ctest chose, each with a topic of its own."""
    @classmethod
    def setUpClass(cls):
        cls.broker = BROKERS[suite.backend()]()
        cls.use(cls.broker.server)

    def setUp(self):
        self.topic = self._testMethodName
        self.broker.create(self.topic)
