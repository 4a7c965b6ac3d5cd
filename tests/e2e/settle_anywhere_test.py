"""Acknowledgement tokens on the backend that PRISM_BACKEND names: what one prismd has delivered is settled by another,
and a token of an earlier delivery settles nothing."""
import grpc

from prism.patterns.consumer import settlement_pb2 as settlement
from rig import brokers, environment, suite, wait
from rig.messaging import Member, consumed, consumer, consumer_service, pb, producer, producer_service
from rig.prismd import Prismd

ABORTED, INVALID = (getattr(grpc.StatusCode, name).value[0] for name in ("ABORTED", "INVALID_ARGUMENT"))
QUEUE = suite.backend() == "postgres"


class Anywhere(brokers.Case):
    def serve(self, settings=None, **behavior):
        """A prismd with two namespaces that differ in their names alone, and a service of the first."""
        slot = self.broker.slot(**settings or {})
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot, **behavior),
                                                consumer(slot, name="other", **behavior)]))
        server.consumer = consumer_service(self.borrow(server.channel()))
        return server

    def two(self, **behavior):
        return self.serve(**behavior), self.serve(**behavior)

    def publish(self, server, *numbers, key=None):
        rpc = producer_service(self.borrow(server.channel()))
        reply = rpc.PublishBatch(messages=[pb.PublishRequest(topic=self.topic, payload=b"%d" % n, ordering_key=key)
                                           for n in numbers])
        self.assertTrue(reply.all_success, reply)

    def member(self, server, **subscribe):
        return Member(server.consumer, topic=self.topic, consumer_group="" if QUEUE else "g",
                      **{"ack_tokens": True, **subscribe})

    def acknowledge(self, server, *messages):
        """The codes of those that were not settled, by place."""
        tokens = [m if isinstance(m, bytes) else m.ack_token for m in messages]
        reply = server.consumer.Acknowledge(deliveries={"ack_tokens": tokens})
        self.assertEqual(reply.acknowledged_count, len(tokens) - len(reply.failures), reply)
        for failure in reply.failures:
            self.assertEqual(failure.error.split(":")[0], f"ack_tokens[{tokens.index(failure.ack_token)}]")
        return {tokens.index(f.ack_token): f.code for f in reply.failures}

    def refused(self, code, rpc, **request):
        with self.assertRaises(grpc.RpcError) as caught:
            rpc(**request)
        self.assertEqual(caught.exception.code(), code, caught.exception.details())

    def is_settled(self, *servers):
        """The source has nothing of the group's left, and no server thinks that it holds something."""
        self.assertEqual(self.broker.unsettled(self.topic), 0)
        for server in servers:
            wait.until(lambda s=server: s.metric("prism_consumer_unsettled_messages") == 0, environment.PATIENCE,
                       "the holder hears of the settlement")
            self.assertEqual(server.metric("prism_consumer_redelivered_messages_total"), 0)

    def test_another_server_settles(self):
        first, second = self.two()
        self.publish(first, *range(10))
        with self.member(first) as member:
            messages = member.take(10)
            self.assertEqual(self.acknowledge(second, *messages), {})
            self.is_settled(first)
            self.assertEqual(self.acknowledge(second, *messages), dict.fromkeys(range(10), ABORTED))
            self.publish(first, 10)
            last, = member.take(1)
            self.assertEqual((last.payload, last.sequence), (b"10", 11))
            self.assertEqual(self.acknowledge(first, last), {}, "the same server settles as well")
            self.is_settled(first)

    def test_who_holds_it_is_told_at_once(self):
        """Not when the source is told the next time what is held, which is in a quarter of an hour."""
        rarely = {} if QUEUE else {"claim_idle_ms": 3600000}
        first, second = self.two(settings=rarely)
        with self.member(first) as member:
            for settler in (second, first):
                self.publish(first, *range(5))
                self.assertEqual(self.acknowledge(settler, *member.take(5)), {})
                self.is_settled(first)

    def test_together_with_acknowledgements(self):
        """Of the subscription, for the same deliveries: the others of the frame are settled, and told so."""
        first, second = self.two()
        self.publish(first, *range(100))
        with self.member(first) as member:
            messages = member.take(100)
            self.assertEqual(self.acknowledge(second, messages[50]), {})
            member.settle(100)
            failed = [f for frame in member.frames for f in frame.failures]
            self.assertLessEqual({(f.sequence, f.code) for f in failed}, {(messages[50].sequence, ABORTED)})
            self.is_settled(first)

    def test_the_server_that_delivered_is_dead(self):
        first, second = self.two()
        self.publish(first, *range(5))
        with self.member(first) as member:
            messages = member.take(5)
            first.process.kill()
        self.assertEqual(self.acknowledge(second, *messages), {})
        with self.member(second) as member:
            self.publish(second, 5)
            self.assertEqual([m.payload for m in member.take(1)], [b"5"])
            self.assertEqual(self.acknowledge(second, *messages[:1]), {0: ABORTED})
            self.assertEqual(self.acknowledge(second, *member.frames[-1].messages), {})
            # What the dead one had asked for may have been the new message: then it comes with its second attempt.
            self.assertEqual([m.payload for frame in member.frames for m in frame.messages], [b"5"])
            self.assertEqual(self.broker.unsettled(self.topic), 0)

    def test_a_delivery_that_was_given_to_somebody_else(self):
        """By the same process, without the source's knowing: its attempt and its place are the same."""
        first, second = self.two()
        self.publish(first, 0)
        with self.member(first) as member:
            old, = member.take(1)
            member.half_close()
            member.rest()
        with self.member(first) as member:
            new, = member.take(1)
            self.assertEqual((new.attempt, new.position), (old.attempt, old.position))
            self.assertNotEqual(new.ack_token, old.ack_token)
            self.assertEqual(self.acknowledge(second, old), {0: ABORTED})
            self.assertEqual(self.acknowledge(second, new, old), {1: ABORTED})
            self.is_settled(first)

    def test_members_of_one_group(self):
        """The feed stays, and one of its members leaves."""
        first, second = self.two()
        with self.member(first, consumer_id="a", max_in_flight=1) as one:
            self.publish(first, 0)
            old, = one.take(1)
            with self.member(first, consumer_id="b") as two:
                one.half_close()
                one.rest()
                new, = two.take(1)
                self.assertEqual((new.attempt, new.position), (old.attempt, old.position))
                self.assertEqual(self.acknowledge(second, old, new), {0: ABORTED})
                self.is_settled(first)

    def test_a_lease_that_ran_out(self):
        first, second = self.two()
        self.publish(first, 0)
        with self.member(first, lease_ms=2000) as member:
            old, new = member.take(2)
            self.assertEqual((old.attempt, new.attempt), (1, 2))
            self.assertEqual(self.acknowledge(second, old), {0: ABORTED})
            self.assertEqual(self.acknowledge(second, new), {})
            self.assertEqual(self.broker.unsettled(self.topic), 0)

    def test_a_lease_that_would_run_out(self):
        """What was settled elsewhere does not come again when its lease ends, and nothing has failed."""
        first, second = self.two()
        self.publish(first, 0)
        with self.member(first, lease_ms=2000) as member:
            self.assertEqual(self.acknowledge(second, *member.take(1)), {})
            self.is_settled(first)
            self.publish(first, 1)
            again = [m.payload for m in member.take(2)]
            self.assertEqual(again, [b"1", b"1"], "two leases later only the other one came again")

    def test_order_per_key_goes_on(self):
        first, second = self.two()
        if QUEUE:
            with self.assertRaises(grpc.RpcError) as refused, self.member(first, order=consumed.ORDER_PER_KEY):
                pass
            self.assertEqual(refused.exception.code(), grpc.StatusCode.UNIMPLEMENTED, "queues keep no order of keys")
            return
        self.publish(first, 0, 1, 2, key=b"k")
        with self.member(first, order=consumed.ORDER_PER_KEY) as member:
            for n in range(3):
                message, = member.take(1)
                self.assertEqual(message.payload, b"%d" % n)
                self.assertEqual(member.pending, [])
                self.assertEqual(self.acknowledge(second, message), {})
            self.is_settled(first)

    def test_what_is_no_token(self):
        first, second = self.two()
        self.publish(first, *range(3))
        with self.member(first) as member:
            a, b, c = (m.ack_token for m in member.take(3))
            self.assertLess(len(a), 256)
            flipped = bytes([a[0] ^ 0x80]) + a[1:]
            wrong = [b"", b"\0", a[:-1], a + b"\0", flipped, a[:20] + bytes([a[20] ^ 1]) + a[21:], bytes(2000)]
            self.assertEqual(self.acknowledge(second, *wrong, b), dict.fromkeys(range(len(wrong)), INVALID))
            other = consumer_service(self.borrow(second.channel()), namespace="other")
            reply = other.Acknowledge(deliveries={"ack_tokens": [a]})
            self.assertEqual([f.code for f in reply.failures], [INVALID], "another namespace's")
            self.assertEqual(self.acknowledge(second, a, c), {})
            self.is_settled(first)

    def test_how_tokens_are_rejected(self):
        first, second = self.two()
        self.publish(first, 0, 1)
        with self.member(first) as member:
            messages = member.take(2)
            tokens = {"ack_tokens": [messages[0].ack_token]}
            for disposition in (settlement.RETRY, settlement.RELEASE, settlement.DEAD_LETTER):
                self.refused(grpc.StatusCode.FAILED_PRECONDITION, second.consumer.Reject, deliveries=tokens,
                             disposition=disposition)
            self.refused(grpc.StatusCode.UNIMPLEMENTED, second.consumer.Extend, deliveries=tokens, lease_ms=1000)
            self.refused(grpc.StatusCode.INVALID_ARGUMENT, second.consumer.Acknowledge,
                         deliveries={**tokens, "through": 1})
            self.refused(grpc.StatusCode.INVALID_ARGUMENT, second.consumer.Acknowledge,
                         deliveries={"ack_tokens": [b"x"] * 10001})
            reply = second.consumer.Reject(deliveries=tokens, disposition=settlement.DROP)
            self.assertEqual((reply.rejected_count, len(reply.failures)), (1, 0))
            self.assertEqual(self.acknowledge(second, messages[1]), {})
            self.is_settled(first)
            self.assertEqual(second.metric("prism_consumer_settlements_total", outcome="dropped"), 1)

    def test_only_for_who_asks(self):
        first, _ = self.two()
        self.publish(first, 0)
        with self.member(first, ack_tokens=False) as member:
            self.assertEqual(member.take(1)[0].ack_token, b"")
            member.settle(1)

    def test_a_seek_makes_them_void(self):
        first, second = self.two()
        self.publish(first, 0)
        if QUEUE:
            with self.assertRaises(grpc.RpcError) as refused:
                first.consumer.Seek(topic=self.topic, consumer_group="g", position=consumed.EARLIEST)
            self.assertEqual(refused.exception.code(), grpc.StatusCode.UNIMPLEMENTED, "queues know no seek")
            return
        with self.member(first) as member:
            old, = member.take(1)
            first.consumer.Seek(topic=self.topic, consumer_group="g", position=consumed.EARLIEST)
            new, = member.take(1)
            self.assertEqual((new.attempt, new.position), (old.attempt, old.position))
            self.assertEqual(self.acknowledge(second, old, new), {0: ABORTED})
            self.is_settled()


if __name__ == "__main__":
    suite.main()
