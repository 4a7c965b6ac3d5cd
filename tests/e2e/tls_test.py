"""TLS and mutual TLS from files, and new files taken over on SIGHUP."""
import os
import shutil
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


def reloads(server):
    """What the log says about SIGHUP."""
    return [e for e in server.log_events() if "reload" in e["event"]]


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

    def reload(self, server, event):
        """SIGHUP; returns what the log says then, which has to be this event."""
        before = len(reloads(server))
        server.process.signal(signal.SIGHUP)
        wait.until(lambda: len(reloads(server)) > before, environment.PATIENCE, "the log answers SIGHUP")
        said = reloads(server)[before:]
        self.assertEqual([e["event"] for e in said], [event])
        return said[0]

    def test_a_bad_reload_keeps_the_old_certificate(self):
        client = self.authority.issue("client")
        server = self.serve(self.authority.credentials(client), client_ca=self.authority.cert)
        before = presented_certificate(server)
        new, new_key = self.authority.issue("new")
        for path, source, key in ((self.key, new_key, "tls.key"), (self.cert, new_key, "tls.cert"),
                                  (self.authority.cert, new_key, "tls.client_ca")):
            old = tls.read(path)
            shutil.copyfile(source, path)
            failure = self.reload(server, "reload_failed")
            self.assertEqual((failure["level"], failure["about"]), ("error", key))
            self.assertIn(key, failure["error"])
            self.assertEqual(presented_certificate(server), before)
            with open(path, "wb") as f:
                f.write(old)
        Pattern(self.borrow(server.channel())).set("k", b"v")
        shutil.copyfile(new, self.cert)
        shutil.copyfile(new_key, self.key)
        self.assertEqual(self.reload(server, "reloaded")["level"], "info")
        self.assertEqual(presented_certificate(server), tls.read(new).decode())
        Pattern(self.borrow(server.channel())).set("k", b"v")

    def test_a_reload_without_tls(self):
        server = self.borrow(Prismd(namespaces=MEMSTORE))
        self.reload(server, "nothing_to_reload")

    def test_bad_files_at_start(self):
        client_ca, garbage = self.authority.cert, os.path.join(suite.subfolder("tls"), "garbage.pem")
        with open(garbage, "w", encoding="ascii") as f:
            f.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        bad = (("tls.cert", self.cert + ".absent", self.key, client_ca),
               ("tls.cert", garbage, self.key, client_ca),
               ("tls.key", self.cert, self.cert, client_ca),
               ("tls.key", self.cert, self.stranger.issue("other")[1], client_ca),
               ("tls.key", self.cert, tls.encrypted(self.key), client_ca),
               ("tls.client_ca", self.cert, self.key, garbage))
        for about, cert, key, ca in bad:
            server = Prismd(namespaces=MEMSTORE, tls={"cert": cert, "key": key, "client_ca": ca})
            server.launch()
            self.assertEqual(server.process.wait(environment.PATIENCE), 1)
            self.assertIn(about, server.process.log())
            self.assertNotIn("cannot listen", server.process.log())
            self.assertNotIn("listening", server.process.log())

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
