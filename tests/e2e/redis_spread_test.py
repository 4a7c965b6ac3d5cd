"""The identities and the sessions of one namespace over a Redis cluster: all primaries bear them, and clients see one
registry and one store."""
import concurrent.futures

import grpc

from rig import environment, multicast, session, suite, wait
from rig.load import Load
from rig.multicast import pb, struct, where
from rig.prismd import Prismd
from rig.redis_cluster import RedisCluster

MANY = 1000
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


def kept(node, family, key, size):
    """What a primary keeps of the namespace `default`: the sizes of the keys of this name, of which each partition has
    one."""
    return [node.call(size, name) for name in node.call("KEYS", f"prism:{{default[%}}]*{family}:{key}")]


class Spread(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.use(RedisCluster())
        slot = cls.slot()
        cls.server = cls.use(Prismd(namespaces=[
            multicast.namespace(slot, slot), session.namespace(slot),
            multicast.namespace(slot, slot, "few", max_identities=40),
            multicast.namespace(slot, slot, "more", max_identities=4096), multicast.namespace(slot, slot, "unused"),
            session.namespace(slot, "capped", max_sessions_per_user=5),
            session.namespace(slot, "few", max_sessions=40),
            session.namespace(slot, "more", max_sessions=2048)]))
        cls.channel = cls.server.channel()
        cls.registry, cls.sessions = multicast.service(cls.channel), session.service(cls.channel)
        wait.until(lambda: cls.server.http("/readyz")[0] == 200, environment.PATIENCE, "the cluster is connected")

    @classmethod
    def slot(cls, **config):
        return {"backend": "redis", "config": {"address": cls.cluster.address, "cluster": True, **config}}

    def register(self, registry, names, **fields):
        return registry.RegisterBatch(registrations=[
            pb.RegisterRequest(identity=n, metadata=struct(**fields)) for n in names])

    def create(self, sessions, user="", **metadata):
        return sessions.CreateSession(metadata={"user_id": user, **metadata})

    def assert_even(self, sizes):
        """16 partitions on three primaries: a third each, give or take what 1000 dice do."""
        self.assertEqual(sum(len(of_primary) for of_primary in sizes), 16)
        sums = [sum(of_primary) for of_primary in sizes]
        self.assertEqual(sum(sums), MANY)
        self.assertGreater(min(sums), MANY / 5, sums)

    def walk(self, page, each):
        """All pages; each() comes between two."""
        token, pages = None, 0
        while token != "":
            token = page(token)
            pages += 1
            each(pages)
        self.assertGreater(pages, 5)

    # ---- identities ----

    def told(self, namespace):
        """How many the metric has of this namespace; nothing while it is not known."""
        return [n for sample, n in self.server.metrics().items()
                if sample.startswith("prism_backend_identities{") and f'namespace="{namespace}"' in sample]

    def test_identities_are_on_all_primaries(self):
        answer = self.register(self.registry, [f"even{i:04}" for i in range(MANY)], kind="even")
        self.assertEqual(answer.success_count, MANY)
        self.assert_even([kept(n, "registry", "entries", "HLEN") for n in self.cluster.primaries])
        self.assertEqual(self.registry.Enumerate(count_only=True).match_count, MANY)
        wait.until(lambda: self.told("default") == [MANY], environment.PATIENCE, "the metric has all partitions'")
        got = self.registry.Multicast(filter=where(kind="even"), payload=b"x", timeout=60)
        self.assertEqual((got.target_count, got.no_receiver_count), (MANY, MANY))
        beaten = self.registry.Heartbeat(items=[{"identity": f"even{i:04}"} for i in range(MANY)])
        self.assertEqual((beaten.alive_count, len(beaten.missing)), (MANY, 0))
        for i in range(MANY):
            self.registry.Unregister(identity=f"even{i:04}")
        self.assertEqual(sum(sum(kept(n, "registry", "entries", "HLEN")) for n in self.cluster.primaries), 0)

    def test_a_metric_is_no_first_use(self):
        """Which would write how many partitions there are."""
        def calls():
            return self.server.metric("prism_backend_calls_total", namespace="unused", slot="registry")

        before = calls()
        wait.until(lambda: calls() >= before + 2, environment.PATIENCE, "the slot is probed")
        self.assertEqual([n.call("KEYS", "prism:{unused*") for n in self.cluster.primaries], [[], [], []])
        self.assertEqual(self.told("unused"), [])

    def test_a_batch_has_its_outcomes_in_its_order(self):
        self.register(self.registry, ["batch1"])
        answer = self.register(self.registry, [f"batch{i}" for i in range(50)], kind="batch")
        self.assertEqual([r.success for r in answer.results], [i != 1 for i in range(50)])
        self.assertEqual([r.identity for r in answer.results], [f"batch{i}" for i in range(50)])
        for i in range(50):
            self.registry.Unregister(identity=f"batch{i}")

    def test_a_walk_meets_all_identities_that_stay_once(self):
        names = [f"walk{i:03}" for i in range(300)]
        self.register(self.registry, names, kind="walk")
        got = []

        def page(cursor):
            answer = self.registry.Enumerate(filter=where(kind="walk"), limit=20, cursor=cursor or "")
            got.extend(i.identity for i in answer.identities)
            return answer.next_cursor if answer.has_more else ""

        def meanwhile(pages):
            self.registry.Unregister(identity=names[2 * pages + 1])
            self.register(self.registry, [f"walk{pages:03}new"], kind="walk")

        self.walk(page, meanwhile)
        self.assertEqual(got, sorted(got))
        self.assertEqual(len(got), len(set(got)))
        self.assertEqual([n for n in got if n in names[::2]], names[::2])
        for left in self.registry.Enumerate(filter=where(kind="walk"), limit=1000).identities:
            self.registry.Unregister(identity=left.identity)

    def test_a_multicast_reaches_all(self):
        names = [f"all{i}" for i in range(40)]
        self.register(self.registry, names, kind="all")
        stream = self.registry.Subscribe(identities=names, timeout=environment.PATIENCE)
        self.addCleanup(stream.cancel)
        attached = next(stream)
        while attached.attached_count < len(names):
            attached = next(stream)
        answer = self.registry.Multicast(filter=where(kind="all"), payload=b"x")
        self.assertEqual((answer.target_count, answer.delivered_count), (40, 40))
        self.assertEqual({i for m in multicast.messages(stream, 1) for i in m.identities} <= set(names), True)
        for name in names:
            self.registry.Unregister(identity=name)

    def test_limit_of_identities(self):
        few = multicast.service(self.channel, "few")
        answer = self.register(few, [f"q{i}" for i in range(50)])
        self.assertEqual([r.success for r in answer.results], [True] * 40 + [False] * 10)
        self.assertEqual({r.code for r in answer.results[40:]}, {FULL})
        self.assertEqual(few.Register(identity="late").code, FULL)
        self.assertTrue(few.Register(identity="q7", replace=True).replaced)
        few.Unregister(identity="q3")
        self.assertTrue(few.Register(identity="late").success)
        self.assertEqual(few.Register(identity="later").code, FULL)

    def test_a_large_limit_is_exact_too(self):
        more = multicast.service(self.channel, "more")
        done = [self.register(more, [f"m{i}-{j}" for j in range(1000)]).success_count for i in range(5)]
        self.assertEqual(done, [1000] * 4 + [96])
        self.assertEqual(more.Enumerate(count_only=True).match_count, 4096)

    # ---- sessions ----

    def test_sessions_are_on_all_primaries(self):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda i: self.create(self.sessions, f"user{i % 100}", region="eu").session_id,
                                 range(MANY)))
        self.assert_even([kept(n, "session", "all", "ZCARD") for n in self.cluster.primaries])
        listed = [s.session_id for s in session.listed(self.sessions, page_size=100)]
        self.assertEqual(sorted(listed), sorted(made))
        self.assertEqual(sorted(s.session_id for s in session.listed(self.sessions, region="eu")), sorted(made))
        for user in range(100):
            mine = {s.session_id for s in session.listed(self.sessions, user_id=f"user{user}")}
            self.assertEqual(mine, set(made[user::100]))
            self.assertEqual(self.sessions.DeleteUserSessions(user_id=f"user{user}").deleted_count, 10)
        self.assertEqual(session.listed(self.sessions), [])

    def test_a_walk_meets_all_sessions_that_stay_once(self):
        ids = [self.create(self.sessions, f"w{i}", region="walk").session_id for i in range(200)]
        got = []

        def page(token):
            answer = self.sessions.ListSessions(region="walk", page_size=15, page_token=token or "")
            got.extend(s.session_id for s in answer.sessions)
            return answer.next_page_token

        def meanwhile(pages):
            self.sessions.DeleteSession(session_id=ids[2 * pages + 1])
            self.create(self.sessions, f"new{pages}", region="walk")

        self.walk(page, meanwhile)
        self.assertEqual(len(got), len(set(got)))
        self.assertLessEqual(set(ids[::2]), set(got))
        for one in session.listed(self.sessions, region="walk"):
            self.sessions.DeleteSession(session_id=one.session_id)

    def test_an_identifier_leads_to_its_session(self):
        for user in ("", "somebody"):
            made = self.create(self.sessions, user).session_id
            self.assertRegex(made, r"^sess-[A-Za-z0-9_-]{32}[0-9a-f]{2}$")
            self.assertTrue(self.sessions.GetSession(session_id=made).found)
            new = self.sessions.RotateSession(session_id=made).session_id
            self.assertEqual(new[-2:], made[-2:])
            self.assertFalse(self.sessions.GetSession(session_id=made).found)
            self.assertTrue(self.sessions.GetSession(session_id=new).found)
            self.assertTrue(self.sessions.DeleteSession(session_id=new).existed)

    def test_cap_of_a_user_in_a_race(self):
        capped = session.service(self.channel, "capped")
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            codes = list(pool.map(lambda i: self.create(capped, f"user{i % 8}").code, range(320)))
        self.assertEqual(codes.count(0), 8 * 5)
        self.assertEqual(codes.count(FULL), 320 - 8 * 5)
        for user in range(8):
            self.assertEqual(len(session.listed(capped, user_id=f"user{user}")), 5)

    def test_limit_of_sessions(self):
        few = session.service(self.channel, "few")
        made = [self.create(few, f"u{i}") for i in range(50)]
        self.assertEqual([m.code for m in made], [0] * 40 + [FULL] * 10)
        few.DeleteSession(session_id=made[0].session_id)
        self.assertEqual([self.create(few, "again").code for _ in range(2)], [0, FULL])

    def test_one_user_may_have_all_sessions_of_a_limit(self):
        """All of them are in one partition; what the others might hold is room too."""
        more = session.service(self.channel, "more")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            codes = list(pool.map(lambda _: self.create(more, "service").code, range(2040)))
        self.assertEqual(set(codes), {0})
        codes = [self.create(more, "service").code for _ in range(10)]
        self.assertEqual(codes, [0] * 8 + [FULL] * 2)
        self.assertEqual(self.create(more, "somebody else").code, FULL)

    # ---- what is there already ----

    def serve(self, name="old", **config):
        slot = self.slot(**config)
        namespaces = [multicast.namespace(slot, slot, name), session.namespace(slot, name)]
        server = self.borrow(Prismd(workers=2, namespaces=namespaces))
        wait.until(lambda: server.http("/readyz")[0] == 200, environment.PATIENCE, "the cluster is connected")
        channel = server.channel()
        return server, multicast.service(channel, name), session.service(channel, name)

    def test_one_partition_stays_one(self):
        """Data of a time before partitions, whose number nobody has remembered, and another setting."""
        server, registry, sessions = self.serve(cluster_partitions=1)
        registry.Register(identity="early")
        id_ = self.create(sessions, "u").session_id
        server.terminate()
        self.cluster.call_at("old", "DEL", "prism:{old}%partitions")
        for partitions in (16, 64):
            server, registry, sessions = self.serve(cluster_partitions=partitions)
            self.assertEqual([i.identity for i in registry.Enumerate().identities], ["early"])
            self.assertTrue(sessions.GetSession(session_id=id_).found)
            told = [e for e in server.log_events() if e["event"] == "redis_partitions"]
            self.assertEqual({(e["partitions"], e["level"]) for e in told}, {(1, "warn")})
            server.terminate()
        self.assertEqual(self.cluster.call_at("old", "GET", "prism:{old}%partitions"), b"1")

    def test_another_number_refuses_until_it_is_gone(self):
        """The number in redis changes again and again under load, which several workers learn of at their own times."""
        server, registry, _ = self.serve("flips", cluster_refresh_ms=100)
        self.assertTrue(registry.Register(identity="before").success)
        key = "prism:{flips}%partitions"
        number = self.cluster.call_at(key, "GET", key)
        codes = set()

        def start(i):
            return registry.RegisterBatch.future(
                registrations=[pb.RegisterRequest(identity=f"flip{i}-{j}") for j in range(4)], timeout=30)

        def inspect(future, *_):
            codes.add(future.code())
        load = Load(start, 64, inspect)
        refused = grpc.StatusCode.FAILED_PRECONDITION
        for _ in range(10):
            self.cluster.call_at(key, "SET", key, 8)
            before = load.count(refused)
            wait.until(lambda n=before: load.count(refused) > n, environment.PATIENCE, "the other number is met")
            self.cluster.call_at(key, "SET", key, number)
            before = load.count()
            wait.until(lambda n=before: load.count() > n, environment.PATIENCE, "and so is that of the beginning")
        load.stop(environment.PATIENCE)
        self.assertEqual(codes, {grpc.StatusCode.OK, refused})
        self.assertTrue(server.process.alive())

        def serves():
            try:
                return registry.Heartbeat(items=[{"identity": "before"}]).alive_count == 1
            except grpc.RpcError:
                return False
        wait.until(serves, environment.PATIENCE, "the number is that of the beginning")


if __name__ == "__main__":
    suite.main()
