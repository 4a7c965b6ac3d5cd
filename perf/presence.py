"""Who is there: heartbeats, and a storm of those who come back: figures for messaging.py."""
import json
import select
import subprocess
import time

from multicast import BATCH, MEMSTORE
from rows import median

from rig import backends
from rig.keyvalue import pattern_service
from rig.multicast import namespace, pb, service, storm
from rig.prismd import Prismd
from rig.redis import RedisClient, RedisServer

NAMES = ["heartbeat-batch", "reconnect-storm"]
SLOWEST = 1000      # identities/s of a storm, at least: few take less than ten seconds


def offered(n):
    """Identities/s at which a storm of n is offered."""
    return max(SLOWEST, n // 10)


def redis_slot(stack):
    server = stack.enter_context(RedisServer())
    return server, {"backend": "redis", "config": {"address": server.address}}


def heartbeats(stack, rounds, n=20 * BATCH):
    """(ours, baseline) of each round, identities/s: batches of 1,000, one after the other, against a pipeline of as
    many EXPIREs on the same Redis."""
    redis, slot = redis_slot(stack)
    channel = stack.enter_context(stack.enter_context(Prismd(namespaces=[namespace(slot, MEMSTORE)],
                                                             log={"level": "warn"})).channel())
    host, _, port = redis.address.rpartition(":")
    registry, client = service(channel, timeout=60), stack.enter_context(RedisClient((host, int(port))))
    names = [[f"device-{i:08d}" for i in range(first, first + BATCH)] for first in range(0, n, BATCH)]
    for batch in names:
        registry.RegisterBatch(registrations=[{"identity": name, "ttl": {"seconds": 600}} for name in batch])
        for name in batch:
            client.call("SET", name, "v", "EX", "600")
    ours = [pb.HeartbeatRequest(items=[{"identity": name} for name in batch]) for batch in names]
    theirs = [b"".join(b"*3\r\n$6\r\nEXPIRE\r\n$%d\r\n%s\r\n$3\r\n600\r\n" % (len(name), name.encode())
                       for name in batch) for batch in names]

    def rate(one, batches):
        begin = time.monotonic()
        for batch in batches:
            one(batch)
        return n / (time.monotonic() - begin)

    def beat(batch):
        assert registry.Heartbeat(batch).alive_count == BATCH

    def expire(batch):
        client.socket.sendall(batch)
        assert client.file.read(BATCH * len(b":1\r\n")) == b":1\r\n" * BATCH

    rate(beat, ours)
    return [(rate(beat, ours), rate(expire, theirs)) for _ in range(rounds)]


def reconnects(stack, redis, n, rounds):
    """Seconds in which n identities have registered anew that were offered in ten, the slowest round; and (ours,
    baseline) of each round, seconds: p99 of reads of a key at that prismd meanwhile, and while another prismd has the
    same storm."""
    servers = [stack.enter_context(Prismd(namespaces=[namespace(redis_slot(stack)[1] if redis else MEMSTORE, MEMSTORE),
                                                      backends.keyvalue(MEMSTORE)], log={"level": "warn"}))
               for _ in range(2)]
    keyvalue = pattern_service(stack.enter_context(servers[0].channel()))
    keyvalue.Store(key="k", value=b"v")

    def beside(server):
        with subprocess.Popen(storm(server.address, n, "--rps", str(offered(n))), stdout=subprocess.PIPE,
                              text=True) as flood:
            took = []
            while not select.select([flood.stdout], [], [], 0)[0] or len(took) < 100:
                begin = time.monotonic()
                assert keyvalue.Retrieve(key="k").found
                took.append(time.monotonic() - begin)
            report = json.load(flood.stdout)
        assert report["statusCodeDistribution"] == {"OK": n}, report["statusCodeDistribution"]
        return sorted(took)[len(took) * 99 // 100], report["total"] / 1e9

    beside(servers[0])
    pairs, slowest = [], 0
    for _ in range(rounds):
        usual, _ = beside(servers[1])
        then, seconds = beside(servers[0])
        pairs.append((then, usual))
        slowest = max(slowest, seconds)
    return slowest, pairs


def measure(rows, options, *_):
    """All rows of this file."""
    result = rows.measure("heartbeat-batch", lambda stack: heartbeats(stack, options.rounds))
    if result:
        rows.add("heartbeat-batch", "redis", "identities/s", 0.8, "batches of 1,000; a pipeline of as many EXPIREs",
                 median(result), at_least=True)
    for part in ("memstore", "redis"):
        result = rows.measure("reconnect-storm", lambda stack, part=part: reconnects(
            stack, part == "redis", options.targets, options.rounds))
        if result:
            rows.state("reconnect-storm", part, "s", 12, f"{options.targets} register anew, offered in "
                       f"{options.targets // offered(options.targets)} s", result[0])
            rows.add("reconnect-storm", part, "s p99", 5, "a read meanwhile; while another prismd has that storm",
                     median(result[1]))
