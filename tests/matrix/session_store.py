"""What each operation of the session store must do when it is available."""
from rig.session import later, listed, namespace, pb, seconds, service as service, value  # noqa: F401
from prism.patterns.schemas import slot_schema_pb2 as schemas

SERVERS = {"dynamodb": "dynamodb-transactions"}


def namespaces(slot):
    return [namespace(slot)]


def backend_type(capabilities):
    return capabilities.slots.store_backend_type


def summary_agrees(capabilities, operation, announced):
    if operation == "ListSessions":
        return capabilities.supports_listing and capabilities.list_performance == pb.LIST_NATIVE
    return capabilities.generation > 0 and capabilities.supports_expiration and capabilities.supports_sliding_ttl


def smallest_request(operation):
    return getattr(pb, operation + "Request")()


def create(sessions, user="alice", **request):
    answer = sessions.CreateSession(metadata={"user_id": user}, **request)
    assert answer.session_id and not answer.code, answer
    return answer


def GetCapabilities(test, sessions, announced):
    test.assertEqual(sessions.GetCapabilities(), sessions.GetCapabilities())


def CreateSession(test, sessions, announced):
    first, second = create(sessions, ttl_seconds=60), create(sessions, data={"a": value("1")})
    test.assertNotEqual(first.session_id, second.session_id)
    test.assertAlmostEqual(seconds(first.expires_at) - seconds(first.created_at), 60, delta=0.01)
    test.assertEqual(sessions.GetSessionData(session_id=second.session_id, key="a").value, value("1"))
    test.assertEqual(announced.atomicity, schemas.ALL_OR_NOTHING)


def GetSession(test, sessions, announced):
    session = create(sessions, data={"a": value("1"), "b": value(b"\0\xff")})
    found = sessions.GetSession(session_id=session.session_id)
    test.assertTrue(found.found)
    test.assertEqual(found.session.metadata.user_id, "alice")
    test.assertEqual(dict(found.session.data), {"a": value("1"), "b": value(b"\0\xff")})
    test.assertFalse(sessions.GetSession(session_id="sess-nobody").found)


def SetSessionData(test, sessions, announced):
    session = create(sessions).session_id
    first = sessions.SetSessionData(session_id=session, key="a", value=value("1"), if_version=0)
    test.assertTrue(first.success)
    test.assertFalse(sessions.SetSessionData(session_id=session, key="a", value=value("2"), if_version=0).success)
    test.assertTrue(sessions.SetSessionData(session_id=session, key="a", value=value("3"),
                                            if_version=first.version).success)
    test.assertEqual(sessions.GetSessionData(session_id=session, key="a").value, value("3"))


def GetSessionData(test, sessions, announced):
    session = create(sessions, data={"a": value("1")}).session_id
    test.assertEqual(sessions.GetSessionData(session_id=session, key="a").value, value("1"))
    test.assertFalse(sessions.GetSessionData(session_id=session, key="b").found)


def DeleteSessionData(test, sessions, announced):
    session = create(sessions, data={"a": value("1"), "b": value("2")}).session_id
    test.assertTrue(sessions.DeleteSessionData(session_id=session, key="a").success)
    test.assertEqual(set(sessions.GetSession(session_id=session).session.data), {"b"})


def UpdateSession(test, sessions, announced):
    session = create(sessions, data={"a": value("1"), "b": value("2")})
    done = sessions.UpdateSession(session_id=session.session_id, set={"a": value("3"), "c": value("4")}, remove=["b"],
                                  if_version=session.version)
    test.assertTrue(done.success)
    test.assertEqual(dict(sessions.GetSession(session_id=session.session_id).session.data),
                     {"a": value("3"), "c": value("4")})


def RotateSession(test, sessions, announced):
    old = create(sessions, data={"a": value("1")}).session_id
    new = sessions.RotateSession(session_id=old).session_id
    test.assertFalse(sessions.GetSession(session_id=old).found)
    test.assertEqual(sessions.GetSessionData(session_id=new, key="a").value, value("1"))


def DeleteSession(test, sessions, announced):
    session = create(sessions).session_id
    test.assertEqual([sessions.DeleteSession(session_id=session).existed for _ in range(2)], [True, False])
    test.assertFalse(sessions.GetSession(session_id=session).found)


def DeleteUserSessions(test, sessions, announced):
    kept, *_ = [create(sessions).session_id for _ in range(5)]
    create(sessions, "bob")
    answer = sessions.DeleteUserSessions(user_id="alice", except_session_id=kept)
    test.assertEqual(answer.deleted_count, 4)
    test.assertEqual([s.session_id for s in listed(sessions, user_id="alice")], [kept])
    test.assertEqual(len(listed(sessions)), 2)


def ExtendSession(test, sessions, announced):
    session = create(sessions, ttl_seconds=60)
    to = later(session.expires_at, seconds=30)
    for _ in range(2):
        test.assertEqual(sessions.ExtendSession(session_id=session.session_id, expires_at=to).new_expires_at, to)
    more = sessions.ExtendSession(session_id=session.session_id, additional_seconds=10).new_expires_at
    test.assertEqual(more, later(to, seconds=10))


def ListSessions(test, sessions, announced):
    mine = [create(sessions).session_id for _ in range(25)]
    create(sessions, "bob")
    test.assertEqual([s.session_id for s in listed(sessions, user_id="alice", page_size=10)], mine)
    test.assertEqual(announced.limits.max_limit, 1000)
