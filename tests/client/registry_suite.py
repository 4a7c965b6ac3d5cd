"""The multicast registry as a user of prismctl sees it, against a prismd on its defaults."""
import contextlib
import json
import os
import pty
import signal
import subprocess

from rig import environment, multicast, suite
from rig.prismd import Prismd

DONE, USAGE, NOT_FOUND, REFUSED, PARTIAL, OTHER = 0, 1, 2, 4, 8, 9


class Registry(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.use(Prismd())
        cls.env = {**os.environ, "TSAN_OPTIONS": os.environ.get("CLIENT_TSAN_OPTIONS", "")}

    def start(self, *arguments, server=None):
        return subprocess.Popen([environment.ours("prismctl"), "-s", (server or self.server).address, *arguments],
                                env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ctl(self, *arguments, code=DONE, stdin=b"", server=None):
        child = self.start(*arguments, server=server)
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
        both = ("--dry-run", "--filter", '{"$identity.in": ["p1", "p2"]}')
        told = json.loads(self.ctl("multicast", "x", "-o", "json", *both))
        size = told["cost"]["message_bytes"]
        self.assertEqual(told, {
            "targets": 2, "dry_run": True, "delivered": 0, "confirmed": 0, "no_receiver": 0, "pending": 0, "skipped": 0,
            "failed": 0,
            "cost": {"published_messages": 2, "stored_messages": 0, "message_bytes": size, "least_ms": 0}})
        self.assertGreater(size, 2)
        counted = "2 targets match; nothing was sent\n"
        whole = f"{counted}it would publish at most 2 messages, {size} bytes"
        self.assertEqual(self.ctl("multicast", "x", *both).decode(), f"{whole}\n")
        self.assertEqual(self.ctl("multicast", "x", "--rate", "2", *both).decode(), f"{whole}, in 0.500 s or more\n")
        self.assertEqual(self.ctl("multicast", "x", "--max-targets", "1", *both).decode(), counted)

    def test_kept_messages_are_told(self):
        slot = {"backend": "memstore", "config": {}}
        server = self.borrow(Prismd(namespaces=[multicast.namespace(slot, slot, durability=slot)]))
        self.ctl("register", "kept", server=server)
        self.assertRegex(self.ctl("multicast", "x", server=server).decode(),
                         r"^1 targets: 0 delivered, 1 kept until they are received, 0 without a receiver, 0 failed, ")
        counts = json.loads(self.ctl("multicast", "x", "-o", "json", server=server))
        self.assertEqual((counts["targets"], counts["pending"], counts["delivered"]), (1, 1, 0))
        self.assertNotIn("cost", counts)
        self.assertIn(b"\nit would store 1 messages, ", self.ctl("multicast", "x", "--dry-run", server=server))

    def test_an_interrupted_multicast_says_how_far_it_got(self):
        names = [f"slow{n}" for n in range(300)]
        self.ctl("register", "-", "kind=slow", stdin="\n".join(names).encode())
        receiver = self.start("subscribe", *names)
        self.assertEqual(receiver.stderr.readline(), b"listening\n")
        child = self.start("multicast", "x", "--filter", '{"kind": "slow"}', "--rate", "20")
        self.assertEqual(receiver.stdout.readline(), b"x\n")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        self.assertIn(child.returncode, (PARTIAL, OTHER), (out, err))
        self.assertIn(b"interrupted: the rest is not sent", err)
        self.assertRegex(out, rb"^\d+ targets: ")
        receiver.kill()
        receiver.communicate(timeout=60)

    def test_progress_on_a_terminal(self):
        """How many so far, and how many in a second, in one line that is written over; then the counts."""
        self.ctl("register", "-", "kind=shown", stdin=b"".join(b"shown%d\n" % n for n in range(60)))
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        child = subprocess.Popen([environment.ours("prismctl"), "-s", self.server.address, "multicast", "x", "--filter",
                                  '{"kind": "shown"}', "--rate", "40"], env=self.env, stdin=subprocess.DEVNULL,
                                 stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):      # the terminal's end
            while piece := os.read(ours, 4096):
                shown += piece
        self.assertEqual(child.wait(60), DONE)
        self.assertRegex(shown, rb"^(\r\d+ targets, \d+ targets/s *)+\r60 targets: 0 delivered, 60 without a receiver, "
                                rb"0 failed, in \d+\.\d+ s, \d+ targets/s\r\n$")

    def test_a_line_that_is_no_identity_is_named(self):
        many = b"".join(b"many%d\n" % i for i in range(1200))
        for text, said in ((b"entry1\nentry2\n\nentry4\n", b"line 3 is empty"), (b"\n", b"line 1 is empty"),
                           (b"entry1\r\n\r\n", b"line 2 is empty"), (b"entry1\nen\0try", b"line 2 holds a NUL"),
                           (b"entry1\nentr\xff\n", b"line 2 is not UTF-8"),
                           (many + b"\n", b"line 1201 is empty")):
            with self.subTest(said):
                child = self.start("register", "-", "--replace")
                _, err = child.communicate(text, timeout=60)
                self.assertEqual(child.returncode, REFUSED, err)
                self.assertIn(said, err)
        self.ctl("identity", "entry2")
        self.ctl("identity", "entry4", code=NOT_FOUND)
        self.ctl("identity", "many1199")

    def test_who_is_there_already_is_named(self):
        self.ctl("register", "there")
        child = self.start("register", "-")
        _, err = child.communicate(b"new1\nthere\nnew2\n", timeout=60)
        self.assertEqual(child.returncode, REFUSED)
        self.assertEqual(err, b"prismctl: ALREADY_EXISTS: there: the identity is registered\n")
        self.ctl("identity", "new2")

    def test_enumerate(self):
        """Over several pages, with what a shell or a script reads."""
        names = [f"e{n}" for n in range(1200)]
        self.ctl("register", "-", "kind=listed", "age=4.5", "on=true", 'text="a\nb"', stdin="\n".join(names).encode())
        which = ("--filter", '{"kind": "listed"}')
        found = [json.loads(line) for line in self.ctl("enumerate", *which, "-o", "json").splitlines()]
        self.assertEqual(sorted(i["identity"] for i in found), sorted(names))
        self.assertEqual(found[0]["metadata"], {"kind": "listed", "age": 4.5, "on": True, "text": "a\nb"})
        self.assertGreater(found[0]["generation"], 0)
        self.assertIsNone(found[0]["expires_at_ms"])
        lines = self.ctl("enumerate", *which, "--limit", "1100").decode().splitlines()
        self.assertEqual(len(lines), 1100)
        self.assertRegex(lines[0], r'^e\d+  \{.*"age":4.5.*\}$')
        self.ctl("enumerate", "--filter", "{", code=REFUSED)

    def test_identity(self):
        self.ctl("register", "single", "a=1", "--ttl", "600")
        found = json.loads(self.ctl("identity", "single", "-o", "json"))
        self.assertEqual((found["identity"], found["metadata"]), ("single", {"a": 1}))
        self.assertGreater(found["expires_at_ms"], found["registered_at_ms"])
        self.assertRegex(self.ctl("identity", "single").decode(), r'^single  expires 20\S+Z  \{"a":1\}\n$')
        self.assertEqual(self.ctl("identity", "nobody", code=NOT_FOUND), b"absent\n")

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
        self.assertEqual(self.ctl("unregister", "q1", code=NOT_FOUND), b"absent\n")

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

    def test_names_in_lines_that_end_as_on_windows(self):
        self.assertEqual(self.ctl("register", "-", "kind=cr", stdin=b"cr1\r\ncr2\r\ncr3\r"), b"3 registered\n")
        found = self.ctl("enumerate", "--filter", '{"kind": "cr"}', "-o", "json").splitlines()
        self.assertEqual(sorted(json.loads(line)["identity"] for line in found), ["cr1", "cr2", "cr3"])

    def test_usage(self):
        for line in (("register",), ("register", "a", "no-value"), ("register", "a", "x=1", "x=2"),
                     ("multicast",), ("subscribe",), ("multicast", "x", "--rate", "0"),
                     ("subscribe", "a", "--filter", "{}"),
                     ("subscribe", "a", "--when-full", "never")):
            with self.subTest(line):
                self.ctl(*line, code=USAGE)


if __name__ == "__main__":
    suite.main()
