"""Floods, each against a server of its own: a polite client on a connection of its own loses no call and does not wait,
and resident memory stays within the configured bounds."""
import json
import subprocess
import sys
import threading
import time

from bounds import attacks
from rig import backends, environment, suite, tls
from rig.keyvalue import pattern_service
from rig.prismd import Prismd

ATTACKS = attacks.__file__
MEMSTORE = [backends.keyvalue({"backend": "memstore", "config": {}})]
MIB = 1 << 20
LIMITS = {"transport_bytes": 64 * MIB, "max_inflight_bytes": 64 * MIB}
MEMORY = 64 * MIB + 64 * MIB + 64 * MIB     # the two, and 64 MiB
SECONDS = 2.5
EVERY = 0.02                                # 50 calls a second
# 0.25 s on a machine of one's own (docs/operations.md). Without turns a call waits as long as the attack lasts.
LATEST = 1.0 if not environment.SANITIZER else 8.0


class Polite(threading.Thread):
    """Stores 50 times a second."""

    def __init__(self, kv):
        super().__init__()
        self.kv, self.ended = kv, threading.Event()
        self.waits, self.failures = [], []

    def run(self):
        due = time.monotonic()
        while not self.ended.wait(max(0, due - time.monotonic())):
            due = max(due + EVERY, time.monotonic() - 1)
            start = time.monotonic()
            try:
                self.kv.Store(key="polite", value=b"v", timeout=30)
            except Exception as e:  # pylint: disable=broad-except
                self.failures.append(f"{e.code().name}: {e.details()}")
            self.waits.append(time.monotonic() - start)

    def stop(self):
        self.ended.set()
        self.join()
        return self


class Floods(suite.Case):
    def serve(self, secure):
        settings = {"namespaces": MEMSTORE, "limits": LIMITS}
        if not secure:
            return self.borrow(Prismd(**settings))
        authority = tls.Authority(suite.subfolder("tls"))
        cert, key = authority.issue("server")
        return self.borrow(Prismd(credentials=authority.credentials(), tls={"cert": cert, "key": key}, **settings))

    def flood(self, name, secure=False):
        server = self.serve(secure)
        kv = pattern_service(self.borrow(server.channel()))
        kv.Store(key="polite", value=b"v")
        start = server.process.resident_bytes()
        polite = Polite(kv)
        polite.start()
        attacker = subprocess.Popen(
            [sys.executable, ATTACKS, name, str(server.port), str(SECONDS), *(["tls"] if secure else [])],
            stdout=subprocess.PIPE, text=True)
        peak = start
        while attacker.poll() is None:
            peak = max(peak, server.process.resident_bytes())
            polite.ended.wait(0.02)
        sent = json.loads(attacker.communicate()[0])
        polite.stop()
        worst = max(polite.waits)
        print(f"{name}{' tls' if secure else ''}: {sent['bytes'] / MIB:.1f} MiB, {sent['connections']} connections; "
              f"polite {len(polite.waits)} calls, {len(polite.failures)} failed, worst {worst * 1000:.0f} ms; "
              f"resident {start / MIB:.0f}, peak {peak / MIB:.0f} MiB", file=sys.stderr)
        self.assertEqual(polite.failures, [])
        self.assertLess(worst, LATEST)
        if not environment.SANITIZER:
            self.assertLess(peak - start, MEMORY)
        return server


def one(name, secure):
    def test(self):
        self.flood(name, secure)
    return test


for attack in [*attacks.ATTACKS, "connect_storm"]:
    setattr(Floods, f"test_{attack}", one(attack, False))
for attack in ("rapid_reset", "headers_only", "continuation", "half_messages"):
    setattr(Floods, f"test_{attack}_tls", one(attack, True))

if __name__ == "__main__":
    suite.main()
