"""The MulticastRegistry pattern, as clients see it."""
import json

from google.protobuf import struct_pb2

from rig import environment
from rig.wire import Service
from prism.patterns.multicast_registry import dropping_pb2 as dropping
from prism.patterns.multicast_registry import filter_pb2 as filters
from prism.patterns.multicast_registry import multicast_registry_pattern_pb2 as pb


def service(channel, namespace=None, **options):
    """Raw access to MulticastRegistryPattern."""
    return Service(channel, pb.DESCRIPTOR.services_by_name["MulticastRegistryPattern"], namespace, **options)


def namespace(registry, messaging, name="default", durability=None, dead=None, **behavior):
    slots = {"registry": registry, "messaging": messaging, "durability": durability, "dead_letter_queue": dead}
    return {"name": name, "pattern": "multicast_registry", "slots": {k: v for k, v in slots.items() if v},
            "behavior": behavior}


def struct(**fields):
    made = struct_pb2.Struct()
    made.update(fields)
    return made


def where(**fields):
    """A filter: all of these fields have these values."""
    parts = []
    for name, value in fields.items():
        one = filters.Filter(field=filters.FieldFilter(field=name, op=filters.EQUALS))
        one.field.value.CopyFrom(struct(v=value).fields["v"])
        parts.append(one)
    return filters.Filter(composite=filters.CompositeFilter(op=filters.AND, filters=parts))


def messages(stream, n):
    """The next n messages of a Subscribe or Attach stream."""
    got = []
    while len(got) < n:
        got.extend(next(stream).messages)
    return got


def storm(address, n, *more, register=True):
    """The command that registers n identities at a prismd, or again; or beats as often for one who is not there. It is
    ghz, which prints a report."""
    method, data = ("Register", {"identity": "d{{.RequestNumber}}", "replace": True}) if register else (
        "Heartbeat", {"items": [{"identity": "nobody"}]})
    return [environment.tool("ghz"), "--insecure", "--call",
            f"prism.patterns.multicast_registry.MulticastRegistryPattern/{method}", "--data", json.dumps(data),
            "--concurrency", "200", "--connections", "20", "--total", str(n), "--timeout", "20s", "--format", "json",
            *more, address]
