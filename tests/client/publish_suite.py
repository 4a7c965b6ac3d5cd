"""Publishing as a user of prismctl and of libprism sees it, against a prismd on its defaults."""
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios

from rig import environment, suite, wait
from rig.messaging import producer, producer_service
from rig.prismd import Prismd
from rig.process import free_port

DONE, USAGE, UNAVAILABLE, REFUSED, UNSUPPORTED, EXHAUSTED, PARTIAL, OTHER = 0, 1, 3, 4, 5, 7, 8, 9


def unread(pipe):
    """Bytes that nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


class Publish(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.use(Prismd())
        cls.env = {**os.environ, "TSAN_OPTIONS": os.environ.get("CLIENT_TSAN_OPTIONS", "")}

    def publish(self, *arguments, stdin=b"", code=DONE, server=None):
        command = [environment.ours("prismctl"), "-s", server or self.server.address, "publish", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False, env=self.env)
        self.assertEqual(done.returncode, code, done)
        return done

    def results(self, *arguments, **options):
        return [json.loads(line) for line in self.publish("-o", "json", *arguments, **options).stdout.splitlines()]

    def published(self):
        return producer_service(self.server.channel()).GetStats().messages_published

    def test_arguments(self):
        before = self.published()
        self.assertRegex(self.publish("arguments", "a", "b", "c").stdout.decode(),
                         r"^3 stored in [0-9.]+ s, \d+ messages/s\n$")
        self.assertEqual(self.published(), before + 3)

    def test_every_line_is_a_message(self):
        """Empty lines too, and a last one without a newline; positions follow each other across batches."""
        for batch in ("1", "2", "1000"):
            with self.subTest(batch):
                results = self.results("lines-" + batch, "--batch", batch, "--key", "k", "--header", "a=1", "--header",
                                       "b=x=y", stdin=b"first\n\nthird\n\xff\x00\nlast")
                self.assertEqual([r["outcome"] for r in results], ["STORED"] * 5)
                self.assertEqual([r["number"] for r in results], [1, 2, 3, 4, 5])
                first = results[0]["offset"]
                self.assertEqual([r["offset"] - first for r in results], [0, 1, 2, 3, 4])

    def test_many_lines_and_bytes(self):
        before = self.published()
        path = os.path.join(suite.subfolder("publish"), "lines")
        with open(path, "wb") as f:
            for i in range(20000):
                f.write(b"%d\n" % i)
            for _ in range(10):
                f.write(b"x" * 700000 + b"\n")
        self.assertTrue(self.publish("many", "--file", path).stdout.startswith(b"20010 stored in "))
        self.assertEqual(self.published(), before + 20010)

    def test_nothing_to_publish(self):
        self.assertTrue(self.publish("nothing").stdout.startswith(b"0 stored in "))
        self.assertEqual(self.results("nothing"), [])

    def test_the_first_failure_ends_the_command(self):
        """Each message of its call is accounted for, and none of the next call is sent."""
        before = self.published()
        self.assertEqual([r["outcome"] for r in self.results("no topic", "a", code=REFUSED)], ["NOT_STORED"])
        results = self.results("no topic", "--batch", "2", "a", "b", "c", code=PARTIAL)
        self.assertEqual([(r["number"], r["outcome"], r["code"]) for r in results],
                         [(1, "NOT_STORED", "INVALID_ARGUMENT"), (2, "NOT_STORED", "INVALID_ARGUMENT")])
        self.assertEqual(self.published(), before)

    def test_what_is_too_large_for_the_server_is_not_sent(self):
        """The capabilities tell the bound; what the server itself refuses is the library's test."""
        before = self.published()
        done = self.publish("large", stdin=b"first\n" + b"x" * 5_000_000, code=REFUSED)
        self.assertIn(b"line 2 holds more than 4186112 bytes", done.stderr)
        self.assertEqual(self.published() - before, done.stdout.count(b"1 stored"))

    def test_a_whole_batch_is_all_of_the_input_or_each_so_many_lines(self):
        """The server's own counts of batches tell: one call each, also over a pause of the input."""
        def frames():
            return self.server.metric("prism_rpc_total", method="PublishBatch")
        for name, arguments, stdin, calls in (("all", (), b"a\nb\n" * 500, 1), ("arguments", ("a", "b", "c"), b"", 1),
                                              ("some", ("--batch", "400"), b"a\n" * 1000, 3), ("one", ("a",), b"", 1)):
            with self.subTest(name):
                before = frames()
                results = self.results("whole-" + name, "--atomic", *arguments, stdin=stdin)
                self.assertEqual({r["outcome"] for r in results}, {"STORED"})
                self.assertEqual(len(results), stdin.count(b"\n") or len(arguments))
                self.assertEqual(frames() - before, calls)
        before = frames()
        child = self.start("whole-pause", "--atomic", "--batch", "2")
        child.stdin.write(b"a\n")
        child.stdin.flush()
        wait.until(lambda: unread(child.stdin) == 0, 20, "it has read the line")
        child.stdin.write(b"b\nc")
        out, _ = child.communicate()
        self.assertTrue(out.startswith(b"3 stored"), out)
        self.assertEqual(frames() - before, 2)

    def test_what_would_be_a_part_of_a_whole_batch_is_not_sent(self):
        before = self.published()
        done = self.publish("whole", "--atomic", stdin=b"a\n" * 1001, code=REFUSED)
        self.assertIn(b"a whole batch has at most 1000 messages, and there are more from message 1 on", done.stderr)
        done = self.publish("whole", "--atomic", "--batch", "1001", code=REFUSED)
        self.assertIn(b"--batch: a whole batch has at most 1000 messages here", done.stderr)
        done = self.publish("whole", "--atomic", stdin=b"a\n" + b"x" * 5_000_000, code=REFUSED)
        self.assertIn(b"line 2 holds more than 4186112 bytes", done.stderr)
        done = self.publish("whole", "--atomic", stdin=(b"x" * 1_000_000 + b"\n") * 6, code=EXHAUSTED)
        self.assertIn(b"0 stored, 6 not stored", done.stdout)
        done = self.publish("whole", "--atomic", "--delimited", stdin=b"\0\0\0\1a\0\0\0\2b", code=USAGE)
        self.assertIn(b"ends within a message", done.stderr)
        child = self.start("whole", "--atomic")
        child.stdin.write(b"a\nb\n")
        child.stdin.flush()
        wait.until(lambda: unread(child.stdin) == 0, 20, "it has read the lines")
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(60), OTHER)
        _, told = child.communicate()
        self.assertIn(b"interrupted: message 1 and those behind it were not sent", told)
        self.assertEqual(self.published(), before)

    def test_a_sink_without_whole_batches_refuses_them(self):
        slot = {"backend": "nats", "config": {"address": f"127.0.0.1:{free_port()}"}}
        server = self.borrow(Prismd(namespaces=[producer(slot)], wait_for=Prismd.http_answers))
        done = self.publish("whole", "--atomic", "a", code=UNSUPPORTED, server=server.address)
        self.assertIn(b"atomic", done.stderr)

    def start(self, *arguments):
        return subprocess.Popen([environment.ours("prismctl"), "-s", self.server.address, "publish", *arguments],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env)

    def test_a_pause_of_the_input_sends_what_is_there(self):
        """Also the first part of a line that has no end yet waits for its rest, and for nothing else."""
        before = self.published()
        child = self.start("pause")
        for n, part in enumerate((b"a\nb\nc", b"d\n", b"e\n")):
            child.stdin.write(part)
            child.stdin.flush()
            wait.until(lambda n=n: self.published() == before + n + 2, 30, "the lines were sent")
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, DONE, (out, err))
        self.assertTrue(out.startswith(b"4 stored in "), out)

    def test_interrupt_sends_what_was_read(self):
        before = self.published()
        for part, code, said in ((b"a\n", DONE, b"interrupted: all that was read was sent"),
                                 (b"a\nb", OTHER, b"interrupted: message 2 was read in part, and not sent")):
            with self.subTest(part):
                child = self.start("interrupted")
                child.stdin.write(part)
                child.stdin.flush()
                before += 1
                wait.until(lambda: self.published() == before, 30, "the line was sent")
                child.send_signal(signal.SIGINT)
                # The input stays open: it is the signal that ends the command.
                self.assertEqual(child.wait(60), code)
                self.assertIn(said, child.stderr.read())
                self.assertTrue(child.stdout.read().startswith(b"1 stored in "))
                child.communicate()

    def test_usage(self):
        for line in ((), ("t", "m", "--file", "-"), ("t", "--file", "/nowhere/file"), ("t", "m", "--header", "x"),
                     ("t", "m", "--batch", "0"), ("t", "m", "--ttl", "5"), ("t", "m", *["--header", "a=b"] * 65)):
            with self.subTest(line):
                self.assertEqual(self.publish(*line, code=USAGE).stdout, b"")

    def test_unavailable(self):
        self.publish("t", "m", "-t", "1", code=UNAVAILABLE, server=f"127.0.0.1:{free_port()}")

    def example(self, name, *arguments):
        program = os.path.join(os.path.dirname(os.path.abspath(environment.BIN)), "examples", name)
        prefix = []
        if not environment.SANITIZER:
            prefix = [environment.tool("valgrind"), "-q", "--leak-check=full", "--error-exitcode=9",
                      "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]
        done = subprocess.run([*prefix, program, self.server.address, *arguments], capture_output=True, text=True,
                              timeout=120, check=False, env=self.env)
        self.assertEqual(done.returncode, 0, done)
        return done.stdout

    def test_what_was_never_sent_is_told_as_not_stored(self):
        """P2: whatever the deadline, of every sink that cannot be connected to."""
        port = f"127.0.0.1:{free_port()}"
        slots = {"redis": {"address": port}, "redis-stream": {"address": port}, "nats": {"address": port},
                 "jetstream": {"address": port}, "kafka": {"brokers": port}, "postgres": {"address": port}}
        server = self.borrow(Prismd(namespaces=[producer({"backend": backend, "config": config}, backend)
                                                for backend, config in slots.items()], wait_for=Prismd.http_answers))
        for backend in slots:
            for seconds in ("1", "1.9"):  # less than retry_for_ms
                with self.subTest((backend, seconds)):
                    result, = self.results("-n", backend, "-t", seconds, "t", "x", server=server.address, code=PARTIAL)
                    self.assertEqual((result["outcome"], result["code"]), ("NOT_STORED", "UNAVAILABLE"), result)

    def test_examples(self):
        self.assertEqual(self.example("publish").count("stored as example/"), 3)
        self.assertEqual(self.example("publisher", "2000"), "2000 stored\n")


if __name__ == "__main__":
    suite.main()
