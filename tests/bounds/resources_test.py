"""What the embedded store and an idle process may take: turns of a neighbour, threads, descriptors, memory."""
import os
import signal
import time
import unittest

from rig import backends, environment, suite, wait
from rig.keyvalue import pb, pattern_service
from rig.prismd import Prismd

MIB = 1 << 20
KEYS = 200000
COUNTS = 50 if environment.SANITIZER else 200


def memstore():
    return [backends.keyvalue({"backend": "memstore", "config": {}}, max_batch_items=10000)]


def batch(keys, value=b"v"):
    return [pb.StoreRequest(key=key, value=value) for key in keys]


def fill(kv, keys):
    for start in range(0, keys, 10000):
        kv.StoreBatch(requests=batch(f"key-{i:08d}" for i in range(start, start + 10000)))


def entries(server, folder):
    return len(os.listdir(f"/proc/{server.pid}/{folder}"))


class Enumerations(suite.Case):
    """The counts of a large store share one slice of each turn of a worker."""

    def serve(self):
        server = self.borrow(Prismd(namespaces=memstore(), workers=1, drain_timeout_ms=500,
                                    limits={"connection_share_percent": 100}))
        kv = pattern_service(self.borrow(server.channel()))
        fill(kv, KEYS)
        return server, kv

    def test_counts_spare_a_neighbour(self):
        server, kv = self.serve()
        other = pattern_service(self.borrow(server.channel()))
        requests = batch((f"other-{i}" for i in range(100)), b"v" * 64)
        begin = time.monotonic()
        counts = [kv.Count.future(prefix="key-", timeout=environment.PATIENCE) for _ in range(COUNTS)]
        slowest = 0
        while not all(count.done() for count in counts):
            start = time.monotonic()
            other.StoreBatch(requests=requests, timeout=environment.PATIENCE)
            slowest = max(slowest, time.monotonic() - start)
        self.assertEqual({count.result().count for count in counts}, {KEYS})
        # Without turns the neighbour waits for nearly all of them.
        self.assertLess(slowest, (time.monotonic() - begin) / 4)

    def test_sigterm_does_not_wait_for_counts(self):
        server, kv = self.serve()
        begin = time.monotonic()
        kv.Count(prefix="key-")
        one = time.monotonic() - begin
        counts = [kv.Count.future(prefix="key-", timeout=environment.PATIENCE) for _ in range(10 * COUNTS)]
        wait.until(lambda: counts[0].done(), environment.PATIENCE, "the counts run")
        begin = time.monotonic()
        server.process.signal(signal.SIGTERM)
        self.assertIn(server.process.wait(environment.PATIENCE), (0, 3))
        self.assertLess(time.monotonic() - begin, 0.5 + 10 * COUNTS * one / 2)
        self.assertFalse(all(count.exception() is None for count in counts))


class Process(suite.Case):
    """Threads, descriptors and memory go back to what an idle process has."""

    def test_threads_and_descriptors(self):
        server = self.borrow(Prismd(namespaces=memstore(), workers=2))
        with server.channel() as channel:
            pattern_service(channel).Store(key="k", value=b"v")
        descriptors, threads = entries(server, "fd"), entries(server, "task")
        channels = [server.channel() for _ in range(50)]
        for channel in channels:
            calls = [pattern_service(channel).Store.future(key=f"k{i}", value=b"v") for i in range(20)]
            self.assertTrue(all(call.result().success for call in calls))
        self.assertLessEqual(entries(server, "fd"), descriptors + len(channels) + 4)
        self.assertLessEqual(entries(server, "task"), threads + 2)      # gRPC's own come and go
        for channel in channels:
            channel.close()
        wait.until(lambda: entries(server, "fd") <= descriptors + 1, environment.PATIENCE, "descriptors are given back")

    @unittest.skipIf(environment.SANITIZER, "the allocator is the sanitizer's")
    def test_memory_of_an_empty_server(self):
        """Most of it is the program and its libraries; what the start alone has read of them goes."""
        server = self.borrow(Prismd(namespaces=memstore(), workers=2))
        wait.until(lambda: server.process.resident_bytes() < 20e6, environment.PATIENCE, "the start is forgotten")

    @unittest.skipIf(environment.SANITIZER, "the allocator is the sanitizer's")
    def test_memory_comes_back(self):
        server = self.borrow(Prismd(namespaces=memstore(), workers=2))
        channels = [self.borrow(server.channel()) for _ in range(4)]
        services = [pattern_service(channel) for channel in channels]
        for kv in services:
            kv.Store(key="k", value=b"v" * 1000)
        before, peak = server.process.resident_bytes(), 0
        for _ in range(5):
            calls = [kv.RetrieveBatch.future(keys=["k"] * 3500) for kv in services for _ in range(5)]
            calls += [kv.StoreBatch.future(requests=batch((f"gone-{i}" for i in range(3000)), b"v" * 1000))
                      for kv in services]
            peak = max([peak] + [server.process.resident_bytes() for call in calls if call.result()])
        kv.RemoveBatch(keys=[f"gone-{i}" for i in range(3000)])
        self.assertGreater(peak - before, 24 * MIB, "that was no flood")
        allowed = before + (peak - before) / 4 + 8 * MIB
        wait.until(lambda: server.process.resident_bytes() < allowed, 60, f"resident memory falls below {allowed}")


if __name__ == "__main__":
    suite.main()
