"""SessionStore over gRPC: values, versions, expiry, limits, lists; from many clients at once."""
import concurrent.futures
import os
import threading

import grpc

from google.rpc import error_details_pb2
from rig import backends, environment, suite, wait, wire
from rig.prismd import Prismd
from rig.session import later, listed, namespace, pb, seconds, service, value

CODE = {code.name: code.value[0] for code in grpc.StatusCode}


class Sessions(suite.Case):
    @classmethod
    def setUpClass(cls):
        slot = cls.use(backends.slot(os.environ.get("PRISM_BACKEND", "memstore")))
        cls.server = cls.use(Prismd(namespaces=[
            namespace(slot, max_session_bytes=20_000),
            namespace(slot, "refusing", max_sessions_per_user=5, max_sessions=40),
            namespace(slot, "ending", max_sessions_per_user=5, on_user_limit="end_oldest"),
            namespace(slot, "short", max_lifetime_seconds=60, max_ttl_seconds=120, default_ttl_seconds=30),
            namespace(slot, "quick", touch_percent=50)]))
        cls.channel = cls.server.channel()
        cls.sessions = service(cls.channel)

    def user(self):
        """A user of this test's own."""
        return self.id()

    def create(self, sessions=None, user=None, **request):
        answer = (sessions or self.sessions).CreateSession(metadata={"user_id": user or self.user()}, **request)
        self.assertEqual(answer.code, 0, answer)
        return answer

    def used(self, created):
        """The session once a use of it has moved its expiry, which the next uses do not."""
        def read():
            return self.sessions.GetSession(session_id=created.session_id).session

        wait.until(lambda: read().expires_at != created.expires_at, environment.PATIENCE, "a use a moment later")
        return read()

    def at_once(self, work, inputs):
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            return list(pool.map(work, inputs))

    # ---- one session ----

    def test_identifiers(self):
        """S11: they cannot be guessed."""
        ids = {self.create().session_id for _ in range(100)}
        self.assertEqual(len(ids), 100)
        for id_ in ids:
            self.assertRegex(id_, r"^sess-[A-Za-z0-9_-]{32}$")  # 192 bits

    def test_metadata_and_values(self):
        metadata = pb.SessionMetadata(user_id=self.user(), region="eu", client_id="phone",
                                      attributes={"agent": "ü", "": "", "ip": "::1"})
        values = {"theme": value("dark"), "raw": value(b"\0\xff", "")}
        answer = self.sessions.CreateSession(metadata=metadata, data=values)
        found = self.sessions.GetSession(session_id=answer.session_id)
        self.assertTrue(found.found)
        self.assertEqual(found.session.metadata, metadata)
        self.assertEqual(dict(found.session.data), values)
        self.assertEqual((found.session.version, dict(found.session.value_versions)), (1, {"theme": 1, "raw": 1}))
        self.assertEqual(found.session.created_at, answer.created_at)
        bare = self.sessions.CreateSession()
        self.assertTrue(self.sessions.GetSession(session_id=bare.session_id).found)

    def test_versions(self):
        session = self.create().session_id
        first = self.sessions.SetSessionData(session_id=session, key="a", value=value("1"), if_version=0)
        self.assertEqual((first.success, first.version), (True, 2))
        taken = self.sessions.SetSessionData(session_id=session, key="a", value=value("2"), if_version=0)
        self.assertEqual((taken.success, taken.code, taken.version), (False, CODE["ABORTED"], 2))
        self.assertEqual(self.sessions.SetSessionData(session_id=session, key="b", value=value("1")).version, 3)
        got = self.sessions.GetSessionData(session_id=session, key="a")
        self.assertEqual((got.value, got.version), (value("1"), 2))
        kept = self.sessions.DeleteSessionData(session_id=session, key="a", if_version=1)
        self.assertEqual((kept.success, kept.code, kept.version), (False, CODE["ABORTED"], 2))
        stale = self.sessions.UpdateSession(session_id=session, set={"a": value("9")}, if_version=2)
        self.assertEqual((stale.success, stale.code, stale.version), (False, CODE["ABORTED"], 3))
        done = self.sessions.UpdateSession(session_id=session, set={"a": value("9")}, remove=["b", "c"], if_version=3)
        self.assertEqual((done.success, done.version), (True, 4))
        self.assertEqual(dict(self.sessions.GetSession(session_id=session).session.data), {"a": value("9")})
        self.assertTrue(self.sessions.DeleteSessionData(session_id=session, key="a", if_version=4).success)
        self.assertFalse(self.sessions.GetSessionData(session_id=session, key="a").found)

    def test_absent(self):
        gone = self.create().session_id
        self.assertTrue(self.sessions.DeleteSession(session_id=gone).existed)
        self.assertFalse(self.sessions.DeleteSession(session_id=gone).existed)
        self.assertFalse(self.sessions.GetSession(session_id=gone).found)
        self.assertFalse(self.sessions.GetSessionData(session_id=gone, key="a").found)
        for call, request in (("SetSessionData", {"key": "a", "value": value("1")}),
                              ("DeleteSessionData", {"key": "a"}), ("RotateSession", {}),
                              ("UpdateSession", {"remove": ["a"]}),
                              ("ExtendSession", {"additional_seconds": 1})):
            with self.subTest(call):
                error = wire.failure(getattr(self.sessions, call), session_id=gone, **request)
                self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND, error.details())

    def test_what_is_refused(self):
        id_ = self.create().session_id
        for call, request, field in (
                ("CreateSession", {"ttl_seconds": -1}, "ttl_seconds"),
                ("CreateSession", {"ttl_seconds": 31536001}, "ttl_seconds"),
                ("CreateSession", {"metadata": {"user_id": "x" * 513}}, "metadata.user_id"),
                ("CreateSession", {"metadata": {"attributes": {"x": "x" * 8192}}}, "metadata.attributes"),
                ("CreateSession", {"data": {"": value("1")}}, "data"),
                ("GetSession", {}, "session_id"), ("GetSession", {"session_id": "x" * 65}, "session_id"),
                ("GetSession", {"session_id": "a b"}, "session_id"),
                ("SetSessionData", {"session_id": id_, "key": "a"}, "value"),
                ("SetSessionData", {"session_id": id_, "value": value("1")}, "key"),
                ("SetSessionData", {"session_id": id_, "key": "a", "value": value("1", "t" * 2049)}, "value"),
                ("SetSessionData", {"session_id": id_, "key": "a", "value": value("1"), "if_version": -1},
                 "if_version"),
                ("UpdateSession", {"session_id": id_, "set": {"a": value("1")}, "remove": ["b", "a"]}, "remove"),
                ("UpdateSession", {"session_id": id_, "if_version": 0}, "if_version"),
                ("ExtendSession", {"session_id": id_}, "additional_seconds"),
                ("ExtendSession", {"session_id": id_, "additional_seconds": 0}, "additional_seconds"),
                ("ExtendSession", {"session_id": id_, "expires_at": {"nanos": -1}}, "expires_at"),
                ("DeleteUserSessions", {}, "user_id"), ("ListSessions", {"page_size": -1}, "page_size"),
                ("ListSessions", {"page_token": "s:x"}, "page_token"),
                ("ListSessions", {"page_token": "7"}, "page_token")):
            with self.subTest(call, request=request):
                error = wire.failure(getattr(self.sessions, call), **request)
                self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT, error.details())
                violation, = wire.detail(error, error_details_pb2.BadRequest).field_violations
                self.assertEqual(violation.field, field)

    # ---- expiry ----

    def test_use_moves_the_expiry(self):
        quick = service(self.channel, "quick")
        session = self.create(quick, ttl_seconds=2)
        for _ in range(6):  # in use it outlives its time to live
            wait.holds(lambda: quick.GetSession(session_id=session.session_id).found, 0.5, "it is in use")
        wait.until(lambda: not quick.GetSession(session_id=session.session_id, no_touch=True).found,
                   environment.PATIENCE, "it expires, for these reads are no use")
        error = wire.failure(quick.ExtendSession, session_id=session.session_id, additional_seconds=60)
        self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)

    def test_reads_seldom_write(self):
        """S3: as clients see it."""
        first = self.used(self.create(ttl_seconds=6000))
        for _ in range(50):
            again = self.sessions.GetSession(session_id=first.session_id).session
            self.assertEqual((again.expires_at, again.last_accessed), (first.expires_at, first.last_accessed))

    def test_extension(self):
        session = self.create(ttl_seconds=100)
        to = later(session.expires_at, seconds=50)
        extend = self.sessions.ExtendSession
        for _ in range(2):
            self.assertEqual(extend(session_id=session.session_id, expires_at=to).new_expires_at, to)
        self.assertEqual(extend(session_id=session.session_id, expires_at=session.created_at).new_expires_at, to)
        self.assertEqual(extend(session_id=session.session_id, additional_seconds=5).new_expires_at,
                         later(to, seconds=5))

    def test_lifetime(self):
        short = service(self.channel, "short")
        session = self.create(short)
        self.assertAlmostEqual(seconds(session.expires_at) - seconds(session.created_at), 30, delta=0.01)
        end = later(session.created_at, seconds=60)
        self.assertEqual(short.ExtendSession(session_id=session.session_id, additional_seconds=90).new_expires_at, end)
        self.assertEqual(short.GetSession(session_id=session.session_id).session.expires_at, end)

    # ---- many clients ----

    def test_s1_different_values_are_all_kept(self):
        session = self.create().session_id
        self.at_once(lambda n: [self.sessions.SetSessionData(session_id=session, key=f"k{n}", value=value(str(r)))
                                for r in range(10)], range(32))
        found = self.sessions.GetSession(session_id=session).session
        self.assertEqual(dict(found.data), {f"k{n}": value("9") for n in range(32)})
        self.assertEqual(found.version, 321)

    def test_s1_counting_under_a_condition(self):
        session = self.create(data={"n": value("0")}).session_id

        def count(_):
            while True:
                got = self.sessions.GetSessionData(session_id=session, key="n")
                more = value(str(int(got.value.value) + 1))
                done = self.sessions.SetSessionData(session_id=session, key="n", value=more, if_version=got.version)
                if done.success:
                    return
                self.assertEqual(done.code, CODE["ABORTED"])

        self.at_once(count, range(32))
        self.assertEqual(self.sessions.GetSessionData(session_id=session, key="n").value, value("32"))

    def test_s2_ended_stays_ended(self):
        def race(n):
            session = self.create().session_id
            go = threading.Barrier(2)

            def end():
                go.wait()
                self.sessions.DeleteSession(session_id=session)

            ender = threading.Thread(target=end)
            ender.start()
            go.wait()
            for call, request in ((self.sessions.SetSessionData, {"key": "a", "value": value("1")}),
                                  (self.sessions.ExtendSession, {"additional_seconds": 60}),
                                  (self.sessions.GetSession, {})):
                try:
                    call(session_id=session, **request)
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)
            ender.join()
            self.assertFalse(self.sessions.GetSession(session_id=session).found)

        self.at_once(race, range(300))

    def test_s6_limit_refuses(self):
        refusing = service(self.channel, "refusing")
        answers = self.at_once(lambda _: refusing.CreateSession(metadata={"user_id": "u"}), range(50))
        self.assertEqual(sum(a.code == 0 for a in answers), 5)
        self.assertEqual({a.code for a in answers}, {0, CODE["RESOURCE_EXHAUSTED"]})
        self.assertEqual(len(listed(refusing, user_id="u")), 5)

        # S7: the namespace's own bound.
        answers = self.at_once(lambda n: refusing.CreateSession(metadata={"user_id": f"u{n}"}), range(60))
        self.assertEqual(sum(a.code == 0 for a in answers), 35)
        self.assertEqual({a.code for a in answers}, {0, CODE["RESOURCE_EXHAUSTED"]})
        one = listed(refusing, user_id="u")[0].session_id
        self.assertTrue(refusing.SetSessionData(session_id=one, key="a", value=value("1")).success)
        for limit, n in (("user", 45), ("namespace", 25)):
            self.assertEqual(self.server.metric("prism_sessions_refused_total", namespace="refusing", limit=limit), n)

    def test_s6_limit_ends_the_oldest(self):
        ending = service(self.channel, "ending")
        answers = self.at_once(lambda _: ending.CreateSession(metadata={"user_id": "u"}), range(50))
        self.assertEqual({a.code for a in answers}, {0})
        ended = {i for a in answers for i in a.evicted_session_ids}
        left = {s.session_id for s in listed(ending, user_id="u")}
        self.assertEqual((len(ended), len(left)), (45, 5))
        self.assertEqual(ended | left, {a.session_id for a in answers})
        self.assertFalse(any(ending.GetSession(session_id=i).found for i in ended))

    def test_s9_end_all_of_a_user(self):
        ids = [self.create().session_id for _ in range(30)]
        other = self.create(user="another").session_id
        answer = self.sessions.DeleteUserSessions(user_id=self.user(), except_session_id=ids[7])
        self.assertEqual(answer.deleted_count, 29)
        self.assertEqual([i for i in ids if self.sessions.GetSession(session_id=i).found], [ids[7]])
        self.assertTrue(self.sessions.GetSession(session_id=other).found)

    def test_s10_size_is_checked_with_the_write(self):
        session = self.create().session_id
        answers = self.at_once(lambda n: self.sessions.SetSessionData(session_id=session, key=f"k{n:02}",
                                                                      value=value(b"x" * 900)), range(64))
        found = self.sessions.GetSession(session_id=session).session.data
        self.assertEqual({k for k in found}, {f"k{n:02}" for n, a in enumerate(answers) if a.success})
        self.assertLessEqual(sum(len(k) + 900 + 64 for k in found), 20_000)
        self.assertEqual({a.code for a in answers}, {0, CODE["RESOURCE_EXHAUSTED"]})
        large = self.sessions.CreateSession(data={"a": value(b"x" * 20_000)})
        self.assertEqual((large.session_id, large.code), ("", CODE["RESOURCE_EXHAUSTED"]))

    def test_s11_rotation(self):
        session = self.create(data={"cart": value("7")}, ttl_seconds=1000)
        before = self.used(session)
        rotated = self.sessions.RotateSession(session_id=session.session_id)
        after = self.sessions.GetSession(session_id=rotated.session_id).session
        self.assertEqual(rotated.expires_at, before.expires_at)
        before.session_id = rotated.session_id
        self.assertEqual(after, before)
        self.assertFalse(self.sessions.GetSession(session_id=session.session_id).found)
        self.assertEqual([s.session_id for s in listed(self.sessions, user_id=self.user())], [rotated.session_id])
        for event in self.server.log_events():
            self.assertNotIn(session.session_id, str(event))
            self.assertNotIn(rotated.session_id, str(event))

    # ---- lists ----

    def test_lists(self):
        region = "region of " + self.user()
        for n in range(25):
            self.sessions.CreateSession(metadata={"user_id": self.user() if n % 2 else "", "region": region,
                                                  "client_id": "phone" if n % 3 else "tablet"})
        everywhere = [s.session_id for s in listed(self.sessions, region=region, page_size=7)]
        self.assertEqual(len(set(everywhere)), 25)
        mine = listed(self.sessions, user_id=self.user(), region=region, page_size=5)
        self.assertEqual([s.session_id for s in mine], everywhere[1::2])
        self.assertEqual({len(s.data) for s in mine}, {0})
        phones = listed(self.sessions, region=region, client_id="phone", page_size=4)
        self.assertEqual(len(phones), 16)
        self.assertEqual(len(self.sessions.ListSessions(region=region).sessions), 25)
        self.assertFalse(listed(self.sessions, user_id="nobody at all"))

    def test_capabilities(self):
        caps = service(self.channel, "ending").GetCapabilities()
        self.assertEqual((caps.max_sessions_per_user, caps.on_limit), (5, pb.LIMIT_END_OLDEST))
        self.assertIn(caps.max_session_size, (1 << 20, 380 << 10))  # as configured, or as dynamodb bounds it
        self.assertEqual((caps.default_ttl_seconds, caps.touch_percent), (86400, 10))
        self.assertFalse(caps.HasField("max_sessions") or caps.HasField("max_lifetime_seconds"))
        short = service(self.channel, "short").GetCapabilities()
        self.assertEqual((short.max_lifetime_seconds, short.max_ttl_seconds), (60, 120))
        self.assertNotEqual(short.generation, caps.generation)

    def test_metrics(self):
        def missing():
            return self.server.metric("prism_session_writes_total", namespace="default", outcome="missing")

        before = missing()
        wire.failure(self.sessions.SetSessionData, session_id="nobody", key="a", value=value("1"))
        self.assertEqual(missing(), before + 1)


if __name__ == "__main__":
    suite.main()
