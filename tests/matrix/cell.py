"""One cell of the matrix: cell.py PATTERN BACKEND OPERATION OUTCOME

Three things must agree: the outcome in cells.txt, what GetCapabilities announces, and what the operation does. An
operation that is announced as unavailable must answer UNIMPLEMENTED and name the missing interface.
"""
import sys

import grpc

from rig import backends, suite, wire
from rig.prismd import Prismd
from rig.redis import commands_run
from prism.patterns.schemas import slot_schema_pb2 as schemas

from matrix import consumer, keyvalue, multicast_registry, producer, session_store

PATTERNS = {"consumer": consumer, "keyvalue": keyvalue, "multicast_registry": multicast_registry,
            "producer": producer, "session_store": session_store}
ANNOUNCED = {"N": schemas.NATIVE, "P": schemas.PIPELINED, "E": schemas.EMULATED, "C": schemas.CLIENT_SIDE}
# Redis: the command that carries a whole batch, and the one that would carry an item if it were not so.
ONE_COMMAND = {"StoreBatch": ("mset", "set"), "RetrieveBatch": ("mget", "get")}
PATTERN, BACKEND, OPERATION, OUTCOME = sys.argv[1:5]


class Cell(suite.Case):
    def runTest(self):
        pattern = PATTERNS[PATTERN]
        slot = self.slot(pattern)
        server = self.borrow(Prismd(namespaces=pattern.namespaces(slot)))
        service = pattern.service(self.borrow(server.channel()))
        capabilities = service.GetCapabilities()
        announced = {o.operation: o for o in capabilities.operations if not o.variant}[OPERATION]
        self.assertEqual(pattern.backend_type(capabilities), self.backend_types())
        if OUTCOME == "U":
            self.refused(service, pattern, announced)
            return
        self.assertEqual(announced.availability, schemas.AVAILABLE)
        self.assertEqual(announced.how, ANNOUNCED[OUTCOME])
        self.assertTrue(pattern.summary_agrees(capabilities, OPERATION, announced))
        before = self.commands(slot)
        getattr(pattern, OPERATION)(self, service, announced)
        self.is_one_command(before, self.commands(slot))

    def slot(self, pattern):
        """What the pattern makes its namespaces of: the slot's configuration, or one for each of several slots."""
        if hasattr(pattern, "slots"):
            return pattern.slots(BACKEND, self.borrow)
        return self.borrow(backends.slot(getattr(pattern, "SERVERS", {}).get(BACKEND, BACKEND)))

    @staticmethod
    def backend_types():
        """As the capabilities name them: one, or one for each slot."""
        names = [("redis" if name == "redis-pubsub" else name) for name in BACKEND.split("+")]
        return tuple(names + names[:1] * (2 - len(names))) if PATTERN == "multicast_registry" else \
            BACKEND.removesuffix("-emulated")

    @staticmethod
    def commands(slot):
        return commands_run(slot["config"]["address"]) if BACKEND == "redis" else {}

    def is_one_command(self, before, after):
        """What is announced as native must be one command of the server, as the server counted it."""
        if (BACKEND, OUTCOME) == ("redis", "N") and OPERATION in ONE_COMMAND:
            many, single = ONE_COMMAND[OPERATION]
            self.assertEqual(after.get(many, 0) - before.get(many, 0), 1, many)
            self.assertEqual(after.get(single, 0) - before.get(single, 0), 0, single)

    def refused(self, service, pattern, announced):
        self.assertEqual(announced.availability, schemas.UNAVAILABLE)
        error = wire.failure(getattr(service, OPERATION), pattern.smallest_request(OPERATION))
        self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
        self.assertEqual(error.details(), announced.unavailable_reason.message)
        self.assertIn(announced.unavailable_reason.missing_interface, error.details())


if __name__ == "__main__":
    suite.main(["Cell"])
