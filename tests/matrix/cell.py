"""One cell of the matrix: cell.py PATTERN BACKEND OPERATION OUTCOME

Three things must agree: the outcome in cells.txt, what GetCapabilities announces, and what the operation does. An
operation that is announced as unavailable must answer UNIMPLEMENTED and name the missing interface.
"""
import sys

import grpc

from rig import backends, suite, wire
from rig.prismd import Prismd
from prism.patterns.schemas import slot_schema_pb2 as schemas

from matrix import keyvalue

PATTERNS = {"keyvalue": keyvalue}
ANNOUNCED = {"N": schemas.NATIVE, "P": schemas.PIPELINED, "E": schemas.EMULATED, "C": schemas.CLIENT_SIDE}
PATTERN, BACKEND, OPERATION, OUTCOME = sys.argv[1:5]


class Cell(suite.Case):
    def runTest(self):
        pattern = PATTERNS[PATTERN]
        slot = self.borrow(backends.slot(BACKEND))
        server = self.borrow(Prismd(namespaces=[pattern.namespace(slot)]))
        service = pattern.service(self.borrow(server.channel()))
        capabilities = service.GetCapabilities()
        announced = {o.operation: o for o in capabilities.operations if not o.variant}[OPERATION]
        self.assertEqual(pattern.backend_type(capabilities), BACKEND)
        if OUTCOME == "U":
            self.refused(service, pattern, announced)
            return
        self.assertEqual(announced.availability, schemas.AVAILABLE)
        self.assertEqual(announced.how, ANNOUNCED[OUTCOME])
        self.assertTrue(pattern.summary_agrees(capabilities, OPERATION, announced))
        getattr(pattern, OPERATION)(self, service, announced)

    def refused(self, service, pattern, announced):
        self.assertEqual(announced.availability, schemas.UNAVAILABLE)
        error = wire.failure(getattr(service, OPERATION), pattern.smallest_request(OPERATION))
        self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
        self.assertEqual(error.details(), announced.unavailable_reason.message)
        self.assertIn(announced.unavailable_reason.missing_interface, error.details())


if __name__ == "__main__":
    suite.main(["Cell"])
