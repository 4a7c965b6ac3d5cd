"""Identities: what it costs to be attached, to be reached and to be found: figures for messaging.py."""
import contextlib
import queue
import socket
import time

import grpc

from multicast import FIELDS, MEMSTORE, PAYLOAD, cpu_seconds
from rows import median

from rig import wait
from rig.multicast import filters, namespace, pb, service, struct, where
from rig.nats import NatsServer
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from rig.redis import RedisServer

NAMES = ["shared-identity", "dedicated-identity", "deliver-shared", "deliver-own", "filter-walk"]
BATCH = 1000
ON_A_STREAM = 10000         # identities, of a shared one
CHANNELS = 10
SHARED, OWN = 1000, 500     # receivers
SHARDS = 100
FEWEST = 20000      # identities: of few, the planner has no need of an index
LIMITS = {"connection_share_percent": 100}


def serve(stack, registry, **settings):
    return stack.enter_context(Prismd(namespaces=[namespace(registry, MEMSTORE, **settings)], log={"level": "warn"},
                                      limits=LIMITS))


def names(n, first=0):
    return [f"device-{i:08d}" for i in range(first, first + n)]


def attach(stack, services, parts):
    """A Subscribe stream for each list of identities, when all of them stand."""
    streams = [services[i % len(services)].Subscribe(identities=part) for i, part in enumerate(parts)]
    for one in streams:
        stack.callback(one.cancel)
        next(one)
    return streams


def receive(stream, n):
    """Waits for n deliveries. One message names all of its identities that the stream receives for."""
    while n > 0:
        n -= sum(max(1, len(message.identities)) for message in next(stream).messages)


def services_of(stack, server, n):
    return [service(stack.enter_context(server.channel()), timeout=600) for _ in range(n)]


# ---- bytes of those who wait ----

def shared_identity(stack, n):
    """Bytes of prismd for each of n identities on n / 10,000 streams."""
    server = serve(stack, MEMSTORE)
    services = services_of(stack, server, CHANNELS)
    attach(stack, services, [names(1, n)])
    before = server.process.resident_bytes()
    attach(stack, services, [names(ON_A_STREAM, i) for i in range(0, n, ON_A_STREAM)])
    return (server.process.resident_bytes() - before) / n


def dedicated_identity(stack, n, start_echo):
    """(bytes of prismd for each of n streams with one identity, bytes of a bare server for a stream)."""
    server = serve(stack, MEMSTORE)
    services = services_of(stack, server, CHANNELS)
    attach(stack, services, [[name] for name in names(CHANNELS, n)])
    before = server.process.resident_bytes()
    attach(stack, services, [[name] for name in names(n)])
    ours = (server.process.resident_bytes() - before) / n
    echo, address = start_echo(stack, "many")
    methods = [stack.enter_context(grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]))
               .stream_stream("/prism.baseline.Echo/Stream") for _ in range(CHANNELS)]

    def hold(count):
        calls = [methods[i % CHANNELS](iter(queue.Queue().get, None), wait_for_ready=True) for i in range(count)]
        for call in calls:
            stack.callback(call.cancel)
            call.initial_metadata()
            assert call.is_active()
    hold(CHANNELS)
    before = echo.resident_bytes()
    hold(n)
    return ours, (echo.resident_bytes() - before) / n


# ---- CPU of a delivery ----

class NatsReceivers:
    """Subscriptions to one subject, of raw connections: on one, or one on each."""

    def __init__(self, stack, n, shared):
        self.nats, self.n = stack.enter_context(NatsServer()), n
        self.sockets = [stack.enter_context(self.connect()) for _ in range(1 if shared else n)]
        self.each = n // len(self.sockets)
        for one in self.sockets:
            one.sendall(b"".join(b"SUB t %d\r\n" % (i + 1) for i in range(self.each)) + b"PING\r\n")
            self.read(one, lambda got: got.endswith(b"PONG\r\n"))
        self.publisher = stack.enter_context(self.connect())
        self.bytes = sum(len(b"MSG t %d %d\r\n%s\r\n" % (i + 1, len(PAYLOAD), PAYLOAD)) for i in range(self.each))

    def connect(self):
        one = socket.create_connection(("127.0.0.1", self.nats.port), timeout=60)
        one.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        self.read(one, lambda got: got.endswith(b"PONG\r\n"))
        return one

    @staticmethod
    def read(one, enough):
        got = b""
        while not enough(got):
            piece = one.recv(1 << 20)
            assert piece, "nats-server has closed a connection"
            got += piece

    def cost(self, times):
        """CPU us of nats-server for a message to a receiver."""
        begin = cpu_seconds(self.nats.process.pid)
        for _ in range(times):
            self.publisher.sendall(b"PUB t %d\r\n%s\r\n" % (len(PAYLOAD), PAYLOAD))
            for one in self.sockets:
                self.read(one, lambda got: len(got) >= self.bytes)
        return (cpu_seconds(self.nats.process.pid) - begin) / times / self.n * 1e6


def deliver(stack, n, shared, rounds, times):
    """For a message to an identity: (CPU us of prismd, of nats-server)."""
    server = serve(stack, MEMSTORE)
    services = services_of(stack, server, 1 if shared else n)
    answer = services[0].RegisterBatch(registrations=[pb.RegisterRequest(identity=name) for name in names(n)])
    assert all(r.success for r in answer.results), answer
    streams = attach(stack, services, [names(n)] if shared else [[name] for name in names(n)])
    theirs, pairs = NatsReceivers(stack, n, shared), []

    def ours():
        begin = cpu_seconds(server.pid)
        for _ in range(times):
            answer = services[0].Multicast(payload=PAYLOAD, results=pb.RESULTS_NONE)
            assert answer.delivered_count == n, answer
            for one in streams:
                receive(one, n // len(streams))
        return (cpu_seconds(server.pid) - begin) / times / n * 1e6
    ours()
    theirs.cost(times)
    for number in range(rounds):
        figures = [run() for run in ((ours, lambda: theirs.cost(times)) if number % 2 else
                                     (lambda: theirs.cost(times), ours))]
        pairs.append(tuple(figures if number % 2 else reversed(figures)))
    return pairs


# ---- filter-walk ----

def filter_walk(stack, name, n, rounds):
    """([(us of an identity of n, of which one in a hundred matches: by a filter for the backend, by one that is
    evaluated here)], scans of Postgres' index meanwhile)."""
    if name == "postgres":
        store = stack.enter_context(PostgresServer())
        slot = {"backend": name, "config": {"address": store.address, "username": "postgres", "database": "postgres"}}
    else:
        store = stack.enter_context(RedisServer())
        slot = {"backend": name, "config": {"address": store.address}}
    registry = services_of(stack, serve(stack, slot), 1)[0]
    for first in range(0, n, BATCH):
        answer = registry.RegisterBatch(registrations=[
            pb.RegisterRequest(identity=name, metadata=struct(shard=f"s{i % SHARDS:02d}", **FIELDS))
            for i, name in enumerate(names(BATCH, first), first)])
        assert all(r.success for r in answer.results), answer
    regex = filters.Filter(field=filters.FieldFilter(field="shard", op=filters.REGEX))
    regex.field.value.string_value = "^s07"

    def cost(wanted):
        begin = time.monotonic()
        answer = registry.Enumerate(filter=wanted, count_only=True)
        assert answer.match_count == n // SHARDS, answer
        return (time.monotonic() - begin) / n * 1e6

    def scans():
        """Backends write down what they did when they have had nothing to do for a second."""
        return name == "postgres" and int(store.sql("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname ="
                                                    " 'identities_facts'"))
    if name == "postgres":
        store.sql("ANALYZE")
    cost(where(shard="s07"))
    cost(regex)
    pairs = [(cost(where(shard="s07")), cost(regex)) for _ in range(rounds)]
    with contextlib.suppress(AssertionError):   # then none was seen
        wait.until(lambda: name == "redis" or scans() > 0, 10, "the index is used")
    return pairs, scans()


def measure(rows, options, start_echo, _flow):
    """All rows of this file."""
    n, rounds = max(ON_A_STREAM, options.targets), options.rounds
    result = rows.measure("shared-identity", lambda stack: shared_identity(stack, n))
    if result:
        rows.state("shared-identity", f"{n}", "bytes", 400, f"on {n // ON_A_STREAM} streams", result)
    few = max(100, int(1000 * options.scale))
    pairs = rows.measure("dedicated-identity", lambda stack: [dedicated_identity(stack, few, start_echo)
                                                              for _ in range(rounds)])
    if pairs:
        rows.add("dedicated-identity", "ratio", "bytes", 1.3, "an idle Subscribe stream; a bare C-core stream",
                 median(pairs))
        rows.state("dedicated-identity", "bytes", "bytes", 16384, "the same", median(pairs)["ours"])
    for name, receivers, bound in (("deliver-shared", SHARED, 0.5), ("deliver-own", OWN, 2.0)):
        shared = name == "deliver-shared"
        pairs = rows.measure(name, lambda stack, s=shared, r=receivers: deliver(
            stack, r, s, rounds, max(1, int((200 if s else 40) * options.scale))))
        if pairs:
            rows.add(name, "", "us/delivery", bound, f"{receivers} receivers on one connection; nats-server" if shared
                     else f"{receivers} receivers, each with a connection; nats-server", median(pairs))
    for name in ("redis", "postgres"):
        result = rows.measure("filter-walk", lambda stack, b=name: filter_walk(
            stack, b, max(FEWEST, options.targets), rounds))
        if result:
            rows.add("filter-walk", name, "us/identity", None, "an equality that 1 % match; a regex, evaluated here",
                     median(result[0]))
        if result and name == "postgres":
            rows.state("filter-walk", "index", "scans", 1, "of the GIN index meanwhile", result[1], at_least=True)
