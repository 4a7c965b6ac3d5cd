"""The server under test."""
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request

import grpc

from rig import environment, suite, yaml
from rig.process import Process, free_port, start_until_ready

REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|runtime error:|Assertion .* failed")


class Prismd:
    """with Prismd(namespaces=[...], limits={...}) as server: ... Ports are filled in; a configuration may override.
    PRISM_DEPRECATED in the environment is deprecated_services of those that say nothing of it."""

    def __init__(self, credentials=None, env=None, wait_for=None, **config):
        switched = os.environ.get("PRISM_DEPRECATED")
        self.config = {"log": {"level": "info"}, **({"deprecated_services": switched} if switched else {}), **config}
        self.env = env
        self.credentials = credentials
        self.wait_for = wait_for or Prismd.serving
        self.folder = suite.subfolder("prismd")
        self.config_path = os.path.join(self.folder, "prismd.yaml")
        self.process = None

    def __enter__(self):
        start_until_ready(self.launch, self.wait_for, environment.PATIENCE, "prismd serves")
        return self

    def __exit__(self, kind, *_):
        """Ends it in an orderly way, which must succeed: a leak or a report of a sanitizer shows here, too."""
        try:
            if self.process.alive():
                code = self.terminate()
                assert kind is not None or code == 0, f"prismd ended with {code}"
        finally:
            self.process.kill()
        reports = [line for line in self.process.log().splitlines() if REPORT.search(line)]
        assert not reports, f"prismd reported {reports[0]}"

    def launch(self):
        """Starts it and waits for nothing."""
        self.port, self.admin_port = free_port(), free_port()
        self.write_config()
        self.process = Process("prismd", [environment.ours("prismd"), "--config", self.config_path], self.folder,
                               self.env)
        return self

    def write_config(self):
        with open(self.config_path, "w", encoding="utf-8") as f:
            f.write(yaml.dump({"listen": self.address, "admin": f"127.0.0.1:{self.admin_port}", **self.config}))

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def channel(self, **options):
        """A channel of its own: no connection is shared with other channels."""
        arguments = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1),
                     *((k.replace("__", "."), v) for k, v in options.items())]
        if self.credentials:
            return grpc.secure_channel(self.address, self.credentials, arguments)
        return grpc.insecure_channel(self.address, arguments)

    def serving(self):
        """Health of the whole server is SERVING."""
        from grpc_health.v1 import health_pb2
        return self.health("") == health_pb2.HealthCheckResponse.SERVING

    def health(self, service):
        """A ServingStatus number, or None if there is no answer."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        with self.channel() as channel:
            try:
                stub = health_pb2_grpc.HealthStub(channel)
                return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2).status
            except grpc.RpcError:
                return None

    def http(self, path):
        """(status, text) of the administration endpoint."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()

    def http_answers(self):
        """The process is up, whatever its backends do."""
        try:
            return self.http("/healthz")[0] == 200
        except OSError:
            return False

    def metrics(self):
        """Samples of /metrics: {'name{a="b"}': value}."""
        status, text = self.http("/metrics")
        assert status == 200, f"/metrics answers {status}"
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def metric(self, name, **labels):
        """The sum of the samples of a family that carry these labels."""
        wanted = [f'{k}="{v}"' for k, v in labels.items()]
        return sum(value for sample, value in self.metrics().items()
                   if sample.partition("{")[0] == name and all(w in sample for w in wanted))

    def log_events(self):
        """The log's lines, parsed; a line that is not JSON fails the test."""
        return [json.loads(line) for line in self.process.log().splitlines()]

    def terminate(self, seconds=None):
        """SIGTERM; returns the exit code."""
        self.process.signal(signal.SIGTERM)
        return self.process.wait(seconds or environment.PATIENCE)


def run(program, *arguments, timeout=60, env=None):
    """Runs one of our programs to its end: a CompletedProcess with text output."""
    return subprocess.run([environment.ours(program), *arguments], capture_output=True, text=True, timeout=timeout,
                          check=False, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
