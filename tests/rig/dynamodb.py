"""Servers that speak DynamoDB's protocol, as scripts/setup-test.sh installs them: dynalite, which knows no
transactions, or those that the rig gives it; and moto's, which does and takes five times as long. None of them checks a
signature, throttles or expires anything by itself: rig/aws_front.py stands before them where that matters.
"""
import os
import sys
import unittest

from rig import environment
from rig.process import free_port
from rig.server import Server, http_status

DYNALITE, MOTO = "4.0.0", "5.2.5"


def folder(name=f"dynalite-{DYNALITE}"):
    """Where it is installed; without it the test is skipped."""
    path = os.path.join(environment.CACHE, name)
    if not os.path.isdir(path):
        raise unittest.SkipTest(f"{name} is not in {environment.CACHE} (scripts/setup-test.sh installs it)")
    return path


class DynamoServer(Server):
    name = "dynalite"

    def __init__(self):
        super().__init__()
        self.program = environment.tool("node")
        self.script = os.path.join(folder(), "node_modules", "dynalite", "cli.js")
        self.port = free_port()

    @classmethod
    def at(cls, port):
        """One that runs already."""
        server = cls.__new__(cls)
        server.port = port
        return server

    @property
    def address(self):
        return f"localhost:{self.port}"

    def argv(self):
        return [self.program, self.script, "--host", "127.0.0.1", "--port", str(self.port), "--createTableMs", "0",
                "--deleteTableMs", "0", "--updateTableMs", "0"]

    def ready(self):
        return http_status(self.port, "/") == 200


class DynamoTransactions(DynamoServer):
    """dynalite with transactions of the rig's own: quick enough for tests of many sessions."""

    def argv(self):
        front = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dynalite_txn.js")
        return [self.program, front, os.path.join(folder(), "node_modules", "dynalite"), str(self.port)]


# Moto's transactions lock nothing: two that run at the same time mix. So its server has one thread.
_ONE_AT_A_TIME = """
import sys, werkzeug.serving
run = werkzeug.serving.run_simple
werkzeug.serving.run_simple = lambda *args, **options: run(*args, **{**options, "threaded": False})
from moto.server import main
main(sys.argv[1:])
"""


class MotoServer(Server):
    name = "moto"

    def __init__(self):
        super().__init__()
        self.packages = folder(f"moto-{MOTO}")
        self.port = free_port()

    @property
    def address(self):
        return f"localhost:{self.port}"

    def argv(self):
        return ["env", f"PYTHONPATH={self.packages}", "AWS_EC2_METADATA_DISABLED=true", sys.executable, "-c",
                _ONE_AT_A_TIME, "-H", "127.0.0.1", "-p", str(self.port)]

    def ready(self):
        return http_status(self.port, "/moto-api/") == 200
