"""The protocol as a tree: what the lint, the additive check and the reference all read.

Runs protoc for descriptors with source comments and turns them into Items. Needs protoc and Debian's
python3-protobuf; started by an interpreter that lacks the latter, it goes on in Debian's own.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    from google.protobuf import descriptor_pb2
except ImportError:
    if sys.executable == "/usr/bin/python3" or not os.path.exists("/usr/bin/python3"):
        sys.exit("needs the Python module google.protobuf: apt-get install python3-protobuf")
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])

_Field = descriptor_pb2.FieldDescriptorProto

# Numbers of descriptor.proto's fields, of which source locations' paths consist.
_FILE_PACKAGE, _FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE, _FILE_EXTENSION, _FILE_SYNTAX = 2, 4, 5, 6, 7, 12
_MESSAGE_FIELD, _MESSAGE_MESSAGE, _MESSAGE_ENUM, _MESSAGE_ONEOF = 2, 3, 4, 8
_ENUM_VALUE = 2
_SERVICE_METHOD = 2


class ProtocolError(Exception):
    """The files do not compile; the text is protoc's."""


@dataclasses.dataclass
class Item:
    """One declaration: file, message, field, oneof, enum, value, service, rpc or extension."""

    kind: str
    name: str
    full_name: str
    file: str
    line: int  # from 1
    comment: str  # the comment right above, "" if there is none
    proto: object  # its descriptor
    children: list = dataclasses.field(default_factory=list)
    type: str = ""  # fields and extensions: "int64", "prism.common.Tags", "map<string, string>"
    label: str = ""  # fields: "", "optional", "repeated", "map", "oneof NAME"; extensions likewise
    map_value: str = ""  # the value's type, of a map

    @property
    def deprecated(self):
        return self.proto.options.deprecated if self.kind != "oneof" else False

    def walk(self):
        yield self
        for child in self.children:
            yield from child.walk()

    def of(self, *kinds):
        return [child for child in self.children if child.kind in kinds]

    def at(self):
        return f"{self.file}:{self.line}"


def proto_files(proto_root):
    return sorted(str(p.relative_to(proto_root)) for p in pathlib.Path(proto_root).rglob("*.proto"))


def load(proto_root, files=None):
    """The Items of the given files, or of all below proto_root, in the order of their names."""
    files = proto_files(proto_root) if files is None else files
    if not files:
        raise ProtocolError(f"no .proto file below {proto_root}")
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "set.bin")
        command = ["protoc", "-I", str(proto_root), "--include_source_info", f"--descriptor_set_out={out}", *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ProtocolError(done.stderr.strip())
        with open(out, "rb") as stream:
            found = descriptor_pb2.FileDescriptorSet.FromString(stream.read())
    return sorted((_Reader(file).read() for file in found.file), key=lambda item: item.name)


def type_of(field):
    if field.type_name:
        return field.type_name.lstrip(".")
    return _Field.Type.Name(field.type).removeprefix("TYPE_").lower()


class _Reader:
    def __init__(self, file):
        self.file = file
        self.locations = {tuple(loc.path): loc for loc in file.source_code_info.location}

    def read(self):
        file = self.file
        item = self.item("file", file.name, file, (_FILE_SYNTAX,), "")
        item.full_name = file.name
        for kind, number, protos, read in (
            ("service", _FILE_SERVICE, file.service, self.service),
            ("message", _FILE_MESSAGE, file.message_type, self.message),
            ("enum", _FILE_ENUM, file.enum_type, self.enum),
            ("extension", _FILE_EXTENSION, file.extension, self.extension),
        ):
            item.children += [read(kind, proto, (number, i), file.package) for i, proto in enumerate(protos)]
        return item

    def item(self, kind, name, proto, path, scope):
        location = self.locations.get(path)
        comment = "\n".join(
            line.removeprefix(" ").rstrip() for line in (location.leading_comments if location else "").split("\n")
        ).strip()
        line = location.span[0] + 1 if location else 1
        return Item(kind, name, f"{scope}.{name}".lstrip("."), self.file.name, line, comment, proto)

    def service(self, kind, proto, path, scope):
        item = self.item(kind, proto.name, proto, path, scope)
        for i, method in enumerate(proto.method):
            item.children.append(self.item("rpc", method.name, method, (*path, _SERVICE_METHOD, i), item.full_name))
        return item

    def message(self, kind, proto, path, scope):
        item = self.item(kind, proto.name, proto, path, scope)
        full = item.full_name
        entries = {f".{full}.{n.name}": n for n in proto.nested_type if n.options.map_entry}
        synthetic = {f.oneof_index for f in proto.field if f.proto3_optional}
        for i, oneof in enumerate(proto.oneof_decl):
            if i not in synthetic:
                item.children.append(self.item("oneof", oneof.name, oneof, (*path, _MESSAGE_ONEOF, i), full))
        for i, field in enumerate(proto.field):
            child = self.item("field", field.name, field, (*path, _MESSAGE_FIELD, i), full)
            self.describe(child, entries.get(field.type_name), proto)
            item.children.append(child)
        for i, nested in enumerate(proto.nested_type):
            if not nested.options.map_entry:
                item.children.append(self.message("message", nested, (*path, _MESSAGE_MESSAGE, i), full))
        for i, nested in enumerate(proto.enum_type):
            item.children.append(self.enum("enum", nested, (*path, _MESSAGE_ENUM, i), full))
        return item

    @staticmethod
    def describe(item, entry, message):
        field = item.proto
        item.type = type_of(field)
        if entry is not None:
            key, value = (type_of(f) for f in entry.field)
            item.type, item.label, item.map_value = f"map<{key}, {value}>", "map", value
        elif field.label == _Field.LABEL_REPEATED:
            item.label = "repeated"
        elif field.proto3_optional:
            item.label = "optional"
        elif field.HasField("oneof_index"):
            item.label = f"oneof {message.oneof_decl[field.oneof_index].name}"

    def enum(self, kind, proto, path, scope):
        item = self.item(kind, proto.name, proto, path, scope)
        for i, value in enumerate(proto.value):
            item.children.append(self.item("value", value.name, value, (*path, _ENUM_VALUE, i), scope))
        return item

    def extension(self, kind, proto, path, scope):
        item = self.item(kind, proto.name, proto, path, scope)
        item.type = type_of(proto)
        item.label = "repeated" if proto.label == _Field.LABEL_REPEATED else ""
        return item
