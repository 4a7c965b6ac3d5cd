"""What is kept for an identity comes in order, whoever received before and however that ended: on real servers, with
two prismds on each."""
import random

from rig import environment, suite, wait
from rig.identities import MEMSTORE, Identities
from rig.messaging import Stream
from rig.multicast import messages, pb
from prism.patterns.schemas import slot_schema_pb2 as schemas


class KeptInOrder(Identities):
    """M9: a queue comes in order, whatever its last server died with; what the living hold stays theirs."""
    NAMES = [f"d{n:02}" for n in range(20)]
    KEPT, CONFIRMED, IN_HAND, NEW = 30, 3, 10, 5
    CREDIT = 32     # what a server takes for an identity at once
    TIMES, MANY, LEASE_S = 50, 500, 30

    def two(self, durability):
        (first, at_first), (second, at_second) = (self.serve(MEMSTORE, MEMSTORE, durability) for _ in range(2))
        for registry in (at_first, at_second):
            self.register(registry, self.NAMES)
        return first, at_first, second, at_second

    def keep(self, registry, numbers, names):
        for n in numbers:
            wait.until(lambda n=n: registry.Multicast(identities=names, payload=b"%d" % n).pending_count == len(names),
                       environment.PATIENCE, "it is kept for all")

    def attach(self, registry, name, **more):
        stream = self.borrow(Stream(registry.Attach, timeout=2 * environment.PATIENCE))
        stream.send(pb.AttachRequest(attach={"identities": [name]}, ack_mode=schemas.ACK_MANUAL, **more))
        return stream

    @staticmethod
    def confirm(stream, got):
        stream.send(pb.AttachRequest(acknowledge={"sequences": [message.sequence for message in got]}))

    def confirmed(self, server, n):
        wait.until(lambda: server.metric("prism_multicast_settled_total", how="confirmed") == n, environment.PATIENCE,
                   "they are confirmed")

    def a_server_dies(self, durability):
        """Some were confirmed, some are in hand, the rest was on its way; newer ones wait before anybody comes back,
        and come while he waits."""
        first, at_first, second, at_second = self.two(durability)
        self.keep(at_first, range(self.KEPT), self.NAMES)
        for name in self.NAMES:
            stream = self.attach(at_first, name, max_in_flight=self.IN_HAND)
            self.confirm(stream, messages(stream.answers, self.IN_HAND)[:self.CONFIRMED])
            messages(stream.answers, self.CONFIRMED)
        self.confirmed(first, self.CONFIRMED * len(self.NAMES))
        first.process.kill()
        end = self.KEPT + self.NEW
        self.keep(at_second, range(self.KEPT, end - 1), self.NAMES)
        streams = [self.attach(at_second, name) for name in self.NAMES]
        self.keep(at_second, [end - 1], self.NAMES)
        wanted = list(range(self.CONFIRMED, end))
        for name, stream in zip(self.NAMES, streams):
            got = messages(stream.answers, len(wanted))
            self.assertEqual([int(message.payload) for message in got], wanted, name)
            self.confirm(stream, got)
        self.confirmed(second, len(wanted) * len(self.NAMES))

    def the_living_keep_theirs(self, durability):
        """One has all that his server takes for him in hand; another, elsewhere, gets what is behind it, only that."""
        first, at_first, second, at_second = self.two(durability)
        self.keep(at_first, range(self.CREDIT + self.NEW), self.NAMES[:1])
        holder = self.attach(at_first, self.NAMES[0])
        held = messages(holder.answers, self.CREDIT)
        other = self.attach(at_second, self.NAMES[0])
        got = messages(other.answers, self.NEW)
        self.assertEqual([int(message.payload) for message in held + got], list(range(self.CREDIT + self.NEW)))
        self.assertEqual({message.attempt for message in held + got}, {1})
        self.confirm(holder, held)
        self.confirmed(first, self.CREDIT)
        self.confirm(other, got)
        self.confirmed(second, self.NEW)

    def comes_and_goes(self, durability):
        """Cut off with messages in hand, and back as soon as that is noticed, here or elsewhere: what was not confirmed
        comes first, in order, and nobody waits until a lease is over (30 s)."""
        first, at_first, second, at_second = self.two(durability)
        self.keep(at_first, range(self.MANY), self.NAMES[:1])
        chosen = random.Random(7)
        least = most = 0
        for _ in range(self.TIMES):
            (server, registry) = chosen.choice(((first, at_first), (second, at_second)))
            with Stream(registry.Attach, timeout=self.LEASE_S / 2) as stream:
                stream.send(pb.AttachRequest(attach={"identities": self.NAMES[:1]}, ack_mode=schemas.ACK_MANUAL,
                                             max_in_flight=chosen.choice((1, 4, 100))))
                got = messages(stream.answers, 1)
                numbers = [int(message.payload) for message in got]
                self.assertIn(numbers[0], range(least, most + 1), "what comes first was not confirmed, or may not be")
                self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(got))))
                confirmed = got[:chosen.randint(1, len(got))]
                self.confirm(stream, confirmed)
                least, most = numbers[0], numbers[0] + len(confirmed)
            wait.until(lambda: server.metric("prism_multicast_attached") == 0, environment.PATIENCE, "it is noticed")

    def redis_stream(self):
        slot = self.redis("redis-stream")
        slot["config"]["claim_idle_ms"] = 3000
        return slot

    def postgres_queue(self):
        slot = self.postgres()
        slot["config"]["queue_lease_ms"] = 3000
        return slot

    def jetstream_queue(self):
        slot = self.jetstream()
        slot["config"]["ack_wait_ms"] = 3000
        return slot

    def test_a_server_dies_redis_stream(self):
        self.a_server_dies(self.redis_stream())

    def test_a_server_dies_postgres(self):
        self.a_server_dies(self.postgres_queue())

    def test_a_server_dies_jetstream(self):
        self.a_server_dies(self.jetstream_queue())

    def test_comes_and_goes_redis_stream(self):
        self.comes_and_goes(self.redis("redis-stream"))

    def test_comes_and_goes_postgres(self):
        self.comes_and_goes(self.postgres())

    def test_comes_and_goes_jetstream(self):
        self.comes_and_goes(self.jetstream())

    def test_the_living_keep_theirs_redis_stream(self):
        self.the_living_keep_theirs(self.redis_stream())

    def test_the_living_keep_theirs_postgres(self):
        self.the_living_keep_theirs(self.postgres_queue())

    def test_the_living_keep_theirs_jetstream(self):
        self.the_living_keep_theirs(self.jetstream_queue())


if __name__ == "__main__":
    suite.main()
