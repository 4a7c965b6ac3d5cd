#!/usr/bin/env python3
"""Delivered = reported: the load test of the seed's memo on real Redis and NATS, with receivers that count.

    scripts/delivery-proof.sh                       # 60 s to 3,000 identities, then 100,000, then disturbances
    scripts/delivery-proof.sh --seconds 10 --many 20000

What is proved, and how:
- Two instances share one Redis registry. Registrations go to the one, enumerations and multicasts to the other.
- A client of NATS that knows nothing of Prism listens to every topic. For each multicast it has got exactly the
  identities that the response reported as DELIVERED: their number, the sum and the sum of squares of their numbers.
- Receivers through Prism, on both instances, get each multicast for exactly those of their identities that it reported,
  on the one stream that they attached by: nothing excuses a missing one.
- The same with messages that are kept (durability: redis-stream), while NATS is killed and restarted, one instance is
  drained and replaced, and the other one goes on: each message that was reported as PENDING is received and confirmed.
Times are exact, not bucketed; the memo's figures stand beside them.
"""
import argparse
import collections
import random
import re
import shutil
import socket
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import grpc

from rig import environment, suite, wait
from rig.messaging import Stream
from rig.multicast import namespace, pb, service, struct, where
from rig.nats import NatsServer
from rig.prismd import Prismd
from rig.redis import RedisServer
from prism.patterns.schemas import slot_schema_pb2 as schemas

RATE, MIX, TTL = 100, {"Register": 50, "Enumerate": 30, "Multicast": 20}, 300
WATCHED, PAYLOAD, NO_DEADLINE = 300, b"x" * 64, 24 * 3600    # seconds, longer than any run
# The memo's own run (60 s): milliseconds of the average and the maximum; its multicasts delivered 91.79 %.
MEMO = {"Register": (1.411, 96.195), "Enumerate": (0.393, 70.654), "Multicast": (2429.0, 56027.0)}
PREFIX = b"prism.multicast.id-"


class Sums:
    """A set of numbers by count, sum and sum of squares: two sets of different numbers hardly agree."""

    def __init__(self, numbers=()):
        self.n = self.sum = self.squares = 0
        for number in numbers:
            self.add(number)

    def add(self, number):
        self.n, self.sum, self.squares = self.n + 1, self.sum + number, self.squares + number * number

    def __eq__(self, other):
        return (self.n, self.sum, self.squares) == (other.n, other.sum, other.squares)

    def __repr__(self):
        return f"{self.n} ({self.sum}, {self.squares})"


def number_of(identity):
    return int(identity[3:])


class Direct(threading.Thread):
    """A client of NATS of a few lines: for each message id, what arrived."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.got = collections.defaultdict(Sums)
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb", 1 << 20)
        self.socket.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB prism.multicast.> 1\r\nPING\r\n')
        while self.file.readline() != b"PONG\r\n":
            pass
        self.start()

    def run(self):
        try:
            while line := self.file.readline():
                if line.startswith(b"HMSG "):
                    words = line.split()
                    head, size = int(words[-2]), int(words[-1])
                    data = self.file.read(size + 2)
                    at = data.index(b"Nats-Msg-Id:", 0, head) + 12
                    identifier = data[at:data.index(b"\r\n", at)].strip().decode()
                    self.got[identifier].add(int(words[1][len(PREFIX):]))
                elif line == b"PING\r\n":
                    self.socket.sendall(b"PONG\r\n")
        except OSError:
            pass


class Receiver(threading.Thread):
    """Attaches for some identities through Prism, confirms what it gets, and attaches again when it has to."""

    def __init__(self, server, numbers, kept):
        super().__init__(daemon=True)
        self.server, self.numbers, self.kept = server, numbers, kept    # server(): the one to attach to now
        self.got = collections.defaultdict(set)
        self.again, self.ready = collections.Counter(), threading.Event()    # why it attached anew
        self.dropped, self.stopped = 0, False
        self.start()

    def run(self):
        while not self.stopped:
            with self.server().channel() as channel:
                try:
                    self.receive(service(channel))
                except grpc.RpcError as error:
                    if not self.stopped:
                        self.again[f"{error.code().name}: {error.details()}"] += 1
                    time.sleep(wait.STEP)

    def receive(self, registry):
        with Stream(registry.Attach, timeout=NO_DEADLINE) as stream:
            self.stream = stream
            mode = schemas.ACK_MANUAL if self.kept else schemas.ACK_MODE_UNSPECIFIED
            names = [f"id-{n:06}" for n in self.numbers]
            stream.send(pb.AttachRequest(attach={"identities": names}, ack_mode=mode))
            for frame in stream.answers:
                self.dropped += frame.dropped_count
                if frame.attached_count == len(names):
                    self.ready.set()
                for message in frame.messages:
                    self.got[message.message_id] |= {number_of(i) for i in message.identities}
                if self.kept and frame.messages:
                    stream.send(pb.AttachRequest(acknowledge={"through": frame.messages[-1].sequence}))

    def stop(self):
        self.stopped = True
        self.stream.answers.cancel()


class Load:
    """The mix, at a fixed rate, by many threads."""

    def __init__(self, register, other, kept=False):
        self.clients = {"Register": register, "Enumerate": other, "Multicast": other}
        self.kept, self.random, self.lock = kept, random.Random(42), threading.Lock()
        self.next, self.times, self.failures = 0, collections.defaultdict(list), collections.Counter()
        self.reported = {}     # multicast id -> numbers of identities that have got it, by their own words
        self.targets = self.delivered = self.failed = 0

    def run(self, seconds):
        began, names = time.monotonic(), list(MIX)
        with ThreadPoolExecutor(64) as pool:
            for n in range(int(seconds * RATE)):
                time.sleep(max(0.0, began + n / RATE - time.monotonic()))
                pool.submit(self.one, self.random.choices(names, MIX.values())[0])

    def one(self, name):
        began = time.monotonic()
        try:
            getattr(self, name)(self.clients[name]())
        except grpc.RpcError as error:
            with self.lock:
                self.failures[f"{name} {error.code().name}"] += 1
            return
        with self.lock:
            self.times[name].append((time.monotonic() - began) * 1000)

    def Register(self, registry):
        with self.lock:
            number, self.next = self.next, self.next + 1
        registry.Register(pb.RegisterRequest(identity=f"id-{number:06}", metadata=struct(status="online", n=number),
                                             ttl={"seconds": TTL}, replace=True))

    @staticmethod
    def Enumerate(registry):
        registry.Enumerate(filter=where(status="online"), limit=100)

    def Multicast(self, registry):
        answer = registry.Multicast(filter=where(status="online"), payload=PAYLOAD, timeout=120)
        good = pb.PENDING if self.kept else pb.DELIVERED
        numbers = {number_of(r.identity) for r in answer.results if r.status == good}
        with self.lock:
            self.reported[answer.multicast_id] = numbers
            self.targets += answer.target_count
            self.delivered += answer.delivered_count + answer.pending_count
            self.failed += answer.failed_count
            assert not answer.truncated and len(numbers) == answer.delivered_count + answer.pending_count, answer


def in_prismd(servers, rpc):
    """(p50, p99) of the calls' time within prismd, in ms: what is left when this client's own time is not counted.
    Its histogram knows powers of two, so they are upper bounds."""
    buckets = collections.Counter()
    for server in servers:
        for sample, value in server.metrics().items():
            found = re.match(r'prism_rpc_duration_seconds_bucket\{.*method="%s".*le="([^"]+)"' % rpc, sample)
            if found:
                buckets[float(found[1])] += value
    total = buckets.get(float("inf"), 0)
    return [next((le * 1000 for le, n in sorted(buckets.items()) if n >= share * total), 0.0) for share in (0.5, 0.99)]


def table(load, servers):
    for name in MIX:
        times = sorted(load.times[name])
        if not times:
            continue
        average = sum(times) / len(times)
        if servers:
            print("  {:10} within prismd: p50 <= {:.3f}  p99 <= {:.3f} ms".format(name, *in_prismd(servers, name)))
        print(f"  {name:10} n {len(times):6}  avg {average:9.3f}  p50 {times[len(times) // 2]:9.3f}  "
              f"p99 {times[int(len(times) * 0.99)]:9.3f}  max {times[-1]:9.3f} ms   memo: avg {MEMO[name][0]:9.3f}  "
              f"max {MEMO[name][1]:9.3f} ms")
    share = 100.0 * load.delivered / load.targets if load.targets else 100.0
    print(f"  deliveries {load.targets} targets, {load.delivered} reported as delivered ({share:.2f} %, memo 91.79 %), "
          f"{load.failed} failed; calls that failed: {dict(load.failures) or 'none'}", flush=True)


class Proof:
    def __init__(self, options):
        self.options, self.wrong = options, []

    def check(self, good, text):
        if not good:
            self.wrong.append(text)
            print("  WRONG: " + text, flush=True)

    def slots(self, redis, nats, kept):
        slots = {"registry": {"backend": "redis", "config": {"address": redis.address}},
                 "messaging": {"backend": "nats", "config": {"address": nats.address}}}
        if kept:
            slots["durability"] = {"backend": "redis-stream",
                                   "config": {"address": redis.address, "claim_idle_ms": 2000}}
        return [namespace(**slots)]

    def calm(self):
        """The memo's mix, then many identities; nothing is disturbed."""
        with RedisServer() as redis, NatsServer() as nats, Prismd(namespaces=self.slots(redis, nats, False)) as one, \
                Prismd(namespaces=self.slots(redis, nats, False)) as two, one.channel() as a, two.channel() as b:
            first, second = service(a), service(b)
            direct = Direct(nats.port)
            receivers = [Receiver(lambda s=s: s, range(n, n + WATCHED // 3), False)
                         for n, s in ((0, one), (WATCHED // 3, two), (2 * WATCHED // 3, one))]
            for receiver in receivers:
                receiver.ready.wait(environment.PATIENCE)
            load = Load(lambda: first, lambda: second)
            print(f"{self.options.seconds} s, {RATE} requests a second, identities accumulate", flush=True)
            load.run(self.options.seconds)
            table(load, (one, two))
            self.compare(load, direct, receivers)
            self.many(load, first, second, direct, receivers)
            for receiver in receivers:
                receiver.stop()

    def many(self, load, first, second, direct, receivers):
        print(f"multicasts to {self.options.many} identities, one after the other", flush=True)
        began = time.monotonic()
        while load.next < self.options.many:
            n = min(1000, self.options.many - load.next)
            answer = first.RegisterBatch(registrations=[pb.RegisterRequest(
                identity=f"id-{i:06}", metadata=struct(status="online", n=i), ttl={"seconds": TTL}, replace=True)
                for i in range(load.next, load.next + n)])
            self.check(answer.success_count == n, "a batch of registrations failed")
            load.next += n
        print(f"  registered in {time.monotonic() - began:.1f} s", flush=True)
        load.times.clear()
        load.reported.clear()
        load.targets = load.delivered = load.failed = 0
        for _ in range(10):
            self.stream(load, second)
        table(load, ())
        self.compare(load, direct, receivers)

    @staticmethod
    def stream(load, registry):
        """Results of so many stream."""
        began, numbers = time.monotonic(), set()
        for progress in registry.MulticastStream(filter=where(status="online"), payload=PAYLOAD, timeout=300):
            numbers |= {number_of(r.identity) for r in progress.results if r.status == pb.DELIVERED}
        load.times["Multicast"].append((time.monotonic() - began) * 1000)
        load.reported[progress.multicast_id] = numbers
        load.targets += progress.target_count
        load.delivered += progress.delivered_count
        load.failed += progress.failed_count

    def compare(self, load, direct, receivers):
        expected = {k: Sums(v) for k, v in load.reported.items()}
        try:
            wait.until(lambda: all(direct.got[k] == v for k, v in expected.items()), 60, "the last ones arrive")
        except AssertionError:
            pass
        for k, v in expected.items():
            self.check(direct.got[k] == v, f"{k}: reported {v}, NATS handed on {direct.got[k]}")
        self.through_prism(load, receivers)
        print(f"  {len(expected)} multicasts, {sum(v.n for v in expected.values())} messages: a client of NATS and "
              f"{len(receivers)} receivers through Prism have counted the same", flush=True)

    def through_prism(self, load, receivers, seconds=60):
        for receiver in receivers:
            mine = set(receiver.numbers)
            expected = {k: v & mine for k, v in load.reported.items() if v & mine}
            try:
                wait.until(lambda: all(receiver.got[k] >= v for k, v in expected.items()), seconds, "the last arrive")
            except AssertionError:
                pass
            missing = sum(len(v - receiver.got[k]) for k, v in expected.items())
            more = sum(len(receiver.got[k] - v) for k, v in expected.items())
            if missing or receiver.dropped or receiver.again:
                print(f"  a receiver missed {missing}: it was told of {receiver.dropped} dropped, and attached anew: "
                      f"{dict(receiver.again)}", flush=True)
            self.check(not missing, f"{missing} messages were not received through Prism")
            self.check(self.disturbed or not receiver.again, "an undisturbed receiver had to attach anew")
            self.check(not more or self.disturbed, f"{more} messages were received and not reported")

    disturbed = False

    def stormy(self):
        """Messages are kept, and what can go away does."""
        self.disturbed = True
        with RedisServer(durable=True) as redis, NatsServer() as nats:
            servers = [Prismd(namespaces=self.slots(redis, nats, True)) for _ in range(2)]
            for server in servers:
                server.__enter__()
            channels = [server.channel() for server in servers]
            clients = [service(c) for c in channels]
            try:
                self.storm(nats, servers, channels, clients, redis)
            finally:
                for server in servers:
                    server.process.kill()

    def storm(self, nats, servers, channels, clients, redis):
        receivers = [Receiver(lambda n=n: servers[n % 2], range(100 * n, 100 * n + 100), True) for n in range(3)]
        for receiver in receivers:
            receiver.ready.wait(environment.PATIENCE)
        load = Load(lambda: clients[0], lambda: clients[1], kept=True)
        load.next = 0
        print(f"{self.options.seconds} s with kept messages, while NATS is restarted and an instance is replaced",
              flush=True)
        runner = threading.Thread(target=load.run, args=(self.options.seconds,))
        runner.start()
        time.sleep(self.options.seconds / 4)
        nats.kill()
        time.sleep(1)
        nats.start()
        time.sleep(self.options.seconds / 4)
        servers[0].terminate()
        servers[0] = Prismd(namespaces=self.slots(redis, nats, True))
        servers[0].__enter__()
        channels[0] = servers[0].channel()
        clients[0] = service(channels[0])
        runner.join()
        table(load, servers)
        self.through_prism(load, receivers)
        again = sum(sum(r.again.values()) for r in receivers)
        print(f"  {len(load.reported)} multicasts kept; receivers attached anew {again} times and have confirmed every "
              "message that was PENDING for them", flush=True)
        for receiver in receivers:
            receiver.stop()


def self_test():
    assert Sums([1, 2, 3]) == Sums([3, 2, 1])
    assert Sums([1, 2, 3]) != Sums([1, 2, 4]) and Sums([1, 1, 4]) != Sums([2, 2, 2])
    proof = Proof(None)
    proof.check(False, "a wrong one is found")
    assert proof.wrong
    load = types.SimpleNamespace(reported={"m": {1, 2}})
    for got, again, wrong in (({1, 2}, [], 0), ({1}, [], 1), ({1, 2, 3}, [], 1), ({1, 2}, ["UNAVAILABLE"], 1)):
        receiver = types.SimpleNamespace(numbers=range(3), got=collections.defaultdict(set, m=got), dropped=9,
                                         again=collections.Counter(again))
        proof = Proof(None)
        proof.through_prism(load, [receiver], seconds=0)
        assert len(proof.wrong) == wrong, (got, again, proof.wrong)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--many", type=int, default=100000)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        self_test()
        return 0
    proof = Proof(options)
    try:
        proof.calm()
        proof.stormy()
    finally:
        if not proof.wrong and sys.exc_info()[0] is None:
            shutil.rmtree(suite.folder(), ignore_errors=True)
        else:
            print(f"logs are in {suite.folder()}", file=sys.stderr)
    print("delivered = reported" if not proof.wrong else f"{len(proof.wrong)} are WRONG")
    return 1 if proof.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
