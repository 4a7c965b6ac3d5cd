"""Redis behind Sentinel: the primary is found, and followed when it changes; each call gets its answer meanwhile."""
import contextlib
import itertools

import grpc
from prism.patterns.schemas import slot_schema_pb2 as schemas

from rig import backends, environment, suite, tls, wait, wire
from rig.keyvalue import pattern_service
from rig.load import Load
from rig.prismd import Prismd
from rig.process import free_port
from rig.redis_sentinel import NAME, Watched

S = grpc.StatusCode
WIDTH = 32
DEADLINE = 2.0
LATE = 5 if environment.SANITIZER else 2


class Failover(suite.Case):
    def setUp(self):
        self.stack = self.borrow(contextlib.ExitStack())

    def serve(self, addresses, **settings):
        slot = {"backend": "redis", "config": {"address": addresses, "sentinel_master": NAME,
                                               "dial_timeout_ms": 1000, "command_timeout_ms": 1000, **settings}}
        server = self.borrow(Prismd(wait_for=lambda s: s.http_answers(), namespaces=[backends.keyvalue(slot)]))
        return server, pattern_service(self.borrow(server.channel()))

    @staticmethod
    def stores(kv):
        try:
            return kv.Store(key="k", value=b"v", timeout=5).success
        except grpc.RpcError:
            return False

    def start_load(self, kv):
        """Stores a new key with each call; self.acknowledged are those that prismd has confirmed."""
        numbers, self.acknowledged = itertools.count(), []

        def start(_):
            number = next(numbers)
            future = kv.Store.future(key=f"n{number}", value=b"%d" % number, timeout=DEADLINE)
            future.number = number
            return future

        def inspect(future, number, seconds):
            if seconds > DEADLINE + LATE:
                return f"call {number} took {seconds:.1f} s"
            if future.code() == S.OK:
                self.acknowledged.append(future.number)
            elif future.code() not in (S.UNAVAILABLE, S.DEADLINE_EXCEEDED):
                return f"call {number}: {future.code()}: {future.details()}"
            return None
        load = Load(start, WIDTH, inspect)
        wait.until(lambda: load.count() > 500, environment.PATIENCE, "the load runs")
        return load

    def goes_on(self, load):
        done = load.count()
        wait.until(lambda: load.count() > done + 500, environment.PATIENCE, "calls succeed again")

    def finish(self, server, load):
        load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:5], [])
        self.assertTrue(server.process.alive())
        wait.until(lambda: server.metric("prism_backend_in_flight") == 0, environment.PATIENCE, "nothing is left over")

    def missing(self, redis):
        """Of what was acknowledged."""
        with redis.client() as c:
            return [n for n in self.acknowledged if not c.call("EXISTS", f"prism:default:n{n}")]

    def test_primary_killed(self):
        watched = Watched(self.stack)
        server, kv = self.serve(f"127.0.0.1:{free_port()},{watched.addresses()}")
        wait.until(lambda: self.stores(kv), environment.PATIENCE, "a seed that nobody serves is passed over")
        load = self.start_load(kv)
        watched.servers[0].kill()
        wait.until(lambda: watched.primary_port() == watched.servers[1].port, environment.PATIENCE, "failover")
        before = len(self.acknowledged)
        self.goes_on(load)
        self.finish(server, load)
        missing = self.missing(watched.servers[1])
        print(f"{len(self.acknowledged)} acknowledged, {len(missing)} of them by the lost primary alone")
        later = set(self.acknowledged[before + WIDTH:])
        self.assertEqual([n for n in missing if n in later], [], "what the new primary acknowledged is there")
        meaning, = {o.acknowledgement for o in kv.GetCapabilities().operations if o.operation == "Store"}
        self.assertEqual(meaning, schemas.MEMORY, "what was lost was promised no more: a replica is never part of it")

    def test_primary_handed_over(self):
        """Asked for by an operator: the old primary lives on and refuses writes."""
        watched = Watched(self.stack)
        server, kv = self.serve(watched.addresses())
        wait.until(lambda: self.stores(kv), environment.PATIENCE, "prismd serves")
        load = self.start_load(kv)
        watched.sentinels[0].call("SENTINEL", "FAILOVER", NAME)
        wait.until(lambda: watched.primary_port() == watched.servers[1].port, environment.PATIENCE, "failover")
        self.goes_on(load)
        self.finish(server, load)
        self.assertEqual(watched.servers[1].call("ROLE")[0], b"master")
        with watched.servers[1].client() as c:
            self.assertGreater(c.call("DBSIZE"), 500)

    def test_over_tls(self):
        """Sentinels and servers speak nothing else with prismd, nor with each other."""
        authority = tls.Authority(suite.subfolder("tls"))
        cert, key = authority.issue("server")
        watched = Watched(self.stack, tls=("--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file",
                                           authority.cert))
        self.assertEqual(watched.primary_port(), watched.servers[0].tls_port)
        server, kv = self.serve(watched.addresses(), tls=True, tls_ca=authority.cert, tls_cert=cert, tls_key=key)
        wait.until(lambda: self.stores(kv), environment.PATIENCE, "prismd serves")
        load = self.start_load(kv)
        watched.servers[0].kill()
        wait.until(lambda: watched.primary_port() == watched.servers[1].tls_port, environment.PATIENCE, "failover")
        self.goes_on(load)
        self.finish(server, load)
        server, kv = self.serve(watched.addresses(), tls=True, tls_ca=authority.cert)
        wait.until(lambda: "certificate" in wire.failure(kv.Retrieve, key="k").details(), environment.PATIENCE,
                   "sentinels ask for a certificate as well")

    def test_what_sentinels_refuse(self):
        watched = Watched(self.stack, password="s3ntinel")
        server, kv = self.serve(watched.addresses(), sentinel_password="wr0ng-one")
        wait.until(lambda: "sentinel_password" in wire.failure(kv.Retrieve, key="k").details(), environment.PATIENCE,
                   "the refusal is told")
        self.assertNotIn("wr0ng-one", server.process.log())
        server, kv = self.serve(watched.addresses(), sentinel_password="s3ntinel", sentinel_master="other")
        wait.until(lambda: "no such sentinel_master" in wire.failure(kv.Retrieve, key="k").details(),
                   environment.PATIENCE, "the name is told to be wrong")
        server, kv = self.serve(watched.servers[0].address)
        wait.until(lambda: "it is none" in wire.failure(kv.Retrieve, key="k").details(), environment.PATIENCE,
                   "a server that is no sentinel")
        _, kv = self.serve(watched.addresses(), sentinel_password="s3ntinel")
        wait.until(lambda: self.stores(kv), environment.PATIENCE, "prismd serves")


if __name__ == "__main__":
    suite.main()
