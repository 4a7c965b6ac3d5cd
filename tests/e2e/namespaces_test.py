"""Namespaces: several on one server, selected by x-prism-namespace, that never see each other's keys."""
import grpc

from rig import backends, suite, wire
from rig.keyvalue import Deprecated, Pattern, pattern_service
from rig.prismd import Prismd
from rig.redis import RedisServer


class Namespaces(suite.Case):
    """Two namespaces on one and the same backend server, a third on memstore."""

    @classmethod
    def setUpClass(cls):
        cls.redis = cls.use(RedisServer())
        shared = {"backend": "redis", "config": {"address": cls.redis.unix_address}}
        prefixed = {"backend": "redis", "config": {"address": cls.redis.address, "key_prefix": "a*[b"}}
        cls.server = cls.use(Prismd(namespaces=[
            backends.keyvalue(shared), backends.keyvalue(shared, "orders"), backends.keyvalue(prefixed, "odd"),
            backends.keyvalue({"backend": "memstore", "config": {}}, "local")]))
        cls.channel = cls.use(cls.server.channel())
        cls.all = {name: Pattern(cls.channel, name) for name in ("default", "orders", "odd", "local")}

    def test_isolation(self):
        for name, kv in self.all.items():
            kv.set("same key", name.encode())
        for name, kv in self.all.items():
            self.assertEqual(kv.get("same key"), name.encode())
            self.assertEqual(kv.scan(""), [("same key", name.encode())])
            self.assertEqual(kv.count(""), 1)
        self.all["orders"].delete("same key")
        self.assertEqual({name: kv.count("") for name, kv in self.all.items()},
                         {"default": 1, "orders": 0, "odd": 1, "local": 1})
        for kv in self.all.values():
            kv.delete("same key")

    def test_keys_that_look_like_another_namespace(self):
        """Whatever separates the namespaces in the server, a key cannot forge it."""
        for kv in (self.all["default"], self.all["orders"]):
            kv.set("k", b"v")
        raw = [key.decode() for key in self.redis.call("KEYS", "*")]
        for name in raw:
            self.all["default"].set(name, b"forged")
        self.assertEqual(self.all["orders"].get("k"), b"v")
        self.assertEqual(self.all["orders"].count(""), 1)
        for kv in (self.all["default"], self.all["orders"]):
            for key in kv.scan_keys(""):
                kv.delete(key)
        self.assertEqual(self.redis.call("DBSIZE"), 0)

    def test_key_prefix(self):
        self.all["odd"].set("k*", b"v")
        self.assertTrue(all(key.startswith(b"a*[b") for key in self.redis.call("KEYS", "*")))
        self.redis.call("SET", "aXbk", "a stranger's")
        self.assertEqual(self.all["odd"].scan_keys(""), ["k*"])
        self.redis.call("FLUSHALL")

    def test_default_without_metadata(self):
        kv = Pattern(self.channel)
        kv.set("k", b"v")
        self.assertEqual(self.all["default"].get("k"), b"v")
        kv.delete("k")

    def test_unknown_namespace(self):
        error = wire.failure(pattern_service(self.channel, "nowhere").Retrieve, key="k")
        self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)
        for word in ("x-prism-namespace", "nowhere", "default", "orders", "odd", "local"):
            self.assertIn(word, error.details())
        error = wire.failure(pattern_service(self.channel, "long " * 50 + ".").Retrieve, key="k")
        self.assertLess(len(error.details()), 300)

    def test_two_namespaces_in_one_call(self):
        error = wire.failure(pattern_service(self.channel, "orders").Store, key="k", value=b"v",
                             metadata=(("x-prism-namespace", "local"),))
        self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("more than once", error.details())

    def test_capabilities_by_namespace(self):
        types = {name: kv.rpc.GetCapabilities().slots.primary_backend_type for name, kv in self.all.items()}
        self.assertEqual(types, {"default": "redis", "orders": "redis", "odd": "redis", "local": "memstore"})

    def test_deprecated_services_too(self):
        old = Deprecated(self.channel, "local")
        old.set("k", b"v")
        self.assertEqual(self.all["local"].get("k"), b"v")
        self.assertIsNone(self.all["default"].get("k"))
        self.all["local"].delete("k")

    def test_settings_of_one_namespace_only(self):
        small = {"backend": "memstore", "config": {"max_keys": 2}}
        server = self.borrow(Prismd(namespaces=[backends.keyvalue(small, "small"), backends.keyvalue(
            {"backend": "memstore", "config": {}})]))
        channel = self.borrow(server.channel())
        for i in range(10):
            Pattern(channel).set(f"k{i}", b"v")
        rpc = pattern_service(channel, "small")
        self.assertTrue(all(rpc.Store(key=f"k{i}", value=b"v").success for i in range(2)))
        error = wire.failure(rpc.Store, key="k2", value=b"v")
        self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertIn("max_keys", error.details())
        self.assertTrue(rpc.Store(key="k1", value=b"w").success, "a full store takes a new value for an old key")


if __name__ == "__main__":
    suite.main()
