"""What prismctl says of a configuration that prismd would not take, and of patterns that a server does not serve."""
import json
import os
import re
import subprocess

from rig import backends, environment, multicast, session, suite
from rig.messaging import consumer, consumer_service, producer, producer_service
from rig.prismd import Prismd
from rig.process import free_port
from rig.tls import Authority, encrypted, read
from prism.patterns.schemas import slot_schema_pb2 as schemas

DONE, REFUSED, UNSUPPORTED = 0, 4, 5
DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy")
ENVIRONMENT = {**os.environ, "TSAN_OPTIONS": os.environ.get("CLIENT_TSAN_OPTIONS", "")}


SERVICES = {"producer": producer_service, "consumer": consumer_service, "multicast_registry": multicast.service,
            "session_store": session.service}
LOGIN = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def ctl(*arguments, server=None, env=None):
    options = ["--server", server] if server else []
    return subprocess.run([environment.ours("prismctl"), *options, *arguments], capture_output=True, timeout=120,
                          check=False, env={**ENVIRONMENT, **(env or {})})


class Check(suite.Case):
    def write(self, text):
        path = os.path.join(suite.subfolder("config"), "prismd.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def test_what_prismd_refuses_to_start_with(self):
        """The patterns' own vetting; the very same files end prismd."""
        memory = {"backend": "memstore", "config": {}}
        kafka = {"backend": "kafka", "config": {"brokers": "127.0.0.1:1"}}

        def messages(pattern, **behavior):
            slot = {"producer": "message_sink", "consumer": "message_source"}[pattern]
            return {"name": "a", "pattern": pattern, "slots": {slot: memory}, "behavior": behavior}

        registry = {"name": "a", "pattern": "multicast_registry",
                    "slots": {"registry": memory, "messaging": memory, "durability": kafka}}
        for space, about in ((registry, "slots.durability"),
                             (messages("producer", topic_prefix="*"), "behavior.topic_prefix"),
                             (messages("consumer", topic_prefix="a b"), "behavior.topic_prefix"),
                             (messages("producer", allowed_topics=""), "behavior.allowed_topics"),
                             (messages("consumer", allowed_topics=" , "), "behavior.allowed_topics"),
                             (messages("consumer", default_group="a b"), "behavior.default_group"),
                             (messages("consumer", dead_letter_suffix="/ *"), "behavior.dead_letter_suffix")):
            with self.subTest(about):
                path = self.write(json.dumps({"listen": f"127.0.0.1:{free_port()}", "namespaces": [space]}))
                done = ctl("-o", "json", "check", path)
                self.assertEqual(done.returncode, REFUSED, done)
                (fault,) = json.loads(done.stdout)["faults"]
                self.assertEqual(fault["path"], f"namespaces[0].{about}")
                self.assertEqual(self.prismd_says(path), [fault])

    def prismd_says(self, path):
        """The faults that end it, as it logs them."""
        ended = subprocess.run([environment.ours("prismd"), "--config", path], capture_output=True, timeout=60,
                               check=False, env=ENVIRONMENT)
        self.assertEqual(ended.returncode, 1, ended)
        events = [json.loads(line) for line in ended.stderr.splitlines()]
        self.assertEqual([e["event"] for e in events if e["event"] != "config_fault"], ["not_configured", "stopped"])
        return [{key: e[key] for key in ("path", "line", "message", "fix", "slot", "backend", "interface")}
                for e in events if e["event"] == "config_fault"]

    def test_all_faults_at_once(self):
        """Of the server, of slots and of what the patterns themselves find, in each namespace: with line and fix, and
        prismd says the same."""
        path = self.write("""\
workers: 99
namespaces:
  - name: a
    pattern: producer
    slots:
      message_sink:
        backend: redis
        config: {adress: "127.0.0.1:1"}
    behavior:
      topic_prefix: "*"
      allowed_topics: ""
      strict_retention: true
      windw: 5
  - name: b
    pattern: keyvalue
    slots:
      primary:
        backend: s3
        config: {bucket: things, access_key_id: a, secret_access_key: b}
        emulate: [keyvalue_tll]
  - name: c
    pattern: multicast_registry
    slots:
      registry: {backend: nats}
      messaging: {backend: memstore}
      durability: {backend: kafka}
    behavior:
      when_full: drop_latest
  - name: d
    pattern: session_store
    slots:
      store: {backend: memstore}
    behavior:
      on_user_limit: end_oldst
      default_ttl_seconds: 100000000
""")
        done = ctl("-o", "json", "check", path)
        self.assertEqual(done.returncode, REFUSED, done)
        faults = json.loads(done.stdout)["faults"]
        self.assertEqual(self.prismd_says(path), faults)
        expected = [(1, "workers", "use 0..64"),
                    (8, "namespaces[0].slots.message_sink.config.adress", "did you mean `address`?"),
                    (10, "namespaces[0].behavior.topic_prefix", None),
                    (11, "namespaces[0].behavior.allowed_topics", 'name topics, or "*" for all'),
                    (12, "namespaces[0].behavior.strict_retention",
                     "bind one with streams or queues, or remove it"),
                    (13, "namespaces[0].behavior.windw", "did you mean `window`?"),
                    (20, "namespaces[1].slots.primary.emulate[0]",
                     "did you mean `keyvalue_ttl`? It cannot be emulated in slot primary; possible: keyvalue_scan and "
                     "keyvalue_batch"),
                    (24, "namespaces[2].slots.registry", "use backend: memstore, postgres or redis"),
                    (26, "namespaces[2].slots.durability", "bind postgres, redis-stream, jetstream or memstore"),
                    (28, "namespaces[2].behavior.when_full", "did you mean `drop_oldest`?"),
                    (34, "namespaces[3].behavior.on_user_limit", "did you mean `end_oldest`?"),
                    (35, "namespaces[3].behavior.default_ttl_seconds", "shorten it, or raise max_ttl_seconds")]
        self.assertEqual([(f["line"], f["path"], f["fix"]) for f in faults], expected)
        text = ctl("check", path).stdout.decode().splitlines()
        self.assertEqual([line.split(": ")[0] + ":" for line in text], [f"{path}:{line}:" for line, _, _ in expected])

    def test_what_a_slot_needs_of_its_machine(self):
        """Files that settings name, and a login that they leave to the environment."""
        tls = {"tls": True, "tls_ca": "/nowhere/ca.pem"}
        spaces = [{"name": name, "pattern": pattern, "slots": {slot: {"backend": backend, "config": config}}}
                  for name, pattern, slot, backend, config in (
                      ("r", "keyvalue", "primary", "redis", {"address": "localhost:1", **tls}),
                      ("k", "producer", "message_sink", "kafka", tls),
                      ("n", "producer", "message_sink", "nats", {**tls, "credentials_file": DEPLOY}),
                      ("p", "keyvalue", "primary", "postgres", {"sslmode": "verify-ca", "sslrootcert": "/nowhere/c"}),
                      ("s", "keyvalue", "primary", "s3", {"bucket": "things", "ca_file": "/nowhere/ca.pem"}))]
        path = self.write(json.dumps({"listen": f"127.0.0.1:{free_port()}", "namespaces": spaces}))
        missing = "the file does not exist or may not be read by this user"
        faults = json.loads(ctl("-o", "json", "check", path).stdout)["faults"]
        self.assertEqual({f["path"].rpartition(".")[2]: f["message"] for f in faults if f["slot"] == "primary"},
                         {"tls_ca": missing, "sslrootcert": missing, "ca_file": missing,
                          "access_key_id": "no credentials: neither here, nor in credentials_file, nor in "
                                           "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"})
        self.assertEqual([f["message"] for f in faults if f["slot"] == "message_sink"],
                         [missing, "is a folder, not a file", missing])
        self.assertEqual(self.prismd_says(path), faults)
        faults = json.loads(ctl("-o", "json", "check", path, env=LOGIN).stdout)["faults"]
        self.assertNotIn("access_key_id", {f["path"].rpartition(".")[2] for f in faults})

    def test_what_files_of_a_slot_hold(self):
        """One that is no PEM, and one of credentials without the profile, are found with their lines; prismd agrees."""
        folder = suite.subfolder("files")

        def write(name, text):
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            return path
        junk, pem = write("junk", "no certificate\n"), Authority(folder).cert
        login = write("credentials", "[default]\naws_access_key_id = a\naws_secret_access_key = b\n[half]\n"
                                     "aws_access_key_id = a\n")
        bucket = {"bucket": "bucket", "region": "us-east-1", "credentials_file": login}
        text = "listen: 127.0.0.1:0\nnamespaces:\n"
        for name, backend, slot, pattern, settings in (
                ("r", "redis", "primary", "keyvalue", {"tls": "true", "tls_ca": junk}),
                ("k", "kafka", "message_sink", "producer", {"brokers": "localhost:1", "tls": "true", "tls_ca": pem,
                                                            "tls_cert": pem, "tls_key": junk}),
                ("n", "nats", "message_sink", "producer", {"tls": "true", "tls_ca": junk}),
                ("j", "jetstream", "message_sink", "producer", {"credentials_file": junk}),
                ("p", "postgres", "primary", "keyvalue", {"sslmode": "verify-ca", "sslrootcert": junk}),
                ("s", "s3", "primary", "keyvalue", {**bucket, "ca_file": junk}),
                ("t", "s3", "primary", "keyvalue", {**bucket, "profile": "other"}),
                ("u", "s3", "primary", "keyvalue", {**bucket, "profile": "half"})):
            lines = "".join(f"          {key}: {value}\n" for key, value in settings.items())
            text += (f"  - name: {name}\n    pattern: {pattern}\n    slots:\n      {slot}:\n"
                     f"        backend: {backend}\n        config:\n{lines}")
        path = self.write(text)
        faults = json.loads(ctl("-o", "json", "check", path).stdout)["faults"]
        wrong = [n for n, line in enumerate(text.splitlines(), 1)
                 if line.endswith(junk) or line.endswith((": other", ": half"))]
        self.assertEqual([f["line"] for f in faults], wrong)
        self.assertEqual([f["message"] for f in faults], ["holds nothing in PEM form (-----BEGIN ..)"] * 6 + [
            "credentials_file has no section of this name with aws_access_key_id and aws_secret_access_key"] * 2)
        self.assertEqual(self.prismd_says(path), faults)

    def test_certificates_of_a_slot_are_read(self):
        """What only looks like PEM, a key of another certificate, and one with a password; prismd agrees."""
        folder = suite.subfolder("certificates")
        authority = Authority(folder)
        cert, key = authority.issue("own")
        other = authority.issue("other")[1]
        garbled, chain, torn = (os.path.join(folder, name) for name in ("garbled", "chain", "torn"))
        for path, text in ((garbled, b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"),
                           (chain, read(cert) + read(authority.cert)), (torn, read(cert) + read(cert)[:200])):
            with open(path, "wb") as f:
                f.write(text)
        certificates = "holds no certificates in PEM, or a garbled one"
        private = "holds no private key in PEM, or a garbled one"
        alien = "is not the key of the certificate that is given with it"
        cases = (({"tls_ca": authority.cert, "tls_cert": chain, "tls_key": key}, None, None),
                 ({"tls_ca": garbled}, "tls_ca", certificates), ({"tls_ca": torn}, "tls_ca", certificates),
                 ({"tls_ca": key}, "tls_ca", certificates),
                 ({"tls_cert": torn, "tls_key": key}, "tls_cert", certificates),
                 ({"tls_cert": cert, "tls_key": other}, "tls_key", alien),
                 ({"tls_cert": cert, "tls_key": cert}, "tls_key", private),
                 ({"tls_cert": cert, "tls_key": encrypted(key)}, "tls_key",
                  "is encrypted: it has to be readable without a password"))
        for backend, slot, pattern, address in (
                ("redis", "primary", "keyvalue", "address"), ("kafka", "message_sink", "producer", "brokers"),
                ("nats", "message_sink", "producer", "address")):
            for files, setting, said in cases:
                with self.subTest((backend, setting, said)):
                    text = (f"namespaces:\n- name: a\n  pattern: {pattern}\n  slots:\n    {slot}:\n"
                            f"      backend: {backend}\n      config:\n        {address}: localhost:1\n"
                            "        tls: true\n")
                    text += "".join(f"        {name}: {path}\n" for name, path in {"tls_ca": cert, **files}.items())
                    path = self.write(text)
                    faults = json.loads(ctl("-o", "json", "check", path).stdout)["faults"]
                    expected = [(f"namespaces[0].slots.{slot}.config.{setting}", said)] if setting else []
                    self.assertEqual([(f["path"], f["message"]) for f in faults], expected)
                    if faults and backend == "redis":
                        self.assertEqual(self.prismd_says(path), faults)

    def test_lists_of_servers_are_hosts_with_ports(self):
        good = ("a", "a:1, b.c:65535", "[::1]", "127.0.0.1:1,[fe80::1%eth0]:2")
        bad = ("a:0", "a:65536", "a:4294967297", "a:", ":1", "::1", "[::1", "[]:1", "a:1x", "a,b:1:2", "a b", "")
        for backend, setting in (("nats", "address"), ("jetstream", "address"), ("kafka", "brokers")):
            for address, code in (*((a, DONE) for a in good), *((a, REFUSED) for a in bad)):
                with self.subTest(backend, address=address):
                    slot = {"backend": backend, "config": {setting: address}}
                    path = self.write(json.dumps({"namespaces": [
                        {"name": "a", "pattern": "producer", "slots": {"message_sink": slot}}]}))
                    done = ctl("-o", "json", "check", path)
                    self.assertEqual(done.returncode, code, done)
                    self.assertEqual([f["path"].rpartition(".")[2] for f in json.loads(done.stdout)["faults"]],
                                     [setting] if code else [])

    def test_what_only_jetstream_has_is_refused_for_topics(self):
        """By name and line; with `jetstream: true` it is JetStream."""
        slot = ("listen: 127.0.0.1:0\nnamespaces:\n  - name: a\n    pattern: producer\n    slots:\n"
                "      message_sink:\n"
                "        backend: nats\n        config:\n          ack_wait_ms: 30000\n          create_streams: true\n"
                "          stream_replicas: 3\n          dial_timeout_ms: 100\n          returns_stream: R\n")
        done = ctl("-o", "json", "check", self.write(slot))
        faults = json.loads(done.stdout)["faults"]
        self.assertEqual([(f["path"].rpartition(".")[2], f["line"]) for f in faults],
                         [("ack_wait_ms", 9), ("create_streams", 10), ("stream_replicas", 11), ("returns_stream", 13)])
        self.assertEqual({f["message"] for f in faults},
                         {"only JetStream has it, and this slot uses the topics of NATS"})
        for good in (slot + "          jetstream: true\n", slot.replace("backend: nats", "backend: jetstream")):
            self.assertEqual(ctl("check", self.write(good)).returncode, DONE)

    def test_deployments_are_good(self):
        """Some of them name secrets that an operator puts in place: that these are absent is their only fault."""
        names = sorted(os.listdir(DEPLOY))
        self.assertIn("embedded.yaml", names)
        for name in names:
            with self.subTest(name):
                done = ctl("-o", "json", "check", os.path.join(DEPLOY, name), env=LOGIN)
                faults = [f["message"] for f in json.loads(done.stdout)["faults"]]
                if name in ("public.yaml", "redis-ha.yaml"):
                    absent = re.compile(r"the file .*does not exist|is not set")
                    self.assertEqual([f for f in faults if not absent.search(f)], [])
                else:
                    self.assertEqual((done.returncode, faults), (DONE, []))

    def test_the_embedded_deployment_serves_every_pattern(self):
        plans = json.loads(ctl("-o", "json", "check", os.path.join(DEPLOY, "embedded.yaml")).stdout)["namespaces"]
        self.assertEqual({p["pattern"] for p in plans},
                         {"keyvalue", "producer", "consumer", "multicast_registry", "session_store"})


class Patterns(suite.Case):
    """What a server does not serve is said by its name."""
    @classmethod
    def setUpClass(cls):
        slot = cls.use(backends.slot("memstore"))
        cls.server = cls.use(Prismd(namespaces=[producer(slot), consumer(slot)]))

    def test_caps_without_keys(self):
        caps = json.loads(ctl("-o", "json", "caps", server=self.server.address).stdout)
        self.assertEqual({p["pattern"]: p["served"] for p in caps["patterns"]},
                         {"keyvalue": False, "producer": True, "consumer": True, "multicast_registry": False,
                          "session_store": False})
        self.assertEqual({p["backend"] for p in caps["patterns"] if p["served"]}, {"memstore"})
        self.assertNotIn("operations", caps)
        text = ctl("caps", server=self.server.address).stdout.decode()
        self.assertRegex(text, r"(?m)^producer +yes +memstore$")
        self.assertRegex(text, r"(?m)^session_store +no +-$")

    def test_caps_show_what_each_pattern_can_do(self):
        """As its own GetCapabilities says it, in both forms of the output."""
        memory = {"backend": "memstore", "config": {}}
        server = self.use(Prismd(namespaces=[
            producer(memory), consumer(memory, dead_letters=memory, max_attempts=3),
            {"name": "default", "pattern": "session_store", "slots": {"store": memory}},
            {"name": "default", "pattern": "multicast_registry", "slots": {"registry": memory, "messaging": memory}}]))
        channel = self.use(server.channel())
        caps = json.loads(ctl("-o", "json", "caps", server=server.address).stdout)
        text = ctl("caps", server=server.address).stdout.decode()
        shown = {p["pattern"]: p for p in caps["patterns"] if p["served"]}
        self.assertEqual(set(shown), set(SERVICES))
        for pattern, service in SERVICES.items():
            with self.subTest(pattern):
                told = service(channel).GetCapabilities()
                self.assertEqual(
                    [(o["operation"], o["variant"] or "", o["available"], o["backend_calls"] or "", o["reason"] or "")
                     for o in shown[pattern]["operations"]],
                    [(o.operation, o.variant, o.availability == schemas.AVAILABLE, o.backend_calls,
                      o.unavailable_reason.message) for o in told.operations])
                table = re.search(rf"(?ms)^pattern +{pattern}\n.*?(^pattern |\Z)", text).group()
                for o in told.operations:
                    self.assertRegex(table, rf"(?m)^{f'{o.operation} {o.variant}'.strip()} +[A-Z_]+ +\S")
        self.assertEqual((shown["producer"]["max_batch_messages"], shown["consumer"]["max_attempts"]), (10000, 3))
        self.assertIn("this process's memory", shown["producer"]["ack_means"])
        self.assertRegex(text, r"(?m)^max_attempts +3$")

    def test_claims_say_which_namespace_they_need(self):
        for line in (("claims", "list"), ("claims", "sweep", "--older-than", "1h")):
            done = ctl(*line, server=self.server.address)
            self.assertEqual(done.returncode, UNSUPPORTED, done)
            self.assertIn("in a namespace of the pattern keyvalue that has the producer's name", done.stderr.decode())

    def test_caps_name_the_backends_of_every_pattern(self):
        """The Multicast Registry has two."""
        memory = {"backend": "memstore", "config": {}}
        far = {"backend": "redis", "config": {"address": f"127.0.0.1:{free_port()}"}}
        spaces = [{"name": "near", "pattern": "multicast_registry", "slots": {"registry": memory, "messaging": memory}},
                  {"name": "far", "pattern": "multicast_registry", "slots": {"registry": memory, "messaging": far}},
                  {"name": "near", "pattern": "session_store", "slots": {"store": memory}}]
        server = self.use(Prismd(namespaces=spaces, wait_for=Prismd.http_answers))
        for space, expected in (("near", {"memstore"}), ("far", {"memstore+redis"})):
            caps = json.loads(ctl("-o", "json", "-n", space, "caps", server=server.address).stdout)
            self.assertEqual({p["backend"] for p in caps["patterns"] if p["served"]}, expected)

    def test_commands_name_the_pattern(self):
        for line, pattern in ((("session", "create"), "session_store"), (("kv", "get", "k"), "keyvalue"),
                              (("register", "a"), "multicast_registry"), (("enumerate",), "multicast_registry")):
            with self.subTest(line):
                done = ctl(*line, server=self.server.address)
                self.assertEqual(done.returncode, UNSUPPORTED, done)
                self.assertEqual(done.stderr.decode(), f"prismctl: UNIMPLEMENTED: the pattern {pattern} is not served "
                                                       "here; served: producer consumer\n")


if __name__ == "__main__":
    suite.main()
