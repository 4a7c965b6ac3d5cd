#!/usr/bin/env python3
"""Reads through prismd against the stores' own clients, on the same store in one run; a session beside a key.

    scripts/bench-storage.sh [--only A,B] [--rounds N] [--seconds S] [--output json] [--list]

One record for each part of each target, as `prism-bench ratios` prints them: the median of the ratios within rounds, in
each of which ours and the baselines take turns. A store that is not installed skips its rows and says so. CPU is user
and system time of a whole process by its POSIX CPU clock, while the load is measured. With two cores or more the store
has the first for itself, natively and under Prism; prismd shares the second with the load client. Sessions are compared
with keys on the same backend; there prismd has the first core.
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

from multicast import cpu_seconds

from rig import environment, session, suite
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from rig.redis import RedisServer
from rig.s3 import ACCESS, BUCKET, SECRET, S3Proxy

KEY_BYTES, VALUE_BYTES, IN_FLIGHT, WARM_LOADS = 16, 128, 64, 3


class Figures:
    """Of one load: items/s, and CPU in us for an item of the client (prismd or the native program) and of the store."""

    def __init__(self, items, seconds, client, store, others=0.0):
        self.rate, self.cpu, self.store = items / seconds, client / items * 1e6, store / items * 1e6
        self.others = others    # share of the machine that strangers used meanwhile


def cores():
    """(of the store, of the rest); None: there is but one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[:2] if len(allowed) > 1 else (None, None)


def pin(pid, core):
    """All threads that a process has by now; those that they start follow them."""
    for thread in os.listdir(f"/proc/{pid}/task") if core is not None else []:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), {core})


@contextlib.contextmanager
def proxy(conninfo, connections, core):
    """A bare gRPC server that answers Retrieve out of libpq's pipeline: (address, process)."""
    argv = [environment.ours("prism-baseline-bare-libpq"), "0", conninfo, str(connections)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        try:
            said = child.stdout.readline().split()
            if len(said) != 2 or said[0] != "listening":
                raise RuntimeError("prism-baseline-bare-libpq did not start")
            pin(child.pid, core)
            yield f"127.0.0.1:{said[1]}", child.pid
        finally:
            child.terminate()


class Bench:
    """A store with prismd in front of it, for all rounds."""
    keys, loads, natives = 0, [], []
    core = 1    # of prismd

    def others(self, _slot):
        """More namespaces."""
        return []

    def __init__(self, stack, seconds):
        self.seconds = seconds
        self.start(stack)
        slot = {"backend": self.name, **self.slot()}
        self.prismd = stack.enter_context(Prismd(log={"level": "warn"}, workers=1, namespaces=[
            {"name": "default", "pattern": "keyvalue", "slots": {"primary": slot}}, *self.others(slot)]))
        pin(self.prismd.pid, cores()[self.core])
        self.figures = {}
        self.load("store-batch", "--seconds", "0.1")    # stores all keys first
        self.filled()

    def filled(self):
        pass

    def target(self, load):
        """(operation, address, process) of a load."""
        return load, self.prismd.address, self.prismd.pid

    def load(self, operation, *options):
        """One run of prism-bench, which pins itself to the second core: its only result."""
        operation, address, pid = self.target(operation)
        argv = [environment.ours("prism-bench"), "run", "--server", address, "--pid", str(pid),
                "--operation", operation, "--in-flight", str(IN_FLIGHT), "--keys", str(self.keys), "--seconds",
                str(self.seconds), "--warmup", str(self.seconds / 4), "--output", "json", *options]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{operation}: {done.stderr}")
        return json.loads(done.stdout)["results"][0]

    def ours(self, operation):
        before = self.store_cpu()
        result = self.load(operation, "--no-preload")
        # Of the store's CPU a warm-up is part, which is a fifth of the load.
        store = self.store_used(before) * 0.8
        cpu = result["calls"] * result["server_cpu_us_per_call"] / 1e6
        # To prism-bench the store is one of the others.
        others = result["disturbance"] - store / result["seconds"] / os.cpu_count()
        return Figures(result["items"], result["seconds"], cpu, store, max(0.0, others))

    def theirs(self, command):
        argv, env = self.native(command)
        _, core = cores()
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        with subprocess.Popen([*pinned, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, env={**os.environ, **env}) as child:
            if child.stdout.readline() != "begin\n":
                raise RuntimeError(f"{command}: {child.stderr.read()}")
            before = self.store_cpu()
            child.stdin.write("\n")
            child.stdin.flush()
            line = child.stdout.readline().split()
            store = self.store_used(before)
            if child.wait() != 0 or len(line) != 6:
                raise RuntimeError(f"{command}: {child.stderr.read()}")
        return Figures(float(line[1]), float(line[3]), float(line[5]), store)

    def store_pids(self):
        return [self.store.process.pid]

    def store_cpu(self):
        used = {}
        for pid in self.store_pids():
            with contextlib.suppress(OSError):  # it has ended
                used[pid] = cpu_seconds(pid)
        return used

    def store_used(self, before):
        return sum(used - before.get(pid, 0) for pid, used in self.store_cpu().items())

    def round(self, number):
        steps = [(name, self.ours) for name in self.loads] + [(name, self.theirs) for name in self.natives]
        turn = number % len(steps)
        for name, run in steps[turn:] + steps[:turn]:
            self.figures.setdefault(name, []).append(run(name))


class Postgres(Bench):
    name, keys = "postgres", 100000
    loads, natives = ["retrieve", "retrieve-batch", "proxy", "memory"], ["get", "get-many"]
    connections = 2     # as many as prismd has by default

    def start(self, stack):
        self.store = stack.enter_context(PostgresServer())
        pin(self.store.process.pid, cores()[0])
        for child in self.store.children():
            pin(child, cores()[0])
        subprocess.run(self.native("fill")[0], check=True)
        bare = stack.enter_context(proxy(self.conninfo(), self.connections, cores()[1]))
        memory = stack.enter_context(Prismd(log={"level": "warn"}, workers=1, namespaces=[
            {"name": "default", "pattern": "keyvalue", "slots": {"primary": {"backend": "memstore"}}}]))
        pin(memory.pid, cores()[self.core])
        self.others_asked = {"proxy": ("retrieve", *bare), "memory": ("retrieve", memory.address, memory.pid),
                             "fill-memory": ("store-batch", memory.address, memory.pid)}

    def target(self, load):
        return self.others_asked.get(load) or super().target(load)

    def conninfo(self):
        return f"host=127.0.0.1 port={self.store.port} user=postgres dbname=postgres"

    def slot(self):
        return {"config": {"address": self.store.address, "username": "postgres", "database": "postgres",
                           "connections": self.connections}}

    def filled(self):
        self.store.sql("VACUUM ANALYZE prism.keyvalue")
        self.load("fill-memory", "--seconds", "0.1")

    def native(self, command):
        return [environment.ours("prism-baseline-libpq"), self.conninfo(), command, str(self.keys), str(KEY_BYTES),
                str(VALUE_BYTES), str(IN_FLIGHT), str(self.seconds), str(self.connections)], {}

    def store_pids(self):
        """Connections have a process each."""
        return [self.store.process.pid, *self.store.children()]


class S3(Bench):
    name, keys = "s3", 2000
    loads, natives = ["retrieve"], ["get"]

    def start(self, stack):
        self.store = stack.enter_context(S3Proxy())
        pin(self.store.process.pid, cores()[0])

    def slot(self):
        return {"emulate": ["keyvalue_batch"],
                "config": {"endpoint": f"http://{self.store.address}", "bucket": BUCKET, "force_path_style": True,
                           "access_key_id": ACCESS, "secret_access_key": SECRET}}

    def filled(self):
        """The server is a JVM, which compiles what is called often: the first seconds are not measured."""
        for run in range(2 * WARM_LOADS):
            (self.ours("retrieve") if run % 2 else self.theirs("get"))

    def native(self, _command):
        return [environment.ours("prism-baseline-curl"), f"http://{self.store.address}/{BUCKET}/prism/default/",
                str(self.keys), str(KEY_BYTES), str(VALUE_BYTES), str(IN_FLIGHT), str(self.seconds)], {
                    "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}


class Sessions(Bench):
    """Sessions with one value against keys. A read is a use: it moves the expiry once in a fraction of the TTL."""
    keys, sessions = 10000, 10000
    loads = ["retrieve", "store", "session-get", "session-create"]
    core = 0

    def others(self, slot):
        return [session.namespace(slot)]

    def filled(self):
        self.ids = os.path.join(self.prismd.folder, "ids")
        with self.prismd.channel() as channel, open(self.ids, "w", encoding="ascii") as f:
            service = session.service(channel)
            data = {"value": session.value(b"v" * VALUE_BYTES)}
            for i in range(self.sessions):
                f.write(service.CreateSession(metadata={"user_id": f"user-{i}"}, data=data).session_id + "\n")

    def load(self, operation, *options):
        return super().load(operation, "--session-ids", self.ids, *options) if operation == "session-get" else \
            super().load(operation, *options)


class MemStoreSessions(Sessions):
    name = "memstore"

    def start(self, stack):
        pass

    def slot(self):
        return {"config": {}}

    def store_pids(self):
        return []


class RedisSessions(Sessions):
    name = "redis"

    def start(self, stack):
        self.store = stack.enter_context(RedisServer())
        pin(self.store.process.pid, cores()[1])

    def slot(self):
        return {"config": {"address": self.store.address}}


BENCHES = {"postgres": Postgres, "s3": S3, "session-memstore": MemStoreSessions, "session-redis": RedisSessions}

RATE, CPU, STORE = ("items/s", "rate"), ("us/item", "cpu"), ("us/item", "store")

# name, part, bench, ours, baseline, (unit, figure), bound, note
TARGETS = [
    ("postgres-retrieve", "rate", "postgres", "retrieve", "get", RATE, 0.85, "Retrieve; libpq, pipelined SELECTs"),
    ("postgres-retrieve", "cpu", "postgres", "retrieve", "get", CPU, None, "prismd; the native client's process"),
    ("postgres-retrieve", "store", "postgres", "retrieve", "get", STORE, None, "CPU of postgres itself"),
    ("postgres-retrieve", "proxy", "postgres", "retrieve", "proxy", RATE, None,
     "Retrieve; a bare gRPC server in front of libpq's pipeline"),
    ("postgres-retrieve", "bare", "postgres", "proxy", "get", RATE, None,
     "the bare gRPC server; libpq, pipelined SELECTs without RPC"),
    ("postgres-retrieve", "memory", "postgres", "memory", "get", RATE, None,
     "Retrieve from memstore, where no store is asked; libpq, pipelined SELECTs"),
    ("postgres-retrieve", "bare-cpu", "postgres", "retrieve", "proxy", CPU, None, "prismd; the bare server's process"),
    ("postgres-batch", "rate", "postgres", "retrieve-batch", "get", RATE, 0.85,
     "RetrieveBatch(100); libpq, pipelined SELECTs of one key"),
    ("postgres-batch", "many", "postgres", "retrieve-batch", "get-many", RATE, 0.85,
     "RetrieveBatch(100); libpq, pipelined SELECTs of 100 keys"),
    ("postgres-batch", "cpu", "postgres", "retrieve-batch", "get-many", CPU, None,
     "prismd; the native client's process"),
    ("postgres-batch", "store", "postgres", "retrieve-batch", "get-many", STORE, None, "CPU of postgres itself"),
    ("s3-retrieve", "rate", "s3", "retrieve", "get", RATE, 0.85, "Retrieve; libcurl multi on epoll, AWS_SIGV4"),
    ("s3-retrieve", "cpu", "s3", "retrieve", "get", CPU, None, "prismd; the native client's process"),
    ("s3-retrieve", "store", "s3", "retrieve", "get", STORE, None, "CPU of the S3 server itself"),
    *(row for where in ("memstore", "redis") for row in (
        ("session-get", f"{where}", f"session-{where}", "session-get", "retrieve", CPU, None,
         "prismd: GetSession with one value; Retrieve of such a value"),
        ("session-create", f"{where}", f"session-{where}", "session-create", "store", CPU, None,
         "prismd: CreateSession with one value and a user; Store of such a value"))),
    ("session-get", "server", "session-redis", "session-get", "retrieve", STORE, None, "CPU of redis itself"),
    ("session-create", "server", "session-redis", "session-create", "store", STORE, None, "CPU of redis itself"),
]


def record(target, bench, error):
    name, part, _, ours, baseline, (unit, figure), bound, note = target
    row = {"name": name, "part": part, "unit": unit, "target": bound, "bound": "at least", "of": "ratio", "note": note}
    if error or bench is None:
        return {**row, "holds": None, "error": error}
    mine, theirs = ([getattr(f, figure) for f in bench.figures[what]] for what in (ours, baseline))
    ratios = sorted(a / b for a, b in zip(mine, theirs))
    ratio = statistics.median(ratios)
    return {**row, "ours": statistics.median(mine), "baseline": statistics.median(theirs), "ratio": ratio,
            "ratio_min": ratios[0], "ratio_max": ratios[-1], "rounds": len(ratios),
            "disturbance": max(f.others for f in bench.figures[ours]),
            "holds": None if bound is None else ratio >= bound}


def show(row):
    head = f"{row['name']:20}{row['part']:9}{row['unit']:9}"
    if row.get("error"):
        print(f"{head}not measured: {row['error']}")
        return
    bound = "-" if row["target"] is None else f">= {row['target']}x"
    verdict = {True: "holds", False: "FAILS", None: "-"}[row["holds"]]
    print(f"{head}{row['ours']:12.4g}{row['baseline']:12.4g}{row['ratio']:8.3f}  "
          f"{row['ratio_min']:.3f}..{row['ratio_max']:.3f}  {row['disturbance']:4.0%}  {bound:9}{verdict:7}"
          f"{row['note']}")


def run(name, options):
    """All rounds on one store. (bench, error)"""
    with contextlib.ExitStack() as stack:
        try:
            bench = BENCHES[name](stack, options.seconds)
            for number in range(options.rounds):
                print(f"{name}: round {number + 1}/{options.rounds}", file=sys.stderr)
                bench.round(number)
            return bench, ""
        except unittest.SkipTest as e:
            return None, str(e)
        except (RuntimeError, AssertionError, OSError, subprocess.CalledProcessError) as e:
            return None, str(e)[:300]


def main():
    parser = argparse.ArgumentParser(description="Reads through prismd against the stores' own clients.")
    parser.add_argument("--only", default="", help="these targets only, with commas between them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one load")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(dict.fromkeys(t[0] for t in TARGETS)))
        return 0
    wanted = [t for t in TARGETS if not options.only or t[0] in options.only.split(",")]
    rows, done = [], {}
    try:
        for target in wanted:
            if target[2] not in done:
                done[target[2]] = run(target[2], options)
            rows.append(record(target, *done[target[2]]))
    finally:
        shutil.rmtree(suite.folder(), ignore_errors=True)
    if options.output == "json":
        print(json.dumps(rows, indent=1))
    for row in rows if options.output == "table" else []:
        show(row)
    if any(row.get("disturbance", 0) > 0.1 for row in rows):
        print("others used more than a tenth of the machine meanwhile: to be repeated", file=sys.stderr)
    return 1 if any(row.get("error") for row in rows) and os.environ.get("PRISM_REQUIRE_ALL") else 0


if __name__ == "__main__":
    sys.exit(main())
