"""libprism's publisher against a prismd that is killed, drained and replaced under it."""
import json
import os
import subprocess

from rig import environment, suite, wait
from rig.messaging import producer
from rig.prismd import Prismd
from rig.process import Process


class Publisher(suite.Case):
    def setUp(self):
        # Its stream is never full.
        sink = {"backend": "memstore", "config": {"stream_max_messages": 50000, "stream_drop_unread": True}}
        self.server = self.borrow(Prismd(namespaces=[producer(sink)]))
        self.env = {**os.environ, "PRISM_SERVER": self.server.address,
                    "TSAN_OPTIONS": os.environ.get("CLIENT_TSAN_OPTIONS", "")}

    def start_again(self):
        # The same file, hence the same port.
        self.server.process = Process("prismd", [environment.ours("prismd"), "--config", self.server.config_path],
                                      self.server.folder)
        wait.until(self.server.serving, environment.PATIENCE, "prismd serves again")

    def start(self, *arguments):
        program = os.path.join(os.path.dirname(os.path.abspath(environment.BIN)), "tests", "e2e-client-publisher")
        child = subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env)
        self.addCleanup(child.kill)
        return child

    def ends(self, child):
        out, _ = child.communicate(b"\n", timeout=120)
        self.assertEqual(child.returncode, 0, out)
        return out

    def test_the_api(self):
        child = self.start()
        while (line := child.stdout.readline()) != b"go\n":
            self.assertTrue(line, "it ended early")
        self.server.terminate()
        self.ends(child)

    def test_a_new_stream_forgets_no_failure(self):
        child = self.start("--failed")
        self.assertEqual(child.stdout.readline(), b"go\n")
        self.server.terminate()
        self.start_again()
        self.ends(child)

    def flows(self):
        """Messages are stored."""
        stored = 'prism_producer_messages_total{namespace="default",outcome="stored"}'
        start = self.server.metrics()[stored]
        wait.until(lambda: self.server.metrics()[stored] > start + 1000, environment.PATIENCE, "messages are stored")

    def result(self, child):
        told = json.loads(self.ends(child).splitlines()[-1])
        self.assertEqual(told["put"], told["stored"] + told["not_stored"] + told["unknown"])
        self.assertEqual(told["put"], told["told"], "each is told once")
        return told

    def test_a_planned_replacement_leaves_nothing_unknown(self):
        child = self.start("--flow")
        for _ in range(3):
            self.flows()
            self.server.terminate()
            self.start_again()
        self.flows()
        told = self.result(child)
        self.assertEqual(told["stored"], told["put"])
        self.assertGreaterEqual(told["streams"], 4)

    def test_after_a_kill_it_goes_on_and_says_what_is_unknown(self):
        child = self.start("--flow")
        for _ in range(3):
            self.flows()
            self.server.process.kill()
            self.start_again()
        self.flows()
        told = self.result(child)
        self.assertEqual(told["not_stored"], told["aborted"], "only for the order's sake")
        self.assertGreaterEqual(told["streams"], 4)


if __name__ == "__main__":
    suite.main()
