"""Queues beside a transaction that stays open: figures for messaging.py."""
import subprocess

from rows import median

from rig import messaging
from rig.postgres import PostgresServer
from rig.prismd import Prismd

NAMES = ["queue-held-horizon"]
TAKEN, FRAME = 20000, 500
DEAD = 2        # messages that are dead rows, for each target


class Queue:
    """A queue of a PostgreSQL of its own, which is vacuumed when we say so."""

    def __init__(self, stack, flow):
        self.postgres = stack.enter_context(PostgresServer(autovacuum="off"))
        slot = {"backend": "postgres", "config": {"address": self.postgres.address, "username": "postgres",
                                                  "database": "postgres"}}
        self.prismd = stack.enter_context(Prismd(namespaces=[messaging.producer(slot),
                                                             messaging.consumer(slot, max_in_flight=10000)],
                                                 log={"level": "warn"}))
        self.flow = flow

    def hold(self, stack):
        """Somebody else's transaction, until the stack ends it."""
        psql = stack.enter_context(subprocess.Popen(self.postgres.psql("postgres", "-f", "-"), stdin=subprocess.PIPE,
                                                    stdout=subprocess.PIPE, text=True))
        psql.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;\n")
        psql.stdin.flush()
        assert psql.stdout.readline() == "1\n"

    def vacuum(self):
        self.postgres.sql("VACUUM prism.messages")

    def rate(self, n):
        """Messages/s that are taken and settled, of n that wait."""
        self.flow("publish-prism", self.prismd.address, "q", n)
        return self.flow("consume-prism", self.prismd.address, "q/g", n).rate


def held_horizon(stack, flow, n, dead, rounds):
    """([(messages/s beside the transaction, without)] of each round, dead rows that it keeps at the end)."""
    held, free = Queue(stack, flow), Queue(stack, flow)
    held.hold(stack)
    for queue in (held, free):
        queue.rate(dead)
    pairs = []
    for number in range(rounds):
        free.vacuum()
        figures = [queue.rate(n) for queue in ((held, free) if number % 2 else (free, held))]
        pairs.append(tuple(figures if number % 2 else reversed(figures)))
    held.vacuum()
    return pairs, int(held.postgres.sql("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'messages'"))


def measure(rows, options, _start_echo, flow):
    """All rows of this file."""
    n, dead = (max(1, int(size) // FRAME) * FRAME for size in (TAKEN * options.scale, DEAD * options.targets))
    result = rows.measure("queue-held-horizon", lambda stack: held_horizon(stack, flow, n, dead, options.rounds))
    if result:
        rows.add("queue-held-horizon", "rate", "messages/s", 0.7, f"beside an open transaction, after {dead} messages;"
                 " without", median(result[0]), at_least=True)
        rows.state("queue-held-horizon", "dead", "rows", dead, "that VACUUM may not remove", result[1], at_least=True)
