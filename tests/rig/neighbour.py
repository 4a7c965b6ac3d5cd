"""Waits of a polite client beside something rude, on a machine that has other work as well.

Another polite client, on a server that nothing is done to, runs at the same time. What the machine does it does to
both; what the first waits beyond the second is the server's doing, and that is bounded."""
import threading
import time

from rig import environment

EVERY = 0.02                                # 50 calls a second
SLOWER = 32 if environment.SANITIZER else 1


class Polite(threading.Thread):
    """Calls 50 times a second, one call after the other."""

    def __init__(self, call):
        super().__init__()
        self.call, self.ended = call, threading.Event()
        self.waits, self.failures = [], []

    def run(self):
        due = time.monotonic()
        while not self.ended.wait(max(0, due - time.monotonic())):
            due = max(due + EVERY, time.monotonic() - 1)
            start = time.monotonic()
            try:
                self.call()
            except Exception as e:  # pylint: disable=broad-except
                self.failures.append(str(e))
            self.waits.append(time.monotonic() - start)

    @property
    def worst(self):
        return max(self.waits)


class Pair:
    """with Pair(call, control) as pair: ... Both are Polite; both have ended after it."""

    def __init__(self, call, control):
        self.polite, self.control = Polite(call), Polite(control)

    def __enter__(self):
        self.control.start()
        self.polite.start()
        return self

    def __exit__(self, *_):
        for client in (self.polite, self.control):
            client.ended.set()
        for client in (self.polite, self.control):
            client.join()

    def waited(self):
        """The worst wait in seconds that is not the machine's."""
        return self.polite.worst - self.control.worst

    def __str__(self):
        return (f"{len(self.polite.waits)} calls, {len(self.polite.failures)} failed, worst "
                f"{self.polite.worst * 1000:.0f} ms; beside it, worst {self.control.worst * 1000:.0f} ms")


def waits_at_most(case, seconds, measure):
    """measure() returns a Pair. It measures once more if the control, too, had to wait for half as long."""
    seconds *= SLOWER
    pair = measure()
    if pair.waited() > seconds and pair.control.worst > seconds / 2:
        pair = measure()
    case.assertEqual(pair.polite.failures, [])
    case.assertLessEqual(pair.waited(), seconds, pair)
    return pair
