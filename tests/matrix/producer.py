"""What each operation of the producer pattern must do when it is available. `test` is the running test case,
`announced` the operation's entry in the capabilities."""
import grpc

from rig import wire
from rig.messaging import Stream, pb, producer, producer_service as service
from prism.patterns.schemas import slot_schema_pb2 as schemas

BATCH = {schemas.NATIVE: pb.BATCH_NATIVE, schemas.PIPELINED: pb.BATCH_PIPELINE}
MESSAGES = 250


def namespaces(slot):
    return [producer(slot)]


def backend_type(capabilities):
    return capabilities.slots.sink_backend_type


def summary_agrees(capabilities, operation, announced):
    if operation == "PublishBatch":
        return capabilities.supports_batching and capabilities.batch_performance == BATCH[announced.how]
    return capabilities.generation > 0


def smallest_request(operation):
    return getattr(pb, operation + "Request")()


def GetCapabilities(test, producer, announced):
    first, second = producer.GetCapabilities(), producer.GetCapabilities()
    test.assertEqual(first, second)
    test.assertTrue(first.ack_means)


def carries(capabilities):
    """Keys, ids and headers, and not the payload alone."""
    return capabilities.supports_ordering


def Publish(test, producer, announced):
    capabilities = producer.GetCapabilities()
    key = {"ordering_key": b"k"} if carries(capabilities) else {}
    replies = [producer.Publish(topic="orders", payload=b"%d" % i, **key) for i in range(3)]
    test.assertEqual([(r.success, r.outcome, r.code) for r in replies], [(True, pb.STORED, 0)] * 3)
    test.assertIn(announced.acknowledgement, (schemas.MEMORY, schemas.DISK, schemas.UNKNOWN))
    if capabilities.delivery == schemas.AT_LEAST_ONCE:
        test.assertEqual(len({(r.partition, r.offset, r.position) for r in replies}), 3)
        test.assertEqual(len({r.message_id for r in replies}), 3)
    if not carries(capabilities):
        refuses_what_it_cannot_carry(test, producer, capabilities)


def refuses_what_it_cannot_carry(test, producer, capabilities):
    variants = {"ordering_key": {"ordering_key": b"k"}, "headers": {"headers": [{"name": "n", "value": b"v"}]}}
    for variant, field in variants.items():
        announced = {o.variant: o for o in capabilities.operations if o.operation == "Publish"}[variant]
        test.assertEqual(announced.availability, schemas.UNAVAILABLE)
        error = wire.failure(producer.Publish, pb.PublishRequest(topic="orders", payload=b"x", **field))
        test.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
        test.assertEqual(error.details(), announced.unavailable_reason.message)
    error = wire.failure(producer.Publish, pb.PublishRequest(topic="orders", payload=b"x", message_id="m"))
    test.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT)


def PublishBatch(test, producer, announced):
    carried = carries(producer.GetCapabilities())
    ids = [f"m{i}" if carried else None for i in range(MESSAGES)]
    messages = [pb.PublishRequest(topic="orders" if i != 7 else "", payload=b"%d" % i, message_id=ids[i])
                for i in range(MESSAGES)]
    reply = producer.PublishBatch(messages=messages)
    test.assertEqual([r.success for r in reply.results], [i != 7 for i in range(MESSAGES)], "in request order")
    test.assertEqual([r.message_id for r in reply.results if r.success],
                     [ids[i] or "" for i in range(MESSAGES) if i != 7])
    test.assertEqual((reply.success_count, reply.failure_count, reply.all_success), (MESSAGES - 1, 1, False))


    atomic_as_announced(test, producer, [pb.PublishRequest(topic="orders", payload=b"%d" % i) for i in range(20)])


def atomic_as_announced(test, producer, messages):
    announced = {o.variant: o for o in producer.GetCapabilities().operations if o.operation == "PublishBatch"}["atomic"]
    if announced.availability == schemas.UNAVAILABLE:
        error = wire.failure(producer.PublishBatch, pb.PublishBatchRequest(messages=messages, atomic=True))
        test.assertEqual((error.code(), error.details()),
                         (grpc.StatusCode.UNIMPLEMENTED, announced.unavailable_reason.message))
        return
    before = producer.GetStats().messages_published
    test.assertEqual((announced.how, announced.atomicity, announced.ordering, announced.backend_calls),
                     (schemas.NATIVE, schemas.ALL_OR_NOTHING, schemas.REQUEST_ORDER, "1"))
    reply = producer.PublishBatch(messages=messages, atomic=True)
    test.assertEqual([(r.outcome, r.code) for r in reply.results], [(pb.STORED, 0)] * len(messages))
    most = announced.limits.max_items
    for refused, subject in ((messages[:7] + [pb.PublishRequest(topic="")], "messages[7].topic"),
                             (messages[:7] + [pb.PublishRequest(topic="others")], "messages[7].topic"),
                             ((messages * most)[:most + 1], "messages")):
        error = wire.failure(producer.PublishBatch, pb.PublishBatchRequest(messages=refused, atomic=True))
        test.assertEqual((error.code(), list(wire.bad_fields(error))), (grpc.StatusCode.INVALID_ARGUMENT, [subject]))
    test.assertEqual(producer.GetStats().messages_published - before, len(messages))


def PublishStream(test, producer, announced):
    capabilities = producer.GetCapabilities()
    keys = [b"%d" % (i % 5) if carries(capabilities) else None for i in range(MESSAGES)]
    with Stream(producer.PublishStream) as stream:
        first = stream.next()
        test.assertEqual((first.settled_through, first.window), (0, 10000))
        test.assertEqual(first.generation, capabilities.generation)
        stream.send(pb.PublishFrame(topic="orders", with_results=True))
        for frame in range(10):
            stream.send(pb.PublishFrame(messages=[
                pb.PublishRequest(payload=b"%d" % i, ordering_key=keys[i]) for i in range(MESSAGES)]))
        stream.half_close()
        acks = stream.rest()
    test.assertEqual((acks[-1].settled_through, acks[-1].success_count), (10 * MESSAGES, 10 * MESSAGES))
    results = [result for ack in acks for result in ack.results]
    test.assertEqual(len(results), 10 * MESSAGES)
    if capabilities.delivery == schemas.AT_LEAST_ONCE:
        test.assertEqual(len({r.message_id for r in results}), 10 * MESSAGES)


def Flush(test, producer, announced):
    pending = producer.PublishBatch.future(messages=[pb.PublishRequest(topic="orders", payload=b"x")] * MESSAGES)
    reply = producer.Flush(timeout_ms=5000)
    test.assertEqual((reply.success, reply.failed_count, reply.pending_count), (True, 0, 0))
    test.assertTrue(pending.result().all_success)


def GetStats(test, producer, announced):
    producer.PublishBatch(messages=[pb.PublishRequest(topic="orders", payload=b"four")] * MESSAGES)
    producer.PublishBatch(messages=[pb.PublishRequest(topic="", payload=b"x")])
    stats = producer.GetStats()
    test.assertEqual((stats.messages_published, stats.bytes_published), (MESSAGES, 4 * MESSAGES))
    test.assertEqual((stats.messages_failed, stats.unsettled), (1, 0))
    test.assertGreater(stats.last_publish_unix_ms, 1_600_000_000_000)
