"""gRPC calls made from the protocol's descriptors, and errors with their details."""
import grpc
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import ServiceDescriptor

from google.rpc import error_details_pb2, status_pb2
from rig import environment

TIMEOUT = 30 if environment.SANITIZER else 10
_factory = message_factory.MessageFactory()


class Method:
    """One RPC. Unary: returns the reply. Server stream: returns an iterator of replies."""

    def __init__(self, channel, method, metadata, timeout):
        proto = descriptor_pb2.MethodDescriptorProto()
        method.CopyToProto(proto)
        self.request = _factory.GetPrototype(method.input_type)
        self.metadata, self.timeout = metadata, timeout
        kind = ("stream" if proto.client_streaming else "unary", "stream" if proto.server_streaming else "unary")
        self.callable = getattr(channel, "_".join(kind))(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=_factory.GetPrototype(method.output_type).FromString)

    def _message(self, message, fields):
        return self.request(**fields) if message is None else message

    def __call__(self, message=None, timeout=None, metadata=(), **fields):
        return self.callable(self._message(message, fields), timeout=timeout or self.timeout,
                             metadata=(*self.metadata, *metadata))

    def future(self, message=None, timeout=None, metadata=(), **fields):
        return self.callable.future(self._message(message, fields), timeout=timeout or self.timeout,
                                    metadata=(*self.metadata, *metadata))


class Service:
    """Service(channel, module.DESCRIPTOR.services_by_name["X"]).SomeRpc(field=value)"""

    def __init__(self, channel, descriptor, namespace=None, timeout=TIMEOUT):
        assert isinstance(descriptor, ServiceDescriptor)
        metadata = (("x-prism-namespace", namespace),) if namespace is not None else ()
        for method in descriptor.methods:
            setattr(self, method.name, Method(channel, method, metadata, timeout))


def status(error):
    """The google.rpc.Status of a failed call; None if the server sent none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return None


def detail(error, kind):
    """The detail of that message type (error_details_pb2.RetryInfo, ...); None if there is none."""
    found = status(error)
    for packed in found.details if found else ():
        if packed.Is(kind.DESCRIPTOR):
            message = kind()
            packed.Unpack(message)
            return message
    return None


def bad_fields(error):
    """{field: description} of a BadRequest."""
    bad = detail(error, error_details_pb2.BadRequest)
    return {v.field: v.description for v in bad.field_violations} if bad else {}


def retry_delay_seconds(error):
    info = detail(error, error_details_pb2.RetryInfo)
    return info.retry_delay.seconds + info.retry_delay.nanos / 1e9 if info else None


def failure(call, *arguments, **fields):
    """The RpcError that the call must end with. A stream is read to its end."""
    try:
        reply = call(*arguments, **fields)
        if hasattr(reply, "__next__"):
            reply = list(reply)
    except grpc.RpcError as e:
        return e
    raise AssertionError(f"the call should have failed; it answered {reply!r:.300}")
