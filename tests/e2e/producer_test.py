"""ProducerPattern through a running prismd, on the backend that PRISM_BACKEND names."""
import threading

import grpc

from rig import backends, suite, wait, wire
from rig.messaging import Stream, pb, producer, producer_service
from rig.prismd import Prismd


MEMORY = {"backend": "memstore", "config": {}}


class Producer(suite.Case):
    @classmethod
    def setUpClass(cls):
        slot = cls.use(backends.slot(suite.backend()))
        cls.server = cls.use(Prismd(workers=2, namespaces=[producer(slot), producer(
            slot, "narrow", allowed_topics="orders.*", topic_prefix="team.", window=100, window_bytes=65536), producer(
                slot, "full", state=MEMORY, objects=MEMORY, claim_check_threshold=1000)]))
        cls.channel = cls.use(cls.server.channel())
        cls.rpc = producer_service(cls.channel)

    def test_faults_of_a_request_are_a_status(self):
        for topic in ("", "a b", "orders.*", "$SYS", "__internal"):
            error = wire.failure(self.rpc.Publish, topic=topic, payload=b"x")
            self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
        error = wire.failure(producer_service(self.channel, "narrow").Publish, topic="other", payload=b"x")
        self.assertEqual(error.code(), grpc.StatusCode.PERMISSION_DENIED)
        self.assertTrue(producer_service(self.channel, "narrow").Publish(topic="orders.eu", payload=b"x").success)

    def test_keys_headers_and_payloads_are_bytes(self):
        reply = self.rpc.Publish(topic="bytes", payload=bytes(range(256)), ordering_key=b"\xff\x00",
                                 headers=[{"name": "h", "value": b"\x00\xff"}, {"name": "h", "value": b""}])
        self.assertTrue(reply.success)

    def test_a_window_holds_a_fast_client_back(self):
        """Frames of many clients, each with more than its window: every message is settled, none is lost."""
        rpc = producer_service(self.channel, "narrow", timeout=60)
        totals = []

        def client():
            with Stream(rpc.PublishStream) as stream:
                for _ in range(50):
                    stream.send(pb.PublishFrame(topic="orders.many", messages=[
                        pb.PublishRequest(payload=bytes(1000), ordering_key=b"%d" % i) for i in range(100)]))
                stream.half_close()
                totals.append(stream.rest()[-1].success_count)

        threads = [threading.Thread(target=client) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(totals, [5000] * 4)
        self.assertEqual(rpc.GetStats().unsettled, 0)

    def test_a_client_that_vanishes_leaves_nothing_unsettled(self):
        with Stream(self.rpc.PublishStream) as stream:
            stream.next()
            stream.send(pb.PublishFrame(topic="vanish", messages=[pb.PublishRequest(payload=b"x")] * 100))
            stream.until(lambda ack: ack.settled_through == 100)
        wait.until(lambda: self.rpc.GetStats().unsettled == 0, 10, "everything is settled")

    def test_one_fault_does_not_end_the_stream(self):
        with Stream(self.rpc.PublishStream) as stream:
            stream.send(pb.PublishFrame(topic="faults", messages=[
                pb.PublishRequest(payload=b"1"), pb.PublishRequest(topic="no such?", payload=b"2"),
                pb.PublishRequest(payload=b"3")]))
            stream.half_close()
            acks = stream.rest()
        self.assertEqual((acks[-1].success_count, acks[-1].failure_count), (2, 1))
        (failure,) = [f for ack in acks for f in ack.failures]
        self.assertEqual((failure.sequence, failure.code, failure.outcome), (2, 3, pb.NOT_STORED))

    def test_slots_for_identifiers_and_large_payloads(self):
        rpc = producer_service(self.channel, "full")
        capabilities = rpc.GetCapabilities()
        self.assertTrue(capabilities.supports_deduplication and capabilities.supports_claim_check)
        self.assertFalse(capabilities.supports_compression)
        self.assertFalse(self.rpc.GetCapabilities().supports_claim_check)
        first = rpc.Publish(topic="full", payload=bytes(5000), message_id="id")
        again = rpc.Publish(topic="full", payload=bytes(5000), message_id="id")
        self.assertEqual((first.deduplicated, first.claim_checked, again.deduplicated), (False, True, True))
        self.assertEqual(first.offset, again.offset)
        self.assertEqual(rpc.Publish(topic="full", payload=b"other", message_id="id").code, 6)
        calls = [rpc.Publish.future(topic="race", payload=b"x", message_id=f"{i % 10}") for i in range(100)]
        replies = [call.result() for call in calls]
        self.assertTrue(all(r.success for r in replies))
        self.assertEqual(sum(not r.deduplicated for r in replies), 10, "each identifier is written once")

    def test_metrics(self):
        self.rpc.Publish(topic="metrics", payload=b"x")
        samples = self.server.metrics()
        self.assertGreater(samples['prism_producer_messages_total{namespace="default",outcome="stored"}'], 0)
        self.assertEqual(samples['prism_producer_unsettled_messages{namespace="default"}'], 0)


if __name__ == "__main__":
    suite.main()
