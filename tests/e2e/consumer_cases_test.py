"""What goes wrong with the consumers of brokers, case by case (docs/cases/messages.md), on the backend that
PRISM_BACKEND names: two instances of prismd read one broker that the test can break."""
import collections
import os
import signal
import statistics
import threading
import time

import grpc

from rig import brokers, environment, suite, wait
from rig.messaging import Member, consumed, consumer, consumer_service, pb, producer, producer_service
from rig.prismd import Prismd

KAFKA, NATS, REDIS = (suite.backend() == name for name in ("kafka", "jetstream", "redis-stream"))
DELIVERED, REDELIVERED, LOST = (f"prism_consumer_{what}_messages_total" for what in (
    "delivered", "redelivered", "lost"))


# The broker's own patience, where no test waits for its end.
LONG = {"kafka": {"session_timeout_ms": 120000}, "jetstream": {"ack_wait_ms": 120000},
        "redis-stream": {"claim_idle_ms": 120000}}[suite.backend()]


class Cases(brokers.Case):
    def serve(self, settings=(), **behavior):
        slot = self.broker.slot(**dict(settings))
        return self.borrow(Prismd(namespaces=[producer(slot), consumer(
            slot, dead_letters=slot, **{"retry_delay_ms": 20, **behavior})]))

    def service(self, server, **options):
        return consumer_service(self.borrow(server.channel()), **options)

    def publish(self, server, numbers, topic=None):
        self.publish_with(producer_service(self.borrow(server.channel())), numbers, topic)

    def publish_with(self, rpc, numbers, topic=None):
        reply = rpc.PublishBatch(messages=[
            pb.PublishRequest(topic=topic or self.topic, payload=b"%d" % n, ordering_key=b"%d" % n) for n in numbers])
        self.assertTrue(reply.all_success)

    def member(self, service, topic=None, group="g", **subscribe):
        return Member(service, topic=topic or self.topic, consumer_group=group, **subscribe)


class Handler(threading.Thread):
    """A member whose work fails `failures` times for each message, whoever has it, and then succeeds."""

    def __init__(self, case, server, failures, attempts, done):
        super().__init__(daemon=True)
        self.channel, self.failures, self.attempts, self.done = server.channel(), failures, attempts, done
        self.member = Member(consumer_service(self.channel), topic=case.topic, consumer_group="g", max_in_flight=10)
        self.got, self.error = 0, None
        self.start()

    def run(self):
        with self.channel, self.member:
            try:
                while True:
                    for message in self.member.take(len(self.member.pending) or 1):
                        self.work(message)
            except StopIteration:       # it has left
                pass
            except grpc.RpcError as e:
                self.error = e

    def work(self, message):
        number = int(message.payload)
        self.got += 1
        self.attempts[number] = max(self.attempts[number], message.attempt)
        if self.failures[number] > 0:
            self.failures[number] -= 1
            self.member.reject(message.sequence)
        else:
            self.done.add(number)
            self.member.acknowledge(message.sequence)

    def leave(self):
        self.member.half_close()
        self.join(environment.PATIENCE)


class Ownership(Cases):
    # a machine that stands still for a while is no death of its instance, and no broker that does not answer
    PATIENT = {"ack_wait_ms": 10000, "ack_timeout_ms": 5000} if NATS else {}
    # what nats-server hands to a request that has just gone is known to nobody else: seldom, and it counts that
    SPARE = 1 if NATS else 0

    def setUp(self):
        self.topic = self._testMethodName
        self.broker.create(self.topic, self.broker.partitions)
        self.broker.create(self.topic + ".g.dead")

    def test_c2_work_that_fails_outlives_changes_of_its_owner(self):
        """Loss of ownership is neither an attempt nor a settlement: with as many attempts as the work needs none of
        the messages dies, and none vanishes."""
        failing, joins, published = 5, 6, 0
        servers = [self.serve(self.PATIENT, max_attempts=failing + 1 + self.SPARE) for _ in range(2)]
        services = [self.service(s) for s in servers]
        failures, attempts, done = collections.defaultdict(lambda: failing), collections.Counter(), set()
        rpc = producer_service(self.borrow(servers[0].channel()))
        steady = Handler(self, servers[0], failures, attempts, done)

        def state():
            return services[0].GetState(topic=self.topic, consumer_group="g")

        def flows():
            nonlocal published
            if published - len(done) < 60:
                self.publish_with(rpc, range(published, published + 20))
                published += 20
            return guest.got > 20
        for _ in range(joins):
            guest = Handler(self, servers[1], failures, attempts, done)
            wait.until(flows, environment.PATIENCE, "it gets its share")
            guest.leave()
            self.assertIsNone(guest.error)

        wait.until(lambda: steady.error or state().lag == 0, environment.PATIENCE, "all is settled")
        steady.leave()
        self.assertIsNone(steady.error)
        self.assertEqual(set(range(published)) - done, set())
        self.assertIn(max(attempts.values()), range(failing + 1, failing + 2 + self.SPARE))

    def test_c9_what_a_client_that_vanishes_held_goes_to_another_instance_at_once(self):
        """Its own instance has no other member, and it had settled a part. Nobody waits for the end of a lease."""
        self.broker.create(self.topic + "-one", 1)
        servers = [self.serve(LONG) for _ in range(2)]
        self.publish(servers[0], range(10), self.topic + "-one")
        with self.member(self.service(servers[0]), self.topic + "-one") as gone:
            taken = gone.take(10)
            gone.settle(taken[2].sequence)
            with self.member(self.service(servers[1]), self.topic + "-one") as other:
                began = time.monotonic()
                gone.answers.cancel()
                messages = other.take(7)
                self.assertLess(time.monotonic() - began, environment.PATIENCE)
                self.assertEqual({m.payload for m in messages}, {m.payload for m in taken[3:]})
                other.settle(7)

    def test_c3_drains_are_no_attempts(self):
        """Of messages that may be tried once (where it can be told) none dies of it that instances stop: not those that
        a client has, and not those that wait behind them in the server."""
        messages, drains, most = 40, 5, 1 + self.SPARE
        server = self.serve(self.PATIENT, max_attempts=most)
        self.publish(server, range(messages))
        for drain in range(drains):
            with self.member(self.service(server), max_in_flight=10) as member:
                taken = member.take(10)
                self.assertLessEqual(max(m.attempt for m in taken), most)
                server.process.signal(signal.SIGTERM)
                member.told(lambda frame: frame.draining)
                member.acknowledge(taken[0].sequence)
                member.half_close()
                member.rest()
            self.assertEqual(server.process.wait(environment.PATIENCE), 0)
            server = self.serve(self.PATIENT, max_attempts=most)
        with self.member(self.service(server), max_in_flight=messages) as member:
            left = member.take(messages - drains)
            self.assertLessEqual(max(m.attempt for m in left), most)
            self.assertEqual(len({m.payload for m in left}), messages - drains)
            member.acknowledge(*(m.sequence for m in left))
            wait.until(lambda: self.service(server).GetState(topic=self.topic, consumer_group="g").lag == 0,
                       environment.PATIENCE, "all is settled")
        self.assertEqual(server.metric("prism_consumer_settlements_total", outcome="dead_letter"), 0)

    def test_c1_killed_with_holes(self):
        """Settled in no order and killed: what was not settled comes again, each of it."""
        messages, kills, acknowledged = 300, 3, set()
        self.publish(self.serve(), range(messages))
        for kill in range(kills):
            server, seen = self.serve(), set()
            with self.member(self.service(server)) as member:
                while seen | acknowledged != set(range(messages)):
                    message, = member.take(1)
                    seen.add(int(message.payload))
                    if int(message.payload) % 7 <= kill:
                        member.acknowledge(message.sequence)
                        acknowledged.add(int(message.payload))
                server.process.kill()
        server, done = self.serve(), set()
        last = Handler(self, server, collections.Counter(), collections.Counter(), done)
        service = self.service(server)
        wait.until(lambda: last.error or done and service.GetState(topic=self.topic, consumer_group="g").lag == 0,
                   environment.PATIENCE, "all is settled")
        last.leave()
        self.assertIsNone(last.error)
        self.assertEqual(done | acknowledged, set(range(messages)))
        self.assertGreaterEqual(len(done), messages * 3 // 7)


class Held(Cases):
    def test_c5_what_waits_for_its_turn_is_kept(self):
        """30 messages and 0.1 s of work for each: far longer than the source keeps what nobody renews."""
        servers = [self.serve() for _ in range(2)]
        with self.member(self.service(servers[0])) as member:
            self.publish(servers[0], range(30))
            messages = member.take(30)
            with self.member(self.service(servers[1])):
                for message in messages:
                    wait.holds(lambda: servers[1].metric(DELIVERED) == 0, 0.1, "nobody else gets them")
                    member.acknowledge(message.sequence)
                member.settle(30)
                self.assertEqual([s.metric(REDELIVERED) for s in servers], [0, 0])
                self.assertEqual([s.metric("prism_consumer_late_settlements_total") for s in servers], [0, 0])

    def extend(self, member, lease):
        """Until when the first message is kept then."""
        member.send(consumed.ConsumeRequest(extend={"sequences": [1], "lease_ms": lease}))
        frame = member.told(lambda f: f.extended or f.failures)
        self.assertEqual(list(frame.failures), [])
        return frame.extended[0].expires_at_ms

    def test_c6_work_is_extended_up_to_the_bound(self):
        """Kept for two leases by extending; at the bound the message moves on, and its holder is told. A machine that
        stands still for less than a lease changes nothing: neither the broker nor the number of turns counts time."""
        lease, bound = 4000, 10000
        server = self.serve(LONG, max_lease_ms=bound)
        service = self.service(server)
        self.assertEqual(service.GetCapabilities().max_lease_ms, bound)
        with self.member(service, lease_ms=lease) as member:
            member.credit(messages=1)
            wait.until(lambda: service.GetState(topic=self.topic, consumer_group="g").members[0].credit == 1,
                       environment.PATIENCE, "it takes one message and no more")
            self.publish(server, [0])
            member.take(1)
            with self.member(service) as heir:
                first = end = self.extend(member, lease)
                while end - first <= lease:
                    wait.holds(lambda: server.metric(REDELIVERED) == 0, 0.1, "it is kept")
                    end = self.extend(member, lease)
                self.assertLessEqual(self.extend(member, bound) - first, bound - lease)
                self.assertEqual(heir.take(1)[0].attempt, 2)
                self.assertEqual(member.told(lambda f: f.revoked).revoked[0].sequences, [1])
                heir.settle(1)


class Names(Cases):
    CYCLES = int(os.environ.get("PRISM_CYCLES", "1000"))    # the nightly run has 10,000

    def test_c10_names_go_and_no_message_with_them(self):
        """Members come and go with messages in hand, by half-closing and by vanishing. At no time is there a name for
        each of them, and in the end there is one."""
        server = self.serve()
        service = self.service(server)
        self.publish(server, range(20))
        most = 0
        for cycle in range(self.CYCLES):
            with self.member(service) as member:
                member.take(20)
                if cycle % 2:
                    member.half_close()
                    member.rest()
            if cycle % 50 == 0:
                most = max(most, self.broker.names(self.topic))
        self.assertLessEqual(most, 5)
        wait.until(lambda: self.broker.names(self.topic) <= 1, environment.PATIENCE, "one name at most")
        with self.member(service) as member:
            self.assertEqual(sorted(int(m.payload) for m in member.take(20)), list(range(20)))
            member.settle(20)


class Gaps(Cases):
    """C18: what was removed before the group had read it is told, and the subscription says what then."""

    def begin(self, server):
        """The group stands behind message 2; 3 to 5 are removed; 6 and 7 are there."""
        service = self.service(server)
        self.publish(server, [1, 2])
        with self.member(service) as member:
            member.take(2)
            member.settle(2)
            member.half_close()     # or it might still be given what is published next
            member.rest()
        self.publish(server, range(3, 8))
        with self.member(service, group="looks") as member:
            self.broker.drop_before(self.topic, 5, member.take(7)[5])
        return service

    def test_c18_a_gap_is_told_before_the_next_message(self):
        server = self.serve()
        service = self.begin(server)
        with self.member(service) as member:
            self.assertEqual([int(m.payload) for m in member.take(2)], [6, 7])
            first = next(i for i, f in enumerate(member.frames) if f.messages)
            gaps = [gap for frame in member.frames[:first + 1] for gap in frame.gaps]
            self.assertEqual(len(gaps), 1)
            if not REDIS:       # it has no offsets, and does not tell how many are missing
                self.assertEqual((gaps[0].first_missing, gaps[0].first_available),
                                 (str(member.frames[first].messages[0].offset - 3),
                                  str(member.frames[first].messages[0].offset)))
                self.assertEqual((gaps[0].count, server.metric(LOST)), (3, 3))
            member.settle(2)

    def test_c18_it_may_end_the_subscription(self):
        service = self.begin(self.serve())
        with self.assertRaises(grpc.RpcError) as caught, self.member(service, on_gap=consumed.GAP_FAIL) as member:
            member.rest()
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DATA_LOSS)

    def test_c18_it_may_go_on_with_the_newest(self):
        server = self.serve()
        service = self.begin(server)
        with self.member(service, on_gap=consumed.GAP_LATEST) as member:
            wait.until(lambda: any(f.gaps for f in member.frames) or member.frame().gaps, environment.PATIENCE, "a gap")
            self.publish(server, [8])
            self.assertEqual([int(m.payload) for m in member.take(1)], [8])
            member.settle(1)


class Neighbours(Cases):
    def test_c21_subscriptions_that_come_and_go_disturb_no_other(self):
        """The other holds 50 messages meanwhile, works on the oldest, and gets each new one: none twice, over the same
        connections, and as fast as in the cycles in between, in which nobody comes or goes."""
        cycles, other = 10 if KAFKA else 100, self.topic + "-2"
        self.broker.create(other)
        server = self.serve()
        service = self.service(server)
        publisher = producer_service(self.borrow(server.channel()))
        self.publish(server, [0], other)
        self.publish(server, range(50))
        times = {False: [], True: []}
        with self.member(service, max_in_flight=50) as member:
            held = collections.deque(member.take(50))
            before = self.connects(server)
            for cycle in range(2 * cycles):
                comes = cycle % 2 == 1
                if comes:
                    self.come_and_go(service, other, gently=cycle % 4 == 1)
                began = time.monotonic()
                self.publish_with(publisher, [100 + cycle])
                member.acknowledge(held.popleft().sequence)
                held.extend(member.take(1))
                times[comes].append(time.monotonic() - began)
                self.assertEqual(int(held[-1].payload), 100 + cycle)
            self.assertEqual([m.attempt for frame in member.frames for m in frame.messages if m.attempt != 1], [])
            self.assertFalse(any(frame.revoked for frame in member.frames))
            self.assertEqual(service.GetState(topic=self.topic, consumer_group="g").retry_count, 0)
            if not KAFKA:   # which has a handle for each topic and group
                self.assertEqual(self.connects(server), before)
            alone, beside = (statistics.median(times[comes]) for comes in (False, True))
            self.assertLess(beside, 3 * alone + 0.005)
            member.settle(held[-1].sequence)

    def come_and_go(self, service, topic, gently):
        with self.member(service, topic, group="h") as coming:
            coming.take(1)
            if gently:
                coming.half_close()
                coming.rest()

    def connects(self, server):
        return {name: value for name, value in server.metrics().items() if "connects_total" in name}


if KAFKA:   # partitions are owned there, not messages; and members have no names that stay
    del Held.test_c5_what_waits_for_its_turn_is_kept
    del Names.test_c10_names_go_and_no_message_with_them
if NATS:    # a request for messages outlives its subscription for a moment, and what it is given then counts as read
    del Gaps

if __name__ == "__main__":
    suite.main()
