"""Subscriptions that settle, hold, lose and put off messages: figures for messaging.py.

    subscriptions.py ADDRESS TOPIC GROUP COUNT      a client that takes so many messages, settles none, and waits
"""
import os
import signal
import sys
import time

import grpc

from rows import median

from rig import environment, suite, wait
from rig.kafka import KafkaServer
from rig.messaging import Member, consumed, consumer, consumer_service, pb, producer, producer_service
from rig.prismd import Prismd
from rig.process import Process
from rig.redis import RedisServer
from prism.patterns.consumer import settlement_pb2 as settlement

NAMES = ["ack-cost", "inflight-memory", "handback", "drain-redeliveries", "parked-retries", "stuck-topic"]
PAYLOAD = b"p" * 128
BATCH = 1000
PARKED = 1000       # max_in_flight
HELD = 100          # by a client that is killed
FOREVER_MS = 3600000
MUCH = 1 << 30      # bytes


def start_broker(stack, name):
    """Slot configuration on a broker of this name, that has the topic `t`."""
    slot = {"backend": name, "config": {}}
    if name == "redis-stream":
        slot["config"]["address"] = stack.enter_context(RedisServer()).address
    if name == "kafka":
        kafka = stack.enter_context(KafkaServer())
        kafka.create_topic("t", 6)
        slot["config"]["brokers"] = kafka.address
    if name == "memstore":
        slot["config"]["stream_max_bytes"] = 0
    return slot


def serve(stack, slot, **settings):
    namespaces = [producer(slot), consumer(slot, **settings)]
    return stack.enter_context(Prismd(namespaces=namespaces, log={"level": "warn"}, drain_timeout_ms=30000))


def consumers_of(stack, server):
    return consumer_service(stack.enter_context(server.channel()), timeout=600)


def publish(stack, server, topic, n):
    service = producer_service(stack.enter_context(server.channel()), timeout=60)
    for first in range(0, n, BATCH):
        messages = [pb.PublishRequest(topic=topic, payload=PAYLOAD)] * min(BATCH, n - first)
        assert service.PublishBatch(messages=messages).all_success


# ---- ack-cost ----

ACKS = {"consume-prism-named": ("named", 1.5, "each by its number, memstore"),
        "consume-prism-single": ("single", 1.5, "in a request of its own"),
        "pass-few": ("bare", None, "a bare C-core server receives as many requests, and does nothing")}

def ack_cost(stack, count, rounds, start_echo, flow):
    """{way: [(CPU of prismd for a message settled that way, by `through`)]}; pass-few: of a server that receives."""
    server = serve(stack, start_broker(stack, "memstore"), max_in_flight=10000, max_in_flight_bytes=MUCH)
    flow("publish-prism", server.address, "t", count)
    echo, echo_address = start_echo(stack, "few")
    ways, costs = ["consume-prism", "consume-prism-named", "consume-prism-single"], []
    for number in range(rounds):
        cost = {}
        for way in ways if number % 2 else reversed(ways):
            cost[way] = flow(way, server.address, f"t/{way}-{number}", count, server.pid).prismd
        cost["pass-few"] = flow("pass-few", echo_address, "t", count, echo.pid).prismd
        costs.append(cost)
    return {way: [(cost[way], cost[ways[0]]) for cost in costs] for way in [*ways[1:], "pass-few"]}


# ---- inflight-memory ----

def inflight_memory(stack, name, n):
    """Bytes that prismd grew for each of n messages that a member has and does not settle."""
    server = serve(stack, start_broker(stack, name), max_in_flight=1000000, max_in_flight_bytes=MUCH,
                   max_group_bytes=MUCH, max_message_memory=MUCH)
    publish(stack, server, "t", n)
    service = consumers_of(stack, server)

    def take(group, most):
        """No more are given to it: those would count as well."""
        member = stack.enter_context(Member(service, topic="t", consumer_group=group, if_none=consumed.EARLIEST,
                                            max_in_flight=most))
        while most > 0:
            most -= len(member.frame().messages)
        return member
    take("first", n // 100)
    before = server.process.resident_bytes()
    take("g", n)
    return (server.process.resident_bytes() - before) / n


# ---- handback ----

def hold(address, topic, group, count):
    """The program: a client to be killed."""
    with grpc.insecure_channel(address) as channel:
        with Member(consumer_service(channel), topic=topic, consumer_group=group, if_none=consumed.EARLIEST) as member:
            member.take(int(count))
            print("held", flush=True)
            signal.pause()


def handback(stack, name, times):
    """Seconds from the kill of a client to the redelivery of each of its messages."""
    server, late = serve(stack, start_broker(stack, name), max_in_flight=HELD), []
    service = consumers_of(stack, server)
    for number in range(times):
        group = f"g{number}"
        if number == 0:
            publish(stack, server, "t", HELD)
        child = Process("hold", [sys.executable, os.path.abspath(__file__), server.address, "t", group, str(HELD)],
                        suite.subfolder("hold"))
        stack.callback(child.kill)
        wait.until(lambda c=child: "held" in c.log(), environment.PATIENCE, "it holds messages")
        with Member(service, topic="t", consumer_group=group) as member:
            killed = time.monotonic()
            child.kill()
            left = HELD
            while left > 0:
                got = len(member.frame().messages)
                late += [time.monotonic() - killed] * got
                left -= got
            member.settle(HELD)
    return late


# ---- drain-redeliveries ----

def drain(stack, n):
    """(messages that came again, messages in the dead letters): a member settles all that it gets, in time, while its
    prismd is drained, and goes on at another. One that comes again would be dead."""
    redis = stack.enter_context(RedisServer())
    slot = {"backend": "redis-stream", "config": {"address": redis.address}}
    servers = [serve(stack, slot, dead_letters=slot, max_attempts=1) for _ in range(2)]
    publish(stack, servers[0], "t", n)
    seen, again = set(), 0
    for server in servers:
        with Member(consumers_of(stack, server), topic="t", consumer_group="g", if_none=consumed.EARLIEST) as member:
            through = 0
            while len(seen) < n:
                try:
                    messages = member.frame().messages
                except grpc.RpcError as e:
                    assert e.code() is grpc.StatusCode.UNAVAILABLE and server is servers[0], e
                    break
                again += sum(m.attempt > 1 or m.message_id in seen for m in messages)
                seen.update(m.message_id for m in messages)
                if messages:
                    through = messages[-1].sequence
                    member.acknowledge(through=through)
                if server is servers[0] and len(seen) > n // 4 and server.process.alive():
                    server.process.signal(signal.SIGTERM)
            if server is servers[1]:
                member.settle(through)
    assert len(seen) == n and servers[0].process.wait(environment.PATIENCE) == 0
    return again, redis.call("XLEN", "t.g.dead")


# ---- parked-retries ----

def parked(stack, name, count, rounds, flow):
    """[(messages/s of a group of which max_in_flight messages wait for a retry, of one where none does)]."""
    server = serve(stack, start_broker(stack, name), max_in_flight=10000)
    flow("publish-prism", server.address, "t", count + 4 * PARKED)     # the member may take as many again
    service, pairs = consumers_of(stack, server), []

    def rate(group, waiting):
        """A member has settled the first ones, or put them off; it keeps the next and lets the flow have the rest."""
        with Member(service, topic="t", consumer_group=group, max_in_flight=PARKED,
                    if_none=consumed.EARLIEST) as member:
            member.take(PARKED)
            if waiting:
                member.reject(through=PARKED, disposition=settlement.RETRY, delay_ms=FOREVER_MS)
            else:
                member.acknowledge(through=PARKED)
            member.told(lambda frame: frame.settled_through >= PARKED)
            member.take(PARKED)
            return flow("consume-prism", server.address, f"t/{group}", count).rate
    for number in range(rounds):
        figures = {w: rate(f"{name}-{number}-{w}", w) for w in ((True, False) if number % 2 else (False, True))}
        pairs.append((figures[True], figures[False]))
    return pairs


# ---- stuck-topic ----

def stuck(stack, count, rounds, flow):
    """{part: [(topic B while the broker of topic A is away, alone)]}: rate of publishing, and p99 of single calls."""
    controller = stack.enter_context(KafkaServer())
    settings = controller.settings
    other = KafkaServer(2, voters=settings["controller.quorum.voters"], cluster_id=controller.cluster_id)
    other.settings["process.roles"] = "broker"
    other.settings["listeners"] = other.settings["advertised.listeners"]
    stack.enter_context(other)
    for topic, node in (("alive", 1), ("dead", 2)):
        wait.until(lambda t=topic, n=node: controller.place_topic(t, n), controller.patience, "it has its place")
    slot = {"backend": "kafka", "config": {"brokers": controller.address, "publish_timeout_ms": 300000}}
    server = serve(stack, slot)
    service = producer_service(stack.enter_context(server.channel()), timeout=300)

    def figures():
        late = []
        for _ in range(200):
            began = time.monotonic()
            assert service.Publish(topic="alive", payload=PAYLOAD).success
            late.append(time.monotonic() - began)
        return {"rate": flow("publish-prism", server.address, "alive", count).rate, "p99": sorted(late)[-2]}
    pairs = {"rate": [], "p99": []}
    service.Publish(topic="dead", payload=b"x")
    figures()
    for _ in range(rounds):
        alone = figures()
        other.kill()
        waiting = [service.Publish.future(topic="dead", payload=bytes(20000)) for _ in range(40)]
        wait.until(lambda: server.metric("prism_kafka_waiting_bytes") > 400000, environment.PATIENCE, "they wait")
        beside = figures()
        assert not any(call.done() for call in waiting)
        other.start()
        assert all(call.result().success for call in waiting)
        for part, values in pairs.items():
            values.append((beside[part], alone[part]))
    return pairs


def measure(rows, options, start_echo, flow):
    """All rows of this file."""
    count, rounds = int(200000 * options.scale) // 500 * 500, options.rounds
    result = rows.measure("ack-cost", lambda stack: ack_cost(stack, count, rounds, start_echo, flow))
    for way, pairs in (result or {}).items():
        part, bound, note = ACKS[way]
        rows.add("ack-cost", part, "us/message", bound, f"{note}; against `through`", median(pairs))
    for name in ("memstore", "redis-stream"):
        result = rows.measure("inflight-memory", lambda stack, b=name: inflight_memory(stack, b, count // 2))
        if result:
            payload = 0 if name == "memstore" else len(PAYLOAD)    # memstore lends its own
            rows.state("inflight-memory", name, "bytes", 96, "beyond the payload", result - payload)
    for name in ("memstore", "redis-stream"):
        late = rows.measure("handback", lambda stack, b=name: handback(stack, b, 4 * rounds))
        if late:
            rows.state("handback", name, "s", 1, f"p99 of {len(late)} messages of killed clients",
                       sorted(late)[int(0.99 * len(late))])
    result = rows.measure("drain-redeliveries", lambda stack: drain(stack, count // 10))
    for part, value in zip(("again", "dead"), result or ()):
        rows.state("drain-redeliveries", part, "messages", 0, f"of {count // 10}; redis-stream", value)
    for name in ("memstore", "redis-stream", "kafka"):
        pairs = rows.measure("parked-retries", lambda stack, b=name: parked(stack, b, count, rounds, flow))
        if pairs:
            rows.add("parked-retries", name, "messages/s", 0.9, f"{PARKED} wait; none waits", median(pairs),
                     at_least=True)
    result = rows.measure("stuck-topic", lambda stack: stuck(stack, count, rounds, flow))
    for part, pairs in (result or {}).items():
        rows.add("stuck-topic", part, "messages/s" if part == "rate" else "s", 0.9 if part == "rate" else 2,
                 "a topic's broker is away; both are there", median(pairs), at_least=part == "rate")


if __name__ == "__main__":
    hold(*sys.argv[1:])
