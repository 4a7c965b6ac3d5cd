"""M5: a receiver that is too slow, by each policy and over each messaging backend. It is told how many it lost, to the
message; a neighbour loses nothing and is no slower for it; what waits is bounded. ctest runs it for each backend."""
import statistics
import time

import grpc

from rig import backends, environment, suite, wait, wire
from rig.messaging import Stream
from rig.multicast import dropping, messages, namespace, pb, service
from rig.prismd import Prismd
from prism.patterns.schemas import slot_schema_pb2 as schemas

MIB = 1 << 20
SENT, PAYLOAD, KEYS = 400, 100_000, 3
ROUNDS, PACED = 3, 30           # of messages whose time is taken, beside a slow one and without it
FILLS = 150                     # for a slow one, before that
GROWTH = 24 * MIB               # of 38 MiB that are sent to it
TOGETHER = 4                    # messages under way at most: a backend's own room for a receiver holds so many
MANY, SENT_TO_MANY, MANY_PAYLOAD = 50, 40, 16_000   # identities of one stream: what waits for them, in 8 MiB
SLOWER = 3                      # times: nobody waits for the slow one, and the machine has others to serve
KEPT_BY_PRISM = (dropping.FULL_DROP_NEWEST, dropping.FULL_LATEST_PER_KEY)     # what waits, on every backend


def number(message):
    return int(message.payload[:4])


class Slow(suite.Case):
    """Each test has its own prismd, so that its metrics are of that receiver alone."""
    @classmethod
    def setUpClass(cls):
        cls.slot = cls.use(backends.slot(suite.backend(), topics=["prism.multicast.all"]))

    def setUp(self):
        self.server = self.borrow(Prismd(namespaces=[namespace({"backend": "memstore"}, self.slot)]))
        self.registry = service(self.borrow(self.server.channel()), timeout=2 * environment.PATIENCE)
        for name in ("slow", "swift"):
            self.registry.Register(identity=name)

    def subscribe(self, name, when_full):
        """A stream on a connection of its own: what its client does not read holds up that one only."""
        stream = service(self.borrow(self.server.channel())).Subscribe(identities=[name], when_full=when_full,
                                                                       timeout=2 * environment.PATIENCE)
        self.addCleanup(stream.cancel)
        self.assertEqual(next(stream).attached_count, 1)
        return stream

    def attach(self, name, when_full):
        stream = self.borrow(Stream(service(self.borrow(self.server.channel())).Attach,
                                    timeout=2 * environment.PATIENCE))
        stream.send(pb.AttachRequest(attach={"identities": [name]}, when_full=when_full))
        stream.until(lambda frame: frame.attached_count == 1)
        return stream.answers

    def send(self, n, to=("slow", "swift"), **more):
        answer = self.registry.Multicast(identities=to, payload=b"%04d" % n + bytes(PAYLOAD - 4), **more)
        self.assertEqual((answer.success, answer.failed_count, answer.target_count), (True, 0, len(to)))

    def taken_in(self, n):
        """So many have come to prismd for receivers: none waits in the client of the backend, which bounds it, too."""
        families = {f"prism_multicast_{what}" for what in ("received_total", "waiting", "dropped_total")}
        wait.until(lambda: sum(value for name, value in self.server.metrics().items()
                               if name.partition("{")[0] in families) >= n,
                   environment.PATIENCE, f"{n} have been taken in")

    def offer(self, when_full, receive=None, **keyed):
        """400 messages for one that reads nothing, and for one that reads each as it comes. Returns both streams."""
        slow, quick = (receive or self.subscribe)("slow", when_full), self.subscribe("swift", when_full)
        self.send(9999)             # so that what is made once is there before memory is looked at
        self.assertEqual([number(m) for m in (*messages(slow, 1), *messages(quick, 1))], [9999, 9999])
        before = self.server.process.resident_bytes()
        for n in range(SENT):
            self.send(n, **({"collapse_key": f"k{n % KEYS}"} if keyed else {}))
            self.assertEqual([number(m) for m in messages(quick, 1)], [n])
            if n % TOGETHER == TOGETHER - 1 and when_full in KEPT_BY_PRISM:
                self.taken_in(2 * (n + 2))
        if not environment.SANITIZER:
            self.assertLess(self.server.process.resident_bytes() - before, GROWTH)
        return slow, quick

    def account(self, streams, reason):
        """What has come to the slow one, and how many it was told to have lost: together all that were sent to it, when
        it has read as far as what is sent at last."""
        (slow, quick), got, dropped, last = streams, [], 0, False
        while not last:
            frame = next(slow)
            got += [number(message) for message in frame.messages]
            self.assertEqual(sum(one.count for one in frame.drops), frame.dropped_count)
            self.assertLessEqual({one.reason for one in frame.drops}, {reason})
            dropped += frame.dropped_count
            if len(got) + dropped == SENT:
                self.send(SENT)
                self.assertEqual([number(m) for m in messages(quick, 1)], [SENT])
            last = got[-1:] == [SENT]
        self.assertEqual(got.pop(), SENT)
        self.assertEqual((len(got) + dropped, got), (SENT, sorted(set(got))))
        self.assertGreater(dropped, 0)
        self.assertEqual(self.dropped(), {dropping.DropReason.Name(reason)[len("DROP_"):].lower(): dropped})
        return got

    def dropped(self):
        """The metric, by reason."""
        reasons = [name[len("DROP_"):].lower() for name in dropping.DropReason.keys()][1:]
        counts = {r: self.server.metric("prism_multicast_dropped_total", reason=r) for r in reasons}
        return {reason: n for reason, n in counts.items() if n}

    def test_m5_drop_oldest(self):
        """The policy of who states none."""
        got = self.account(self.offer(dropping.FULL_UNSPECIFIED), dropping.DROP_OLDEST)
        self.assertEqual(got[-1], SENT - 1)

    def test_m5_drop_oldest_attached(self):
        got = self.account(self.offer(dropping.FULL_DROP_OLDEST, self.attach), dropping.DROP_OLDEST)
        self.assertEqual(got[-1], SENT - 1)

    def test_m5_drop_newest(self):
        got = self.account(self.offer(dropping.FULL_DROP_NEWEST), dropping.DROP_NEWEST)
        self.assertEqual(got, list(range(len(got))))

    def test_m5_latest(self):
        got = self.account(self.offer(dropping.FULL_LATEST_PER_KEY), dropping.DROP_REPLACED)
        self.assertEqual(got[-1], SENT - 1)

    def test_m5_latest_per_key(self):
        """Where the messaging backend carries keys. It is refused where it does not."""
        caps = {(o.operation, o.variant): o.availability for o in self.registry.GetCapabilities().operations}
        if caps["Multicast", "collapse"] != schemas.AVAILABLE:
            error = wire.failure(self.send, 0, collapse_key="k")
            self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
            return
        got = self.account(self.offer(dropping.FULL_LATEST_PER_KEY, self.attach, keyed=True), dropping.DROP_REPLACED)
        self.assertEqual(got[-KEYS:], list(range(SENT - KEYS, SENT)))

    def test_m5_end_stream(self):
        """It is told that it was too slow; the neighbour goes on, and it may come back."""
        slow, quick = self.offer(dropping.FULL_END_STREAM)
        got = []
        with self.assertRaises(grpc.RpcError) as ended:
            for frame in slow:
                got += [number(message) for message in frame.messages]
        self.assertEqual(ended.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertIn("too slow", ended.exception.details())
        self.assertEqual(got, list(range(len(got))))
        self.assertLess(len(got), SENT)
        back = self.subscribe("slow", dropping.FULL_END_STREAM)
        self.send(SENT)
        self.assertEqual([number(m) for m in (*messages(back, 1), *messages(quick, 1))], [SENT, SENT])

    def test_m5_what_waits_when_it_is_detached(self):
        """It was not too slow for them: they are counted for another reason."""
        with Stream(service(self.borrow(self.server.channel())).Attach, timeout=2 * environment.PATIENCE) as stream:
            stream.send(pb.AttachRequest(attach={"identities": ["slow"]}, when_full=dropping.FULL_DROP_NEWEST))
            stream.until(lambda frame: frame.attached_count == 1)
            quick = self.subscribe("swift", dropping.FULL_DROP_NEWEST)
            for n in range(SENT):
                self.send(n)
                self.assertEqual([number(m) for m in messages(quick, 1)], [n])
                if n % TOGETHER == TOGETHER - 1:
                    self.taken_in(2 * (n + 1))
            stream.send(pb.AttachRequest(detach={"identities": ["slow"]}))
            wait.until(lambda: self.dropped().get("ended"), environment.PATIENCE, "it is detached")
            got, lost = [], {}
            while len(got) + sum(lost.values()) < SENT:
                frame = stream.next()
                got += [number(message) for message in frame.messages]
                for one in frame.drops:
                    lost[one.reason] = lost.get(one.reason, 0) + one.count
            self.assertEqual(got, list(range(len(got))))
            self.assertEqual((len(got) + sum(lost.values()), set(lost)),
                             (SENT, {dropping.DROP_NEWEST, dropping.DROP_ENDED}))

    def test_m5_more_than_memory_takes_for_many_identities(self):
        """The stream stays: what has no room is lost as by its policy, and told."""
        names = [f"many{n}" for n in range(MANY)]
        server = self.borrow(Prismd(namespaces=[namespace({"backend": "memstore"}, self.slot)],
                                    limits={"max_inflight_bytes": 8 * MIB}))
        sender = service(self.borrow(server.channel()), timeout=2 * environment.PATIENCE)
        sender.RegisterBatch(registrations=[{"identity": name} for name in names])
        slow = service(self.borrow(server.channel())).Subscribe(identities=names, timeout=4 * environment.PATIENCE)
        self.addCleanup(slow.cancel)
        while next(slow).attached_count < MANY:
            pass
        once = suite.backend() == "memstore"        # a payload for many is there once
        for to in ([[name] for name in names] if once else [names]) * SENT_TO_MANY:
            self.assertTrue(sender.Multicast(identities=to, payload=bytes(MANY_PAYLOAD)).success)
        if suite.backend() == "memstore":           # there all of it has come; the half of the share is for calls
            wait.until(lambda: server.metric("prism_multicast_received_total") +
                       server.metric("prism_multicast_waiting") >= MANY * SENT_TO_MANY, environment.PATIENCE, "all")
            self.assertLess(server.metric("prism_rpc_held_bytes"), 8 * MIB / 2 / 2 + MIB)
        got = dropped = 0
        while got + dropped < MANY * SENT_TO_MANY:
            frame = next(slow)
            got += sum(len(message.identities) for message in frame.messages)
            dropped += frame.dropped_count
            self.assertLessEqual({one.reason for one in frame.drops}, {dropping.DROP_OLDEST, dropping.DROP_NEWEST})
        self.assertEqual(got + dropped, MANY * SENT_TO_MANY)
        if suite.backend() in ("memstore", "redis"):    # the others may hold as much by themselves
            self.assertGreater(dropped, 0)

    def pace(self, quick, n):
        """Seconds from sending to the quick one's reading, of the median message."""
        took = []
        for i in range(n):
            began = time.monotonic()
            self.send(i)
            self.assertEqual([number(m) for m in messages(quick, 1)], [i])
            took.append(time.monotonic() - began)
        return statistics.median(took)

    def no_slower(self, policy):
        """The best of some medians, in turn, so that both have met the same machine."""
        quick, alone, beside = self.subscribe("swift", policy), [], []
        for _ in range(ROUNDS):
            alone.append(self.pace(quick, PACED))
            slow = self.subscribe("slow", policy)
            self.pace(quick, FILLS)
            beside.append(self.pace(quick, PACED))
            next(frame for frame in slow if frame.dropped_count)    # it was too slow, indeed
            slow.cancel()
        self.assertLess(min(beside), SLOWER * min(alone), (alone, beside))

    def test_m5_no_slower_beside_drop_oldest(self):
        self.no_slower(dropping.FULL_DROP_OLDEST)

    def test_m5_no_slower_beside_drop_newest(self):
        self.no_slower(dropping.FULL_DROP_NEWEST)

    def test_m5_no_slower_beside_latest_per_key(self):
        self.no_slower(dropping.FULL_LATEST_PER_KEY)


if __name__ == "__main__":
    suite.main()
