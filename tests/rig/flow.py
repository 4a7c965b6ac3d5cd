"""Messages that flow through prismd while something fails: a publisher, a reader, and what must be true in the end."""
import threading

import grpc

from rig import environment, suite, wait
from rig.messaging import Member, Stream, consumer_service, pb, producer_service

KEYS = 8
FRAME = 50
FRAMES = 60


class Publisher(threading.Thread):
    """Publishes FRAMES frames on one stream; message i has the key i % KEYS. `stored`: those that were acknowledged."""

    def __init__(self, server, topic):
        super().__init__(daemon=True)
        self.channel, self.topic, self.stored, self.failures, self.frames = server.channel(), topic, set(), [], 0

    def run(self):
        with self.channel as channel, Stream(producer_service(channel).PublishStream, timeout=60) as stream:
            stream.next()
            for frame in range(FRAMES):
                first = frame * FRAME
                stream.send(pb.PublishFrame(topic=self.topic, with_results=True, messages=[
                    pb.PublishRequest(payload=b"%d" % i, ordering_key=b"%d" % (i % KEYS))
                    for i in range(first, first + FRAME)]))
                results = []
                while len(results) < FRAME:
                    results.extend(stream.next().results)
                self.stored.update(first + i for i, r in enumerate(results) if r.outcome == pb.STORED)
                self.failures.extend(r.code for r in results if r.outcome != pb.STORED)
                self.frames = frame + 1


class Reader(threading.Thread):
    """Consumes and settles until stopped; `seen`: the offset of each number."""

    def __init__(self, server, topic):
        super().__init__(daemon=True)
        self.channel, self.topic = server.channel(), topic
        self.seen, self.member = {}, None

    def run(self):
        with self.channel as channel:
            try:
                with Member(consumer_service(channel), topic=self.topic, consumer_group="g") as self.member:
                    while True:
                        frame = self.member.frame()
                        for m in frame.messages:
                            self.seen.setdefault(int(m.payload), set()).add(m.offset)
                        again = [f.sequence for f in frame.failures if f.code == grpc.StatusCode.UNAVAILABLE.value[0]]
                        if again:
                            self.member.acknowledge(*again)
                        if frame.messages:
                            self.member.acknowledge(through=frame.messages[-1].sequence)
            except grpc.RpcError:
                pass

    def stop(self):
        self.member.answers.cancel()
        self.join()


class Flow(suite.Case):
    def setUp(self):
        self.topic = self._testMethodName

    def check(self, publisher, reader, patience=environment.PATIENCE):
        """All that was acknowledged comes; the stream has it once, and in the order of its key. (What a lost connection
        had on its way is delivered late.)"""
        publisher.join()
        wait.until(lambda: publisher.stored <= reader.seen.keys(), patience, "what was stored was consumed")
        reader.stop()
        self.assertEqual({len(offsets) for offsets in reader.seen.values()}, {1})
        for key in range(KEYS):
            offsets = [reader.seen[n] for n in sorted(reader.seen) if n % KEYS == key]
            self.assertEqual(offsets, sorted(offsets, key=min), f"key {key}")

    def under_way(self, server):
        """A publisher and a reader that have begun."""
        publisher, reader = Publisher(server, self.topic), Reader(server, self.topic)
        for thread in (publisher, reader):
            thread.start()
        wait.until(lambda: publisher.frames > 2 and reader.seen, environment.PATIENCE, "messages flow")
        return publisher, reader
