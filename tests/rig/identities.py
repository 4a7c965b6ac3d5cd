"""Registries with the slots that a test chooses, on servers of its own."""
from rig import environment, suite
from rig.multicast import namespace, service
from rig.nats import NatsServer, queue_stream
from rig.postgres import PostgresServer
from rig.prismd import Prismd
from rig.redis import RedisServer

MEMSTORE = {"backend": "memstore", "config": {}}


class Identities(suite.Case):
    def redis(self, backend="redis", **options):
        """Of the server that was started last."""
        self.server = self.borrow(RedisServer(**options))
        return {"backend": backend, "config": {"address": self.server.address}}

    def postgres(self):
        self.server = self.borrow(PostgresServer(durable=True))
        return {"backend": "postgres", "config": {"address": self.server.address, "username": "postgres",
                                                  "database": "postgres"}}

    def nats(self, backend="nats"):
        self.broker = self.borrow(NatsServer())
        return {"backend": backend, "config": {"address": self.broker.address}}

    def stream_of_queues(self, **config):
        """One of all queues, so that there is an object for each identity that attached and no more, at the broker that
        was started last."""
        queue_stream(self.broker, **config)
        return {"backend": "jetstream", "config": {"address": self.broker.address}}

    def jetstream(self):
        self.broker = self.borrow(NatsServer())
        return self.stream_of_queues()

    def serve(self, registry, messaging, durability=None, **behavior):
        server = self.borrow(Prismd(namespaces=[namespace(registry, messaging, durability=durability, **behavior)]))
        return server, service(self.borrow(server.channel()), timeout=2 * environment.PATIENCE)

    @staticmethod
    def register(registry, names, **more):
        for first in range(0, len(names), 1000):
            batch = names[first:first + 1000]
            answer = registry.RegisterBatch(registrations=[{"identity": name, **more} for name in batch])
            assert answer.success_count == len(batch), answer
