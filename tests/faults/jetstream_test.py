"""A real JetStream server that is killed, paused, cut off, and instances of prismd that die: what was acknowledged is
consumed, in the order of its key, and nothing hangs."""
import signal

from rig import environment, suite, wait
from rig.flow import FRAME, FRAMES, KEYS, Flow
from rig.messaging import Member, consumer, consumer_service, pb, producer, producer_service
from rig.nats import NatsServer, cluster
from rig.prismd import Prismd
from rig.proxy import Proxy
from prism.patterns.schemas import slot_schema_pb2 as schemas


def namespaces(address, **settings):
    slot = {"backend": "jetstream", "config": {"address": address, "create_streams": True, "ack_wait_ms": 1000,
                                               "ack_timeout_ms": 500, **settings}}
    return [producer(slot), consumer(slot, retry_delay_ms=0)]


class Meaning(Flow):
    def means(self, server, acknowledgement, topic=None):
        """What an acknowledgement means is known soon after a topic is there and in use."""
        service = producer_service(self.borrow(server.channel()))

        def told():
            if topic:
                service.Publish(topic=topic, payload=b"x")
            return [o.acknowledgement for o in service.GetCapabilities().operations
                    if (o.operation, o.variant) == ("Publish", "")] == [acknowledgement]
        wait.until(told, environment.PATIENCE, "it is told")


class Case(Meaning):
    def setUp(self):
        super().setUp()
        self.nats = self.borrow(NatsServer())


class Server(Case):
    def test_killed_and_started_again(self):
        server = self.borrow(Prismd(namespaces=namespaces(self.nats.address)))
        publisher, reader = self.under_way(server)
        for _ in range(2):
            before = len(publisher.stored)
            self.nats.kill()
            self.nats.start()
            wait.until(lambda: len(publisher.stored) > before + FRAME or not publisher.is_alive(), environment.PATIENCE,
                       "publishing goes on")
        self.check(publisher, reader)
        self.assertEqual(publisher.failures, [], "a short restart is bridged")

    def test_cut_again_and_again(self):
        proxy = self.borrow(Proxy(self.nats.port))
        server = self.borrow(Prismd(namespaces=namespaces(proxy.address)))
        publisher, reader = self.under_way(server)
        for cut in range(6):
            before = len(publisher.stored)
            proxy.cut(after=2000 if cut % 2 else None)
            wait.until(lambda: len(publisher.stored) > before + FRAME or not publisher.is_alive(), environment.PATIENCE,
                       "publishing goes on")
        self.check(publisher, reader)
        self.assertEqual(publisher.failures, [])
        self.assertGreater(server.metric("prism_jetstream_connects_total"), 3)

    def test_paused_is_unknown_and_recovers(self):
        server = self.borrow(Prismd(namespaces=namespaces(self.nats.address, publish_timeout_ms=1000)))
        service = producer_service(self.borrow(server.channel()))
        self.assertTrue(service.Publish(topic=self.topic, payload=b"0").success)
        self.nats.pause()
        reply = service.Publish(topic=self.topic, payload=b"1", message_id="one")
        self.assertEqual((reply.success, reply.outcome), (False, pb.OUTCOME_UNKNOWN))
        self.nats.resume()

        def stored():
            return service.Publish(topic=self.topic, payload=b"1", message_id="one")
        wait.until(lambda: stored().success, environment.PATIENCE, "it is stored")
        self.assertTrue(stored().deduplicated)
        with Member(consumer_service(self.borrow(server.channel())), topic=self.topic, consumer_group="g") as member:
            self.assertEqual([m.payload for m in member.take(2)], [b"0", b"1"])
            member.settle(2)


class Instances(Case):
    def setUp(self):
        super().setUp()
        self.both = [self.borrow(Prismd(namespaces=namespaces(self.nats.address))) for _ in range(2)]
        self.services = [consumer_service(self.borrow(s.channel())) for s in self.both]
        publisher = producer_service(self.borrow(self.both[1].channel()))
        self.assertTrue(publisher.PublishBatch(messages=[
            pb.PublishRequest(topic=self.topic, payload=b"%d" % i) for i in range(10)]).all_success)

    def member(self, i):
        return Member(self.services[i], topic=self.topic, consumer_group="g")

    def test_a_client_that_vanishes_gives_back_at_once(self):
        """What it had been sent counts as an attempt, also if it was the last one."""
        with self.member(0) as gone:
            gone.take(10)
            gone.settle(3)
            with self.member(1) as other:
                gone.answers.cancel()
                messages = other.take(7)
                self.assertEqual(sorted((int(m.payload), m.attempt) for m in messages),
                                 [(n, 2) for n in range(3, 10)])
                other.settle(7)
        self.assertEqual(self.services[1].GetState(topic=self.topic, consumer_group="g").lag, 0)

    def test_an_instance_that_is_killed_gives_back_after_the_ack_wait(self):
        with self.member(0) as gone:
            gone.take(10)
            gone.settle(3)
            self.both[0].process.kill()
            with self.member(1) as other:
                messages = other.take(7)
                self.assertEqual(sorted(int(m.payload) for m in messages), list(range(3, 10)))
                self.assertTrue(all(m.attempt == 2 for m in messages))
                other.settle(7)

    def test_a_drained_instance_gives_back_what_was_not_settled(self):
        with self.member(0) as gone:
            gone.take(10)
            gone.settle(3)
            self.both[0].process.signal(signal.SIGTERM)
            gone.acknowledge(through=5)
            wait.until(lambda: self.services[1].GetState(topic=self.topic, consumer_group="g").lag == 5,
                       environment.PATIENCE, "settlements are taken while it drains")
            gone.half_close()
            with self.member(1) as other:
                self.assertEqual([(int(m.payload), m.attempt) for m in other.take(5)],
                                 [(n, 1) for n in range(5, 10)])
                other.settle(5)

    def test_a_seek_moves_members_of_other_instances(self):
        with self.member(0) as member:
            member.take(10)
            member.settle(10)
            self.assertTrue(self.services[1].Seek(topic=self.topic, consumer_group="g", offset=6).success)
            self.assertEqual([int(m.payload) for m in member.take(5)], list(range(5, 10)))


class Strict(Flow):
    """A user who may not have the stream of what is given back: it is an attempt, and that is told."""
    USER = """authorization { users: [ { user: prism, password: secret, permissions: { publish: {
        deny: [ "$JS.API.STREAM.*.PRISM_RETURNS", "PRISM_RETURNS.>" ] } } } ] }"""

    def test_without_permission_what_is_given_back_counts(self):
        nats = self.borrow(NatsServer(more=[self.USER]))
        both = [self.borrow(Prismd(namespaces=namespaces(nats.address, username="prism", password="secret")))
                for _ in range(2)]
        services = [consumer_service(self.borrow(server.channel())) for server in both]
        publisher = producer_service(self.borrow(both[1].channel()))
        self.assertTrue(publisher.Publish(topic=self.topic, payload=b"1").success)
        with Member(services[0], topic=self.topic, consumer_group="g") as leaving:
            self.assertEqual(leaving.take(1)[0].attempt, 1)
            leaving.half_close()
            leaving.rest()
        wait.until(lambda: both[0].metric("prism_jetstream_returns_counted_total", slot="message_source") == 1,
                   environment.PATIENCE, "it is counted")
        self.assertIn("jetstream_returns_count", [event["event"] for event in both[0].log_events()])
        with Member(services[1], topic=self.topic, consumer_group="g") as other:
            self.assertEqual(other.take(1)[0].attempt, 2)
            other.settle(1)


class Cluster(Meaning):
    def test_the_leader_of_a_stream_is_killed(self):
        """The others elect a new one, which takes seconds: what waited is stored then.

        C20: within 5 s after everything has a leader again, all of it is delivered, and what is published from then on.
        """
        servers = cluster(3)
        for server in servers:
            server.prepare()
            server.launch()
            self.addCleanup(server.kill)
        for server in servers:
            server.wait_ready()
        wait.until(lambda: all(s.healthy() for s in servers), environment.PATIENCE, "the cluster is complete")
        prismd = self.borrow(Prismd(namespaces=namespaces(
            ", ".join(s.address for s in servers), stream_replicas=3, publish_timeout_ms=30000, ack_timeout_ms=2000)))
        publisher, reader = self.under_way(prismd)
        self.means(prismd, schemas.QUORUM_MEMORY, "other")
        dead = next(s for s in servers if s.leads(self.topic))
        dead.kill()
        self.becomes_whole([s for s in servers if s is not dead])
        publisher.join()
        last = FRAME * FRAMES
        self.assertTrue(producer_service(self.borrow(prismd.channel())).Publish(
            topic=self.topic, payload=b"%d" % last, ordering_key=b"%d" % (last % KEYS)).success)
        publisher.stored.add(last)
        self.check(publisher, reader, patience=environment.PATIENCE / 4)
        self.assertEqual(publisher.failures, [])

    def becomes_whole(self, alive):
        """Each of them sees that one of them leads the cluster, and each stream and consumer."""
        names = {f"n{s.node}" for s in alive}

        def is_whole():
            return all({*s.leaders().values()} <= names for s in alive)
        wait.until(is_whole, 3 * environment.PATIENCE, "the others have elected leaders")


class Named(Case):
    def test_nats_with_jetstream_is_jetstream(self):
        slot = {"backend": "nats", "config": {"address": self.nats.address, "jetstream": True, "create_streams": True}}
        server = self.borrow(Prismd(namespaces=[producer(slot)]))
        service = producer_service(self.borrow(server.channel()))
        self.assertEqual(service.GetCapabilities().slots.sink_backend_type, "jetstream")
        self.assertEqual(service.Publish(topic="t", payload=b"x").offset, 1)
        self.means(server, schemas.MEMORY, "t")


if __name__ == "__main__":
    suite.main()
