"""What was published, acknowledged, delivered: numbers for each key, so that memory does not grow with messages.

Message n of a key is the n-th that its only publisher made for it, from 1. So "nothing lost" and "in order" are
statements about counters: a delivery of number n is a first one when n is new, a repeat when n was seen, and out of
order when it is new and n - 1 was not seen.
"""
import array
import struct
import threading

MESSAGE = struct.Struct("<IQ")
PADDING = b"." * 52
AHEAD_MOST = 200000     # numbers that were seen before their predecessors; more cannot be in flight
EXAMPLES = 10


def pack(key, number):
    """The payload of one message: 64 bytes."""
    return MESSAGE.pack(key, number) + PADDING


def unpack(payload):
    return MESSAGE.unpack_from(payload)


def stands_behind(place, other):
    """Places are as the source writes them: numbers with dashes between them."""
    return [int(n) for n in place.split("-")] > [int(n) for n in other.split("-")]


class Faults:
    """What must not be. The first few of each kind are kept for people, all are counted."""

    def __init__(self):
        self.lock, self.counts, self.examples = threading.Lock(), {}, []

    def add(self, kind, example):
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            if self.counts[kind] <= EXAMPLES:
                self.examples.append(f"{kind}: {example}")


class Progress:
    """The numbers of each key that have passed: all up to through[key], and those in ahead[key]."""

    def __init__(self, keys):
        self.through = array.array("Q", bytes(8 * keys))
        self.ahead, self.n_ahead = {}, 0

    def add(self, key, number):
        """0: it is the next one. 1: it was there before. 2: it is new, but one before it is missing."""
        next_number = self.through[key] + 1
        if number < next_number:
            return 1
        if number > next_number:
            ahead = self.ahead.setdefault(key, set())
            if number in ahead:
                return 1
            ahead.add(number)
            self.n_ahead += 1
            assert self.n_ahead < AHEAD_MOST, "more is missing than can be in flight"
            return 2
        self.through[key] = number
        if key in self.ahead:
            self._catch_up(key, number)
        return 0

    def _catch_up(self, key, number):
        ahead = self.ahead[key]
        while number + 1 in ahead:
            number += 1
            ahead.remove(number)
            self.n_ahead -= 1
        self.through[key] = number
        if not ahead:
            del self.ahead[key]

    def missing(self, expected):
        """(key, first number that is missing, last one expected) of each key that lacks some."""
        return [(k, self.through[k] + 1, n) for k, n in enumerate(expected) if self.through[k] < n]


class Published:
    """What publishers sent and what was acknowledged to them. A key has one publisher, so nothing is locked."""

    def __init__(self, keys, faults):
        self.sent = array.array("Q", bytes(8 * keys))
        self.acknowledged = array.array("Q", bytes(8 * keys))
        self.faults = faults

    def next(self, key):
        self.sent[key] += 1
        return self.sent[key]

    def stored(self, key, number):
        """Acknowledged. One of a key is never stored before its predecessor: it would have overtaken that."""
        if number != self.acknowledged[key] + 1:
            self.faults.add("stored before its predecessor", f"key {key}: {number} after {self.acknowledged[key]}")
        self.acknowledged[key] = number


class Group:
    """What the members of a consumer group got. `ordered`: the first delivery of n comes after that of n - 1."""

    def __init__(self, name, published, ordered):
        self.name, self.published, self.ordered = name, published, ordered
        keys = len(published.sent)
        self.lock = threading.Lock()
        self.seen = Progress(keys)
        # The highest number of each key whose settlement was confirmed. In order, so are all before it.
        self.settled = array.array("Q", bytes(8 * keys))
        self.places = [""] * keys       # of the latest first delivery
        self.firsts = self.repeats = self.out_of_order = self.repeats_of_settled = 0

    def delivered(self, messages):
        """[(key, number, place in the log)] in the order in which one member got them."""
        with self.lock:
            for message in messages:
                self._delivered(*message)

    def _delivered(self, key, number, place):
        if number > self.published.sent[key]:
            self.published.faults.add("never published", f"{self.name}, key {key}: {number}")
        how = self.seen.add(key, number)
        if how == 1:
            self.repeats += 1
            # One that stands behind its successors in the log is there for the second time.
            if number <= self.settled[key] and not stands_behind(place, self.places[key]):
                self.repeats_of_settled += 1
            return
        self.firsts += 1
        self.places[key] = place
        if how == 2:
            self.out_of_order += 1
            if self.ordered:
                self.published.faults.add("out of order", f"{self.name}, key {key}: {number} is the first after "
                                          f"{self.seen.through[key]}")

    def confirmed(self, messages):
        """The server said that these are settled for good."""
        with self.lock:
            for key, number in messages:
                self.settled[key] = max(self.settled[key], number)

    def complete(self):
        """All that was acknowledged has come."""
        return not self.seen.missing(self.published.acknowledged)
