"""Several prismd on one registry: the backend is the only truth, so all see the same identities, at every moment."""
from concurrent.futures import ThreadPoolExecutor

import grpc

from rig import environment, suite
from rig.multicast import messages, namespace, pb, service, struct, where
from rig.nats import NatsServer
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from rig.redis import RedisServer

EACH, BATCH, DISPUTED = 1000, 50, 100


class Instances(suite.Case):
    def two_on(self, registry):
        nats = self.borrow(NatsServer())
        slots = {"registry": registry, "messaging": {"backend": "nats", "config": {"address": nats.address}}}
        servers = [self.borrow(Prismd(namespaces=[namespace(**slots)])) for _ in range(2)]
        return [service(self.borrow(server.channel()), timeout=2 * environment.PATIENCE) for server in servers]

    @staticmethod
    def register(registry, prefix, first):
        """A batch of names of one's own; returns them."""
        names = [f"{prefix}{n:05}" for n in range(first, first + BATCH)]
        answer = registry.RegisterBatch(registrations=[pb.RegisterRequest(identity=n, metadata=struct(kind="x"))
                                                       for n in names])
        assert answer.success_count == BATCH, answer
        return names

    @staticmethod
    def walk(registry):
        """All matches, in pages."""
        names, cursor = [], ""
        while True:
            page = registry.Enumerate(filter=where(kind="x"), limit=100, cursor=cursor, include_metadata=False)
            names += [i.identity for i in page.identities]
            if not page.has_more:
                return names
            cursor = page.next_cursor

    def all_are_seen(self, registry):
        """M12: both register at once, while either lists and sends to what the other one registers: who was registered
        before a walk began is in it, once; nobody is in it twice."""
        first, second = self.two_on(registry)
        known = set()
        with ThreadPoolExecutor(2) as pool:
            for n in range(0, EACH, BATCH):
                begun = [pool.submit(self.register, r, prefix, n) for r, prefix in ((first, "a"), (second, "b"))]
                for other in (second, first):
                    names = self.walk(other)
                    self.assertEqual(len(names), len(set(names)), "an identity came twice")
                    self.assertEqual(known - set(names), set(), "an identity was lost")
                answer = first.Multicast(filter=where(kind="x"), payload=b"x")
                told = [r.identity for r in answer.results]
                self.assertEqual((answer.failed_count, len(told)), (0, len(set(told))))
                self.assertEqual(known - set(told), set(), "an identity was left out")
                known |= {name for batch in begun for name in batch.result()}
        for registry_ in (first, second):
            self.assertEqual(set(self.walk(registry_)), known)
            self.assertEqual(registry_.Multicast(filter=where(kind="x"), payload=b"x").target_count, 2 * EACH)

    def one_wins(self, registry):
        """M2: a name that both want: one gets it, the other is told; and what one changes or takes out, both see."""
        both = first, second = self.two_on(registry)
        names = [f"n{n:03}" for n in range(DISPUTED)]
        with ThreadPoolExecutor(2) as pool:
            outcomes = [list(pool.map(lambda r: r.Register(identity=n), both)) for n in names]
        self.assertEqual({sum(o.success for o in pair) for pair in outcomes}, {1})
        self.assertEqual(first.Enumerate(count_only=True).match_count, DISPUTED)
        stream = second.Subscribe(identities=["n000"], timeout=environment.PATIENCE)
        self.addCleanup(stream.cancel)
        next(stream)
        first.UpdateMetadata(pb.UpdateMetadataRequest(identity="n000", metadata=struct(kind="y"), merge=True))
        self.assertEqual(second.Enumerate(filter=where(kind="y")).identities[0].identity, "n000")
        self.assertEqual(first.Multicast(filter=where(kind="y"), payload=b"from the other").target_count, 1)
        self.assertEqual(messages(stream, 1)[0].payload, b"from the other")
        self.assertTrue(second.Unregister(identity="n000").existed)
        self.assertFalse(first.Unregister(identity="n000").existed)

    @staticmethod
    def remembers(registry):
        caps = registry.GetCapabilities().operations
        return {o.availability for o in caps if (o.operation, o.variant) == ("Multicast", "idempotent")} == {
            o.availability for o in caps if (o.operation, o.variant) == ("Multicast", "")}

    def sent_once(self, first, second):
        """Repeated under its message_id, at whichever instance, also side by side."""
        self.assertTrue(self.remembers(first))
        names = self.register(first, "a", 0)
        stream = second.Subscribe(identities=names, timeout=environment.PATIENCE)
        self.addCleanup(stream.cancel)
        next(stream)

        def send(registry, payload):
            try:
                return registry.Multicast(filter=where(kind="x"), payload=payload, message_id=payload.decode())
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error)
                return None
        answers = [send(r, b"1") for r in (first, second, first)]
        self.assertEqual([(a.success, a.target_count, a.delivered_count) for a in answers], [(True, BATCH, BATCH)] * 3)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: send((first, second)[i % 2], b"2"), range(40)))
        self.assertGreater(sum(a is not None for a in answers), 0)
        for answer in (a for a in answers if a):
            self.assertEqual((answer.success, answer.target_count), (True, BATCH))
        with self.assertRaises(grpc.RpcError) as refused:
            first.Multicast(payload=b"1", message_id="1")  # to others
        self.assertEqual(refused.exception.code(), grpc.StatusCode.ALREADY_EXISTS)
        self.assertEqual(send(second, b"3").target_count, BATCH)
        got = []
        while not got or got[-1][0] != b"3" or len(got) < 3 * BATCH:
            got += [(m.payload, name) for m in messages(stream, 1) for name in m.identities]
        self.assertEqual(sorted(got), sorted((p, n) for p in (b"1", b"2", b"3") for n in names))

    def on_postgres(self):
        config = {"address": self.borrow(PostgresServer()).address, "username": "postgres", "database": "postgres"}
        return {"backend": "postgres", "config": config}

    def on_redis(self):
        return {"backend": "redis", "config": {"address": self.borrow(RedisServer()).address}}

    def test_postgres_no_identity_is_lost_or_doubled(self):
        self.all_are_seen(self.on_postgres())

    def test_postgres_one_wins(self):
        self.one_wins(self.on_postgres())

    def test_postgres_a_repetition_is_not_sent(self):
        registry = self.on_postgres()
        self.assertFalse(self.remembers(self.two_on(registry)[0]))
        self.sent_once(*self.two_on({**registry, "emulate": ["keyvalue_ttl"]}))

    def test_redis_a_repetition_is_not_sent(self):
        self.sent_once(*self.two_on(self.on_redis()))

    def test_memstore_a_repetition_is_not_sent(self):
        alone = self.two_on({"backend": "memstore"})[0]
        self.sent_once(alone, alone)

    def test_redis_no_identity_is_lost_or_doubled(self):
        self.all_are_seen(self.on_redis())

    def test_redis_one_wins(self):
        self.one_wins(self.on_redis())


if __name__ == "__main__":
    suite.main()
