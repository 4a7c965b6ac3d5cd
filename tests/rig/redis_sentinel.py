"""A primary, its replicas, and the sentinels that watch them."""
import os

from rig import environment, suite, wait
from rig.process import Process, free_port, start_until_ready
from rig.redis import Error, RedisClient, RedisServer

NAME = "orders"


class Sentinel:
    """with Sentinel(port of the primary, quorum) as sentinel: .."""

    def __init__(self, primary_port, quorum, password=None, tls=()):
        self.program = environment.tool("redis-server")
        self.primary_port, self.quorum, self.password = primary_port, quorum, password
        self.port = free_port()
        self.tls = tls
        self.tls_port = free_port() if tls else None
        self.folder = suite.subfolder("sentinel")
        self.process = None

    def __enter__(self):
        def launch():
            path = os.path.join(self.folder, "sentinel.conf")
            with open(path, "w", encoding="ascii") as f:
                f.write(f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
                        f"sentinel monitor {NAME} 127.0.0.1 {self.primary_port} {self.quorum}\n"
                        f"sentinel down-after-milliseconds {NAME} 2000\nsentinel failover-timeout {NAME} 2000\n")
                if self.tls:
                    f.write(f"tls-port {self.tls_port}\ntls-replication yes\n")
                    f.writelines(f"{k.lstrip('-')} {v}\n" for k, v in zip(self.tls[::2], self.tls[1::2]))
                if self.password:
                    f.write(f"requirepass {self.password}\nsentinel sentinel-pass {self.password}\n")
            self.process = Process("sentinel", [self.program, path, "--sentinel"], self.folder)
            return self
        return start_until_ready(launch, Sentinel._answers, environment.PATIENCE, "the sentinel answers PING")

    def __exit__(self, *_):
        self.process.kill()

    @property
    def address(self):
        return f"127.0.0.1:{self.tls_port or self.port}"

    def _answers(self):
        try:
            return self.call("PING") == "PONG"
        except (OSError, Error):
            return False

    def call(self, *words):
        with RedisClient(("127.0.0.1", self.port), self.password) as c:
            return c.call(*words)

    def facts(self):
        """What it knows of the primary."""
        words = [w.decode() for w in self.call("SENTINEL", "MASTER", NAME)]
        return dict(zip(words[::2], words[1::2]))


class Watched:
    """Watched(stack): two servers, the second a replica of the first, and three sentinels that agree. tls: options of
    redis' TLS, which all of them then speak with each other."""

    def __init__(self, stack, password=None, tls=()):
        secret = ("--tls-replication", "yes") if tls else ()
        self.servers = [stack.enter_context(RedisServer(tls=tls, options=secret)) for _ in range(2)]
        port = self.servers[0].tls_port or self.servers[0].port
        self.servers[1].call("REPLICAOF", "127.0.0.1", port)
        wait.until(lambda: b"master_link_status:up" in self.servers[1].call("INFO", "replication"),
                   environment.PATIENCE, "the replica follows")
        self.sentinels = [stack.enter_context(Sentinel(port, 2, password, tls)) for _ in range(3)]
        wait.until(lambda: all(s.facts()["num-slaves"] == "1" and s.facts()["num-other-sentinels"] == "2"
                               for s in self.sentinels), environment.PATIENCE, "the sentinels know each other")

    def addresses(self):
        return ",".join(s.address for s in self.sentinels)

    def primary_port(self):
        return int(self.sentinels[0].call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])
