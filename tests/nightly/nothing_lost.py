#!/usr/bin/env python3
"""Nothing lost: clients publish numbered messages and consume them in groups while the broker is killed, paused and cut
off, prismd is drained and killed, and members come and go.

    scripts/nothing-lost.sh --backend kafka --minutes 2
    scripts/nothing-lost.sh --messages 5000000

What is proved, and how:
- Every acknowledged message reaches every group: at the end each group has seen the numbers of each key without a gap
  up to the last one that was acknowledged.
- The broker holds what was acknowledged: a new group reads the log from its begin, from one undisturbed instance, and
  finds each key's numbers without a gap and in order; it gets exactly as many messages as the broker says it holds.
- Order: the first delivery of a key's message n comes after the first delivery of n - 1: in the log of every broker;
  where order by key can be asked for, in a group of several members that come and go; else in a group of one member
  (not JetStream, which hands on what a dead process held after others' messages). A repeat may come later than its
  successors: at-least-once repeats what was not settled.
- Nothing is delivered that was never published, and nothing is stored before its predecessor of the same key.
- Duplicates are counted. In the log there are at most as many as messages that were sent again although their outcome
  was unknown, and none where identifiers are compared. Deliveries repeat only from the first disturbance on, and never
  after their settlement was confirmed, where the broker keeps settlements over its own death.
"""
import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import threading
import time

from clients import BatchPublisher, Member, StreamPublisher, answer_all
from ledger import Faults, Group, Published
from rig import environment, suite, wait
from rig.messaging import consumer, producer
from rig.prismd import Prismd
from targets import TARGETS

KEYS_OF_PUBLISHER = 2000
MEMBERS = 3                 # of the first group; they come and go. The second has one, which only servers disturb
BACKLOG_MOST = 200000       # messages that a group may be behind before publishers wait
STUCK_SECONDS = 60
CALM_MESSAGES = 20000       # before the first disturbance


class Run:
    """One backend's run."""

    def __init__(self, target, options):
        self.target, self.options = target, options
        self.random = random.Random(options.seed)
        self.topic, self.with_ids = "numbers", target.with_ids
        self.faults = Faults()
        self.kinds = [StreamPublisher, StreamPublisher, StreamPublisher, BatchPublisher]
        keys = KEYS_OF_PUBLISHER * len(self.kinds)
        self.published = Published(keys, self.faults)
        self.groups = [Group("many", self.published, target.per_key),
                       Group("one", self.published, target.per_key or target.order_of_one)]
        self.servers, self.publishers, self.members = [], [], []
        self.disturbances, self.slowest, self.until = {}, {}, None
        self.begin = time.monotonic()

    # ---- asked by publishers ----

    def published_enough(self, publisher):
        if self.options.messages:
            return publisher.stored >= self.options.messages // len(self.kinds)
        return self.until is not None and time.monotonic() > self.until

    def hold_back(self):
        while self.stored() - min(g.firsts for g in self.groups) > BACKLOG_MOST:
            time.sleep(wait.STEP)

    def stored(self):
        return sum(p.stored for p in self.publishers)

    # ---- the world ----

    def start(self, stack):
        self.target.enter(stack)
        self.target.create(self.topic)
        for i in range(self.target.instances):
            self.servers.append(self.prismd(i))
        self.publishers = [kind(self.servers, self.options.seed + i, self, i * KEYS_OF_PUBLISHER, KEYS_OF_PUBLISHER)
                           for i, kind in enumerate(self.kinds)]
        self.members = [Member(self.servers, self.options.seed + 100 + i, self.groups[i == MEMBERS], self.topic,
                               lose=self.options.lose if i in (0, MEMBERS) else 0, per_key=self.target.per_key)
                        for i in range(MEMBERS + 1)]
        for thread in self.publishers + self.members:
            thread.start()
        threading.Thread(target=answer_all, args=[self.members], daemon=True).start()

    def prismd(self, i):
        """Instance 0 reaches the broker through the proxy, the other one directly."""
        address = None
        if self.target.broker:
            address = self.target.proxy.address if i == 0 else self.target.broker.address
        slot = self.target.slot(address)
        return Prismd(namespaces=[producer(slot), consumer(slot, retry_delay_ms=20)], drain_timeout_ms=5000,
                      log={"level": "warn"}).__enter__()

    def replace(self, i, how):
        old = self.servers[i]
        new = self.prismd(i)
        self.servers[i] = new       # clients that look for a server find the new one
        if how == "drain":
            code = old.terminate()
            if code not in (0, 3):  # 3: clients had not settled in time
                self.faults.add("drain", f"prismd ended with {code}")
        else:
            old.process.kill()
        shutil.rmtree(old.folder, ignore_errors=True)

    # ---- disturbances ----

    def disturb(self):
        kinds = ["leave", "vanish"]
        if self.target.broker:
            kinds += ["kill broker", "pause broker", "cut", "cut in an answer", "hold", "drain", "kill prismd"]
        kind = self.random.choice([k for k in kinds if k in (self.options.only or k)])
        self.disturbances[kind] = self.disturbances.get(kind, 0) + 1
        which = self.random.randrange(len(self.servers))
        if kind in ("leave", "vanish"):
            getattr(self.random.choice(self.members[:MEMBERS]), kind)()
        elif kind == "kill broker":
            self.target.kill_and_start()
        elif kind == "pause broker":
            self.target.broker.pause()
            time.sleep(self.random.uniform(0.1, 3))
            self.target.broker.resume()
        elif kind == "cut":
            self.target.proxy.cut()
        elif kind == "cut in an answer":
            self.target.proxy.cut(after=self.random.randrange(1, 20000))
            self.target.proxy.cut()
        elif kind == "hold":
            self.target.proxy.hold()
            time.sleep(self.random.uniform(0.1, 3))
            self.target.proxy.pass_()
        else:
            self.replace(which, "drain" if kind == "drain" else "kill")
        return kind

    def go_on(self, what):
        """Every group gets on after a disturbance, or something hangs. Repeats count: a broker that has forgotten where
        a group stood begins anew."""
        marks = [(g, g.firsts + g.repeats) for g in self.groups]

        def on():
            for thread in self.publishers + self.members:
                if thread.error:
                    raise AssertionError(f"a client failed: {thread.error!r}")
            return (all(g.firsts + g.repeats > mark for g, mark in marks) or self.is_idle()
                    or not any(p.is_alive() for p in self.publishers))
        began = time.monotonic()
        wait.until(on, STUCK_SECONDS, f"messages flow after: {what}")
        self.slowest[what] = max(self.slowest.get(what, 0), round(time.monotonic() - began, 2))

    def is_idle(self):
        return all(g.firsts >= self.stored() for g in self.groups) and self.over()

    def over(self):
        return all(self.published_enough(p) for p in self.publishers)

    # ---- the course of it ----

    def calm(self):
        wait.until(lambda: min(g.firsts for g in self.groups) > CALM_MESSAGES or self.over(), STUCK_SECONDS,
                   "messages flow")
        for group in self.groups:
            if group.repeats:
                self.faults.add("repeated without a cause", f"{group.name}: {group.repeats} before any disturbance")

    def disturbed(self):
        told = time.monotonic()
        for member in self.members[:MEMBERS]:
            member.rough = True
        while any(p.is_alive() for p in self.publishers):
            time.sleep(self.random.uniform(0.2, 2 * self.options.pause))
            self.go_on(self.disturb())
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"{told - self.begin:6.0f} s  {self.line()}", file=sys.stderr, flush=True)

    def line(self):
        return (f"stored {self.stored()}, consumed {[g.firsts for g in self.groups]}, repeats "
                f"{[g.repeats for g in self.groups]}, disturbances {sum(self.disturbances.values())}")

    def last_errors(self):
        return {getattr(t.last_error, "details", str)() for t in self.publishers + self.members if t.last_error}

    def settle_down(self):
        """All that was acknowledged has to come; fails when nothing comes any more."""
        for publisher in self.publishers:
            publisher.join(STUCK_SECONDS)
            if publisher.is_alive():
                self.faults.add("hangs", "a publisher does not end")
        for group in self.groups:
            last, since = 0, time.monotonic()
            while not group.complete():
                if group.firsts + group.repeats != last:
                    last, since = group.firsts + group.repeats, time.monotonic()
                if time.monotonic() - since > self.options.patience:
                    break
                time.sleep(wait.STEP)
            for key, first, end in group.seen.missing(self.published.acknowledged):
                self.faults.add("lost", f"{group.name}, key {key}: {first} is missing, acknowledged are {end}")
        for member in self.members:
            member.end()

    def audit(self):
        """The log from its begin, read once, from one undisturbed instance: what it repeats is in it twice."""
        server = self.prismd(1)
        self.servers[:] = [server]
        group = Group("audit", self.published, True)
        kept = self.target.kept(self.topic)
        member = Member(self.servers, 1, group, self.topic, per_key=False)
        member.start()
        threading.Thread(target=answer_all, args=[[member]], daemon=True).start()
        last, since = 0, time.monotonic()
        while group.firsts + group.repeats < kept and time.monotonic() - since < self.options.patience:
            if group.firsts != last:
                last, since = group.firsts, time.monotonic()
            time.sleep(wait.STEP)
        member.end()
        if group.firsts + group.repeats != kept:
            self.faults.add("the log", f"{group.firsts + group.repeats} were read, the broker holds {kept}")
        for key, first, end in group.seen.missing(self.published.acknowledged):
            self.faults.add("not in the log", f"key {key}: {first} is missing, acknowledged are {end}")
        allowed = 0 if self.target.with_ids else sum(p.uncertain for p in self.publishers)
        if group.repeats > allowed:
            self.faults.add("duplicates in the log", f"{group.repeats}, at most {allowed} are accounted for")
        return {"kept": kept, "duplicates_in_log": group.repeats}

    def judge_repeats(self):
        for group in self.groups:
            if self.target.settled_survives_kill and group.repeats_of_settled:
                self.faults.add("repeated after it was settled", f"{group.name}: {group.repeats_of_settled}")

    def run(self, stack):
        self.start(stack)
        self.calm()
        self.begin = time.monotonic()
        self.until = self.begin + 60 * self.options.minutes if not self.options.messages else None
        self.disturbed()
        seconds = time.monotonic() - self.begin
        self.settle_down()
        self.judge_repeats()
        for server in self.servers:
            server.process.signal(signal.SIGTERM)
        log = self.audit() if self.target.broker else {}
        return {"seconds": round(seconds, 1), "acknowledged": sum(self.published.acknowledged),
                "consumed": {g.name: g.firsts for g in self.groups}, "lost": self.faults.counts.get("lost", 0),
                "repeats": {g.name: g.repeats for g in self.groups},
                "repeats_of_settled": {g.name: g.repeats_of_settled for g in self.groups},
                "out_of_order": {g.name: g.out_of_order for g in self.groups},
                "sent_again_with_unknown_outcome": sum(p.uncertain for p in self.publishers), **log,
                "disturbances": self.disturbances, "seconds_to_flow": self.slowest}


def prove(name, options):
    """One backend; True if it holds."""
    run = Run(TARGETS[name](), options)
    figures = {}
    with contextlib.ExitStack() as stack:
        try:
            figures = run.run(stack)
        except AssertionError as e:
            run.faults.add("hangs", f"{e}; {run.line()}; {run.last_errors()}")
        finally:
            for server in run.servers:
                server.process.kill()
    if options.self_test:
        return run.faults.counts
    print(json.dumps({"backend": name, "seed": options.seed, "holds": not run.faults.counts,
                      "faults": run.faults.counts, **figures}), flush=True)
    for example in run.faults.examples:
        print("  " + example, flush=True)
    return not run.faults.counts


def self_test(options):
    """The checker on memstore: it is content, and it is not when one message is dropped on its way to the ledger."""
    options.messages, options.patience = 60000, 2
    faults = prove("memstore", options)
    assert not faults, f"faults where nothing fails: {faults}"
    options.lose = 1
    faults = prove("memstore", options)
    assert faults.get("lost") == 2 and faults.get("out of order"), f"one message of each group was dropped: {faults}"
    print("the checker finds what is lost")
    return 0


def main():
    parser = argparse.ArgumentParser(description="Proves that nothing is lost while brokers, prismd and members fail.")
    parser.add_argument("--backend", default="kafka,jetstream,redis-stream", help="some of " + ", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--messages", type=int, default=0, help="for each backend; instead of --minutes")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between disturbances, on average")
    parser.add_argument("--patience", type=float, default=STUCK_SECONDS, help="seconds without any message at the end")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--lose", type=int, default=0, help="for the checker's own test: drops so many messages")
    parser.add_argument("--self-test", action="store_true", help="is the checker able to find a loss?")
    parser.add_argument("--only", default="", help="these disturbances alone, for finding a cause")
    options = parser.parse_args()
    held = True
    try:
        if options.self_test:
            return self_test(options)
        for name in options.backend.split(","):
            held = prove(name, options) and held
    except environment.unittest.SkipTest as e:
        print(e, file=sys.stderr)
        return 1 if environment.REQUIRE_ALL else 77
    finally:
        if held:
            shutil.rmtree(suite.folder(), ignore_errors=True)
        else:
            print(f"logs are in {suite.folder()}", file=sys.stderr)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
