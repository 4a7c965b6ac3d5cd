#!/usr/bin/env python3
"""Messages through prismd against the brokers' own clients, on the same broker in the same run.

    scripts/bench-messaging.sh [--only A,B] [--rounds N] [--messages N] [--output json] [--list]

One record for each part of each target, as `prism-bench ratios` prints them: the median of the ratios within rounds, in
each of which ours and the baseline take turns. A broker that is not installed skips its rows and says so. CPU is user
and system time of a whole process by its POSIX CPU clock, while the flow is measured. Nothing is pinned: brokers have
several threads, and on two cores they share them with prismd and the client, natively as well.
"""
import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import unittest

import identities
import multicast
import presence
import queues
import subscriptions
from rows import Rows

from rig import environment, suite
from rig.kafka import KafkaServer
from rig.messaging import consumer, producer
from rig.nats import NatsServer
from rig.prismd import Prismd
from rig.process import Process, free_port
from rig.redis import RedisServer

PARTITIONS = 6
WHAT = {"memstore": 400000, "kafka": 400000, "kafka-keys": 200000, "nats": 400000, "jetstream": 60000,
        "redis-stream": 100000}


class Figures:
    """What one flow took: messages/s, and CPU in us per message of the client, of prismd, of the broker."""

    def __init__(self, n, seconds, client, prismd, broker):
        self.rate, self.client = n / seconds, client
        self.prismd, self.broker = prismd / n * 1e6, broker / n * 1e6


def flow(way, address, topic, count, prismd=None, broker=None):
    """One run of prism-flow."""
    pids = [p for p in (prismd, broker) if p]
    argv = [environment.ours("prism-flow"), way, address, topic, str(count)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as child:
        if child.stdout.readline() != "begin\n":
            raise RuntimeError(f"{way}: {child.stderr.read()}")
        before = {pid: multicast.cpu_seconds(pid) for pid in pids}
        child.stdin.write("\n")
        child.stdin.flush()
        line = child.stdout.readline().split()
        used = {pid: multicast.cpu_seconds(pid) - before[pid] for pid in pids}
        if child.wait() != 0 or len(line) != 6:
            raise RuntimeError(f"{way}: {child.stderr.read()}")
    return Figures(float(line[1]), float(line[3]), float(line[5]), used.get(prismd, 0), used.get(broker, 0))


class Bench:
    """A broker with prismd beside it, for all rounds. Each step of a round has a topic or a group of its own."""
    slot, broker, native = {}, None, None

    def __init__(self, stack, count):
        self.count, self.step = count, 0
        self.start(stack)
        slot = {"backend": self.name, "config": self.slot_config()}
        namespaces = [producer(slot), consumer(slot, max_in_flight=10000)]
        self.prismd = stack.enter_context(Prismd(namespaces=namespaces, log={"level": "warn"}))
        self.figures = {}

    def start(self, stack):
        pass

    def slot_config(self):
        return {}

    def fresh(self, _why):
        """A topic that does not exist yet, for both sides."""
        self.step += 1
        return f"bench-{self.step}"

    def ours(self, way, topic):
        return flow(way, self.prismd.address, topic, self.count, self.prismd.pid, self.pid())

    def theirs(self, way, topic):
        return flow(way, self.address(), topic, self.count, None, self.pid())

    def pid(self):
        return self.broker.process.pid

    def address(self):
        return self.broker.address

    def take(self, name, figures):
        self.figures.setdefault(name, []).append(figures)

    def round(self, number):
        pairs = [(f"publish-{self.native}", self.publish), (f"consume-{self.native}", self.consume)]
        for _, run in pairs:
            for ours in ((True, False) if number % 2 else (False, True)):
                run(ours)

    def publish(self, ours):
        topic = self.fresh("publish")
        self.take("publish ours" if ours else "publish native",
                  self.ours("publish-prism", topic) if ours else self.theirs(f"publish-{self.native}", topic))
        self.forget(topic)

    def consume(self, ours):
        if "consume ours" not in self.figures and "consume native" not in self.figures:
            self.log = self.fresh("consume")
            self.theirs(f"publish-{self.native}", self.log)
        self.step += 1
        group = f"{self.log}/g{self.step}"
        self.take("consume ours" if ours else "consume native",
                  self.ours("consume-prism", group) if ours else self.theirs(f"consume-{self.native}", group))

    def forget(self, topic):
        pass


class Kafka(Bench):
    name = native = "kafka"
    partitions = PARTITIONS

    def start(self, stack):
        self.broker = stack.enter_context(KafkaServer())

    def slot_config(self):
        return {"brokers": self.broker.address}

    def fresh(self, why):
        topic = super().fresh(why)
        self.broker.create_topic(topic, self.partitions)
        return topic

    def forget(self, topic):
        self.broker.delete_topic(topic)


class KafkaKeys(Kafka):
    """Order per key, and each message acknowledged by its number, the newest first."""
    partitions = 12

    def round(self, number):
        if number == 0:
            self.log = self.fresh("consume")
            self.theirs("publish-kafka-keys", self.log)
        for ours in ((True, False) if number % 2 else (False, True)):
            self.step += 1
            group = f"{self.log}/g{self.step}"
            self.take("consume ours" if ours else "consume native",
                      self.ours("consume-prism-key", group) if ours else self.theirs("consume-kafka", group))


class JetStream(Bench):
    name = native = "jetstream"

    def start(self, stack):
        self.broker = stack.enter_context(NatsServer())

    def slot_config(self):
        return {"address": self.broker.address, "create_streams": True}

    def fresh(self, why):
        """prismd makes the stream for the first message."""
        topic = super().fresh(why)
        flow("publish-prism", self.prismd.address, topic, 500)
        return topic


class RedisStream(Bench):
    name, native = "redis-stream", "redis"

    def start(self, stack):
        self.broker = stack.enter_context(RedisServer())

    def slot_config(self):
        return {"address": self.broker.address}

    def forget(self, topic):
        self.broker.call("DEL", topic)


class Nats(Bench):
    name = native = "nats"

    def start(self, stack):
        self.broker = stack.enter_context(NatsServer())

    def slot_config(self):
        return {"address": self.broker.address}

    def round(self, number):
        for ours in ((True, False) if number % 2 else (False, True)):
            self.publish(ours)


class MemStore(Bench):
    """From publish to consume through prismd, against a C-core stream that hands the same frames back."""
    name = "memstore"

    def start(self, stack):
        self.echo, self.echo_address = start_echo(stack)

    def round(self, number):
        for ours in ((True, False) if number % 2 else (False, True)):
            if ours:
                self.take("pass ours", flow("pass-prism", self.prismd.address, self.fresh(""), self.count,
                                            self.prismd.pid))
            else:
                self.take("pass native", flow("pass-echo", self.echo_address, "t", self.count, self.echo.pid))


PARTS = [multicast, subscriptions, identities, presence, queues]     # rows with servers of their own
BENCHES = {"kafka": Kafka, "kafka-keys": KafkaKeys, "jetstream": JetStream, "redis-stream": RedisStream, "nats": Nats,
           "memstore": MemStore}

RATE = ("messages/s", lambda f: f.rate, lambda f: f.rate)
CPU = ("us/message", lambda f: f.prismd, lambda f: f.client)

# name, part, bench, what, (unit, ours, baseline), bound, at least, note
TARGETS = [
    ("publish-kafka", "", "kafka", "publish", RATE, 0.85, True, "PublishStream, frames of 100; librdkafka, batches"),
    ("publish-jetstream", "", "jetstream", "publish", RATE, 0.85, True, "js_PublishAsync, window 4000, with ids"),
    ("publish-redis-stream", "", "redis-stream", "publish", RATE, 0.85, True, "hiredis XADD, 256 in flight"),
    ("publish-cpu-kafka", "", "kafka", "publish", CPU, 1.3, False, "prismd against the native client's process"),
    ("publish-cpu-nats", "", "nats", "publish", CPU, 2.0, False, "prismd against the native client's process"),
    ("publish-cpu-jetstream", "", "jetstream", "publish", CPU, 1.15, False, "the same"),
    ("publish-cpu-redis-stream", "", "redis-stream", "publish", CPU, None, False, "stated; no bound"),
    ("consume-kafka", "", "kafka", "consume", RATE, 0.85, True, "Consume; librdkafka, batches, automatic commit"),
    ("consume-jetstream", "", "jetstream", "consume", RATE, 0.85, True, "nats.c pull of 500, each acknowledged"),
    ("consume-redis-stream", "", "redis-stream", "consume", RATE, None, True, "hiredis XREADGROUP 500, one XACK"),
    ("consume-cpu-kafka", "", "kafka", "consume", CPU, None, False, "prismd against the native client's process"),
    ("consume-cpu-jetstream", "", "jetstream", "consume", CPU, None, False, "the same"),
    ("consume-cpu-redis-stream", "", "redis-stream", "consume", CPU, None, False, "the same"),
    ("consume-per-key", "", "kafka-keys", "consume", RATE, 0.8, True, "12 partitions, 8,192 keys, acknowledged singly"),
    ("consume-per-key", "cpu", "kafka-keys", "consume", CPU, None, False, "prismd against the native client's process"),
    ("jetstream-share", "publish", "jetstream", "publish", ("us/message", lambda f: f.prismd, lambda f: f.broker), 0.25,
     False, "prismd against nats-server in the native run"),
    ("jetstream-share", "consume", "jetstream", "consume", ("us/message", lambda f: f.prismd, lambda f: f.broker), 0.25,
     False, "prismd against nats-server in the native run"),
    ("pass-memstore", "rate", "memstore", "pass", RATE, None, True, "publish to consume; a C-core stream echo"),
    ("pass-memstore", "cpu", "memstore", "pass", ("us/message", lambda f: f.prismd, lambda f: f.prismd), None, False,
     "the same, CPU of the servers"),
]


def record(target, bench, error):
    name, part, _, what, (unit, ours_of, theirs_of), bound, at_least, note = target
    row = {"name": name, "part": part, "unit": unit, "target": bound, "bound": "at least" if at_least else "at most",
           "of": "ratio", "note": note}
    if error or bench is None:
        return {**row, "holds": None, "error": error}
    ours = [ours_of(f) for f in bench.figures[f"{what} ours"]]
    theirs = [theirs_of(f) for f in bench.figures[f"{what} native"]]
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    ratio = statistics.median(ratios)
    holds = None if bound is None else (ratio >= bound if at_least else ratio <= bound)
    return {**row, "ours": statistics.median(ours), "baseline": statistics.median(theirs), "ratio": ratio,
            "ratio_min": ratios[0], "ratio_max": ratios[-1], "rounds": len(ratios), "holds": holds}


def start_echo(stack, *more):
    """The bare stream server: (process, address)."""
    port = free_port()
    echo = Process("echo", [environment.ours("prism-baseline-stream"), str(port), *more], suite.subfolder("echo"))
    stack.callback(echo.kill)
    return echo, f"127.0.0.1:{port}"


def show(row):
    head = f"{row['name']:25}{row['part']:9}{row['unit']:12}"
    if row.get("error"):
        print(f"{head}not measured: {row['error']}")
        return
    sign, unit = ">=" if row["bound"] == "at least" else "<=", "x" if row["of"] == "ratio" else ""
    bound = "-" if row["target"] is None else f"{sign} {row['target']}{unit}"
    verdict = {True: "holds", False: "FAILS", None: "-"}[row["holds"]]
    print(f"{head}{row['ours']:12.4g}{row['baseline']:12.4g}{row['ratio']:8.3f}  "
          f"{row['ratio_min']:.3f}..{row['ratio_max']:.3f}  {bound:9}{verdict:7}{row['note']}")


def run(name, options):
    """All rounds on one backend. (bench, error)"""
    with contextlib.ExitStack() as stack:
        try:
            bench = BENCHES[name](stack, int(WHAT[name] * options.scale) // 500 * 500)
            for number in range(options.rounds):
                print(f"{name}: round {number + 1}/{options.rounds}", file=sys.stderr)
                bench.round(number)
            return bench, ""
        except unittest.SkipTest as e:
            return None, str(e)
        except (RuntimeError, AssertionError, OSError) as e:
            return None, str(e)[:300]


def main():
    parser = argparse.ArgumentParser(description="Messages through prismd against the brokers' own clients.")
    parser.add_argument("--only", default="", help="these targets only, with commas between them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of messages")
    parser.add_argument("--targets", type=int, default=100000, help="of a multicast, at most; 1000000 takes minutes")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join([*dict.fromkeys(t[0] for t in TARGETS),
                         *(name for part in PARTS for name in part.NAMES)]))
        return 0
    wanted = [t for t in TARGETS if not options.only or t[0] in options.only.split(",")]
    rows, done = [], {}
    try:
        for target in wanted:
            if target[2] not in done:
                done[target[2]] = run(target[2], options)
            rows.append(record(target, *done[target[2]]))
        others = Rows(options.only.split(",") if options.only else ())
        for part in PARTS:
            part.measure(others, options, start_echo, flow)
        rows.extend(others.rows)
    finally:
        shutil.rmtree(suite.folder(), ignore_errors=True)
    if options.output == "json":
        print(json.dumps(rows, indent=1))
    for row in rows if options.output == "table" else []:
        show(row)
    return 1 if any(row.get("error") for row in rows) and os.environ.get("PRISM_REQUIRE_ALL") else 0


if __name__ == "__main__":
    sys.exit(main())
