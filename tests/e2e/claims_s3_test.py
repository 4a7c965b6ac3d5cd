"""Claim checks with the objects on an S3 server, the messages on redis-stream."""
import json
import os
import re
import threading

import grpc
from grpc_health.v1 import health_pb2

import claims_test
from rig import backends, environment, s3, suite, wait
from rig.aws_front import AwsFront
from rig.keyvalue import pattern_service
from rig.messaging import Member, consumer, consumer_service, pb as published, producer, producer_service
from rig.prismd import Prismd, run
from rig.redis import RedisServer

REFUSED = 4  # prismctl's exit code
BROKEN = "the server answers"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = {p: f"prism.patterns.{p}.{p.capitalize()}Pattern" for p in ("consumer", "producer")}


class Claims(claims_test.Claims):
    @classmethod
    def setUpClass(cls):
        cls.serve("s3")

    def test_nothing_is_removed_by_reading(self):
        self.publish(b"z" * 5000)
        with self.member(max_inline_bytes=0) as member:
            key = member.take(1)[0].claim.key
            member.settle(1)
        with self.member("another") as member:
            self.assertEqual(member.take(1)[0].payload, b"z" * 5000)
            member.settle(1)
        self.assertTrue(self.objects.Exists(key=key).exists)


class ClaimFaults(claims_test.ClaimFaults):
    @classmethod
    def setUpClass(cls):
        cls.serve("s3")


class Compressed(claims_test.Compressed):
    @classmethod
    def setUpClass(cls):
        cls.serve("s3")


class Behind(suite.Case):
    """The objects are behind a front that fails as it is told, the messages on redis-stream."""
    NAME = "orders"

    def setUp(self):
        self.redis = self.borrow(RedisServer())
        self.s3 = self.borrow(s3.S3Proxy())
        self.front = self.borrow(AwsFront(self.s3.port))
        config = {"endpoint": self.front.url, "bucket": s3.BUCKET, "force_path_style": True,
                  "access_key_id": s3.ACCESS, "secret_access_key": s3.SECRET}
        objects = {"backend": "s3", "config": config}
        sink = {"backend": "redis-stream", "config": {"address": self.redis.address}}
        self.server = self.borrow(Prismd(workers=1, namespaces=[
            producer(sink, self.NAME, objects=objects, claim_check_threshold=1000, retry_for_ms=1),
            consumer(sink, self.NAME, dead_letters=sink, objects=objects),
            *(backends.keyvalue({**objects, "emulate": ["keyvalue_scan"]}, name) for name in (self.NAME, "another"))]))
        self.channel = self.borrow(self.server.channel())
        self.publisher = producer_service(self.channel, self.NAME)
        self.objects = pattern_service(self.channel, self.NAME)

    def left(self):
        return [key for page in self.objects.Scan(prefix="") for key in page.keys]


class Away(Behind):
    """B3: a store that denies or does not answer is no loss, and the slots that need it are degraded meanwhile."""

    def why(self, pattern):
        """What /readyz says of the pattern's object store; None: nothing."""
        told = json.loads(self.server.http("/readyz")[1])
        slot = f"{pattern}/{self.NAME}/object_store (s3): "
        texts = told.get("reasons", told.get("restrictions", []))
        return next((t[len(slot):] for t in texts if t.startswith(slot)), None)

    def degraded(self, pattern):
        return self.server.metric("prism_backend_degraded", namespace=self.NAME, pattern=pattern, slot="object_store")

    def health(self, pattern):
        return self.server.health(f"{pattern}/{self.NAME}/object_store")

    def held_back(self, fault, why):
        self.assertTrue(self.publisher.Publish(topic="t", payload=b"x" * 5000).claim_checked)
        fault()
        with Member(consumer_service(self.channel, self.NAME), topic="t", consumer_group="g") as member:
            wait.until(lambda: self.server.metric("prism_consumer_object_failures_total") >= 2, environment.PATIENCE,
                       "it was asked for twice")
            self.is_degraded("consumer", why)
            self.assertTrue(self.publisher.Publish(topic="t", payload=b"small").success)
            message, = member.take(1)
            self.assertEqual(message.payload, b"small", "what needs no object flows")
            self.assertEqual(self.redis.call("EXISTS", "t.g.dead"), 0)
            self.front.calm()
            message, = member.take(1)
            self.assertEqual((message.payload, message.attempt), (b"x" * 5000, 1))
            member.settle(2)
        self.is_well("consumer")
        self.assertEqual(len(self.left()), 1, "reading removes nothing")

    def not_written(self, fault, why):
        """Nothing is stored, and the next one that can be written ends it."""
        fault()
        try:
            self.assertFalse(self.publisher.Publish(topic="t", payload=b"x" * 5000).success)
        except grpc.RpcError as error:
            self.assertIn(error.code(), (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED))
        self.is_degraded("producer", why)
        self.assertTrue(self.publisher.Publish(topic="t", payload=b"small").success)
        self.front.calm()
        wait.until(lambda: self.health("producer") == SERVING, environment.PATIENCE, "it is asked again")
        self.assertTrue(self.publisher.Publish(topic="t", payload=b"x" * 5000).claim_checked)
        self.is_well("producer")

    def is_degraded(self, pattern, why):
        wait.until(lambda: self.degraded(pattern) == 1, environment.PATIENCE, "the metric says so")
        wait.until(lambda: why in (self.why(pattern) or ""), environment.PATIENCE, f"/readyz says why: {why}")
        self.assertEqual(self.server.health(SERVICES[pattern]), SERVING, "the slot is an optional one")

    def is_well(self, pattern):
        wait.until(lambda: self.degraded(pattern) == 0 and self.why(pattern) is None, environment.PATIENCE, "over")
        wait.until(lambda: self.health(pattern) == SERVING, environment.PATIENCE, "its health says so")

    def deny(self):
        self.front.refuse_all(403, "AccessDenied")

    def break_it(self):
        self.front.refuse_all(503, "ServiceUnavailable")

    def test_b3_access_is_denied(self):
        self.held_back(self.deny, "the object store denies access")

    def test_b3_the_store_is_broken(self):
        """Its own check finds that, too: the slot is down, and NOT_SERVING by its name."""
        self.held_back(self.break_it, BROKEN)

    def test_b3_nothing_can_be_written(self):
        self.not_written(self.deny, "the object store denies access")

    def test_b3_a_broken_store_takes_nothing(self):
        self.not_written(self.break_it, BROKEN)


class Orphans(Behind):
    """B4: the sink refuses a message whose payload is an object by then."""

    def fill(self, full=True):
        self.redis.call("CONFIG", "SET", "maxmemory", int(full))

    def orphans(self):
        return self.server.metric("prism_producer_objects_orphaned_total", namespace=self.NAME)

    def refused(self):
        try:
            self.assertFalse(self.publisher.Publish(topic="t", payload=os.urandom(5000)).success)
        except grpc.RpcError as error:
            self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, error.details())

    def test_b4_half_are_refused(self):
        """What is left afterwards are the objects that messages refer to, and no others."""
        for n in range(100):
            self.fill(n % 2)
            if n % 2:
                self.refused()
            else:
                self.assertTrue(self.publisher.Publish(topic="t", payload=os.urandom(5000)).claim_checked)
        self.fill(False)
        wait.until(lambda: len(self.left()) == 50, environment.PATIENCE, "the others are gone")
        keys = set()
        reader = consumer_service(self.channel, self.NAME)
        with Member(reader, topic="t", consumer_group="g", max_inline_bytes=0) as member:
            keys = {message.claim.key for message in member.take(50)}
        self.assertEqual(keys, set(self.left()))
        self.assertEqual(self.orphans(), 0)

    def test_the_object_of_a_refused_message_is_removed(self):
        self.fill()
        self.refused()
        wait.until(lambda: self.left() == [], environment.PATIENCE, "the object is gone")
        self.assertEqual(self.orphans(), 0)

    def test_one_that_cannot_be_removed_is_counted_and_named(self):
        self.fill()
        self.front.let_pass(1)
        self.front.fail(50, 403, "AccessDenied")
        self.refused()
        wait.until(lambda: self.orphans() == 1, environment.PATIENCE, "it is counted")
        self.front.calm()
        key, = self.left()
        self.assertIn(key, [e["key"] for e in self.server.log_events() if e["event"] == "object_orphaned"])
        self.assertTrue(self.objects.Remove(key=key).success)

    def kv(self, *arguments, **how):
        return self.ctl("kv", *arguments, **how)

    def ctl(self, *arguments, namespace=None, code=0):
        done = run("prismctl", "-s", self.server.address, "-n", namespace or self.NAME, "-o", "json", *arguments)
        self.assertEqual(done.returncode, code, done)
        return json.loads(done.stdout or done.stderr)

    def stored(self):
        """What is in the bucket, without asking Prism: but for the objects on which workers try conditional writes."""
        status, _, body = self.s3.client().request("GET", f"/{s3.BUCKET}?list-type=2")
        self.assertEqual(status, 200, body)
        return [name for name in re.findall("<Key>([^<]*)</Key>", body.decode()) if not name.endswith("/!probe")]

    def test_b4_prismctl_finds_and_removes_it(self):
        """In the key-value namespace of the producer's name; also while removals are refused, as to it."""
        self.fill()
        self.front.refuse("DELETE", 403, "AccessDenied")
        self.refused()
        wait.until(lambda: self.orphans() == 1, environment.PATIENCE, "it is counted")
        key, = [e["key"] for e in self.server.log_events() if e["event"] == "object_orphaned"]
        self.assertEqual(self.stored(), [f"prism/{self.NAME}/{key}"])
        self.assertEqual([item["key"] for item in self.kv("scan", "claim/")], [key])
        self.assertEqual(self.kv("scan", namespace="another"), [])
        self.assertEqual(self.kv("remove", key, code=REFUSED)["error"]["code"], "PERMISSION_DENIED")
        self.front.calm()
        self.assertTrue(self.kv("remove", key)["existed"])
        self.assertEqual(self.kv("scan", "claim/"), [])
        self.assertEqual(self.stored(), [])

    # ---- thousands of them ----

    BATCHES, BATCH = 100, 100

    def publish_batch(self):
        request = [published.PublishRequest(topic="t", payload=os.urandom(1100)) for _ in range(self.BATCH)]
        return self.publisher.PublishBatch(messages=request).results

    def takes(self):
        try:
            return self.publisher.Publish(topic="t", payload=b"small").success
        except grpc.RpcError:
            return False

    def kill_clients(self, stop):
        while not stop.wait(0.002):
            self.redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def publish_with_failures(self):
        """Half of the batches fail: the sink is full, and of every second one no object can be removed; or its
        connections break under it, and nobody knows what it stored."""
        for n in range(self.BATCHES):
            if n % 4 == 3:
                stop = threading.Event()
                killer = threading.Thread(target=self.kill_clients, args=[stop])
                killer.start()
                self.publish_batch()
                stop.set()
                killer.join()
                wait.until(self.takes, environment.PATIENCE, "the sink is there again")
            elif n % 4 == 1:
                self.fill()
                if n % 8 == 1:
                    self.front.refuse("DELETE", 403, "AccessDenied")
                self.assertFalse(any(r.success for r in self.publish_batch()))
                wait.until(lambda: self.of_objects("written") == self.settled(), environment.PATIENCE, "all is settled")
                self.front.calm()
                self.fill(False)
            else:
                self.assertEqual({r.error for r in self.publish_batch()}, {""})

    def of_objects(self, outcome):
        return self.server.metric("prism_producer_objects_total", namespace=self.NAME, outcome=outcome)

    def settled(self):
        return sum(self.of_objects(o) for o in ("referred", "removed", "unknown", "orphaned"))

    def referred_to(self):
        """The keys in the messages that the stream holds."""
        return set(re.findall(r"key=(claim/[0-9a-f-]+)", repr(self.redis.call("XRANGE", "t", "-", "+"))))

    def listed(self):
        return {claim["key"] for claim in self.ctl("claims", "list")}

    def test_b4_after_a_sweep_only_what_is_referred_to_is_left(self):
        self.publish_with_failures()
        wait.until(lambda: self.of_objects("written") == self.settled(), environment.PATIENCE, "all is settled")
        kept, before = self.referred_to(), self.listed()
        self.assertGreater(len(kept), self.BATCHES * self.BATCH / 2 - 1)
        self.assertEqual(len(kept - before), 0, "each message has its object")
        orphans = self.of_objects("orphaned")
        self.assertGreaterEqual(orphans, self.BATCHES * self.BATCH / 8)
        self.assertLessEqual(orphans, len(before - kept))
        self.assertEqual(self.of_objects("written") - self.of_objects("removed"), len(before))
        self.assertEqual(self.ctl("claims", "sweep", "--older-than", "1d")["removed"], 0)
        path = os.path.join(suite.subfolder("claims"), "referenced")
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(f"{key}\n" for key in sorted(kept))
        swept = self.ctl("claims", "sweep", "--older-than", "0s", "--referenced", path)
        self.assertEqual((swept["removed"], swept["kept"], swept["failed"]), (len(before - kept), len(kept), 0))
        self.assertEqual(len(self.listed() ^ kept), 0)


if __name__ == "__main__":
    suite.main()
