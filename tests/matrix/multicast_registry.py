"""What each operation of the multicast registry must do when it is available, for any pair of registry and messaging
backend: "redis+nats"."""
import grpc

from rig import backends, environment, wire
from rig.messaging import Stream
from rig.multicast import filters, messages, namespace, pb, service as service, struct, where  # noqa: F401
from prism.patterns.schemas import slot_schema_pb2 as schemas


def slots(name, borrow):
    """One server for each backend that is named, even if it is in two slots."""
    started = {}
    for backend in name.split("+"):
        kind = "redis" if backend == "redis-pubsub" else backend
        if kind not in started:
            started[kind] = borrow(backends.slot(kind))
    names = [("redis" if b == "redis-pubsub" else b) for b in name.split("+")]
    names += names[:1] * (2 - len(names))
    return dict(zip(("registry", "messaging", "durability"), (started[n] for n in names)))


def namespaces(slot):
    return [namespace(**slot)]


def backend_type(capabilities):
    slots_ = capabilities.slots
    kept = (slots_.durability_backend_type,) if slots_.HasField("durability_backend_type") else ()
    return slots_.registry_backend_type, slots_.messaging_backend_type, *kept


def summary_agrees(capabilities, operation, announced):
    kept = capabilities.slots.HasField("durability_backend_type")
    if operation == "Multicast":
        how = pb.MULTICAST_QUEUED if kept else pb.MULTICAST_FANOUT
        return capabilities.multicast_performance == how and announced.how == schemas.PIPELINED
    if operation == "Acknowledge":
        return kept and capabilities.supports_durability
    return capabilities.generation > 0 and capabilities.supports_streaming and capabilities.supports_filtering


def smallest_request(operation):
    return getattr(pb, operation + "Request")()


def enter(registry, *names, **fields):
    answer = registry.RegisterBatch(registrations=[pb.RegisterRequest(identity=n, metadata=struct(**fields))
                                                   for n in names])
    assert answer.success_count == len(names), answer


def receiver(test, registry, *names):
    stream = registry.Subscribe(identities=names, timeout=environment.PATIENCE)
    test.addCleanup(stream.cancel)
    first = next(stream)
    while first.attached_count < len(names):
        first = next(stream)
    return stream


# That it is so is asked of the backends themselves: registry_filters_contract.c.
EVALUATED_BY_PRISM = {"memstore": set(filters.FilterOperator.values()), "postgres": {filters.REGEX},
                      "redis": {filters.REGEX, filters.GLOB}}


def GetCapabilities(test, registry, announced):
    capabilities = registry.GetCapabilities()
    test.assertEqual(capabilities, registry.GetCapabilities())
    native = set(capabilities.native_filter_operators)
    test.assertEqual(native, set(capabilities.filter_operators)
                     - EVALUATED_BY_PRISM[capabilities.slots.registry_backend_type])
    test.assertEqual(capabilities.filter_performance, pb.FILTER_MIXED if native else pb.FILTER_CLIENT_SIDE)


def Register(test, registry, announced):
    first = registry.Register(identity="a")
    test.assertTrue(first.success)
    test.assertFalse(registry.Register(identity="a").success)
    test.assertGreater(registry.Register(identity="a", replace=True).generation, first.generation)
    test.assertIn(announced.acknowledgement, (schemas.MEMORY, schemas.DISK, schemas.UNKNOWN))


def RegisterBatch(test, registry, announced):
    enter(registry, *(f"i{n:04}" for n in range(1000)), kind="x")
    test.assertEqual(registry.Enumerate(filter=where(kind="x"), count_only=True).match_count, 1000)
    test.assertEqual(announced.limits.max_items, 1000)


def Heartbeat(test, registry, announced):
    """It lives on: the matrix does not wait for what expires, which the contract of registries does."""
    test.assertTrue(registry.Register(identity="a", ttl={"seconds": 60}).success)
    before = registry.Enumerate().identities[0].expires_at_ms
    answer = registry.Heartbeat(items=[{"identity": "a"}, {"identity": "b"}], ttl={"seconds": 3600})
    test.assertEqual((answer.alive_count, list(answer.missing)), (1, ["b"]))
    test.assertGreater(registry.Enumerate().identities[0].expires_at_ms, before + 3000 * 1000)


def Unregister(test, registry, announced):
    enter(registry, "a")
    test.assertEqual([registry.Unregister(identity="a").existed for _ in range(2)], [True, False])
    test.assertEqual(registry.Enumerate(count_only=True).match_count, 0)


def UpdateMetadata(test, registry, announced):
    enter(registry, "a", city="Oslo", n=1)
    test.assertTrue(registry.UpdateMetadata(
        pb.UpdateMetadataRequest(identity="a", metadata=struct(city="Bergen"), merge=True)).success)
    found, = registry.Enumerate(filter=where(city="Bergen", n=1)).identities
    test.assertEqual(found.identity, "a")


def Enumerate(test, registry, announced):
    enter(registry, *(f"i{n:03}" for n in range(120)), kind="x")
    enter(registry, "other", kind="y")
    first = registry.Enumerate(filter=where(kind="x"), limit=100)
    rest = registry.Enumerate(filter=where(kind="x"), limit=100, cursor=first.next_cursor)
    test.assertEqual([i.identity for i in (*first.identities, *rest.identities)], [f"i{n:03}" for n in range(120)])
    odd = registry.Enumerate(filter=filters.Filter(json='{"$identity.endswith": "7", "kind": "x"}'))
    test.assertEqual(len(odd.identities), 12)
    values = [True, -1.5, "b", None, 3, "a", -7, "ä", False, 1e300, 0, "B"]
    for i, value in enumerate(values):
        made = pb.RegisterRequest(identity=f"s{i:02}", metadata=struct(kind="s", v={"w": value}))
        test.assertTrue(registry.Register(made).success)
    enter(registry, "s99", kind="s")
    ranked = [f"s{i:02}" for i in (99, 3, 8, 0, 6, 1, 10, 4, 9, 11, 5, 2, 7)]
    for sort_by, expected in ((["v.w"], ranked), (["-v.w"], ranked[::-1]),
                              (["kind", "-$identity"], sorted(ranked)[::-1])):
        got, cursor = [], ""
        while True:
            page = registry.Enumerate(filter=where(kind="s"), limit=5, sort_by=sort_by, cursor=cursor)
            got += [i.identity for i in page.identities]
            if not page.has_more:
                break
            cursor = page.next_cursor
        test.assertEqual(got, expected, sort_by)


def Multicast(test, registry, announced):
    enter(registry, "a", "b", "c", kind="x")
    stream = receiver(test, registry, "a", "b")
    answer = registry.Multicast(filter=where(kind="x"), payload=b"hello")
    test.assertEqual((answer.success, answer.target_count, answer.failed_count), (True, 3, 0))
    # M4: who has no receiver is told apart where the messaging backend can tell, and that it can is announced.
    kept = registry.GetCapabilities().supports_durability
    test.assertEqual(answer.pending_count, 3 if kept else 0)
    test.assertEqual(answer.delivered_count + answer.no_receiver_count, 0 if kept else 3)
    told = {o.variant: o for o in registry.GetCapabilities().operations if o.operation == "Multicast"}["no_receiver"]
    test.assertEqual(answer.no_receiver_count, 1 if told.availability == schemas.AVAILABLE and not kept else 0)
    got = set()
    while got != {"a", "b"}:
        for message in messages(stream, 1):
            test.assertEqual(message.payload, b"hello")
            got |= set(message.identities)
    the_largest_that_is_announced(test, registry, announced.limits.max_value_bytes)


def the_largest_that_is_announced(test, registry, most):
    """It reaches also who has the longest name; what is larger, with headers where there are any, is refused as a
    whole."""
    enter(registry, "n" * 512, kind="far")
    answer = registry.Multicast(filter=where(kind="far"), payload=bytes(most))
    test.assertEqual((answer.success, answer.target_count, answer.failed_count), (True, 1, 0), answer.error)
    requests = [{"payload": bytes(most + 1)}]
    variants = {o.variant: o.availability for o in registry.GetCapabilities().operations if o.operation == "Multicast"}
    if variants["metadata"] == schemas.AVAILABLE:
        requests.append({"payload": bytes(most), "metadata": [{"name": "n", "value": bytes(6000)}],
                         "delivery": schemas.AT_MOST_ONCE})     # what is kept may be larger
    for request in requests:
        error = wire.failure(registry.Multicast, pb.MulticastRequest(filter=where(kind="far"), **request))
        test.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT)


def MulticastStream(test, registry, announced):
    enter(registry, *(f"i{n:04}" for n in range(1000)), kind="x")
    enter(registry, *(f"j{n:04}" for n in range(1000)), kind="x")
    progress = list(registry.MulticastStream(filter=where(kind="x"), payload=b"x"))
    test.assertTrue(progress[-1].done)
    test.assertEqual((progress[-1].target_count, progress[-1].failed_count), (2000, 0))
    test.assertEqual(len({r.identity for p in progress for r in p.results}), 2000)


def Subscribe(test, registry, announced):
    hostile = ["a.b", "a b", "*", ">", "ü" * 256, "x" * 511, "x" * 512, "_", "_2A", "a\r\nPUB x 1", "all",
               "confirm.x", "."]
    enter(registry, *hostile)
    streams = [receiver(test, registry, name) for name in hostile]
    for name, stream in zip(hostile, streams):
        registry.Multicast(identities=[name], payload=name.encode())
        message, = messages(stream, 1)
        test.assertEqual((message.payload, list(message.identities)), (name.encode(), [name]))


def Attach(test, registry, announced):
    enter(registry, "a", "b")
    with Stream(registry.Attach) as stream:
        for name in ("a", "b"):
            stream.send(pb.AttachRequest(attach={"identities": [name]}))
        stream.until(lambda frame: frame.attached_count == 2)
        registry.Multicast(payload=b"x")
        got = set()
        while got != {"a", "b"}:
            got |= {i for m in stream.next().messages for i in m.identities}


def Acknowledge(test, registry, announced):
    """What nobody was there for waits in order; what is not confirmed comes again."""
    enter(registry, "a")
    for text in (b"1", b"2", b"3"):
        test.assertEqual(registry.Multicast(identities=["a"], payload=text, message_id=text.decode()).pending_count, 1)
    stream = registry.Subscribe(identity="a", ack_mode=schemas.ACK_MANUAL, timeout=environment.PATIENCE)
    name = next(stream).subscription_id
    test.assertEqual([m.payload for m in messages(stream, 3)], [b"1", b"2", b"3"])
    answer = registry.Acknowledge(subscription_id=name, message_ids=["1", "3", "nothing"])
    test.assertEqual((answer.acknowledged_count, list(answer.failed_ids)), (2, ["nothing"]))
    stream.cancel()
    again = registry.Subscribe(identity="a", ack_mode=schemas.ACK_MANUAL, timeout=environment.PATIENCE)
    test.addCleanup(again.cancel)
    name = next(again).subscription_id
    message, = messages(again, 1)
    test.assertEqual(message.payload, b"2")
    test.assertEqual(registry.Acknowledge(subscription_id=name, message_ids=["2"]).acknowledged_count, 1)
