"""The error contracts: what concerns the call is a status with details, what concerns an item is in-band, and every
check comes before the first effect."""
import grpc

from google.rpc import error_details_pb2
from rig import backends, suite, wire
from rig.keyvalue import pattern_service, pb
from rig.prismd import Prismd

INVALID = grpc.StatusCode.INVALID_ARGUMENT
CODE = {name: number.value[0] for name, number in grpc.StatusCode.__members__.items()}


class Contract(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.backend = suite.backend()
        slot = cls.use(backends.slot(cls.backend))
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(slot)]))
        cls.kv = pattern_service(cls.use(cls.server.channel()))
        cls.caps = cls.kv.GetCapabilities()
        cls.limits = {o.operation: o.limits for o in cls.caps.operations if not o.variant}

    def key(self, name="k"):
        return f"{self._testMethodName}/{name}"

    def value(self, key):
        reply = self.kv.Retrieve(key=key)
        return reply.value if reply.found else None

    def assert_invalid(self, field, call, *arguments, bound="", **fields):
        error = wire.failure(call, *arguments, **fields)
        self.assertEqual(error.code(), INVALID, error.details())
        violations = wire.bad_fields(error)
        self.assertIn(field, violations)
        self.assertIn(bound, violations[field])
        self.assertIn(bound, error.details())


class InvalidArguments(Contract):
    def test_empty_key(self):
        for call in ("Store", "Retrieve", "Remove", "Exists", "GetExpiration", "ClearExpiration"):
            with self.subTest(call=call):
                self.assert_invalid("key", getattr(self.kv, call), key="")
        self.assert_invalid("key", self.kv.SetExpiration, key="", expiration_seconds=1)

    def test_key_too_long(self):
        if self.backend != "memstore":
            return      # Redis takes keys that are larger than a message
        bound = self.caps.max_key_size
        self.assertTrue(self.kv.Store(key="k" * bound, value=b"v").success)
        self.assert_invalid("key", self.kv.Store, key="k" * (bound + 1), value=b"v", bound=str(bound))
        self.assert_invalid("key", self.kv.Retrieve, key="k" * (bound + 1), bound=str(bound))
        self.kv.Remove(key="k" * bound)

    def test_nul_in_a_key(self):
        """Refused, never cut off there."""
        self.assert_invalid("key", self.kv.Store, key=self.key("a\0b"), value=b"v", bound="NUL")
        self.assertIsNone(self.value(self.key("a")))

    def test_expiration_of_store(self):
        for seconds in (0, -1, -(1 << 63)):
            self.assert_invalid("expiration_seconds", self.kv.Store, key=self.key(), value=b"v",
                                expiration_seconds=seconds, bound="1")
        self.assertIsNone(self.value(self.key()))
        error = wire.failure(self.kv.Store, key=self.key(), value=b"v", expiration_seconds=(1 << 63) - 1)
        self.assertEqual(error.code(), INVALID, "an expiry beyond every clock")
        self.assertIsNone(self.value(self.key()))

    def test_negative_set_expiration(self):
        self.kv.Store(key=self.key(), value=b"v")
        self.assert_invalid("expiration_seconds", self.kv.SetExpiration, key=self.key(), expiration_seconds=-1)
        self.assertEqual(self.kv.GetExpiration(key=self.key()).expiration_seconds, -1)

    def test_precondition_without_condition(self):
        self.assert_invalid("precondition", self.kv.Store, key=self.key(), value=b"v", precondition=pb.Precondition())
        for condition in (pb.Precondition(if_absent=False), pb.Precondition(if_version=b"")):
            self.assert_invalid("precondition", self.kv.Store, key=self.key(), value=b"v", precondition=condition)
        self.assertIsNone(self.value(self.key()))

    def test_too_many_items(self):
        n = self.limits["StoreBatch"].max_items
        requests = [pb.StoreRequest(key=self.key(str(i)), value=b"v") for i in range(n + 1)]
        self.assert_invalid("requests", self.kv.StoreBatch, requests=requests, bound=str(n))
        self.assertEqual(self.kv.Count(prefix=self.key("")).count, 0)
        keys = [r.key for r in requests]
        self.assert_invalid("keys", self.kv.RetrieveBatch, keys=keys, bound=str(self.limits["RetrieveBatch"].max_items))
        self.assert_invalid("keys", self.kv.RemoveBatch, keys=keys, bound=str(self.limits["RemoveBatch"].max_items))

    def test_largest_batch(self):
        n = self.limits["StoreBatch"].max_items
        requests = [pb.StoreRequest(key=self.key(str(i)), value=b"v") for i in range(n)]
        reply = self.kv.StoreBatch(requests=requests, timeout=60)
        self.assertEqual((len(reply.results), reply.success_count, reply.all_success), (n, n, True))
        reply = self.kv.RemoveBatch(keys=[r.key for r in requests], timeout=60)
        self.assertEqual((len(reply.results), reply.success_count, reply.all_success), (n, n, True))

    def test_scan_arguments(self):
        for limit in (0, -1):
            self.assert_invalid("limit", self.kv.Scan, limit=limit, bound="1")
        for max_bytes in (0, -1):
            self.assert_invalid("max_bytes", self.kv.Scan, max_bytes=max_bytes, bound="1")
        for cursor in ("x", "AAAA", "!" * 100, "ä"):
            self.assert_invalid("cursor", self.kv.Scan, cursor=cursor)

    def test_cursor_of_another_prefix(self):
        for prefix in ("a", "b"):
            for i in range(10):
                self.kv.Store(key=self.key(f"{prefix}{i}"), value=b"v")
        page = list(self.kv.Scan(prefix=self.key("a"), limit=3))[-1]
        self.assertTrue(page.has_more)
        self.assert_invalid("cursor", self.kv.Scan, prefix=self.key("b"), cursor=page.next_cursor)

    def test_not_utf8(self):
        """A protobuf string is UTF-8; raw bytes on the wire must be refused, not stored."""
        raw = b"\x0a\x02\xff\xfe" + b"\x12\x01v"
        call = self.use(self.server.channel()).unary_unary(
            "/prism.patterns.keyvalue.KeyValuePattern/Store", request_serializer=lambda b: b,
            response_deserializer=lambda b: b)
        error = wire.failure(call, raw, timeout=wire.TIMEOUT)
        self.assertEqual(error.code(), INVALID)

    def test_garbage_request(self):
        call = self.use(self.server.channel()).unary_unary(
            "/prism.patterns.keyvalue.KeyValuePattern/Store", request_serializer=lambda b: b,
            response_deserializer=lambda b: b)
        for garbage in (b"\xff" * 40, b"\x0a\x7f", b"\x12\xff\xff\xff\xff\x0f", b"\x0b"):
            error = wire.failure(call, garbage, timeout=wire.TIMEOUT)
            self.assertEqual(error.code(), INVALID, garbage)


class PerItem(Contract):
    def test_faulty_items_leave_their_neighbours_alone(self):
        requests = [pb.StoreRequest(key=self.key("0"), value=b"0"),
                    pb.StoreRequest(key="", value=b"1"),
                    pb.StoreRequest(key=self.key("2"), value=b"2", expiration_seconds=0),
                    pb.StoreRequest(key=self.key("3"), value=b"3", expiration_seconds=100)]
        reply = self.kv.StoreBatch(requests=requests)
        self.assertEqual([r.code for r in reply.results],
                         [CODE["OK"], CODE["INVALID_ARGUMENT"], CODE["INVALID_ARGUMENT"], CODE["OK"]])
        self.assertEqual([r.success for r in reply.results], [True, False, False, True])
        self.assertEqual([r.HasField("error") for r in reply.results], [False, True, True, False])
        self.assertEqual((reply.success_count, reply.all_success), (2, False))
        self.assertEqual([self.value(self.key(n)) for n in "023"], [b"0", None, b"3"])
        self.assertIn(self.kv.GetExpiration(key=self.key("3")).expiration_seconds, range(90, 101))

    def test_faulty_keys_of_reads_and_removals(self):
        self.kv.Store(key=self.key(), value=b"v")
        reply = self.kv.RetrieveBatch(keys=[self.key(), "", self.key("absent")])
        self.assertEqual([r.code for r in reply.results], [0, CODE["INVALID_ARGUMENT"], 0])
        self.assertEqual([r.found for r in reply.results], [True, False, False])
        self.assertEqual(reply.found_count, 1)
        reply = self.kv.RemoveBatch(keys=[self.key(), "", self.key("absent")])
        self.assertEqual([r.code for r in reply.results], [0, CODE["INVALID_ARGUMENT"], 0])
        self.assertEqual([r.existed for r in reply.results], [True, False, False])
        self.assertEqual((reply.success_count, reply.all_success), (2, False))

    def test_remove_reports_existed(self):
        self.kv.Store(key=self.key(), value=b"v")
        self.assertEqual([self.kv.Remove(key=self.key()).existed for _ in range(2)], [True, False])

    def test_answer_too_large_for_one_message(self):
        """Items that do not fit say so; the others are there."""
        value = b"x" * (1 << 20)
        for i in range(6):
            self.assertTrue(self.kv.Store(key=self.key(str(i)), value=value).success)
        reply = self.kv.RetrieveBatch(keys=[self.key(str(i)) for i in range(6)])
        codes = [r.code for r in reply.results]
        self.assertLessEqual(set(codes), {CODE["OK"], CODE["RESOURCE_EXHAUSTED"]})
        self.assertGreaterEqual(codes.count(CODE["OK"]), 1)
        self.assertLessEqual(reply.ByteSize(), 4 << 20)
        for r in reply.results:
            self.assertEqual(r.found and r.value == value, r.code == CODE["OK"])


class Conditional(Contract):
    def store(self, value, **condition):
        return self.kv.Store(key=self.key(), value=value, precondition=pb.Precondition(**condition))

    def test_if_absent(self):
        first = self.store(b"1", if_absent=True)
        self.assertTrue(first.success)
        second = self.store(b"2", if_absent=True)
        self.assertEqual((second.success, second.code), (False, CODE["ALREADY_EXISTS"]))
        self.assertTrue(second.error)
        self.assertEqual(self.value(self.key()), b"1")
        self.kv.Remove(key=self.key())
        self.assertTrue(self.store(b"3", if_absent=True).success)

    def test_if_version(self):
        version = self.store(b"1", if_absent=True).version
        self.assertTrue(version)
        self.assertEqual(self.kv.Retrieve(key=self.key(), with_version=True).version, version)
        second = self.store(b"2", if_version=version)
        self.assertTrue(second.success)
        self.assertNotEqual(second.version, version)
        stale = self.store(b"3", if_version=version)
        self.assertEqual((stale.success, stale.code), (False, CODE["FAILED_PRECONDITION"]))
        self.assertEqual(self.value(self.key()), b"2")

    def test_plain_write_changes_the_version(self):
        version = self.store(b"1", if_absent=True).version
        self.kv.Store(key=self.key(), value=b"2")
        self.assertFalse(self.store(b"3", if_version=version).success)

    def test_version_does_not_come_back(self):
        """Removed and stored again is another item, even with the same value."""
        version = self.store(b"1", if_absent=True).version
        self.kv.Remove(key=self.key())
        self.kv.Store(key=self.key(), value=b"1")
        if self.backend == "memstore":
            self.assertFalse(self.store(b"2", if_version=version).success)

    def test_if_version_of_an_absent_key(self):
        version = self.store(b"1", if_absent=True).version
        self.kv.Remove(key=self.key())
        reply = self.store(b"2", if_version=version)
        self.assertEqual((reply.success, reply.code), (False, CODE["FAILED_PRECONDITION"]))
        self.assertFalse(reply.HasField("version"))
        self.assertIsNone(self.value(self.key()))

    def test_condition_with_expiration(self):
        reply = self.kv.Store(key=self.key(), value=b"v", expiration_seconds=100,
                              precondition=pb.Precondition(if_absent=True))
        self.assertTrue(reply.success)
        self.assertIn(self.kv.GetExpiration(key=self.key()).expiration_seconds, range(90, 101))
        self.assertFalse(self.kv.Store(key=self.key(), value=b"w", expiration_seconds=500,
                                       precondition=pb.Precondition(if_absent=True)).success)
        self.assertLess(self.kv.GetExpiration(key=self.key()).expiration_seconds, 101, "a refused write has no effect")

    def test_one_winner(self):
        replies = [self.kv.Store.future(key=self.key(), value=b"%d" % i, precondition=pb.Precondition(if_absent=True))
                   for i in range(50)]
        winners = [i for i, r in enumerate(replies) if r.result().success]
        self.assertEqual(len(winners), 1)
        self.assertEqual(self.value(self.key()), b"%d" % winners[0])

    def test_no_lost_update(self):
        """50 increments by compare and swap from 5 clients."""
        self.kv.Store(key=self.key(), value=b"0")
        swaps = 0
        while int(self.value(self.key())) < 50:
            now = self.kv.Retrieve(key=self.key(), with_version=True)
            attempts = [self.kv.Store.future(key=self.key(), value=b"%d" % (int(now.value) + 1),
                                             precondition=pb.Precondition(if_version=now.version)) for _ in range(5)]
            swaps += sum(a.result().success for a in attempts)
        self.assertEqual(swaps, 50)


class Atomic(Contract):
    def batch(self, *names, **options):
        return self.kv.StoreBatch(requests=[pb.StoreRequest(key=self.key(n) if n else "", value=n.encode())
                                            for n in names], atomic=True, **options)

    def test_refused_without_transactions(self):
        if self.caps.supports_transactions:
            return
        for call in (lambda: self.batch("a", "b"), lambda: self.kv.RemoveBatch(keys=[self.key("a")], atomic=True)):
            error = wire.failure(call)
            self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
            self.assertIn("not supported: backend does not implement KeyValueTransactionalInterface", error.details())
            info = wire.detail(error, error_details_pb2.ErrorInfo)
            self.assertIn("KeyValueTransactionalInterface", info.metadata.values())
        self.assertIsNone(self.value(self.key("a")))

    def test_all(self):
        if not self.caps.supports_transactions:
            return
        reply = self.batch("a", "b", "c")
        self.assertEqual((reply.all_success, reply.success_count), (True, 3))
        self.assertEqual([self.value(self.key(n)) for n in "abc"], [b"a", b"b", b"c"])
        reply = self.kv.RemoveBatch(keys=[self.key(n) for n in ("a", "absent", "c")], atomic=True)
        self.assertEqual((reply.all_success, [r.existed for r in reply.results]), (True, [True, False, True]))
        self.assertEqual([self.value(self.key(n)) for n in "abc"], [None, b"b", None])

    def test_nothing(self):
        if not self.caps.supports_transactions:
            return
        self.assert_invalid("requests[1].key", lambda: self.batch("a", "", "c"))
        self.assertEqual([self.value(self.key(n)) for n in "ac"], [None, None])


class Unknown(Contract):
    def test_unknown_method(self):
        """It is answered, not left hanging, and counted."""
        call = self.use(self.server.channel()).unary_unary("/prism.patterns.keyvalue.KeyValuePattern/Nonsense")
        error = wire.failure(call, b"", timeout=wire.TIMEOUT)
        self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
        self.assertGreater(self.server.metric("prism_rpc_unknown_method_total"), 0)

    def test_unknown_service(self):
        call = self.use(self.server.channel()).unary_unary("/no.such.Service/Call")
        self.assertEqual(wire.failure(call, b"", timeout=wire.TIMEOUT).code(), grpc.StatusCode.UNIMPLEMENTED)


if __name__ == "__main__":
    suite.main()
