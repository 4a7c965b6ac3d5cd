"""Load that ends by itself: callers in closed loop on one thread each, with every outcome counted."""
import collections
import threading
import time

import grpc


class Load:
    """`width` calls in flight all the time until stop(). make(i) -> a future; outcomes by status code.

    Every started call is waited for: `started` and the sum of `outcomes` are equal at the end, or calls were lost.
    """

    def __init__(self, make, width, inspect=None):
        self.make, self.inspect = make, inspect
        self.lock = threading.Lock()
        self.started = 0
        self.outcomes = collections.Counter()
        self.late_seconds = 0.0         # worst of (time of the answer - its deadline)
        self.unexpected = []
        self.stopping = threading.Event()
        self.idle = threading.Event()
        self.in_flight = 0
        for _ in range(width):
            self._start()

    def _start(self):
        with self.lock:
            if self.stopping.is_set():
                return
            number = self.started
            self.started += 1
            self.in_flight += 1
        begin = time.monotonic()
        future = self.make(number)
        future.add_done_callback(lambda f: self._done(f, number, time.monotonic() - begin))

    def _done(self, future, number, seconds):
        try:
            code = future.code()
            fault = self.inspect and self.inspect(future, number, seconds)
        except Exception as e:  # noqa: BLE001  (reported by the test)
            code, fault = grpc.StatusCode.UNKNOWN, repr(e)
        with self.lock:
            self.outcomes[code] += 1
            if fault:
                self.unexpected.append(fault)
            self.in_flight -= 1
            if self.stopping.is_set() and self.in_flight == 0:
                self.idle.set()
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED):
            time.sleep(0.0005)           # a refused caller does not spin
        self._start()

    def count(self, code=grpc.StatusCode.OK):
        with self.lock:
            return self.outcomes[code]

    def stop(self, seconds):
        """No new calls; waits for the answers to all that were started. Returns the outcomes."""
        with self.lock:
            self.stopping.set()
            if self.in_flight == 0:
                self.idle.set()
        if not self.idle.wait(seconds):
            raise AssertionError(f"{self.in_flight} of {self.started} calls have no answer after {seconds} s")
        assert sum(self.outcomes.values()) == self.started
        return dict(self.outcomes)
