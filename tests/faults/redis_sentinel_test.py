"""Redis behind Sentinel: the primary is found, and followed when it changes; each call gets its answer meanwhile."""
import contextlib

from prism.patterns.schemas import slot_schema_pb2 as schemas

from rig import backends, environment, suite, tls, wait, wire
from rig.keyvalue import Stores, pattern_service, stores
from rig.prismd import Prismd
from rig.process import free_port
from rig.redis_sentinel import NAME, Watched


class Failover(suite.Case):
    def setUp(self):
        self.stack = self.borrow(contextlib.ExitStack())

    def serve(self, addresses, **settings):
        slot = {"backend": "redis", "config": {"address": addresses, "sentinel_master": NAME,
                                               "dial_timeout_ms": 1000, "command_timeout_ms": 1000, **settings}}
        server = self.borrow(Prismd(wait_for=lambda s: s.http_answers(), namespaces=[backends.keyvalue(slot)]))
        return server, pattern_service(self.borrow(server.channel()))

    def finish(self, server, load):
        load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:5], [])
        self.assertTrue(server.process.alive())
        wait.until(lambda: server.metric("prism_backend_in_flight") == 0, environment.PATIENCE, "nothing is left over")

    @staticmethod
    def missing(redis, load):
        """Of what was acknowledged."""
        with redis.client() as c:
            return [n for n in load.acknowledged if not c.call("EXISTS", f"prism:default:n{n}")]

    def test_primary_killed(self):
        watched = Watched(self.stack)
        server, kv = self.serve(f"127.0.0.1:{free_port()},{watched.addresses()}")
        wait.until(lambda: stores(kv), environment.PATIENCE, "a seed that nobody serves is passed over")
        load = Stores(kv)
        watched.servers[0].kill()
        wait.until(lambda: watched.primary_port() == watched.servers[1].port, environment.PATIENCE, "failover")
        before = len(load.acknowledged)
        load.goes_on()
        self.finish(server, load)
        missing = self.missing(watched.servers[1], load)
        print(f"{len(load.acknowledged)} acknowledged, {len(missing)} of them by the lost primary alone")
        later = set(load.acknowledged[before + load.WIDTH:])
        self.assertEqual([n for n in missing if n in later], [], "what the new primary acknowledged is there")
        meaning, = {o.acknowledgement for o in kv.GetCapabilities().operations if o.operation == "Store"}
        self.assertEqual(meaning, schemas.MEMORY, "what was lost was promised no more: a replica is never part of it")

    def test_primary_handed_over(self):
        """Asked for by an operator: the old primary lives on and refuses writes."""
        watched = Watched(self.stack)
        server, kv = self.serve(watched.addresses())
        wait.until(lambda: stores(kv), environment.PATIENCE, "prismd serves")
        load = Stores(kv)
        watched.sentinels[0].call("SENTINEL", "FAILOVER", NAME)
        wait.until(lambda: watched.primary_port() == watched.servers[1].port, environment.PATIENCE, "failover")
        load.goes_on()
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
        wait.until(lambda: stores(kv), environment.PATIENCE, "prismd serves")
        load = Stores(kv)
        watched.servers[0].kill()
        wait.until(lambda: watched.primary_port() == watched.servers[1].tls_port, environment.PATIENCE, "failover")
        load.goes_on()
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
        wait.until(lambda: stores(kv), environment.PATIENCE, "prismd serves")


if __name__ == "__main__":
    suite.main()
