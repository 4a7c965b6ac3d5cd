"""GetCapabilities says what is true: the memo's fields and one entry per operation."""
import time

from rig import backends, suite
from rig.keyvalue import pattern_service, pb
from rig.prismd import Prismd
from prism.patterns.schemas import slot_schema_pb2 as schemas

KIB, MIB = 1 << 10, 1 << 20
# What the memo and the design promise for each backend.
PROMISED = {
    "memstore": {"batch": pb.BATCH_PIPELINE, "transactions": False, "max_key": MIB, "ack": schemas.MEMORY},
    "redis": {"batch": pb.BATCH_NATIVE, "transactions": True, "max_key": 512 * MIB, "ack": schemas.MEMORY},
    # Expiry is a column of ours, where the slot asks for it; the tests' server runs without fsync.
    "postgres-ttl": {"batch": pb.BATCH_NATIVE, "transactions": True, "max_key": 8 * KIB, "ack": schemas.MEMORY,
                     "type": "postgres", "expiration": schemas.EMULATED},
}
PLAIN = {"GetCapabilities", "Store", "Retrieve", "Remove", "Exists", "StoreBatch", "RetrieveBatch", "RemoveBatch",
         "Scan", "SetExpiration", "GetExpiration", "ClearExpiration", "Count"}
WRITES = {"Store", "Remove", "StoreBatch", "RemoveBatch", "SetExpiration", "ClearExpiration"}


class Capabilities(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.backend = suite.backend()
        cls.promised = PROMISED[cls.backend]
        slot = cls.use(backends.slot(cls.backend))
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(slot)]))
        cls.kv = pattern_service(cls.use(cls.server.channel()))
        cls.caps = cls.kv.GetCapabilities()
        cls.operations = {(o.operation, o.variant): o for o in cls.caps.operations}

    def test_slot(self):
        self.assertEqual(self.caps.slots.primary_backend_type, self.promised.get("type", self.backend))
        interfaces = set(self.caps.slots.primary_interfaces)
        self.assertLessEqual({"KeyValueBasicInterface", "KeyValueScanInterface"}, interfaces)
        self.assertEqual("KeyValueTTLInterface" in interfaces, "expiration" not in self.promised)
        self.assertEqual("KeyValueBatchInterface" in interfaces, self.promised["batch"] == pb.BATCH_NATIVE)
        self.assertEqual("KeyValueTransactionalInterface" in interfaces, self.promised["transactions"])
        self.assertEqual(len(interfaces), len(self.caps.slots.primary_interfaces), "no name twice")

    def test_flags(self):
        self.assertTrue(self.caps.supports_batch)
        self.assertTrue(self.caps.supports_scan)
        self.assertTrue(self.caps.supports_expiration)
        self.assertTrue(self.caps.supports_preconditions)
        self.assertEqual(self.caps.supports_transactions, self.promised["transactions"])
        self.assertEqual(self.caps.scan_performance, pb.SCAN_NATIVE)
        self.assertEqual(self.caps.batch_performance, self.promised["batch"])

    def test_limits(self):
        # What the namespace's prefix takes from the key is told honestly.
        self.assertLessEqual(self.caps.max_key_size, self.promised["max_key"])
        self.assertGreater(self.caps.max_key_size, self.promised["max_key"] - KIB)
        self.assertEqual(self.caps.max_value_size, 4 * MIB - KIB, "what every read can answer in one message")

    def test_every_operation_has_one_entry(self):
        self.assertEqual(len(self.operations), len(self.caps.operations), "no entry twice")
        self.assertEqual({name for name, variant in self.operations if not variant}, PLAIN)
        self.assertLessEqual({("Store", "expiration"), ("Store", "if_absent"), ("Store", "if_version"),
                              ("StoreBatch", "atomic"), ("RemoveBatch", "atomic")}, set(self.operations))

    def test_entries_are_complete(self):
        for key, o in self.operations.items():
            with self.subTest(operation=key):
                self.assertIn(o.availability, (schemas.AVAILABLE, schemas.UNAVAILABLE))
                if o.availability == schemas.AVAILABLE:
                    self.assertNotEqual(o.how, schemas.IMPLEMENTATION_UNSPECIFIED)
                    self.assertNotEqual(o.backend_calls, "")
                    self.assertFalse(o.HasField("unavailable_reason"))
                    acknowledged = o.acknowledgement != schemas.ACKNOWLEDGEMENT_UNSPECIFIED
                    self.assertEqual(acknowledged, o.operation in WRITES)
                else:
                    self.assertEqual(o.how, schemas.IMPLEMENTATION_UNSPECIFIED)
                    self.assertEqual(o.backend_calls, "")
                    self.assertTrue(o.unavailable_reason.missing_interface)
                    self.assertIn(o.unavailable_reason.missing_interface, o.unavailable_reason.message)

    def test_batches(self):
        how = schemas.NATIVE if self.promised["batch"] == pb.BATCH_NATIVE else schemas.PIPELINED
        for name in ("StoreBatch", "RetrieveBatch", "RemoveBatch"):
            self.assertEqual(self.operations[name, ""].how, how, name)
            self.assertGreater(self.operations[name, ""].limits.max_items, 0, name)
        if how == schemas.PIPELINED:
            self.assertEqual(self.operations["StoreBatch", ""].limits.max_in_flight, 128, "what memstore advises")

    def test_atomic_batches(self):
        o = self.operations["StoreBatch", "atomic"]
        if self.promised["transactions"]:
            self.assertEqual((o.availability, o.atomicity), (schemas.AVAILABLE, schemas.ALL_OR_NOTHING))
        else:
            self.assertEqual(o.availability, schemas.UNAVAILABLE)
            self.assertEqual(o.unavailable_reason.missing_interface, "KeyValueTransactionalInterface")
            self.assertIn("redis", o.unavailable_reason.provided_by)

    def test_scan_pages(self):
        self.assertEqual(self.operations["Scan", ""].limits.default_limit, 100)
        self.assertGreaterEqual(self.operations["Scan", ""].limits.max_limit, 100)

    def test_acknowledgement_is_probed(self):
        # The rig's Redis has neither a log nor snapshots.
        self.assertEqual(self.operations["Store", ""].acknowledgement, self.promised["ack"])

    def test_constant_and_cheap(self):
        start = time.monotonic()
        for _ in range(200):
            self.assertEqual(self.kv.GetCapabilities(), self.caps)
        # Ample even for an instrumented server; a backend call each would be seen in the next test.
        self.assertLess(time.monotonic() - start, 60)

    def test_calls_no_backend(self):
        before = self.server.metric("prism_backend_calls_total")
        for _ in range(50):
            self.kv.GetCapabilities()
        # The health probe may call now and then, but not 50 times in this moment.
        self.assertLess(self.server.metric("prism_backend_calls_total") - before, 25)


if __name__ == "__main__":
    suite.main()
