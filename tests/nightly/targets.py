"""The brokers of the run: how each is started, broken and looked into without Prism."""
import json
import struct

from rig.kafka import KafkaServer
from rig.nats import NatsServer
from rig.process import free_port
from rig.proxy import Proxy
from rig.redis import RedisServer
from rig.server import exchange

PARTITIONS = 6


class Target:
    """What the checker may expect is said here, for each broker, with the reason."""
    with_ids = False                # messages carry an identifier that the sink compares
    per_key = False                 # ORDER_PER_KEY can be asked for: first deliveries are in order, whoever gets them
    order_of_one = True             # without it: they are for a group of one member, also over its servers' deaths
    settled_survives_kill = True    # the broker forgets no settlement that it confirmed when it is killed
    instances = 2

    def create(self, topic):
        pass

    def kill_and_start(self):
        self.broker.kill()
        self.broker.start()


class Kafka(Target):
    # A position is committed 100 ms later; a partition that moves takes unsettled and uncommitted messages along.
    settled_survives_kill = False
    per_key = True

    def enter(self, stack):
        self.broker = KafkaServer()
        port = free_port()
        settings = self.broker.settings
        self.proxy = stack.enter_context(Proxy(port))
        settings["listeners"] += f",PROXIED://127.0.0.1:{port}"
        settings["advertised.listeners"] += f",PROXIED://{self.proxy.address}"
        settings["listener.security.protocol.map"] += ",PROXIED:PLAINTEXT"
        settings["inter.broker.listener.name"] = "PLAINTEXT"
        stack.enter_context(self.broker)

    def slot(self, address):
        return {"backend": "kafka", "config": {"brokers": address, "session_timeout_ms": 6000,
                                               "publish_timeout_ms": 30000}}

    def create(self, topic):
        self.broker.create_topic(topic, PARTITIONS)

    def kept(self, topic):
        """ListOffsets version 1: the end of each partition."""
        name, total = topic.encode(), 0
        body = struct.pack(">iih", -1, 1, len(name)) + name + struct.pack(">i", PARTITIONS)
        for partition in range(PARTITIONS):
            body += struct.pack(">iq", partition, -1)
        answer = self.broker._ask(2, 1, body)  # noqa: SLF001
        for partition in range(PARTITIONS):
            _, error, _, offset = struct.unpack_from(">ihqq", answer, 4 + 2 + len(name) + 4 + 22 * partition)
            assert error == 0, f"ListOffsets: error {error}"
            total += offset
        return total


class JetStream(Target):
    with_ids = True
    order_of_one = False            # what a dead process held comes again after others' messages
    settled_survives_kill = False

    def enter(self, stack):
        self.broker = stack.enter_context(NatsServer())
        self.proxy = stack.enter_context(Proxy(self.broker.port))

    def slot(self, address):
        return {"backend": "jetstream", "config": {"address": address, "create_streams": True, "ack_wait_ms": 5000,
                                                   "publish_timeout_ms": 30000}}

    def kept(self, topic):
        answer = exchange(self.broker.monitor_port, b"GET /jsz?accounts=true&streams=true HTTP/1.0\r\n\r\n",
                          lambda _: False)
        accounts = json.loads(answer.partition(b"\r\n\r\n")[2])["account_details"]
        return next(stream["state"]["messages"] for account in accounts for stream in account["stream_detail"]
                    if stream["name"] == topic)


class RedisStream(Target):
    per_key = True

    def enter(self, stack):
        self.broker = stack.enter_context(RedisServer(durable=True))
        self.proxy = stack.enter_context(Proxy(self.broker.port))

    def slot(self, address):
        return {"backend": "redis-stream", "config": {"address": address, "claim_idle_ms": 3000}}

    def kept(self, topic):
        return self.broker.call("XLEN", topic)


class MemStore(Target):
    """No broker: members come and go. What a checker of the checker needs."""
    per_key = True
    instances = 1
    broker = proxy = None

    def enter(self, stack):
        pass

    def slot(self, address):
        return {"backend": "memstore", "config": {}}

    def kept(self, topic):
        return None


TARGETS = {"kafka": Kafka, "jetstream": JetStream, "redis-stream": RedisStream, "memstore": MemStore}
