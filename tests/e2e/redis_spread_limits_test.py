"""Limits of a namespace over a Redis cluster of which a primary does not answer: what is there and what came in is told
as it is."""
import grpc

from rig import environment, multicast, suite, wait
from rig.multicast import pb
from rig.prismd import Prismd
from rig.redis_cluster import RedisCluster

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
FLOOR = 64          # of 16 partitions and MOST: so many of each come in without a count
MOST = 16 * 2 * FLOOR
WAITING = 8         # more than a primary has of the partitions


class Limits(suite.Case):
    def setUp(self):
        self.cluster = self.borrow(RedisCluster())
        for node in self.cluster.nodes:
            node.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
        config = {"address": self.cluster.address, "cluster": True, "command_timeout_ms": 60000}
        plain, slot = ({"backend": "redis", "config": {**config, **more}} for more in ({}, {"max_in_flight": WAITING}))
        self.server = self.borrow(Prismd(workers=1, namespaces=[
            multicast.namespace(plain, plain, "names"),
            multicast.namespace(slot, slot, "large", max_identities=MOST),
            multicast.namespace(slot, slot, "small", max_identities=40)]))
        self.channel = self.borrow(self.server.channel())
        wait.until(lambda: self.server.http("/readyz")[0] == 200, environment.PATIENCE, "the cluster is connected")

    def registry(self, name):
        return multicast.service(self.channel, name)

    def names(self, node):
        """Names of each partition of a primary, which are the same ones in every namespace."""
        names = self.registry("names")
        for i in range(20):
            names.RegisterBatch(registrations=[pb.RegisterRequest(identity=f"n{i}-{j}") for j in range(100)])
        return [[name.decode() for name in node.call("HKEYS", key)]
                for key in sorted(node.call("KEYS", f"prism:{{names%*}}%registry:entries"))]

    @staticmethod
    def register(registry, names):
        return registry.RegisterBatch(registrations=[pb.RegisterRequest(identity=n) for n in names])

    def test_what_is_stored_is_told_where_nobody_else_can_wait(self):
        """One partition has its floor, another has not; a primary of neither does not answer, so nobody is counted. The
        line of those who wait for that is full: what came in at once is told all the same."""
        silent = self.cluster.primaries[2]
        full, other = self.names(self.cluster.primaries[0])[:2]
        large = self.registry("large")
        self.assertEqual(self.register(large, full[:FLOOR]).success_count, FLOOR)
        silent.pause()
        self.addCleanup(silent.resume)
        waiting = []

        def refused():
            waiting.append(large.Register.future(identity=full[FLOOR + len(waiting)], timeout=environment.PATIENCE))
            return any(call.done() for call in waiting)
        wait.until(refused, environment.PATIENCE, "the line is full")
        answer = self.register(large, [other[0], full[-1]])
        self.assertEqual([r.success for r in answer.results], [True, False])
        self.assertEqual(answer.results[1].code, FULL)
        self.assertIn("too many", answer.results[1].error)
        self.assertEqual(large.Heartbeat(items=[{"identity": other[0]}]).alive_count, 1)

    def test_who_is_there_registers_anew_while_nobody_can_be_counted(self):
        partition = self.names(self.cluster.primaries[0])[0]
        here, new, small, large = partition[0], partition[1], self.registry("small"), self.registry("large")
        self.assertTrue(small.Register(identity=here).success)
        self.cluster.primaries[2].kill()
        self.assertTrue(small.Register(identity=here, replace=True).replaced)
        self.assertEqual(small.Register(identity=here).code, grpc.StatusCode.ALREADY_EXISTS.value[0])
        with self.assertRaises(grpc.RpcError) as refused:
            small.Register(identity=new, timeout=environment.PATIENCE)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAVAILABLE)
        answer = self.register(small, [here, new])
        self.assertEqual([r.code for r in answer.results], [grpc.StatusCode.ALREADY_EXISTS.value[0],
                                                            grpc.StatusCode.UNAVAILABLE.value[0]])
        self.assertTrue(large.Register(identity=new).success, "no count is needed")


if __name__ == "__main__":
    suite.main()
