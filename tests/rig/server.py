"""What the real servers have in common: a folder of their own, a process, kill, pause, restart.

A subclass sets `name` and gives argv() and ready(); prepare() runs once, before the first start.
"""
import os
import shutil
import signal
import socket

from rig import environment, suite, wait
from rig.process import Process, start_until_ready


def exchange(port, request, enough, seconds=1):
    """Sends `request` and reads until enough(answer); b"" when nobody answers within the time."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as s:
            s.sendall(request)
            answer = b""
            while not enough(answer):
                piece = s.recv(65536)
                if not piece:
                    break
                answer += piece
            return answer
    except OSError:
        return b""


def http_status(port, path):
    """The status of a GET; 0 when nobody answers."""
    request = f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode()
    answer = exchange(port, request, lambda a: b"\r\n" in a)
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


class Server:
    """It keeps its ports and its data over kill() and restart(). Patience is for a busy machine."""
    name = "server"
    user = None        # (user, group) to run as, for servers that refuse root
    patience = 3 * environment.PATIENCE

    def __init__(self):
        self.folder = suite.subfolder(self.name)
        self.process = None
        if self.drops_root():
            os.chmod(suite.folder(), 0o755)
            shutil.chown(self.folder, *self.user)

    def drops_root(self):
        return self.user is not None and os.geteuid() == 0

    def as_user(self, argv):
        if not self.drops_root():
            return argv
        # The kernel forgets the death signal when the user changes, so it is set again.
        return ["setpriv", "--reuid", self.user[0], "--regid", self.user[1], "--clear-groups",
                "--pdeathsig", "KILL", "--", *argv]

    def prepare(self):
        pass

    def argv(self):
        raise NotImplementedError

    def ready(self):
        raise NotImplementedError

    def __enter__(self):
        self.prepare()
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def launch(self):
        """Members of a quorum are launched together, then waited for."""
        self.process = Process(self.name, self.as_user(self.argv()), self.folder)
        return self

    def wait_ready(self):
        wait.until(lambda: not self.process.alive() or self.ready(), self.patience, f"{self.name} is ready")
        assert self.process.alive(), f"{self.name} ended\n{self.process.log()}"

    def start(self):
        start_until_ready(self.launch, type(self).ready, self.patience, f"{self.name} is ready")

    def kill(self):
        """SIGKILL: connections break. What the server had on disk stays for the next start."""
        if self.process is not None:
            self.process.kill()

    def restart(self):
        self.kill()
        self.start()

    def pause(self):
        self.process.signal(signal.SIGSTOP)
        wait.until(lambda: self.process.status("State").startswith("T"), environment.PATIENCE,
                   f"{self.name} is stopped")

    def resume(self):
        self.process.signal(signal.SIGCONT)
