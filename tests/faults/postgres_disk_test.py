"""A real PostgreSQL whose disk is full: writes are refused, at once and with the reason, and what is refused is not
there; reads and removals go on, health says so, and with room again everything goes on without a restart."""
import itertools
import os

import grpc
from google.rpc import error_details_pb2

from rig import backends, environment, messaging, multicast, session, suite, wait, wire
from rig.keyvalue import Pattern, pattern_service
from rig.load import Load
from rig.postgres import SmallDisk
from rig.prismd import Prismd

S = grpc.StatusCode
WIDTH = 32
DEADLINE = 5.0
VALUE = 6000        # random bytes, so that each write soon needs another page
BEFORE = 20         # writes: while there is room
BURST = 600         # writes at a time: more than one worker takes alone
ENOUGH = 2000       # writes: far more than find room in the pages that are there
FULL = "the disk of postgres is full; nothing was written"
MEMSTORE = {"backend": "memstore", "config": {}}


class FullDisk(suite.Case):
    def setUp(self):
        self.postgres = self.borrow(SmallDisk())
        self.slot = {"backend": "postgres", "config": {"address": self.postgres.address, "username": "postgres",
                                                       "database": "postgres"}}

    def serve(self, *namespaces, **options):
        self.server = self.borrow(Prismd(namespaces=list(namespaces), **options))
        return self.borrow(self.server.channel())

    def until_refused(self, write):
        """write(number) until the server says no, on a disk that is full from number BEFORE on; the numbers that it has
        stored, and the one that it has not."""
        for number in range(ENOUGH):
            if number == BEFORE:
                self.postgres.fill()
            try:
                answer = write(number)
            except grpc.RpcError as e:
                self.refused(e)
                break
            if answer.HasField("error"):
                self.assertEqual((answer.code, answer.error), (S.RESOURCE_EXHAUSTED.value[0], FULL))
                break
        self.assertIn(number, range(BEFORE, ENOUGH - 1), "it is refused once there is no room, and only then")
        return list(range(number)), number

    def refused(self, error):
        """For sure: nothing says that the effect is unknown."""
        self.assertEqual((error.code(), error.details()), (S.RESOURCE_EXHAUSTED, FULL))
        info = wire.detail(error, error_details_pb2.ErrorInfo)
        self.assertNotEqual(info.metadata.get("effect", "none") if info else "none", "unknown")
        self.assertGreater(wire.retry_delay_seconds(error), 0)

    def is_shown(self):
        """Restricted, and serving: the reads go on."""
        wait.until(lambda: FULL in self.server.http("/readyz")[1], environment.PATIENCE, "readyz names the disk")
        self.assertEqual(self.server.http("/readyz")[0], 200)
        self.assertTrue(self.server.serving())
        self.assertEqual(self.server.metric("prism_backend_degraded"), 1)

    def is_shown_no_longer(self):
        """Without another write, on each of the workers."""
        wait.until(lambda: self.server.metric("prism_backend_degraded") == 0, environment.PATIENCE, "nothing is shown")
        self.assertNotIn("disk", self.server.http("/readyz")[1])

    def recovers(self, write, number):
        self.postgres.make_room()
        self.assertFalse(write(number).HasField("error"), "without a restart")
        wait.until(lambda: self.server.metric("prism_backend_in_flight") == 0, environment.PATIENCE,
                   "nothing is left with the backend")

    def test_keyvalue(self):
        kv = pattern_service(self.serve(backends.keyvalue(self.slot)))
        values = {}

        def store(number):
            values[number] = os.urandom(VALUE)
            return kv.Store(key=f"k{number}", value=values[number])

        stored, refused = self.until_refused(store)
        self.is_shown()
        for number in stored:
            self.assertEqual(kv.Retrieve(key=f"k{number}").value, values[number])
        self.assertFalse(kv.Exists(key=f"k{refused}").exists)
        self.refused(wire.failure(kv.StoreBatch, atomic=True, requests=[
            {"key": f"b{i}", "value": os.urandom(VALUE)} for i in range(100)]))
        self.assertEqual(kv.Count(prefix="b").count, 0)
        self.assertTrue(kv.Remove(key="k0").success, "a removal needs no room")
        self.recovers(store, refused)
        self.assertEqual(kv.Retrieve(key=f"k{refused}").value, values[refused])
        self.is_shown_no_longer()

    def test_b8_what_was_refused_together_is_not_sent_again_alone(self):
        """Postgres writes a line for each statement that it refuses: they are few, where many writes have gathered."""
        kv = pattern_service(self.serve(backends.keyvalue(self.slot), workers=1))
        self.until_refused(lambda number: kv.Store(key=f"k{number}", value=os.urandom(VALUE)))
        before = self.refusals()
        self.postgres.pause()
        calls = [kv.Store.future(key=f"b{i}", value=os.urandom(VALUE)) for i in range(BURST)]
        wait.until(lambda: self.server.metric("prism_backend_in_flight") >= BURST, environment.PATIENCE, "all wait")
        self.postgres.resume()
        for call in calls:
            self.refused(call.exception(environment.PATIENCE))
        told = self.refusals() - before
        self.assertIn(told, range(1, BURST // 2), "groups are refused as one")

    def refusals(self):
        return self.postgres.process.log().count("ERROR:  could not extend file")

    def test_each_worker_recovers(self):
        kv = pattern_service(self.serve(backends.keyvalue(self.slot), workers=2))
        numbers = itertools.count()

        def refused_on():
            """The workers that have shown it so far, after one more burst that keeps both busy."""
            for call in [kv.Store.future(key=f"k{next(numbers)}", value=os.urandom(VALUE)) for _ in range(BURST)]:
                call.exception(environment.PATIENCE)
            return {e["worker"] for e in self.server.log_events() if e["event"] == "postgres_degraded"}

        self.postgres.fill()
        wait.until(lambda: refused_on() == {0, 1}, environment.PATIENCE, "both workers are refused")
        self.is_shown()
        self.postgres.make_room()
        self.is_shown_no_longer()

    def test_keyvalue_under_load(self):
        """Full and not full, while many write: each answer is true of what is there in the end."""
        pattern = Pattern(self.serve(backends.keyvalue(self.slot)))
        kv, stored, refused = pattern.rpc, set(), set()

        def inspect(future, number, seconds):
            if seconds > DEADLINE:
                return f"call {number} took {seconds:.1f} s"
            if future.code() == S.OK:
                stored.add(number)
            elif future.code() == S.RESOURCE_EXHAUSTED and future.details() == FULL:
                refused.add(number)
            else:
                return f"call {number}: {future.code()}: {future.details()}"
            return None

        load = Load(lambda i: kv.Store.future(key=f"k{i}", value=os.urandom(VALUE), timeout=DEADLINE), WIDTH, inspect)
        for _ in range(3):
            before = load.count()
            wait.until(lambda n=before: load.count() > n + 200, environment.PATIENCE, "writes are stored")
            before = load.count(S.RESOURCE_EXHAUSTED)
            self.postgres.fill()
            wait.until(lambda n=before: load.count(S.RESOURCE_EXHAUSTED) > n + 200, environment.PATIENCE,
                       "writes are refused")
            self.postgres.make_room()
        before = load.count()
        wait.until(lambda: load.count() > before + 200, environment.PATIENCE, "writes are stored again")
        load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:3], [])
        there = {int(key[1:]) for key in pattern.scan_keys("k")}
        self.assertEqual((len(stored - there), len(refused & there)), (0, 0), "acknowledged, refused")
        self.is_shown_no_longer()

    def test_registry(self):
        registry = multicast.service(self.serve(multicast.namespace(self.slot, MEMSTORE)))

        def register(number):
            document = multicast.struct(text=os.urandom(VALUE // 2).hex())
            return registry.Register(multicast.pb.RegisterRequest(identity=f"i{number}", metadata=document))

        stored, refused = self.until_refused(register)
        self.is_shown()
        self.assertEqual({i.identity for i in registry.Enumerate().identities}, {f"i{n}" for n in stored})
        self.assertEqual(registry.Multicast(payload=b"p").target_count, len(stored))
        self.recovers(register, refused)
        self.assertEqual(len(registry.Enumerate().identities), len(stored) + 1)

    def test_sessions(self):
        sessions = session.service(self.serve(session.namespace(self.slot)))
        ids = {}

        def create(number):
            answer = sessions.CreateSession(metadata={"user_id": "alice"}, data={"v": session.value(os.urandom(VALUE))})
            if not answer.HasField("error"):
                ids[number] = answer.session_id
            return answer

        stored, refused = self.until_refused(create)
        self.is_shown()
        self.assertEqual({s.session_id for s in session.listed(sessions, user_id="alice")}, set(ids.values()))
        for number in stored:
            self.assertEqual(len(sessions.GetSession(session_id=ids[number]).session.data["v"].value), VALUE)
        self.assertTrue(sessions.DeleteSession(session_id=ids.pop(0)).existed, "an end needs no room")
        self.recovers(create, refused)
        self.assertEqual({s.session_id for s in session.listed(sessions, user_id="alice")}, set(ids.values()))

    def test_queue(self):
        channel = self.serve(messaging.producer(self.slot), messaging.consumer(self.slot, dead_letters=self.slot))
        publisher = messaging.producer_service(channel)
        acknowledged = []

        def publish(_):
            payload = os.urandom(VALUE)
            answer = publisher.Publish(topic="t", payload=payload)
            if answer.success:
                acknowledged.append(payload)
            else:
                self.assertEqual(answer.outcome, messaging.pb.NOT_STORED)
            return answer

        _, refused = self.until_refused(publish)
        self.is_shown()
        with messaging.Member(messaging.consumer_service(channel), topic="t", consumer_group="g") as member:
            self.recovers(publish, refused)
            came = member.take(len(acknowledged))
            self.assertEqual({m.payload for m in came}, set(acknowledged), "what was acknowledged, and nothing else")
            member.settle(through=came[-1].sequence)
        self.assertEqual(self.postgres.sql("SELECT count(*) FROM prism.messages"), "0")

    def test_started_on_a_full_disk(self):
        """There is no room for the schema either: the reason is told, and it comes about."""
        self.postgres.fill()
        kv = pattern_service(self.serve(backends.keyvalue(self.slot), wait_for=lambda s: s.http_answers()))

        def told():
            error = wire.failure(kv.Retrieve, key="k", timeout=DEADLINE)
            return error if error.details() == FULL else None
        wait.until(told, environment.PATIENCE, "the disk is named")
        self.assertEqual(self.server.http("/readyz")[0], 503)
        self.postgres.make_room()
        wait.until(self.server.serving, environment.PATIENCE, "the schema is made")
        self.assertTrue(kv.Store(key="k", value=b"v").success)


if __name__ == "__main__":
    suite.main()
