"""Multicasts through prismd: figures for messaging.py."""
import json
import os
import re
import subprocess
import time
import unittest

from rows import median

from rig import environment, suite
from rig.multicast import messages, namespace, pb, service, struct, where
from rig.nats import NatsServer
from rig.prismd import Prismd

MEMSTORE = {"backend": "memstore", "config": {}}
PAYLOAD = b"p" * 128
BATCH = 1000
SUBSCRIBERS = 200
FIELDS = {"city": "Oslo", "level": 3, "beta": True, "team": "blue", "score": 1.5}
WORK = 300000           # targets of one measurement
LISTENED = 10000        # targets, while somebody else receives


def cpu_seconds(pid):
    """User and system time of another process: what clock_getcpuclockid(3) gives."""
    return time.clock_gettime((~pid << 3) | 2)


class Registry:
    """prismd with n identities of five fields each."""

    def __init__(self, stack, messaging, n):
        self.server = stack.enter_context(Prismd(namespaces=[namespace(MEMSTORE, messaging)], log={"level": "warn"}))
        self.channel = stack.enter_context(self.server.channel())
        self.registry, self.n = service(self.channel, timeout=300), n
        for first in range(0, n, BATCH):
            answer = self.registry.RegisterBatch(registrations=[
                pb.RegisterRequest(identity=f"device-{i:08d}", metadata=struct(**FIELDS))
                for i in range(first, min(n, first + BATCH))])
            assert all(r.success for r in answer.results), answer

    def multicast(self, filter_=None):
        answer = self.registry.Multicast(filter=filter_, payload=PAYLOAD, results=pb.RESULTS_NONE, timeout_ms=240000)
        assert answer.target_count == self.n and answer.failed_count == 0, answer

    def cost(self, filter_=None):
        """CPU us of prismd for each target, of enough multicasts to be measured, after one that is not."""
        self.multicast(filter_)
        times = max(1, WORK // self.n)
        begin = cpu_seconds(self.server.pid)
        for _ in range(times):
            self.multicast(filter_)
        return (cpu_seconds(self.server.pid) - begin) / times / self.n * 1e6


def resident(process):
    return int(process.status("VmHWM").split()[0]) * 1024


def in_process(stack, n, rounds, flow, somebody_listens=False):
    """(ours, baseline) of each round: equality on one of five fields, queues without a receiver; and how many bytes
    the peak of resident memory grew. A stream of somebody else is all it takes that each target is asked for."""
    registry = Registry(stack, MEMSTORE, n)
    wanted = where(city="Oslo")
    if somebody_listens:
        stream = registry.registry.Subscribe(identities=["elsewhere"], timeout=600)
        stack.callback(stream.cancel)
        next(stream)
    before = registry.server.process.resident_bytes()
    pairs = [(registry.cost(wanted), flow("copy", "-", str(n), max(5 * n, WORK)).client) for _ in range(rounds)]
    return pairs, resident(registry.server.process) - before


def resident_each(stack, n):
    """Bytes of prismd for each of n registered identities of five fields, beyond those of the first thousand."""
    few = Registry(stack, MEMSTORE, BATCH).server.process.resident_bytes()
    return (Registry(stack, MEMSTORE, n).server.process.resident_bytes() - few) / (n - BATCH)


def filter_cost(program):
    """(instructions, nanoseconds, allocations) of one evaluation: equality on one of five fields."""
    few, many, totals = 10000, 50000, []
    for n in (few, many):
        out = os.path.join(suite.subfolder("filter"), "callgrind.out")
        try:
            subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", program, str(n)], check=True,
                           capture_output=True)
        except FileNotFoundError as error:
            raise unittest.SkipTest("valgrind is not installed") from error
        with open(out, encoding="utf-8") as lines:
            totals.append(int(re.findall(r"^totals: (\d+)", lines.read(), re.M)[-1]))
    timed = json.loads(subprocess.run([program], check=True, capture_output=True, text=True).stdout)
    return (totals[1] - totals[0]) / (many - few), timed["ns"], timed["allocations"]


def over_nats(stack, n, rounds, flow):
    """The same over NATS, against nats.c that publishes as many messages."""
    nats = stack.enter_context(NatsServer())
    registry = Registry(stack, {"backend": "nats", "config": {"address": nats.address}}, n)
    return [(registry.cost(), flow("publish-nats", nats.address, "t", WORK).client) for _ in range(rounds)]


def delivered(stack, rounds, shared, start_echo, flow):
    """For one delivery: each subscriber on a stream of its own, or all on one stream; against a bare stream whose
    messages are written one by one."""
    registry = Registry(stack, MEMSTORE, SUBSCRIBERS)
    names = [f"device-{i:08d}" for i in range(SUBSCRIBERS)]
    streams = [registry.registry.Subscribe(identities=part, timeout=600)
               for part in ([names] if shared else [[n] for n in names])]
    for one in streams:
        next(one)
    pairs, times = [], 20
    echo, address = start_echo(stack)
    for _ in range(rounds):
        begin = cpu_seconds(registry.server.pid)
        for _ in range(times):
            registry.multicast()
            for one in streams:
                messages(one, 1)
        ours = (cpu_seconds(registry.server.pid) - begin) / times / SUBSCRIBERS * 1e6
        pairs.append((ours, flow("pass-single", address, "t", 20000, echo.pid).prismd))
    for one in streams:
        one.cancel()
    return pairs


NAMES = ["filter", "registry-memory", "multicast-inprocess", "multicast-memory", "multicast-nats", "multicast-deliver"]


def measure(rows, options, start_echo, flow):
    """All rows of this file."""
    sizes = [n for n in (1000, 10000, 100000, 1000000) if n <= options.targets]
    result = rows.measure("filter", lambda _: filter_cost(environment.ours("prism-filter-bench")))
    if result:
        for part, unit, bound, value in zip(("instructions", "cpu", "allocations"), ("instructions", "ns", ""),
                                            (80, None, 0), result):
            rows.state("filter", part, unit, bound, "one equality on a document of 5 fields", value)
    for n in sizes[1:]:
        result = rows.measure("registry-memory", lambda stack, n=n: resident_each(stack, n))
        if result:
            rows.state("registry-memory", f"{n}", "bytes/identity", None, "5 fields, registered on memstore", result)
    costs, growth = [], 0
    for n in sizes:
        result = rows.measure("multicast-inprocess", lambda stack, n=n: in_process(stack, n, options.rounds, flow))
        if result:
            costs.append(result[0])
            growth = max(growth, result[1])
            rows.add("multicast-inprocess", f"{n}", "us/target", 1.5,
                     "equality on 1 of 5 fields; a loop that copies 128 bytes", median(result[0]))
    result = LISTENED in sizes and rows.measure(
        "multicast-inprocess", lambda stack: in_process(stack, LISTENED, options.rounds, flow, True))
    if result:
        rows.add("multicast-inprocess", f"{LISTENED}, listens", "us/target", 1.5,
                 "likewise, while one stream receives for somebody else", median(result[0]))
    if costs:
        rows.add("multicast-inprocess", "flat", "us/target", 1.5, f"{sizes[-1]} targets against {sizes[0]}",
                 median([(b[0], a[0]) for a, b in zip(costs[0], costs[-1])]))
        rows.state("multicast-memory", f"{sizes[-1]}", "MiB", 32, "growth of prismd's peak of resident memory",
                   growth / 2**20)
    result = rows.measure("multicast-nats", lambda stack: over_nats(stack, 10000, options.rounds, flow))
    if result:
        rows.add("multicast-nats", "", "us/target", 2.5, "10,000 targets over NATS; nats.c publishes as many",
                 median(result))
    for part, bound in (("own", 0.25), ("shared", 0.08)):
        result = rows.measure("multicast-deliver", lambda stack, part=part: delivered(
            stack, options.rounds, part == "shared", start_echo, flow))
        if result:
            rows.add("multicast-deliver", part, "us/delivery", bound,
                     f"{SUBSCRIBERS} receivers on {part} streams; a C-core stream, one message a write", median(result))
