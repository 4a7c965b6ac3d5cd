#!/usr/bin/env python3
"""One Kafka for many tests, because it starts slowly: ctest starts it before the first and stops it after the last.

    shared_kafka.py start FILE    returns when it is ready; FILE holds the keeper's pid and the broker's port
    shared_kafka.py stop FILE
"""
import os
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from rig import environment, suite, wait  # noqa: E402
from rig.kafka import KafkaServer, jars  # noqa: E402

PATIENCE = 60
LONGEST = 1800  # seconds that a keeper lives which nobody stops


def keep(path):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with KafkaServer() as kafka:
            with open(path + ".part", "w", encoding="utf-8") as f:
                f.write(f"{os.getpid()} {kafka.port}\n")
            os.rename(path + ".part", path)
            signal.sigtimedwait([signal.SIGTERM], LONGEST)
    finally:
        shutil.rmtree(suite.folder(), ignore_errors=True)


def start(path):
    stop(path)
    keeper = subprocess.Popen([sys.executable, os.path.abspath(__file__), "keep", path], start_new_session=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait.until(lambda: os.path.exists(path) or keeper.poll() is not None, PATIENCE, "a Kafka")
    return 0 if keeper.poll() is None else 1


def is_gone(pid):
    try:
        os.kill(pid, 0)
        return False
    except ProcessLookupError:
        return True


def stop(path):
    try:
        with open(path, encoding="utf-8") as f:
            pid = int(f.read().split()[0])
        os.remove(path)
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    wait.until(lambda: is_gone(pid), PATIENCE, "the end of the shared Kafka")
    return 0


def main():
    what, path = sys.argv[1:3]
    try:
        jars()
    except unittest.SkipTest as e:
        print(e, file=sys.stderr)
        return 1 if environment.REQUIRE_ALL else 77
    return {"keep": keep, "start": start, "stop": stop}[what](path)


if __name__ == "__main__":
    sys.exit(main())
