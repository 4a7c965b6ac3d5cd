"""A real Redis that is killed, paused, full, or refuses the password: clear errors, nothing hangs, and recovery without
a restart of prismd."""
import os
import signal

import grpc
from google.rpc import error_details_pb2

from rig import backends, environment, suite, wait, wire
from rig.keyvalue import pattern_service, pb, stores
from rig.load import Load
from rig.prismd import Prismd
from rig.redis import RedisServer

S = grpc.StatusCode
WIDTH = 64
DEADLINE = 2.0
LATE = 5 if environment.SANITIZER else 2    # a busy machine may deliver an answer this much after its deadline
GROWTH = 64 << 20
BURST = 2000        # writes at a time: more than one worker takes alone


def serve(case, redis, workers=None, **settings):
    slot = {"backend": "redis", "config": {"address": redis.address, **settings}}
    options = {} if workers is None else {"workers": workers}
    return case.borrow(Prismd(namespaces=[backends.keyvalue(slot)], **options))


def effect(error):
    return wire.detail(error, error_details_pb2.ErrorInfo).metadata["effect"]


class UnderLoad(suite.Case):
    def setUp(self):
        self.redis = self.borrow(RedisServer())
        self.server = serve(self, self.redis)
        self.kv = pattern_service(self.borrow(self.server.channel()))

    def start_load(self):
        operations = (
            lambda i: self.kv.Store.future(key=f"k{i % 100}", value=b"v%d" % i, timeout=DEADLINE),
            lambda i: self.kv.Retrieve.future(key=f"k{i % 100}", timeout=DEADLINE),
            lambda i: self.kv.RetrieveBatch.future(keys=[f"k{(i + j) % 100}" for j in range(10)], timeout=DEADLINE),
            lambda i: self.kv.StoreBatch.future(timeout=DEADLINE, requests=[
                pb.StoreRequest(key=f"k{(i + j) % 100}", value=b"v%d" % i) for j in range(10)]))
        load = Load(lambda i: operations[i % len(operations)](i), WIDTH, self.inspect)
        wait.until(lambda: load.count() > 500, environment.PATIENCE, "the load runs")
        return load

    @staticmethod
    def inspect(future, number, seconds):
        if seconds > DEADLINE + LATE:
            return f"call {number} took {seconds:.1f} s; its deadline was {DEADLINE} s"
        if future.code() not in (S.OK, S.UNAVAILABLE, S.DEADLINE_EXCEEDED):
            return f"call {number}: {future.code()}: {future.details()}"
        if future.code() == S.OK and hasattr(future.result(), "results"):
            codes = {r.code for r in future.result().results}
            if not codes <= {0, S.UNAVAILABLE.value[0], S.DEADLINE_EXCEEDED.value[0]}:
                return f"items of call {number}: {codes}"
        return None

    def recovers(self, load):
        done = load.count()
        wait.until(lambda: load.count() > done + 500, environment.PATIENCE, "calls succeed again")
        outcomes = load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:5], [])
        self.assertTrue(self.server.process.alive())
        wait.until(lambda: self.server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "nothing is left over")
        self.assertEqual(self.server.metric("prism_backend_in_flight"), 0)
        return outcomes

    def reads(self):
        return self.unless_away(lambda: self.kv.Retrieve(key="k", timeout=DEADLINE).value == b"v")

    def writes(self):
        return self.unless_away(lambda: self.kv.Store(key="k", value=b"w", timeout=DEADLINE).success)

    def unless_away(self, call):
        try:
            return call()
        except grpc.RpcError as e:
            self.assertEqual(e.code(), S.UNAVAILABLE)
            return False

    def test_killed_and_restarted(self):
        load = self.start_load()
        for _ in range(3):
            done = load.count(S.UNAVAILABLE) + load.count(S.DEADLINE_EXCEEDED)
            self.redis.kill()
            wait.until(lambda n=done: load.count(S.UNAVAILABLE) + load.count(S.DEADLINE_EXCEEDED) > n + WIDTH,
                       environment.PATIENCE, "the failure is seen")
            self.redis.start()
            ok = load.count()
            wait.until(lambda n=ok: load.count() > n + 200, environment.PATIENCE, "calls succeed again")
        outcomes = self.recovers(load)
        self.assertGreater(outcomes[S.UNAVAILABLE], 0)

    def test_paused(self):
        """SIGSTOP: connections stay open and nobody answers. Deadlines hold, memory stays bounded."""
        load = self.start_load()
        before = self.server.process.resident_bytes()
        self.redis.pause()
        self.addCleanup(self.redis.resume)
        wait.until(lambda: load.count(S.DEADLINE_EXCEEDED) + load.count(S.UNAVAILABLE) >= 2 * WIDTH,
                   environment.PATIENCE, "the deadlines hold")
        if not environment.SANITIZER:
            self.assertLess(self.server.process.resident_bytes() - before, GROWTH)
        self.redis.resume()
        self.recovers(load)

    def test_the_effect_of_a_lost_write_is_unknown(self):
        """What was given away and lost may have happened; what finds no connection has not."""
        self.redis.pause()
        sent = self.server.metric("prism_backend_sent_bytes_total")
        value = bytes(100000)  # more than all probes together
        lost = self.kv.Store.future(key="k", value=value)
        wait.until(lambda: self.server.metric("prism_backend_sent_bytes_total") >= sent + len(value),
                   environment.PATIENCE, "it was sent to redis")
        self.redis.kill()
        self.assertEqual((lost.code(), effect(lost.exception())), (S.UNAVAILABLE, "unknown"))
        error = wire.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual((error.code(), effect(error)), (S.UNAVAILABLE, "none"))
        self.redis.start()

    def test_connections_cut(self):
        """CLIENT KILL: the server itself stays; the clients find back at once."""
        load = self.start_load()
        for _ in range(5):
            ok = load.count()
            self.redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            wait.until(lambda n=ok: load.count() > n + 100, environment.PATIENCE, "calls succeed again")
        self.recovers(load)

    def test_read_only(self):
        """A replica refuses writes: an error of each write, while reads go on."""
        self.assertTrue(self.kv.Store(key="k", value=b"v").success)
        self.redis.call("REPLICAOF", "127.0.0.1", "1")
        self.assertEqual(self.kv.Retrieve(key="k").value, b"v")
        error = wire.failure(self.kv.Store, key="k", value=b"w")
        self.assertEqual(error.code(), S.UNAVAILABLE)
        self.assertIn("read-only replica", error.details())
        self.assertGreater(wire.retry_delay_seconds(error), 0)
        self.assertEqual(effect(error), "none")
        wait.until(self.reads, environment.PATIENCE, "reads go on, once the name has led to the same server again")
        self.redis.call("REPLICAOF", "NO", "ONE")
        wait.until(self.writes, environment.PATIENCE, "writes succeed again")


class Refused(suite.Case):
    """Wrong credentials: the reason is told, and the right ones are found once the server has them."""

    def outcome(self, server):
        kv = pattern_service(self.borrow(server.channel()))
        return wire.failure(kv.Retrieve, key="k", timeout=5)

    def start(self, redis, **settings):
        slot = {"backend": "redis", "config": {"address": redis.address, **settings}}
        return self.borrow(Prismd(wait_for=lambda s: s.http_answers(), namespaces=[backends.keyvalue(slot)]))

    def test_wrong_password(self):
        redis = self.borrow(RedisServer(password="right"))
        server = self.start(redis, password="wr0ng-one")
        error = self.outcome(server)
        self.assertEqual(error.code(), S.FAILED_PRECONDITION, "ours to mend, and not worth a retry")
        self.assertIn("redis refused the user name or password", error.details())
        self.assertNotIn("wr0ng-one", error.details() + server.process.log())
        redis.call("CONFIG", "SET", "requirepass", "wr0ng-one")
        redis.password = "wr0ng-one"
        kv = pattern_service(self.borrow(server.channel()))
        wait.until(lambda: stores(kv), environment.PATIENCE, "the connection comes about once the password is right")

    def test_password_is_read_again(self):
        """SIGHUP: the new secret of ${file:..} is used; what came from ${..} is in no line of the log."""
        redis = self.borrow(RedisServer(password="first-one"))
        path = os.path.join(suite.subfolder("secret"), "password")
        with open(path, "w", encoding="utf-8") as f:
            f.write("first-one\n")
        slot = {"backend": "redis", "config": {"address": "${PRISM_TEST_REDIS}", "password": "${file:%s}" % path}}
        host = f"localhost:{redis.port}"
        server = self.borrow(Prismd(env={"PRISM_TEST_REDIS": host}, namespaces=[backends.keyvalue(slot)]))
        kv = pattern_service(self.borrow(server.channel()))
        self.assertTrue(kv.Store(key="k", value=b"v").success)
        redis.kill()
        redis.password = "second-one"
        redis.start()
        wait.until(lambda: not server.serving(), environment.PATIENCE, "the old password is refused")
        with open(path, "w", encoding="utf-8") as f:
            f.write("second-one\n")
        server.process.signal(signal.SIGHUP)
        wait.until(server.serving, environment.PATIENCE, "the new password is used")
        self.assertTrue(kv.Store(key="k", value=b"v").success)
        log = server.process.log()
        self.assertIn("secrets_reloaded", log)
        self.assertIn("redis_disconnected", log)
        for secret in ("first-one", "second-one", "localhost"):
            self.assertNotIn(secret, log)

    def test_missing_password(self):
        redis = self.borrow(RedisServer(password="right"))
        error = self.outcome(self.start(redis))
        self.assertEqual(error.code(), S.FAILED_PRECONDITION)
        self.assertIn("password", error.details())

    def test_acl_user(self):
        redis = self.borrow(RedisServer(users=("user alice on >secret ~* &* +@all",)))
        server = self.start(redis, username="alice", password="secret")
        kv = pattern_service(self.borrow(server.channel()))
        wait.until(server.serving, environment.PATIENCE, "prismd serves")
        self.assertTrue(kv.Store(key="k", value=b"v").success)
        users = [entry for entry in redis.call("CLIENT", "LIST").decode().splitlines() if "user=alice" in entry]
        self.assertGreater(len(users), 0)

    def test_acl_without_permission(self):
        redis = self.borrow(RedisServer(users=("user bob on >secret ~* &* +@all -set",)))
        server = self.start(redis, username="bob", password="secret")
        kv = pattern_service(self.borrow(server.channel()))
        wait.until(server.serving, environment.PATIENCE, "prismd serves")
        self.assertFalse(kv.Retrieve(key="k").found)
        self.assertEqual(wire.failure(kv.Store, key="k", value=b"v").code(), S.PERMISSION_DENIED)


class Changed(suite.Case):
    """A server that is not what it was: shown, and left for the one that is."""

    def setUp(self):
        self.redis = self.borrow(RedisServer())
        self.server = serve(self, self.redis)
        self.kv = pattern_service(self.borrow(self.server.channel()))
        self.kv.Store(key="k", value=b"v")

    def stores(self):
        try:
            return self.kv.Store(key="k", value=b"w", timeout=DEADLINE).success
        except grpc.RpcError:
            return False

    def test_refused_writes_are_shown(self):
        self.redis.call("CONFIG", "SET", "min-replicas-to-write", 1)
        self.assertFalse(self.stores())
        wait.until(lambda: "too few replicas" in self.server.http("/readyz")[1], environment.PATIENCE, "readyz says so")
        self.assertEqual(self.server.metric("prism_backend_degraded"), 1)
        self.assertIn("redis_degraded", self.server.process.log())
        self.assertTrue(self.kv.Retrieve(key="k").found)
        self.redis.call("CONFIG", "SET", "min-replicas-to-write", 0)
        wait.until(lambda: self.stores() and self.server.metric("prism_backend_degraded") == 0, environment.PATIENCE,
                   "all is well again")

    def test_each_worker_recovers(self):
        """Also one that is neither written to again nor probed itself."""
        server = serve(self, self.redis, workers=2)
        kv = pattern_service(self.borrow(server.channel()))

        def refused_on():
            """The workers that have shown it so far, after one more burst that keeps both busy."""
            for call in [kv.Store.future(key=f"b{i}", value=b"v") for i in range(BURST)]:
                call.exception(environment.PATIENCE)
            return {e["worker"] for e in server.log_events() if e["event"] == "redis_degraded"}

        self.redis.call("CONFIG", "SET", "min-replicas-to-write", 1)
        wait.until(lambda: refused_on() == {0, 1}, environment.PATIENCE, "both workers are refused")
        self.assertEqual(server.metric("prism_backend_degraded"), 1)
        self.redis.call("CONFIG", "SET", "min-replicas-to-write", 0)
        wait.until(lambda: server.metric("prism_backend_degraded") == 0, 2 * environment.PATIENCE, "nothing is shown")
        self.assertNotIn("replicas", server.http("/readyz")[1])

    def test_failover_behind_an_address(self):
        new = self.borrow(RedisServer())
        self.redis.call("REPLICAOF", "127.0.0.1", new.port)
        wait.until(lambda: not self.stores() and self.server.metric("prism_backend_degraded") == 1,
                   environment.PATIENCE, "the replica is noticed")
        self.redis.call("REPLICAOF", "NO", "ONE")
        wait.until(lambda: self.stores() and self.server.metric("prism_backend_degraded") == 0, environment.PATIENCE,
                   "the primary is noticed")

    def test_eviction_is_a_capability(self):
        def may_be_evicted():
            reply = self.kv.GetCapabilities()
            return {o.may_be_evicted for o in reply.operations if o.operation == "Store"}
        self.assertEqual(may_be_evicted(), {False})
        self.redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        self.redis.call("CONFIG", "SET", "maxmemory", 1 << 30)
        wait.until(lambda: may_be_evicted() == {True}, environment.PATIENCE, "the probe has asked again")
        events = [e for e in self.server.log_events() if e["event"] == "redis_evicts"]
        self.assertEqual(len(events), 1)


class Full(suite.Case):
    def test_maxmemory(self):
        """At maxmemory with noeviction: writes are refused with a reason, reads and removals go on."""
        redis = self.borrow(RedisServer(maxmemory=8 << 20))
        server = serve(self, redis)
        kv = pattern_service(self.borrow(server.channel()))
        stored, refused = 0, None
        while refused is None and stored < 1000:
            refused = self.refusal(kv, f"k{stored}", b"x" * 100_000)
            stored += refused is None
        self.assertIsNotNone(refused, "a store of 8 MB takes no 100 MB")
        self.assertEqual(refused[0], S.RESOURCE_EXHAUSTED.value[0], refused[1])
        self.assertIn("memory", refused[1].lower())
        self.assertGreater(stored, 10)
        self.assertTrue(kv.Retrieve(key="k0").found)
        self.assertEqual(kv.RetrieveBatch(keys=["k0", "k1"]).found_count, 2)
        error = wire.failure(kv.StoreBatch, requests=[pb.StoreRequest(key="new", value=b"x" * 100_000)] * 3)
        self.assertEqual(error.code(), S.RESOURCE_EXHAUSTED, "nothing of the batch could be written")
        for i in range(stored):
            self.assertTrue(kv.Remove(key=f"k{i}").existed)
        self.assertIsNone(self.refusal(kv, "again", b"x" * 100_000), "there is room again")
        self.assertTrue(server.serving())

    @staticmethod
    def refusal(kv, key, value):
        """(code, text) of a refused store, None if it was taken."""
        try:
            reply = kv.Store(key=key, value=value)
            return None if reply.success else (reply.code, reply.error)
        except grpc.RpcError as e:
            return e.code().value[0], e.details()


if __name__ == "__main__":
    suite.main()
