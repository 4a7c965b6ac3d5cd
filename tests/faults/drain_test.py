"""SIGTERM under load: no accepted call without an answer, exit code 0, and a report in the log."""
import signal
import threading
import time

import grpc
from grpc_health.v1 import health_pb2

from e2e.health_test import Watcher
from rig import backends, environment, suite, wait
from rig.keyvalue import pattern_service
from rig.load import Load
from rig.prismd import Prismd
from rig.proxy import Proxy
from rig.redis import RedisServer
from rig.wire import failure

S = grpc.StatusCode
WIDTH = 50
DEADLINE = 10.0


def drain_report(server):
    """The log's event about the drain."""
    events = [e for e in server.log_events() if any("abandoned" in key for key in e)]
    assert len(events) == 1, f"one drain report, found {len(events)}"
    return events[0]


class Drain(suite.Case):
    def slow_server(self, **settings):
        redis = self.borrow(RedisServer())
        proxy = self.borrow(Proxy(redis.port, delay_seconds=0.2))
        server = Prismd(namespaces=[backends.keyvalue({"backend": "redis", "config": {"address": proxy.address}})],
                        **settings)
        return self.borrow(server), redis

    def inspect(self, future, number, seconds):
        # gRPC's core answers CANCELLED to what arrives between its two GOAWAYs. That may be whatever had no answer when
        # the signal was sent; what had arrived by then is in the report.
        late = self.signalled_at is not None and number >= self.signalled_at
        if future.code() not in (S.OK, S.UNAVAILABLE) and not (late and future.code() == S.CANCELLED):
            return f"call {number} (signal at {self.signalled_at}): {future.code()}: {future.details()}"
        return None

    def test_under_load(self):
        self.signalled_at = None
        server, _ = self.slow_server()
        kv = pattern_service(self.borrow(server.channel()))
        self.assertTrue(kv.Store(key="k", value=b"v").success)
        load = Load(lambda i: kv.Retrieve.future(key="k", timeout=DEADLINE), WIDTH, self.inspect)
        wait.until(lambda: load.count() > 4 * WIDTH and server.metric("prism_rpc_in_flight") > WIDTH // 2,
                   environment.PATIENCE, "the load runs")
        self.signalled_at = load.count()
        server.process.signal(signal.SIGTERM)
        wait.until(lambda: load.count(S.UNAVAILABLE) > 0, environment.PATIENCE, "new calls are refused")
        self.assertEqual(server.process.wait(environment.PATIENCE), 0)
        load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:5], [])
        report = drain_report(server)
        self.assertEqual(report["abandoned"], 0)
        self.assertGreater(report["in_flight"], 0)
        self.assertEqual(report["finished"], report["in_flight"])

    def test_calls_in_flight_are_answered(self):
        """Calls that were accepted before the signal succeed; one that comes later is refused."""
        server, redis = self.slow_server()
        kv = pattern_service(self.borrow(server.channel()))
        self.assertTrue(kv.Store(key="k", value=b"v").success)
        redis.pause()
        self.addCleanup(redis.resume)
        calls = [kv.Retrieve.future(key="k", timeout=DEADLINE) for _ in range(20)]
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 20, environment.PATIENCE, "the calls are in flight")
        server.process.signal(signal.SIGTERM)
        wait.until(lambda: failure(kv.Retrieve, key="k", timeout=1).code() is S.UNAVAILABLE, environment.PATIENCE,
                   "new calls are refused")
        redis.resume()
        self.assertEqual([c.result(DEADLINE).value for c in calls], [b"v"] * 20)
        self.assertEqual(server.process.wait(environment.PATIENCE), 0)

    def test_health_turns_first(self):
        server, redis = self.slow_server()
        channel = self.borrow(server.channel())
        watcher = Watcher(channel, "")
        watcher.last_is(health_pb2.HealthCheckResponse.SERVING)
        kv = pattern_service(channel)
        kv.Store(key="k", value=b"v")
        redis.pause()
        self.addCleanup(redis.resume)
        call = kv.Retrieve.future(key="k", timeout=DEADLINE)
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 2, environment.PATIENCE,
                   "the call is in flight, and the watch")
        server.process.signal(signal.SIGTERM)
        watcher.last_is(health_pb2.HealthCheckResponse.NOT_SERVING)
        redis.resume()
        self.assertEqual(call.result(DEADLINE).value, b"v")
        self.assertEqual(server.process.wait(environment.PATIENCE), 0)

    def test_time_is_up(self):
        """What does not finish in time is cancelled and said so: an answer to the client, a number in the report."""
        server, redis = self.slow_server(drain_timeout_ms=500)
        kv = pattern_service(self.borrow(server.channel()))
        kv.Store(key="k", value=b"v")
        redis.pause()
        self.addCleanup(redis.resume)
        calls = [kv.Retrieve.future(key="k", timeout=60) for _ in range(5)]
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 5, environment.PATIENCE, "the calls are in flight")
        begin = time.monotonic()
        code = server.terminate()
        self.assertLess(time.monotonic() - begin, environment.PATIENCE)
        self.assertNotEqual(code, 0, "exit code 0 only if nothing was abandoned")
        self.assertEqual(drain_report(server)["abandoned"], 5)
        for call in calls:
            self.assertIn(call.code(), (S.UNAVAILABLE, S.CANCELLED))

    def test_one_call_after_the_other(self):
        """Little is in flight; whoever has not heard of the drain is told that nothing was done."""
        server = self.borrow(Prismd(namespaces=[backends.keyvalue({"backend": "memstore"})]))
        ends = []

        def store(kv):
            while True:
                try:
                    kv.Store(key="k", value=b"v", timeout=DEADLINE)
                    stored.release()
                except grpc.RpcError as error:
                    ends.append(error.code())
                    return
        stored = threading.Semaphore(0)
        writers = [threading.Thread(target=store, args=(pattern_service(self.borrow(server.channel())),))
                   for _ in range(4)]
        for writer in writers:
            writer.start()
        for _ in range(400):
            self.assertTrue(stored.acquire(timeout=environment.PATIENCE))
        server.process.signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(environment.PATIENCE), 0)
        for writer in writers:
            writer.join()
        self.assertEqual(ends, [S.UNAVAILABLE] * len(writers))
        self.assertGreater(drain_report(server)["refused"], 0)

    def test_twice(self):
        """A second signal changes nothing."""
        server, _ = self.slow_server()
        kv = pattern_service(self.borrow(server.channel()))
        kv.Store(key="k", value=b"v")
        calls = [kv.Retrieve.future(key="k", timeout=DEADLINE) for _ in range(5)]
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 5, environment.PATIENCE, "the calls are in flight")
        server.process.signal(signal.SIGTERM)
        server.process.signal(signal.SIGTERM)
        self.assertEqual([c.result(DEADLINE).value for c in calls], [b"v"] * 5)
        self.assertEqual(server.process.wait(environment.PATIENCE), 0)


if __name__ == "__main__":
    suite.main()
