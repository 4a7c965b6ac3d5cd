"""The multicast registry as a user of prismctl sees it, against a prismd on its defaults."""
import json
import os
import subprocess

from rig import environment, suite
from rig.prismd import Prismd

DONE, USAGE, NOT_FOUND, REFUSED = 0, 1, 2, 4


class Registry(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.use(Prismd())
        cls.env = {**os.environ, "TSAN_OPTIONS": os.environ.get("CLIENT_TSAN_OPTIONS", "")}

    def start(self, *arguments):
        return subprocess.Popen([environment.ours("prismctl"), "-s", self.server.address, *arguments], env=self.env,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ctl(self, *arguments, code=DONE, stdin=b""):
        child = self.start(*arguments)
        out, err = child.communicate(stdin, timeout=120)
        self.assertEqual(child.returncode, code, (out, err))
        return out

    def test_register_multicast_subscribe(self):
        self.ctl("register", "p1", "city=Oslo", "app=12", "beta=true", 'code="007"')
        self.ctl("register", "p2", "city=Oslo", "app=9")
        receiver = self.start("subscribe", "p1", "p2", "--limit", "1", "-o", "json", "--when-full", "latest-per-key")
        self.assertEqual(receiver.stderr.readline(), b"listening\n")
        self.assertIn(b"1 targets: 1 delivered, 0 without a receiver, 0 failed",
                      self.ctl("multicast", "hello", "--filter",
                               '{"city": "Oslo", "app.gte": 12, "beta": true, "code": "007"}'))
        out, _ = receiver.communicate(timeout=60)
        message = json.loads(out)
        self.assertEqual((message["payload"], message["identities"]), ("hello", ["p1"]))
        self.assertEqual(json.loads(self.ctl("multicast", "x", "--dry-run", "-o", "json",
                                             "--filter", '{"$identity.in": ["p1", "p2"]}'))["targets"], 2)

    def test_outcomes(self):
        self.ctl("register", "q1", "kind=q")
        self.ctl("register", "q1", code=REFUSED)
        generation = json.loads(self.ctl("register", "q1", "kind=q", "--replace", "-o", "json"))["generation"]
        self.assertGreater(generation, 0)
        self.ctl("multicast", "x", "--filter", '{"kind": "q"}', "--max-targets", "1")
        self.ctl("register", "q2", "kind=q")
        self.ctl("multicast", "x", "--filter", '{"kind": "q"}', "--max-targets", "1", code=REFUSED)
        self.ctl("multicast", "x", "--filter", "{", code=REFUSED)
        self.ctl("unregister", "q1")
        self.ctl("unregister", "q1", code=NOT_FOUND)

    def test_example(self):
        program = os.path.join(os.path.dirname(os.path.abspath(environment.BIN)), "examples", "presence")
        prefix = []
        if not environment.SANITIZER:
            prefix = [environment.tool("valgrind"), "-q", "--leak-check=full", "--error-exitcode=9",
                      "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]
        done = subprocess.run([*prefix, program, self.server.address], capture_output=True, text=True, timeout=120,
                              check=False, env=self.env)
        self.assertEqual((done.returncode, done.stdout), (0, "1 of the phones match, 0 of them listen\n"), done)

    def test_names_from_standard_input(self):
        names = b"".join(b"line%d\n" % n for n in range(20))
        self.assertEqual(self.ctl("register", "-", "kind=lines", stdin=names), b"20 registered\n")
        self.assertEqual(json.loads(self.ctl("register", "-", "kind=lines", "--replace", "-o", "json",
                                             stdin=names.rstrip())), {"registered": 20})
        self.ctl("register", "-", "kind=lines", stdin=b"other\nline3\n", code=REFUSED)
        self.assertIn(b"21 targets", self.ctl("multicast", "x", "--filter", '{"kind": "lines"}'))

    def test_usage(self):
        for line in (("register",), ("register", "a", "no-value"), ("multicast",), ("subscribe",),
                     ("multicast", "x", "--rate", "0"), ("subscribe", "a", "--filter", "{}"),
                     ("subscribe", "a", "--when-full", "never")):
            with self.subTest(line):
                self.ctl(*line, code=USAGE)


if __name__ == "__main__":
    suite.main()
