"""The session store as a user of prismctl sees it, against a prismd on its defaults."""
import json
import os
import subprocess
import time

from rig import environment, suite
from rig.prismd import Prismd

DONE, USAGE, NOT_FOUND = 0, 1, 2


class Sessions(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.use(Prismd())
        cls.env = {**os.environ, "TSAN_OPTIONS": os.environ.get("CLIENT_TSAN_OPTIONS", "")}

    def ctl(self, *arguments, code=DONE):
        done = subprocess.run([environment.ours("prismctl"), "-s", self.server.address, "-t", "60", "session",
                               *arguments],
                              capture_output=True, text=True, timeout=120, check=False, env=self.env)
        self.assertEqual(done.returncode, code, done)
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.ctl(*arguments, "-o", "json"))

    def create(self, *arguments):
        return self.ctl("create", *arguments).strip()

    def test_values(self):
        long = "x" * 20000
        id_ = self.create("theme=dark", f"long={long}", "empty=", "--user", "ada", "--region", "eu",
                          "--client", "phone")
        self.ctl("set", id_, "theme=light", "cart=a=b")
        self.ctl("unset", id_, "empty", "nothing")
        found = self.json("get", id_)
        self.assertEqual((found["user_id"], found["region"], found["client_id"], found["version"]),
                         ("ada", "eu", "phone", 3))
        self.assertEqual({v["name"]: (v["value"], v["version"]) for v in found["values"]},
                         {"theme": ("light", 2), "long": (long, 1), "cart": ("a=b", 2)})
        self.assertIn("cart=a=b\n", self.ctl("get", id_, "--touch"))
        self.ctl("end", id_)
        self.ctl("end", id_, code=NOT_FOUND)
        self.ctl("get", id_, code=NOT_FOUND)
        self.ctl("set", id_, "a=1", code=NOT_FOUND)

    def test_rotate_and_extend(self):
        old = self.create("a=1", "--ttl", "60")
        new = self.ctl("rotate", old).strip()
        self.assertNotEqual(old, new)
        self.ctl("rotate", old, code=NOT_FOUND)
        until = self.json("extend", new, "3600")["expires_at_ms"]
        self.assertGreater(until, time.time() * 1000 + 3_000_000)
        self.assertEqual(self.json("extend", new, "30")["expires_at_ms"], until)

    def test_a_user(self):
        ids = [self.create("--user", "grace", "--client", f"c{n % 2}") for n in range(4)]
        self.assertEqual([s["session_id"] for s in self.json("list", "--user", "grace")], ids)
        self.assertEqual(len(self.json("list", "--user", "grace", "--client", "c1")), 2)
        self.assertEqual(len(self.json("list", "--user", "grace", "--limit", "3")), 3)
        self.assertEqual(len(self.ctl("list", "--user", "grace").splitlines()), 4)
        self.assertEqual(self.json("end-user", "grace", "--except", ids[2])["ended"], 3)
        self.assertEqual([s["session_id"] for s in self.json("list", "--user", "grace")], [ids[2]])

    def test_usage(self):
        for line in (("create", "no-value"), ("create", "a=1", "b=2", "a=3"), ("set", "id", "a=1", "a=1"),
                     ("get",), ("set", "id"), ("extend", "id", "soon"),
                     ("list", "--except", "x"), ("end-user",), ("nonsense",)):
            with self.subTest(line):
                self.ctl(*line, code=USAGE)

    def test_example(self):
        program = os.path.join(os.path.dirname(os.path.abspath(environment.BIN)), "examples", "session")
        prefix = []
        if not environment.SANITIZER:
            prefix = [environment.tool("valgrind"), "-q", "--leak-check=full", "--error-exitcode=9",
                      "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]
        done = subprocess.run([*prefix, program, self.server.address], capture_output=True, text=True, timeout=120,
                              check=False, env=self.env)
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(sorted(done.stdout.splitlines()), ["1 session ended", "cart = umbrella (version 1)",
                                                            "roles = buyer (version 2)"])


if __name__ == "__main__":
    suite.main()
