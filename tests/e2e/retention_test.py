"""P9: where retention may remove unread messages, consumers are told and the log names the topic and the setting."""
from rig import environment, suite, wait
from rig.messaging import Member, consumer, consumer_service, producer, producer_service
from rig.prismd import Prismd
from prism.patterns.schemas import messaging_pb2 as schemas


class Retention(suite.Case):
    def serve(self, **config):
        slot = {"backend": "memstore", "config": config}
        self.server = self.borrow(Prismd(workers=2, namespaces=[producer(slot), consumer(slot)]))
        return consumer_service(self.borrow(self.server.channel()))

    def events(self):
        return [e for e in self.server.log_events() if e["event"] == "retention_lossy"]

    def test_a_lossy_topic_is_told_and_named(self):
        rpc = self.serve(stream_drop_unread=True)
        before = rpc.GetCapabilities()
        self.assertEqual(before.retention, schemas.RETENTION_UNKNOWN)
        with Member(rpc, topic="t", consumer_group="g"):
            wait.until(lambda: rpc.GetCapabilities().retention == schemas.RETENTION_LOSSY, environment.PATIENCE,
                       "the capabilities say so")
            for _ in range(8):  # on each worker
                told = consumer_service(self.borrow(self.server.channel())).GetCapabilities()
                self.assertEqual(told.retention, schemas.RETENTION_LOSSY)
                self.assertNotEqual(told.generation, before.generation)
        with Member(rpc, topic="t", consumer_group="g") as again:
            self.assertEqual(again.started.generation, told.generation)
        event = wait.until(self.events, environment.PATIENCE, "the log says so")[0]
        self.assertEqual(event["level"], "warn")
        self.assertEqual([event[name] for name in ("namespace", "slot", "topic", "group", "setting")],
                         ["default", "message_source", "t", "g", "stream_drop_unread"])

    def test_a_topic_that_keeps_is_not(self):
        rpc = self.serve()
        producer_service(self.borrow(self.server.channel())).Publish(topic="t", payload=b"x")
        with Member(rpc, topic="t", consumer_group="g") as member:
            member.take(1)
        self.assertEqual(rpc.GetCapabilities().retention, schemas.RETENTION_UNKNOWN)
        self.server.terminate()
        self.assertEqual(self.events(), [])


if __name__ == "__main__":
    suite.main()
