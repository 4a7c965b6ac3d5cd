"""Bounds of queues on PostgreSQL: what the contract cannot show of them, seen through prismd and in the table."""
import contextlib
import subprocess
import threading

import grpc

from rig import environment, messaging, suite, wait
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from prism.patterns.producer import producer_pattern_pb2 as pb

OK, FULL = 0, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
MINUTE = 60000
WORKERS, CONNECTIONS, MOST, FRAME, PUSHERS = 2, 2, 10, 5, 16
GATE = 4711


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

    @contextlib.contextmanager
    def gate(self):
        """Statements that have written messages wait at it, with their transactions, while it is closed."""
        self.postgres.sql("CREATE OR REPLACE FUNCTION at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM"
                          f" pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $$; DROP TRIGGER IF EXISTS gate ON"
                          " prism.messages; CREATE TRIGGER gate AFTER INSERT ON prism.messages FOR EACH STATEMENT"
                          " EXECUTE FUNCTION at_gate()")
        keeper = subprocess.Popen(self.postgres.psql("postgres"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        with keeper:
            keeper.stdin.write(f"SELECT pg_advisory_lock({GATE});\n".encode())
            keeper.stdin.flush()
            wait.until(lambda: self.at_gate(granted=True) == 1, environment.PATIENCE, "the gate is closed")
            yield
            keeper.stdin.close()

    def at_gate(self, granted=False):
        return int(self.postgres.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND"
                                     f" objid = {GATE} AND granted = {granted}"))

    def push_at_once(self, services, frame, **how):
        """Numbers of the frames of which all were stored, and how many messages were."""
        whole, stored, lock, numbers = set(), [0], threading.Lock(), iter(range(1, 1 << 30))

        def push(service):
            for _ in range(10):
                with lock:
                    number = next(numbers)
                answer = service.PublishBatch(messages=[pb.PublishRequest(topic="q", payload=b"%06d" % number)] * frame,
                                              **how)
                codes = [result.code for result in answer.results]
                self.assertLessEqual(set(codes), {OK, FULL})
                with lock:
                    stored[0] += codes.count(OK)
                    whole.update([number] if codes.count(OK) == frame else [])
        threads = [threading.Thread(target=push, args=(services[i % len(services)],)) for i in range(PUSHERS)]
        with self.gate():
            for thread in threads:
                thread.start()
            wait.until(lambda: self.at_gate() >= len(services) * CONNECTIONS, environment.PATIENCE,
                       "so many have written, and have not seen each other's")
        for thread in threads:
            thread.join()
        return whole, stored[0]

    def held(self, what="count(*)"):
        return int(self.postgres.sql(f"SELECT {what} FROM prism.messages"))

    def test_m6_pushes_at_the_same_moment_keep_the_bound(self):
        """Of two processes, with several connections: what was told as stored is there, and no more than may be."""
        own = 200
        for bounds in ({"queue_max_messages": MOST}, {"queue_max_messages": 1000, "queue_max_bytes": own}):
            with self.subTest(bounds):
                services = [self.start(connections=CONNECTIONS, **bounds) for _ in range(2)]
                for _ in range(5):
                    stored = self.push_at_once(services, FRAME)[1]
                    self.assertEqual(self.held(), stored)
                    self.assertLessEqual(stored, bounds["queue_max_messages"])
                    self.assertLessEqual(self.held("coalesce(sum(bytes), 0)"), bounds.get("queue_max_bytes", 1 << 30))
                    while services[0].Publish(topic="q", payload=b"%06d" % 0).code == OK:   # all room that is left
                        stored += 1
                    self.assertEqual(self.held(), stored)
                    self.assertGreaterEqual(stored, min(MOST, own // 20))
                    self.assertLessEqual(stored, bounds["queue_max_messages"])
                    self.postgres.sql("DELETE FROM prism.messages")

    def test_m6_what_is_settled_at_the_look_makes_no_room(self):
        """The push's own commit brings ten of others, and its last two are settled before it looks once more."""
        service = self.start(queue_max_messages=MOST)
        self.postgres.sql("CREATE FUNCTION others() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                          " INSERT INTO prism.messages (space, queue, payload, headers, pushed_at, available_at)"
                          " SELECT space, queue, payload, headers, pushed_at, available_at FROM prism.messages,"
                          " generate_series(1, 2); DELETE FROM prism.messages WHERE id IN"
                          " (SELECT id FROM prism.messages ORDER BY id OFFSET 3 LIMIT 2); RETURN NULL; END $$;"
                          " CREATE TRIGGER others AFTER INSERT ON prism.messages FOR EACH STATEMENT"
                          " WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION others()")
        answer = service.PublishBatch(messages=[pb.PublishRequest(topic="q", payload=b"x")] * FRAME)
        self.assertEqual([result.code for result in answer.results], [FULL] * 3 + [OK] * 2)
        self.assertEqual(self.held(), MOST)

    def test_m6_all_or_none_at_the_same_moment(self):
        services = [self.start(connections=CONNECTIONS, queue_max_messages=FRAME * 2 + 1) for _ in range(2)]
        for _ in range(5):
            whole, stored = self.push_at_once(services, FRAME, atomic=True)
            self.assertLessEqual(stored, FRAME * 2)
            self.assertEqual(stored, FRAME * len(whole))
            rows = self.postgres.sql("SELECT convert_from(payload, 'UTF8') || ' ' || count(*) FROM prism.messages"
                                     " GROUP BY payload").split("\n")
            self.assertEqual({r for r in rows if r}, {f"{number:06} {FRAME}" for number in whole})
            self.postgres.sql("DELETE FROM prism.messages")


if __name__ == "__main__":
    suite.main()
