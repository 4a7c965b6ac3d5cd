"""B5: a transaction left open elsewhere in the database keeps the dead rows of the queue's table. Taking goes on, the
metrics tell of both, and all is as before once it has ended."""
import subprocess
import time

from rig import environment, messaging, suite, wait
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from prism.patterns.producer import producer_pattern_pb2 as pb

ROUND, FRAME = 4000, 500
SLOWER = 4      # taking beside it needs no more than this many times as long


class Elsewhere:
    """A transaction of somebody else, with a snapshot, from enter to exit."""

    def __init__(self, postgres, user="postgres"):
        self.argv = postgres.psql(user, "-f", "-")

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.say("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_backend_pid();")
        self.pid = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        self.process.communicate("COMMIT;\n", timeout=environment.PATIENCE)

    def say(self, sql):
        self.process.stdin.write(sql + "\n")
        self.process.stdin.flush()


class Horizon(suite.Case):
    def setUp(self):
        self.postgres = self.borrow(PostgresServer(autovacuum="off"))   # the test says when it is cleaned

    def start(self, **config):
        slot = {"backend": "postgres", "config": {"address": self.postgres.address, "username": "postgres",
                                                  "database": "postgres", **config}}
        self.server = self.borrow(Prismd(namespaces=[messaging.producer(slot), messaging.consumer(slot)]))
        channel = self.borrow(self.server.channel())
        self.producer = messaging.producer_service(channel)
        self.consumer = messaging.consumer_service(channel)

    def metric(self, name, **labels):
        """That of one slot; None: not known."""
        samples = [value for sample, value in self.server.metrics().items() if sample.startswith(name + "{")
                   and 'slot="message_sink"' in sample and all(f'{k}="{v}"' in sample for k, v in labels.items())]
        return samples[0] if samples else None

    def round(self):
        """Publishes, takes and settles; the seconds of the latter two."""
        for at in range(0, ROUND, FRAME):
            messages = [pb.PublishRequest(topic="q", payload=b"%d" % i) for i in range(at, at + FRAME)]
            self.producer.PublishBatch(messages=messages)
        began = time.monotonic()
        with messaging.Member(self.consumer, topic="q", max_in_flight=1000) as member:
            for _ in range(0, ROUND, FRAME):
                member.settle(member.take(FRAME)[-1].sequence)
        return time.monotonic() - began

    def clean(self):
        self.postgres.sql("VACUUM prism.messages")

    def alone(self):
        self.clean()
        return min(self.round() for _ in range(3))

    def test_b5_taking_beside_an_open_transaction(self):
        self.start(old_transaction_ms=1000)
        before = self.alone()
        with Elsewhere(self.postgres) as elsewhere:
            seconds = []
            for _ in range(5):
                seconds.append(self.round())
                self.clean()
            dead = 5 * ROUND
            wait.until(lambda: (self.metric("prism_postgres_dead_rows", table="messages") or 0) >= dead,
                       environment.PATIENCE, "what cannot be removed is counted")
            wait.until(lambda: (self.metric("prism_postgres_oldest_transaction_seconds") or 0) >= 1,
                       environment.PATIENCE, "the age is told")
            wait.until(lambda: any(e["event"] == "postgres_old_transaction" and e["pid"] == elsewhere.pid
                                   for e in self.server.log_events()), environment.PATIENCE, "a warning names it")
        print(f"alone {before:.3f} s; beside an open transaction {[round(s, 3) for s in seconds]} s")
        self.clean()
        wait.until(lambda: self.metric("prism_postgres_dead_rows", table="messages") < ROUND,
                   environment.PATIENCE, "dead rows go when it has ended")
        wait.until(lambda: self.metric("prism_postgres_oldest_transaction_seconds") < 1, environment.PATIENCE,
                   "and so does the age")
        wait.until(lambda: any(e["event"] == "postgres_old_transaction_over" for e in self.server.log_events()),
                   environment.PATIENCE, "and so it is told")
        self.assertLess(min(seconds[-2:]), SLOWER * before)

    def test_b5_what_a_role_may_not_see_is_counted(self):
        self.postgres.sql("CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE postgres TO app")
        self.start(username="app")
        with Elsewhere(self.postgres):
            wait.until(lambda: self.metric("prism_postgres_hidden_sessions") == 1, environment.PATIENCE,
                       "there is one that it may not look into")
            with Elsewhere(self.postgres, "app"):
                wait.until(lambda: self.metric("prism_postgres_oldest_transaction_seconds") > 1, environment.PATIENCE,
                           "those of its own it sees")
            wait.until(lambda: self.metric("prism_postgres_oldest_transaction_seconds") < 1, environment.PATIENCE,
                       "the other one is not in the age")

    def test_b5_what_is_not_known_is_not_told(self):
        self.start()
        wait.until(lambda: self.metric("prism_postgres_oldest_transaction_seconds") is not None, environment.PATIENCE,
                   "a probe has asked")
        self.postgres.kill()
        wait.until(lambda: self.metric("prism_postgres_oldest_transaction_seconds") is None, environment.PATIENCE,
                   "without a server nothing is known")


if __name__ == "__main__":
    suite.main()
