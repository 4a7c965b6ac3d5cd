"""B6: a pooler before PostgreSQL. One of sessions serves and is told; one of transactions is refused with a reason."""
import grpc

from rig import backends, environment, messaging, suite, wait, wire
from rig.keyvalue import pattern_service
from rig.pgbouncer import PgBouncer
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from prism.patterns.producer import producer_pattern_pb2 as pb


class Pooler(suite.Case):
    def setUp(self):
        self.postgres = self.borrow(PostgresServer())

    def slot(self, mode, **config):
        self.pooler = self.borrow(PgBouncer(self.postgres, mode))
        return {"backend": "postgres", "config": {"address": self.pooler.address, "username": "postgres",
                                                  "database": "postgres", **config}}

    def events(self, name):
        return [e for e in self.server.log_events() if e["event"] == name]

    def test_b6_one_of_sessions_serves(self):
        slot = self.slot("session", queue_poll_ms=60000)
        self.server = self.borrow(Prismd(namespaces=[messaging.producer(slot), messaging.consumer(slot)]))
        channel = self.borrow(self.server.channel())
        producer = messaging.producer_service(channel)
        with messaging.Member(messaging.consumer_service(channel), topic="q") as member:
            for i in range(20):     # told by NOTIFY, through the pooler
                producer.PublishBatch(messages=[pb.PublishRequest(topic="q", payload=b"%d" % i)])
                member.settle(member.take(1)[0].sequence)
        self.assertEqual(len(self.events("postgres_pooler")), 2, "once for each slot")
        self.assertNotIn("pooler of transactions", self.server.process.log())

    def test_b6_one_of_transactions_is_told(self):
        slot = self.slot("transaction")
        self.server = self.borrow(Prismd(wait_for=lambda s: s.http_answers(), workers=1,
                                         namespaces=[backends.keyvalue(slot)]))
        kv = pattern_service(self.borrow(self.server.channel()))
        wait.until(lambda: "pooler of transactions" in self.server.http("/readyz")[1], environment.PATIENCE,
                   "readyz says why")
        self.assertEqual(len(self.events("postgres_pooler")), 1)
        wait.until(lambda: wire.failure(kv.Retrieve, key="k", timeout=5).code() ==
                   grpc.StatusCode.FAILED_PRECONDITION, environment.PATIENCE, "and so does a call")
        self.assertIn("pooler of transactions", wire.failure(kv.Retrieve, key="k", timeout=5).details())


if __name__ == "__main__":
    suite.main()
