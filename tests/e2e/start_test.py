"""How prismd starts, and how it ends before it serves: addresses, descriptors, signals, odd configurations."""
import os
import signal
import socket
import subprocess
import unittest
import urllib.request

from rig import backends, environment, suite, tls, wait, yaml
from rig.prismd import Prismd, run
from rig.process import Process, free_port

MEMSTORE = [backends.keyvalue({"backend": "memstore", "config": {}})]


def http_status(url):
    """None: nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status
    except OSError:
        return None


class Start(suite.Case):
    def launch(self, **settings):
        server = Prismd(namespaces=MEMSTORE, **settings)
        server.launch()
        self.addCleanup(server.process.kill)
        return server

    def on_socket(self, path):
        """A server on a unix socket, which answers."""
        server = self.launch(listen="unix:" + path)
        wait.until(lambda: self.answers(path), environment.PATIENCE, "the server answers on its socket")
        return server

    def answers(self, path):
        return run("prismctl", "--server", "unix:" + path, "caps").returncode == 0

    def refused(self, server, *words):
        """It ends, and says why in one line of the log."""
        self.assertEqual(server.process.wait(environment.PATIENCE), 1)
        (line,) = server.log_events()
        self.assertEqual(line["event"], "stopped")
        for word in words:
            self.assertIn(word, line["error"])
        return line

    def test_one_owner_of_a_unix_socket(self):
        path = os.path.join(suite.subfolder("unix"), "s")
        first = self.on_socket(path)
        self.assertEqual(run("prismctl", "-s", "unix:" + path, "kv", "store", "k", "v").returncode, 0)
        self.refused(self.launch(listen="unix:" + path), path, "another prismd")
        self.assertEqual(run("prismctl", "-s", "unix:" + path, "kv", "get", "k").stdout, "v")
        self.assertEqual(first.terminate(), 0)
        self.assertEqual(os.listdir(os.path.dirname(path)), [], "nothing is left behind")

    def test_stale_socket_is_replaced(self):
        path = os.path.join(suite.subfolder("unix"), "s")
        first = self.on_socket(path)
        first.process.kill()
        self.assertTrue(os.path.exists(path))
        second = self.on_socket(path)
        self.assertEqual(second.terminate(), 0)
        self.assertEqual(os.listdir(os.path.dirname(path)), [])

    def test_strangers_are_respected(self):
        """A socket that another program serves, and a file."""
        path = os.path.join(suite.subfolder("unix"), "s")
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(path)
            stranger.listen()
            self.refused(self.launch(listen="unix:" + path), path, "another process")
        os.unlink(path)
        with open(path, "w", encoding="ascii"):
            pass
        self.refused(self.launch(listen="unix:" + path), path, "not a socket")
        self.assertEqual(os.listdir(os.path.dirname(path)), ["s"])

    def test_only_ones_own_socket_is_removed(self):
        path = os.path.join(suite.subfolder("unix"), "s")
        first = self.on_socket(path)
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(path)
            self.assertEqual(first.terminate(), 0)
            self.assertTrue(os.path.exists(path))

    def test_refused_addresses(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = self.refused(self.launch(listen=f"127.0.0.1:{port}"), str(port), "another process")
            self.assertEqual(line["about"], "listen")
            line = self.refused(self.launch(admin=f"127.0.0.1:{port}"), str(port), "another process")
            self.assertEqual(line["about"], "admin")
        self.refused(self.launch(listen="192.0.2.1:8980"), "no such address")
        self.refused(self.launch(listen="no.such.host.invalid:8980"), "not known")

    def test_wildcard_of_both_families(self):
        """The admin endpoint takes IPv4 on [::] as the listener does."""
        port, admin = free_port(), free_port()
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("no IPv6 here")
        server = self.launch(listen=f"[::]:{port}", admin=f"[::]:{admin}")
        for host in ("127.0.0.1", "[::1]"):
            url = f"http://{host}:{admin}/healthz"
            wait.until(lambda u=url: http_status(u) == 200, environment.PATIENCE, f"{url} answers")
            self.assertEqual(run("prismctl", "-s", f"{host}:{port}", "caps").returncode, 0, host)
        self.assertEqual(server.terminate(), 0)

    def test_addresses_from_outside_are_not_logged(self):
        with socket.create_server(("127.0.0.77", 0)) as taken:
            address = f"127.0.0.77:{taken.getsockname()[1]}"
            for key in ("listen", "admin"):
                self.refused(self.launch(**{key: "${PRISM_T_ADDRESS}"}, env={"PRISM_T_ADDRESS": address}), "(hidden)",
                             "another process")

    def test_listening_names_namespaces_and_backends(self):
        server = self.borrow(Prismd(namespaces=[*MEMSTORE, backends.keyvalue(
            {"backend": "redis", "config": {"address": f"127.0.0.1:{free_port()}"}}, "far")],
            wait_for=Prismd.http_answers))
        (line,) = [e for e in server.log_events() if e["event"] == "listening"]
        self.assertEqual(line["namespaces"], "default (keyvalue: primary=memstore), far (keyvalue: primary=redis)")


class Descriptors(suite.Case):
    @unittest.skipIf("thread" in environment.SANITIZER, "ThreadSanitizer opens descriptors before we can")
    def test_closed_standard_descriptors(self):
        """Nothing takes their place, so the end is clean; what would be written there is not."""
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            with self.subTest(closed):
                port = free_port()
                path = os.path.join(suite.subfolder("closed"), "prismd.yaml")
                with open(path, "w", encoding="utf-8") as f:
                    f.write(yaml.dump({"listen": f"127.0.0.1:{port}", "admin": "off"}))
                process = Process("shell", ["sh", "-c", f'exec "$0" -c "$1" {closed}', environment.ours("prismd"),
                                            path], suite.subfolder("closed"))
                self.addCleanup(process.kill)
                wait.until(lambda p=port: run("prismctl", "-s", f"127.0.0.1:{p}", "caps").returncode == 0,
                           environment.PATIENCE, "it serves")
                for fd in range(3):
                    self.assertRegex(os.readlink(f"/proc/{process.pid}/fd/{fd}"), r"/dev/null|shell\.log")
                process.signal(signal.SIGTERM)
                self.assertEqual(process.wait(environment.PATIENCE), 0)

    def test_prismctl_says_what_is_closed(self):
        server = self.borrow(Prismd(namespaces=MEMSTORE))
        ctl = f"'{environment.ours('prismctl')}' -s {server.address} kv"
        for command, code, word in (("store k <&-", 1, "standard input"), ("store k v >&-", 0, ""),
                                    ("get k >&-", 9, "standard output"), ("get k 2>&-", 0, "v")):
            with self.subTest(command):
                done = subprocess.run(["sh", "-c", f"{ctl} {command}"], stdin=subprocess.DEVNULL, capture_output=True,
                                      text=True, timeout=environment.PATIENCE, check=False)
                self.assertEqual(done.returncode, code, done)
                self.assertIn(word, done.stdout + done.stderr)


class Signals(suite.Case):
    def test_quit_drains(self):
        server = Prismd(namespaces=MEMSTORE)
        server.__enter__()
        server.process.signal(signal.SIGQUIT)
        self.assertEqual(server.process.wait(environment.PATIENCE), 0)
        self.assertEqual([e["signal"] for e in server.log_events() if e["event"] == "draining"], ["QUIT"])

    def test_user_signals_are_told_and_ignored(self):
        server = self.borrow(Prismd(namespaces=MEMSTORE))
        for number, name in ((signal.SIGUSR1, "USR1"), (signal.SIGUSR2, "USR2")):
            server.process.signal(number)
            wait.until(lambda n=name: any(e["event"] == "signal_ignored" and e["signal"] == n
                                          for e in server.log_events()), environment.PATIENCE, f"{name} is told")
        self.assertTrue(server.serving())

    def test_signals_while_the_configuration_is_awaited(self):
        """Nobody writes to the FIFO; a signal still ends the process, and the others do not."""
        path = os.path.join(suite.subfolder("fifo"), "prismd.yaml")
        os.mkfifo(path)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            process = Process("prismd", [environment.ours("prismd"), "-c", path], os.path.dirname(path))
            self.addCleanup(process.kill)
            wait.until(lambda p=process: self.reads(p, path), environment.PATIENCE, "it reads the FIFO")
            process.signal(signal.SIGUSR1)
            process.signal(number)
            self.assertEqual(process.wait(environment.PATIENCE), 0)

    @staticmethod
    def reads(process, path):
        """The file is open in it."""
        folder = f"/proc/{process.pid}/fd"
        try:
            return any(os.readlink(os.path.join(folder, fd)) == path for fd in os.listdir(folder))
        except OSError:
            return False


class Configuration(suite.Case):
    def test_through_a_pipe(self):
        done = subprocess.run([environment.ours("prismctl"), "check", "/dev/stdin"], capture_output=True, text=True,
                              input="workers: many\n", timeout=environment.PATIENCE, check=False)
        self.assertEqual(done.returncode, 4)
        self.assertIn("/dev/stdin:1: workers", done.stdout)

    def test_without_an_end(self):
        done = run("prismctl", "check", "/dev/zero")
        self.assertEqual(done.returncode, 4)
        self.assertIn("larger than 1 MiB", done.stdout)

    def test_empty(self):
        """A file that was named but holds nothing is no wish for a volatile store."""
        path = os.path.join(suite.subfolder("config"), "prismd.yaml")
        for text in ("", "# rendered by nobody\n", "---\n", "{}\n"):
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            self.assertEqual(run("prismctl", "check", path).returncode, 4)
            done = run("prismd", "--config", path)
            self.assertEqual(done.returncode, 1)
            self.assertIn("is empty", done.stderr)

    def test_tls_files_are_tried(self):
        """`prismctl check` and prismd say the same, with the line."""
        folder = suite.subfolder("tls")
        authority = tls.Authority(folder)
        (cert, key), (_, other) = authority.issue("server"), authority.issue("other")
        path = os.path.join(folder, "prismd.yaml")
        for pair, at, why in (((cert, other), "tls.key", "not the key of"), ((path, key), "tls.cert", "no chain"),
                              ((cert, cert), "tls.key", "no private key"), ((cert, "/dev/zero"), "tls.key", "regular")):
            with open(path, "w", encoding="utf-8") as f:
                f.write(f"tls:\n  cert: {pair[0]}\n  key: {pair[1]}\n")
            for done in (run("prismctl", "check", path), run("prismd", "-c", path)):
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(at, done.stdout + done.stderr)
                self.assertIn(why, done.stdout + done.stderr)
            self.assertIn(f"{path}:{2 if at == 'tls.cert' else 3}: {at}", run("prismctl", "check", path).stdout)
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"tls:\n  cert: {cert}\n  key: {key}\n")
        self.assertEqual(run("prismctl", "check", path).returncode, 0)


if __name__ == "__main__":
    suite.main()
