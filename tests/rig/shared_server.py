#!/usr/bin/env python3
"""One server for many tests, because it starts slowly: ctest starts it before the first and stops it after the last.

    shared_server.py KIND start FILE    returns when it is ready; FILE holds the keeper's pid and the server's port
    shared_server.py KIND stop FILE
"""
import os
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from rig import dynamodb, environment, kafka, s3, suite, wait  # noqa: E402

# What is started, and what raises SkipTest where it is not installed.
KINDS = {"dynamodb": (dynamodb.DynamoServer, dynamodb.folder), "kafka": (kafka.KafkaServer, kafka.jars),
         "s3": (s3.S3Proxy, s3.jars)}
PATIENCE = 120
LONGEST = 1800  # seconds that a keeper lives which nobody stops


def keep(kind, path):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with KINDS[kind][0]() as server:
            with open(path + ".part", "w", encoding="utf-8") as f:
                f.write(f"{os.getpid()} {server.port}\n")
            os.rename(path + ".part", path)
            signal.sigtimedwait([signal.SIGTERM], LONGEST)
    finally:
        shutil.rmtree(suite.folder(), ignore_errors=True)


def start(kind, path):
    stop(kind, path)
    keeper = subprocess.Popen([sys.executable, os.path.abspath(__file__), kind, "keep", path], start_new_session=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait.until(lambda: os.path.exists(path) or keeper.poll() is not None, PATIENCE, f"a shared {kind}")
    return 0 if keeper.poll() is None else 1


def is_gone(pid):
    try:
        os.kill(pid, 0)
        return False
    except ProcessLookupError:
        return True


def stop(kind, path):
    try:
        with open(path, encoding="utf-8") as f:
            pid = int(f.read().split()[0])
        os.remove(path)
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    wait.until(lambda: is_gone(pid), PATIENCE, f"the end of the shared {kind}")
    return 0


def main():
    kind, what, path = sys.argv[1:4]
    try:
        KINDS[kind][1]()
    except unittest.SkipTest as e:
        print(e, file=sys.stderr)
        return 1 if environment.REQUIRE_ALL else 77
    return {"keep": keep, "start": start, "stop": stop}[what](kind, path)


if __name__ == "__main__":
    sys.exit(main())
