"""Multicasts while what stands between sender and receiver fails: instances of prismd, Redis, receivers."""
import collections
import random
import socket
import threading

import grpc

from rig import backends, environment, suite, wait, wire
from rig.messaging import Stream
from rig.multicast import messages, namespace, pb, service
from rig.nats import NatsServer, queue_stream
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from rig.redis import RedisServer
from prism.patterns.schemas import slot_schema_pb2 as schemas

MANUAL = schemas.ACK_MANUAL


class Kept(suite.Case):
    LATE = 0  # acknowledgements of what was no longer there

    def setUp(self):
        self.redis, self.nats = self.borrow(RedisServer(durable=True)), self.borrow(NatsServer())

    def durability(self):
        return {"backend": "redis-stream", "config": {"address": self.redis.address, "claim_idle_ms": 1000}}

    def slots(self):
        return {"registry": {"backend": "redis", "config": {"address": self.redis.address}},
                "messaging": {"backend": "nats", "config": {"address": self.nats.address}},
                "durability": self.durability()}

    def serve(self, **behavior):
        server = self.borrow(Prismd(namespaces=[namespace(**self.slots(), **behavior)]))
        return server, service(self.borrow(server.channel()))

    def subscribe(self, registry, *names, **options):
        stream = registry.Subscribe(identities=names, ack_mode=MANUAL, timeout=environment.PATIENCE, **options)
        self.addCleanup(stream.cancel)
        return stream, next(stream)

    def test_two_instances_on_one_registry(self):
        """Registered on one; listed, multicast to and received on the other."""
        (_, first), (_, second) = self.serve(), self.serve()
        self.assertTrue(first.Register(identity="a").success)
        self.assertEqual([i.identity for i in second.Enumerate().identities], ["a"])
        self.assertEqual(second.Multicast(payload=b"1").pending_count, 1)
        stream, _ = self.subscribe(first, "a")
        self.assertEqual(messages(stream, 1)[0].payload, b"1")
        self.assertTrue(second.Unregister(identity="a").existed)
        self.assertEqual(first.Multicast(payload=b"2").target_count, 0)

    def test_an_instance_dies_with_messages_in_hand(self):
        """M9: what was pending, and what was handed over and not confirmed, comes from another instance."""
        server, registry = self.serve()
        registry.Register(identity="a")
        for text in (b"1", b"2", b"3"):
            registry.Multicast(payload=text)
        with Stream(registry.Attach) as stream:
            stream.send(pb.AttachRequest(attach={"identities": ["a"]}, ack_mode=MANUAL))
            got = messages(stream.answers, 3)
            stream.send(pb.AttachRequest(acknowledge={"sequences": [got[1].sequence]}))
            wait.until(lambda: server.metric("prism_multicast_settled_total", how="confirmed") == 1,
                       environment.PATIENCE, "one is confirmed")
            server.process.kill()
        _, registry = self.serve()
        stream, _ = self.subscribe(registry, "a")
        self.assertEqual({m.payload for m in messages(stream, 2)}, {b"1", b"3"})

    def kept_in(self):
        """The server of the durability slot, which keeps what it has when it is killed."""
        return self.redis

    def test_what_keeps_them_is_restarted(self):
        """With its file, nothing that was PENDING is lost."""
        _, registry = self.serve()
        registry.Register(identity="a")
        stream, _ = self.subscribe(registry, "a")
        self.assertEqual(registry.Multicast(payload=b"1").pending_count, 1)
        messages(stream, 1)
        self.kept_in().kill()
        self.kept_in().start()
        wait.until(lambda: self.pending(registry, b"2"), environment.PATIENCE, "multicasts go on")
        got = set()
        while got < {b"1", b"2"}:
            stream.cancel()
            stream, _ = self.subscribe(registry, "a")
            got |= {m.payload for m in messages(stream, 2)}

    @staticmethod
    def pending(registry, text):
        try:
            return registry.Multicast(payload=text, identities=["a"]).pending_count == 1
        except grpc.RpcError:
            return False

    def test_random_disconnects(self):
        """M9: in a thousand disconnects nothing is lost, whenever the receiver goes; each first frame says so."""
        _, registry = self.serve(max_deliveries=1000)   # going is an attempt of what is in hand
        registry.Register(identity="a")
        chance = random.Random(7)
        sent, got, token, goes, late = 3300, set(), None, 0, 0
        for n in range(sent):
            self.assertEqual(registry.Multicast(payload=b"%d" % n).pending_count, 1)
        while len(got) < sent:
            options = {"resume_token": token} if token else {}
            stream, frame = self.subscribe(registry, "a", **options)
            if token:
                self.assertEqual((frame.recovered, frame.missed_count), (True, 0))
            name = frame.subscription_id
            taken = messages(stream, min(chance.randint(1, 5), sent - len(got)))
            confirmed = {message.message_id: message.payload for message in taken[:chance.randint(1, 5)]}
            for message_id, payload in confirmed.items():   # one that came twice is confirmed once
                if registry.Acknowledge(subscription_id=name, message_ids=[message_id]).acknowledged_count == 1:
                    got.add(payload)
                else:   # confirmed before, or it comes again
                    late += 1
            token = frame.resume_token
            stream.cancel()
            goes += 1
        self.assertEqual(got, {b"%d" % n for n in range(sent)})
        self.assertGreater(goes, 1000)
        self.assertLessEqual(late, self.LATE)


class KeptInJetStream(Kept):
    """One stream for all queues. The registry stays in Redis."""

    LATE = 5  # its old server may deliver again what is in hand: that is void then, and comes

    def setUp(self):
        super().setUp()
        queue_stream(self.nats)

    def durability(self):
        return {"backend": "jetstream", "config": {"address": self.nats.address, "ack_wait_ms": 5000}}


class KeptInPostgres(Kept):
    """The registry, too; what is not kept goes by one topic of Kafka."""

    @classmethod
    def setUpClass(cls):
        cls.kafka = cls.use(backends.slot("kafka", ["prism.multicast.all"]))

    def setUp(self):
        self.postgres = self.borrow(PostgresServer())

    def slots(self):
        postgres = {"backend": "postgres", "config": {"address": self.postgres.address, "username": "postgres",
                                                      "database": "postgres", "queue_lease_ms": 1000}}
        return {"registry": postgres, "messaging": self.kafka, "durability": postgres}

    def kept_in(self):
        return self.postgres


class Devices:
    """All that listen to their topics without Prism. heard: {topic: messages}."""

    def __init__(self, nats):
        self.heard, self.total = collections.Counter(), 0
        self.connection = socket.create_connection(("127.0.0.1", nats.port))
        self.connection.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB prism.multicast.> 1\r\nPING\r\n')
        self.lines = self.connection.makefile("rb")
        while self.lines.readline() != b"PONG\r\n":
            pass
        self.thread = threading.Thread(target=self.listen)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.connection.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.lines.close()
        self.connection.close()

    def listen(self):
        for line in self.lines:
            if line == b"PING\r\n":
                self.connection.sendall(b"PONG\r\n")
            elif line.startswith((b"MSG", b"HMSG")):
                words = line.split()
                self.lines.read(int(words[-1]) + 2)
                self.heard[words[1]] += 1
                self.total += 1


class Resumed(suite.Case):
    """A multicast under a message_id whose instance is killed on the way, repeated at another instance: everybody gets
    it, only those behind the last checkpoint get it twice, and the answer is that of the whole."""
    TARGETS, RATE = 20_000, 4000
    PAGE = RATE // 10
    MOST_TWICE = (16 + 2) * PAGE    # what may be sent between two checkpoints, and what is under way meanwhile

    def serve(self, registry, nats):
        slots = {"registry": registry, "messaging": {"backend": "nats", "config": {"address": nats.address}}}
        server = self.borrow(Prismd(namespaces=[namespace(**slots)]))
        return server, service(self.borrow(server.channel()), timeout=2 * environment.PATIENCE)

    def enter(self, registry):
        for first in range(0, self.TARGETS, 1000):
            names = [f"d{n:05}" for n in range(first, first + 1000)]
            answer = registry.RegisterBatch(registrations=[{"identity": name} for name in names])
            self.assertEqual(answer.success_count, len(names))

    @staticmethod
    def send(registry, streams, payload=b"x"):
        """The answer; a delay: it is to be repeated later; None: its server has died."""
        request = {"payload": payload, "message_id": "m", "rate_per_second": Resumed.RATE, "results": pb.RESULTS_NONE}
        try:
            return list(registry.MulticastStream(**request))[-1] if streams else registry.Multicast(**request)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return wire.retry_delay_seconds(error)

    def goes_on(self, registry, streams):
        answer = self.send(registry, streams)
        self.assertIsNotNone(answer)
        return answer if answer != 1 else None

    def dies_in_the_middle(self, slot, streams=False):
        nats = self.borrow(NatsServer())
        (first, at_first), (_, at_second) = self.serve(slot, nats), self.serve(slot, nats)
        self.enter(at_first)
        devices = self.borrow(Devices(nats))
        answers = []
        sender = threading.Thread(target=lambda: answers.append(self.send(at_first, streams)))
        sender.start()
        wait.until(lambda: devices.total > self.TARGETS // 10, environment.PATIENCE, "it has begun")
        self.assertEqual(self.send(at_second, streams), 1)   # it lives
        wait.until(lambda: devices.total > self.TARGETS * 6 // 10, environment.PATIENCE, "it has come far")
        first.process.kill()
        sender.join()
        self.assertEqual(answers, [None])
        self.assertLess(len(devices.heard), self.TARGETS)
        self.assertGreater(len(devices.heard), self.MOST_TWICE)
        with self.assertRaises(grpc.RpcError) as refused:
            self.send(at_second, streams, b"another")
        self.assertEqual(refused.exception.code(), grpc.StatusCode.ALREADY_EXISTS)
        answer = wait.until(lambda: self.goes_on(at_second, streams), environment.PATIENCE, "the lease is over")
        self.assertTrue(answer.resumed)
        self.assertEqual((answer.target_count, answer.delivered_count), (self.TARGETS, self.TARGETS))
        wait.until(lambda: len(devices.heard) == self.TARGETS, environment.PATIENCE, "everybody has it")
        twice = devices.total - self.TARGETS
        self.assertLessEqual(set(devices.heard.values()), {1, 2})
        self.assertLessEqual(twice, self.MOST_TWICE)
        self.assertEqual(self.send(at_second, streams), answer)
        self.assertEqual(devices.total - self.TARGETS, twice)

    def on_redis(self):
        return {"backend": "redis", "config": {"address": self.borrow(RedisServer()).address}}

    def test_redis(self):
        self.dies_in_the_middle(self.on_redis())

    def test_redis_stream(self):
        self.dies_in_the_middle(self.on_redis(), streams=True)

    def test_postgres(self):
        address = self.borrow(PostgresServer()).address
        self.dies_in_the_middle({"backend": "postgres", "emulate": ["keyvalue_ttl"],
                                 "config": {"address": address, "username": "postgres", "database": "postgres"}})


if __name__ == "__main__":
    suite.main()
