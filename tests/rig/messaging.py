"""The messaging patterns, as clients see them."""
import queue

from rig.wire import Service
from prism.patterns.producer import producer_pattern_pb2 as pb


def producer_service(channel, namespace=None, **options):
    """Raw access to ProducerPattern."""
    return Service(channel, pb.DESCRIPTOR.services_by_name["ProducerPattern"], namespace, **options)


def producer(slot_config, name="default", state=None, objects=None, **behavior):
    """A namespace of the producer pattern."""
    slots = {"message_sink": slot_config, "state_store": state, "object_store": objects}
    return {"name": name, "pattern": "producer", "slots": {k: v for k, v in slots.items() if v}, "behavior": behavior}


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
