"""TLS and mutual TLS from files, and new files taken over on SIGHUP."""
import signal
import ssl

import grpc

from rig import backends, environment, suite, tls, wait, wire
from rig.keyvalue import Pattern, pattern_service
from rig.prismd import Prismd
from rig.wire import failure

MEMSTORE = [backends.keyvalue({"backend": "memstore", "config": {}})]


def presented_certificate(server):
    """The certificate that a new connection gets, unchecked."""
    return ssl.get_server_certificate(("127.0.0.1", server.port))


class Tls(suite.Case):
    def setUp(self):
        folder = suite.subfolder("tls")
        self.authority = tls.Authority(folder)
        self.stranger = tls.Authority(folder, "stranger")
        self.cert, self.key = self.authority.issue("server")

    def serve(self, credentials, **settings):
        return self.borrow(Prismd(credentials=credentials, namespaces=MEMSTORE,
                                  tls={"cert": self.cert, "key": self.key, **settings}))

    def refused(self, server, credentials):
        """A connection with these credentials does not come about."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = (grpc.secure_channel(server.address, credentials, options) if credentials
                   else grpc.insecure_channel(server.address, options))
        with channel:
            error = failure(pattern_service(channel, timeout=5).GetCapabilities)
        self.assertIn(error.code(), (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED))

    def test_tls(self):
        server = self.serve(self.authority.credentials())
        kv = Pattern(self.borrow(server.channel()))
        kv.set("k", b"v" * 100_000)
        self.assertEqual(kv.get("k"), b"v" * 100_000)
        self.refused(server, None)
        self.refused(server, self.stranger.credentials())

    def test_mutual_tls(self):
        client, other = self.authority.issue("client"), self.stranger.issue("other")
        server = self.serve(self.authority.credentials(client), client_ca=self.authority.cert)
        kv = Pattern(self.borrow(server.channel()))
        kv.set("k", b"v")
        self.assertEqual(kv.get("k"), b"v")
        self.refused(server, self.authority.credentials())
        self.refused(server, self.authority.credentials(other))

    def test_reload(self):
        server = self.serve(self.authority.credentials())
        kv = Pattern(self.borrow(server.channel()))
        kv.set("k", b"v")
        before = presented_certificate(server)
        self.authority.issue("server")
        server.process.signal(signal.SIGHUP)
        wait.until(lambda: presented_certificate(server) != before, environment.PATIENCE,
                   "the new certificate is presented")
        self.assertEqual(kv.get("k"), b"v", "the old connection goes on")
        self.assertEqual(Pattern(self.borrow(server.channel())).get("k"), b"v")

    def test_reload_of_a_bad_file_keeps_the_old_one(self):
        server = self.serve(self.authority.credentials())
        before = presented_certificate(server)
        with open(self.cert, "w", encoding="ascii") as f:
            f.write("not a certificate\n")
        mark = len(server.process.log())
        server.process.signal(signal.SIGHUP)
        wait.until(lambda: "tls" in server.process.log()[mark:].lower(), environment.PATIENCE, "the fault is logged")
        self.assertEqual(presented_certificate(server), before)
        Pattern(self.borrow(server.channel())).set("k", b"v")

    def test_bad_files_at_start(self):
        for cert, key in ((self.cert + ".absent", self.key), (self.cert, self.cert)):
            server = Prismd(namespaces=MEMSTORE, tls={"cert": cert, "key": key})
            server.launch()
            self.assertNotEqual(server.process.wait(environment.PATIENCE), 0)
            self.assertIn("tls", server.process.log().lower())

    def test_many_calls_over_tls(self):
        """The writes of a batch of answers are coalesced below TLS as well."""
        server = self.serve(self.authority.credentials())
        rpc = pattern_service(self.borrow(server.channel()))
        calls = [rpc.Store.future(key=f"k{i}", value=b"%d" % i * 100) for i in range(500)]
        self.assertTrue(all(c.result(wire.TIMEOUT).success for c in calls))
        calls = [rpc.Retrieve.future(key=f"k{i}") for i in range(500)]
        self.assertEqual([c.result(wire.TIMEOUT).value for c in calls], [b"%d" % i * 100 for i in range(500)])


if __name__ == "__main__":
    suite.main()
