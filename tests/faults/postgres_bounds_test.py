"""Bounds of queues on PostgreSQL: what the contract cannot show of them, seen through prismd and in the table."""
import threading

import grpc

from rig import messaging, suite
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from prism.patterns.producer import producer_pattern_pb2 as pb

OK, FULL = 0, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
MINUTE = 60000
WORKERS, CONNECTIONS, MOST, FRAME, PUSHERS = 2, 2, 10, 5, 16


class Bounds(suite.Case):
    def setUp(self):
        self.postgres = self.borrow(PostgresServer())

    def start(self, **config):
        slot = {"backend": "postgres", "config": {"address": self.postgres.address, "username": "postgres",
                                                  "database": "postgres", **config}}
        self.server = self.borrow(Prismd(workers=WORKERS, namespaces=[messaging.producer(slot)]))
        return messaging.producer_service(self.borrow(self.server.channel()))

    def row(self, pushed, available):
        """A message that was pushed and has become due so many ms ago."""
        self.postgres.sql("INSERT INTO prism.messages (space, queue, payload, headers, pushed_at, available_at) SELECT"
                          f" id, 'q', 'x', '', now_ms - {pushed}, now_ms - {available} FROM prism.spaces,"
                          " (SELECT floor(extract(epoch FROM now()) * 1000)::int8) AS now(now_ms)")

    def test_m6_the_age_is_that_of_waiting(self):
        """What was pushed long ago to come now, for a delay or a retry, has not waited for a receiver."""
        service = self.start(queue_max_age_ms=MINUTE)
        self.row(pushed=60 * MINUTE, available=0)
        self.assertEqual(service.Publish(topic="q", payload=b"x").code, OK)
        self.row(pushed=60 * MINUTE, available=MINUTE + 1)
        self.assertEqual(service.Publish(topic="q", payload=b"x").code, FULL)
        self.assertEqual(service.Publish(topic="other", payload=b"x").code, OK)

    def test_m6_how_far_pushes_at_the_same_moment_pass_a_bound(self):
        """Each connection may add what it has seen room for; there are WORKERS * CONNECTIONS of them."""
        service = self.start(queue_max_messages=MOST, connections=CONNECTIONS)
        frame = [pb.PublishRequest(topic="q", payload=b"x")] * FRAME

        def push():
            for _ in range(10):
                service.PublishBatch(messages=frame)
        for _ in range(5):
            threads = [threading.Thread(target=push) for _ in range(PUSHERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            held = int(self.postgres.sql("SELECT count(*) FROM prism.messages"))
            self.assertGreaterEqual(held, MOST)
            self.assertLessEqual(held, WORKERS * CONNECTIONS * MOST)
            self.assertEqual(service.Publish(topic="q", payload=b"x").code, FULL)
            print(f"{held} messages in a queue that holds {MOST}")
            self.postgres.sql("DELETE FROM prism.messages")


if __name__ == "__main__":
    suite.main()
