"""A broker that is killed under multicasts, on pairs that no other test breaks: what was told of each delivery is what
became of it, receivers go on by themselves, in order, and what they may have missed is told."""
import threading
import time

import grpc

from rig import backends, environment, suite, wait
from rig.kafka import KafkaServer
from rig.multicast import dropping, namespace, pb, service, struct
from rig.nats import NatsServer
from rig.prismd import Prismd

NAMES = [f"i{n:02}" for n in range(30)]
SOME = 20                                   # multicasts
TIME_MS, LATE_S = 2000, 5 if environment.SANITIZER else 2
LONG = 10 * environment.PATIENCE


class Receiver(threading.Thread):
    def __init__(self, registry, names):
        super().__init__(daemon=True)
        self.names, self.got, self.gaps, self.end = names, [], 0, None
        self.stream = registry.Subscribe(identities=names, timeout=LONG)
        while next(self.stream).attached_count < len(names):
            pass
        self.start()

    def run(self):
        try:
            for frame in self.stream:
                self.gaps += sum(d.count for d in frame.drops if d.reason == dropping.DROP_GAP)
                self.got += [(int(m.payload), name) for m in frame.messages for name in m.identities]
        except grpc.RpcError as error:
            self.end = error


class Sender(threading.Thread):
    """told: for each multicast, what was said of each delivery."""

    def __init__(self, registry):
        super().__init__(daemon=True)
        self.registry, self.told, self.longest_s, self.stopping = registry, [], 0, False
        self.start()

    def run(self):
        while not self.stopping:
            answer, took_s = self.send(len(self.told))
            self.told.append({r.identity: r for r in answer.results})
            self.longest_s = max(self.longest_s, took_s)

    def send(self, number):
        began = time.monotonic()
        answer = self.registry.Multicast(payload=b"%d" % number, timeout_ms=TIME_MS)
        return answer, time.monotonic() - began

    def delivered(self):
        return sum(all(r.status == pb.DELIVERED for r in told.values()) for told in self.told)


class Brokers(suite.Case):
    def broken(self, registry, messaging, broker):
        server = self.borrow(Prismd(namespaces=[namespace(registry, messaging)]))

        def client():
            return service(self.borrow(server.channel()), timeout=LONG)
        first = client()
        first.RegisterBatch(registrations=[pb.RegisterRequest(identity=n, metadata=struct(kind="x")) for n in NAMES])
        receivers = [Receiver(client(), NAMES[:8]), Receiver(client(), NAMES[4:12])]
        sender = Sender(first)
        wait.until(lambda: sender.delivered() >= SOME, LONG, "it is sent")
        broker.kill()
        wait.until(lambda: len(sender.told) > sender.delivered() + 1, LONG, "what is not delivered is told")
        broker.start()
        before = sender.delivered()
        wait.until(lambda: sender.delivered() >= before + SOME, LONG, "it goes on")
        sender.stopping = True
        sender.join()
        self.assertLess(sender.longest_s, TIME_MS / 1000 + LATE_S)
        last = len(sender.told)
        self.assertEqual(sender.send(last)[0].delivered_count, len(NAMES))
        for receiver in receivers:
            wait.until(lambda r=receiver: sum(n == last for n, _ in r.got) == len(r.names), LONG, "the last one comes")
            self.assertIsNone(receiver.end)
            self.account(sender.told, receiver, last)
        return receivers

    def account(self, told, receiver, last):
        got = [one for one in receiver.got if one[0] != last]
        self.assertEqual(len(set(got)), len(got), "none comes twice")
        for name in receiver.names:
            numbers = [number for number, one in got if one == name]
            self.assertEqual(numbers, sorted(numbers))
        missing = {(number, name) for number, results in enumerate(told) for name, r in results.items()
                   if name in receiver.names and r.status == pb.DELIVERED} - set(got)
        if receiver.gaps == 0:
            self.assertEqual(missing, set(), "what was delivered has come, or may be missing as is told")
        for number, name in got:    # what was surely not sent has not come
            self.assertNotIn("nothing was sent", told[number][name].error)

    def test_memstore_and_nats(self):
        nats = self.borrow(NatsServer())
        receivers = self.broken({"backend": "memstore", "config": {}},
                                {"backend": "nats", "config": {"address": nats.address}}, nats)
        for receiver in receivers:      # NATS keeps nothing: who was attached may have missed some
            self.assertGreater(receiver.gaps, 0)

    def test_postgres_and_kafka(self):
        kafka = self.borrow(KafkaServer())
        kafka.create_topic("prism.multicast.all", partitions=3)
        receivers = self.broken(self.borrow(backends.slot("postgres")),
                                {"backend": "kafka", "config": {"brokers": kafka.address}}, kafka)
        self.assertEqual([r.gaps for r in receivers], [0, 0], "Kafka keeps what was told as delivered")


if __name__ == "__main__":
    suite.main()
