"""A real Kafka that is killed, paused, cut off, and instances of prismd that die: what was acknowledged is consumed, in
the order of its key, and nothing hangs."""
import collections
import contextlib
import signal
import threading
import time

import grpc
from grpc_health.v1 import health_pb2

from rig import environment, suite, wait, wire
from rig.flow import FRAME, Flow
from rig.kafka import KafkaServer
from rig.messaging import Member, consumer, consumer_service, pb, producer, producer_service
from rig.prismd import Prismd
from rig.proxy import Proxy
from rig.redis import RedisServer
from rig.tls import Authority


def namespaces(address, **settings):
    slot = {"backend": "kafka", "config": {"brokers": address, "session_timeout_ms": 2000, "publish_timeout_ms": 30000,
                                           **settings}}
    return [producer(slot), consumer(slot, retry_delay_ms=0)]


class Broker(Flow):
    def setUp(self):
        super().setUp()
        self.kafka = KafkaServer()
        self.proxy = self.borrow(Proxy(self.kafka.port))
        self.kafka.settings["advertised.listeners"] = f"PLAINTEXT://{self.proxy.address}"
        self.borrow(self.kafka)

    def serve(self, **settings):
        self.kafka.create_topic(self.topic, 3)
        return self.borrow(Prismd(namespaces=namespaces(self.proxy.address, **settings)))

    def goes_on(self, publisher):
        before = len(publisher.stored)
        wait.until(lambda: len(publisher.stored) > before + FRAME or not publisher.is_alive(), environment.PATIENCE,
                   "publishing goes on")

    def test_cut_then_killed_and_started_again(self):
        publisher, reader = self.under_way(self.serve())
        for cut in range(4):
            self.proxy.cut(after=2000 if cut % 2 else None)
            self.goes_on(publisher)
        self.kafka.restart()
        self.goes_on(publisher)
        self.check(publisher, reader)
        self.assertEqual(publisher.failures, [], "a restart is bridged")

    def test_paused_is_unknown_and_recovers(self):
        server = self.serve(publish_timeout_ms=1500)
        service = producer_service(self.borrow(server.channel()))
        self.assertTrue(service.Publish(topic=self.topic, payload=b"0").success)
        self.kafka.pause()
        reply = service.Publish(topic=self.topic, payload=b"1")
        self.assertEqual((reply.success, reply.outcome), (False, pb.OUTCOME_UNKNOWN))
        self.kafka.resume()
        wait.until(lambda: service.Publish(topic=self.topic, payload=b"2").success, environment.PATIENCE,
                   "it is stored")
        with Member(consumer_service(self.borrow(server.channel())), topic=self.topic, consumer_group="g") as member:
            seen = {m.payload for m in member.take(2)}
            self.assertLessEqual(seen, {b"0", b"1", b"2"})
            member.settle(2)


class Drain(suite.Case):
    GROUPS = 48  # many more than the slot has threads

    def test_it_ends_while_its_broker_is_paused(self):
        """Members, messages and questions that wait for it have an end: the drain's time, and the library's."""
        kafka = self.borrow(KafkaServer())
        kafka.create_topic("t", 6)
        server = self.borrow(Prismd(drain_timeout_ms=2000, namespaces=namespaces(kafka.address)))
        channel = self.borrow(server.channel())
        published, consumed = producer_service(channel), consumer_service(channel)
        self.assertTrue(published.PublishBatch(messages=[
            pb.PublishRequest(topic="t", payload=b"%d" % i, ordering_key=b"%d" % i) for i in range(50)]).all_success)
        with contextlib.ExitStack() as members:
            reading = [members.enter_context(Member(consumed, topic="t", consumer_group=f"g{n}"))
                       for n in range(self.GROUPS)]
            last = [member.take(50)[-1].sequence for member in reading]
            over, answers = threading.Event(), collections.Counter()
            self.addCleanup(over.set)

            def ask(number):
                while not over.is_set():
                    with contextlib.suppress(grpc.RpcError):
                        consumed.GetState(topic="t", consumer_group=f"g{number}", timeout=60)
                        answers[number] += 1
            askers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
            for asker in askers:
                asker.start()
            wait.until(lambda: all(answers[n] > 1 for n in range(4)), environment.PATIENCE, "they ask")
            kafka.pause()  # one of them waits for its offsets, most likely
            self.addCleanup(kafka.resume)
            for member, sequence in zip(reading, last):
                member.acknowledge(through=sequence)
            calls = [published.Publish.future(topic="t", payload=b"x", timeout=60) for _ in range(8)]
            wait.until(lambda: server.metric("prism_rpc_in_flight") >= len(calls), environment.PATIENCE, "they wait")
            over.set()
            began = time.monotonic()
            server.terminate(2 * environment.PATIENCE)
            self.assertLess(time.monotonic() - began, 2 * environment.PATIENCE / 3)
            self.assertTrue(all(call.exception() or call.result() for call in calls))
            for asker in askers:
                asker.join()


class Secured(suite.Case):
    """TLS, and logins over it: what is right works, and what is wrong is told as what it is, soon."""
    SOON = 10  # seconds: more than dial_timeout_ms

    @classmethod
    def setUpClass(cls):
        cls.folder = suite.subfolder("kafka-tls")
        cls.authority = Authority(cls.folder)
        cls.kafka = cls.use(KafkaServer().secure(cls.authority, "prism", "of-prism"))

    def config(self, address, **settings):
        return namespaces(address, tls=True, **{"tls_ca": self.authority.cert, "dial_timeout_ms": 2000,
                                               "publish_timeout_ms": 3000, **settings})

    def works(self, topic, address, **settings):
        """Published and consumed; returns what the producer says of it."""
        self.kafka.create_topic(topic)
        server = self.borrow(Prismd(namespaces=self.config(address, **settings)))
        channel = self.borrow(server.channel())
        service = producer_service(channel)
        self.assertTrue(service.Publish(topic=topic, payload=b"x").success)
        with Member(consumer_service(channel), topic=topic, consumer_group="g") as member:
            self.assertEqual([m.payload for m in member.take(1)], [b"x"])
            member.settle(1)
        self.assertEqual(server.http("/readyz")[0], 200)
        self.assertNotIn("of-prism", server.process.log())
        return service.GetCapabilities()

    def is_told(self, why, address, **settings):
        """Health says so, for both slots; a publish is refused with nothing written, within the bound."""
        server = self.borrow(Prismd(wait_for=Prismd.http_answers, namespaces=self.config(address, **settings)))

        def is_said():
            status, text = server.http("/readyz")
            return status == 503 and text.count(why) == 2
        wait.until(is_said, self.SOON, why)
        for service in ("Producer", "Consumer"):
            name = f"prism.patterns.{service.lower()}.{service}Pattern"
            self.assertEqual(server.health(name), health_pb2.HealthCheckResponse.NOT_SERVING)
        with server.channel() as channel:
            began = time.monotonic()
            reply = producer_service(channel).Publish(topic="t", payload=b"x")
            self.assertEqual((reply.success, reply.outcome, reply.code),
                             (False, pb.NOT_STORED, grpc.StatusCode.UNAVAILABLE.value[0]))
            self.assertLess(time.monotonic() - began, self.SOON)
        return server

    def test_tls_and_the_acknowledgement_of_one(self):
        everyone = self.works("tls", self.kafka.tls_address)
        leader = self.works("leader", self.kafka.tls_address, acks="1")
        self.assertNotEqual(everyone.ack_means, leader.ack_means)
        self.assertFalse(leader.supports_exactly_once)

    def test_logins(self):
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            with self.subTest(mechanism):
                login = {"sasl_mechanism": mechanism, "sasl_username": "prism"}
                self.works(mechanism, self.kafka.login_address, sasl_password="of-prism", **login)
                refused = self.is_told("Kafka refused the login", self.kafka.login_address,
                                       sasl_password="of-others", **login)
                self.assertNotIn("of-others", refused.process.log())

    def test_a_certificate_of_somebody_else(self):
        other = Authority(self.folder, "other")
        self.is_told("no TLS connection to Kafka can be made with these settings", self.kafka.tls_address,
                     tls_ca=other.cert)


class Undisturbed(suite.Case):
    NO_TOPICS = ("..", ".", "a b", "a/b", "\u00e9", "x" * 250, "x" * 100000, "__consumer_offsets", "a\0b", "a\nb", "*",
                 "$x", "\U0001f600", "")
    NO_GROUPS = ("a b", " ", "x" * 250, "x" * 100000, "a\0b", "a\nb", "*")
    GROUPS = ("g", "x" * 249, "..", ".", "a/b", "{}", "%s%n", "__g", "$x", "\u00e9", "\U0001f600")

    @classmethod
    def setUpClass(cls):
        cls.kafka = cls.use(KafkaServer())

    def test_batches_are_compressed_as_configured(self):
        """By the client: the broker keeps what it was sent. Consumers get the bytes that were published."""
        codecs = ("none", "gzip", "snappy", "lz4", "zstd")
        slots = {codec: {"backend": "kafka", "config": {"brokers": self.kafka.address, "compression": codec}}
                 for codec in codecs}
        server = self.borrow(Prismd(namespaces=[pattern(slot, codec) for codec, slot in slots.items()
                                                for pattern in (producer, consumer)]))
        payloads = [b"%d " % i * 200 for i in range(100)]
        for number, codec in enumerate(codecs):
            with self.subTest(codec):
                self.kafka.create_topic(codec)
                reply = producer_service(self.borrow(server.channel()), codec).PublishBatch(messages=[
                    pb.PublishRequest(topic=codec, payload=payload) for payload in payloads])
                self.assertTrue(reply.all_success)
                self.assertEqual(self.kafka.codec(codec), number)
                with Member(consumer_service(self.borrow(server.channel()), codec), topic=codec,
                            consumer_group="g") as member:
                    self.assertEqual([m.payload for m in member.take(100)], payloads)
                    member.settle(100)

    def test_names_that_clients_choose(self):
        """They are refused at once, or they work, and the next one is not disturbed."""
        self.kafka.create_topic("t")
        server = self.borrow(Prismd(namespaces=namespaces(self.kafka.address)))
        channel = self.borrow(server.channel())
        publisher, reader = producer_service(channel), consumer_service(channel)

        def refused(call, **fields):
            with self.subTest(call=call, **{name: str(value)[:20] for name, value in fields.items()}):
                self.assertIs(wire.failure(call, **fields).code(), grpc.StatusCode.INVALID_ARGUMENT)

        def subscribe(**fields):
            with Member(reader, **fields):
                pass
        for topic, group in [(t, "g") for t in self.NO_TOPICS] + [("t", g) for g in self.NO_GROUPS]:
            for call, fields in ((subscribe, {}), (reader.GetState, {}), (reader.Seek, {"offset": 0})):
                refused(call, topic=topic, consumer_group=group, **fields)
        for topic in self.NO_TOPICS:
            refused(publisher.Publish, topic=topic, payload=b"x")
        self.assertTrue(publisher.Publish(topic="t", payload=b"x").success)
        for group in self.GROUPS:
            with self.subTest(group), Member(reader, topic="t", consumer_group=group) as member:
                self.assertEqual([m.payload for m in member.take(1)], [b"x"])
                member.settle(1)
                self.assertEqual(reader.GetState(topic="t", consumer_group=group).lag, 0)


class Settler(threading.Thread):
    """A member that settles what it gets. `deliveries`: how often each number came; `settled`: told as settled."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.deliveries, self.settled, self.started, self.over = server, collections.Counter(), set(), 0, 0
        self.start()

    def run(self):
        with self.server.channel() as channel, Member(
                consumer_service(channel), topic="t", consumer_group="g") as self.member:
            self.started, held = True, collections.deque()
            try:
                while True:
                    frame = self.member.frame()
                    held.extend((m.sequence, int(m.payload)) for m in frame.messages)
                    self.deliveries.update(int(m.payload) for m in frame.messages)
                    if frame.messages:
                        self.member.acknowledge(through=frame.messages[-1].sequence)
                    while held and held[0][0] <= frame.settled_through:
                        self.settled.add(held.popleft()[1])
            except grpc.RpcError:
                self.over = True

    def stop(self):
        self.member.answers.cancel()
        self.join()


class Rebalance(suite.Case):
    def test_what_is_settled_while_a_dead_member_is_waited_for_stays_settled(self):
        """The broker answers nothing else on a connection while a member joins. Commits that were sent meanwhile would
        fail, and the library would take that for the loss of all partitions."""
        kafka = self.borrow(KafkaServer())
        kafka.create_topic("t", 4)
        both = [self.borrow(Prismd(namespaces=namespaces(kafka.address))) for _ in range(3)]
        publisher = producer_service(self.borrow(both[0].channel()))
        published = 0

        def publish(n):
            nonlocal published
            first, published = published, published + n
            self.assertTrue(publisher.PublishBatch(messages=[
                pb.PublishRequest(topic="t", payload=b"%d" % i, ordering_key=b"%d" % i)
                for i in range(first, published)]).all_success)

        def settles_some_of(n):
            before = len(survivor.settled)
            publish(n)
            wait.until(lambda: len(survivor.settled) > before + n / 20, environment.PATIENCE, "it goes on")
        survivor, dying = Settler(both[0]), Settler(both[1])
        wait.until(lambda: survivor.started and dying.started, environment.PATIENCE, "both are members")
        wait.until(lambda: [publish(8), dying.deliveries][1] and survivor.deliveries, environment.PATIENCE, "both read")
        both[1].process.kill()
        joining = Settler(both[2])
        while not joining.started:
            settles_some_of(40)
        settles_some_of(40)
        settled = set(survivor.settled)
        self.assertGreater(len(settled), 10)
        wait.until(lambda: {*survivor.deliveries, *joining.deliveries, *dying.deliveries} >= set(range(published)),
                   environment.PATIENCE, "all that was published comes")
        again = {n for n in settled if (survivor.deliveries + joining.deliveries)[n] > 1}
        self.assertEqual(len(again), 0, f"of {len(settled)} that were settled")
        survivor.stop()
        joining.stop()


class Instances(suite.Case):
    def setUp(self):
        self.kafka = self.borrow(KafkaServer())

    def begin(self, topic):
        self.kafka.create_topic(topic)
        both = [self.borrow(Prismd(namespaces=namespaces(self.kafka.address))) for _ in range(2)]
        services = [consumer_service(self.borrow(s.channel())) for s in both]
        publisher = producer_service(self.borrow(both[1].channel()))
        self.assertTrue(publisher.PublishBatch(messages=[
            pb.PublishRequest(topic=topic, payload=b"%d" % i) for i in range(10)]).all_success)
        return both, [lambda i=i: Member(services[i], topic=topic, consumer_group="g") for i in range(2)], services

    def test_what_was_not_settled_comes_again(self):
        """From one that is drained at once, without what was settled; from one that is killed after its session."""
        both, members, services = self.begin("drained")
        with members[0]() as gone:
            gone.take(10)
            gone.settle(3)
            both[0].process.signal(signal.SIGTERM)
            gone.acknowledge(through=5)
            gone.half_close()
            with members[1]() as other:
                self.assertEqual([int(m.payload) for m in other.take(5)], list(range(5, 10)))
                other.settle(5)
        both, members, services = self.begin("killed")
        with members[0]() as gone:
            gone.take(10)
            gone.settle(3)
            both[0].process.kill()
            with members[1]() as other:
                numbers = [int(m.payload) for m in other.take(7)]
                self.assertLessEqual(numbers[0], 3)
                self.assertEqual(numbers, list(range(numbers[0], numbers[0] + 7)))


class Partitions(suite.Case):
    """What is known of each partition outlives prismd, with a state store."""

    def setUp(self):
        self.kafka = self.borrow(KafkaServer())
        self.kafka.create_topic("t", 2)
        self.redis = self.borrow(RedisServer())
        slot = {"backend": "kafka", "config": {"brokers": self.kafka.address, "session_timeout_ms": 2000}}
        state = {"backend": "redis", "config": {"address": self.redis.address}}
        self.namespaces = [producer(slot), consumer(slot, retry_delay_ms=0, state=state)]
        self.start()
        self.assertTrue(producer_service(self.channel).PublishBatch(messages=[
            pb.PublishRequest(topic="t", payload=b"%d" % i, ordering_key=b"%d" % i) for i in range(10)]).all_success)

    def start(self):
        self.server = self.borrow(Prismd(namespaces=self.namespaces))
        self.channel = self.borrow(self.server.channel())
        self.service = consumer_service(self.channel)

    def member(self, group="g", **subscribe):
        return Member(self.service, topic="t", consumer_group=group, **subscribe)

    def is_written(self):
        """Some message's next attempt is the third: the last four bytes of its row."""
        for key in self.redis.call("KEYS", "*attempts*"):
            rows = self.redis.call("GET", key)[1:]
            if any(rows[i + 16:i + 20] == b"\3\0\0\0" for i in range(0, len(rows), 20)):
                return True
        return False

    def test_attempts_are_known_after_a_kill(self):
        """C16: with a state store."""
        how = {o.variant: o.availability for o in self.service.GetCapabilities().operations if o.operation == "Consume"}
        self.assertEqual(how["kept_attempts"], how[""])
        with self.member() as member:
            first = member.take(10)
            self.assertEqual([m.attempt for m in first], [1] * 10)
            bad = {m.payload for m in first[3:5]}
            member.reject(*[m.sequence for m in first[3:5]])
            again = member.take(2)
            self.assertEqual([(m.attempt, m.payload in bad) for m in again], [(2, True)] * 2)
            member.reject(again[0].sequence)
            worst = member.take(1)[0]
            self.assertEqual(worst.attempt, 3)
            wait.until(self.is_written, environment.PATIENCE, "the third attempt is written")
        self.server.process.kill()
        self.start()
        with self.member() as member:
            attempts = {m.payload: m.attempt for m in member.take(10)}
            self.assertGreaterEqual(attempts.pop(worst.payload), 3)
            self.assertGreaterEqual(min(n for payload, n in attempts.items() if payload in bad), 2)
            member.settle(10)

    def test_a_group_begins_in_several_partitions_and_is_told_which_it_has(self):
        with self.member() as member:
            messages = member.take(10)
            self.assertEqual([f.partitions_assigned for f in member.frames if f.partitions_changed], [[0, 1]])
            member.settle(10)
        count = {p: sum(m.partition == p for m in messages) for p in (0, 1)}
        self.assertEqual(len([n for n in count.values() if n]), 2, "both partitions have some")
        places = [{"partition": p, "offset": n - 1} for p, n in count.items()]
        with self.member("other", positions={"partitions": places}) as member:
            self.assertEqual({(m.partition, m.offset) for m in member.take(2)},
                             {(p, n - 1) for p, n in count.items()})
            member.settle(2)


class Pair(suite.Case):
    """Two brokers, of which one may go: the other is the controller as well."""

    def setUp(self):
        self.controller = controller = self.borrow(KafkaServer())
        self.other = KafkaServer(2, voters=controller.settings["controller.quorum.voters"],
                                 cluster_id=controller.cluster_id)
        self.other.settings["process.roles"] = "broker"
        self.other.settings["listeners"] = self.other.settings["advertised.listeners"]
        self.borrow(self.other)

    def place(self, **topics):
        for topic, node in topics.items():
            wait.until(lambda t=topic, n=node: self.controller.place_topic(t, n), self.controller.patience,
                       "it has its place")


class Lookups(Pair):
    ASKED = 200

    def test_a_broker_that_is_away_holds_up_nobody_who_reads_from_another_one(self):
        """It is asked more often than may be at a time: most are refused. Who gave up is let go at once."""
        self.place(t=1, away=2, __consumer_offsets=1)
        slot = {"backend": "kafka", "config": {"brokers": self.controller.address, "session_timeout_ms": 2000}}
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot)]))
        channel = self.borrow(server.channel())
        service = consumer_service(channel)
        for topic in ("t", "away"):
            wait.until(lambda t=topic: producer_service(channel).Publish(topic=t, payload=b"0").success,
                       environment.PATIENCE, f"{topic} is there")
        self.other.pause()
        asked = [service.GetState.future(topic="away", consumer_group="g", timeout=60)
                 for _ in range(self.ASKED)]
        began = time.monotonic()
        with Member(service, topic="t", consumer_group="h") as member:
            self.assertEqual([m.payload for m in member.take(1)], [b"0"])
            member.settle(1)
        self.assertLess(time.monotonic() - began, environment.PATIENCE)
        self.assertFalse(all(call.done() for call in asked), "some still wait for the other one")
        for call in asked:
            call.cancel()
        began = time.monotonic()
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "nobody is waited for")
        self.assertLess(time.monotonic() - began, 3, "the library waits for 5 s")
        with self.assertRaises(grpc.RpcError) as raised:
            service.GetState(topic="away", consumer_group="g", timeout=1)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 0, 3, "it has ended with its deadline")
        self.assertGreater(server.metric("prism_kafka_lookups_refused_total"), 0)
        self.other.resume()


class Coordinator(Pair):
    def test_it_goes_while_it_is_asked(self):
        """It dies and comes back, and all the time somebody asks where groups stand. prismd lives."""
        controller, other = self.controller, self.other
        self.place(t=1, __consumer_offsets=2)
        slot = {"backend": "kafka", "config": {"brokers": controller.address}}
        with Prismd(namespaces=[producer(slot), consumer(slot)]) as reads, reads.channel() as channel:
            self.assertTrue(producer_service(channel).Publish(topic="t", payload=b"0").success)
            with Member(consumer_service(channel), topic="t", consumer_group="g") as member:
                member.settle(member.take(1)[0].sequence)
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot)]))
        service = consumer_service(self.borrow(server.channel()))

        def is_known():
            """The coordinator alone knows: nobody here has read for the group."""
            with contextlib.suppress(grpc.RpcError):
                return service.GetState(topic="t", consumer_group="g", timeout=10).offset == 1
        wait.until(is_known, environment.PATIENCE, "the place is committed")
        over, in_vain = threading.Event(), collections.Counter()
        self.addCleanup(over.set)

        def ask(number):
            while not over.is_set():
                in_vain[number] += not is_known()
        askers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for asker in askers:
            asker.start()
        other.kill()
        wait.until(lambda: all(in_vain[n] > 1 for n in range(4)), environment.PATIENCE, "they have met its absence")
        other.start()
        wait.until(is_known, environment.PATIENCE, "it is found again")
        over.set()
        for asker in askers:
            asker.join()
        self.assertTrue(server.process.alive())


if __name__ == "__main__":
    suite.main()
