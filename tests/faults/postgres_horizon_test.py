"""B5: a transaction left open elsewhere in the database keeps the dead rows of the queue's table. Taking goes on, the
metrics tell of both, and all is as before once it has ended."""
import statistics
import subprocess
import time

from rig import environment, messaging, suite, wait
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from prism.patterns.producer import producer_pattern_pb2 as pb

ROUND, FRAME = 4000, 500
DEAD, TAKEN = 200000, 30000
RATE = 0.7      # of taking beside it, to that without
ROUNDS, MOST = 3, 12    # others use the machine as well: the median of so many pairs, or of as many more as it takes


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


def leave_dead(postgres, n):
    """What n messages leave that came to the queue in the last minute, were taken, and settled."""
    now = "(extract(epoch FROM now()) * 1000)::int8"
    postgres.sql(f"INSERT INTO prism.messages (space, queue, payload, headers, pushed_at, available_at) SELECT id, 'q',"
                 f" '0', '', at, at FROM prism.spaces, generate_series({now} - 60000, {now} - 1, 60000.0 / {n}) AS at"
                 f" WHERE name = 'default'")
    postgres.sql(f"UPDATE prism.messages SET delivery = nextval('prism.deliveries'), available_at = {now}")
    postgres.sql("DELETE FROM prism.messages")


class Horizon(suite.Case):
    def setUp(self):
        self.postgres = self.borrow(PostgresServer(autovacuum="off"))   # the test says when it is cleaned

    def start(self, **config):
        self.server, self.producer, self.consumer = self.serve(self.postgres, **config)

    def serve(self, postgres, **config):
        slot = {"backend": "postgres", "config": {"address": postgres.address, "username": "postgres",
                                                  "database": "postgres", **config}}
        server = self.borrow(Prismd(namespaces=[messaging.producer(slot), messaging.consumer(slot)]))
        channel = self.borrow(server.channel())
        return server, messaging.producer_service(channel), messaging.consumer_service(channel)

    def metric(self, name, **labels):
        """That of one slot; None: not known."""
        samples = [value for sample, value in self.server.metrics().items() if sample.startswith(name + "{")
                   and 'slot="message_sink"' in sample and all(f'{k}="{v}"' in sample for k, v in labels.items())]
        return samples[0] if samples else None

    def member(self, consumer):
        return messaging.Member(consumer, topic="q", max_in_flight=2 * FRAME)

    def round(self, producer, member, n=ROUND):
        """Publishes, takes and settles; the seconds of the latter two. A member that stands has its fill before."""
        for at in range(0, n, FRAME):
            messages = [pb.PublishRequest(topic="q", payload=b"%d" % i) for i in range(at, at + FRAME)]
            producer.PublishBatch(messages=messages)
        began = time.monotonic()
        for _ in range(0, n, FRAME):
            member.settle(member.take(FRAME)[-1].sequence)
        return time.monotonic() - began

    def clean(self, postgres=None):
        (postgres or self.postgres).sql("VACUUM prism.messages")

    def test_b5_taking_beside_an_open_transaction(self):
        self.start(old_transaction_ms=1000)
        with Elsewhere(self.postgres) as elsewhere:
            for _ in range(5):
                with self.member(self.consumer) as member:
                    self.round(self.producer, member)
                self.clean()
            dead = 5 * ROUND
            wait.until(lambda: (self.metric("prism_postgres_dead_rows", table="messages") or 0) >= dead,
                       environment.PATIENCE, "what cannot be removed is counted")
            wait.until(lambda: (self.metric("prism_postgres_oldest_transaction_seconds") or 0) >= 1,
                       environment.PATIENCE, "the age is told")
            wait.until(lambda: any(e["event"] == "postgres_old_transaction" and e["pid"] == elsewhere.pid
                                   for e in self.server.log_events()), environment.PATIENCE, "a warning names it")
        self.clean()
        wait.until(lambda: self.metric("prism_postgres_dead_rows", table="messages") < ROUND,
                   environment.PATIENCE, "dead rows go when it has ended")
        wait.until(lambda: self.metric("prism_postgres_oldest_transaction_seconds") < 1, environment.PATIENCE,
                   "and so does the age")
        wait.until(lambda: any(e["event"] == "postgres_old_transaction_over" for e in self.server.log_events()),
                   environment.PATIENCE, "and so it is told")

    def test_b5_dead_rows_do_not_slow_taking_down(self):
        """Two servers take turns. One has what 200,000 messages have left, and VACUUM may not remove it."""
        self.start()
        held = self.borrow(PostgresServer(autovacuum="off"))
        _, producer, consumer = self.serve(held)
        with Elsewhere(held), self.member(consumer) as member, self.member(self.consumer) as other:
            self.round(producer, member)
            leave_dead(held, DEAD)
            ratios = []
            while len(ratios) < ROUNDS or (statistics.median(ratios) < RATE and len(ratios) < MOST):
                self.clean()
                alone = self.round(self.producer, other, TAKEN)
                ratios.append(alone / self.round(producer, member, TAKEN))
                self.clean(held)
            dead = held.sql("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'messages'")
        print(f"{dead} dead rows: {[round(ratio, 2) for ratio in ratios]} of the rate without")
        self.assertGreaterEqual(int(dead), 2 * DEAD)
        self.assertGreaterEqual(statistics.median(ratios), RATE)

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
