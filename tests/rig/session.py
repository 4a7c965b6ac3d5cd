"""The SessionStore pattern, as clients see it."""
import datetime

from google.protobuf import any_pb2, timestamp_pb2

from rig.wire import Service
from prism.patterns.session_store import session_store_pattern_pb2 as pb


SERVICE = pb.DESCRIPTOR.services_by_name["SessionStorePattern"]


def service(channel, namespace=None, **options):
    """Raw access to SessionStorePattern. CreateSession takes its request's fields only: one is called metadata."""
    made = Service(channel, SERVICE, namespace, **options)
    create = made.CreateSession
    made.CreateSession = lambda **fields: create(pb.CreateSessionRequest(**fields))
    return made


def namespace(store, name="default", **behavior):
    return {"name": name, "pattern": "session_store", "slots": {"store": store}, "behavior": behavior}


def value(content, kind="type.test/text"):
    """A value as clients send it."""
    return any_pb2.Any(type_url=kind, value=content if isinstance(content, bytes) else content.encode())


def seconds(timestamp):
    return timestamp.seconds + timestamp.nanos / 1e9


def later(timestamp, **delta):
    moved = timestamp_pb2.Timestamp()
    moved.FromDatetime(timestamp.ToDatetime() + datetime.timedelta(**delta))
    return moved


def listed(sessions, **request):
    """All pages of ListSessions."""
    found, token = [], ""
    while True:
        page = sessions.ListSessions(page_token=token, **request)
        found += page.sessions
        token = page.next_page_token
        if not token:
            return found
