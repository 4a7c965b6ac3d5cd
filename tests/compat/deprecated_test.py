"""The same cases through the four deprecated services, and that old and new meet in one store."""
from e2e.keyvalue_test import Served
from rig import suite
from rig.cases import basic, concurrency, scan, ttl
from rig.keyvalue import Deprecated, Pattern


class DeprecatedServed(Served):
    Adapter = Deprecated


class Basic(basic.Basic, DeprecatedServed):
    pass


class TableDriven(basic.TableDriven, DeprecatedServed):
    pass


class Batch(basic.Batch, DeprecatedServed):
    pass


class Ttl(ttl.Ttl, DeprecatedServed):
    pass


class Scan(scan.Scan, DeprecatedServed):
    pass


class Concurrency(concurrency.Concurrency, DeprecatedServed):
    pass


class SameStore(DeprecatedServed):
    """What the one service writes, the other reads."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.new = Pattern(cls.use(cls.server.channel()))

    def test_old_writes_new_reads(self):
        self.kv.set(self.key("k"), b"v", ttl_seconds=100)
        self.assertEqual(self.new.get(self.key("k")), b"v")
        self.assertIn(self.new.ttl(self.key("k")), range(90, 101))
        self.assertEqual(self.new.scan(self.key("")), [(self.key("k"), b"v")])

    def test_new_writes_old_reads(self):
        self.new.set(self.key("k"), b"v", ttl_seconds=100)
        self.assertEqual(self.kv.get(self.key("k")), b"v")
        self.assertIn(self.kv.ttl(self.key("k")), range(90, 101))
        self.assertEqual(self.kv.scan(self.key("")), [(self.key("k"), b"v")])

    def test_use_is_counted_apart(self):
        def counted(api):
            return self.server.metric("prism_api_calls_total", api=api)
        deprecated, pattern = counted("deprecated"), counted("pattern")
        for _ in range(3):
            self.kv.get(self.key("k"))
        self.new.get(self.key("k"))
        self.assertEqual(counted("deprecated"), deprecated + 3)
        self.assertEqual(counted("pattern"), pattern + 1)

    def test_warning_names_the_replacement(self):
        for _ in range(200):
            self.kv.get(self.key("k"))
        warnings = [line for line in self.server.process.log().splitlines()
                    if "KeyValuePattern.Retrieve" in line and "KeyValueBasicInterface" in line]
        self.assertGreater(len(warnings), 0)
        self.assertLess(len(warnings), 50, "the warning is rate-limited")


if __name__ == "__main__":
    suite.main()
