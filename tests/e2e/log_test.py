"""Whatever clients do, the log stays one JSON object a line, and short."""
import socket
import ssl

from rig import backends, environment, suite, tls, wait
from rig.keyvalue import Pattern
from rig.prismd import Prismd

MEMSTORE = [backends.keyvalue({"backend": "memstore", "config": {}})]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
RUDE = {
    "garbage": bytes(range(256)) * 64,
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS 1.0 that ends early": b"\x16\x03\x01\x02\x00\x01\x00",
    "no settings": PREFACE + b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"p" * 8,
    "a frame too large": PREFACE + b"\xff\xff\xff\x04\x00\x00\x00\x00\x00" + b"\x00" * 64,
    "headers that do not decode": PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
                                            b"\x00\x00\x04\x01\x05\x00\x00\x00\x01" + b"\xff" * 4,
    "nothing": b"",
}


def talk(port, data):
    """Sends it, says that this was all, and waits until the server has hung up."""
    with socket.create_connection(("127.0.0.1", port), environment.PATIENCE) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
        except OSError:
            pass


def shout(port, data):
    """Sends it and is gone."""
    with socket.create_connection(("127.0.0.1", port), environment.PATIENCE) as s:
        s.sendall(data)


def shake_hands(port, **settings):
    """A handshake that the server refuses, or a connection on which nobody speaks HTTP/2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    with socket.create_connection(("127.0.0.1", port), environment.PATIENCE) as s:
        try:
            with context.wrap_socket(s) as t:
                t.sendall(RUDE["HTTP/1.1"])
                while t.recv(65536):
                    pass
        except OSError:
            pass


class Log(suite.Case):
    def setUp(self):
        self.authority = tls.Authority(suite.subfolder("tls"))

    def serve(self, env=None, **settings):
        """With mutual TLS."""
        cert, key = self.authority.issue("server")
        return self.borrow(Prismd(credentials=self.authority.credentials(self.authority.issue("client")), env=env,
                                  namespaces=MEMSTORE, **settings,
                                  tls={"cert": cert, "key": key, "client_ca": self.authority.cert}))

    def grpc_events(self, server):
        return [e for e in server.log_events() if e["event"] == "grpc"]

    def test_plain_text(self):
        server = self.borrow(Prismd(namespaces=MEMSTORE, log={"level": "debug"}))
        kv = Pattern(self.borrow(server.channel()))
        for data in RUDE.values():
            talk(server.port, data)
            shout(server.admin_port, data)
        shake_hands(server.port)
        self.assertEqual(server.http("/healthz")[0], 200)
        kv.set("k", b"v")
        self.assertGreater(len(server.log_events()), 0)

    def test_tls(self):
        server = self.serve(log={"level": "debug"})
        kv = Pattern(self.borrow(server.channel()))
        for data in RUDE.values():
            talk(server.port, data)
        for settings in ({}, {"maximum_version": ssl.TLSVersion.TLSv1_2}):
            shake_hands(server.port, **settings)
        kv.set("k", b"v")
        wait.until(lambda: self.grpc_events(server), environment.PATIENCE, "gRPC's complaint is an event")
        for event in self.grpc_events(server):
            self.assertEqual(event["level"], "warn")
            self.assertIn("ssl_transport_security", event["file"])

    def test_many_complaints(self):
        """Those that are not written are counted."""
        server = self.serve()
        for _ in range(100):
            talk(server.port, RUDE["garbage"])
        wait.until(lambda: self.grpc_events(server), environment.PATIENCE, "gRPC complains")

        def suppressed():
            talk(server.port, RUDE["garbage"])
            return [e for e in self.grpc_events(server) if e.get("suppressed", 0) > 0]
        wait.until(suppressed, environment.PATIENCE, "the log says how many complaints it has left out")
        self.assertLess(len(self.grpc_events(server)), 50)

    def test_as_grpc_writes_them(self):
        """GRPC_VERBOSITY is for those who want its own lines."""
        server = self.serve(env={"GRPC_VERBOSITY": "error"})
        talk(server.port, RUDE["garbage"])
        wait.until(lambda: "Handshake failed" in server.process.log(), environment.PATIENCE, "gRPC's own line")
        raw = [line for line in server.process.log().splitlines() if "Handshake failed" in line]
        self.assertEqual([line for line in raw if line.startswith("{")], [])


if __name__ == "__main__":
    suite.main()
