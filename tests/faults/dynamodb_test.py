"""A DynamoDB server behind a front that throttles, hands items back, loses answers: within its deadline every call ends
with what happened to it, and nothing is written twice. The front verifies every signature."""
import time

import grpc
from google.rpc import error_details_pb2

from rig import backends, dynamodb, environment, s3, session, suite, wait, wire
from rig.aws_front import AwsFront
from rig.keyvalue import pattern_service, pb
from rig.prismd import Prismd

S = grpc.StatusCode
DEADLINE = 2.0
LATE = 10 if environment.SANITIZER else 5   # a busy machine may deliver an answer this much after its deadline
THROTTLED = "ProvisionedThroughputExceededException"


class Faults(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.dynamodb = cls.use(dynamodb.DynamoServer())
        cls.front = cls.use(AwsFront(cls.dynamodb.port))
        cls.slot = {"backend": "dynamodb",
                    "config": {"endpoint": cls.front.url, "table": "prism-test", "create_table": True,
                               "access_key_id": s3.ACCESS, "secret_access_key": s3.SECRET}}
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(cls.slot)]))
        cls.kv = pattern_service(cls.use(cls.server.channel()))

    def tearDown(self):
        self.front.calm()
        wait.until(lambda: self.server.metric("prism_backend_in_flight") == 0, environment.PATIENCE, "nothing is left")
        self.assertEqual(self.front.refused[:3], [])
        wait.until(self.works, environment.PATIENCE, "it works again")

    def works(self):
        try:
            return self.kv.Store(key="works", value=b"yes", timeout=DEADLINE).success
        except grpc.RpcError:
            return False

    def failure(self, method, **fields):
        begun = time.monotonic()
        error = wire.failure(method, timeout=DEADLINE, **fields)
        self.assertLess(time.monotonic() - begun, DEADLINE + LATE)
        return error

    def batch(self, n):
        return self.kv.StoreBatch(timeout=DEADLINE, requests=[
            pb.StoreRequest(key=f"b{i}", value=b"%d" % i) for i in range(n)])

    def test_throttling_is_waited_out(self):
        self.front.fail(2, 400, THROTTLED)
        self.assertTrue(self.kv.Store(key="k", value=b"v", timeout=DEADLINE).success)
        self.front.fail(2, 400, "ThrottlingException")
        self.assertEqual(self.kv.Retrieve(key="k", timeout=DEADLINE).value, b"v")

    def test_throttling_that_stays_is_resource_exhausted(self):
        """B8: with a delay, inside the deadline; the process is well, and afterwards it works again (tearDown)."""
        self.front.fail(50, 400, THROTTLED)
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual(error.code(), S.RESOURCE_EXHAUSTED)
        self.assertIn("ProvisionedThroughputExceeded", error.details())
        self.assertGreater(wire.detail(error, error_details_pb2.RetryInfo).retry_delay.ToNanoseconds(), 0)
        self.assertEqual(self.server.http("/healthz")[0], 200)

    def test_b8_one_that_throttles_all_is_not_asked_much_more_often(self):
        """Retries are a tenth of the calls and a reserve; then each is told at once. A server of its own spends it."""
        calls, reserve = 300, 10
        server = self.borrow(Prismd(workers=1, namespaces=[backends.keyvalue(self.slot)]))
        kv = pattern_service(self.borrow(server.channel()))
        self.front.fail(calls * 2, 400, THROTTLED)
        before = self.front.requests
        for n in range(calls):
            self.assertEqual(self.failure(kv.Store, key=f"k{n}", value=b"v").code(), S.RESOURCE_EXHAUSTED)
        self.assertLessEqual(self.front.requests - before, calls * 1.1 + reserve)
        retries = server.metric("prism_backend_retries_total")
        self.assertEqual(self.front.requests - before, calls + retries)
        self.assertGreater(retries, 0)
        self.assertGreaterEqual(server.metric("prism_backend_retries_refused_total"), calls - retries)

    def test_items_that_are_handed_back_are_sent_again(self):
        """B1: a third of a batch, and all is stored."""
        before = self.front.requests
        self.front.unprocessed(7)
        reply = self.batch(20)
        self.assertTrue(reply.all_success)
        self.assertEqual(self.front.requests - before, 2)
        for i in range(20):
            self.assertEqual(self.kv.Retrieve(key=f"b{i}").value, b"%d" % i)

    def test_items_that_are_always_handed_back_fail_alone(self):
        """B1: within the deadline each is stored, or told as RESOURCE_EXHAUSTED."""
        self.front.unprocessed(5, times=50)
        reply = self.batch(20)
        self.front.calm()
        done = [r.success for r in reply.results]
        self.assertIn(False, done)
        self.assertIn(True, done)
        for i, result in enumerate(reply.results):
            if result.success:
                self.assertEqual(self.kv.Retrieve(key=f"b{i}").value, b"%d" % i)
            else:
                self.assertEqual(result.code, S.RESOURCE_EXHAUSTED.value[0])

    def test_a_lost_write_is_unknown_and_sent_once(self):
        before = self.front.requests
        self.front.lose(1)
        error = self.failure(self.kv.Store, key="works", value=b"lost")
        self.assertEqual(error.code(), S.UNAVAILABLE)
        self.assertEqual(wire.detail(error, error_details_pb2.ErrorInfo).metadata["effect"], "unknown")
        self.assertEqual(self.front.requests - before, 1)
        self.assertEqual(self.kv.Retrieve(key="works").value, b"lost")

    def test_a_lost_conditional_write_is_no_refusal(self):
        """Sent again it would be refused, because of itself."""
        self.kv.Remove(key="once")
        self.front.lose(1)
        error = self.failure(self.kv.Store, key="once", value=b"v", precondition=pb.Precondition(if_absent=True))
        self.assertEqual(error.code(), S.UNAVAILABLE)
        self.assertEqual(self.kv.Retrieve(key="once").value, b"v")

    def test_a_silent_server_costs_the_deadline(self):
        self.front.hold()
        self.assertEqual(self.failure(self.kv.Retrieve, key="k").code(), S.DEADLINE_EXCEEDED)

    def test_refusals_say_what_is_wrong(self):
        for code, word in (("UnrecognizedClientException", "access key"), ("ExpiredTokenException", "session token"),
                           ("InvalidSignatureException", "secret key")):
            self.front.refuse_all(400, code)
            error = self.failure(self.kv.Retrieve, key="k")
            self.assertEqual(error.code(), S.FAILED_PRECONDITION)
            self.assertIn(word, error.details())
            self.front.calm()

    def test_failures_of_the_server(self):
        self.front.fail(2, 500, "InternalServerError")
        self.assertTrue(self.kv.Store(key="k", value=b"v", timeout=DEADLINE).success)


class Sessions(suite.Case):
    """What is written before and after a session is counted once too often when an answer is lost."""
    MOST = 4

    @classmethod
    def setUpClass(cls):
        cls.dynamodb = cls.use(dynamodb.DynamoTransactions())
        cls.front = cls.use(AwsFront(cls.dynamodb.port))
        # Short, for a recount waits as long as operations may be under way.
        slot = {"backend": "dynamodb",
                "config": {"endpoint": cls.front.url, "table": "prism-test", "create_table": True,
                           "access_key_id": s3.ACCESS, "secret_access_key": s3.SECRET,
                           "request_timeout_ms": 1500, "max_attempts": 1}}
        cls.server = cls.use(Prismd(workers=1, namespaces=[
            session.namespace(slot, max_sessions=cls.MOST), session.namespace(slot, "narrow", max_sessions=1)]))
        channel = cls.use(cls.server.channel())
        cls.sessions, cls.narrow = session.service(channel), session.service(channel, "narrow")

    def created(self, sessions=None):
        """The identifier; empty: refused by the limit of all sessions."""
        reply = (sessions or self.sessions).CreateSession(ttl_seconds=3600)
        if not reply.session_id:
            self.assertEqual(reply.code, S.RESOURCE_EXHAUSTED.value[0])
            self.assertIn("namespace holds as many", reply.error)
        return reply.session_id

    def test_a_count_that_is_too_high_is_put_right(self):
        self.assertTrue(self.created())
        for _ in range(2):      # the place is counted, the session is not written
            self.front.lose(1)
            self.assertEqual(wire.failure(self.sessions.CreateSession, ttl_seconds=3600).code(), S.UNAVAILABLE)
        self.assertTrue(self.created())
        self.assertFalse(self.created())
        wait.until(self.created, environment.PATIENCE, "the count is put right")
        self.assertTrue(self.created())
        self.assertEqual(len(session.listed(self.sessions)), self.MOST)
        self.assertFalse(self.created())

    def test_what_may_have_been_created_keeps_its_place(self):
        """It was: with its place given back there would be more of them than may be."""
        self.front.let_pass(1)  # the place is counted
        self.front.lose(100)    # it is sent again, as the server would know it again
        self.assertEqual(wire.failure(self.narrow.CreateSession, ttl_seconds=3600).code(), S.UNAVAILABLE)
        self.front.calm()
        self.assertEqual(len(session.listed(self.narrow)), 1)
        self.assertFalse(self.created(self.narrow))
        self.assertEqual(len(session.listed(self.narrow)), 1)


if __name__ == "__main__":
    suite.main(["Faults", "Sessions"])
