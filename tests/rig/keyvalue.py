"""One interface over the key-value services, so that the same cases run on the new one and on the deprecated ones.

Both adapters answer alike: get -> value or None, delete -> nothing, scan -> [(key, value)]. A failed item raises
ItemError.
"""
import grpc

from rig import environment, wait
from rig.load import Load
from rig.wire import Service
from prism.interfaces.keyvalue import (keyvalue_basic_pb2, keyvalue_batch_pb2, keyvalue_scan_pb2, keyvalue_ttl_pb2)
from prism.patterns.keyvalue import keyvalue_pattern_pb2 as pb


class ItemError(Exception):
    """An in-band error of one item."""


def _checked(reply, good):
    if not good:
        raise ItemError(reply.error)
    return reply


def pattern_service(channel, namespace=None, **options):
    """Raw access to the pattern service."""
    return Service(channel, pb.DESCRIPTOR.services_by_name["KeyValuePattern"], namespace, **options)


def stores(rpc):
    """Whether a Store of the pattern service succeeds."""
    try:
        return rpc.Store(key="k", value=b"v", timeout=5).success
    except grpc.RpcError:
        return False


class Stores(Load):
    """Stores n0, n1, .. while a backend fails; `acknowledged` are the numbers of those that prismd has confirmed. Each
    call has an outcome in time, and what it is, an outage explains."""
    WIDTH, DEADLINE, LATE = 32, 2.0, 5 if environment.SANITIZER else 2
    EXPLAINED = (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

    def __init__(self, rpc):
        self.acknowledged = []
        super().__init__(lambda n: rpc.Store.future(key=f"n{n}", value=b"%d" % n, timeout=self.DEADLINE), self.WIDTH,
                         self.take)
        self.goes_on()

    def take(self, future, number, seconds):
        if seconds > self.DEADLINE + self.LATE:
            return f"call {number} took {seconds:.1f} s"
        if future.code() == grpc.StatusCode.OK:
            self.acknowledged.append(number)
        return None if future.code() in self.EXPLAINED else f"call {number}: {future.code()}: {future.details()}"

    def goes_on(self):
        done = self.count()
        wait.until(lambda: self.count() > done + 500, environment.PATIENCE, "calls succeed")


class Pattern:
    """prism.patterns.keyvalue.KeyValuePattern"""

    def __init__(self, channel, namespace=None):
        self.rpc = pattern_service(channel, namespace)

    def set(self, key, value, ttl_seconds=None):
        reply = self.rpc.Store(key=key, value=value, expiration_seconds=ttl_seconds)
        _checked(reply, reply.success)

    def get(self, key):
        reply = self.rpc.Retrieve(key=key)
        _checked(reply, not reply.HasField("error"))
        return reply.value if reply.found else None

    def delete(self, key):
        reply = self.rpc.Remove(key=key)
        _checked(reply, reply.success)

    def exists(self, key):
        return self.rpc.Exists(key=key).exists

    def expire(self, key, seconds):
        """True if the key existed."""
        return self.rpc.SetExpiration(key=key, expiration_seconds=seconds).key_existed

    def ttl(self, key):
        return self.rpc.GetExpiration(key=key).expiration_seconds

    def persist(self, key):
        """True if an expiry was taken away."""
        return self.rpc.ClearExpiration(key=key).expiration_removed

    def set_many(self, items):
        """Outcomes in request order, and whether all succeeded."""
        reply = self.rpc.StoreBatch(requests=[pb.StoreRequest(key=k, value=v) for k, v in items])
        return [r.success for r in reply.results], reply.all_success

    def get_many(self, keys):
        """Values in request order (None: absent), and how many were found."""
        reply = self.rpc.RetrieveBatch(keys=keys)
        return [r.value if r.found else None for r in reply.results], reply.found_count

    def delete_many(self, keys):
        reply = self.rpc.RemoveBatch(keys=keys)
        return [r.success for r in reply.results], reply.all_success

    def scan(self, prefix="", limit=0, page=1000):
        """Follows cursors until `limit` keys (0: all)."""
        found, cursor = [], None
        while True:
            size = min(page, limit - len(found)) if limit else page
            cursor = self._page(found, prefix, cursor, size)
            if cursor is None or (limit and len(found) >= limit):
                return found

    def _page(self, found, prefix, cursor, size):
        for reply in self.rpc.Scan(prefix=prefix, cursor=cursor, limit=size, include_values=True):
            assert len(reply.keys) == len(reply.values)
            assert reply.has_more == reply.HasField("next_cursor"), "has_more and next_cursor must agree"
            found += zip(reply.keys, reply.values)
            cursor = reply.next_cursor if reply.has_more else None
        return cursor

    def scan_keys(self, prefix="", limit=0):
        return [key for key, _ in self.scan(prefix, limit)]

    def count(self, prefix=""):
        return self.rpc.Count(prefix=prefix).count


class Deprecated:
    """The four services of prism.interfaces.keyvalue."""

    def __init__(self, channel, namespace=None):
        def service(module, name):
            return Service(channel, module.DESCRIPTOR.services_by_name[name], namespace)
        self.basic = service(keyvalue_basic_pb2, "KeyValueBasicInterface")
        self.ttls = service(keyvalue_ttl_pb2, "KeyValueTTLInterface")
        self.batch = service(keyvalue_batch_pb2, "KeyValueBatchInterface")
        self.scans = service(keyvalue_scan_pb2, "KeyValueScanInterface")

    def set(self, key, value, ttl_seconds=None):
        reply = self.basic.Set(key=key, value=value)
        _checked(reply, reply.success)
        if ttl_seconds is not None:
            reply = self.ttls.Expire(key=key, ttl_seconds=ttl_seconds)
            _checked(reply, reply.success)

    def get(self, key):
        reply = self.basic.Get(key=key)
        _checked(reply, not reply.error)
        return reply.value if reply.found else None

    def delete(self, key):
        reply = self.basic.Delete(key=key)
        _checked(reply, reply.success)

    def exists(self, key):
        return self.basic.Exists(key=key).exists

    def expire(self, key, seconds):
        return self.ttls.Expire(key=key, ttl_seconds=seconds).key_existed

    def ttl(self, key):
        return self.ttls.GetTTL(key=key).ttl_seconds

    def persist(self, key):
        return self.ttls.Persist(key=key).expiration_removed

    def set_many(self, items):
        reply = self.batch.BatchSet(requests=[keyvalue_basic_pb2.SetRequest(key=k, value=v) for k, v in items])
        return [r.success for r in reply.results], reply.all_success

    def get_many(self, keys):
        reply = self.batch.BatchGet(keys=keys)
        return [r.value if r.found else None for r in reply.results], reply.found_count

    def delete_many(self, keys):
        reply = self.batch.BatchDelete(keys=keys)
        return [r.success for r in reply.results], reply.all_success

    def scan(self, prefix="", limit=0):
        return [(r.key, r.value) for r in self.scans.Scan(prefix=prefix, limit=limit)]

    def scan_keys(self, prefix="", limit=0):
        return [r.key for r in self.scans.ScanKeys(prefix=prefix, limit=limit)]

    def count(self, prefix=""):
        return self.scans.Count(prefix=prefix).count
