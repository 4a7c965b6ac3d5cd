"""The key-value cases through KeyValuePattern, on the backend that PRISM_BACKEND names."""
from rig import backends, suite
from rig.cases import basic, concurrency, scan, ttl
from rig.keyvalue import Pattern
from rig.prismd import Prismd


class Served(suite.Case):
    Adapter = Pattern

    @classmethod
    def setUpClass(cls):
        slot = cls.use(backends.slot(suite.backend()))
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(slot)]))
        cls.kv = cls.Adapter(cls.use(cls.server.channel()))

    def key(self, name):
        return f"{type(self).__name__}.{self._testMethodName}/{name}"


class Basic(basic.Basic, Served):
    pass


class TableDriven(basic.TableDriven, Served):
    pass


class Batch(basic.Batch, Served):
    pass


class Ttl(ttl.Ttl, Served):
    pass


class Scan(scan.Scan, Served):
    pass


class Concurrency(concurrency.Concurrency, Served):
    pass


if __name__ == "__main__":
    suite.main()
