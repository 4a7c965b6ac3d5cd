"""What a Redis keeps for the other patterns, through failovers: by Sentinel, of a cluster's primary, and while a slot
of a cluster moves. Every call gets its answer, subscriptions go on by themselves, nothing is restarted, and what is
lost is what a primary acknowledged alone."""
import contextlib
import itertools
import threading

import grpc

from rig import environment, session, suite, wait, wire
from rig.load import Load
from rig.messaging import Member, consumer, consumer_service, pb, producer, producer_service
from rig.prismd import Prismd
from rig.redis_cluster import RedisCluster
from rig.redis_sentinel import NAME, Watched

S = grpc.StatusCode
WIDTH = 16
BATCH = 10
KEYS = 7
DEADLINE = 2.0
LATE = 5 if environment.SANITIZER else 2
TIMEOUTS = {"dial_timeout_ms": 1000, "command_timeout_ms": 1000}
CLUSTER = {"cluster": True, "cluster_refresh_ms": 500}


class Publisher(threading.Thread):
    """Publishes numbers, each until it is stored; self.stored are those that prismd has acknowledged."""

    def __init__(self, rpc, topic):
        super().__init__()
        self.rpc, self.topic, self.stored, self.over = rpc, topic, [], threading.Event()
        self.start()

    def run(self):
        for first in itertools.count(0, BATCH):
            left = list(range(first, first + BATCH))
            while left and not self.over.is_set():
                left = self.publish(left)
            if self.over.is_set():
                return

    def publish(self, numbers):
        try:
            reply = self.rpc.PublishBatch(timeout=DEADLINE, messages=[
                pb.PublishRequest(topic=self.topic, payload=b"%d" % n, ordering_key=b"%d" % (n % KEYS))
                for n in numbers])
        except grpc.RpcError:
            self.over.wait(wait.STEP)
            return numbers
        done = {n for n, result in zip(numbers, reply.results) if result.success}
        self.stored += sorted(done)
        return [n for n in numbers if n not in done]

    def stop(self):
        self.over.set()
        self.join()


class Reader(threading.Thread):
    """Takes what comes and acknowledges it until the stream is cancelled; self.order is how it came first."""

    def __init__(self, rpc, topic):
        super().__init__()
        self.member = Member(rpc, topic=topic, consumer_group="g")
        self.seen, self.order = set(), []
        self.start()

    def run(self):
        with contextlib.suppress(grpc.RpcError), self.member:
            while True:
                message, = self.member.take(1)
                self.member.acknowledge(message.sequence)
                number = int(message.payload)
                if number not in self.seen:
                    self.order.append(number)
                self.seen.add(number)

    def stop(self):
        self.member.answers.cancel()
        self.join()


class Kept(suite.Case):
    def serve(self, namespaces):
        return self.borrow(Prismd(wait_for=lambda s: s.http_answers(), namespaces=namespaces))

    def streams(self, address, topic, **settings):
        slot = {"backend": "redis-stream",
                "config": {"address": address, "claim_idle_ms": 1000, **TIMEOUTS, **settings}}
        server = self.serve([producer(slot), consumer(slot)])
        publisher = Publisher(producer_service(self.borrow(server.channel())), topic)
        self.addCleanup(publisher.stop)
        wait.until(lambda: len(publisher.stored) > 300, environment.PATIENCE, "messages are stored")
        reader = Reader(consumer_service(self.borrow(server.channel())), topic)
        self.addCleanup(reader.stop)
        wait.until(lambda: len(reader.seen) > 300, environment.PATIENCE, "messages are read")
        return server, publisher, reader

    def all_come(self, server, publisher, reader, may_be_lost):
        """From here on nothing is lost; of what was stored before, what only the lost primary had."""
        mark = len(publisher.stored) + BATCH
        wait.until(lambda: len(publisher.stored) > mark + 300, environment.PATIENCE, "messages are stored again")
        publisher.stop()
        late = set(publisher.stored[mark:])
        wait.until(lambda: late <= reader.seen, environment.PATIENCE, "all that was stored since has come")
        if not may_be_lost:
            wait.until(lambda: set(publisher.stored) <= reader.seen, environment.PATIENCE, "and all from before")
        missing = set(publisher.stored) - reader.seen
        print(f"{len(publisher.stored)} stored, {len(missing)} of them by the lost primary alone and never read")
        for key in range(KEYS):
            came = [n for n in reader.order if n % KEYS == key]
            self.assertEqual(came, sorted(came), "in the order of their key")
        reader.stop()
        self.assertTrue(server.process.alive())
        wait.until(lambda: server.metric("prism_backend_in_flight") == 0, environment.PATIENCE, "nothing is left over")

    def sessions(self, address, name="default", **settings):
        slot = {"backend": "redis", "config": {"address": address, **TIMEOUTS, **settings}}
        server = self.serve([session.namespace(slot, name)])
        rpc = session.service(self.borrow(server.channel()), name)
        create = wire.Service(self.borrow(server.channel()), session.SERVICE, name).CreateSession
        self.acknowledged = []

        def start(number):
            request = session.pb.CreateSessionRequest(metadata={"user_id": f"u{number % KEYS}"})
            return create.future(request, timeout=DEADLINE)

        def inspect(future, number, seconds):
            if seconds > DEADLINE + LATE:
                return f"call {number} took {seconds:.1f} s"
            if future.code() == S.OK:
                self.acknowledged.append(future.result().session_id)
            elif future.code() not in (S.UNAVAILABLE, S.DEADLINE_EXCEEDED):
                return f"call {number}: {future.code()}: {future.details()}"
            return None
        wait.until(lambda: self.creates(rpc), environment.PATIENCE, "prismd serves")
        load = Load(start, WIDTH, inspect)
        self.goes_on(load)
        return server, rpc, load

    @staticmethod
    def creates(rpc, user="first"):
        """Its identifier; None while the worker that is asked has no connection."""
        try:
            return rpc.CreateSession(metadata={"user_id": user}).session_id
        except grpc.RpcError:
            return None

    @staticmethod
    def of_user(rpc, user):
        """Identifiers; None while the worker that is asked seeks the primary, which another may have found."""
        try:
            return {s.session_id for s in session.listed(rpc, user_id=f"u{user}", page_size=500)}
        except grpc.RpcError as error:
            if error.code() != S.UNAVAILABLE:
                raise
            return None

    def goes_on(self, load):
        done = load.count()
        wait.until(lambda: load.count() > done + 300, environment.PATIENCE, "calls succeed")

    def all_are_there(self, server, rpc, load, may_be_lost, sure=False):
        before = len(self.acknowledged) + WIDTH
        self.goes_on(load)
        load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:5], [])
        found = set()
        for user in range(KEYS):
            found |= wait.until(lambda: self.of_user(rpc, user), environment.PATIENCE, "a user's primary is found")
        missing = {i for i in self.acknowledged if i not in found}
        print(f"{len(self.acknowledged)} acknowledged, {len(missing)} of them by the lost primary alone")
        self.assertEqual(missing & set(self.acknowledged[before if may_be_lost else 0:]), set())
        if sure:
            self.assertGreater(len(missing), 0, "an acknowledgement is the primary's alone")
        self.assertTrue(server.process.alive())
        wait.until(lambda: server.metric("prism_backend_in_flight") == 0, environment.PATIENCE, "nothing is left over")

    def dies(self, server, replica, acknowledged):
        """With something that it has acknowledged, and the replica has not: that stands still, and is cut off.

        Up to WIDTH acknowledgements may have been on their way before that."""
        replica.pause()
        server.call("CLIENT", "KILL", "TYPE", "replica")
        n = len(acknowledged) + WIDTH
        wait.until(lambda: len(acknowledged) > n + BATCH, environment.PATIENCE, "it acknowledges without a replica")
        server.kill()
        replica.resume()

    # ---- Sentinel

    def watched(self):
        return Watched(self.borrow(contextlib.ExitStack()))

    def failover(self, watched, acknowledged):
        self.dies(*watched.servers, acknowledged)
        wait.until(lambda: watched.primary_port() == watched.servers[1].port, environment.PATIENCE, "failover")

    def test_streams_through_a_sentinel_failover(self):
        watched = self.watched()
        all_of = self.streams(watched.addresses(), "t", sentinel_master=NAME)
        self.failover(watched, all_of[1].stored)
        self.all_come(*all_of, may_be_lost=True)

    def test_sessions_through_a_sentinel_failover(self):
        watched = self.watched()
        all_of = self.sessions(watched.addresses(), sentinel_master=NAME)
        self.failover(watched, self.acknowledged)
        self.all_are_there(*all_of, may_be_lost=True, sure=True)

    def test_sessions_of_a_primary_that_is_demoted(self):
        """It lives on as a replica, and refuses what is written."""
        watched = self.watched()
        all_of = self.sessions(watched.addresses(), sentinel_master=NAME)
        watched.sentinels[0].call("SENTINEL", "FAILOVER", NAME)
        wait.until(lambda: watched.primary_port() == watched.servers[1].port, environment.PATIENCE, "failover")
        self.all_are_there(*all_of, may_be_lost=True)

    # ---- a cluster

    def primary_dies(self, cluster, acknowledged):
        replica = cluster.nodes[-1]
        self.dies(cluster.nodes[0], replica, acknowledged)
        wait.until(lambda: replica.call("ROLE")[0] == b"master" and b"cluster_state:ok" in
                   replica.call("CLUSTER", "INFO"), environment.PATIENCE, "failover")

    def test_streams_of_a_primary_that_is_killed(self):
        cluster = self.borrow(RedisCluster(replicas=1))
        all_of = self.streams(cluster.address, cluster.name_at(cluster.nodes[0], ""), **CLUSTER)
        self.primary_dies(cluster, all_of[1].stored)
        self.all_come(*all_of, may_be_lost=True)

    def test_sessions_of_a_primary_that_is_killed(self):
        """A third of the users is its, and so is the number of partitions, which is known by then."""
        cluster = self.borrow(RedisCluster(replicas=1))
        name = cluster.name_at(cluster.nodes[0], "prism:{", "}%partitions")
        all_of = self.sessions(cluster.address, name, **CLUSTER)
        self.assertGreater(len(cluster.nodes[0].call("KEYS", "*%session:u:*")), 0, "some users are its")
        self.primary_dies(cluster, self.acknowledged)
        self.all_are_there(*all_of, may_be_lost=True, sure=True)

    def slot_moves(self, cluster, key):
        slot = cluster.nodes[0].call("CLUSTER", "KEYSLOT", key)
        cluster.begin_move(slot, cluster.nodes[0], cluster.nodes[1])
        cluster.move_keys(slot, cluster.nodes[0], cluster.nodes[1])
        cluster.end_move(slot, cluster.nodes[1])

    def test_the_slot_of_a_stream_moves(self):
        cluster = self.borrow(RedisCluster())
        topic = cluster.name_at(cluster.nodes[0], "")
        all_of = self.streams(cluster.address, topic, **CLUSTER)
        self.slot_moves(cluster, topic)
        self.all_come(*all_of, may_be_lost=False)
        self.assertGreater(cluster.nodes[1].call("XLEN", topic), 300)

    def sessions_move(self, n):
        """The slot of n sessions of a user has begun to move: cluster, namespace, service, slot, ids."""
        cluster = self.borrow(RedisCluster())
        source, target = cluster.nodes[:2]
        name = cluster.name_at(source, "prism:{", "}%session:due")
        slot = {"backend": "redis",
                "config": {"address": cluster.address, "cluster_partitions": 1, **TIMEOUTS, **CLUSTER}}
        rpc = session.service(self.borrow(self.serve([session.namespace(slot, name)]).channel()), name)
        wait.until(lambda: self.creates(rpc), environment.PATIENCE, "one more, so that no index is empty later")
        ids = [wait.until(lambda: self.creates(rpc, "u"), environment.PATIENCE, "each worker serves") for _ in range(n)]
        moving = source.call("CLUSTER", "KEYSLOT", f"prism:{{{name}}}")
        cluster.begin_move(moving, source, target)
        return cluster, name, rpc, moving, ids

    def test_an_end_of_a_session_that_meets_a_move_half_way(self):
        """Its script has begun when it comes upon a key that is gone; it may be repeated, and is then whole."""
        cluster, name, rpc, moving, ids = self.sessions_move(2)
        source, target = cluster.nodes[:2]
        source.call("MIGRATE", "127.0.0.1", target.port, f"prism:{{{name}}}%session:u:u", 0, 5000)
        error = wire.failure(rpc.DeleteSession, session_id=ids[0])
        self.assertEqual(error.code(), S.UNAVAILABLE)
        self.assertIn("moving", error.details())
        cluster.move_keys(moving, source, target)
        cluster.end_move(moving, target)
        wait.until(lambda: self.creates(rpc), environment.PATIENCE, "prismd has found the slot")
        rpc.DeleteSession(session_id=ids[0])
        self.assertEqual([s.session_id for s in session.listed(rpc, user_id="u")], ids[1:])
        self.assertEqual(len(session.listed(rpc)), target.call("ZCARD", f"prism:{{{name}}}%session:all"))

    def test_a_move_that_takes_its_time(self):
        """All keys are at the new node already, which knows no script, and the old one still sends there by ASK."""
        cluster, _, rpc, moving, (made,) = self.sessions_move(1)
        source, target = cluster.nodes[:2]
        cluster.move_keys(moving, source, target)
        target.call("SCRIPT", "FLUSH")
        self.assertEqual(rpc.GetSession(session_id=made).session.session_id, made)
        rpc.DeleteSession(session_id=made)
        self.assertEqual(session.listed(rpc, user_id="u"), [])
        cluster.end_move(moving, target)

    def test_the_slot_of_sessions_moves(self):
        cluster = self.borrow(RedisCluster())
        name = cluster.name_at(cluster.nodes[0], "prism:{", "}%session:due")
        all_of = self.sessions(cluster.address, name, cluster_partitions=1, **CLUSTER)
        self.slot_moves(cluster, f"prism:{{{name}}}%session:due")
        self.all_are_there(*all_of, may_be_lost=False)
        self.assertEqual(cluster.nodes[1].call("EXISTS", f"prism:{{{name}}}%session:due"), 1)


if __name__ == "__main__":
    suite.main()
