"""The messaging patterns, as clients see them."""
import queue
import unittest

from rig.wire import Service
from prism.patterns.consumer import consumer_pattern_pb2 as consumed
from prism.patterns.producer import producer_pattern_pb2 as pb


def producer_service(channel, namespace=None, **options):
    """Raw access to ProducerPattern."""
    return Service(channel, pb.DESCRIPTOR.services_by_name["ProducerPattern"], namespace, **options)


def producer(slot_config, name="default", state=None, objects=None, **behavior):
    """A namespace of the producer pattern."""
    slots = {"message_sink": slot_config, "state_store": state, "object_store": objects}
    return {"name": name, "pattern": "producer", "slots": {k: v for k, v in slots.items() if v}, "behavior": behavior}


def consumer_service(channel, namespace=None, **options):
    """Raw access to ConsumerPattern."""
    return Service(channel, consumed.DESCRIPTOR.services_by_name["ConsumerPattern"], namespace, **options)


def consumer(slot_config, name="default", dead_letters=None, objects=None, state=None, **behavior):
    """A namespace of the consumer pattern."""
    slots = {"message_source": slot_config, "dead_letter_queue": dead_letters, "object_store": objects,
             "state_store": state}
    return {"name": name, "pattern": "consumer", "slots": {k: v for k, v in slots.items() if v}, "behavior": behavior}


def topics_of(case):
    """A topic for each test, with that of its dead letters."""
    names = unittest.defaultTestLoader.getTestCaseNames(case)
    return [topic for name in names for topic in (name, name + ".g.dead")]


class Stream:
    """A bidirectional stream that is driven step by step. with Stream(service.PublishStream) as s: s.send(..)"""

    END = object()

    def __init__(self, method, **options):
        self.outgoing = queue.Queue()
        self.answers = method(message=iter(self.outgoing.get, Stream.END), **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.outgoing.put(Stream.END)
        self.answers.cancel()

    def send(self, message):
        self.outgoing.put(message)

    def half_close(self):
        self.outgoing.put(Stream.END)

    def next(self):
        return next(self.answers)

    def until(self, condition):
        """Answers up to the first for which the condition holds, which comes last."""
        seen = []
        for answer in self.answers:
            seen.append(answer)
            if condition(answer):
                return seen
        raise AssertionError("the stream ended")

    def rest(self):
        return list(self.answers)


class Member(Stream):
    """A member of a group. with Member(service, topic="t", consumer_group="g") as m: m.take(3)"""

    def __init__(self, service, **subscribe):
        super().__init__(service.Consume, timeout=60)
        self.frames, self.pending, self.settled_through = [], [], 0
        self.send(consumed.ConsumeRequest(subscribe=consumed.SubscribeRequest(**subscribe)))

    def __enter__(self):
        self.started = self.frame().started
        return self

    def frame(self):
        frame = self.next()
        self.frames.append(frame)
        self.pending.extend(frame.messages)
        self.settled_through = frame.settled_through
        return frame

    def take(self, n):
        """The next n messages."""
        while len(self.pending) < n:
            self.frame()
        taken, self.pending = self.pending[:n], self.pending[n:]
        return taken

    def told(self, condition):
        """The first frame for which the condition holds."""
        while True:
            frame = self.frame()
            if condition(frame):
                return frame

    def acknowledge(self, *sequences, through=0):
        self.send(consumed.ConsumeRequest(ack={"sequences": sequences, "through": through}))

    def reject(self, *sequences, **how):
        self.send(consumed.ConsumeRequest(reject={"sequences": sequences, **how}))

    def credit(self, messages=0, size=0):
        self.send(consumed.ConsumeRequest(credit={"messages": messages, "bytes": size}))

    def settle(self, through):
        """Acknowledges, and waits until the source has it."""
        self.acknowledge(through=through)
        while self.settled_through < through:
            self.frame()
