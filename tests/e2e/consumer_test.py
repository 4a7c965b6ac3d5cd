"""ConsumerPattern through a running prismd, on the backend that PRISM_BACKEND names, fed by ProducerPattern."""
import threading

import grpc

from rig import backends, environment, suite, wait, wire
from rig.messaging import (Member, Stream, consumed as pb, consumer, consumer_service, pb as published, producer,
                           producer_service, topics_of)
from rig.prismd import Prismd
from prism.patterns.schemas import slot_schema_pb2 as schemas

RETRY, RELEASE, DEAD_LETTER = pb.DESCRIPTOR.dependencies[0].enum_types_by_name["Disposition"].values[1:4]


def place(position):
    return {"positions": {"partitions": [{"position": position}]}}


def place_of(message):
    """Where it is, for a Seek: by number where the source counts."""
    return {"offset": message.offset} if message.HasField("offset") else place(message.position)


def place_behind(message):
    """Far behind all messages: redis-stream's positions begin with a time."""
    return {"offset": 10**9} if message.HasField("offset") else place("1" + message.position)


# NATS has headers of text without an order.
NATS = suite.backend() == "jetstream"
KEY, VALUE = (b"k", b"v") if NATS else (b"\xff\x00", b"\x00\xff")


def as_carried(headers):
    return sorted(headers) if NATS else headers


def headers_of(message):
    return as_carried([(h.name, h.value) for h in message.headers])


class Consumer(suite.Case):
    @classmethod
    def setUpClass(cls):
        slot = cls.use(backends.slot(suite.backend(), topics_of(cls)))
        cls.server = cls.use(Prismd(workers=2, namespaces=[
            producer(slot), consumer(slot, dead_letters=slot, retry_delay_ms=0),
            producer(slot, "bare"), consumer(slot, "bare", max_attempts=2, retry_delay_ms=0),
            producer(slot, "mortal"), consumer(slot, "mortal", dead_letters=slot, max_attempts=3, retry_delay_ms=0)]))
        cls.channel = cls.use(cls.server.channel())
        cls.publisher = producer_service(cls.channel)
        cls.rpc = consumer_service(cls.channel)

    def announces(self, variant):
        """Is that way to Consume available? What is not is refused."""
        operation, = (o for o in self.rpc.GetCapabilities().operations if o.variant == variant)
        return operation.availability == schemas.AVAILABLE

    def ordered(self, mode, variant):
        """A member that gets messages in that order; None: there is none, and it was refused."""
        if self.announces(variant):
            return self.member(order=mode)
        with self.assertRaises(grpc.RpcError) as caught:
            self.member(order=mode).__enter__()
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)
        return None

    @property
    def topic(self):
        return self._testMethodName

    def publish(self, payloads, publisher=None, **fields):
        reply = (publisher or self.publisher).PublishBatch(messages=[
            published.PublishRequest(topic=self.topic, payload=p, **fields) for p in payloads])
        self.assertTrue(reply.all_success)
        return reply

    def member(self, group="g", rpc=None, **subscribe):
        return Member(rpc or self.rpc, topic=self.topic, consumer_group=group, **subscribe)

    def test_what_was_published_comes_byte_for_byte(self):
        self.publish([bytes(range(256))], ordering_key=KEY, message_id="m1",
                     headers=[{"name": "h", "value": VALUE}, {"name": "h", "value": b"2"},
                              {"name": "text", "value": b"plain"}])
        with self.member() as member:
            message, = member.take(1)
            self.assertEqual((message.payload, message.ordering_key), (bytes(range(256)), KEY))
            self.assertEqual(headers_of(message), as_carried([("h", VALUE), ("h", b"2"), ("text", b"plain")]))
            self.assertEqual(message.metadata["text"], "plain")
            self.assertNotIn("h", message.metadata, "it is there twice")
            self.assertEqual((message.message_id, message.topic, message.sequence, message.attempt),
                             ("m1", self.topic, 1, 1))
            member.settle(1)

    def test_an_atomic_batch_comes_as_a_whole(self):
        atomic, = (o for o in self.publisher.GetCapabilities().operations if o.variant == "atomic")
        messages = [published.PublishRequest(topic=self.topic, payload=b"%d" % i, ordering_key=b"%d" % (i % 3))
                    for i in range(100)]
        faulty = [*messages[:50], published.PublishRequest(topic=self.topic, payload=b"x", message_id="")]
        error = wire.failure(self.publisher.PublishBatch, published.PublishBatchRequest(messages=faulty, atomic=True))
        if atomic.availability == schemas.UNAVAILABLE:
            self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
            return
        self.assertEqual(list(wire.bad_fields(error)), ["messages[50].message_id"])
        reply = self.publisher.PublishBatch(messages=messages, atomic=True)
        self.assertEqual({(r.outcome, r.code) for r in reply.results}, {(published.STORED, 0)})
        with self.member() as member:
            taken = member.take(100)
            self.assertEqual([m.payload for m in taken], [m.payload for m in messages])
            self.assertEqual([m.message_id for m in taken], [r.message_id for r in reply.results])
            member.settle(100)

    def test_the_trace_of_a_call_goes_on_with_its_messages(self):
        trace, own = "00-%032x-%016x-01" % (7, 9), "00-%032x-%016x-00" % (1, 2)
        with_own = {"topic": self.topic, "payload": b"own", "headers": [{"name": "traceparent", "value": own.encode()}]}
        for metadata in (trace, "00-" + 32 * "0" + trace[35:], trace.upper() + "x"):
            self.publisher.Publish(topic=self.topic, payload=b"plain", metadata=(("traceparent", metadata),))
        self.publisher.Publish(**with_own, metadata=(("traceparent", trace),))
        with Stream(self.publisher.PublishStream, metadata=(("traceparent", trace),)) as stream:
            stream.send(published.PublishFrame(topic=self.topic, messages=[
                published.PublishRequest(payload=b"one", headers=[{"name": "a", "value": b"b"}]),
                published.PublishRequest(payload=b"two")]))
            stream.until(lambda ack: ack.settled_through == 2)
        with self.member() as member:
            trace, own = ("traceparent", trace.encode()), ("traceparent", own.encode())
            self.assertEqual([headers_of(m) for m in member.take(6)],
                             [[trace], [], [], [own], [("a", b"b"), trace], [trace]])
            member.settle(6)

    def test_a_group_goes_on_where_it_stopped(self):
        self.publish([b"%d" % i for i in range(10)])
        with self.member() as member:
            self.assertEqual([m.payload for m in member.take(10)], [b"%d" % i for i in range(10)])
            member.settle(4)
        with self.member() as member:
            self.assertEqual([m.payload for m in member.take(6)], [b"%d" % i for i in range(4, 10)])
            member.settle(6)
            self.assertEqual(self.rpc.GetState(topic=self.topic, consumer_group="g").lag, 0)

    def test_each_group_gets_every_message_and_each_member_its_part(self):
        self.publish([b"%d" % i for i in range(400)])
        with self.member("a", max_frame_messages=10) as one, self.member("a", max_frame_messages=10) as two, \
                self.member("b") as other:
            self.assertEqual(len({m.payload for m in other.take(400)}), 400)
            seen, lock = [], threading.Lock()

            def work(member):
                while True:
                    try:
                        message, = member.take(1)
                    except (grpc.RpcError, StopIteration):
                        return
                    with lock:
                        seen.append(message.payload)
                    member.acknowledge(message.sequence)

            threads = [threading.Thread(target=work, args=(m,)) for m in (one, two)]
            for thread in threads:
                thread.start()
            wait.until(lambda: len(seen) == 400, 20, "all messages are there")
            one.answers.cancel()
            two.answers.cancel()
            for thread in threads:
                thread.join()
            self.assertEqual(len(set(seen)), 400, "each message went to one member")

    def test_c9_what_a_dead_member_held_goes_to_the_others_at_once(self):
        self.publish([b"%d" % i for i in range(20)])
        with self.member() as dying:
            dying.take(20)
            with self.member() as heir:
                dying.answers.cancel()
                again = heir.take(20)
                self.assertEqual([m.payload for m in again], [b"%d" % i for i in range(20)], "in their order")
                self.assertEqual({m.attempt for m in again}, {2})
                heir.settle(20)

    def test_c11_what_was_published_waits_or_is_settled_or_dead(self):
        """Attempts are used up by a member that vanishes and by leases that run out, not by anybody who says so. What
        waits, is in flight, is settled and is dead adds up at each rest. Kafka keeps one position, so what is settled
        behind a message that is not comes again to the next member: there nothing is missing at the end."""
        published, rpc = [b"%d" % i for i in range(40)], consumer_service(self.channel, "mortal")
        counts_each = suite.backend() != "kafka"
        self.publish(published, producer_service(self.channel, "mortal"))

        def counted(outcome):
            return int(self.server.metric("prism_consumer_settlements_total", namespace="mortal", outcome=outcome))

        def adds_up(state, done):
            """The originals of dead letters are settled, too."""
            dead = counted("dead_letter")
            return counted("settled") - dead == done and state.lag + done + dead == len(published)

        def at_rest(settled):
            """Nothing is held or waits for a retry, and no dead letter is half done."""
            def rests():
                state = rpc.GetState(topic=self.topic, consumer_group="g")
                return state.in_flight == state.parked == 0 and (not counts_each or adds_up(state, len(settled)))
            wait.until(rests, environment.PATIENCE, "it adds up")
        with self.member(rpc=rpc) as member:
            settled = {m.payload for m in member.take(len(published))[:10]}
            member.settle(10)
        at_rest(settled)
        # Of 30 that are there ten at a time: not all of them die before the first letter is counted.
        with self.member(rpc=rpc, lease_ms=200, max_in_flight=10) as member:
            while counted("dead_letter") < 5:
                member.credit(messages=10)
                member.take(10)
                at_rest(settled)
        with self.member(rpc=rpc) as member:
            reader = threading.Thread(target=self.settle_all, args=(member, settled))
            reader.start()
            wait.until(lambda: rpc.GetState(topic=self.topic, consumer_group="g").lag == 0, environment.PATIENCE,
                       "nothing waits")
            at_rest(settled)
            member.half_close()
            reader.join()
        dead = counted("dead_letter")
        self.assertEqual(counted("dropped"), 0)
        with self.member(rpc=rpc, dead_letters=True) as member:
            letters = {m.payload for m in member.take(dead)}
        self.assertEqual(settled | letters, set(published))
        if counts_each:
            self.assertEqual((len(letters), letters & settled), (dead, set()))

    def settle_all(self, member, settled):
        """Until it has left."""
        try:
            while True:
                message, = member.take(1)
                settled.add(message.payload)
                member.acknowledge(message.sequence)
        except StopIteration:
            pass

    def test_c7_a_late_settlement_is_refused_and_disturbs_nobody(self):
        with self.member(lease_ms=200) as slow:
            slow.credit(messages=1)
            wait.until(lambda: self.state().members[0].credit == 1, 10, "it takes one message and no more")
            self.publish([b"x"])
            slow.take(1)
            with self.member() as heir:
                message, = heir.take(1)
                self.assertEqual((message.payload, message.attempt), (b"x", 2))
                self.assertEqual(slow.told(lambda f: f.revoked).revoked[0].sequences, [1])
                slow.acknowledge(1)
                failure, = slow.told(lambda f: f.failures).failures
                self.assertEqual((failure.sequence, failure.code), (1, grpc.StatusCode.ABORTED.value[0]))
                self.assertEqual(self.rpc.GetState(topic=self.topic, consumer_group="g").lag, 1, "still heir's")
                heir.settle(1)

    def test_c8_what_waits_for_a_retry_holds_no_room(self):
        self.publish([b"a", b"b", b"c"])
        with self.member(max_in_flight=2) as member:
            member.take(2)
            member.reject(1, 2, delay_ms=60000)
            message, = member.take(1)
            self.assertEqual(message.payload, b"c")
            member.acknowledge(3)

    def test_c14_a_key_waits_for_its_failure_and_others_flow(self):
        for i in range(3):
            self.publish([b"bad%d" % i], ordering_key=b"bad")
            self.publish([b"good%d" % i], ordering_key=b"good")
        member = self.ordered(pb.ORDER_PER_KEY, "order_per_key")
        if member is None:
            return
        with member:
            first = {m.payload: m for m in member.take(2)}
            self.assertEqual(set(first), {b"bad0", b"good0"}, "one of each key")
            member.reject(first[b"bad0"].sequence, delay_ms=100)
            member.acknowledge(first[b"good0"].sequence)
            seen = []
            for _ in range(5):
                message, = member.take(1)
                seen.append(message)
                member.acknowledge(message.sequence)
            self.assertEqual([m.payload for m in seen if m.ordering_key == b"bad"], [b"bad0", b"bad1", b"bad2"])
            self.assertEqual([m.payload for m in seen if m.ordering_key == b"good"], [b"good1", b"good2"])
            self.assertEqual(next(m.attempt for m in seen if m.payload == b"bad0"), 2)

    def test_a_partition_comes_one_by_one(self):
        self.publish([b"%d" % i for i in range(4)])
        member = self.ordered(pb.ORDER_PARTITION, "order_partition")
        if member is None:
            return
        with member:
            seen = []
            for i in range(5):
                message, = member.take(1)
                self.assertEqual(len(member.pending), 0)
                seen.append((message.payload, message.attempt))
                if i == 1:
                    member.reject(message.sequence, delay_ms=50)
                else:
                    member.acknowledge(message.sequence)
            self.assertEqual(seen, [(b"0", 1), (b"1", 1), (b"1", 2), (b"2", 1), (b"3", 1)])

    def test_dead_letters_keep_bytes_and_headers_and_tell_why(self):
        """C12: as they came, whatever they are."""
        self.publish([b"\x00poison"], headers=[{"name": "h", "value": b"v"}])
        with self.member() as member, self.member(dead_letters=True) as dead:
            member.take(1)
            member.reject(1, disposition=DEAD_LETTER.number, reason="cannot be read")
            letter, = dead.take(1)
            headers = [(h.name, h.value) for h in letter.headers]
            self.assertEqual(letter.topic, self.topic)
            self.assertEqual(letter.payload, b"\x00poison")
            self.assertTrue(("h", b"v") in headers if NATS else headers[0] == ("h", b"v"))
            self.assertIn(("prism-dead-letter-reason", b"cannot be read"), headers)
            self.assertIn(("prism-dead-letter-topic", self.topic.encode()), headers)
            dead.settle(1)

    def redrive(self, group="g", **fields):
        reply = self.rpc.Redrive(topic=self.topic, consumer_group=group, **fields)
        return reply.redriven_count, reply.failed_count, reply.code

    def bury(self, member, *sequences):
        member.reject(*sequences, disposition=DEAD_LETTER.number, reason="later")
        member.told(lambda f: f.settled_through == sequences[-1])

    def test_redriven_messages_come_as_they_were(self):
        self.publish([b"a", b"b", b"c"], ordering_key=b"k", headers=[{"name": "h", "value": VALUE}])
        with self.member() as member, self.member("other") as other:
            ids = [m.message_id for m in other.take(3)]
            member.take(3)
            self.bury(member, 1, 2, 3)
            self.assertEqual(self.redrive(max_messages=1), (1, 0, 0))
            self.assertEqual(member.take(1)[0].payload, b"a", "the oldest")
            self.assertEqual(self.redrive(), (2, 0, 0))
            again = member.take(2)
            self.assertEqual([(m.payload, m.ordering_key, m.attempt) for m in again],
                             [(b"b", b"k", 1), (b"c", b"k", 1)])
            self.assertEqual([(h.name, h.value) for m in again for h in m.headers if not h.name.startswith("prism-")],
                             [("h", VALUE)] * 2)
            self.assertEqual(len(set(ids)), 3)
            self.assertEqual(self.redrive(), (0, 0, 0), "no letter is left")
            self.assertEqual(self.redrive("other"), (0, 0, 0))

    def test_redriving_is_no_duplicate(self):
        """The identifier is the first message's, whatever the source remembers of it."""
        self.publish([b"x"], message_id="order-7")
        with self.member() as member:
            member.take(1)
            self.bury(member, 1)
            self.assertEqual(self.redrive(), (1, 0, 0))
            self.assertEqual(member.take(1)[0].message_id, "order-7")

    def test_letters_that_are_read_stay(self):
        self.publish([b"a", b"b"])
        with self.member() as member:
            member.take(2)
            self.bury(member, 1, 2)
            with self.member(dead_letters=True) as reader:
                first, second = (m.payload for m in reader.take(2))
                self.assertEqual({first, second}, {b"a", b"b"})
                reader.settle(1)
                reader.half_close()
                reader.rest()
            wait.until(lambda: self.redrive() == (1, 0, 0), 20, "the reader's letters are back")
            self.assertEqual(member.take(1)[0].payload, second)

    def test_without_a_dead_letter_slot_nothing_is_dropped_by_request(self):
        bare = consumer_service(self.channel, "bare")
        self.publish([b"x"], producer_service(self.channel, "bare"))
        with self.member(rpc=bare) as member:
            member.take(1)
            member.reject(1, disposition=DEAD_LETTER.number)
            failure, = member.told(lambda f: f.failures).failures
            self.assertEqual(failure.code, grpc.StatusCode.FAILED_PRECONDITION.value[0])
            member.settle(1)

    def test_credit_bounds_what_comes(self):
        """C22: never more than min(max_in_flight, credit)."""
        self.publish([b"x" * 10] * 50)
        with self.member(max_in_flight=20) as member:
            member.take(20)
            member.acknowledge(through=20)
            member.credit(messages=3)
            # The acknowledgement may have made room before the credit came: then that bounds, else the credit.
            wait.until(lambda: self.state().members[0].credit == 0 or self.state().in_flight == 20, 20, "one bounds")
            self.assertLessEqual(self.state().in_flight, 20)

    def state(self):
        return self.rpc.GetState(topic=self.topic, consumer_group="g")

    def test_subscribe_settles_by_unary_calls(self):
        self.publish([b"a", b"b", b"c", b"d"])
        stream = self.rpc.Subscribe(topic=self.topic, consumer_group="g", timeout=60)
        messages, id = [], None
        while len(messages) < 4:
            frame = next(stream)
            id = id or frame.started.subscription_id
            messages.extend(frame.messages)
        self.assertEqual({m.subscription_id for m in messages}, {id})
        self.assertIn(("x-prism-subscription-id", id), [tuple(m) for m in stream.initial_metadata()])
        reply = self.rpc.Acknowledge(deliveries={"subscription_id": id, "sequences": [1, 1]})
        self.assertEqual((reply.acknowledged_count, [f.sequence for f in reply.failures]), (1, [1]))
        self.assertEqual(self.rpc.Extend(deliveries={"subscription_id": id, "sequences": [2]},
                                         lease_ms=5000).extended_count, 1)
        reply = self.rpc.Reject(deliveries={"subscription_id": id, "sequences": [2]},
                                disposition=RETRY.number, delay_ms=0)
        self.assertEqual((reply.rejected_count, len(reply.failures)), (1, 0))
        while len(messages) < 5:
            messages.extend(next(stream).messages)
        self.assertEqual((messages[4].payload, messages[4].attempt), (b"b", 2))
        reply = self.rpc.Reject(deliveries={"subscription_id": id, "message_ids": [messages[2].message_id]},
                                disposition=DEAD_LETTER.number, reason="no")
        self.assertEqual((reply.rejected_count, reply.dead_lettered_count), (1, 1))
        self.assertTrue(self.rpc.Unsubscribe(subscription_id=id).existed)
        list(stream)    # ends with OK
        self.assertFalse(self.rpc.Unsubscribe(subscription_id=id).existed)
        error = wire.failure(self.rpc.Acknowledge, deliveries={"subscription_id": id, "sequences": [4]})
        self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)

    def test_seek_revokes_and_goes_back(self):
        """C17: settlements from before do not move the position."""
        self.publish([b"%d" % i for i in range(5)])
        with self.member() as member:
            first = member.take(5)
            member.settle(3)
            self.assertTrue(self.rpc.Seek(topic=self.topic, consumer_group="g", **place_of(first[1])).success)
            self.assertEqual([m.payload for m in member.take(4)], [b"%d" % i for i in range(1, 5)])
            error = self.rpc.Seek(topic=self.topic, consumer_group="g", **place_behind(first[1]))
            self.assertEqual((error.success, error.code), (False, grpc.StatusCode.OUT_OF_RANGE.value[0]))

    def test_seek_takes_the_places_that_were_told(self):
        self.publish([b"%d" % i for i in range(3)])
        with self.member() as member:
            member.settle(member.take(3)[0].sequence)
            state = self.rpc.GetState(topic=self.topic, consumer_group="g")
            places = [{"partition": p.partition, "offset": p.committed_offset} if p.HasField("committed_offset") else
                      {"partition": p.partition, "position": p.committed_position} for p in state.partitions]
            member.settle(3)
            reply = self.rpc.Seek(topic=self.topic, consumer_group="g", positions={"partitions": places})
            self.assertTrue(reply.success)
            self.assertEqual([m.payload for m in member.take(2)], [b"1", b"2"])

    def test_half_close_gives_back_without_an_attempt(self):
        self.publish([b"a", b"b"])
        with self.member() as member:
            member.take(2)
            member.acknowledge(1)
            member.half_close()
            self.assertEqual(member.rest()[-1].settled_through, 1)
        with self.member() as member:
            message, = member.take(1)
            self.assertEqual((message.payload, message.attempt), (b"b", 1))

    def test_a_newer_stream_of_the_same_name_takes_over(self):
        with self.member(consumer_id="me") as older, self.member(consumer_id="me"):
            with self.assertRaises(grpc.RpcError) as caught:
                older.rest()
            self.assertEqual(caught.exception.code(), grpc.StatusCode.ABORTED)

    def test_faults_of_a_request_end_the_stream(self):
        for subscribe, code in ((dict(topic=""), grpc.StatusCode.INVALID_ARGUMENT),
                                (dict(topic="t", max_in_flight=0), grpc.StatusCode.INVALID_ARGUMENT),
                                (dict(topic="t", max_wait_ms=-1), grpc.StatusCode.INVALID_ARGUMENT)):
            with self.assertRaises(grpc.RpcError) as caught:
                Member(self.rpc, **subscribe).__enter__()
            self.assertEqual(caught.exception.code(), code)

    def test_nothing_is_left_behind(self):
        for _ in range(20):
            with self.member():
                pass
        wait.until(lambda: not self.state().running, 10, "all members have left")


class Drain(suite.Case):
    """C3, C4: acknowledgements are taken while the server drains, and the client is told."""

    def test_acknowledgements_are_taken_while_the_server_drains(self):
        slot = self.borrow(backends.slot(suite.backend()))
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot)]))
        channel = self.borrow(server.channel())
        producer_service(channel).PublishBatch(messages=[published.PublishRequest(topic="t", payload=b"x")] * 5)
        with Member(consumer_service(channel), topic="t", consumer_group="g") as member:
            member.take(5)
            ending = threading.Thread(target=server.terminate)
            ending.start()
            member.told(lambda f: f.draining)
            member.acknowledge(through=5)
            member.told(lambda f: f.settled_through == 5)
            with self.assertRaises(grpc.RpcError) as caught:
                member.rest()
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            ending.join()
            self.assertRegex(server.process.log(),
                             '"event":"consumer_stopped".*"delivered":5,"settled":5,.*"given_back":0')


if __name__ == "__main__":
    suite.main()
