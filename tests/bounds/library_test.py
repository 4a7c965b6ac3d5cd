"""What gRPC C core 1.51 makes impossible (docs/operations.md): each is measured, and the bound that prismd gives all
the same is shown."""
import os
import socket
import subprocess
import sys
import unittest

from bounds import attacks
from bounds.attacks import CONTINUATION, END_HEADERS, HEADERS, PREFACE, SETTINGS, block, frame, text
from rig import backends, environment, suite, wait
from rig.keyvalue import pattern_service
from rig.neighbour import Pair, waits_at_most
from rig.prismd import Prismd

MEMSTORE = [backends.keyvalue({"backend": "memstore", "config": {}})]
MIB = 1 << 20
LATEST = 0.25


def cpu_ns(server):
    """What all threads of the process have had of the processor."""
    def of(task):
        with open(f"/proc/{server.pid}/task/{task}/schedstat", encoding="ascii") as f:
            return int(f.read().split()[0])
    return sum(of(task) for task in os.listdir(f"/proc/{server.pid}/task"))


def say(line):
    print(line, file=sys.stderr)


class Library(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.control = cls.use(Prismd(namespaces=MEMSTORE))
        cls.stubs = {cls.control: pattern_service(cls.use(cls.control.channel()))}
        cls.store(cls.control)

    @classmethod
    def store(cls, server):
        cls.stubs[server].Store(key="polite", value=b"v", timeout=30)

    def serve(self, **limits):
        return self.borrow(Prismd(namespaces=MEMSTORE, limits=limits))

    def connect(self, server):
        connection = self.borrow(socket.create_connection(("127.0.0.1", server.port), environment.PATIENCE))
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        return connection

    def pair(self, server):
        """A polite client of the server, and the control. If it measures once more, it has its connection already."""
        if server not in self.stubs:
            self.stubs[server] = pattern_service(self.borrow(server.channel()))
        self.store(server)
        return Pair(self.store, server, self.control)

    def test_the_end_of_many_streams(self):
        """One by one and in one go: max_streams_per_connection bounds how many."""
        most, connections = 500, 4
        server = self.serve(max_streams_per_connection=most, request_timeout_ms=0)

        def measure():
            rude = [self.connect(server) for _ in range(connections)]
            for connection in rude:
                connection.sendall(b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, block()) for i in range(most)))
            wait.until(lambda: server.metric("prism_requests_incomplete") == most * connections, environment.PATIENCE,
                       "all streams are open")
            with self.pair(server) as pair:
                wait.until(lambda: len(pair.polite.waits) > 5, environment.PATIENCE, "the polite client is served")
                start = cpu_ns(server)
                for connection in rude:
                    connection.shutdown(socket.SHUT_RDWR)
                wait.until(lambda: server.metric("prism_connections") == 1, environment.PATIENCE, "they are over")
                took = cpu_ns(server) - start
            say(f"the end of {most * connections} streams of {connections} connections: {took / 1e6:.0f} ms of the "
                f"processor, {took / 1e3 / most / connections:.0f} us for each; polite {pair}")
            return pair
        waits_at_most(self, LATEST, measure)
        self.assertEqual(server.metric("prism_streams_open"), 0)
        more = self.connect(server)
        more.sendall(b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, block()) for i in range(most + 1)))
        wait.until(lambda: server.metric("prism_connections_ended_total", reason="streams") == 1, environment.PATIENCE,
                   "one stream more ends the connection")

    @unittest.skipIf(environment.SANITIZER, "a sanitizer has memory of its own")
    def test_header_lists_are_expanded(self):
        """Before anybody sees them: 64 KiB of a list is all that a connection may send."""
        connections, references, most = 20, 60_000, 8 * MIB
        server = self.serve()
        kv = pattern_service(self.borrow(server.channel()))
        kv.Store(key="k", value=b"v")
        before = server.process.resident_bytes()
        entry = frame(HEADERS, 0, 1, block() + b"\x40" + text("x") + text(""))
        pieces = [frame(CONTINUATION, 0, 1, b"\xbe" * 15_000)] * (references // 15_000)
        rude = [self.connect(server) for _ in range(connections)]
        for connection in rude:
            connection.sendall(entry + b"".join(pieces))
        held, steady = [0], [0]

        def no_more():
            now = server.process.resident_bytes()
            steady[0] = steady[0] + 1 if now <= held[0] else 0
            held[0] = max(held[0], now)
            return steady[0] > 50
        wait.until(no_more, environment.PATIENCE, "resident memory does not grow any more")
        each = (held[0] - before) / connections
        say(f"{references} references of a header list: {each / MIB:.1f} MiB for each connection")
        self.assertLess(each, most)
        for connection in rude:
            connection.sendall(frame(CONTINUATION, 0, 1, b"\xbe" * (65536 - references)))
        wait.until(lambda: server.metric("prism_connections_ended_total", reason="headers") == connections,
                   environment.PATIENCE, "a longer list ends its connection")
        self.assertTrue(kv.Store(key="k", value=b"v").success)

    def flood(self, server, connections):
        with self.pair(server) as pair:
            subprocess.run([sys.executable, attacks.__file__, "rapid_reset", str(server.port), "2.5", str(connections)],
                           stdout=subprocess.DEVNULL, check=True)
        say(f"{connections} flooding connections, of which {server.metric('prism_connections_refused_total'):.0f} were "
            f"refused: polite {pair}")
        return pair

    def test_many_connections_have_many_turns(self):
        """max_connections_per_peer bounds how many."""
        self.assertEqual(self.flood(self.serve(), 200).polite.failures, [])
        bounded = self.serve(max_connections_per_peer=8)
        waits_at_most(self, LATEST, lambda: self.flood(bounded, 200))
        self.assertGreater(bounded.metric("prism_connections_refused_total", reason="max_connections_per_peer"), 0)


if __name__ == "__main__":
    suite.main()
