"""grpcurl, with no protocol file: lists and describes every service by reflection, and calls."""
import base64
import json
import subprocess

from rig import backends, environment, suite
from rig.prismd import Prismd

PATTERN = "prism.patterns.keyvalue.KeyValuePattern"
DEPRECATED = {f"prism.interfaces.keyvalue.KeyValue{name}Interface" for name in ("Basic", "TTL", "Batch", "Scan")}
SERVICES = {PATTERN, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection"}


class Grpcurl(suite.Case):
    deprecated = True

    @classmethod
    def setUpClass(cls):
        cls.program = environment.tool("grpcurl")
        slot = cls.use(backends.slot(suite.backend()))
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(slot)],
                                    deprecated_services="enabled" if cls.deprecated else "disabled"))

    def grpcurl(self, *arguments, data=None, check=True):
        options = ["-plaintext", "-max-time", "20", *(["-d", json.dumps(data)] if data is not None else [])]
        done = subprocess.run([self.program, *options, self.server.address, *arguments], capture_output=True, text=True,
                              timeout=60, check=False)
        if check:
            self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def call(self, method, **data):
        """The replies, parsed."""
        text, replies, decoder = self.grpcurl(f"{PATTERN}/{method}", data=data).stdout.strip(), [], json.JSONDecoder()
        while text:
            reply, end = decoder.raw_decode(text)
            replies.append(reply)
            text = text[end:].strip()
        return replies

    def services(self):
        return set(self.grpcurl("list").stdout.split())

    def test_list(self):
        expected = SERVICES | (DEPRECATED if self.deprecated else set())
        self.assertEqual({s for s in self.services() if "lifecycle" not in s.lower()}, expected)


class NoReflection(suite.Case):
    def test_reflection_switched_off(self):
        server = self.borrow(Prismd(namespaces=[backends.keyvalue(self.borrow(backends.slot(suite.backend())))],
                                    reflection="disabled"))
        done = subprocess.run([environment.tool("grpcurl"), "-plaintext", server.address, "list"], capture_output=True,
                              text=True, timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("does not support the reflection API", done.stderr)


class Reflection(Grpcurl):
    def test_list_methods(self):
        methods = set(self.grpcurl("list", PATTERN).stdout.split())
        names = ("GetCapabilities Store Retrieve Remove Exists StoreBatch RetrieveBatch RemoveBatch Scan SetExpiration "
                 "GetExpiration ClearExpiration Count").split()
        self.assertEqual(methods, {f"{PATTERN}.{n}" for n in names})

    def test_describe_everything(self):
        for service in self.services():
            with self.subTest(service=service):
                text = self.grpcurl("describe", service).stdout
                self.assertIn("is a service", text)
                for word in text.replace("(", " ").replace(")", " ").split():
                    if word.startswith("."):
                        self.assertIn("is a message", self.grpcurl("describe", word.lstrip(".")).stdout)

    def test_describe_marks_optional(self):
        self.assertIn("optional int64 expiration_seconds", self.grpcurl("describe", ".prism.patterns.keyvalue."
                                                                        "StoreRequest").stdout)

    def test_describe_unknown(self):
        self.assertNotEqual(self.grpcurl("describe", "no.such.Thing", check=False).returncode, 0)


class Calls(Grpcurl):
    def test_store_retrieve_scan(self):
        for i in range(3):
            value = base64.b64encode(b"value %d" % i).decode()
            reply = self.call("Store", key=f"curl/{i}", value=value, expiration_seconds=100)
            self.assertEqual(reply, [{"success": True}])
        self.assertEqual(self.call("Retrieve", key="curl/1"),
                         [{"found": True, "value": base64.b64encode(b"value 1").decode()}])
        pages = self.call("Scan", prefix="curl/", include_values=True)
        self.assertEqual(sorted(k for p in pages for k in p.get("keys", [])), [f"curl/{i}" for i in range(3)])
        self.assertEqual(sorted(base64.b64decode(v) for p in pages for v in p.get("values", [])),
                         [b"value %d" % i for i in range(3)])

    def test_get_capabilities(self):
        self.assertEqual(self.call("GetCapabilities")[0]["slots"]["primaryBackendType"], suite.backend())

    def test_error_details(self):
        done = self.grpcurl(f"{PATTERN}/Store", data={"key": ""}, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("InvalidArgument", done.stderr)
        self.assertIn("google.rpc.BadRequest", done.stderr)
        self.assertIn('"field": "key"', done.stderr)


class WithoutDeprecated(Grpcurl):
    """deprecated_services: disabled takes them out of reflection, and calls of them are UNIMPLEMENTED."""
    deprecated = False

    def test_calls(self):
        self.assertEqual(self.call("Store", key="k", value=""), [{"success": True}])
        done = self.grpcurl("prism.interfaces.keyvalue.KeyValueBasicInterface/Get", data={"key": "k"}, check=False)
        self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    suite.main()
