"""A real S3 server behind a front that is busy, slow, cut short, or says no: every call ends within its deadline and
says why, nothing is left over, and prismd recovers by itself. The front verifies every signature."""
import time

import grpc
from google.rpc import error_details_pb2

from rig import backends, environment, s3, suite, tls, wait, wire
from rig.aws_front import AwsFront
from rig.keyvalue import pattern_service
from rig.load import Load
from rig.prismd import Prismd
from rig.proxy import Proxy

S = grpc.StatusCode
DEADLINE = 2.0
LATE = 10 if environment.SANITIZER else 5   # a busy machine may deliver an answer this much after its deadline


def effect(error):
    return wire.detail(error, error_details_pb2.ErrorInfo).metadata["effect"]


class Faults(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.s3 = s3.S3Proxy()
        cls.s3.__enter__()
        cls.addClassCleanup(cls.s3.kill)

    def setUp(self):
        self.front = self.borrow(AwsFront(self.s3.port))
        self.serve(self.front.url)

    def tearDown(self):
        wait.until(lambda: self.server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "nothing is left over")
        wait.until(lambda: self.server.metric("prism_backend_in_flight") == 0, environment.PATIENCE, "nor below")
        self.assertEqual(self.front.refused[:3], [])

    def serve(self, endpoint, server=None, emulate=(), **config):
        slot = {"backend": "s3", "emulate": list(emulate),
                "config": {"endpoint": endpoint, "bucket": s3.BUCKET, "force_path_style": True,
                           "access_key_id": s3.ACCESS, "secret_access_key": s3.SECRET, **config}}
        self.server = self.borrow(Prismd(wait_for=Prismd.http_answers, namespaces=[backends.keyvalue(slot)],
                                          **(server or {})))
        self.kv = pattern_service(self.borrow(self.server.channel()))

    def ready(self):
        return self.server.http("/readyz")[0] == 200

    def store(self, value=b"v", **fields):
        return self.kv.Store(key="k", value=value, timeout=DEADLINE, **fields)

    def failure(self, method, **fields):
        """The error of a call, which ends within its deadline."""
        begun = time.monotonic()
        error = wire.failure(method, timeout=DEADLINE, **fields)
        self.assertLess(time.monotonic() - begun, DEADLINE + LATE)
        return error

    def works(self):
        self.front.calm()
        self.assertTrue(self.store(b"again").success)
        self.assertEqual(self.kv.Retrieve(key="k").value, b"again")

    # ---- busy ----

    def test_a_busy_server_is_asked_again(self):
        self.front.fail(2, 503, "SlowDown")
        self.assertTrue(self.store().success)
        self.front.fail(2, 503, "SlowDown")
        self.assertEqual(self.kv.Retrieve(key="k", timeout=DEADLINE).value, b"v")
        self.assertEqual(self.s3.client().get("prism/default/k"), b"v")

    def test_one_that_stays_busy_is_resource_exhausted(self):
        """B8: with a delay, after max_attempts requests; and it works again by itself."""
        self.front.fail(50, 503, "SlowDown")
        before = self.front.requests
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual(error.code(), S.RESOURCE_EXHAUSTED)
        self.assertIn("SlowDown", error.details())
        self.assertGreater(wire.detail(error, error_details_pb2.RetryInfo).retry_delay.ToNanoseconds(), 0)
        self.assertEqual(self.front.requests - before, 4, "max_attempts")
        self.works()

    def test_b8_one_that_throttles_all_is_not_asked_much_more_often(self):
        """Retries are a tenth of the calls and a reserve; then each is told at once, with the server's delay."""
        calls, reserve = 300, 10
        self.front.refuse("PUT", 503, "SlowDown", {"Retry-After": "2"})
        before, served = self.front.requests, self.server.metric("prism_backend_retries_total")
        for n in range(calls):
            begun = time.monotonic()
            error = wire.failure(self.kv.Store, key=f"k{n}", value=b"v", timeout=20)
            self.assertEqual(error.code(), S.RESOURCE_EXHAUSTED)
            self.assertEqual(wire.detail(error, error_details_pb2.RetryInfo).retry_delay.seconds, 2)
            if n == calls - 1:
                self.assertLess(time.monotonic() - begun, 2, "nobody waits where nothing is sent again")
        self.assertLessEqual(self.front.requests - before, calls * 1.1 + reserve)
        retries = self.server.metric("prism_backend_retries_total") - served
        self.assertLessEqual(self.front.requests - before, calls + retries, "some were of prismd's own checks")
        self.assertGreater(retries, 0)
        self.assertGreaterEqual(self.server.metric("prism_backend_retries_refused_total"), calls - retries)
        self.works()

    def test_a_delay_past_the_deadline_is_not_waited_for(self):
        self.front.fail(1, 503, "SlowDown", {"Retry-After": "60"})
        begun = time.monotonic()
        self.assertEqual(self.failure(self.kv.Store, key="k", value=b"v").code(), S.RESOURCE_EXHAUSTED)
        self.assertLess(time.monotonic() - begun, DEADLINE)
        self.works()

    def test_failures_of_the_server(self):
        self.front.fail(2, 500, "InternalError")
        self.assertTrue(self.store().success)
        self.front.fail(50, 502, "BadGateway")
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual((error.code(), effect(error)), (S.UNAVAILABLE, "unknown"))
        self.works()

    def test_a_write_that_may_have_been_done_stays_unknown(self):
        """Whatever its repetitions are told: the first one was not refused."""
        before = self.front.requests
        self.front.fail(1, 500, "InternalError")
        self.front.fail(50, 503, "SlowDown")
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual((error.code(), effect(error)), (S.RESOURCE_EXHAUSTED, "unknown"))
        self.assertGreater(self.front.requests, before + 1)
        self.front.calm()
        self.front.fail(1, 500, "InternalError")
        self.front.fail(1, 403, "AccessDenied")
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual(effect(error), "unknown", error)
        self.front.calm()
        self.front.fail(1, 403, "AccessDenied")
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertIsNone(wire.detail(error, error_details_pb2.ErrorInfo), "it was refused, and nothing else")
        self.works()

    # ---- lost ----

    def test_a_lost_write_is_unknown_and_not_repeated(self):
        before = self.front.checks
        self.front.lose(1)
        error = self.failure(self.kv.Store, key="k", value=b"lost")
        self.assertEqual((error.code(), effect(error)), (S.UNAVAILABLE, "unknown"))
        self.assertEqual(self.s3.client().get("prism/default/k"), b"lost")
        wait.until(lambda: self.front.checks > before, environment.PATIENCE, "a check")
        self.works()

    def test_a_lost_read_is_repeated(self):
        self.store()
        self.front.lose(1)
        self.assertEqual(self.kv.Retrieve(key="k", timeout=DEADLINE).value, b"v")
        self.front.truncate(1)
        self.assertEqual(self.kv.Retrieve(key="k", timeout=DEADLINE).value, b"v")

    def test_an_answer_that_is_always_cut_short(self):
        self.store(b"x" * 10000)
        self.front.truncate(50)
        error = self.failure(self.kv.Retrieve, key="k")
        self.assertEqual(error.code(), S.UNAVAILABLE)
        self.assertIn("cut short", error.details())
        self.works()

    def test_a_value_whose_length_is_not_announced(self):
        """One that fits is read whole; one that does not is too large, and not empty."""
        self.store(b"x" * 10000)
        self.front.chunk(1)
        self.assertEqual(self.kv.Retrieve(key="k", timeout=DEADLINE).value, b"x" * 10000)
        large = self.s3.client().request("PUT", f"/{s3.BUCKET}/prism/default/large", bytes(5 << 20))
        self.assertEqual(large[0], 200)
        self.front.chunk(1)
        error = self.failure(self.kv.Retrieve, key="large")
        self.assertEqual(error.code(), S.RESOURCE_EXHAUSTED)
        self.assertIn("a message takes", error.details())

    # ---- uploads in parts ----

    LARGE = bytes(20 << 20)

    def serve_in_parts(self):
        self.serve(self.front.url, {"limits": {"max_message_bytes": 32 << 20}, "drain_timeout_ms": 500},
                   multipart_bytes=8 << 20)
        wait.until(self.ready, environment.PATIENCE, "it is ready")
        self.front.let_pass(1)  # the upload begins

    def seen(self, words):
        return [request for request in self.front.seen if words in request]

    def aborted(self):
        return any(request.startswith("DELETE") for request in self.seen("uploadId="))

    def test_parts_are_tried_again(self):
        self.serve_in_parts()
        self.front.fail(2, 503, "SlowDown")
        self.assertTrue(self.kv.Store(key="k", value=self.LARGE, timeout=environment.PATIENCE).success)
        self.assertEqual(self.kv.Retrieve(key="k", timeout=environment.PATIENCE).value, self.LARGE)
        self.assertFalse(self.aborted())

    def test_an_upload_that_fails_is_aborted(self):
        self.serve_in_parts()
        self.front.fail(1, 403, "AccessDenied")
        error = wire.failure(self.kv.Store, key="never", value=self.LARGE, timeout=environment.PATIENCE)
        self.assertEqual(error.code(), S.PERMISSION_DENIED)
        wait.until(self.aborted, environment.PATIENCE, "the upload is aborted")
        self.assertFalse(self.kv.Exists(key="never").exists)

    def test_an_upload_whose_call_ends_is_aborted(self):
        self.serve_in_parts()
        self.front.stall(3)
        error = self.failure(self.kv.Store, key="k", value=self.LARGE)
        self.assertEqual(error.code(), S.DEADLINE_EXCEEDED)
        wait.until(self.aborted, environment.PATIENCE, "the upload is aborted")
        self.front.calm()

    def test_an_upload_that_a_drain_ends_is_aborted(self):
        self.serve_in_parts()
        self.front.stall(3)
        call = self.kv.Store.future(key="k", value=self.LARGE, timeout=60)
        wait.until(lambda: len(self.seen("partNumber=")) == 3, environment.PATIENCE, "its parts are under way")
        self.assertEqual(self.server.terminate(), 3)  # a call was cut off
        self.assertTrue(self.aborted())
        self.assertIn(call.exception().code(), (S.UNAVAILABLE, S.CANCELLED))
        self.front.calm()
        self.serve(self.front.url)

    # ---- slow ----

    def test_a_silent_server_costs_the_deadline_and_no_more(self):
        self.store()
        self.front.hold()
        error = self.failure(self.kv.Retrieve, key="k")
        self.assertEqual(error.code(), S.DEADLINE_EXCEEDED)
        error = self.failure(self.kv.Store, key="written in the end, maybe", value=b"w")
        self.assertEqual(error.code(), S.DEADLINE_EXCEEDED)
        self.works()

    def test_load_over_a_server_that_stops_now_and_then(self):
        def inspect(future, number, seconds):
            if seconds > DEADLINE + LATE:
                return f"call {number} took {seconds:.1f} s"
            if future.code() not in (S.OK, S.UNAVAILABLE, S.DEADLINE_EXCEEDED, S.RESOURCE_EXHAUSTED):
                return f"call {number}: {future.code()}: {future.details()}"
            return None

        calls = (lambda i: self.kv.Store.future(key=f"k{i % 50}", value=b"v", timeout=DEADLINE),
                 lambda i: self.kv.Retrieve.future(key=f"k{i % 50}", timeout=DEADLINE),
                 lambda i: self.kv.Remove.future(key=f"k{i % 50}", timeout=DEADLINE))
        load = Load(lambda i: calls[i % 3](i), 32, inspect)
        for _ in range(3):
            seen = load.count()
            wait.until(lambda seen=seen: load.count() > seen + 60, environment.PATIENCE, "the load runs")
            self.front.fail(5, 503, "SlowDown")
            self.front.lose(3)
            self.front.truncate(3)
            self.front.hold()
            wait.until(lambda: self.front.waiting >= 16, environment.PATIENCE, "requests wait")
            self.front.release()
        load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:5], [])
        self.works()

    def test_counts_take_turns(self):
        """Four of a worker ask at once; the others wait, and what is no enumeration waits for none of them."""
        self.serve(self.front.url, {"workers": 1}, emulate=["keyvalue_scan"])
        self.store()
        self.front.hold()
        before = self.front.requests
        counts = [self.kv.Count.future(prefix="k", timeout=environment.PATIENCE) for _ in range(12)]
        wait.until(lambda: self.server.metric("prism_backend_in_flight") == 12, environment.PATIENCE, "all are begun")
        retrieve = self.kv.Retrieve.future(key="k", timeout=environment.PATIENCE)
        wait.until(lambda: any(r.startswith("GET") and "?" not in r for r in list(self.front.seen)),
                   environment.PATIENCE, "the retrieve has arrived")
        wait.until(lambda: self.front.requests - before >= 4 + 1, environment.PATIENCE, "four counts have")
        self.assertEqual(self.front.requests - before, 4 + 1)
        counts.pop(5).cancel()
        counts.pop(1).cancel()
        self.front.release()
        self.assertEqual(retrieve.result().value, b"v")
        self.assertEqual([count.result().count for count in counts], [1] * 10)

    # ---- refused ----

    def refused(self, status, code, *words):
        self.front.refuse_all(status, code)
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual(error.code(), S.FAILED_PRECONDITION)
        for word in words:
            self.assertIn(word, error.details())
        wait.until(lambda: not self.ready(), environment.PATIENCE, "not ready")
        self.front.calm()
        wait.until(self.ready, environment.PATIENCE, "ready again")
        self.works()

    def test_a_bucket_that_vanishes_is_noticed_by_asking_for_objects(self):
        """The answer to HEAD is that of an absent object."""
        bucket = self.s3.client()
        self.assertEqual(bucket.request("PUT", "/vanishing")[0], 200)
        self.serve(self.front.url, bucket="vanishing", conditional_writes=False)
        wait.until(self.ready, environment.PATIENCE, "it is ready")
        self.assertFalse(self.kv.Exists(key="k").exists)
        self.assertEqual(bucket.request("DELETE", "/vanishing")[0], 204)

        def told():
            try:
                self.assertFalse(self.kv.Exists(key="k", timeout=DEADLINE).exists)
                return False
            except grpc.RpcError as error:
                return error.code() == S.UNAVAILABLE and "no such bucket" in error.details()
        wait.until(told, environment.PATIENCE, "nobody is told that the object is absent")
        self.assertIn("the bucket does not exist", self.server.http("/readyz")[1])
        self.assertEqual(bucket.request("PUT", "/vanishing")[0], 200)
        wait.until(self.ready, environment.PATIENCE, "it is there again")
        self.assertFalse(self.kv.Exists(key="k").exists)

    def test_a_wrong_clock(self):
        self.refused(403, "RequestTimeTooSkewed", "clock", "RequestTimeTooSkewed")

    def test_an_expired_token(self):
        self.refused(400, "ExpiredToken", "session token", "expired")

    def test_wrong_credentials(self):
        self.serve(self.front.url, secret_access_key="another")
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual(error.code(), S.FAILED_PRECONDITION)
        self.assertIn("secret key", error.details())
        self.assertNotIn("another", self.server.process.log())
        self.assertTrue(self.front.refused)
        self.front = self.borrow(AwsFront(self.s3.port))

    def test_a_refused_connection(self):
        proxy = self.borrow(Proxy(self.front.port))
        self.serve(f"http://localhost:{proxy.port}")
        self.works()
        proxy.refuse()
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual(error.code(), S.UNAVAILABLE)
        wait.until(lambda: not self.ready(), environment.PATIENCE, "not ready")
        proxy.accept()
        wait.until(self.ready, environment.PATIENCE, "ready again")
        self.works()

    # ---- TLS ----

    def test_tls_with_an_authority_of_ones_own(self):
        authority = tls.Authority(suite.subfolder("tls"))
        front = self.borrow(AwsFront(self.s3.port, tls=authority.issue("server")))
        self.serve(front.url, ca_file=authority.cert, session_token="a-token")
        self.assertTrue(self.store(b"secret").success)
        self.assertEqual(self.kv.Retrieve(key="k").value, b"secret")
        self.assertEqual(front.refused, [])
        self.serve(front.url)
        error = self.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual(error.code(), S.FAILED_PRECONDITION)
        self.assertIn("certificate", error.details())


if __name__ == "__main__":
    suite.main(["Faults"])
