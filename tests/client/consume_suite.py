"""Consuming as a user of prismctl and of libprism sees it, against a prismd on its defaults."""
import json
import os
import signal
import subprocess

from rig import backends, environment, suite, wait
from rig.messaging import Member, consumer, consumer_service, pb, producer, producer_service
from rig.prismd import Prismd
from rig.process import free_port
from rig.proxy import Proxy
from rig.redis import RedisServer

DONE, USAGE, UNAVAILABLE, REFUSED, UNSUPPORTED = 0, 1, 3, 4, 5


class Consume(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.use(Prismd())
        cls.producer = producer_service(cls.server.channel())
        cls.env = {**os.environ, "TSAN_OPTIONS": os.environ.get("CLIENT_TSAN_OPTIONS", "")}

    def start(self, *arguments, server=None, **options):
        return subprocess.Popen([environment.ours("prismctl"), "-s", (server or self.server).address, *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env, **options)

    def ctl(self, *arguments, code=DONE, **options):
        child = self.start(*arguments, **options)
        out, err = child.communicate(timeout=120)
        self.assertEqual(child.returncode, code, (out, err))
        return out

    def publish(self, topic, *payloads):
        answer = self.producer.PublishBatch(messages=[pb.PublishRequest(topic=topic, payload=p) for p in payloads])
        self.assertTrue(all(r.success for r in answer.results))

    def test_a_group_goes_on_where_it_stopped(self):
        self.publish("on", *(b"%d" % i for i in range(1, 3001)))
        self.assertEqual(self.ctl("consume", "on", "--group", "g", "--limit", "2"), b"1\n2\n")
        rest = self.ctl("consume", "on", "--group", "g", "--limit", "2998", "-o", "json").splitlines()
        self.assertEqual([json.loads(line)["payload"] for line in rest], [str(i) for i in range(3, 3001)])
        self.assertEqual(self.ctl("consume", "on", "--group", "g", "--idle", "0.2"), b"")
        self.assertEqual(self.ctl("consume", "on", "--group", "other", "--limit", "1"), b"1\n")

    def test_kept_messages_stay(self):
        self.publish("kept", b"a", b"b")
        for _ in range(2):
            self.assertEqual(self.ctl("consume", "kept", "--group", "g", "--limit", "2", "--keep"), b"a\nb\n")

    def test_what_is_delivered_at_most_once(self):
        """Nothing is settled there: the stream goes on from message to message, and the command succeeds."""
        slot = self.use(backends.slot("redis"))
        server = self.use(Prismd(namespaces=[producer(slot), consumer(slot)]))
        child = self.start("consume", "news", "--limit", "3", server=server)
        while child.poll() is None:  # what is published before it listens is for nobody
            self.ctl("publish", "news", "x", server=server)
        out, err = child.communicate(timeout=60)
        self.assertEqual((child.returncode, out), (DONE, b"x\nx\nx\n"), err)
        self.assertRegex(err, rb"^3 received in [^\n]*\n$")

    def test_interrupt_settles_what_was_written(self):
        self.publish("int", b"a")
        child = self.start("consume", "int", "--group", "g")
        self.assertEqual(child.stdout.readline(), b"a\n")
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, DONE, err)
        self.assertRegex(err, rb"^1 received in ")
        self.publish("int", b"b")
        self.assertEqual(self.ctl("consume", "int", "--group", "g", "--limit", "1"), b"b\n")

    def test_output_that_cannot_be_written(self):
        """Nothing of it is settled."""
        self.publish("full", b"a")
        with open("/dev/full", "wb") as full:
            child = subprocess.run([environment.ours("prismctl"), "-s", self.server.address, "consume", "full",
                                    "--group", "g", "--limit", "1"], stdout=full, stderr=subprocess.PIPE,
                                   env=self.env, timeout=60, check=False)
        self.assertNotEqual(child.returncode, DONE)
        self.assertEqual(self.ctl("consume", "full", "--group", "g", "--limit", "1"), b"a\n")

    def test_dead_letters(self):
        slot = self.borrow(backends.slot("memstore"))
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot, dead_letters=slot)]))
        channel = self.borrow(server.channel())
        producer_service(channel).PublishBatch(messages=[pb.PublishRequest(topic="t", payload=p) for p in (b"a", b"b")])
        with Member(consumer_service(channel), topic="t", consumer_group="g") as member:
            member.take(2)
            member.reject(1, 2, disposition=3, reason="broken")
            member.told(lambda f: f.settled_through == 2)
            letters = self.ctl("deadletters", "list", "t", "g", "--limit", "2", "-o", "json", server=server)
            letters = [json.loads(line) for line in letters.splitlines()]
            self.assertEqual([letter["payload"] for letter in letters], ["a", "b"])
            self.assertIn("broken", json.dumps(letters[0]["headers"]))

            def redrive(*limit):
                return self.ctl("deadletters", "redrive", "t", "g", *limit, server=server)

            wait.until(lambda: redrive("--limit", "1") == b"1 published again\n", 20, "the reader has left")
            self.assertEqual((redrive(), redrive()), (b"1 published again\n", b"0 published again\n"))
            self.assertEqual([m.payload for m in member.take(2)], [b"a", b"b"])

    def test_messages_that_cannot_be_received_are_no_empty_topic(self):
        """They are to become dead letters, which cannot be written: neither idle nor Ctrl-C ends that well."""
        source, letters = (self.borrow(RedisServer()) for _ in range(2))
        slots = [{"backend": "redis-stream", "config": {"address": redis.address}} for redis in (source, letters)]
        server = self.borrow(Prismd(namespaces=[producer(slots[0]), consumer(slots[0], dead_letters=slots[1],
                                                                             max_attempts=1, retry_delay_ms=0)]))
        channel = self.borrow(server.channel())
        letters.call("SET", "t.g.dead", "no stream")
        producer_service(channel).Publish(topic="t", payload=b"a")
        with Member(consumer_service(channel), topic="t", consumer_group="g") as member:
            member.take(1)  # and vanishes with it
        wait.until(lambda: server.metric("prism_consumer_dead_letters_total", outcome="failed") > 0,
                   environment.PATIENCE, "its dead letter cannot be written")
        for ends in ("idle", "interrupt"):
            with self.subTest(ends):
                before = server.metric("prism_consumer_dead_letters_total", outcome="failed")
                options = ("--idle", "3") if ends == "idle" else ()
                child = self.start("consume", "t", "--group", "g", *options, server=server)
                wait.until(lambda: server.metric("prism_consumer_dead_letters_total", outcome="failed") > before,
                           environment.PATIENCE, "it is tried again")
                if ends == "interrupt":
                    child.send_signal(signal.SIGINT)
                out, err = child.communicate(timeout=60)
                self.assertEqual((child.returncode, out), (UNAVAILABLE, b""), err)
                self.assertIn(b"messages wait that cannot be received: dead letters cannot be written", err)
        letters.call("DEL", "t.g.dead")
        self.assertEqual(self.ctl("consume", "t", "--group", "g", "--idle", "5", server=server), b"")

    def test_messages_that_others_hold_up_can_be_received(self):
        """All that the group may hold is another member's, and more waits: it comes once that one settles."""
        redis = self.borrow(RedisServer())
        slot = {"backend": "redis-stream", "config": {"address": redis.address}}
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot, max_group_bytes=65536)]))
        channel = self.borrow(server.channel())
        for _ in range(20):
            producer_service(channel).Publish(topic="t", payload=bytes(40000))
        with Member(consumer_service(channel), topic="t", consumer_group="g") as member:
            member.take(1)
            wait.until(lambda: consumer_service(channel).GetState(topic="t", consumer_group="g").stalled_reason,
                       environment.PATIENCE, "the bound is met")
            state = consumer_service(channel).GetState(topic="t", consumer_group="g")
            self.assertEqual((state.stalled_reason, state.stuck),
                             ("the messages that are held fill max_group_bytes", False))
            self.assertEqual(self.ctl("consume", "t", "--group", "g", "--idle", "1", server=server), b"")

    def test_dead_letters_that_cannot_be_read_are_named(self):
        """As the source calls them: the command names topic and group only."""
        redis = self.borrow(RedisServer())
        slot = {"backend": "redis-stream", "config": {"address": redis.address}}
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot, dead_letters=slot)]))
        redis.call("SET", "t.g.dead", "no stream")
        for command in ("list", "redrive"):
            child = self.start("deadletters", command, "t", "g", server=server)
            _, err = child.communicate(timeout=60)
            self.assertEqual(child.returncode, REFUSED, err)
            self.assertIn(b"dead letters in t.g.dead: the key of this name holds", err)

    def test_delimited(self):
        frames = b"\0\0\0\3a\nb" + b"\0\0\0\0" + b"\0\1\0\0" + bytes(65536)
        for text, code in ((frames, DONE), (frames + b"\0\0", USAGE), (b"\0\0\0\5ab", USAGE)):
            child = self.start("publish", "delimited", "--delimited", stdin=subprocess.PIPE)
            child.communicate(text, timeout=60)
            self.assertEqual(child.returncode, code)
        self.assertEqual(self.ctl("consume", "delimited", "--group", "g", "--delimited", "--limit", "6"), frames * 2)

    def test_a_backend_that_is_not_there_is_no_empty_topic(self):
        slot = {"backend": "redis-stream", "config": {"address": f"127.0.0.1:{free_port()}"}}
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot, dead_letters=slot)],
                                    wait_for=Prismd.http_answers))
        for line in (("consume", "t", "--group", "g", "--idle", "0.2"), ("deadletters", "list", "t", "g")):
            with self.subTest(line):
                child = self.start("-t", "1", *line, server=server)
                out, err = child.communicate(timeout=60)
                self.assertEqual((child.returncode, out), (UNAVAILABLE, b""), err)
                self.assertIn(b"the subscription does not stand", err)
                self.assertNotIn(b"received", err)

    def test_idle_counts_from_when_it_stands(self):
        """What is there comes, however long it took to get at it."""
        redis = self.borrow(RedisServer())
        slot = {"backend": "redis-stream", "config": {"address": redis.address}}
        server = self.borrow(Prismd(namespaces=[producer(slot), consumer(slot)]))
        producer_service(server.channel()).Publish(topic="late", payload=b"a")
        redis.pause()
        child = self.start("-t", "30", "consume", "late", "--group", "g", "--idle", "0.5", server=server)
        self.assertRaises(subprocess.TimeoutExpired, child.wait, 2)
        redis.resume()
        out, err = child.communicate(timeout=60)
        self.assertEqual((child.returncode, out), (DONE, b"a\n"), err)

    def test_a_server_that_dies_is_told_at_once(self):
        for ends in ("interrupt", "idle"):
            server = self.borrow(Prismd())
            with self.subTest(ends):
                options = ("--idle", "2", "-t", "1") if ends == "idle" else ()
                child = self.start("consume", "dying", "--group", "g", *options, server=server)
                producer_service(server.channel()).Publish(topic="dying", payload=b"a")
                self.assertEqual(child.stdout.readline(), b"a\n")
                server.process.kill()
                self.assertIn(b"reconnecting", child.stderr.readline())
                if ends == "interrupt":
                    child.send_signal(signal.SIGINT)
                out, err = child.communicate(timeout=60)
                self.assertEqual((child.returncode, out), (UNAVAILABLE, b""), err)
                self.assertIn(b"the subscription does not stand", err)

    def test_usage(self):
        for line in ((), ("t", "u"), ("t", "--from", "somewhere"), ("t", "--idle", "0"), ("t", "--key", "k")):
            with self.subTest(line):
                self.assertEqual(self.ctl("consume", *line, code=USAGE), b"")
        self.assertEqual(self.ctl("consume", "no\ttopic", "--group", "g", code=REFUSED), b"")

    def test_library(self):
        program = os.path.join(os.path.dirname(os.path.abspath(environment.BIN)), "tests", "e2e-client-consume")
        with Proxy(self.server.port) as proxy:
            child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                     stderr=subprocess.STDOUT, env={**self.env, "PRISM_SERVER": proxy.address})
            self.addCleanup(child.kill)
            said = []
            for line in child.stdout:
                said.append(line)
                if line == "cut\n":
                    proxy.cut()
                    child.stdin.write("\n")
                    child.stdin.flush()
            self.assertEqual(child.wait(120), 0, "".join(said))
            child.stdin.close()
            child.stdout.close()

    def test_example(self):
        program = os.path.join(os.path.dirname(os.path.abspath(environment.BIN)), "examples", "consume")
        prefix = []
        if not environment.SANITIZER:
            prefix = [environment.tool("valgrind"), "-q", "--leak-check=full", "--error-exitcode=9",
                      "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]
        done = subprocess.run([*prefix, program, self.server.address], capture_output=True, text=True, timeout=120,
                              check=False, env=self.env)
        self.assertEqual((done.returncode, done.stdout), (0, "one\ntwo\nthree\n"), done)


if __name__ == "__main__":
    suite.main()
