"""Redis over TLS: each thing that can be wrong is told by its own words, and mended without a restart."""
import os
import shutil
import signal

import grpc

from rig import backends, environment, suite, tls, wait, wire
from rig.keyvalue import pattern_service, stores
from rig.prismd import Prismd
from rig.redis import RedisServer

S = grpc.StatusCode


class OverTls(suite.Case):
    def setUp(self):
        self.folder = suite.subfolder("tls")
        self.authority = tls.Authority(self.folder)
        self.stranger = tls.Authority(self.folder, "stranger")

    def redis(self, *options, issuer=None):
        cert, key = (issuer or self.authority).issue("server")
        return self.borrow(RedisServer(tls=("--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file",
                                            self.authority.cert, *options)))

    def slot(self, address, **settings):
        return {"backend": "redis", "config": {"address": address, "tls": True, "tls_ca": self.authority.cert,
                                               "dial_timeout_ms": 1000, **settings}}

    def serve(self, slot, **options):
        return self.borrow(Prismd(namespaces=[backends.keyvalue(slot)], **options))

    def anonymous(self, **settings):
        """prismd with a redis that asks for no certificate."""
        redis = self.redis("--tls-auth-clients", "no")
        return redis, self.serve(self.slot(redis.tls_address, **settings))

    def refusal(self, slot):
        """What callers are told."""
        server = self.serve(slot, wait_for=lambda s: s.http_answers())
        kv = pattern_service(self.borrow(server.channel()))
        told = []

        def is_told():
            error = wire.failure(kv.Retrieve, key="k", timeout=5)
            told.append(error.details())
            return "not connected to redis yet" not in error.details()
        wait.until(is_told, environment.PATIENCE, "an attempt has failed")
        self.assertIn(told[-1], server.http("/readyz")[1], "the health says the same")
        return told[-1]

    def test_values_of_all_sizes(self):
        redis, server = self.anonymous()
        kv = pattern_service(self.borrow(server.channel()))
        for size in (0, 1, 16383, 16384, 16385, 3_000_000):
            value = os.urandom(size)
            self.assertTrue(kv.Store(key="k", value=value).success)
            self.assertEqual(kv.Retrieve(key="k").value, value)
        self.assertGreater(len(redis.call("CLIENT", "LIST").decode().splitlines()), 1)

    def test_recovery(self):
        redis, server = self.anonymous()
        kv = pattern_service(self.borrow(server.channel()))
        self.assertTrue(kv.Store(key="k", value=b"v").success)
        redis.kill()
        self.assertEqual(wire.failure(kv.Store, key="k", value=b"v").code(), S.UNAVAILABLE)
        redis.start()
        wait.until(lambda: stores(kv), environment.PATIENCE, "the connection comes back")

    def test_mutual(self):
        redis = self.redis()
        self.assertIn("redis demands a client certificate", self.refusal(self.slot(redis.tls_address)))
        cert, key = self.stranger.issue("other")
        self.assertIn("does not accept the client certificate",
                      self.refusal(self.slot(redis.tls_address, tls_cert=cert, tls_key=key)))
        cert, key = self.authority.issue("client")
        server = self.serve(self.slot(redis.tls_address, tls_cert=cert, tls_key=key))
        self.assertTrue(pattern_service(self.borrow(server.channel())).Store(key="k", value=b"v").success)

    def test_unknown_authority(self):
        redis = self.redis("--tls-auth-clients", "no", issuer=self.stranger)
        self.assertIn("an authority that tls_ca does not name", self.refusal(self.slot(redis.tls_address)))
        server = self.serve(self.slot(redis.tls_address, tls_verify=False))
        self.assertTrue(pattern_service(self.borrow(server.channel())).Store(key="k", value=b"v").success)

    def test_wrong_name(self):
        redis = self.redis("--tls-auth-clients", "no")
        for name in ("redis.example", "127.0.0.2"):
            self.assertIn("for another name",
                          self.refusal(self.slot(redis.tls_address, tls_server_name=name)))
        server = self.serve(self.slot(redis.tls_address, tls_server_name="localhost"))
        self.assertTrue(pattern_service(self.borrow(server.channel())).Store(key="k", value=b"v").success)

    def test_one_side_is_plain(self):
        redis = self.redis("--tls-auth-clients", "no")
        self.assertIn("TLS", self.refusal(self.slot(redis.address)))
        self.assertIn("does it want TLS on this port", self.refusal(
            {"backend": "redis", "config": {"address": redis.tls_address, "dial_timeout_ms": 1000}}))

    def test_files_are_read_again(self):
        redis = self.redis("--tls-auth-clients", "no")
        ca = os.path.join(self.folder, "in-use.pem")
        shutil.copy(self.stranger.cert, ca)
        server = self.serve(self.slot(redis.tls_address, tls_ca=ca), wait_for=lambda s: s.http_answers())
        kv = pattern_service(self.borrow(server.channel()))
        self.assertEqual(wire.failure(kv.Retrieve, key="k").code(), S.UNAVAILABLE)
        shutil.copy(self.authority.cert, ca)
        server.process.signal(signal.SIGHUP)
        wait.until(lambda: stores(kv), environment.PATIENCE, "the new file is used")
        for text, said in (("no certificate\n", "holds nothing in PEM form (-----BEGIN ..)"),
                           ("-----BEGIN CERTIFICATE-----\nnone\n", "holds no certificates in PEM, or a garbled one")):
            with open(ca, "w", encoding="ascii") as f:
                f.write(text)
            server.process.signal(signal.SIGHUP)
            wait.until(lambda said=said: said in server.process.log(), environment.PATIENCE, "it is refused")
        redis.kill()
        redis.start()
        wait.until(lambda: stores(kv), environment.PATIENCE, "what was good before is still in use")


if __name__ == "__main__":
    suite.main()
