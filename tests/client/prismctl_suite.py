"""prismctl as a user and as a script see it: output, exit codes, values of any bytes, completion."""
import base64
import json
import os
import re
import shlex
import subprocess
import time

from rig import backends, environment, suite, tls
from rig.prismd import Prismd
from rig.process import free_port

DONE, USAGE, NOT_FOUND, UNAVAILABLE, REFUSED, UNSUPPORTED, DEADLINE, EXHAUSTED, PARTIAL, OTHER = range(10)
COMPLETION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../client/prismctl/completion")
MEMSTORE = {"backend": "memstore", "config": {}}


ENVIRONMENT = {**os.environ, "TSAN_OPTIONS": os.environ.get("CLIENT_TSAN_OPTIONS", "")}


def ctl(*arguments, stdin=b"", env=None, server=None):
    options = ["--server", server] if server else []
    return subprocess.run([environment.ours("prismctl"), *options, *arguments], input=stdin, capture_output=True,
                          timeout=120, check=False, env={**ENVIRONMENT, **(env or {})})


class Served(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.slot = cls.use(backends.slot(suite.backend()))
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(cls.slot)]))

    def kv(self, *arguments, code=DONE, stdin=b""):
        done = ctl("kv", *arguments, stdin=stdin, server=self.server.address)
        self.assertEqual(done.returncode, code, done)
        return done.stdout

    def kv_json(self, *arguments, code=DONE, stdin=b""):
        return json.loads(self.kv("--output", "json", *arguments, code=code, stdin=stdin))

    def setUp(self):
        for key in self.kv("scan").decode().splitlines():
            self.kv("remove", key)


class Claims(Served):
    """Objects of claim checks, by the times in their keys (B4)."""
    OLD = "claim/" + "0" * 32  # as earlier versions named them

    def setUp(self):
        super().setUp()
        now = int(time.time())
        self.keys = {age: f"claim/{age:032x}-{now - age}-{now - age + 864000 if age else 0}"
                     for age in (0, 3600 + 60, 8 * 86400)}
        for key in [*self.keys.values(), self.OLD, "claimed", "claim/other"]:
            self.kv("store", key, "x")

    def claims(self, *arguments, code=DONE):
        done = ctl("-o", "json", "claims", *arguments, server=self.server.address)
        self.assertEqual(done.returncode, code, done)
        return json.loads(done.stdout or done.stderr)

    def left(self):
        return set(self.kv("scan").decode().splitlines())

    def test_list(self):
        found = {c["key"]: c for c in self.claims("list")}
        self.assertEqual(set(found), {*self.keys.values(), self.OLD, "claim/other"})
        for age, key in self.keys.items():
            written, expires = map(int, key.split("-")[1:])
            self.assertEqual(found[key]["written_at_ms"], written * 1000)
            self.assertEqual(found[key]["expires_at_ms"], expires * 1000 if age else None)
        self.assertIsNone(found[self.OLD]["written_at_ms"])
        self.assertEqual({c["key"] for c in self.claims("list", "--older-than", "7d")}, {self.keys[8 * 86400]})
        self.assertEqual(len(self.claims("list", "--older-than", "61m")), 2)
        self.assertEqual(len(self.claims("list", "--limit", "2")), 2)
        text = ctl("claims", "list", server=self.server.address).stdout.decode()
        self.assertIn(f"{self.OLD}  undated\n", text)
        self.assertRegex(text, self.keys[8 * 86400] + r"  written 20\S+Z  expires 20\S+Z\n")

    def test_sweep(self):
        before = self.left()
        told = self.claims("sweep", "--older-than", "7d", "--dry-run")
        self.assertEqual(told, {"removed": 1, "kept": 2, "undated": 2, "failed": 0, "dry_run": True})
        self.assertEqual(self.left(), before)
        self.assertEqual(self.claims("sweep", "--older-than", "7d")["removed"], 1)
        self.assertEqual(self.left(), before - {self.keys[8 * 86400]})
        keep = os.path.join(suite.subfolder("claims"), "referenced")
        with open(keep, "w", encoding="utf-8") as f:
            f.write(f"{self.keys[0]}\nclaim/none\n")
        self.assertEqual(self.claims("sweep", "--older-than", "0s", "--referenced", keep)["removed"], 1)
        self.assertEqual(self.left(), {self.keys[0], self.OLD, "claimed", "claim/other"})

    def test_what_is_no_age(self):
        for age in ("", "d", "30", "-1d", "7w", "1.5h", "99999999999d"):
            self.claims("sweep", "--older-than", age, code=USAGE)
        self.claims("sweep", code=USAGE)
        self.claims("sweep", "--older-than", "0s", "--referenced", "/no/such/file", code=USAGE)
        self.claims("list", "--dry-run", code=USAGE)
        self.assertEqual(len(self.left()), 6)


class Keys(Served):
    def test_store_and_retrieve(self):
        self.kv("store", "k", "hello")
        self.assertEqual(self.kv("retrieve", "k"), b"hello")
        self.assertEqual(self.kv("get", "k"), b"hello")
        self.assertEqual(self.kv_json("retrieve", "k"), {"key": "k", "found": True, "value": "hello"})

    def test_values_without_an_end(self):
        """Only as much is read as the server takes; the rest is refused, not gathered."""
        announced = min(self.capabilities()["max_value_bytes"] or 256 << 20, 256 << 20)
        for arguments, shell in ((("--value-file", "/dev/zero"), ""), ((), "cat /dev/zero | "), ((), "cat {0} {0} | ")):
            with self.subTest((arguments, shell)):
                path = os.path.join(suite.subfolder("value"), "file")
                with open(path, "wb") as f:
                    f.truncate(announced // 2 + 1)
                command = shell.format(path) + shlex.join([environment.ours("prismctl"), "-s", self.server.address,
                                                           "kv", "store", "k", *arguments])
                done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=120, check=False,
                                      env=ENVIRONMENT)
                self.assertEqual(done.returncode, REFUSED, done)
                self.assertIn(f"more than {announced} bytes", done.stderr.decode())
        self.kv("exists", "k", code=NOT_FOUND)

    def capabilities(self):
        return json.loads(ctl("-o", "json", "caps", server=self.server.address).stdout)

    def test_exit_codes_are_those_of_the_manual(self):
        """Of the source, of --help and of docs/client.md."""
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")

        def numbers(path, pattern):
            with open(os.path.join(root, path), encoding="utf-8") as f:
                return [int(n) for n in re.findall(pattern, f.read())]
        coded = numbers("client/prismctl/command.h", r"EXIT_[A-Z_]+ = (\d+)")
        self.assertEqual(coded, list(range(10)))
        self.assertEqual(numbers("docs/client.md", r"(?m)^\| (\d) \| \S"), coded)
        told = ctl("--help").stdout.decode().partition("exit codes:")[2]
        self.assertEqual([int(n) for n in re.findall(r"(\d+) [a-z]", told)], coded)

    def test_values_of_any_bytes(self):
        value = bytes(range(256)) * 300
        self.kv("store", "k", stdin=value)
        self.assertEqual(self.kv("retrieve", "k"), value)
        path = os.path.join(suite.subfolder("value"), "file")
        with open(path, "wb") as f:
            f.write(value[::-1])
        self.kv("store", "k", "--value-file", path)
        self.assertEqual(self.kv("retrieve", "k"), value[::-1])
        answer = self.kv_json("retrieve", "k")
        self.assertEqual(base64.b64decode(answer["value_base64"]), value[::-1])
        self.assertNotIn("value", answer)
        self.kv("store", "k", "-", stdin=b"by a dash")
        self.assertEqual(self.kv("retrieve", "k"), b"by a dash")
        self.kv("store", "k", "--value-file", "-", stdin=b"")
        self.assertEqual(self.kv("retrieve", "k"), b"")

    def test_json_is_escaped(self):
        text = 'quote " backslash \\ newline \n tab \t control \x01 euro \u20ac'
        self.kv("store", 'key "1"', text)
        self.assertEqual(self.kv_json("retrieve", 'key "1"'), {"key": 'key "1"', "found": True, "value": text})
        self.assertEqual(self.kv("scan", "--values"),
                         'key "1"\tquote " backslash \\\\ newline \\n tab \\t control \\x01 euro \u20ac\n'.encode())

    def test_absent_keys(self):
        self.kv("retrieve", "k", code=NOT_FOUND)
        self.assertEqual(self.kv_json("retrieve", "k", code=NOT_FOUND), {"key": "k", "found": False})
        self.assertEqual(self.kv("exists", "k", code=NOT_FOUND), b"absent\n")
        self.assertEqual(self.kv("ttl", "k", code=NOT_FOUND), b"absent\n")
        self.kv("expire", "k", "5", code=NOT_FOUND)
        self.assertEqual(self.kv("persist", "k", code=NOT_FOUND), b"absent\n")
        self.assertEqual(self.kv("remove", "k"), b"absent\n")

    def test_exists_and_remove(self):
        self.kv("store", "k", "v")
        self.assertEqual(self.kv_json("exists", "k"), {"key": "k", "exists": True})
        self.assertEqual(self.kv_json("remove", "k"), {"key": "k", "existed": True})
        self.assertEqual(self.kv_json("remove", "k"), {"key": "k", "existed": False})

    def test_expiry(self):
        self.kv("store", "k", "v", "--ttl", "60")
        self.assertIn(int(self.kv("ttl", "k")), range(50, 61))
        self.assertEqual(self.kv("expire", "k", "600"), b"set\n")
        self.assertIn(self.kv_json("ttl", "k")["expiration_seconds"], range(550, 601))
        self.assertEqual(self.kv("persist", "k"), b"taken away\n")
        self.assertEqual(self.kv("ttl", "k"), b"never\n")
        self.assertEqual(self.kv_json("ttl", "k"), {"key": "k", "exists": True, "expiration_seconds": None})
        self.kv("expire", "k", "0")
        self.kv("exists", "k", code=NOT_FOUND)

    def test_preconditions(self):
        self.kv("store", "k", "1", "--if-absent")
        self.kv("store", "k", "2", "--if-absent", code=REFUSED)
        version = self.kv_json("retrieve", "k", "--with-version")["version"]
        base64.b64decode(version, validate=True)
        fresh = self.kv_json("store", "k", "3", "--if-version", version)["version"]
        self.assertNotEqual(fresh, version)
        self.kv("store", "k", "4", "--if-version", version, code=REFUSED)
        self.assertEqual(self.kv("retrieve", "k"), b"3")


class Many(Served):
    def test_batches(self):
        answer = self.kv_json("store-batch", "a=1", "b=x=y", "c=")
        self.assertEqual((answer["count"], answer["succeeded"]), (3, 3))
        self.assertEqual(self.kv("retrieve-batch", "c", "b", "a", "none"), b"c\t\nb\tx=y\na\t1\nnone\t(absent)\n")
        items = self.kv_json("retrieve-batch", "b", "none")["items"]
        self.assertEqual(items, [{"key": "b", "code": "OK", "found": True, "value": "x=y"},
                                 {"key": "none", "code": "OK", "found": False}])
        items = self.kv_json("remove-batch", "a", "none")["items"]
        self.assertEqual([i["existed"] for i in items], [True, False])
        self.kv("store-batch", "a=1", "no-equals-sign", code=USAGE)

    def test_atomic_batches(self):
        supported = json.loads(ctl("-o", "json", "caps", server=self.server.address).stdout)["supports"]["transactions"]
        self.kv("store-batch", "--atomic", "a=1", "b=2", code=DONE if supported else UNSUPPORTED)
        self.assertEqual(self.kv("count"), b"2\n" if supported else b"0\n")

    def test_scan_and_count(self):
        names = [f"n/{i}" for i in range(250)]
        self.kv("store-batch", "other=0", *(f"{name}={name}" for name in names))
        found = self.kv("scan", "n/", "--page-size", "40").decode().splitlines()
        self.assertEqual(sorted(found), sorted(names))
        items = self.kv_json("scan", "n/", "--values")
        self.assertEqual({i["key"]: i["value"] for i in items}, {n: n for n in names})
        self.assertEqual(len(self.kv_json("scan", "--limit", "7")), 7)
        self.assertEqual(self.kv_json("scan", "nothing/"), [])
        self.assertEqual(self.kv("count", "n/"), b"250\n")
        self.assertEqual(self.kv_json("count"), {"prefix": "", "count": 251})


class Failures(Served):
    def test_usage(self):
        for line in ((), ("nonsense",), ("kv",), ("kv", "nonsense"), ("kv", "store"), ("kv", "retrieve", "a", "b"),
                     ("caps", "--ttl", "5"), ("--output", "xml", "caps"), ("--timeout", "soon", "caps"),
                     ("kv", "store", "k", "v", "--ttl", "0"), ("kv", "store", "k", "v", "--ttl", "1x"),
                     ("kv", "store", "k", "v", "--if-version", "*"), ("kv", "expire", "k", "soon"),
                     ("kv", "expire", "k", " 5"), ("kv", "expire", "k", "--", "-5"),
                     ("-s", "http://127.0.0.1:1", "caps"),
                     ("kv", "store", "k", "v", "--value-file", "/dev/null"),
                     ("kv", "store", "k", "--value-file", "/nowhere/file"), ("--nonsense",)):
            with self.subTest(line):
                done = ctl(*line, server=self.server.address)
                self.assertEqual(done.returncode, USAGE, done)
                self.assertTrue(done.stderr.startswith(b"prismctl: ") or b": " in done.stderr)
                self.assertEqual(done.stdout, b"")

    def test_usage_names_option_and_bound(self):
        for line, said in ((("--ttl", "0"), "--ttl wants a whole number of seconds, at least 1, not: 0"),
                           (("--limit", "9223372036854775808"),
                            "--limit wants at most 9223372036854775807, not: 9223372036854775808"),
                           (("--limit", "x"), "--limit wants a whole number, at least 1, not: x"),
                           (("-t", "0"), "--timeout wants a number of seconds from 0.001 to 86400, not: 0"),
                           (("-o", "xml"), "--output wants table or json, not: xml"), (("-n",), "--namespace wants "),
                           (("--tls=x",), "--tls takes no value"), (("-x",), "no such option: -x;"),
                           (("--limit", "5", "--ttl", "5"), "--ttl does not belong to: scan"),
                           (("-n", "a b"), "INVALID_ARGUMENT: namespace_name: must be printable"),
                           (("-s", "127.0.0.1"), "INVALID_ARGUMENT: target: 127.0.0.1: the port is missing"),
                           (("--nonsense",), "no such option, or not a unique one: --nonsense")):
            with self.subTest(line):
                self.assertIn(f"prismctl: {said}", ctl("kv", "scan", *line).stderr.decode())

    def test_usage_as_json(self):
        for line in (("kv", "scan", "--limit", "0", "-o", "json"), ("-o", "json", "nonsense"),
                     ("-o", "json", "kv", "expire", "k", "soon"), ("-o", "json", "kv", "store-batch", "a"),
                     ("-o", "json", "kv", "store", "k", "--value-file", "/nowhere/file"),
                     ("--nonsense", "caps", "-o", "json"), ("-o", "json", "caps", "--ttl", "5")):
            with self.subTest(line):
                done = ctl(*line, server=self.server.address)
                self.assertEqual((done.returncode, done.stdout), (USAGE, b""), done)
                self.assertEqual(json.loads(done.stderr)["error"]["code"], "INVALID_ARGUMENT")

    def test_refused(self):
        done = ctl("-o", "json", "kv", "store", "", "v", server=self.server.address)
        self.assertEqual(done.returncode, REFUSED)
        error = json.loads(done.stderr)["error"]
        self.assertEqual((error["code"], error["field"]), ("INVALID_ARGUMENT", "key"))
        self.kv("retrieve-batch", *("k" for _ in range(20000)), code=REFUSED)

    def test_unknown_namespace(self):
        done = ctl("--namespace", "nowhere", "kv", "exists", "k", server=self.server.address)
        self.assertEqual(done.returncode, REFUSED, "2 would say that the key is absent")

    def test_unavailable(self):
        done = ctl("--timeout", "3", "caps", server=f"127.0.0.1:{free_port()}")
        self.assertEqual(done.returncode, UNAVAILABLE, done)
        self.assertRegex(done.stderr, rb"^prismctl: UNAVAILABLE: .*\n$")
        self.assertEqual(done.stdout, b"")

    def test_deadline(self):
        """A server that accepts connections and says nothing."""
        import socket
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            done = ctl("-t", "0.3", "caps", server="127.0.0.1:%d" % listener.getsockname()[1])
        self.assertEqual(done.returncode, DEADLINE, done)

    def test_server_from_the_environment(self):
        done = ctl("kv", "count", env={"PRISM_SERVER": self.server.address})
        self.assertEqual(done.returncode, DONE, done)

    def test_full_standard_output(self):
        self.kv("store", "k", "v" * 100)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([environment.ours("prismctl"), "-s", self.server.address, "kv", "get", "k"],
                                  stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, env=ENVIRONMENT)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (OTHER, 1), done)


class Capabilities(Served):
    def test_json(self):
        caps = json.loads(ctl("-o", "json", "caps", server=self.server.address).stdout)
        self.assertEqual((caps["pattern"], caps["backend"]), ("keyvalue", suite.backend()))
        self.assertIn("KeyValueScanInterface", caps["interfaces"])
        plain = {o["operation"]: o for o in caps["operations"] if o["variant"] is None}
        self.assertEqual(set(plain), {"GetCapabilities", "Store", "Retrieve", "Remove", "Exists", "StoreBatch",
                                      "RetrieveBatch", "RemoveBatch", "Scan", "SetExpiration", "GetExpiration",
                                      "ClearExpiration", "Count"})
        for operation in caps["operations"]:
            self.assertEqual(operation["available"], operation["reason"] is None)

    def test_table(self):
        text = ctl("caps", server=self.server.address).stdout.decode()
        self.assertRegex(text, rf"(?m)^backend +{suite.backend()}$")
        self.assertRegex(text, r"(?m)^StoreBatch +(NATIVE|PIPELINED) ")
        self.assertTrue(all(len(line.split()) >= 2 for line in text.splitlines() if line))


class Tls(suite.Case):
    def test_mutual_tls(self):
        folder = suite.subfolder("tls")
        authority, stranger = tls.Authority(folder), tls.Authority(folder, "stranger")
        cert, key = authority.issue("server")
        client_cert, client_key = authority.issue("client")
        server = self.borrow(Prismd(credentials=authority.credentials((client_cert, client_key)),
                                    namespaces=[backends.keyvalue(MEMSTORE)],
                                    tls={"cert": cert, "key": key, "client_ca": authority.cert}))
        good = ("--tls-ca", authority.cert, "--tls-cert", client_cert, "--tls-key", client_key)
        self.assertEqual(ctl(*good, "caps", server=server.address).returncode, DONE)
        self.assertEqual(ctl(*good, "--tls-server-name", "localhost", "caps", server=server.address).returncode, DONE)
        for bad in (("--tls-ca", authority.cert), ("--tls-ca", stranger.cert, *good[2:]), (),
                    (*good, "--tls-server-name", "elsewhere")):
            with self.subTest(bad):
                done = ctl("--timeout", "3", *bad, "caps", server=server.address)
                self.assertIn(done.returncode, (UNAVAILABLE, DEADLINE), done)
        stranger_hint, get = "none of the authorities that are trusted", ("kv", "get", "a")
        for bad, command, hint in (((), get, "want TLS"), ((), ("publish", "a", "b"), "want TLS"),
                                   ((), ("consume", "a", "--idle", "1"), "want TLS"),
                                   (("--tls-ca", authority.cert), get, "want a client's certificate"),
                                   (("--tls-ca", stranger.cert, *good[2:]), get, stranger_hint),
                                   ((*good[:4], "--tls-key", key), get, "certificate and key belong together"),
                                   ((*good, "--tls-server-name", "other"), get, "other is not in peer certificate")):
            with self.subTest(hint=hint, command=command):
                done = ctl("--timeout", "3", *bad, *command, server=server.address)
                self.assertEqual(done.returncode, UNAVAILABLE, done)
                self.assertIn(hint, done.stderr.decode())
        done = ctl("--tls-ca", "/nowhere/ca.pem", "caps", server=server.address)
        self.assertEqual(done.returncode, USAGE)
        self.assertIn(b"tls.ca_file: /nowhere/ca.pem", done.stderr)
        done = ctl("--tls-ca", __file__, "caps", server=server.address)
        self.assertEqual(done.returncode, USAGE)
        self.assertIn(b"not a PEM file", done.stderr)

    def test_tls_to_a_server_without(self):
        server = self.use(Prismd(namespaces=[backends.keyvalue(MEMSTORE)]))
        done = ctl("--tls", "caps", server=server.address)
        self.assertEqual(done.returncode, UNAVAILABLE, done)
        self.assertIn("(the server does not speak TLS)", done.stderr.decode())


class Check(suite.Case):
    def write(self, text):
        path = os.path.join(suite.subfolder("config"), "prismd.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def test_faults_with_line_and_fix(self):
        path = self.write("namespaces:\n  - name: a\n    pattern: keyvalue\n    slots:\n      primary:\n"
                          "        backend: redis\n        config: {adress: \"127.0.0.1:1\"}\n")
        done = ctl("check", path)
        self.assertEqual(done.returncode, REFUSED, done)
        self.assertIn(f"{path}:7: namespaces[0].slots.primary.config", done.stdout.decode())
        answer = json.loads(ctl("-o", "json", "check", path).stdout)
        self.assertFalse(answer["valid"])
        self.assertTrue(any(f["line"] == 7 and "address" in (f["fix"] or f["message"]) for f in answer["faults"]))

    def test_file_that_cannot_be_read(self):
        done = ctl("check", "/nowhere/file")
        self.assertEqual(done.returncode, USAGE, done)
        self.assertIn("does not exist", done.stdout.decode())

    def test_good_file(self):
        path = self.write("namespaces:\n  - {name: a, pattern: keyvalue, slots: {primary: {backend: memstore}}}\n")
        done = ctl("check", path)
        self.assertEqual(done.returncode, DONE, done)
        lines = done.stdout.decode().splitlines()
        self.assertEqual(lines[:3], [f"{path}: good", "", "namespace a, pattern keyvalue"])
        self.assertRegex(done.stdout.decode(), r"(?m)^  Scan +NATIVE$")
        self.assertRegex(done.stdout.decode(), r"(?m)^  StoreBatch +PIPELINED$")
        answer = json.loads(ctl("-o", "json", "check", path, "--probe").stdout)
        (plan,) = answer.pop("namespaces")
        self.assertEqual(answer, {"file": path, "valid": True, "faults": [], "omitted": 0})
        self.assertEqual(len(lines) - 3, len(plan["operations"]))

    def test_plan_is_what_the_server_says(self):
        slot = self.use(backends.slot(suite.backend()))
        server = self.use(Prismd(namespaces=[backends.keyvalue(slot)]))
        path = self.write(json.dumps({"namespaces": [backends.keyvalue(slot)]}))
        (plan,) = json.loads(ctl("-o", "json", "check", path).stdout)["namespaces"]
        told = json.loads(ctl("-o", "json", "caps", server=server.address).stdout)["operations"]
        facts = [{(o["operation"], o["variant"]): (o["available"], o["how"]) for o in ops}
                 for ops in (plan["operations"], told)]
        self.assertEqual(*facts)

    def test_probe_tells_who_is_missing(self):
        """With the address that was tried."""
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        slots = "".join(f"  - {{name: {n}, pattern: keyvalue, slots: {{primary: {{backend: redis, config: "
                        f"{{address: \"{address}\"}}}}}}}}\n" for n, address in zip("ab", addresses))
        path = self.write("namespaces:\n" + slots)
        self.assertEqual(ctl("check", path).returncode, DONE)
        done = ctl("-o", "json", "--timeout", "1", "check", path, "--probe")
        self.assertEqual(done.returncode, UNAVAILABLE, done)
        faults = json.loads(done.stdout)["faults"]
        self.assertEqual([(f["path"], f["line"], f["backend"]) for f in faults],
                         [(f"namespaces[{i}].slots.primary", 2 + i, "redis") for i in (0, 1)])
        self.assertEqual([f["message"] for f in faults], [f"cannot connect to redis ({a})" for a in addresses])

    def test_probe_names_every_kind_of_address(self):
        """What came from ${..} is not shown, nor is a password."""
        port = free_port()
        login = "access_key_id: a, secret_access_key: b, region: x"
        cases = (("redis", "primary", "keyvalue", f"address: \"redis://u:secret@127.0.0.1:{port}/0\"",
                  f"127.0.0.1:{port}"),
                 ("redis", "primary", "keyvalue", f"address: \"[::1]:{port},127.0.0.1:{port}\", sentinel_master: m",
                  f"[::1]:{port}, .."),
                 ("redis", "primary", "keyvalue", "address: \"${PRISM_TEST_ADDRESS}\"", None),
                 ("postgres", "primary", "keyvalue", f"address: \"127.0.0.1:{port}\"", f"127.0.0.1:{port}"),
                 ("dynamodb", "primary", "keyvalue", f"endpoint: \"http://127.0.0.1:{port}\", table: table, {login}",
                  f"127.0.0.1:{port}"),
                 ("nats", "message_sink", "producer", f"address: \"127.0.0.1:{port}\"", f"127.0.0.1:{port}"),
                 ("jetstream", "message_sink", "producer", f"address: \"127.0.0.1:{port}\"", f"127.0.0.1:{port}"),
                 ("kafka", "message_sink", "producer", f"brokers: \"127.0.0.1:{port}\"", f"127.0.0.1:{port}"))
        path = self.write("namespaces:\n" + "".join(
            f"- {{name: n{i}, pattern: {pattern}, slots: {{{slot}: {{backend: {backend}, config: {{{config}}}}}}}}}\n"
            for i, (backend, slot, pattern, config, _) in enumerate(cases)))
        done = ctl("-o", "json", "--timeout", "1", "check", path, "--probe",
                   env={"PRISM_TEST_ADDRESS": f"127.0.0.1:{port}"})
        messages = [fault["message"] for fault in json.loads(done.stdout)["faults"]]
        self.assertEqual(len(messages), len(cases), messages)
        for message, (backend, *_, shown) in zip(messages, cases):
            with self.subTest(backend):
                self.assertRegex(message, rf" \({re.escape(shown)}\)$" if shown else r"[a-z]$")
                self.assertNotIn("deadline", message)
        self.assertNotIn(b"secret", done.stdout)


class Completion(suite.Case):
    """The completion files name every command and every option that --help names, and no others."""

    def setUp(self):
        usage = ctl("--help").stdout.decode()
        self.options = set(re.findall(r"--[a-z][a-z-]+", usage))
        self.commands = set(re.findall(r"(?m)^  kv ([a-z-]+)", usage))
        self.assertIn("--if-absent", self.options)
        self.assertIn("retrieve-batch", self.commands)

    def test_bash(self):
        with open(os.path.join(COMPLETION, "prismctl.bash"), encoding="utf-8") as f:
            text = f.read()
        self.assertEqual(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)), self.options)
        self.assertEqual(set(re.search(r"local kv='([^']*)'", text).group(1).split()), self.commands)
        for words, expected in ((["prismctl", "c"], {"caps", "check", "claims", "consume"}),
                                (["prismctl", "claims", "s"], {"sweep"}),
                                (["prismctl", "claims", "sweep", "--o"], {"--older-than", "--output"}),
                                (["prismctl", "deadletters", "l"], {"list"}),
                                (["prismctl", "kv", "ex"], {"exists", "expire"}),
                                (["prismctl", "-s", "x", "kv", "scan", "--v"], {"--values", "--version"}),
                                (["prismctl", "--output", ""], {"table", "json"})):
            script = (f"source {COMPLETION}/prismctl.bash; compopt() {{ :; }}; "
                      f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; "
                      f"_prismctl; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
            done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=True)
            self.assertEqual(set(done.stdout.split()), expected, words)

    def test_zsh(self):
        with open(os.path.join(COMPLETION, "_prismctl"), encoding="utf-8") as f:
            text = f.read()
        self.assertEqual(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)), self.options)
        listed = re.search(r"(?s)    kv=\((.*?)\n    \)", text).group(1)
        self.assertEqual(set(re.findall(r"'([a-z-]+):", listed)), self.commands)


if __name__ == "__main__":
    suite.main()
