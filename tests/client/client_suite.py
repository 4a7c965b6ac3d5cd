"""libprism's programs against a running prismd: end-to-end tests in C, restarts, the examples under valgrind."""
import os
import signal
import subprocess

from rig import backends, environment, suite, wait
from rig.prismd import Prismd
from rig.process import Process

BUILD = os.path.dirname(os.path.abspath(environment.BIN))


def program(*parts):
    return os.path.join(BUILD, *parts)


class Client(suite.Case):
    def setUp(self):
        self.slot = self.borrow(backends.slot(suite.backend()))
        self.server = self.borrow(Prismd(namespaces=[backends.keyvalue(self.slot)]))
        self.env = {**os.environ, "PRISM_SERVER": self.server.address, "PRISM_BACKEND": suite.backend(),
                    "TSAN_OPTIONS": os.environ.get("CLIENT_TSAN_OPTIONS", "")}

    def run_program(self, *argv, timeout=240):
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_calls(self):
        self.run_program(program("tests", "e2e-client-prismd"))

    def test_skipped_without_a_server(self):
        env = {k: v for k, v in os.environ.items() if k != "PRISM_SERVER"}
        done = subprocess.run([program("tests", "e2e-client-prismd")], env=env, capture_output=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 77)

    def start_again(self):
        # The same file, hence the same port.
        self.server.process = Process("prismd", [environment.ours("prismd"), "--config", self.server.config_path],
                                      self.server.folder)
        wait.until(self.server.serving, environment.PATIENCE, "prismd serves again")

    def restart(self):
        self.assertEqual(self.server.terminate(), 0)
        self.start_again()

    def crash(self):
        """The kernel closes the connections; nobody says good-bye on them."""
        self.server.process.signal(signal.SIGKILL)
        self.server.process.wait(environment.PATIENCE)
        self.start_again()

    def start_restart_program(self, part):
        child = subprocess.Popen([program("tests", "e2e-client-restart"), part], env=self.env, text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        self.assertEqual(child.stdout.readline(), "ready\n")
        return child

    def finish(self, child):
        child.stdin.close()
        text = child.stdout.read()
        self.assertEqual(child.wait(120), 0, text)
        return text

    def test_idle_client_survives_a_restart(self):
        self.interrupt_idle_client(self.restart)

    def test_idle_client_survives_a_crash(self):
        self.interrupt_idle_client(self.crash)

    def interrupt_idle_client(self, interrupt):
        child = self.start_restart_program("idle")
        interrupt()
        child.stdin.write("\n")
        child.stdin.flush()
        self.finish(child)

    def test_busy_client_survives_restarts(self):
        child = self.start_restart_program("busy")
        for _ in range(3):
            self.restart()
        self.assertIn("calls", self.finish(child))

    def test_busy_client_survives_crashes(self):
        child = self.start_restart_program("busy")
        for _ in range(3):
            self.crash()
        self.assertIn("calls", self.finish(child))

    def test_examples(self):
        """They say what they should, and valgrind finds nothing."""
        prefix = []
        if not environment.SANITIZER:
            # Not the "possibly lost": gRPC closes its connection and ends its threads in the background, after
            # prism_channel_close(), and what they still use then valgrind finds by pointers into the middle only.
            prefix = [environment.tool("valgrind"), "-q", "--leak-check=full", "--error-exitcode=9",
                      "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]
        for name, words in (("store_retrieve", ["hello, world"]),
                            ("batch", ["example/ada = 1815", "example/grace = 1906", "example/nobody is absent"]),
                            ("scan", [" keys"]),
                            ("capabilities", ["backend " + suite.backend(), "StoreBatch"])):
            with self.subTest(name):
                text = self.run_program(*prefix, program("examples", name), self.server.address)
                for word in words:
                    self.assertIn(word, text)


if __name__ == "__main__":
    suite.main()
