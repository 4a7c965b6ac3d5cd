"""MulticastRegistry over gRPC, on the embedded store: identities, filters, multicasts, receivers."""
import time

import grpc

from google.rpc import error_details_pb2
from rig import environment, suite, wait, wire
from rig.messaging import Stream
from rig.multicast import filters, messages, namespace, pb, service, struct, where
from rig.prismd import Prismd

MEMSTORE = {"backend": "memstore", "config": {}}


class Multicast(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.use(Prismd(namespaces=[namespace(MEMSTORE, MEMSTORE)]))
        cls.channel = cls.server.channel()
        cls.registry = service(cls.channel)

    def register(self, *names, replace=False, **fields):
        answer = self.registry.RegisterBatch(registrations=[
            pb.RegisterRequest(identity=n, metadata=struct(**fields), replace=replace) for n in names])
        self.assertEqual(answer.success_count, len(names), answer)
        return answer.results

    def names(self, **request):
        return [i.identity for i in self.registry.Enumerate(**request).identities]

    def subscribe(self, *names, **more):
        stream = self.registry.Subscribe(identities=names, timeout=environment.PATIENCE, **more)
        self.addCleanup(stream.cancel)
        first = next(stream)
        self.assertEqual((first.attached_count, len(first.failures)), (len(names), 0))
        self.assertTrue(first.subscription_id)
        return stream

    # ---- identities ----

    def test_registration(self):
        answer = self.registry.Register(pb.RegisterRequest(identity="reg", metadata=struct(a=1), tags=["x", "y"]))
        self.assertTrue(answer.success)
        self.assertGreater(answer.generation, 0)
        again = self.registry.Register(identity="reg")
        self.assertEqual((again.success, again.code), (False, grpc.StatusCode.ALREADY_EXISTS.value[0]))
        replaced = self.registry.Register(identity="reg", replace=True, if_generation=answer.generation)
        self.assertTrue(replaced.success and replaced.replaced)
        self.assertGreater(replaced.generation, answer.generation)
        old = self.registry.Unregister(identity="reg", if_generation=answer.generation)
        self.assertEqual((old.success, old.code), (False, grpc.StatusCode.FAILED_PRECONDITION.value[0]))
        self.assertTrue(self.registry.Unregister(identity="reg").existed)
        self.assertFalse(self.registry.Unregister(identity="reg").existed)

    def test_metadata(self):
        document = struct(n=1.5, s="ü", b=True, l=[1, "a", None, {"k": []}], d={"e": {"f": -2}})
        self.registry.Register(pb.RegisterRequest(identity="meta", metadata=document, tags=["t1", "t2"]))
        filter_ = filters.Filter(json='{"$identity": "meta"}')
        found, = self.registry.Enumerate(filter=filter_).identities
        self.assertEqual(found.metadata, document)
        self.assertEqual(list(found.tags), ["t1", "t2"])
        bare, = self.registry.Enumerate(filter=filter_, include_metadata=False).identities
        self.assertFalse(bare.HasField("metadata"))
        changes = struct(n=2, new="x")
        changes["s"] = None
        updated = self.registry.UpdateMetadata(pb.UpdateMetadataRequest(identity="meta", metadata=changes, merge=True))
        self.assertEqual((updated.success, updated.generation), (True, found.generation))
        found, = self.registry.Enumerate(filter=filter_).identities
        self.assertEqual((found.metadata["n"], found.metadata["new"], "s" in found.metadata), (2, "x", False))
        missing = self.registry.UpdateMetadata(pb.UpdateMetadataRequest(identity="nobody", metadata=changes))
        self.assertEqual((missing.success, missing.code), (False, grpc.StatusCode.NOT_FOUND.value[0]))

    def test_heartbeat_and_expiry(self):
        first = self.registry.Register(identity="beat", ttl={"nanos": 400_000_000})
        self.register("other-beat")
        for _ in range(3):
            answer = self.registry.Heartbeat(ttl={"seconds": 30}, items=[
                {"identity": "beat", "if_generation": first.generation}, {"identity": "gone"},
                {"identity": "other-beat", "if_generation": 999999}])
            self.assertEqual((answer.alive_count, list(answer.missing), list(answer.replaced)),
                             (1, ["gone"], ["other-beat"]))
        self.registry.Heartbeat(items=[{"identity": "beat"}], ttl={"nanos": 50_000_000})
        wait.until(lambda: not self.names(filter=filters.Filter(json='{"$identity": "beat"}')), environment.PATIENCE,
                   "it expires")
        self.assertTrue(self.registry.Register(identity="beat").success)

    def test_a_batch_has_an_outcome_for_each(self):
        answer = self.registry.RegisterBatch(registrations=[
            {"identity": "batch"}, {"identity": "batch"}, {"identity": "large", "metadata": struct(x="x" * 70_000)}])
        self.assertEqual([r.code for r in answer.results],
                         [0, grpc.StatusCode.ALREADY_EXISTS.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0]])
        self.assertEqual(answer.success_count, 1)

    def test_a_fault_in_a_batch_is_its_own(self):
        """The one behind it has neither its condition nor its life."""
        answer = self.registry.RegisterBatch(registrations=[
            {"identity": "faulty", "replace": True, "if_generation": 999_999, "metadata": struct(x="x" * 70_000)},
            {"identity": "behind"}])
        self.assertEqual([r.code for r in answer.results], [grpc.StatusCode.INVALID_ARGUMENT.value[0], 0])

    def test_what_is_refused(self):
        for call, request, field in (
                ("Register", {"identity": ""}, "identity"), ("Register", {"identity": "x" * 513}, "identity"),
                ("Register", {"identity": "x", "ttl": {"seconds": -1}}, "ttl"),
                ("Register", {"identity": "x", "if_generation": 1}, "if_generation"),
                ("RegisterBatch", {"registrations": [{"identity": "a"}, {}]}, "registrations[1].identity"),
                ("Enumerate", {"limit": 0}, "limit"), ("Enumerate", {"cursor": "nonsense"}, "cursor"),
                ("Enumerate", {"filter": filters.Filter()}, "filter"),
                ("Enumerate", {"filter": filters.Filter(json="{")}, "filter.json"),
                ("Multicast", {"timeout_ms": 0}, "timeout_ms"), ("Multicast", {"identities": [""]}, "identities[0]"),
                ("Multicast", {"rate_per_second": 0}, "rate_per_second"), ("Subscribe", {}, "identity")):
            with self.subTest(call, request=request):
                error = wire.failure(getattr(self.registry, call), **request)
                self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT, error.details())
                violation, = wire.detail(error, error_details_pb2.BadRequest).field_violations
                self.assertEqual(violation.field, field)
        for call, request in (("Multicast", {"expires_after_ms": 1}), ("Acknowledge", {}),
                              ("Subscribe", {"identity": "x", "ack_mode": 2})):
            with self.subTest(call, request=request):
                self.assertEqual(wire.failure(getattr(self.registry, call), **request).code(),
                                 grpc.StatusCode.UNIMPLEMENTED)

    def test_pages(self):
        names = [f"page{i:04}" for i in range(250)]
        self.register(*names, kind="page")
        request = {"filter": where(kind="page"), "limit": 60}
        got, cursor = [], None
        while True:
            answer = self.registry.Enumerate(**request, **({"cursor": cursor} if cursor else {}))
            self.assertEqual(answer.total_count, len(answer.identities))
            got += [i.identity for i in answer.identities]
            if not answer.has_more:
                break
            cursor = answer.next_cursor
        self.assertEqual(got, names)
        self.assertEqual(self.registry.Enumerate(filter=where(kind="page"), count_only=True).match_count, 250)

    # ---- multicasts ----

    def test_only_matches_receive(self):
        self.register("m1", "m2", city="Oslo")
        self.register("m3", city="Bergen")
        streams = {n: self.subscribe(n) for n in ("m1", "m3")}
        answer = self.registry.Multicast(pb.MulticastRequest(
            filter=where(city="Oslo"), payload=b"hi", content_type="text/plain",
            metadata=[{"name": "h", "value": b"\0v"}], message_id="id-1"))
        self.assertEqual((answer.success, answer.target_count, answer.delivered_count, answer.no_receiver_count),
                         (True, 2, 1, 1))
        self.assertEqual({r.identity: r.status for r in answer.results}, {"m1": pb.DELIVERED, "m2": pb.NO_RECEIVER})
        self.assertEqual(answer.multicast_id, "id-1")
        self.registry.Multicast(identities=["m3"], payload=b"only you")
        message, = messages(streams["m1"], 1)
        self.assertEqual((message.message_id, message.payload, message.content_type, list(message.identities)),
                         ("id-1", b"hi", "text/plain", ["m1"]))
        self.assertEqual([(h.name, h.value) for h in message.metadata], [("h", b"\0v")])
        self.assertGreater(message.published_at_ms, 0)
        self.assertEqual(messages(streams["m3"], 1)[0].payload, b"only you")

    def test_one_payload_for_all_identities_of_a_stream(self):
        names = [f"many{i}" for i in range(50)]
        self.register(*names, group="many")
        stream = self.subscribe(*names)
        self.registry.Multicast(filter=where(group="many"), payload=b"x" * 5000)
        got, frames = set(), 0
        while len(got) < 50:
            for message in next(stream).messages:
                frames += 1
                self.assertEqual(message.payload, b"x" * 5000)
                got |= set(message.identities)
        self.assertEqual(got, set(names))
        self.assertLess(frames, 25, "identities share messages")

    def test_hostile_names(self):
        names = ["a.b", "a b", "*", ">", "a/b", "ü" * 100, "x" * 512, "_", "__", "_2A", "a\tb", "prism.multicast.a"]
        self.register(*names, hostile=True)
        streams = [self.subscribe(n) for n in names]
        answer = self.registry.Multicast(filter=where(hostile=True), payload=b"p")
        self.assertEqual((answer.target_count, answer.delivered_count), (len(names), len(names)))
        for name, stream in zip(names, streams):
            message, = messages(stream, 1)
            self.assertEqual(list(message.identities), [name])

    def test_nobody(self):
        answer = self.registry.Multicast(filter=where(nothing="at all"), payload=b"x")
        self.assertEqual((answer.success, answer.target_count, list(answer.results)), (True, 0, []))
        answer = self.registry.Multicast(identities=["not registered"], payload=b"x")
        self.assertEqual((answer.success, answer.target_count), (True, 0))

    def named_and_bounded(self):
        """Names beyond the bound, of which no more than it match; and names that are only counted."""
        names = [f"bound{i}" for i in range(20)] + ["bound0", "nobody", "no one"]
        error = wire.failure(self.registry.Multicast, identities=names, max_targets=19)
        self.assertEqual(error.code(), grpc.StatusCode.FAILED_PRECONDITION)
        for wanted, found in (({}, 20), ({"filter": where(kind="bound")}, 20), ({"filter": where(kind="x")}, 0)):
            dry = self.registry.Multicast(identities=names, dry_run=True, **wanted)
            self.assertEqual((dry.target_count, dry.no_receiver_count), (found, 0))
        last = list(self.registry.MulticastStream(identities=names, dry_run=True))[-1]
        self.assertEqual((last.target_count, last.done), (20, True))
        self.assertEqual((last.cost.published_messages, last.cost.stored_messages), (20, 0))

    def test_bounds(self):
        self.register(*(f"bound{i}" for i in range(20)), kind="bound")
        error = wire.failure(self.registry.Multicast, filter=where(kind="bound"), max_targets=19)
        self.assertEqual(error.code(), grpc.StatusCode.FAILED_PRECONDITION)
        self.assertEqual(self.registry.Multicast(filter=where(kind="bound"), max_targets=20).target_count, 20)
        before = self.server.metric("prism_multicasts_total")
        self.named_and_bounded()
        dry = self.registry.Multicast(filter=where(kind="bound"), dry_run=True)
        self.assertEqual((dry.target_count, dry.no_receiver_count), (20, 0))
        self.assertEqual(self.server.metric("prism_multicasts_total"), before)
        names = [f"bound{i}" for i in range(20)] + ["nobody"]
        self.assertEqual(self.registry.Multicast(identities=names, max_targets=20).target_count, 20)

    def test_what_it_would_cost(self):
        self.register(*(f"cost{i}" for i in range(20)), kind="cost")
        sent = {"filter": where(kind="cost"), "payload": b"x" * 1000, "rate_per_second": 20}
        cost = self.registry.Multicast(dry_run=True, max_targets=20, **sent).cost
        self.assertEqual((cost.published_messages, cost.stored_messages, cost.least_ms), (20, 0, 900))
        self.assertGreaterEqual(cost.message_bytes, 20 * 1000)
        self.assertLess(cost.message_bytes, 20 * 1100)
        refused = self.registry.Multicast(dry_run=True, max_targets=19, **sent)
        self.assertEqual((refused.target_count, refused.HasField("cost")), (20, False))
        began = time.monotonic()
        answer = self.registry.Multicast(**sent)
        self.assertGreaterEqual(time.monotonic() - began, cost.least_ms / 1000 - 0.05)     # two clocks
        self.assertEqual((answer.target_count, answer.HasField("cost")), (20, False))

    def test_results_modes(self):
        self.register("r1", "r2", kind="results")
        for mode, n in ((pb.RESULTS_ALL, 2), (pb.RESULTS_FAILURES, 0), (pb.RESULTS_NONE, 0)):
            answer = self.registry.Multicast(filter=where(kind="results"), results=mode)
            self.assertEqual((answer.target_count, len(answer.results)), (2, n))

    def test_many(self):
        """Pages follow each other; the answer leaves out what does not fit and says so."""
        n = 5000
        for at in range(0, n, 1000):
            self.register(*(f"crowd{i:06}" + "-" * 400 for i in range(at, at + 1000)), kind="crowd")
        progress = list(self.registry.MulticastStream(filter=where(kind="crowd"), payload=b"x"))
        self.assertEqual([p.done for p in progress], [False] * (len(progress) - 1) + [True])
        self.assertGreater(len(progress), 4)
        self.assertEqual((progress[-1].target_count, progress[-1].no_receiver_count), (n, n))
        listed = [r.identity for p in progress for r in p.results]
        self.assertEqual((len(listed), len(set(listed))), (n, n))
        answer = self.registry.Multicast(filter=where(kind="crowd"), payload=b"x", timeout=60)
        self.assertEqual((answer.target_count, answer.no_receiver_count), (n, n))

    def test_m3_an_answer_that_would_be_too_large(self):
        """It leaves results out, counts all, and is no larger than a message may be; other calls of the connection
        go on."""
        n, largest = 9000, 4 << 20
        for at in range(0, n, 1000):
            self.register(*(f"huge{i:06}" + "-" * 490 for i in range(at, at + 1000)), kind="huge")
        call = self.registry.Multicast.future(filter=where(kind="huge"), payload=b"x", timeout=60)
        beside = 0
        while not call.done() or not beside:
            self.assertEqual(self.registry.Enumerate(filter=where(kind="huge"), limit=1).identities[0].identity[:5],
                             "huge0")
            beside += 1
        answer = call.result()
        self.assertEqual((answer.success, answer.truncated, answer.target_count, answer.no_receiver_count),
                         (True, True, n, n))
        self.assertLess(answer.ByteSize(), largest)
        self.assertGreater(len(answer.results), n // 2)
        self.assertEqual(len({r.identity for r in answer.results}), len(answer.results))
        for mode in (pb.RESULTS_FAILURES, pb.RESULTS_NONE):
            answer = self.registry.Multicast(filter=where(kind="huge"), results=mode, timeout=60)
            self.assertEqual((answer.truncated, answer.target_count), (False, n))

    def test_rate(self):
        self.register(*(f"rate{i}" for i in range(40)), kind="rate")
        began = time.monotonic()
        answer = self.registry.Multicast(filter=where(kind="rate"), rate_per_second=100)
        self.assertEqual(answer.target_count, 40)
        self.assertGreater(time.monotonic() - began, 0.25)

    def test_timeout(self):
        """What is not done in time is told; the walk stops."""
        self.register(*(f"slow{i}" for i in range(40)), kind="slow")
        answer = self.registry.Multicast(filter=where(kind="slow"), rate_per_second=10, timeout_ms=300)
        self.assertFalse(answer.success)
        self.assertEqual(answer.code, grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
        self.assertLess(answer.target_count, 40)

    def test_cancel_stops_sending(self):
        self.register(*(f"stop{i}" for i in range(100)), kind="stop")
        stream = self.registry.MulticastStream(filter=where(kind="stop"), rate_per_second=10)
        next(stream)
        stream.cancel()
        wait.until(lambda: self.server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "the call is over")

    # ---- receivers ----

    def test_attach_and_detach(self):
        self.register("at1", "at2", kind="attach")
        with Stream(self.registry.Attach) as stream:
            stream.send(pb.AttachRequest(attach={"identities": ["at1", "at2", "at1"]}))
            frames = stream.answers
            frame = next(frames)
            while frame.attached_count < 2:
                frame = next(frames)
            self.registry.Multicast(filter=where(kind="attach"), payload=b"1")
            got = set()
            while got != {"at1", "at2"}:
                got |= {i for m in next(frames).messages for i in m.identities}
            stream.send(pb.AttachRequest(detach={"identities": ["at1"]}))
            wait.until(lambda: self.registry.Multicast(identities=["at1"]).no_receiver_count == 1,
                       environment.PATIENCE, "nobody receives for it")
            self.registry.Multicast(filter=where(kind="attach"), payload=b"2")
            last = next(m for f in frames for m in f.messages if m.payload == b"2")
            self.assertEqual(list(last.identities), ["at2"])
            stream.half_close()
            self.assertEqual(stream.rest(), [])

    def test_m9_what_was_missed_is_not_denied(self):
        """Where nothing is kept, a receiver that comes back is told that it may have missed something."""
        self.register("back", kind="back")
        with Stream(self.registry.Attach) as stream:
            stream.send(pb.AttachRequest(attach={"identities": ["back"]}))
            token = stream.until(lambda frame: frame.attached_count)[-1].resume_token
            self.assertTrue(token)
        wait.until(lambda: self.registry.Multicast(identities=["back"]).no_receiver_count == 1, environment.PATIENCE,
                   "it is away")
        first = next(self.registry.Subscribe(identities=["back"], resume_token=token, timeout=environment.PATIENCE))
        self.assertEqual((first.recovered, first.missed_count), (False, -1))

    def test_draining_ends_receivers(self):
        with Prismd() as server, server.channel() as channel:
            stream = service(channel).Subscribe(identity="x", timeout=environment.PATIENCE)
            next(stream)
            server.terminate()
            error = wire.failure(lambda: [f.draining for f in stream])
            self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)


class Prefixes(suite.Case):
    def test_who_is_heard(self):
        """Whatever topics are called, each target's outcome is its own: also of names that are escaped, and of pages in
        which some are heard."""
        prefixes = {"default": None, "level": "a.b.", "part": "a.part-", "dash": "-"}
        server = self.use(Prismd(namespaces=[
            namespace(MEMSTORE, MEMSTORE, name=name, **({"topic_prefix": prefix} if prefix else {}))
            for name, prefix in prefixes.items()]))
        for name in prefixes:
            registry = service(server.channel(), name)
            heard, others = [f"{name}-1", f"{name}.1", f"{name}" * 50], [f"{name}-2", f"{name}.2", f"{name}" * 49]
            registry.RegisterBatch(registrations=[pb.RegisterRequest(identity=n, metadata=struct(of=name))
                                                  for n in heard + others])
            stream = registry.Subscribe(identities=heard, timeout=environment.PATIENCE)
            self.addCleanup(stream.cancel)
            next(stream)
            for mode in (pb.RESULTS_ALL, pb.RESULTS_NONE):
                answer = registry.Multicast(filter=where(of=name), payload=b"x", results=mode)
                self.assertEqual((answer.target_count, answer.delivered_count, answer.no_receiver_count), (6, 3, 3))
                if mode == pb.RESULTS_ALL:
                    self.assertEqual({r.identity: r.receivers for r in answer.results},
                                     {**dict.fromkeys(heard, 1), **dict.fromkeys(others, 0)})
            got = [i for m in messages(stream, 2) for i in m.identities]
            while len(got) < 6:
                got += [i for m in messages(stream, 1) for i in m.identities]
            self.assertEqual(sorted(got), sorted(2 * heard))


class Start(suite.Case):
    def fault(self, **behavior):
        server = Prismd(namespaces=[namespace(MEMSTORE, MEMSTORE, **behavior)])
        server.launch()
        self.addCleanup(server.process.kill)
        self.assertEqual(server.process.wait(environment.PATIENCE), 1)
        return next(e for e in server.log_events() if e["event"] == "config_fault")

    def test_m5_a_policy_that_cannot_be(self):
        fault = self.fault(when_full="never")
        self.assertEqual(fault["path"], "namespaces[0].behavior.when_full")
        self.assertIn("drop_oldest, drop_newest", fault["message"])

    def test_a_prefix_that_is_no_name(self):
        for prefix in ("a*", "a b", "__a", "a\tb", "x" * 129):
            with self.subTest(prefix):
                self.assertEqual(self.fault(topic_prefix=prefix)["path"], "namespaces[0].behavior.topic_prefix")


if __name__ == "__main__":
    suite.main()
