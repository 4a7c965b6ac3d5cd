"""A child process that cannot outlive the test: killed at exit, and by the kernel if the test itself is killed."""
import atexit
import os
import random
import re
import socket
import subprocess
import threading

from rig import wait

_running = []
_ours = []


def free_port():
    """A loopback port that is this process's until it ends: no other test is given it (tests/contract/free_port.h does
    the same), and it is below those that the kernel gives to connections."""
    while True:
        port = random.randrange(10000, 32768)
        claim, probe = socket.socket(socket.AF_UNIX), socket.socket()
        with probe:
            try:
                claim.bind(f"\0prism-test-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        _ours.append(claim)
        return port


class Process:
    """One server. Its output goes to a file, shown when a test of the suite fails."""

    def __init__(self, name, argv, folder, env=None):
        self.name = name
        self.log_path = os.path.join(folder, name + ".log")
        # The death signal belongs to the thread that starts the child, so that must be the one that stays.
        assert threading.current_thread() is threading.main_thread()
        # setpriv and not preexec_fn: forking a Python process with gRPC threads can hang in the child.
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *argv], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, env={**os.environ, **(env or {})})
        _running.append(self)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, seconds):
        """The exit code; fails if the process is still there after `seconds`."""
        try:
            code = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds} s") from None
        self._forget()
        return code

    def kill(self):
        if self.alive():
            self.popen.kill()  # also while it is stopped: it must not run on for a moment before
        self.popen.wait()
        self._forget()

    def _forget(self):
        if self in _running:
            _running.remove(self)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def status(self, field):
        """A field of /proc/PID/status, as text."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return line.split(":", 1)[1].strip()
        raise KeyError(field)

    def resident_bytes(self):
        return int(self.status("VmRSS").split()[0]) * 1024


def start_until_ready(start, ready, seconds, what):
    """Starts a server and waits until ready(server). Another process may take the free port first: then once more."""
    for attempt in range(3):
        server = start()
        try:
            wait.until(lambda: not server.process.alive() or ready(server), seconds, what)
        except AssertionError as e:
            server.process.kill()
            raise AssertionError(f"{e}\n{server.process.log()}") from None
        if server.process.alive():
            return server
        text = server.process.log()
        if attempt == 2 or not re.search("[Aa]ddress already in use|uses this address", text):
            raise AssertionError(f"{what}: ended with {server.process.popen.returncode}\n{text}")
    raise AssertionError("unreachable")


@atexit.register
def _kill_all():
    for process in list(_running):
        process.kill()
