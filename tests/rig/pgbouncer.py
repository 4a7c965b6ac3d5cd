"""A real PgBouncer of its own before a PostgresServer. It lets everybody in, as the superuser."""
import os
import shutil
import socket
import unittest

from rig.process import free_port
from rig.server import Server


class PgBouncer(Server):
    """It refuses root. The one more connection that the pool may have lets two transactions overlap."""
    name = "pgbouncer"
    user = ("nobody", "nogroup")

    def __init__(self, postgres, mode):
        self.program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
        if self.program is None:
            raise unittest.SkipTest("pgbouncer is not installed (scripts/setup-test.sh installs it)")
        super().__init__()
        self.postgres, self.mode = postgres, mode
        self.port = free_port()
        self.config = os.path.join(self.folder, "pgbouncer.ini")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def prepare(self):
        self.set_mode(self.mode)

    def set_mode(self, mode):
        """Takes effect with the next start."""
        with open(self.config, "w", encoding="ascii") as f:
            f.write("\n".join(["[databases]", f"* = host=127.0.0.1 port={self.postgres.port} user=postgres",
                               "[pgbouncer]", "listen_addr = 127.0.0.1", f"listen_port = {self.port}",
                               "unix_socket_dir =", "auth_type = any", f"pool_mode = {mode}",
                               "default_pool_size = 20", "max_client_conn = 100", ""]))

    def argv(self):
        return [self.program, self.config]

    def ready(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0
