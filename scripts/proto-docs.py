#!/usr/bin/env python3
"""Renders the protocol reference from the comments of the protocol files.

  proto-docs.py --out docs/protocol.md    writes it
  proto-docs.py --check docs/protocol.md  exits 1 if the file is not what would be written
"""

import argparse
import difflib
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "proto" / "tools"))
import descriptors  # noqa: E402

# Packages in reading order; those not named follow at the end, by name.
ORDER = (
    ("prism.patterns.keyvalue", "Key-value"),
    ("prism.patterns.multicast_registry", "Multicast registry"),
    ("prism.patterns.session_store", "Session store"),
    ("prism.patterns.producer", "Producer"),
    ("prism.patterns.consumer", "Consumer"),
    ("prism.patterns.schemas", "Slots and capabilities"),
    ("google.rpc", "Status and error details"),
    ("prism.interfaces.keyvalue", "Deprecated: key-value interfaces"),
    ("prism.interfaces.pubsub", "Deprecated: publish and subscribe"),
    ("prism.interfaces", "Deprecated: life cycle and control"),
    ("prism.common", "Shared and deprecated types"),
    ("prism", "Deprecated: annotations"),
)

INTRODUCTION = """\
# Protocol reference

Rendered by `make docs` from the comments in `proto/`; change it there.

Prism speaks gRPC with proto3 messages. One service per pattern is current; the services under
`prism.interfaces` are deprecated and stay wire-compatible for clients that still use them.

- **Path** of a method: `/<package>.<Service>/<Method>`, for example
  `/prism.patterns.keyvalue.KeyValuePattern/Store`. Server reflection (v1 and v1alpha) describes
  everything on this page, and health is served as `grpc.health.v1.Health`.
- **Namespace**: the call metadata `x-prism-namespace` selects it; without it, `default` is used.
- **Presence**: a field marked *optional* tells "absent" from its zero value, as do message fields
  and members of a *oneof*. Any other field that is absent has its zero value: 0, `false`, empty.
- **Text** (`string`) is UTF-8. Binary data goes into `bytes`.
- **Errors** of a call are gRPC statuses with details ([google.rpc](#google-rpc)). Errors of one item
  stand in the response: `error` for people, `code` (a [google.rpc.Code](#google.rpc.Code) number, 0
  on success) for programs.
- **Changes** are additions only: names and numbers on this page do not change, and unknown fields
  are ignored.
"""


def slug(package):
    return package.replace(".", "-")


def code_words(text, names):
    """Names of the protocol and quoted values in code type, the rest safe for Markdown."""

    def mark(match):
        word = match[0]
        known = not re.fullmatch(r"[A-Z]+", word) or word in names
        return f"`{word}`" if known else word

    # {JSON}, "quoted", dotted.names, snake_case, UPPER_CASE
    pattern = r'\{".*\}|"[^"]*"|\b\w+(?:\.[A-Za-z_]\w*)+|\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b|\b[A-Z][A-Z_]+\b'
    out = []
    for part in re.split(r"(`[^`]*`)", text):
        if part.startswith("`"):
            out.append(part)
            continue
        at = 0
        for match in re.finditer(pattern, part):
            out += [plain(part[at : match.start()]), mark(match)]
            at = match.end()
        out.append(plain(part[at:]))
    return "".join(out)


def plain(text):
    return re.sub(r"([*<$])", r"\\\1", text)


class Reference:
    def __init__(self, files):
        self.lines = []
        self.packages = {}
        for file in files:
            self.packages.setdefault(file.proto.package, []).append(file)
        self.values = {i.name for f in files for i in f.walk() if i.kind == "value"}
        self.known = {i.full_name for f in files for i in f.walk() if i.kind in ("message", "enum")}

    def add(self, *lines):
        self.lines += lines

    def paragraphs(self, comment):
        return [code_words(" ".join(p.split("\n")), self.values) for p in comment.split("\n\n")] if comment else []

    def cell(self, comment):
        return "<br>".join(self.paragraphs(comment)).replace("|", "\\|")

    def link(self, type_name, package):
        """A type as readers of `package` write it, linked if it stands on this page."""
        short = type_name.removeprefix(f"{package}.")
        return f"[{short}](#{type_name})" if type_name in self.known else f"`{short}`"

    def field_type(self, field, package):
        if field.label == "map":
            key = field.type[len("map<") :].split(",")[0]
            return f"map of `{key}` to {self.link(field.map_value, package)}"
        label = f"{field.label} " if field.label in ("repeated", "optional") else ""
        return label + self.link(field.type, package)

    def render(self):
        names = dict(ORDER)
        order = [package for package, _ in ORDER if package in self.packages]
        order += sorted(set(self.packages) - set(order))
        self.add(INTRODUCTION, "## Contents", "")
        for package in order:
            services = [s for file in self.packages[package] for s in file.of("service")]
            of_package = ", ".join(f"[{s.name}](#{s.full_name})" for s in services)
            title = names.get(package, package)
            self.add(f"- [{title}](#{slug(package)})" + (f": {of_package}" if services else ""))
        for package in order:
            self.package(package, names.get(package, package))
        return "\n".join(self.lines).rstrip() + "\n"

    def package(self, package, title):
        files = self.packages[package]
        self.add("", f'<a id="{slug(package)}"></a>', "", f"## {title}", "", f"Package `{package}`.")
        for file in files:
            self.add("", f"`{file.name}`: {' '.join(self.paragraphs(file.comment))}")
        for read, kind in ((self.service, "service"), (self.message, "message"), (self.enum, "enum")):
            for file in files:
                for item in file.of(kind):
                    read(item, package)
        for file in files:
            self.extensions(file, package)

    def heading(self, item, package, kind):
        mark = " (deprecated)" if item.deprecated else ""
        short = item.full_name.removeprefix(f"{package}.")
        self.add("", f'<a id="{item.full_name}"></a>', "", f"### {kind} {short}{mark}", "")
        for text in self.paragraphs(item.comment):
            self.add(text, "")

    def service(self, item, package):
        self.heading(item, package, "Service")
        self.add("| Method | Request | Response | |", "|---|---|---|---|")
        for rpc in item.of("rpc"):
            method = rpc.proto
            request = self.link(method.input_type.lstrip("."), package)
            response = self.link(method.output_type.lstrip("."), package)
            request = f"stream of {request}" if method.client_streaming else request
            response = f"stream of {response}" if method.server_streaming else response
            self.add(f"| **{rpc.name}** | {request} | {response} | {self.cell(rpc.comment)} |")

    def message(self, item, package):
        self.heading(item, package, "Message")
        fields = item.of("field")
        if not fields:
            self.add("No fields.")
        else:
            self.add("| No. | Field | Type | |", "|---|---|---|---|")
        for field in fields:
            mark = " (deprecated)" if field.deprecated else ""
            self.add(
                f"| {field.proto.number} | `{field.name}`{mark} | {self.field_type(field, package)}"
                f"{self.oneof_mark(field)} | {self.cell(field.comment)} |"
            )
        for oneof in item.of("oneof"):
            self.add("", f"Oneof `{oneof.name}`: {' '.join(self.paragraphs(oneof.comment))}")
        for nested in item.of("message"):
            self.message(nested, package)
        for nested in item.of("enum"):
            self.enum(nested, package)

    @staticmethod
    def oneof_mark(field):
        return f", one of `{field.label.removeprefix('oneof ')}`" if field.label.startswith("oneof ") else ""

    def enum(self, item, package):
        self.heading(item, package, "Enum")
        self.add("| No. | Value | |", "|---|---|---|")
        for value in item.of("value"):
            self.add(f"| {value.proto.number} | `{value.name}` | {self.cell(value.comment)} |")

    def extensions(self, file, package):
        extendee = None
        for item in file.of("extension"):
            if item.proto.extendee != extendee:
                extendee = item.proto.extendee
                self.add("", f"### Extensions of {extendee.lstrip('.')}", "")
                self.add("| No. | Option | Type | |", "|---|---|---|---|")
            type_text, text = self.field_type(item, package), self.cell(item.comment)
            self.add(f"| {item.proto.number} | `{item.full_name}` | {type_text} | {text} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="the repository")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=pathlib.Path, metavar="FILE")
    action.add_argument("--check", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()

    try:
        text = Reference(descriptors.load(options.root / "proto")).render()
    except descriptors.ProtocolError as fault:
        sys.exit(str(fault))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
        return 0
    have = options.check.read_text(encoding="utf-8") if options.check.exists() else ""
    if have == text:
        return 0
    diff = difflib.unified_diff(have.splitlines(), text.splitlines(), str(options.check), "rendered", lineterm="", n=0)
    print("\n".join(list(diff)[:40]))
    print(f"{options.check} is not current: make docs")
    return 1


if __name__ == "__main__":
    sys.exit(main())
