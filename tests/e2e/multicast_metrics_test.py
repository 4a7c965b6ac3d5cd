"""What the metrics of multicasts say, against what their client has counted."""
import time

import grpc

from rig import environment, suite, wait
from rig.identities import Identities
from rig.messaging import Stream
from rig.multicast import messages, namespace, pb, service, struct, where
from rig.prismd import Prismd
from prism.patterns.schemas import slot_schema_pb2 as schemas

MEMSTORE = {"backend": "memstore", "config": {}}
BOUNDED = {"backend": "memstore", "config": {"stream_max_messages": 2}}     # what a queue holds


class Counted(suite.Case):
    def serve(self, **slots):
        self.server = self.borrow(Prismd(namespaces=[namespace(MEMSTORE, MEMSTORE, **slots)]))
        self.registry = service(self.borrow(self.server.channel()), timeout=environment.PATIENCE)

    def told(self, family, **labels):
        return self.server.metric(f"prism_multicast_{family}", **labels)

    def by(self, family, label, *values):
        return {value: self.told(family, **{label: value}) for value in values}

    def enter(self, *names):
        answer = self.registry.RegisterBatch(registrations=[pb.RegisterRequest(identity=n, metadata=struct(kind="x"))
                                                            for n in names])
        return answer.success_count

    def receive(self, *names):
        stream = self.registry.Subscribe(identities=names, timeout=environment.PATIENCE)
        self.addCleanup(stream.cancel)
        self.assertEqual(next(stream).attached_count, len(names))
        return stream

    def test_registrations(self):
        """An outcome that is a refusal is none of them."""
        self.serve()
        self.assertEqual(self.enter(*(f"i{n}" for n in range(20))), 20)
        self.assertEqual(self.enter("i0", "i1", "new"), 1)
        self.assertFalse(self.registry.Register(identity="i0").success)
        self.assertTrue(self.registry.Register(identity="i0", replace=True).success)
        self.assertEqual([self.registry.Unregister(identity=n).existed for n in ("i1", "i1", "i2")],
                         [True, False, True])
        beat = self.registry.Heartbeat(items=[{"identity": f"i{n}"} for n in range(10)], ttl={"seconds": 60})
        self.assertEqual((beat.alive_count, len(beat.missing)), (8, 2))
        self.assertEqual(self.by("registrations_total", "change", "registered", "unregistered", "kept", "missing"),
                         {"registered": 22, "unregistered": 2, "kept": 8, "missing": 2})
        self.assertEqual(self.server.metric("prism_backend_identities"),
                         self.registry.Enumerate(count_only=True).match_count)

    def test_deliveries_and_times(self):
        """Of multicasts in one answer, in progress messages, and one whose time is over; nothing of a dry run."""
        self.serve()
        for first in (0, 750):
            self.enter(*(f"i{n:04}" for n in range(first, first + 750)))
        names = [f"i{n:04}" for n in range(40)]
        stream = self.receive(*names)
        self.assertEqual(self.told("attached"), len(names))
        began = time.monotonic()
        answers = [self.registry.Multicast(filter=where(kind="x"), payload=b"%d" % n) for n in range(3)]
        progress = list(self.registry.MulticastStream(filter=where(kind="x"), payload=b"3"))
        answers.append(progress[-1])
        pages = len(progress) - 1
        before = self.told("page_seconds_count")
        answers.append(self.registry.Multicast(identities=names, payload=b"4", rate_per_second=100, timeout_ms=250))
        late = answers[-1]
        self.assertEqual((late.success, late.code), (False, grpc.StatusCode.DEADLINE_EXCEEDED.value[0]))
        took = time.monotonic() - began
        self.registry.Multicast(filter=where(kind="x"), dry_run=True)
        counts = [(a.delivered_count, a.no_receiver_count, a.failed_count) for a in answers]
        self.assertEqual([sum(c) for c in counts], [a.target_count for a in answers])
        delivered, alone, failed = (sum(column) for column in zip(*counts))
        self.assertEqual(self.by("deliveries_total", "outcome", "delivered", "no_receiver", "pending", "skipped",
                                 "failed", "timeout"),
                         {"delivered": delivered, "no_receiver": alone, "pending": 0, "skipped": 0, "failed": 0,
                          "timeout": failed})
        got = 0
        while got < delivered:
            got += sum(len(m.identities) for m in messages(stream, 1))
        self.assertEqual((got, self.told("received_total")), (delivered, delivered))
        self.assertEqual(self.server.metric("prism_multicasts_total"), len(answers))
        self.assertEqual(self.told("walk_seconds_count"), len(answers))
        self.assertEqual(before, 4 * pages)
        self.assertGreaterEqual(self.told("walk_seconds_sum"), 0.2)      # of the one that was to take 0.3 s
        self.assertLessEqual(self.told("walk_seconds_sum"), took)
        self.assertGreater(self.told("page_seconds_sum"), 0)

    def test_what_a_walk_takes_in_process_is_told(self):
        """Its pages are done in a turn of the worker each, during which the worker's own time stands still."""
        self.serve()
        self.enter(*(f"i{n:04}" for n in range(1000)))
        self.receive(*(f"i{n:04}" for n in range(1000)))
        for n in range(20):
            self.registry.Multicast(filter=where(kind="x"), payload=b"%d" % n)
        for family in ("walk", "page"):
            self.assertGreater(self.told(f"{family}_seconds_sum") / self.told(f"{family}_seconds_count"), 20e-6, family)

    def test_kept(self):
        """What a full queue refuses is failed, and what is confirmed leaves it."""
        self.serve(durability=BOUNDED)
        self.enter("a", "b", "c")
        answers = [self.registry.Multicast(payload=b"%d" % n) for n in range(4)]
        self.assertEqual([(a.pending_count, a.failed_count) for a in answers], [(3, 0), (3, 0), (0, 3), (0, 3)])
        self.assertEqual(self.by("deliveries_total", "outcome", "pending", "failed", "timeout"),
                         {"pending": 6, "failed": 6, "timeout": 0})
        self.assertEqual(self.told("retries_total"), 0)
        with Stream(self.registry.Attach) as stream:
            stream.send(pb.AttachRequest(attach={"identities": ["a"]}, ack_mode=schemas.ACK_MANUAL))
            got = messages(stream.answers, 2)
            self.assertEqual((self.told("unsettled"), self.told("attached")), (2, 1))
            stream.send(pb.AttachRequest(acknowledge={"through": got[-1].sequence}))
            wait.until(lambda: self.told("settled_total", how="confirmed") == 2, environment.PATIENCE, "both have left")
            self.assertEqual(self.told("unsettled"), 0)
        wait.until(lambda: self.told("attached") == 0, environment.PATIENCE, "the receiver is gone")


class Held(Identities):
    def held(self):
        return [n for sample, n in self.prismd.metrics().items() if sample.startswith("prism_backend_identities{")]

    def becomes(self, *held):
        """PostgreSQL's sessions tell its statistics ten seconds late."""
        wait.until(lambda: self.held() == list(held), 2 * environment.PATIENCE, f"{held} is told")

    def check(self, slot):
        """Those that came, less those that left and those whose time is over. PostgreSQL's figure is never below 0, so
        it has to know of those that came before others leave."""
        self.prismd, registry = self.serve(slot, MEMSTORE)
        self.becomes(0)
        self.register(registry, [f"i{n}" for n in range(20)])
        self.becomes(20)
        for n in range(5):
            self.assertTrue(registry.Unregister(identity=f"i{n}").existed)
        self.register(registry, [f"brief{n}" for n in range(3)], ttl={"nanos": 1_000_000})
        self.becomes(15)

    def test_memstore(self):
        self.check(MEMSTORE)

    def test_redis(self):
        """What cannot be asked is not known."""
        self.check(self.redis())
        self.server.kill()
        self.becomes()

    def test_postgres(self):
        self.check(self.postgres())


if __name__ == "__main__":
    suite.main()
