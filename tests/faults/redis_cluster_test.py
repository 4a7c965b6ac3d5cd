"""A Redis cluster in use: a slot moves, a primary dies. Every call gets its answer, and nothing is restarted."""
import grpc

from rig import backends, environment, suite, wait, wire
from rig.keyvalue import Stores, pattern_service, pb, stores
from rig.prismd import Prismd
from rig.redis import RedisServer, commands_run
from rig.redis_cluster import RedisCluster

S = grpc.StatusCode
KEYS = 300
CLUSTER = {"cluster": True, "dial_timeout_ms": 1000, "command_timeout_ms": 1000}


class Cluster(suite.Case):
    def serve(self, address, options=None, **settings):
        slot = {"backend": "redis", "config": {"address": address, **CLUSTER, **settings}}
        server = self.borrow(Prismd(wait_for=lambda s: s.http_answers(), namespaces=[backends.keyvalue(slot)],
                                    **(options or {})))
        return server, pattern_service(self.borrow(server.channel()))

    @staticmethod
    def page(kv, **request):
        """Asked for again while a worker that has just learnt of a primary is not connected to it yet."""
        def messages():
            try:
                return list(kv.Scan(**request))
            except grpc.RpcError as e:
                if e.code() != S.UNAVAILABLE:
                    raise
                return None
        return wait.until(messages, environment.PATIENCE, "a page of a scan")

    def scanned(self, kv, prefix):
        """All keys, by pages of a few: the cursors pass from one primary to the next. Under load keys come twice."""
        keys, cursor = set(), ""
        while True:
            page = self.page(kv, prefix=prefix, limit=50, cursor=cursor)
            keys.update(key for message in page for key in message.keys)
            cursor = page[-1].next_cursor
            if not page[-1].has_more:
                return keys

    def test_slot_moves_under_load(self):
        cluster = self.borrow(RedisCluster())
        server, kv = self.serve(cluster.address)
        wait.until(lambda: stores(kv), environment.PATIENCE, "prismd serves")
        tagged = [f"{{move}}{i}" for i in range(KEYS)]
        stored = kv.StoreBatch(requests=[pb.StoreRequest(key=k, value=k.encode()) for k in tagged])
        self.assertEqual(stored.success_count, KEYS)
        slot = cluster.nodes[0].call("CLUSTER", "KEYSLOT", "prism:default:{move}0")
        source = next(n for n in cluster.primaries if n.call("CLUSTER", "COUNTKEYSINSLOT", slot) == KEYS)
        target = next(n for n in cluster.primaries if n is not source)
        load = Stores(kv)
        cluster.begin_move(slot, source, target)
        new = kv.StoreBatch(requests=[pb.StoreRequest(key=f"{{move}}new{i}", value=b"v") for i in range(KEYS)])
        self.assertEqual(new.success_count, KEYS, "a new key of a slot that moves is asked for at the target (ASK)")
        self.assertEqual(target.call("CLUSTER", "COUNTKEYSINSLOT", slot), KEYS)
        self.assertEqual(kv.RetrieveBatch(keys=tagged).found_count, KEYS)
        cluster.move_keys(slot, source, target)
        self.assertEqual([r.value for r in kv.RetrieveBatch(keys=tagged).results], [k.encode() for k in tagged])
        cluster.end_move(slot, target)
        self.assertEqual([r.value for r in kv.RetrieveBatch(keys=tagged).results], [k.encode() for k in tagged])
        wait.until(lambda: self.asked_of(source, kv) == 0, environment.PATIENCE, "the map is that of the cluster")
        self.assertEqual(self.scanned(kv, "{move}"), {*tagged, *(f"{{move}}new{i}" for i in range(KEYS))})
        load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:5], [])
        self.assertEqual(load.count(), load.started, "no call noticed")
        self.assertEqual(kv.Count(prefix="n").count, len(load.acknowledged))
        self.assertEqual(len(self.scanned(kv, "n")), len(load.acknowledged))
        wait.until(lambda: server.metric("prism_backend_in_flight") == 0, environment.PATIENCE, "nothing is left over")

    @staticmethod
    def moved(node):
        """How many commands this node had to send elsewhere."""
        text = node.call("INFO", "errorstats").decode()
        return int(text.split("errorstat_MOVED:count=")[1].split()[0]) if "errorstat_MOVED" in text else 0

    def asked_of(self, node, kv):
        """How many of ten reads of the slot that was moved this node had to send elsewhere."""
        before = self.moved(node)
        for _ in range(10):
            kv.Retrieve(key="{move}0")
        return self.moved(node) - before

    def test_the_map_is_asked_for_now_and_then(self):
        """What has moved unseen is gone to at once."""
        def asked():
            return sum(commands_run(n.address).get("cluster|slots", 0) for n in cluster.nodes)
        cluster = self.borrow(RedisCluster())
        _, kv = self.serve(cluster.address, options={"workers": 1}, cluster_refresh_ms=200)
        wait.until(lambda: stores(kv), environment.PATIENCE, "prismd serves")
        source, target = cluster.primaries[:2]
        key = cluster.name_at(source, "prism:default:")
        slot = source.call("CLUSTER", "KEYSLOT", "prism:default:" + key)
        cluster.begin_move(slot, source, target)
        cluster.end_move(slot, target)
        before = asked()
        wait.until(lambda: asked() >= before + 2, environment.PATIENCE, "an answer that knows of it is in")
        self.assertTrue(kv.Store(key=key, value=b"v").success)
        self.assertEqual(self.moved(source), 0)
        self.assertEqual(target.call("CLUSTER", "COUNTKEYSINSLOT", slot), 1)

    def test_primary_killed(self):
        cluster = self.borrow(RedisCluster(replicas=1))
        server, kv = self.serve(cluster.address)
        wait.until(lambda: stores(kv), environment.PATIENCE, "prismd serves")
        load = Stores(kv)
        cluster.nodes[0].kill()
        replica = cluster.nodes[-1]
        wait.until(lambda: replica.call("ROLE")[0] == b"master" and b"cluster_state:ok" in
                   replica.call("CLUSTER", "INFO"), environment.PATIENCE, "failover")
        before = len(load.acknowledged)
        wait.until(lambda: server.metric("prism_backend_degraded") == 0 and server.http("/readyz")[0] == 200,
                   environment.PATIENCE, "prismd has found the new primary")
        load.goes_on()
        load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:5], [])
        found = self.scanned(kv, "n")
        missing = [n for n in load.acknowledged if f"n{n}" not in found]
        print(f"{len(load.acknowledged)} acknowledged, {len(missing)} of them by the lost primary alone")
        later = set(load.acknowledged[before + load.WIDTH:])
        self.assertEqual([n for n in missing if n in later], [], "what the new primary acknowledged is there")
        self.assertTrue(server.process.alive())
        wait.until(lambda: server.metric("prism_backend_in_flight") == 0, environment.PATIENCE, "nothing is left over")

    def test_what_is_refused(self):
        cluster = self.borrow(RedisCluster())
        one = self.borrow(RedisServer())
        _, kv = self.serve(one.address)
        wait.until(lambda: "no node of a cluster" in wire.failure(kv.Retrieve, key="k").details(), environment.PATIENCE,
                   "one server is no cluster")
        _, kv = self.serve(cluster.nodes[0].address, cluster=False)
        wait.until(lambda: "see the setting `cluster`" in wire.failure(kv.Retrieve, key="k").details(),
                   environment.PATIENCE, "a cluster is not one server")
        _, kv = self.serve(cluster.nodes[1].address)
        wait.until(lambda: stores(kv), environment.PATIENCE, "prismd serves")
        error = wire.failure(kv.StoreBatch, requests=[pb.StoreRequest(key="a", value=b"v")], atomic=True)
        self.assertEqual(error.code(), S.UNIMPLEMENTED)


if __name__ == "__main__":
    suite.main()
