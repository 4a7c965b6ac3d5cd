"""A real PostgreSQL of its own: superuser postgres, trusted on loopback."""
import contextlib
import glob
import os
import shutil
import signal
import subprocess
import unittest

from rig import environment, wait
from rig.process import free_port
from rig.server import Server


class PostgresServer(Server):
    """initdb and postgres refuse root, so they run as nobody there. `durable` keeps fsync on."""
    name = "postgres"
    user = ("nobody", "nogroup")

    def __init__(self, durable=False, **settings):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
        if not found:
            raise unittest.SkipTest("postgresql is not installed (scripts/setup-test.sh installs it)")
        super().__init__()
        self.bin = os.path.dirname(found[-1])
        self.port = free_port()
        self.data = os.path.join(self.folder, "data")
        fast = {} if durable else {"fsync": "off", "full_page_writes": "off"}
        self.settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
                         "shared_buffers": "64MB", **fast, **settings}

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def prepare(self):
        """A copy of a cluster that initdb has made once for this version: initdb is a second of CPU, a copy none."""
        kept = os.path.join(environment.CACHE, f"initdb-{self.bin.split('/')[-2]}-{os.getuid()}")
        if not os.path.exists(kept):
            self.initdb()
            os.makedirs(environment.CACHE, exist_ok=True)
            part = f"{kept}.{os.getpid()}"
            subprocess.run(["cp", "-a", self.data, part], check=True)
            try:
                os.rename(part, kept)
            except OSError:     # another test was first
                shutil.rmtree(part)
        else:
            subprocess.run(["cp", "-a", kept, self.data], check=True)

    def initdb(self):
        # initdb spends most of its time in fsync without --no-sync; C.UTF-8 needs no installed locale.
        argv = [os.path.join(self.bin, "initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        done = subprocess.run(self.as_user(argv), cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, f"initdb ended with {done.returncode}\n{done.stdout}{done.stderr}"

    def argv(self):
        return [os.path.join(self.bin, "postgres"), "-D", self.data, *(f"-c{k}={v}" for k, v in self.settings.items())]

    def ready(self):
        argv = [os.path.join(self.bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        return subprocess.run(argv, check=False).returncode == 0

    def children(self):
        """Its processes: one for each connection, and some of its own."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
            return [int(pid) for pid in f.read().split()]

    def signal_children(self, number, children=None):
        for pid in self.children() if children is None else children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def pause(self):
        """The postmaster first, so that no process is added meanwhile."""
        super().pause()
        self.signal_children(signal.SIGSTOP)

    def resume(self):
        self.signal_children(signal.SIGCONT)
        super().resume()

    def kill(self):
        """All of its processes: those that outlive the postmaster would go on to serve their connections."""
        if self.process is None or not self.process.alive():
            return
        self.pause()
        children = self.children()
        self.signal_children(signal.SIGKILL, children)
        super().kill()
        wait.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), self.patience,
                   "its processes are gone")

    def stop(self, number=signal.SIGINT):
        """In an orderly way: SIGINT ends connections, SIGTERM waits for them."""
        self.process.signal(number)
        self.process.wait(self.patience)

    def set_access(self, *lines):
        """pg_hba.conf; the superuser of the tests stays trusted."""
        with open(os.path.join(self.data, "pg_hba.conf"), "w", encoding="ascii") as f:
            f.write("\n".join(["host all postgres 127.0.0.1/32 trust", *lines, ""]))
        self.sql("SELECT pg_reload_conf()")

    def psql(self, user, *arguments, database="postgres"):
        """The command; what it prints is unaligned."""
        return [os.path.join(self.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
                "-p", str(self.port), "-U", user, "-d", database, *arguments]

    def sql(self, text, database="postgres"):
        """Runs statements and returns what they print."""
        argv = self.psql("postgres", "-c", text, database=database)
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def __exit__(self, *_):
        # A killed postmaster leaves a shared-memory segment and children that go on for a moment.
        if self.process is not None and self.process.alive():
            self.process.signal(signal.SIGCONT)
            self.process.signal(signal.SIGINT)
            self.process.wait(self.patience)


class SmallDisk(PostgresServer):
    """What is made in it is in a tablespace on a disk of its own, which is full between fill() and make_room()."""

    def __init__(self, **settings):
        super().__init__(default_tablespace="small", **settings)
        self.disk = os.path.realpath(self.make_folder("disk"))
        self.full = os.path.join(self.make_folder("switch"), "full")
        self.preloaded = shutil.copy(environment.helper("full_disk.so"), self.folder)   # where its user can read it

    def make_folder(self, name):
        path = os.path.join(self.folder, name)
        os.mkdir(path, 0o755)
        if self.drops_root():
            shutil.chown(path, *self.user)
        return path

    def __enter__(self):
        super().__enter__()
        self.sql(f"CREATE TABLESPACE small LOCATION '{self.disk}'")
        self.sql("GRANT CREATE ON TABLESPACE small TO PUBLIC")
        return self

    def argv(self):
        return ["env", f"LD_PRELOAD={self.preloaded}", f"PRISM_TEST_DISK={self.disk}", f"PRISM_TEST_FULL={self.full}",
                *super().argv()]

    def fill(self):
        with open(self.full, "wb"):
            pass

    def make_room(self):
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.full)
