"""The rig itself: exit codes, logs of a failed suite, and that no server outlives its test."""
import os
import signal
import subprocess
import sys
import textwrap

from rig import suite, wait, yaml
from rig.kafka import KafkaServer
from rig.nats import NatsServer
from rig.postgres import PostgresServer
from rig.proxy import Proxy
from rig.server import exchange

HEAD = """
from rig import suite, environment
from rig.redis import RedisServer

class T(suite.Case):
"""


def start(body, **env):
    """Runs a suite of its own with these methods."""
    path = os.path.join(suite.subfolder("suite"), "sample.py")
    with open(path, "w", encoding="utf-8") as f:
        f.write(HEAD + textwrap.indent(textwrap.dedent(body), "    ") + "\n\nsuite.main()\n")
    return subprocess.Popen([sys.executable, path], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, "PRISM_REQUIRE_ALL": "0", **env})


def run(body, **env):
    process = start(body, **env)
    _, text = process.communicate(timeout=60)
    return process.returncode, text


class Rig(suite.Case):
    def test_exit_codes(self):
        passes = "def test_a(self): self.assertTrue(True)\n"
        skips = "def test_b(self): environment.tool('no-such-tool')\n"
        fails = "def test_c(self): self.fail('on purpose')\n"
        self.assertEqual(run(passes)[0], 0)
        self.assertEqual(run(skips)[0], 77)
        self.assertEqual(run(passes + skips)[0], 0)
        self.assertEqual(run(passes + skips + fails)[0], 1)
        self.assertEqual(run("pass")[0], 1, "no test at all")
        self.assertEqual(run(skips, PRISM_REQUIRE_ALL="1")[0], 1)
        code, text = run(passes + skips, PRISM_REQUIRE_ALL="1")
        self.assertEqual(code, 1)
        self.assertIn("no-such-tool", text)

    def test_logs_of_a_failed_suite(self):
        code, text = run("""
            def test_a(self):
                self.borrow(RedisServer())
                self.fail("on purpose")
            """)
        self.assertEqual(code, 1)
        self.assertIn("redis.log", text)
        self.assertIn("Ready to accept connections", text)

    def test_server_dies_with_its_test(self):
        process = start("""
            def test_a(self):
                redis = self.borrow(RedisServer())
                print(redis.process.pid, flush=True)
                input()
            """)
        pid = int(process.stdout.readline())
        self.assertTrue(os.path.exists(f"/proc/{pid}"))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        wait.until(lambda: not self.runs(pid), 20, "the server is gone")

    def test_each_server_comes_back_after_a_kill(self):
        for kind in (NatsServer, PostgresServer, KafkaServer):
            with self.subTest(kind.name):
                server = self.borrow(kind())
                address = server.address
                server.restart()
                self.assertTrue(server.ready())
                self.assertEqual(server.address, address)

    def test_a_proxy_holds_passes_and_cuts(self):
        nats = self.borrow(NatsServer())
        proxy = self.borrow(Proxy(nats.port))
        answers = lambda: exchange(proxy.port, b"", lambda a: a.startswith(b"INFO")) != b""  # noqa: E731
        self.assertTrue(answers())
        proxy.hold()
        self.assertFalse(answers())
        proxy.pass_()
        self.assertTrue(answers())
        proxy.refuse()
        self.assertFalse(answers())
        proxy.accept()
        self.assertTrue(answers())

    @staticmethod
    def runs(pid):
        try:
            with open(f"/proc/{pid}/status", encoding="ascii") as f:
                return "State:\tZ" not in f.read()
        except FileNotFoundError:
            return False

    def test_yaml(self):
        self.assertEqual(yaml.dump({"a": 1, "b": {"c": [True, "x: y"], "d": {}}, "e": [{"f": "g", "h": 2}, []]}),
                         'a: 1\nb:\n  c:\n    - true\n    - "x: y"\n  d: {}\ne:\n  - f: "g"\n    h: 2\n  - []\n')

    def test_waiting_fails(self):
        with self.assertRaises(AssertionError):
            wait.until(lambda: False, 0.05, "never")
        with self.assertRaises(AssertionError):
            wait.holds(lambda: False, 0.05, "never")


if __name__ == "__main__":
    suite.main()
