"""What calls hold while they wait, by resident memory, against backends and clients that do nothing."""
import grpc
from google.rpc import error_details_pb2

from rig import backends, environment, suite, wait, wire
from rig.keyvalue import pattern_service
from rig.prismd import Prismd
from rig.redis import RedisServer

MIB = 1 << 20
LIMIT = 32 * MIB
LIMITS = {"transport_bytes": LIMIT, "max_inflight_bytes": LIMIT, "connection_share_percent": 100}
ALLOWANCE = 64 * MIB                        # allocator, gRPC's calls, what the backend holds


class Memory(suite.Case):
    def serve(self, slot):
        return self.borrow(Prismd(workers=2, namespaces=[backends.keyvalue(slot)], limits=LIMITS))

    def stays_within(self, server, before):
        if not environment.SANITIZER:
            self.assertLess(server.process.resident_bytes() - before, 2 * LIMIT + ALLOWANCE)

    def gives_all_back(self, server):
        wait.until(lambda: server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "all calls are over")
        self.assertEqual(server.metric("prism_rpc_held_bytes"), 0)

    def test_requests_that_wait_for_a_silent_backend(self):
        """30 kB each on the wire, a megabyte each once decoded."""
        redis = self.borrow(RedisServer())
        server = self.serve({"backend": "redis", "config": {"address": redis.address, "command_timeout_ms": 60_000}})
        kv = pattern_service(self.borrow(server.channel()))
        self.assertTrue(kv.Store(key="k", value=b"v").success)
        before = server.process.resident_bytes()
        redis.pause()
        calls = [kv.RetrieveBatch.future(keys=["k"] * 10_000, timeout=60) for _ in range(600)]
        wait.until(lambda: sum(c.done() for c in calls) + server.metric("prism_rpc_in_flight") == len(calls),
                   environment.PATIENCE, "each call is refused or waits")
        self.stays_within(server, before)
        redis.resume()
        refused = [c for c in calls if c.code() != grpc.StatusCode.OK]      # some of them, once decoded
        self.assertGreater(len(refused), len(calls) // 2)
        self.assertLess(len(refused), len(calls))
        for call in refused:
            self.assertEqual(call.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, call.details())
            info = wire.detail(call.exception(), error_details_pb2.ErrorInfo)
            self.assertEqual(info.metadata["subject"], "limits.max_inflight_bytes")
        for call in set(calls) - set(refused):
            self.assertEqual(len(call.result().results), 10_000)
        self.gives_all_back(server)

    def test_scans_that_nobody_reads(self):
        """Each holds a page beside the message that its client does not take."""
        server = self.serve({"backend": "memstore", "config": {}})
        kv = pattern_service(self.borrow(server.channel()))
        for i in range(16):
            self.assertTrue(kv.Store(key=f"k{i}", value=b"v" * (MIB // 2)).success)
        before = server.process.resident_bytes()
        scans = [kv.Scan(include_values=True) for _ in range(100)]
        wait.until(lambda: server.metric("prism_rpc_refused_total", reason="answers") > 0
                   or server.metric("prism_rpc_refused_total", reason="admission") > 0,
                   environment.PATIENCE, "there is no more room")
        self.stays_within(server, before)
        for scan in scans:
            scan.cancel()
        self.gives_all_back(server)


if __name__ == "__main__":
    suite.main()
