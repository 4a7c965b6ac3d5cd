"""prismd and prismctl as programs: exit codes, checks of configurations, output."""
import json
import os
import signal

from rig import backends, environment, suite, wait, yaml
from rig.prismd import Prismd, run
from rig.process import free_port
from rig.redis import RedisServer

MEMSTORE = {"backend": "memstore", "config": {}}


class Files(suite.Case):
    def write(self, text):
        path = os.path.join(suite.subfolder("config"), "prismd.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text if isinstance(text, str) else yaml.dump(text))
        return path

    def check(self, text, *options):
        return run("prismctl", "check", self.write(text), *options)

    def test_good_configuration(self):
        done = self.check({"namespaces": [backends.keyvalue(MEMSTORE)]})
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)

    def test_all_faults_at_once(self):
        done = self.check({
            "lisen": "127.0.0.1:1",
            "workers": "many",
            "limits": {"max_mesage_bytes": 1},
            "namespaces": [
                {"name": "a", "pattern": "keyvalu", "slots": {"primary": MEMSTORE}},
                {"name": "b", "pattern": "keyvalue", "slots": {"primary": {"backend": "rediss", "config": {}}}},
                {"name": "c", "pattern": "keyvalue",
                 "slots": {"primary": {"backend": "redis", "config": {"adress": "127.0.0.1:1"}}}},
                {"name": "d", "pattern": "keyvalue", "slots": {}}]})
        self.assertNotEqual(done.returncode, 0)
        text = done.stdout + done.stderr
        for place, right in (("lisen", "listen"), ("limits.max_mesage_bytes", "max_message_bytes"),
                             ("namespaces[0].pattern", "keyvalue"), ("namespaces[1].slots.primary.backend", "redis"),
                             ("namespaces[2].slots.primary.config.adress", "address"), ("workers", "whole number"),
                             ("namespaces[3].slots.primary", "memstore")):
            lines = [line for line in text.splitlines() if f" {place}:" in line]
            self.assertEqual(len(lines), 1, f"one fault at {place}")
            self.assertIn(right, lines[0])

    def test_settings_that_contradict_each_other(self):
        """What a backend alone knows is in the same report as the server's own faults, all of it; prismd says the
        same, and neither tells a secret."""
        secrets = ("sesame", "open-up")
        path = self.write({
            "workers": "many",
            "tls": {"cert": "/nowhere/server.pem", "key": "/", "client_ca": "/nowhere/ca.pem"},
            "namespaces": [
                backends.keyvalue({"backend": "redis", "config": {
                    "address": f"redis://u:{secrets[0]}@127.0.0.1:1/3", "username": "v", "password": secrets[1],
                    "database": 4, "db": 5, "key_prefix": "a:b", "dial_timeout_ms": "soon"}}, "a"),
                backends.keyvalue({"backend": "redis", "config": {"address": f"redis://:{secrets[0]}@h/x"}}, "b"),
                backends.keyvalue({"backend": "redis", "config": {"address": "127.0.0.1:1", "db": 5}}, "good")]})
        slot = "namespaces[0].slots.primary.config"
        places = {"workers": "digits only", "tls.cert": "does not exist", "tls.key": "is a folder",
                  "tls.client_ca": "does not exist", f"{slot}.username": "from `address`",
                  f"{slot}.password": "from `address`", f"{slot}.database": "from `address`",
                  f"{slot}.key_prefix": "':'", f"{slot}.dial_timeout_ms": "digits only",
                  "namespaces[1].slots.primary.config.address": "redis://HOST:PORT/DATABASE"}
        done = run("prismctl", "--output", "json", "check", path)
        self.assertNotEqual(done.returncode, 0)
        told = json.loads(done.stdout)["faults"]
        self.assertEqual({f["path"] for f in told}, {*places, f"{slot}.db"})
        self.assertEqual(sorted(f["fix"] for f in told if f["path"] == f"{slot}.db"),
                         ["remove it, or the database from `address`", "remove one of the two"])
        for fault in told:
            self.assertGreater(fault["line"], 0, fault)
            self.assertIn(places.get(fault["path"], ""), f"{fault['message']}; {fault['fix']}")
            if "slots" in fault["path"]:
                self.assertEqual((fault["slot"], fault["backend"]), ("primary", "redis"))
        started = run("prismd", "--config", path)
        self.assertNotEqual(started.returncode, 0)
        events = [json.loads(line) for line in started.stderr.splitlines()]
        self.assertEqual([(e["path"], e["message"]) for e in events if e["event"] == "config_fault"],
                         [(f["path"], f["message"]) for f in told])
        for secret in secrets:
            self.assertNotIn(secret, done.stdout + done.stderr + started.stdout + started.stderr)

    def test_prismd_refuses_the_same(self):
        path = self.write({"lisen": "127.0.0.1:1", "nonsense": 1, "namespaces": [backends.keyvalue(MEMSTORE)]})
        done = run("prismd", "--config", path)
        self.assertNotEqual(done.returncode, 0)
        for word in ("lisen", "nonsense"):
            self.assertIn(word, done.stdout + done.stderr)

    def test_not_yaml(self):
        self.assertNotEqual(self.check("listen: [unclosed\n  x: {").returncode, 0)

    def test_absent_file(self):
        for program, option in (("prismd", "--config"), ("prismctl", "check")):
            done = run(program, option, "/nowhere/prismd.yaml")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("does not exist", done.stderr + done.stdout)

    def test_secrets_do_not_show(self):
        secret = "s3cr3t-of-the-test"
        path = self.write({"namespaces": [backends.keyvalue({"backend": "redis", "config": {
            "address": "127.0.0.1:1", "password": "${PRISM_TEST_PASSWORD}", "adress": "x"}})]})
        done = run("prismctl", "check", path, env={"PRISM_TEST_PASSWORD": secret})
        self.assertNotEqual(done.returncode, 0)
        self.assertNotIn(secret, done.stdout + done.stderr)

    def test_strict_slots(self):
        """Both backends offer every operation, natively or pipelined: strict_slots has nothing against them."""
        redis = {"backend": "redis", "config": {"address": "127.0.0.1:1"}}
        done = self.check({"strict_slots": True,
                           "namespaces": [backends.keyvalue(MEMSTORE), backends.keyvalue(redis, "other")]})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_probe(self):
        redis = self.borrow(RedisServer())
        good = {"namespaces": [backends.keyvalue({"backend": "redis", "config": {"address": redis.address}})]}
        done = self.check(good, "--probe")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        redis.kill()
        self.assertEqual(self.check(good).returncode, 0, "without --probe nothing is connected to")
        done = self.check(good, "--probe")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("primary", done.stdout + done.stderr)


class Daemon(suite.Case):
    def test_usage(self):
        for program in ("prismd", "prismctl"):
            done = run(program, "--help")
            self.assertEqual(done.returncode, 0, program)
            self.assertIn(program, done.stdout)
            self.assertNotEqual(run(program, "--nonsense").returncode, 0, program)
            done = run(program, "--version")
            self.assertEqual(done.returncode, 0, program)
            self.assertRegex(done.stdout, r"\d+\.\d+\.\d+")

    def test_ends_with_zero_on_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = Prismd(namespaces=[backends.keyvalue(MEMSTORE)])
            server.__enter__()
            server.process.signal(number)
            self.assertEqual(server.process.wait(environment.PATIENCE), 0)

    def test_port_in_use(self):
        server = self.borrow(Prismd(namespaces=[backends.keyvalue(MEMSTORE)]))
        second = Prismd(listen=server.address, namespaces=[backends.keyvalue(MEMSTORE)])
        second.launch()
        self.assertNotEqual(second.process.wait(environment.PATIENCE), 0)
        self.assertIn(str(server.port), second.process.log())

    def test_environment_and_files_in_the_configuration(self):
        folder = suite.subfolder("secret")
        with open(os.path.join(folder, "password"), "w", encoding="ascii") as f:
            f.write("from-the-file\n")
        redis = self.borrow(RedisServer(password="from-the-file"))
        slot = {"backend": "redis", "config": {"address": "${PRISM_TEST_ADDRESS}",
                                               "password": f"${{file:{folder}/password}}"}}
        server = self.borrow(Prismd(env={"PRISM_TEST_ADDRESS": redis.address}, namespaces=[backends.keyvalue(slot)]))
        self.assertTrue(server.serving())
        self.assertNotIn("from-the-file", server.process.log())

    def test_unix_socket(self):
        path = os.path.join(suite.subfolder("unix"), "prismd.sock")
        server = Prismd(listen="unix:" + path, namespaces=[backends.keyvalue(MEMSTORE)])
        server.launch()
        self.addCleanup(server.process.kill)
        wait.until(lambda: run("prismctl", "--server", "unix:" + path, "caps").returncode == 0, environment.PATIENCE,
                   "the server answers on its socket")
        self.assertEqual(server.terminate(), 0)
        self.assertFalse(os.path.exists(path), "the socket is removed at the end")


class Prismctl(suite.Case):
    @classmethod
    def setUpClass(cls):
        slot = cls.use(backends.slot(suite.backend()))
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(slot)]))

    def ctl(self, *arguments, code=0):
        done = run("prismctl", "--server", self.server.address, *arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def test_capabilities(self):
        text = self.ctl("caps")
        for word in (suite.backend(), "StoreBatch", "Scan"):
            self.assertIn(word, text)
        json.loads(self.ctl("--output", "json", "caps"))

    def test_no_server(self):
        done = run("prismctl", "--server", f"127.0.0.1:{free_port()}", "caps")
        self.assertNotEqual(done.returncode, 0)
        self.assertNotEqual(done.stderr, "")


if __name__ == "__main__":
    suite.main()
