"""redis-stream through prismd: answers that are cut anywhere, and processes that die with messages in hand."""
import threading
import time

import grpc

from rig import environment, http2, suite, wait
from rig.messaging import Member, Stream, consumer, consumer_service, pb, producer, producer_service
from rig.prismd import Prismd
from rig.proxy import Proxy
from rig.redis import RedisServer

MESSAGES = 4000
BATCH = 50
PUBLISH = "/prism.patterns.producer.ProducerPattern/Publish"


def overdue(server):
    """Half a request on a connection of its own: returns when the server has ended it for its age."""
    with http2.connection(server.port, environment.PATIENCE) as slow:
        slow.sendall(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.headers(PUBLISH)))
        http2.Reader(slow).until_ended({1})


def serve(case, address, **settings):
    slot = {"backend": "redis-stream", "config": {"address": address, "claim_idle_ms": 1000, **settings}}
    return case.borrow(Prismd(workers=1, namespaces=[producer(slot), consumer(slot)]))


class Publisher(threading.Thread):
    """Publishes numbers, each until it is stored."""

    def __init__(self, rpc):
        super().__init__()
        self.rpc = rpc
        self.start()

    def run(self):
        for first in range(0, MESSAGES, BATCH):
            left = list(range(first, first + BATCH))
            while left:
                left = self.publish(left)

    def publish(self, numbers):
        try:
            reply = self.rpc.PublishBatch(messages=[
                pb.PublishRequest(topic="t", payload=b"%d" % n, ordering_key=b"%d" % (n % 7)) for n in numbers])
        except grpc.RpcError:
            return numbers
        return [n for n, result in zip(numbers, reply.results) if not result.success]


class Settler(Member):
    """Acknowledges each message until that is carried out, or the message is no longer its own."""

    def frame(self):
        frame = super().frame()
        again = [f.sequence for f in frame.failures if f.code != grpc.StatusCode.ABORTED.value[0]]
        if again:
            time.sleep(wait.STEP / 10)
            self.acknowledge(*again)
        return frame


class Streams(suite.Case):
    def setUp(self):
        self.redis = self.borrow(RedisServer())

    def member(self, server, kind=Member):
        return kind(consumer_service(self.borrow(server.channel())), topic="t", consumer_group="g")

    def test_answers_that_are_cut_anywhere(self):
        """Every number comes that was stored: also those that Redis had given away in half an answer."""
        proxy = self.borrow(Proxy(self.redis.port))
        server = serve(self, proxy.address)
        publisher = Publisher(producer_service(self.borrow(server.channel())))
        seen, cuts = set(), 0
        with self.member(server, Settler) as member:
            while len(seen) < MESSAGES:
                message, = member.take(1)
                member.acknowledge(message.sequence)
                seen.add(int(message.payload))
                if len(seen) > cuts * 600:
                    cuts += 1
                    proxy.cut(after=1500 * cuts)
                    proxy.cut()
            publisher.join()
            while self.redis.call("XPENDING", "t", "g")[0] > 0:
                member.frame()
                for message in member.take(len(member.pending)):
                    member.acknowledge(message.sequence)
        self.assertGreater(cuts, 4)

    def test_a_stream_that_is_held_back_is_not_overdue(self):
        """Redis stands still, so the client may send no more, in the middle of a frame, for longer than a request may
        take. Half a request of another client, which could go on, ends in that time."""
        slot = {"backend": "redis-stream", "config": {"address": self.redis.address}}
        server = self.borrow(Prismd(namespaces=[producer(slot, window=1000)], limits={"request_timeout_ms": 500}))
        rpc = producer_service(self.borrow(server.channel()))
        self.assertTrue(rpc.Publish(topic="t", payload=b"first").success)
        with Stream(rpc.PublishStream, timeout=environment.PATIENCE) as stream:
            stream.next()
            self.redis.pause()
            for _ in range(1000):
                stream.send(pb.PublishFrame(topic="t", messages=[pb.PublishRequest(payload=bytes(3000))] * 10))
            wait.until(lambda: rpc.GetStats().unsettled >= 1000, environment.PATIENCE, "the window is full")
            for _ in range(3):
                overdue(server)
            self.assertEqual(server.metric("prism_requests_overdue_total"), 3)
            self.assertGreater(server.metric("prism_requests_incomplete_bytes"), 0, "it was not held within a frame")
            self.redis.resume()
            stream.half_close()
            self.assertEqual(stream.rest()[-1].success_count, 10_000)
            self.assertEqual(stream.answers.code(), grpc.StatusCode.OK)
        self.assertEqual(server.metric("prism_requests_overdue_total"), 3)

    def test_a_killed_process_gives_up_what_it_held(self):
        first, second = serve(self, self.redis.address), serve(self, self.redis.address)
        rpc = producer_service(self.borrow(second.channel()))
        with self.member(first) as dying:
            self.assertTrue(rpc.PublishBatch(messages=[
                pb.PublishRequest(topic="t", payload=b"%d" % n) for n in range(10)]).all_success)
            held = dying.take(10)
            dying.settle(4)
            first.process.kill()
        with self.member(second) as member:
            taken = member.take(6)
            self.assertEqual([m.payload for m in taken], [m.payload for m in held[4:]])
            self.assertEqual({m.attempt for m in taken}, {2})
            member.settle(6)
        self.assertEqual(self.redis.call("XPENDING", "t", "g")[0], 0)

    def test_a_drained_process_hands_over_at_once(self):
        """C16: without an attempt, and without waiting for claim_idle_ms."""
        first, second = serve(self, self.redis.address), serve(self, self.redis.address, claim_idle_ms=600000)
        rpc = producer_service(self.borrow(second.channel()))
        self.assertTrue(rpc.PublishBatch(messages=[
            pb.PublishRequest(topic="t", payload=b"%d" % n) for n in range(20)]).all_success)
        with self.member(first) as leaving:
            leaving.take(20)  # alone: two members would share them
            with self.member(second) as member:
                leaving.half_close()
                leaving.rest()
                taken = member.take(20)
                self.assertEqual([(int(m.payload), m.attempt) for m in taken], [(n, 1) for n in range(20)])
                member.settle(20)


if __name__ == "__main__":
    suite.main()
