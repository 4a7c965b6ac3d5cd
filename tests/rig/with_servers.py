#!/usr/bin/env python3
"""Runs a program while real servers run: with_servers.py redis -- program arguments

The servers' addresses go into the program's environment: PRISM_TEST_REDIS=127.0.0.1:PORT and PRISM_TEST_REDIS_UNIX,
PRISM_TEST_NATS, PRISM_TEST_KAFKA, PRISM_TEST_POSTGRES, PRISM_TEST_S3 and PRISM_TEST_DYNAMODB,
PRISM_TEST_DYNAMODB_TXN, PRISM_TEST_DYNAMODB_SESSIONS, each HOST:PORT, and PRISM_TEST_REDIS_CLUSTER, three of those with
commas, beside PRISM_TEST_REDIS_CLUSTER_UNIX, the paths of their sockets, where no TLS is spoken. redis-tls starts
nothing: PRISM_TEST_REDIS_TLS is a folder of certificates, with which tests/contract/redis_server.c has servers speak
TLS. redis-cluster-tls does both: nodes that speak TLS.
The exit code is the program's; 77 (skipped) if a server is not installed, unless PRISM_REQUIRE_ALL=1.
"""
import contextlib
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from rig import environment, suite  # noqa: E402
from rig.dynamodb import DynamoServer, DynamoTransactions, MotoServer  # noqa: E402
from rig.kafka import KafkaServer  # noqa: E402
from rig.nats import NatsServer  # noqa: E402
from rig.postgres import PostgresServer  # noqa: E402
from rig.redis import RedisServer  # noqa: E402
from rig.redis_cluster import RedisCluster  # noqa: E402
from rig.s3 import S3Proxy, Versity  # noqa: E402
from rig.tls import Authority  # noqa: E402


def start_redis(stack, env):
    redis = stack.enter_context(RedisServer())
    env["PRISM_TEST_REDIS"] = redis.address
    env["PRISM_TEST_REDIS_UNIX"] = redis.socket_path


def start_redis_tls(_, env):
    environment.tool("redis-server")
    env["PRISM_TEST_REDIS_TLS"] = suite.subfolder("certificates")
    authority = Authority(env["PRISM_TEST_REDIS_TLS"])
    authority.issue("server")
    authority.issue("client", "prism")


def start_redis_cluster(stack, env, tls=()):
    cluster = stack.enter_context(RedisCluster(tls=tls))
    env["PRISM_TEST_REDIS_CLUSTER"] = cluster.address
    env["PRISM_TEST_REDIS_CLUSTER_UNIX"] = ",".join(node.socket_path for node in cluster.nodes)


def start_redis_cluster_tls(stack, env):
    start_redis_tls(stack, env)
    folder = env["PRISM_TEST_REDIS_TLS"]
    files = (("cert", "server.pem"), ("key", "server.key"), ("ca-cert", "ca.pem"))
    options = [word for what, name in files for word in (f"--tls-{what}-file", os.path.join(folder, name))]
    start_redis_cluster(stack, env, tuple(options))


def start_dynamodb(stack, env):
    env["PRISM_TEST_DYNAMODB"] = stack.enter_context(DynamoServer()).address
    env["PRISM_TEST_DYNAMODB_TXN"] = stack.enter_context(MotoServer()).address


def start_s3(stack, env):
    """One that ignores conditions, and one that honours them, where there was a Go to build it with."""
    env["PRISM_TEST_S3"] = stack.enter_context(S3Proxy()).address
    with contextlib.suppress(unittest.SkipTest):
        env["PRISM_TEST_S3_CONDITIONAL"] = stack.enter_context(Versity()).address


def start_one(kind, variable):
    def start(stack, env):
        env[variable] = stack.enter_context(kind()).address
    return start


STARTERS = {"redis": start_redis, "redis-tls": start_redis_tls,
            "redis-cluster": start_redis_cluster, "redis-cluster-tls": start_redis_cluster_tls,
            "nats": start_one(NatsServer, "PRISM_TEST_NATS"), "kafka": start_one(KafkaServer, "PRISM_TEST_KAFKA"),
            "postgres": start_one(PostgresServer, "PRISM_TEST_POSTGRES"), "s3": start_s3,
            "dynamodb": start_dynamodb,
            "dynamodb_session": start_one(DynamoTransactions, "PRISM_TEST_DYNAMODB_SESSIONS")}


def main():
    split = sys.argv.index("--")
    env = dict(os.environ)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, suite.folder(), ignore_errors=True)
        try:
            for name in sys.argv[1:split]:
                STARTERS[name](stack, env)
        except unittest.SkipTest as e:
            print(e, file=sys.stderr)
            return 1 if environment.REQUIRE_ALL else 77
        code = subprocess.run(sys.argv[split + 1:], env=env, check=False).returncode
    if code == 77 and environment.REQUIRE_ALL:
        print("PRISM_REQUIRE_ALL: must not be skipped", file=sys.stderr)
        return 1
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
