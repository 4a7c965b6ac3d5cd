"""What each operation of the key-value pattern must do when it is available. `test` is the running test case,
`announced` the operation's entry in the capabilities."""
from rig import backends, wait
from rig.keyvalue import pattern_service, pb
from prism.patterns.schemas import slot_schema_pb2 as schemas

BATCH = {schemas.NATIVE: pb.BATCH_NATIVE, schemas.PIPELINED: pb.BATCH_PIPELINE, schemas.EMULATED: pb.BATCH_PIPELINE}
SCAN = {schemas.NATIVE: pb.SCAN_NATIVE, schemas.EMULATED: pb.SCAN_EMULATED}
ITEMS = 25      # more than the ten that an emulated batch keeps in flight


service = pattern_service


def namespaces(slot):
    return [backends.keyvalue(slot)]


def backend_type(capabilities):
    return capabilities.slots.primary_backend_type


def summary_agrees(capabilities, operation, announced):
    """The memo's flags say the same as the operation's entry."""
    if operation.endswith("Batch"):
        return capabilities.supports_batch and capabilities.batch_performance == BATCH[announced.how]
    if operation == "Scan":
        return capabilities.supports_scan and capabilities.scan_performance == SCAN[announced.how]
    if operation.endswith("Expiration"):
        return capabilities.supports_expiration
    return True


def smallest_request(operation):
    request = getattr(pb, operation + "Request")()
    if hasattr(request, "key"):
        request.key = "k"
    return request


def fill(kv):
    reply = [kv.Store(key=f"k{i:02d}", value=b"%d" % i) for i in range(ITEMS)]
    assert all(r.success for r in reply)
    return [f"k{i:02d}" for i in range(ITEMS)]


def Store(test, kv, announced):
    reply = kv.Store(key="k", value=b"v")
    test.assertEqual((reply.success, reply.code, reply.HasField("error")), (True, 0, False))
    if kv.GetCapabilities().supports_expiration:
        test.assertTrue(kv.Store(key="k", value=b"w", expiration_seconds=100).success)
        test.assertEqual(kv.Retrieve(key="k").value, b"w")
    else:
        reply = kv.Store(key="k", value=b"w", expiration_seconds=100)
        test.assertFalse(reply.success)
        test.assertIn("expiration not supported", reply.error)
        test.assertEqual(kv.Retrieve(key="k").value, b"v", "checked before the first effect")
    test.assertIn(announced.acknowledgement, (schemas.MEMORY, schemas.DISK, schemas.UNKNOWN))


def Retrieve(test, kv, announced):
    test.assertEqual(announced.acknowledgement, schemas.ACKNOWLEDGEMENT_UNSPECIFIED)
    reply = kv.Retrieve(key="k")
    test.assertEqual((reply.found, reply.value, reply.HasField("error")), (False, b"", False))
    kv.Store(key="k", value=bytes(range(256)))
    reply = kv.Retrieve(key="k")
    test.assertEqual((reply.found, reply.value), (True, bytes(range(256))))


def Remove(test, kv, announced):
    kv.Store(key="k", value=b"v")
    for existed in (True, False):
        reply = kv.Remove(key="k")
        test.assertEqual((reply.success, reply.existed, reply.code), (True, existed, 0))
    test.assertFalse(kv.Retrieve(key="k").found)


def Exists(test, kv, announced):
    test.assertFalse(kv.Exists(key="k").exists)
    kv.Store(key="k", value=b"")
    test.assertTrue(kv.Exists(key="k").exists)
    kv.Remove(key="k")
    test.assertFalse(kv.Exists(key="k").exists)


def StoreBatch(test, kv, announced):
    reply = kv.StoreBatch(requests=[pb.StoreRequest(key=f"k{i}" if i != 7 else "", value=b"%d" % i)
                                    for i in range(ITEMS)])
    test.assertEqual([r.success for r in reply.results], [i != 7 for i in range(ITEMS)], "in request order")
    test.assertEqual((reply.success_count, reply.all_success), (ITEMS - 1, False))
    for i in range(ITEMS):
        if i != 7:
            test.assertEqual(kv.Retrieve(key=f"k{i}").value, b"%d" % i)


def RetrieveBatch(test, kv, announced):
    keys = fill(kv)
    asked = [*keys, "absent", keys[0]]
    reply = kv.RetrieveBatch(keys=asked)
    test.assertEqual([r.value for r in reply.results], [*(b"%d" % i for i in range(ITEMS)), b"", b"0"])
    test.assertEqual([r.found for r in reply.results], [k != "absent" for k in asked])
    test.assertEqual(reply.found_count, ITEMS + 1)


def RemoveBatch(test, kv, announced):
    keys = fill(kv)
    reply = kv.RemoveBatch(keys=[*keys[5:], "absent"])
    test.assertEqual([r.existed for r in reply.results], [True] * (ITEMS - 5) + [False])
    test.assertEqual((reply.all_success, reply.success_count), (True, ITEMS - 4))
    test.assertEqual([kv.Retrieve(key=k).found for k in keys], [True] * 5 + [False] * (ITEMS - 5))


def Scan(test, kv, announced):
    keys = fill(kv)
    kv.Store(key="other", value=b"v")
    found, cursor = [], None
    while True:
        last = None
        for last in kv.Scan(prefix="k", limit=10, cursor=cursor, include_values=True):
            found += zip(last.keys, last.values)
        if not last.has_more:
            break
        cursor = last.next_cursor
    test.assertEqual(sorted(found), [(k, b"%d" % i) for i, k in enumerate(keys)])
    if announced.ordering == schemas.KEY_ORDER:
        test.assertEqual([k for k, _ in found], keys)


def SetExpiration(test, kv, announced):
    kv.Store(key="k", value=b"v")
    reply = kv.SetExpiration(key="k", expiration_seconds=1)
    test.assertEqual((reply.success, reply.key_existed), (True, True))
    wait.until(lambda: not kv.Retrieve(key="k").found, 10, "the key has expired")
    reply = kv.SetExpiration(key="k", expiration_seconds=1)
    test.assertEqual((reply.success, reply.key_existed), (True, False))


def GetExpiration(test, kv, announced):
    test.assertEqual(kv.GetExpiration(key="k").expiration_seconds, -2)
    kv.Store(key="k", value=b"v")
    test.assertEqual(kv.GetExpiration(key="k").expiration_seconds, -1)
    kv.Store(key="k", value=b"v", expiration_seconds=60)
    test.assertIn(kv.GetExpiration(key="k").expiration_seconds, range(51, 61))
