"""Publishers and members that go on whatever happens: they find another server, send again, settle again."""
import collections
import random
import threading
import time

import grpc

from ledger import pack, unpack
from prism.patterns.consumer import settlement_pb2 as settlement
from rig.messaging import Stream, consumed, consumer_service, pb, producer_service

FRAME = 200
WINDOW_FRAMES = 10
RECONNECT_SECONDS = 0.05
CALL_SECONDS = 60
MAX_IN_FLIGHT = 2000
ANSWER_AT, ANSWER_SECONDS = 400, 0.02    # deliveries are answered together, or this client is the limit
HOT_KEYS, HOT_SHARE = 4, 0.004  # of a publisher; a key that is read in order takes one message for each round trip


class Client(threading.Thread):
    """Does one stream or call after the other until it is told to end; `servers` are those that may be asked."""

    def __init__(self, servers, seed):
        super().__init__(daemon=True)
        self.servers, self.random, self.ending = servers, random.Random(seed), False
        self.error, self.last_error = None, None    # what ended it; what ended a session

    def run(self):
        try:
            while not self.is_over():
                server = self.random.choice(list(self.servers))
                try:
                    with server.channel() as channel:
                        self.session(channel)
                except (grpc.RpcError, StopIteration) as e:
                    self.last_error = e
                time.sleep(RECONNECT_SECONDS)
        except Exception as e:  # noqa: BLE001  (told by the main thread)
            self.error = e
            raise


class Publisher(Client):
    """Keys first, first + 1 ..; sends what is not stored again, in order, until it is."""

    def __init__(self, servers, seed, run, first_key, keys):
        super().__init__(servers, seed)
        self.ledger, self.run_state = run.published, run
        self.first, self.keys, self.turn = first_key, keys, 0
        self.again = []             # to be sent before anything new, in order
        self.uncertain = 0          # of those, how many may have been stored already
        self.stored = 0

    def is_over(self):
        return not self.again and self.run_state.published_enough(self)

    def next_frame(self):
        """[(key, number)], at most FRAME."""
        frame, self.again = self.again[:FRAME], self.again[FRAME:]
        if not frame and not self.run_state.published_enough(self):
            for _ in range(FRAME):
                if self.random.random() < HOT_SHARE:
                    key = self.first + self.random.randrange(HOT_KEYS)
                else:
                    self.turn = (self.turn + 1) % self.keys
                    key = self.first + self.turn
                frame.append((key, self.ledger.next(key)))
        return frame

    def requests(self, frame):
        ids, topic = self.run_state.with_ids, self.run_state.topic
        return [pb.PublishRequest(topic=topic, payload=pack(k, n), ordering_key=b"%d" % k,
                                  **({"message_id": f"{k}-{n}"} if ids else {})) for k, n in frame]

    def settle(self, messages, failures):
        """failures: {index: outcome}. Returns those that are to be sent again."""
        again = []
        for i, message in enumerate(messages):
            if i in failures:
                again.append(message)
                self.uncertain += failures[i] == pb.OUTCOME_UNKNOWN
            else:
                self.ledger.stored(*message)
                self.stored += 1
        return again

    def lost(self, messages):
        """Without an answer: each may be stored or not. They come before what waits already, which is younger."""
        self.uncertain += len(messages)
        self.again = messages + self.again


class BatchPublisher(Publisher):
    """One PublishBatch after the other."""

    def session(self, channel):
        service = producer_service(channel, timeout=CALL_SECONDS)
        while frame := self.next_frame():
            try:
                reply = service.PublishBatch(messages=self.requests(frame))
            except grpc.RpcError:
                self.lost(frame)
                raise
            failures = {i: r.outcome for i, r in enumerate(reply.results) if r.outcome != pb.STORED}
            self.again = self.settle(frame, failures) + self.again
            if failures:
                time.sleep(RECONNECT_SECONDS)
            self.run_state.hold_back()


class StreamPublisher(Publisher):
    """PublishStream with several frames under way. After a failure everything under way is waited for; what failed is
    sent again, and only then is anything new."""

    def session(self, channel):
        self.under_way, self.base = collections.deque(), 1   # unsettled messages; the number of the first
        self.failed = []
        try:
            with Stream(producer_service(channel).PublishStream, timeout=10 * CALL_SECONDS) as stream:
                self.read(stream)
                self.go_on(stream)
        finally:
            self.again += self.failed
            self.lost(list(self.under_way))
            self.again.sort(key=lambda m: m[1])     # by number: each key in its order

    def go_on(self, stream):
        resume = False
        while True:
            while not self.failed and len(self.under_way) < WINDOW_FRAMES * FRAME and (frame := self.next_frame()):
                self.under_way.extend(frame)
                stream.send(pb.PublishFrame(topic=self.run_state.topic, resume=resume, messages=self.requests(frame)))
                resume = False
                self.run_state.hold_back()
            if self.under_way:
                self.read(stream)
            elif self.failed:
                self.again = sorted(self.failed + self.again, key=lambda m: m[1])
                self.failed, resume = [], True
                time.sleep(RECONNECT_SECONDS)
            else:
                return

    def read(self, stream):
        ack = stream.next()
        failures = {f.sequence - self.base: f.outcome for f in ack.failures}
        messages = [self.under_way.popleft() for _ in range(ack.settled_through - self.base + 1)]
        self.base += len(messages)
        self.failed += self.settle(messages, failures)


class Member(Client):
    """One of a group. leave(): gives back what it holds; vanish(): its connection breaks. It then comes again."""

    def __init__(self, servers, seed, group, topic, lose=0, per_key=True):
        super().__init__(servers, seed)
        self.group, self.topic, self.lose, self.per_key = group, topic, lose, per_key
        self.stream, self.frames, self.half_closed = None, 0, False
        self.rough = False      # rejects some
        self.answering = threading.Lock()
        self.last = self.answered = 0

    def is_over(self):
        return self.ending

    def session(self, channel):
        subscribe = consumed.SubscribeRequest(
            topic=self.topic, consumer_group=self.group.name, max_in_flight=MAX_IN_FLIGHT, if_none=consumed.EARLIEST,
            order=consumed.ORDER_PER_KEY if self.per_key else consumed.ORDER_NONE)
        self.held, self.void, self.half_closed = collections.deque(), set(), False
        self.last = self.answered = 0       # sequences
        with Stream(consumer_service(channel).Consume, timeout=3600) as self.stream:
            self.stream.send(consumed.ConsumeRequest(subscribe=subscribe))
            while not self.ending:
                self.frame(self.stream.next())

    def frame(self, frame):
        if frame.messages:
            got = [(m.sequence, *unpack(m.payload)) for m in frame.messages]
            if self.lose:
                self.lose, got = self.lose - 1, got[1:]
            places = [m.position for m in frame.messages[-len(got):]]
            self.group.delivered([(k, n, place) for (_, k, n), place in zip(got, places)])
            self.held.extend(got)
            self.frames += 1
            self.last = frame.messages[-1].sequence
            if self.last - self.answered >= ANSWER_AT:
                self.answer()
        again = []
        for failure in frame.failures:
            if failure.code in (grpc.StatusCode.UNAVAILABLE.value[0], grpc.StatusCode.DEADLINE_EXCEEDED.value[0]):
                again.append(failure.sequence)
            else:
                self.void.add(failure.sequence)
        if again and not self.half_closed:
            self.stream.send(consumed.ConsumeRequest(ack={"sequences": again}))
        self.settled(frame)

    def answer(self):
        """All that came is done, most of the time; else it is tried again, or given back."""
        with self.answering:
            through = self.last
            if self.half_closed or through == self.answered:
                return
            self.answered, chance = through, self.random.random()
            if chance < 0.99 or not self.rough:
                self.stream.send(consumed.ConsumeRequest(ack={"through": through}))
                return
            how = settlement.RETRY if chance < 0.995 else settlement.RELEASE
            self.void.update(s for s, _, _ in list(self.held))
            self.stream.send(consumed.ConsumeRequest(reject={"through": through, "disposition": how, "delay_ms": 20}))

    def settled(self, frame):
        for revoked in frame.revoked:
            self.void.update(revoked.sequences)
            self.void.update(s for s, _, _ in self.held if s <= revoked.through)
        done = []
        while self.held and self.held[0][0] <= frame.settled_through:
            sequence, key, number = self.held.popleft()
            if sequence in self.void:
                self.void.discard(sequence)
            else:
                done.append((key, number))
        if done:
            self.group.confirmed(done)

    def leave(self):
        with self.answering:
            self.half_closed = True
        if self.stream:
            self.stream.half_close()

    def vanish(self):
        if self.stream:
            self.stream.answers.cancel()

    def end(self):
        self.ending = True
        self.vanish()


def answer_all(members):
    """Answers what has waited for long enough, until all members have ended; a thread of its own."""
    while not all(m.ending for m in members):
        time.sleep(ANSWER_SECONDS)
        for member in members:
            member.answer()
