"""Floods, each against a server of its own: a polite client on a connection of its own loses no call and waits no more
than a quarter of a second, and resident memory stays within the configured bounds."""
import json
import subprocess
import sys

from bounds import attacks
from rig import backends, environment, suite, tls
from rig.keyvalue import pattern_service
from rig.neighbour import Pair, waits_at_most
from rig.prismd import Prismd

ATTACKS = attacks.__file__
MEMSTORE = [backends.keyvalue({"backend": "memstore", "config": {}})]
MIB = 1 << 20
LIMITS = {"transport_bytes": 64 * MIB, "max_inflight_bytes": 64 * MIB}
MEMORY = 64 * MIB + 64 * MIB + 64 * MIB     # the two, and 64 MiB
SECONDS = 2.5
LATEST = 0.25


class Floods(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.control = cls.use(Prismd(namespaces=MEMSTORE, limits=LIMITS))
        cls.stubs = {cls.control: pattern_service(cls.use(cls.control.channel()))}
        cls.store(cls.control)

    @classmethod
    def store(cls, server):
        cls.stubs[server].Store(key="polite", value=b"v", timeout=30)

    def serve(self, secure):
        settings = {"namespaces": MEMSTORE, "limits": LIMITS}
        if not secure:
            return Prismd(**settings)
        authority = tls.Authority(suite.subfolder("tls"))
        cert, key = authority.issue("server")
        return Prismd(credentials=authority.credentials(), tls={"cert": cert, "key": key}, **settings)

    def measure(self, name, secure):
        """The polite client beside one attack."""
        with self.serve(secure) as server, server.channel() as channel:
            self.stubs[server] = pattern_service(channel)
            self.stubs[server].Store(key="large", value=bytes(MIB))
            start = peak = server.process.resident_bytes()
            with Pair(self.store, server, self.control) as pair:
                attacker = subprocess.Popen(
                    [sys.executable, ATTACKS, name, str(server.port), str(SECONDS), *(["tls"] if secure else [])],
                    stdout=subprocess.PIPE, text=True)
                while attacker.poll() is None:
                    peak = max(peak, server.process.resident_bytes())
                    pair.polite.ended.wait(0.02)
        sent = json.loads(attacker.communicate()[0])
        print(f"{name}{' tls' if secure else ''}: {sent['bytes'] / MIB:.1f} MiB, {sent['connections']} connections; "
              f"polite {pair}; resident {start / MIB:.0f}, peak {peak / MIB:.0f} MiB", file=sys.stderr)
        if not environment.SANITIZER:
            self.assertLess(peak - start, MEMORY)
        return pair


def one(name, secure):
    def test(self):
        waits_at_most(self, LATEST, lambda: self.measure(name, secure))
    return test


for attack in [*attacks.ATTACKS, *attacks.CROWDS, "connect_storm"]:
    setattr(Floods, f"test_{attack}", one(attack, False))
for attack in ("rapid_reset", "headers_only", "continuation", "half_messages", "gzip_bomb"):
    setattr(Floods, f"test_{attack}_tls", one(attack, True))

if __name__ == "__main__":
    suite.main()
