"""A cluster of real redis-servers: three primaries with a third of the slots each, and replicas where asked for."""
from rig import environment, wait
from rig.process import free_port
from rig.redis import Error, RedisServer

SLOTS = 16384
PRIMARIES = 3


class RedisCluster:
    """with RedisCluster(replicas=1) as cluster: the first primary has a replica. tls: options of redis' TLS, which
    nodes then speak with each other as well."""

    def __init__(self, replicas=0, tls=()):
        patience_ms = 2000 if replicas else 20000      # without replicas, only a busy machine can look like a failure
        self.nodes = [self._node(patience_ms, tls) for _ in range(PRIMARIES + replicas)]

    @staticmethod
    def _node(patience_ms, tls):
        bus = free_port()
        secret = ("--tls-cluster", "yes", "--tls-replication", "yes") if tls else ()
        node = RedisServer(tls=tls, options=("--cluster-enabled", "yes", "--cluster-port", str(bus),
                                             "--cluster-node-timeout", str(patience_ms),
                                             "--cluster-allow-replica-migration", "no", *secret))
        node.bus = bus
        return node

    def __enter__(self):
        started = []
        try:
            for node in self.nodes:
                node.__enter__()
                started.append(node)
                node.id = node.call("CLUSTER", "MYID").decode()
            self._join()
        except BaseException:
            for node in started:
                node.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.__exit__()

    def _join(self):
        first = self.nodes[0]
        for i, node in enumerate(self.primaries):
            node.call("CLUSTER", "ADDSLOTSRANGE", i * SLOTS // PRIMARIES, (i + 1) * SLOTS // PRIMARIES - 1)
            node.call("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            node.call("CLUSTER", "MEET", "127.0.0.1", first.tls_port or first.port, first.bus)
        for node in self.nodes:
            wait.until(lambda n=node: n.call("CLUSTER", "NODES").count(b"connected") == len(self.nodes),
                       environment.PATIENCE, "the nodes know each other")
        for node in self.nodes[PRIMARIES:]:
            wait.until(lambda n=node: self._follows(n, first), environment.PATIENCE, "the replica follows")
        for node in self.nodes:
            wait.until(lambda n=node: b"cluster_state:ok" in n.call("CLUSTER", "INFO"), environment.PATIENCE,
                       "the cluster is well")

    @staticmethod
    def _follows(node, primary):
        if b"role:master" in node.call("INFO", "replication"):
            try:
                node.call("CLUSTER", "REPLICATE", primary.id)
            except Error:
                return False
        return b"master_link_status:up" in node.call("INFO", "replication")

    @property
    def primaries(self):
        return self.nodes[:PRIMARIES]

    @property
    def address(self):
        return ",".join(n.tls_address if n.tls else n.address for n in self.nodes)

    def name_at(self, node, begin, end=""):
        """A name that makes the key begin + name + end one of this primary's slots."""
        at, part = self.primaries.index(node), SLOTS / PRIMARIES
        for i in range(SLOTS):
            slot = node.call("CLUSTER", "KEYSLOT", f"{begin}n{i}{end}")
            if part * at < slot < part * (at + 1) - 1:
                return f"n{i}"
        raise AssertionError("no name is there")

    def call_at(self, key, *words):
        """A command at the primary that has the key."""
        for node in self.nodes:
            if node.process.alive():
                try:
                    return node.call(*words)
                except Error as e:
                    if not str(e).startswith("MOVED"):
                        raise
        raise AssertionError(f"nobody has {key}")

    def begin_move(self, slot, source, target):
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    @staticmethod
    def move_keys(slot, source, target):
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, slot, target):
        for node in (target, *(n for n in self.primaries if n is not target)):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", target.id)
