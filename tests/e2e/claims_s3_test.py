"""Claim checks with the objects on an S3 server, the messages on redis-stream."""
import os

import grpc

import claims_test
from rig import backends, environment, s3, suite, wait
from rig.aws_front import AwsFront
from rig.keyvalue import pattern_service
from rig.messaging import producer, producer_service
from rig.prismd import Prismd
from rig.redis import RedisServer


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


class Orphans(suite.Case):
    """The sink refuses a message whose payload is an object by then."""

    def setUp(self):
        self.redis = self.borrow(RedisServer())
        self.s3 = self.borrow(s3.S3Proxy())
        self.front = self.borrow(AwsFront(self.s3.port))
        config = {"endpoint": self.front.url, "bucket": s3.BUCKET, "force_path_style": True,
                  "access_key_id": s3.ACCESS, "secret_access_key": s3.SECRET}
        objects = {"backend": "s3", "config": config}
        sink = {"backend": "redis-stream", "config": {"address": self.redis.address}}
        self.server = self.borrow(Prismd(workers=1, namespaces=[
            producer(sink, objects=objects, claim_check_threshold=1000, retry_for_ms=1),
            backends.keyvalue({**objects, "emulate": ["keyvalue_scan"]})]))
        channel = self.borrow(self.server.channel())
        self.publisher, self.objects = producer_service(channel), pattern_service(channel)
        self.redis.call("CONFIG", "SET", "maxmemory", "1")

    def orphans(self):
        return self.server.metric("prism_producer_objects_orphaned_total", namespace="default")

    def left(self):
        return [key for page in self.objects.Scan(prefix="") for key in page.keys]

    def refused(self):
        try:
            self.assertFalse(self.publisher.Publish(topic="t", payload=os.urandom(5000)).success)
        except grpc.RpcError as error:
            self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, error.details())

    def test_the_object_of_a_refused_message_is_removed(self):
        self.refused()
        wait.until(lambda: self.left() == [], environment.PATIENCE, "the object is gone")
        self.assertEqual(self.orphans(), 0)

    def test_one_that_cannot_be_removed_is_counted_and_named(self):
        self.front.let_pass(1)
        self.front.fail(50, 403, "AccessDenied")
        self.refused()
        wait.until(lambda: self.orphans() == 1, environment.PATIENCE, "it is counted")
        self.front.calm()
        key, = self.left()
        self.assertIn(key, [e["key"] for e in self.server.log_events() if e["event"] == "object_orphaned"])
        self.assertTrue(self.objects.Remove(key=key).success)


if __name__ == "__main__":
    suite.main()
