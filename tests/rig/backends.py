"""From a backend's name to a started server and the slot configuration that uses it. New backends join here."""
import contextlib
import os

from rig.dynamodb import DynamoServer, DynamoTransactions
from rig.kafka import KafkaServer
from rig.nats import NatsServer
from rig.postgres import PostgresServer
from rig.redis import RedisServer
from rig.redis_cluster import RedisCluster
from rig.s3 import ACCESS, BUCKET, SECRET, S3Proxy


@contextlib.contextmanager
def _memstore(**config):
    yield {"backend": "memstore", "config": config}


@contextlib.contextmanager
def _redis(**config):
    with RedisServer() as redis:
        yield {"backend": "redis", "config": {"address": redis.address, **config}}


@contextlib.contextmanager
def _redis_cluster(**config):
    with RedisCluster() as cluster:
        yield {"backend": "redis", "config": {"address": cluster.address, "cluster": True, **config}}


@contextlib.contextmanager
def _jetstream(**config):
    with NatsServer() as nats:
        yield {"backend": "jetstream", "config": {"address": nats.address, "create_streams": True, **config}}


def _shared_port(kind):
    """Of a server that ctest has started for many tests (shared_server.py); None: there is none."""
    path = os.environ.get(f"PRISM_TEST_{kind}_FILE", "")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as f:
        return int(f.read().split()[1])


@contextlib.contextmanager
def shared_kafka():
    """The one that ctest has started for many tests (shared_server.py), or one of one's own."""
    port = _shared_port("KAFKA")
    if port:
        yield KafkaServer.at(port)
    else:
        with KafkaServer() as kafka:
            yield kafka


@contextlib.contextmanager
def _kafka(topics=("orders", "t", "t.g.dead", "prism.multicast.all"), **config):
    with shared_kafka() as kafka:
        for topic in topics:
            kafka.delete_topic(topic)
            kafka.create_topic(topic)
        yield {"backend": "kafka", "config": {"brokers": kafka.address, **config}}


@contextlib.contextmanager
def _nats(**config):
    with NatsServer() as nats:
        yield {"backend": "nats", "config": {"address": nats.address, **config}}


@contextlib.contextmanager
def _redis_stream(**config):
    with RedisServer() as redis:
        yield {"backend": "redis-stream", "config": {"address": redis.address, **config}}


@contextlib.contextmanager
def _redis_stream_cluster(**config):
    with RedisCluster() as cluster:
        yield {"backend": "redis-stream", "config": {"address": cluster.address, "cluster": True, **config}}


@contextlib.contextmanager
def _postgres(**config):
    with PostgresServer() as postgres:
        yield {"backend": "postgres", "config": {"address": postgres.address, "username": "postgres",
                                                 "database": "postgres", **config}}


@contextlib.contextmanager
def _postgres_ttl(**config):
    """With expiry, which postgres has only where it is asked for."""
    with _postgres(**config) as slot_config:
        yield {**slot_config, "emulate": ["keyvalue_ttl"]}


@contextlib.contextmanager
def _dynamodb(kind=DynamoServer, **config):
    port = _shared_port("DYNAMODB") if kind is DynamoServer else None
    with contextlib.nullcontext(kind.at(port)) if port else kind() as server:
        yield {"backend": "dynamodb", "config": {"endpoint": f"http://{server.address}", "table": "prism-test",
                                                 "create_table": True, "access_key_id": ACCESS,
                                                 "secret_access_key": SECRET, "key_prefix": f"t{os.getpid()}",
                                                 **config}}


def _dynamodb_transactions(**config):
    """With what sessions need."""
    return _dynamodb(DynamoTransactions, **config)


@contextlib.contextmanager
def _s3(**config):
    port = _shared_port("S3")
    # Who shares a server has names of his own.
    with contextlib.nullcontext(S3Proxy.at(port)) if port else S3Proxy() as s3:
        yield {"backend": "s3", "config": {"endpoint": f"http://{s3.address}", "bucket": BUCKET,
                                           "force_path_style": True, "access_key_id": ACCESS,
                                           "secret_access_key": SECRET, "key_prefix": f"t{os.getpid()}", **config}}


@contextlib.contextmanager
def _s3_emulated(**config):
    """With what s3 does only where it is asked for."""
    with _s3(**config) as slot_config:
        yield {**slot_config, "emulate": ["keyvalue_batch", "keyvalue_scan"]}


_STARTERS = {"dynamodb": _dynamodb, "dynamodb-transactions": _dynamodb_transactions,
             "jetstream": _jetstream, "kafka": _kafka, "memstore": _memstore, "nats": _nats,
             "postgres": _postgres, "postgres-ttl": _postgres_ttl, "redis": _redis, "redis-cluster": _redis_cluster,
             "redis-stream": _redis_stream, "redis-stream-cluster": _redis_stream_cluster,
             "s3": _s3, "s3-emulated": _s3_emulated}


def slot(name, topics=None, **config):
    """A context manager that yields the slot's configuration while the server runs. `topics`: those that have to be
    there, where a topic has to be made before it is used."""
    if topics is not None and name == "kafka":
        config["topics"] = topics
    return _STARTERS[name](**config)


def keyvalue(slot_config, name="default", **behavior):
    """A namespace of the key-value pattern."""
    return {"name": name, "pattern": "keyvalue", "slots": {"primary": slot_config}, "behavior": behavior}
