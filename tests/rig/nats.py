"""A real nats-server with JetStream on files, one or a cluster."""
import json
import os
import shutil

from rig import environment
from rig.process import free_port
from rig.server import Server, exchange, http_status


def newest():
    """The path of the newest release, which scripts/setup-test.sh builds where it can; None: only Debian's is here."""
    path = os.path.join(environment.CACHE, "bin", "nats-server")
    return path if os.access(path, os.X_OK) else None


def packaged():
    """The path of Debian's server; without it the test is skipped."""
    return shutil.which("nats-server", path="/usr/bin:/usr/sbin:/usr/local/bin") or environment.tool("nats-server")


class NatsServer(Server):
    """with NatsServer() as nats: nats.address. `more` are further lines of its configuration file."""
    name = "nats"

    def __init__(self, program=None, node=1, cluster_port=None, routes=(), more=(), max_payload="8MB"):
        super().__init__()
        self.program = program or packaged()
        self.node, self.cluster_port, self.routes, self.more = node, cluster_port, routes, more
        self.max_payload = max_payload
        self.port, self.monitor_port = free_port(), free_port()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def prepare(self):
        lines = [f"server_name: n{self.node}", f"listen: 127.0.0.1:{self.port}", f"http: 127.0.0.1:{self.monitor_port}",
                 f'jetstream {{ store_dir: "{self.folder}/js" }}', f"max_payload: {self.max_payload}", *self.more]
        if self.routes:
            routes = [f"nats://127.0.0.1:{p}" for p in self.routes]
            lines.append(f"cluster {{ name: rig, listen: 127.0.0.1:{self.cluster_port}, routes: {routes}, "
                         "no_advertise: true }")
        with open(os.path.join(self.folder, "nats.conf"), "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")

    def argv(self):
        return [self.program, "-c", os.path.join(self.folder, "nats.conf")]

    def ready(self):
        """JetStream answers; of a cluster member the port is enough, because a leader needs a majority."""
        if self.routes:
            return exchange(self.port, b"", lambda a: a.startswith(b"INFO")) != b""
        return http_status(self.monitor_port, "/healthz?js-enabled-only=true") == 200

    def create_stream(self, name, **settings):
        """A stream, if settings say nothing else on files and with one subject, its name."""
        body = json.dumps({"name": name, "subjects": [name], "storage": "file", **settings})
        request = (f'CONNECT {{"verbose": false}}\r\nSUB answer 1\r\n'
                   f"PUB $JS.API.STREAM.CREATE.{name} answer {len(body)}\r\n{body}\r\n")
        answer = exchange(self.port, request.encode(), lambda a: b"MSG answer" in a and a.endswith(b"}\r\n"))
        assert b'"error"' not in answer and b"MSG answer" in answer, answer

    def healthy(self):
        """The streams are recovered, and the meta group of a cluster has a leader and is current."""
        return http_status(self.monitor_port, "/healthz") == 200

    def leaders(self):
        """Who leads, as this member sees it: {"": of the cluster, STREAM: .., STREAM/CONSUMER: ..}; None: nobody."""
        answer = exchange(self.monitor_port, b"GET /jsz?accounts=true&streams=true&consumers=true HTTP/1.0\r\n\r\n",
                          lambda _: False)
        told = json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}")
        found = {"": told.get("meta_cluster", {}).get("leader")}
        for account in told.get("account_details", []):
            for stream in account.get("stream_detail", []):
                found[stream["name"]] = stream.get("cluster", {}).get("leader")
                found.update({f"{stream['name']}/{c['name']}": c.get("cluster", {}).get("leader")
                              for c in stream.get("consumer_detail") or []})
        return found

    def leads(self, stream):
        """Is this member the leader of the stream?"""
        return self.leaders().get(stream) == f"n{self.node}"


def queue_stream(server, **config):
    """The stream of all queues of identities, as an operator makes it."""
    server.create_stream("queues", **{"subjects": ["prism.queue.>"], "storage": "memory", **config})


def cluster(n, program=None):
    routes = [free_port() for _ in range(n)]
    return [NatsServer(program, i + 1, routes[i], routes) for i in range(n)]
