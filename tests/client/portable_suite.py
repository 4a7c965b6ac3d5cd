"""The example that runs unchanged on every backend: what it says of each, as the backend can."""
import os
import subprocess

from rig import backends, environment, suite
from rig.prismd import Prismd

NATIVE, EMULATED = ["scan NATIVE", "stored 3 at once", "listed 3"], ["scan EMULATED", "stored 3 at once", "listed 3"]
EXPIRES, REMAINS = "example/apple expires: in a minute", "does not expire: expiration not supported by backend"
SAYS = {
    "memstore": ["backend memstore", *NATIVE, EXPIRES],
    "redis": ["backend redis", *NATIVE, EXPIRES],
    "redis-cluster": ["backend redis", *NATIVE, EXPIRES],
    "postgres": ["backend postgres", *NATIVE, REMAINS],
    "postgres-ttl": ["backend postgres", *NATIVE, EXPIRES],
    "dynamodb": ["backend dynamodb", *EMULATED, EXPIRES],
    "s3": ["backend s3", "stored 3 one by one", "not listed: scan not supported by backend", REMAINS],
    "s3-emulated": ["backend s3", *EMULATED, REMAINS],
}


class Portable(suite.Case):
    def test_says_what_the_backend_can(self):
        slot = self.borrow(backends.slot(suite.backend()))
        server = self.borrow(Prismd(namespaces=[backends.keyvalue(slot)]))
        program = os.path.join(os.path.dirname(os.path.abspath(environment.BIN)), "examples", "portable")
        for _ in range(2):
            done = subprocess.run([program, server.address], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
            for words in SAYS[suite.backend()]:
                self.assertIn(words, done.stdout)


if __name__ == "__main__":
    suite.main()
