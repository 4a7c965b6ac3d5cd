"""Unknown numbers of enumerations in requests are refused, by the field's name: protobuf hands over any number.

The fields are found in the descriptors of the services that the server says it has, so that a later one is not
forgotten: it is refused by itself, or this test wants to know what the rest of its request is (REQUESTS), or why it is
taken (TOLERATED)."""
import importlib

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor

from grpc_reflection.v1 import reflection_pb2
from rig import backends, messaging, multicast, session, suite, wire
from rig.prismd import Prismd

MEMSTORE = {"backend": "memstore", "config": {"stream_drop_unread": True}}
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]

# Which namespace a service is called in; the others are keys' or nobody's.
NAMESPACES = {"ConsumerPattern": "consumer", "ProducerPattern": "producer", "MulticastRegistryPattern": "registry",
              "SessionStorePattern": "sessions"}

# What makes the rest of a request good.
SUBSCRIBE = {"topic": "t", "consumer_group": "g"}
REQUESTS = {
    "ConsumerPattern.Consume": {"subscribe": SUBSCRIBE},
    "ConsumerPattern.Subscribe": SUBSCRIBE,
    "ConsumerPattern.Reject": {"deliveries": {"subscription_id": "s", "message_ids": ["m"]}},
    "ConsumerPattern.Seek": SUBSCRIBE,
    "MulticastRegistryPattern.Subscribe": {"identity": "i"},
    "MulticastRegistryPattern.Attach": {"attach": {"identities": ["i"]}},
    "ProducerPattern.PublishStream": {"topic": "t", "messages": [{"payload": b"x"}]},
}

# Enumerations of which every number is taken, and why.
TOLERATED = {
    "google.protobuf.NullValue": "it has one value, and protobuf's own readers take any number for null",
}


def enumerations(message, path=(), above=()):
    """(path, field) of each field of an enumeration in a message and those within it, each type once on its way."""
    for field in message.fields:
        here = (*path, field.name)
        if field.enum_type:
            yield here, field
        elif field.message_type and field.message_type not in (*above, message):
            yield from enumerations(field.message_type, here, (*above, message))


def fill(message, path, number):
    for name in path[:-1]:
        inner = getattr(message, name)
        message = inner.add() if message.DESCRIPTOR.fields_by_name[name].label == FieldDescriptor.LABEL_REPEATED \
            else inner
    if message.DESCRIPTOR.fields_by_name[path[-1]].label == FieldDescriptor.LABEL_REPEATED:
        getattr(message, path[-1]).append(number)
    else:
        setattr(message, path[-1], number)


def is_client_stream(method):
    proto = descriptor_pb2.MethodDescriptorProto()
    method.CopyToProto(proto)
    return proto.client_streaming


class Enumerations(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.use(Prismd(namespaces=[
            backends.keyvalue(MEMSTORE), messaging.consumer(MEMSTORE, "consumer"),
            messaging.producer(MEMSTORE, "producer"), session.namespace(MEMSTORE, "sessions"),
            multicast.namespace(MEMSTORE, MEMSTORE, "registry", durability=MEMSTORE)]))
        cls.channel = cls.use(cls.server.channel())

    def ask(self, **question):
        asked = reflection_pb2.ServerReflectionRequest(**question)
        return next(wire.Service(self.channel, REFLECTION).ServerReflectionInfo(iter([asked])))

    def methods(self):
        """Of all services of Prism's that the server says it has."""
        for service in self.ask(list_services="").list_services_response.service:
            if service.name.startswith("prism."):
                files = self.ask(file_containing_symbol=service.name).file_descriptor_response
                file = descriptor_pb2.FileDescriptorProto.FromString(files.file_descriptor_proto[0])
                module = importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
                yield from module.DESCRIPTOR.services_by_name[service.name.split(".")[-1]].methods

    def call(self, method, path, number):
        """Ends with an error. What takes the place of what begins a stream comes behind that."""
        service = method.containing_service
        call = getattr(wire.Service(self.channel, service, NAMESPACES.get(service.name)), method.name)
        good = call.request(**REQUESTS.get(f"{service.name}.{method.name}", {}))
        bad = call.request()
        bad.CopyFrom(good)
        fill(bad, path, number)
        if not is_client_stream(method):
            return wire.failure(call, bad)
        begins = {f.name for f, _ in good.ListFields()} <= {f.name for f, _ in bad.ListFields()}
        return wire.failure(call, iter([bad] if begins else [good, bad]))

    def test_unknown_numbers(self):
        tried = set()
        for method in self.methods():
            for path, field in enumerations(method.input_type):
                if field.enum_type.full_name in TOLERATED:
                    continue
                tried.add((method.full_name, path))
                for number in (max(field.enum_type.values_by_number) + 1, 99, 2**31 - 1, -1, -2**31):
                    with self.subTest(method.full_name, field=".".join(path), number=number):
                        error = self.call(method, path, number)
                        self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT, error)
                        self.assertEqual([name.split(".")[-1] for name in wire.bad_fields(error)], [path[-1]])
        self.assertGreaterEqual(len(tried), 26)

    def test_tolerated_numbers(self):
        registry = multicast.service(self.channel, "registry")
        request = multicast.pb.RegisterRequest(identity="null")
        request.metadata.fields["nothing"].null_value = 7
        self.assertTrue(registry.Register(request).success)
        found, = registry.Enumerate(filter=multicast.where(nothing=None)).identities
        self.assertEqual((found.identity, dict(found.metadata)), ("null", {"nothing": None}))


if __name__ == "__main__":
    suite.main()
