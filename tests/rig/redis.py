"""A real redis-server, and a client of a few lines to look into it."""
import os
import re
import signal
import socket

from rig import environment, suite, wait
from rig.process import Process, free_port, start_until_ready


class Error(Exception):
    """An error reply."""


class RedisClient:
    """Speaks RESP2: one command, one reply. Independent of the library that prismd uses."""

    def __init__(self, where, password=None, username=None):
        """where: the path of a socket, or (host, port)."""
        self.socket = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        self.file = self.socket.makefile("rb")
        try:
            self.socket.settimeout(environment.PATIENCE)
            self.socket.connect(where)
            if password:
                self.call("AUTH", *([username] if username else []), password)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def call(self, *words):
        parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return self._reply()

    def _reply(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Error(rest.decode())
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            data = self.file.read(int(rest) + 2)
            return data[:-2]
        return None if int(rest) < 0 else [self._reply() for _ in range(int(rest))]


def commands_run(address):
    """{command: how often it ran} of the server at HOST:PORT, since it started."""
    host, _, port = address.rpartition(":")
    with RedisClient((host, int(port))) as c:
        text = c.call("INFO", "commandstats").decode()
    return {name: int(calls) for name, calls in re.findall(r"^cmdstat_(\S+):calls=(\d+)", text, re.MULTILINE)}


class RedisServer:
    """with RedisServer() as redis: ... It keeps its port and socket over kill() and restart()."""

    def __init__(self, password=None, users=(), maxmemory=None, port=None, durable=False, tls=(), options=()):
        self.program = environment.tool("redis-server")
        self.password = password
        self.users = users            # ACL lines: "user alice on >secret ~* +@all"
        self.maxmemory = maxmemory    # bytes
        self.durable = durable        # every write is on the disk before it is answered
        self.tls = tls                # options of redis' TLS; it then has a second port, which speaks only that
        self.options = options        # more of them, as redis-server's arguments
        self.port = port or free_port()
        self.tls_port = free_port() if tls else None
        self.folder = suite.subfolder("redis")
        self.socket_path = os.path.join(self.folder, "redis.sock")
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.process.kill()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def tls_address(self):
        return f"127.0.0.1:{self.tls_port}"

    @property
    def unix_address(self):
        return "unix:" + self.socket_path

    def start(self):
        def launch():
            argv = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.socket_path,
                    "--dir", self.folder, "--save", "", "--daemonize", "no",
                    *(["--appendonly", "yes", "--appendfsync", "always"] if self.durable else ["--appendonly", "no"])]
            argv += self.options
            if self.tls:
                argv += ["--tls-port", str(self.tls_port), *self.tls]
            if self.password:
                argv += ["--requirepass", self.password]
            for user in self.users:
                argv += ["--" + user.split(" ", 1)[0], *user.split(" ")[1:]]
            if self.maxmemory:
                argv += ["--maxmemory", str(self.maxmemory), "--maxmemory-policy", "noeviction"]
            self.process = Process("redis", argv, self.folder)
            return self
        patience = environment.PATIENCE * (5 if self.durable else 1)   # it reads its file first
        start_until_ready(launch, RedisServer._answers, patience, "redis-server answers PING")

    def _answers(self):
        try:
            with self.client() as c:
                return c.call("PING") == "PONG"
        except (OSError, Error):
            return False

    def client(self):
        return RedisClient(self.socket_path, self.password)

    def call(self, *words):
        with self.client() as c:
            return c.call(*words)

    def kill(self):
        """SIGKILL: connections break, nothing is saved."""
        self.process.kill()

    def pause(self):
        self.process.signal(signal.SIGSTOP)
        wait.until(lambda: self.process.status("State").startswith("T"), environment.PATIENCE, "redis is stopped")

    def resume(self):
        self.process.signal(signal.SIGCONT)
