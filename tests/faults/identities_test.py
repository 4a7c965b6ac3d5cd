"""What users of other registries have met, by the numbers of docs/cases/identities.md, on real servers: the dead that
stay listed, queues without a bound, a message that comes for ever, an object of the broker for each device."""
import collections
import json
import os
import select
import subprocess
import time
from concurrent import futures

import grpc

from rig import backends, environment, suite, wait
from rig.identities import MEMSTORE, Identities
from rig.keyvalue import pattern_service
from rig.messaging import Stream
from rig.multicast import messages, namespace, pb, service, storm
from rig.prismd import Prismd
from rig.redis import commands_run
from rig.server import exchange
from prism.patterns.schemas import slot_schema_pb2 as schemas

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


class TheDead(Identities):
    """M1: nobody is listed, or targeted, a second after the expiry that the last answer gave."""

    def only_the_living(self, registry, ends):
        """One look; ends: {identity: its expiry, as it was last told}. Returns who is listed."""
        begun = time.time()
        listed = registry.Enumerate(limit=100).identities
        for one in listed:
            if one.expires_at_ms:
                ends[one.identity] = one.expires_at_ms / 1000
                self.assertGreater(ends[one.identity] + 1, begun, f"{one.identity} has expired")
        begun = time.time()
        for result in registry.Multicast(payload=b"x").results:
            self.assertGreater(ends.get(result.identity, begun) + 1, begun, f"{result.identity} has expired")
        return {one.identity for one in listed}

    def an_instance_is_killed(self, slot):
        messaging = self.nats()
        first, at_first = self.serve(slot, messaging)
        _, at_second = self.serve(slot, messaging)
        self.register(at_second, ["stays"])
        self.register(at_first, ["leased"], ttl={"seconds": 2})
        stream = self.borrow(Stream(at_first.Attach, timeout=2 * environment.PATIENCE))
        stream.send(pb.AttachRequest(attach={"identities": ["phone", "tablet"],
                                             "registration": {"grace": {"seconds": 1}}}))
        stream.until(lambda frame: frame.attached_count == 2)
        wait.until(lambda: len(self.only_the_living(at_second, {})) == 4, environment.PATIENCE, "all are there")
        first.process.kill()
        ends = {}
        wait.until(lambda: self.only_the_living(at_second, ends) == {"stays"}, environment.PATIENCE, "the dead go")
        self.server.kill()
        self.server.start()
        _, at_third = self.serve(slot, messaging)
        wait.until(lambda: self.written(at_third, "comes"), environment.PATIENCE, "the registry is back")
        for registry in (at_second, at_third):
            wait.until(lambda: self.written(registry, "another"), environment.PATIENCE, "it is there for this one")
            self.assertEqual(self.only_the_living(registry, ends), {"stays", "comes", "another"})

    @staticmethod
    def written(registry, name):
        try:
            return registry.Register(identity=name, replace=True).success
        except grpc.RpcError:
            return False

    def test_m1_redis(self):
        self.an_instance_is_killed(self.redis(durable=True))

    def test_m1_postgres(self):
        self.an_instance_is_killed(self.postgres())


class Queues(Identities):
    """Kept messages of those who are absent, or who cannot do anything with one."""

    def refuses_and_keeps(self, durability):
        """M6: a bound that is reached refuses what is new, by a status of its own, and keeps what was there."""
        server, registry = self.serve(MEMSTORE, MEMSTORE, durability)
        self.register(registry, ["absent", "present"])
        stream = self.subscribed(registry, "present")
        kept, outcome = 0, None
        for n in range(1000):
            outcome, = registry.Multicast(identities=["absent"], payload=b"%04d" % n + bytes(5000)).results
            if outcome.status != pb.PENDING:
                break
            kept += 1
        self.assertEqual((outcome.status, outcome.code), (pb.FAILED, EXHAUSTED), outcome)
        self.assertGreater(kept, 5)
        self.retries = server.metric("prism_multicast_retries_total")
        return registry, stream, kept

    def subscribed(self, registry, name):
        stream = registry.Subscribe(identities=[name], ack_mode=schemas.ACK_AUTO, timeout=2 * environment.PATIENCE)
        self.addCleanup(stream.cancel)
        next(stream)
        return stream

    def comes(self, registry, kept):
        stream = self.subscribed(registry, "absent")
        self.assertEqual([m.payload[:4] for m in messages(stream, kept)], [b"%04d" % n for n in range(kept)])

    def of_one_identity(self, durability):
        """Others are not slowed: nobody tries again what only the receiver can make room for."""
        registry, stream, kept = self.refuses_and_keeps(durability)
        self.assertLessEqual(kept, 12)
        both = registry.Multicast(identities=["absent", "present"], payload=bytes(5004))
        self.assertEqual((both.pending_count, both.failed_count), (1, 1))
        self.assertEqual(messages(stream, 1)[0].payload, bytes(5004))
        self.comes(registry, kept)

    def bounds_of_one_identity(self, slot, *bounds):
        for config in bounds:
            with self.subTest(config):
                durability = slot()
                self.of_one_identity({**durability, "config": {**durability["config"], **config}})
                self.assertEqual(self.retries, 0)

    def test_m6_of_one_identity(self):
        self.bounds_of_one_identity(lambda: MEMSTORE, {"stream_max_messages": 10}, {"stream_max_bytes": 60_000})

    def test_m6_of_one_identity_redis_stream(self):
        self.bounds_of_one_identity(lambda: self.redis("redis-stream"), {"queue_max_messages": 10},
                                    {"queue_max_bytes": 60_000})

    def test_m6_of_one_identity_postgres(self):
        self.bounds_of_one_identity(self.postgres, {"queue_max_messages": 10},
                                    {"queue_max_messages": 1000, "queue_max_bytes": 60_000})

    def test_m6_of_one_identity_jetstream(self):
        """By the settings of the stream, which holds the queues of all."""
        self.nats()
        durability = self.stream_of_queues(max_msgs_per_subject=10, discard="new", discard_new_per_subject=True,
                                           retention="workqueue")
        self.of_one_identity(durability)

    def pushed_at_once(self, durability, bound):
        """Two instances, each with many calls under way. Returns how many were taken."""
        _, registry = self.serve(MEMSTORE, MEMSTORE, durability)
        _, other = self.serve(MEMSTORE, MEMSTORE, durability)
        for each in (registry, other):
            self.register(each, ["absent"])
            wait.until(lambda e=each: e.Multicast(identities=["absent"], payload=b"%04d" % 0).pending_count,
                       environment.PATIENCE, "the queues' backend is there")
        with futures.ThreadPoolExecutor(16) as pool:
            calls = [pool.submit(lambda n: (registry, other)[n % 2].Multicast(identities=["absent"], payload=b"x"), n)
                     for n in range(4 * bound)]
            taken = sum(call.result().pending_count for call in calls)
        self.assertEqual(other.Multicast(identities=["absent"], payload=b"x").failed_count, 1)
        return 2 + taken

    def test_m6_pushed_at_once_redis_stream(self):
        """The bound is looked at in one step with the write."""
        slot = self.redis("redis-stream")
        taken = self.pushed_at_once({**slot, "config": {**slot["config"], "queue_max_messages": 50}}, 50)
        self.assertEqual((taken, self.server.call("XLEN", "prism.queue.absent")), (50, 50))

    def test_m6_pushed_at_once_postgres(self):
        """Transactions that are open at the same time do not see each other: four connections, one message each."""
        slot = self.postgres()
        taken = self.pushed_at_once({**slot, "config": {**slot["config"], "connections": 2,
                                                        "queue_max_messages": 50}}, 50)
        self.assertIn(taken, range(50, 50 + 2 * 2 * os.cpu_count()))

    def test_m6_of_the_namespace(self):
        registry, _, kept = self.refuses_and_keeps({"backend": "memstore", "config": {"max_bytes": 1_000_000}})
        self.assertLess(kept, 250)
        self.comes(registry, kept)

    def test_m6_redis_is_full(self):
        """Who attaches for the first time gets what waits: with a bound, its group was made with its queue."""
        slot = self.redis("redis-stream", maxmemory=3_000_000)
        slot["config"]["queue_max_messages"] = 1_000_000
        registry, _, kept = self.refuses_and_keeps(slot)
        self.comes(registry, kept)

    def comes_only_so_often(self, durability):
        """M7: a device that ends with a message each time gets it max_deliveries times at most, and then the next."""
        server, registry = self.serve(MEMSTORE, MEMSTORE, durability, max_deliveries=3)
        self.register(registry, ["device", "another"])
        wait.until(lambda: registry.Multicast(identities=["another"]).pending_count, environment.PATIENCE,
                   "the queues' backend is there")
        for payload in (b"bad", b"good"):
            self.assertEqual(registry.Multicast(identities=["device"], payload=payload).pending_count, 1)
        def settled(how):
            return server.metric("prism_multicast_settled_total", how=how)

        got = []
        for _ in range(10):
            if (settled("confirmed"), settled("given_up")) == (1, 1):
                break
            with Stream(registry.Attach, timeout=5) as stream:
                stream.send(pb.AttachRequest(attach={"identities": ["device"]}, ack_mode=schemas.ACK_MANUAL,
                                             max_in_flight=1))
                try:
                    frame = stream.until(lambda frame: frame.messages or frame.dropped_count)[-1]
                except grpc.RpcError:       # it was given up for a stream that had just ended
                    continue
                got += [message.payload for message in frame.messages]
                if frame.messages and got[-1] == b"good":
                    stream.send(pb.AttachRequest(acknowledge={"through": frame.messages[0].sequence}))
                    wait.until(lambda: settled("confirmed") == 1, environment.PATIENCE, "it is confirmed")
            wait.until(lambda: server.metric("prism_multicast_attached") == 0, environment.PATIENCE, "it has left")
        self.assertEqual((settled("confirmed"), settled("given_up")), (1, 1))
        self.assertIn(got.count(b"bad"), (1, 2, 3))     # it may also be taken for a stream that has just ended

    def test_m7_memstore(self):
        self.comes_only_so_often(MEMSTORE)

    def test_m7_redis_stream(self):
        self.comes_only_so_often(self.redis("redis-stream"))

    def test_m7_postgres(self):
        self.comes_only_so_often(self.postgres())

    def test_m7_held_for_longer_than_a_lease_postgres(self):
        """What a receiver holds is no other's, and no attempt more, while its instance lives; then the lease ends."""
        slot, lease = self.postgres(), 4
        slot["config"]["queue_lease_ms"] = 1000 * lease
        first, at_first = self.serve(MEMSTORE, MEMSTORE, slot)
        second, at_second = self.serve(MEMSTORE, MEMSTORE, slot)
        for registry in (at_first, at_second):
            self.register(registry, ["device"])
        holder = self.borrow(Stream(at_first.Attach, timeout=2 * environment.PATIENCE))
        other = self.borrow(Stream(at_second.Attach, timeout=2 * environment.PATIENCE))
        attach = pb.AttachRequest(attach={"identities": ["device"]}, ack_mode=schemas.ACK_MANUAL)
        holder.send(attach)
        holder.until(lambda frame: frame.attached_count)
        wait.until(lambda: at_second.Multicast(identities=["device"], payload=b"x").pending_count,
                   environment.PATIENCE, "it is kept")
        holder.until(lambda frame: frame.messages)
        other.send(attach)
        other.until(lambda frame: frame.attached_count)
        held = time.monotonic()
        attempts = "SELECT attempts, delivery FROM prism.messages"
        before = self.server.sql(attempts)
        wait.until(lambda: time.monotonic() > held + 2 * lease, environment.PATIENCE, "leases would be over")
        self.assertEqual((self.server.sql(attempts), second.metric("prism_multicast_received_total")), (before, 0))
        first.process.kill()
        self.assertEqual(other.until(lambda frame: frame.messages)[-1].messages[0].payload, b"x")

    def test_m7_jetstream(self):
        self.comes_only_so_often(self.jetstream())

    def test_m7_what_stands_behind_is_not_given_up(self):
        """A device that ends with the first message each time, with more of them in hand: they come when it is gone."""
        _, registry = self.serve(MEMSTORE, MEMSTORE, self.jetstream(), max_deliveries=3)
        self.register(registry, ["device"])
        for payload in (b"bad", b"1", b"2", b"3"):
            wait.until(lambda p=payload: registry.Multicast(identities=["device"], payload=p).pending_count,
                       environment.PATIENCE, "it is kept")
        seen = collections.Counter()
        while seen[b"1"] <= 3 or b"bad" in got:
            with Stream(registry.Attach, timeout=environment.PATIENCE) as stream:
                stream.send(pb.AttachRequest(attach={"identities": ["device"]}, ack_mode=schemas.ACK_MANUAL))
                got = [m.payload for m in messages(stream.answers, 4 if seen[b"bad"] < 3 else 3)]
                seen.update(got)
        self.assertEqual(sorted(got), [b"1", b"2", b"3"])
        self.assertEqual(seen[b"bad"], 3)


class Everybody(Identities):
    """M10: a hundred thousand come, or go, at once; a caller who has nothing to do with them hardly notices."""
    DEVICES = 10_000 if environment.SANITIZER else 100_000

    def calls_beside(self, keyvalue, over):
        """Seconds that calls take, one after the other, until it is over."""
        took = []
        while not over() or len(took) < 200:
            begun = time.monotonic()
            self.assertTrue(keyvalue.Retrieve(key="k").found)
            took.append(time.monotonic() - begun)
        return took

    @staticmethod
    def p99(took):
        return sorted(took)[len(took) * 99 // 100]

    def start(self, registry):
        server = self.borrow(Prismd(namespaces=[namespace(registry, MEMSTORE), backends.keyvalue(MEMSTORE)]))
        keyvalue = pattern_service(self.borrow(server.channel()))
        self.assertTrue(keyvalue.Store(key="k", value=b"v").success)
        return server, service(self.borrow(server.channel()), timeout=2 * environment.PATIENCE), keyvalue

    def storm(self, server, keyvalue, n, register):
        """n register, or beat for nobody. Returns how many did, and what calls take meanwhile."""
        flood = subprocess.Popen(storm(server.address, n, register=register), stdout=subprocess.PIPE, text=True)
        self.addCleanup(flood.stdout.close)
        took = self.calls_beside(keyvalue, lambda: select.select([flood.stdout], [], [], 0)[0])
        counts = json.load(flood.stdout)["statusCodeDistribution"]
        self.assertEqual(flood.wait(), 0)
        self.assertLessEqual(set(counts), {"OK", "ResourceExhausted"})
        self.assertEqual(sum(counts.values()), n)
        return counts["OK"], took

    def all_come(self, slot):
        """And come again. The control: heartbeats of the same clients at the same prismd for one who is not there. They
        take as much of the machine, of the server's turn on it, and of Redis."""
        server, registry, keyvalue = self.start(slot)
        beside, usual = [], []
        for _ in range(2):
            usual += self.storm(server, keyvalue, self.DEVICES // 4, False)[1]
            came, took = self.storm(server, keyvalue, self.DEVICES, True)
            beside += took
            self.assertGreaterEqual(registry.Enumerate(count_only=True).match_count, came)
        self.assertLess(self.p99(beside), 5 * self.p99(usual))

    def all_go(self, slot, look=lambda registry: None):
        """All within the millisecond: who calls meanwhile waits for none of it."""
        server, registry, keyvalue = self.start(slot)
        names = [f"d{n:06}" for n in range(self.DEVICES)]
        self.register(registry, names, ttl={"seconds": 600})
        end = time.time() + 5
        for first in range(0, len(names), 1000):
            left = end - time.time()
            answer = registry.Heartbeat(items=[{"identity": name} for name in names[first:first + 1000]],
                                        ttl={"nanos": int(left * 1e9) % 10 ** 9, "seconds": int(left)})
            self.assertEqual(answer.alive_count, 1000)
        before = self.calls_beside(keyvalue, lambda: time.time() > end - 1)
        beside = self.calls_beside(keyvalue, lambda: time.time() > end + 2)
        look(registry)
        self.assertEqual(registry.Enumerate(count_only=True).match_count, 0)
        self.assertLess(self.p99(beside), max(5 * self.p99(before), 0.05))
        self.assertEqual(server.http("/healthz")[0], 200)

    def by_pieces(self, registry):
        """What has expired goes with later calls: a few for each identity that a call names, 500 at most in a
        script. The count behind a probe, each 5 s, is such a script."""
        due, = (key for key in self.server.call("KEYS", "*registry:due*"))
        left = self.server.call("ZCARD", due)
        self.assertIn(self.DEVICES - left, range(0, 2001, 500), "by probes")
        for n in (1, 1, 10, 100, 1000):
            registry.Heartbeat(items=[{"identity": f"nobody{i}"} for i in range(n)])
            before, left = left, self.server.call("ZCARD", due)
            gone = range(1, n // 2 + 8 * -(-n // 100) + 1)
            self.assertTrue(before - left in gone or before - left - 500 in gone,
                            f"{before - left} by {n} heartbeats, and a probe at most")
        before = self.scripts()
        registry.Enumerate(count_only=True)
        self.assertGreater(self.scripts() - before, left // 500)
        self.assertEqual(self.server.call("ZCARD", due), 0)

    def scripts(self):
        return sum(n for name, n in commands_run(self.server.address).items() if "eval" in name)

    def test_m10_come_memstore(self):
        self.all_come(MEMSTORE)

    def test_m10_come_redis(self):
        self.all_come(self.redis())

    def test_m10_go_memstore(self):
        self.all_go(MEMSTORE)

    def test_m10_go_redis(self):
        self.all_go(self.redis(), self.by_pieces)


class IdleDevices(Identities):
    """M8: registered, and not attached: nothing of the broker's is theirs, and a hundred are entered by one call."""
    DEVICES = 100_000

    def enter(self, durability):
        slot = self.redis()
        registry_server = self.server
        server, registry = self.serve(slot, self.nats(), durability())
        before = sum(n for name, n in commands_run(registry_server.address).items() if "eval" in name)
        self.register(registry, [f"d{n:06}" for n in range(self.DEVICES)])
        after = sum(n for name, n in commands_run(registry_server.address).items() if "eval" in name)
        self.assertLessEqual(after - before, self.DEVICES // 100 + 10)
        return server, registry

    def test_m8_jetstream(self):
        """Streams and consumers, also when each of some has got something."""
        _, registry = self.enter(self.stream_of_queues)
        answer = registry.Multicast(identities=[f"d{n:06}" for n in range(1000)], payload=b"x")
        self.assertEqual(answer.pending_count, 1000)
        got = exchange(self.broker.monitor_port, b"GET /jsz HTTP/1.0\r\n\r\n", lambda _: False)
        told = json.loads(got.partition(b"\r\n\r\n")[2])
        self.assertEqual((told["messages"], told["consumers"]), (1000, 0))
        self.assertEqual(told["streams"], 1)

    def test_m8_redis_stream(self):
        """Keys, and connections that wait."""
        server, registry = self.enter(lambda: self.redis("redis-stream"))
        connected = len(self.server.call("CLIENT", "LIST").splitlines())
        self.assertLessEqual(self.server.call("DBSIZE"), 10)
        answer = registry.Multicast(identities=[f"d{n:06}" for n in range(1000)], payload=b"x")
        self.assertEqual(answer.pending_count, 1000)
        self.assertLessEqual(self.server.call("DBSIZE"), 1010)
        self.assertEqual(len(self.server.call("CLIENT", "LIST").splitlines()), connected)
        self.assertEqual(server.metric("prism_multicast_unsettled"), 0)


if __name__ == "__main__":
    suite.main()
