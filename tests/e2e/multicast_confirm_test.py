"""await_confirmation: the sender waits until receivers have confirmed, at whatever instance they are attached."""
import threading

import grpc

from google.rpc import error_details_pb2
from rig import environment, suite, wire
from rig.messaging import Stream
from rig.multicast import namespace, pb, service
from rig.nats import NatsServer
from rig.prismd import Prismd
from rig.redis import RedisServer
from prism.patterns.schemas import slot_schema_pb2 as schemas

MEMSTORE = {"backend": "memstore", "config": {}}
LONG_MS, SHORT_MS = 1000 * environment.PATIENCE, 300


class Receiver(threading.Thread):
    """Attached for some identities; confirms what it gets, if it is told to. Starts when it is attached."""

    def __init__(self, case, registry, *names, confirms=True, ack_mode=schemas.ACK_MANUAL):
        super().__init__(daemon=True)
        self.stream = Stream(registry.Attach, timeout=2 * environment.PATIENCE)
        case.addCleanup(self.stream.__exit__)
        self.names, self.confirms = names, confirms
        self.stream.send(pb.AttachRequest(attach={"identities": names}, ack_mode=ack_mode))
        self.stream.until(lambda frame: frame.attached_count == len(names))
        self.start()

    def run(self):
        try:
            for frame in self.stream.answers:
                if frame.messages and self.confirms:
                    self.stream.send(pb.AttachRequest(acknowledge={"through": frame.messages[-1].sequence}))
        except grpc.RpcError:
            pass


class Embedded(suite.Case):
    @classmethod
    def setUpClass(cls):
        both = {"messaging": MEMSTORE, "registry": MEMSTORE}
        cls.server = cls.use(Prismd(namespaces=[namespace(**both, durability=MEMSTORE),
                                                namespace(**both, name="listeners")]))
        cls.channel = cls.use(cls.server.channel())
        cls.registry = service(cls.channel)

    def enter(self, *names):
        self.registry.RegisterBatch(registrations=[{"identity": name} for name in names])
        self.addCleanup(lambda: [self.registry.Unregister(identity=name) for name in names])

    def send(self, timeout_ms=LONG_MS, **request):
        return self.registry.Multicast(payload=b"x", await_confirmation=True, timeout_ms=timeout_ms,
                                       timeout=2 * environment.PATIENCE, **request)

    def test_all_confirm(self):
        self.enter("a", "b")
        Receiver(self, self.registry, "a", "b")
        answer = self.send()
        self.assertEqual((answer.success, answer.target_count, answer.confirmed_count, answer.delivered_count,
                          answer.pending_count), (True, 2, 2, 2, 0))
        self.assertEqual({r.identity: r.status for r in answer.results}, {"a": pb.CONFIRMED, "b": pb.CONFIRMED})

    def test_who_does_not_confirm_is_pending(self):
        self.enter("confirms", "is-silent", "is-absent")
        Receiver(self, self.registry, "confirms")
        Receiver(self, self.registry, "is-silent", confirms=False)
        answer = self.send(SHORT_MS)
        self.assertEqual((answer.success, answer.confirmed_count, answer.delivered_count, answer.pending_count),
                         (True, 1, 1, 2))
        self.assertEqual({r.identity for r in answer.results if r.status == pb.PENDING}, {"is-silent", "is-absent"})

    def test_the_transport_confirms_nothing(self):
        self.enter("automatic")
        Receiver(self, self.registry, "automatic", confirms=False, ack_mode=schemas.ACK_AUTO)
        self.assertEqual(self.send(SHORT_MS).confirmed_count, 0)

    def test_many(self):
        names = [f"many-{n:05}" for n in range(1000)]
        self.enter(*names)
        for n in range(0, len(names), 250):
            Receiver(self, self.registry, *names[n:n + 250])
        self.assertEqual(self.send(results=pb.RESULTS_NONE).confirmed_count, len(names))

    def test_nobody(self):
        self.assertEqual(self.send(identities=["nobody"]).target_count, 0)

    def test_the_client_leaves(self):
        self.enter("absent")
        call = self.registry.Multicast.future(payload=b"x", await_confirmation=True, timeout_ms=LONG_MS)
        call.cancel()
        self.assertEqual(self.send(SHORT_MS).pending_count, 1)

    def test_what_is_refused(self):
        listeners = service(self.channel, "listeners")
        for registry, rpc, request, code in (
                (listeners, "Multicast", {"timeout_ms": 1}, grpc.StatusCode.UNIMPLEMENTED),
                (self.registry, "MulticastStream", {"timeout_ms": 1}, grpc.StatusCode.UNIMPLEMENTED),
                (self.registry, "Multicast", {"timeout_ms": 1, "delivery": schemas.AT_MOST_ONCE},
                 grpc.StatusCode.UNIMPLEMENTED),
                (self.registry, "Multicast", {}, grpc.StatusCode.INVALID_ARGUMENT)):
            with self.subTest(rpc, request=request):
                error = wire.failure(getattr(registry, rpc), await_confirmation=True, **request)
                self.assertEqual(error.code(), code, error.details())
        self.assertEqual(wire.detail(error, error_details_pb2.BadRequest).field_violations[0].field, "timeout_ms")

    def test_more_than_can_be_awaited(self):
        names = [f"more-{n:05}" for n in range(10001)]
        for n in range(0, len(names), 1000):
            self.enter(*names[n:n + 1000])
        error = wire.failure(self.registry.Multicast, await_confirmation=True, timeout_ms=1)
        self.assertEqual(error.code(), grpc.StatusCode.FAILED_PRECONDITION, error.details())


class TwoInstances(suite.Case):
    """The sender is at one instance, receivers are at both; identities, topics and queues are shared."""

    def test_over_nats(self):
        self.confirmed_with("nats", NatsServer())

    def test_over_redis(self):
        self.confirmed_with("redis", None)

    def confirmed_with(self, backend, messaging):
        redis = self.borrow(RedisServer())
        address = self.borrow(messaging).address if messaging else redis.address
        slots = {"registry": {"backend": "redis", "config": {"address": redis.address}},
                 "messaging": {"backend": backend, "config": {"address": address}},
                 "durability": {"backend": "redis-stream", "config": {"address": redis.address}}}
        servers = [self.borrow(Prismd(namespaces=[namespace(**slots)])) for _ in range(2)]
        first, second = (service(self.borrow(server.channel())) for server in servers)
        first.RegisterBatch(registrations=[{"identity": name} for name in ("here", "there", "nowhere")])
        Receiver(self, first, "here")
        Receiver(self, second, "there")
        for _ in range(5):
            answer = first.Multicast(payload=b"x", await_confirmation=True, timeout_ms=LONG_MS,
                                     identities=["here", "there"], timeout=2 * environment.PATIENCE)
            self.assertEqual((answer.confirmed_count, answer.pending_count), (2, 0), answer)
        answer = second.Multicast(payload=b"x", await_confirmation=True, timeout_ms=SHORT_MS)
        self.assertEqual({r.identity for r in answer.results if r.status == pb.PENDING} - {"here", "there"},
                         {"nowhere"})
        self.assertEqual([server.metric("prism_multicast_confirmations_untold_total") for server in servers], [0, 0])


if __name__ == "__main__":
    suite.main()
