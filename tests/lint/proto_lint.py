#!/usr/bin/env python3
"""Checks the protocol files: proto_lint.py [--root REPOSITORY] [--proto FOLDER] [--buf auto|never|always]

Always our own rules (each check_* function below is one); buf's STANDARD rules and its format too
when buf is on the PATH or in the cache folder. Prints FILE:LINE: fault, exits 1 if there is any.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "proto" / "tools"))
import descriptors  # noqa: E402

PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
UPPER = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
NAME_FORM = {
    "service": PASCAL, "message": PASCAL, "enum": PASCAL, "rpc": PASCAL,
    "field": SNAKE, "oneof": SNAKE, "extension": SNAKE, "value": UPPER,
}  # fmt: skip

C_KEYWORDS = set(
    "auto break case char const continue default do double else enum extern float for goto if inline int long"
    " register restrict return short signed sizeof static struct switch typedef union unsigned void volatile"
    " while".split()
)
CXX_KEYWORDS = set(
    "and asm bool catch class compl delete explicit export false friend mutable new not operator or private"
    " protected public template this throw true try typeid typename using virtual xor".split()
)
# The generator's wrapper (proto/protoc-gen-c-optional) mends the member names of these RPCs.
RPC_KEYWORDS_MENDED = {"register", "delete"}
# Wire-compatible names that cannot be chosen any more; protobuf-c calls the member register_.
FIELD_KEYWORDS_KEPT = {"prism.interfaces.PatternMessage.register"}

# Public numbers and names.
ZERO_VALUE_KEPT = {"google.rpc.Code", "grpc.health.v1.HealthCheckResponse.ServingStatus"}

# Packages of the wide world keep the names under which their users know them.
JAVA_PACKAGES = {"google.rpc": "com.google.rpc", "grpc.health.v1": "io.grpc.health.v1"}
GO_PACKAGES = {
    "google/rpc/code.proto": "google.golang.org/genproto/googleapis/rpc/code",
    "google/rpc/error_details.proto": "google.golang.org/genproto/googleapis/rpc/errdetails",
    "google/rpc/status.proto": "google.golang.org/genproto/googleapis/rpc/status",
    "grpc/health/v1/health.proto": "google.golang.org/grpc/health/grpc_health_v1",
    "prism/options.proto": "prism/options",  # Go wants a slash
}

LINE_LENGTH = 100
PATTERNS = "prism.patterns."
CAPABILITY_TYPE = "prism.patterns.schemas.OperationCapability"


def check_comments(item):
    if item.kind == "file":
        if not item.comment:
            yield "file has no comment above its syntax line"
        return
    if not item.comment:
        yield f"{item.kind} {item.full_name} has no comment"
    elif not item.comment.endswith("."):
        yield f"{item.kind} {item.full_name}: the comment does not end with a full stop"


def check_names(item):
    form = NAME_FORM.get(item.kind)
    if form and not form.fullmatch(item.name):
        yield f"{item.kind} {item.full_name}: name does not have the form {form.pattern}"
    if item.kind == "file":
        folder, _, name = item.name.rpartition("/")
        if folder.replace("/", ".") != item.proto.package:
            yield f"package {item.proto.package} does not match the folder {folder}"
        if not all(SNAKE.fullmatch(part) for part in [*folder.split("/"), name.removesuffix(".proto")]):
            yield "folder and file names have to be in snake case"


def check_keywords(item):
    if item.kind == "rpc":
        member = re.sub(r"(?<!^)(?=[A-Z])", "_", item.name).lower()
        if member in (C_KEYWORDS | CXX_KEYWORDS) - RPC_KEYWORDS_MENDED:
            yield f"rpc {item.full_name}: {member} is a C or C++ keyword"
    elif item.kind in ("field", "oneof") and item.name in C_KEYWORDS:
        if item.full_name not in FIELD_KEYWORDS_KEPT:
            yield f"{item.kind} {item.full_name}: {item.name} is a C keyword"


def check_packages(item):
    """Generators of Go, Java and C# need no mapping."""
    if item.kind != "file":
        return
    package, options = item.proto.package, item.proto.options
    go = GO_PACKAGES.get(item.name, package.replace(".", "/"))
    java = JAVA_PACKAGES.get(package, package)
    if options.go_package != go:
        yield f'option go_package has to be "{go}"'
    if options.java_package != java:
        yield f'option java_package has to be "{java}"'
    if not options.java_multiple_files:
        yield "option java_multiple_files has to be true"
    part = r"(\.|^)[A-Z][A-Za-z0-9]*"
    csharp = options.csharp_namespace
    if not re.fullmatch(f"({part})+", csharp) or csharp.lower() != package.replace("_", "").lower():
        yield f"option csharp_namespace has to be {package} in PascalCase"


def check_zero_value(item):
    if item.kind != "enum" or item.full_name in ZERO_VALUE_KEPT:
        return
    first = item.children[0]
    if first.proto.number != 0 or not first.name.endswith("_UNSPECIFIED"):
        yield f"enum {item.full_name}: the first value has to be 0 and end in _UNSPECIFIED"


def check_deprecation(item):
    if item.kind == "service":
        old = not item.full_name.startswith((PATTERNS, "grpc.health."))
        if old and not item.deprecated:
            yield f"service {item.full_name} stands outside {PATTERNS}* and is not marked deprecated"
        if old and "Deprecated: " not in item.comment:
            yield f"service {item.full_name}: the comment does not say 'Deprecated: ' and what replaces it"


def check_capabilities(item):
    """Every pattern service answers GetCapabilities, and Capabilities is made as clients expect it."""
    if item.kind == "service" and item.full_name.startswith(PATTERNS):
        package = item.full_name.rpartition(".")[0]
        want = (f".{package}.GetCapabilitiesRequest", f".{package}.Capabilities", False, False)
        rpcs = [rpc.proto for rpc in item.children if rpc.name == "GetCapabilities"]
        have = [(r.input_type, r.output_type, r.client_streaming, r.server_streaming) for r in rpcs]
        if have != [want]:
            yield f"service {item.full_name} has no unary GetCapabilities of its own package"
    if item.kind == "message" and item.name == "Capabilities":
        fields = {field.name: field for field in item.of("field")}
        slots = fields.get("slots")
        if slots is None or slots.proto.number != 1:
            yield f"message {item.full_name} has no field slots = 1"
        operations = fields.get("operations")
        if operations is None or (operations.label, operations.type) != ("repeated", CAPABILITY_TYPE):
            yield f"message {item.full_name} has no repeated {CAPABILITY_TYPE} operations"


def check_error_code(item):
    """An error for people has the same error for programs beside it."""
    if item.kind == "message" and item.full_name.startswith(PATTERNS):
        fields = {field.name: field for field in item.of("field")}
        code = fields.get("code")
        if "error" in fields and (code is None or code.type != "int32"):
            yield f"message {item.full_name} has a field error and no int32 code"


RULES = (
    check_comments,
    check_names,
    check_keywords,
    check_packages,
    check_zero_value,
    check_deprecation,
    check_capabilities,
    check_error_code,
)


def own_faults(proto_root):
    try:
        files = descriptors.load(proto_root)
    except descriptors.ProtocolError as fault:
        return [str(fault)]
    faults = []
    for file in files:
        for item in file.walk():
            faults += [f"{item.at()}: {text}" for rule in RULES for text in rule(item)]
        lines = (proto_root / file.name).read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, 1):
            if len(line) > LINE_LENGTH:
                faults.append(f"{file.name}:{number}: longer than {LINE_LENGTH} columns")
            if re.search(r"\b(TODO|FIXME|XXX)\b", line):
                faults.append(f"{file.name}:{number}: unfinished")
    return faults


def find_buf():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "prism"
    for path in (cache / "bin" / "buf", cache / "buf" / "node_modules" / ".bin" / "buf"):
        if os.access(path, os.X_OK):
            return str(path)
    return shutil.which("buf")


def buf_faults(buf, proto_root):
    faults = []
    for arguments in (["lint"], ["format", "--diff", "--exit-code"]):
        done = subprocess.run([buf, *arguments], cwd=proto_root, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            faults += [f"buf {arguments[0]}: {line}" for line in (done.stdout + done.stderr).split("\n") if line]
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=HERE.parents[1], help="the repository")
    parser.add_argument("--proto", type=pathlib.Path, help="folder of the protocol files (default: ROOT/proto)")
    parser.add_argument("--buf", choices=("auto", "never", "always"), default="auto")
    options = parser.parse_args()
    proto_root = (options.proto or options.root / "proto").resolve()

    faults = own_faults(proto_root)
    buf = None if options.buf == "never" else find_buf()
    if buf:
        faults += buf_faults(buf, proto_root)
    elif options.buf == "always":
        faults.append("buf is neither on the PATH nor in the cache folder")
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{len(descriptors.proto_files(proto_root))} files, {len(RULES)} rules of ours"
              f"{', buf STANDARD and format' if buf else '; buf not at hand'}: no fault")  # fmt: skip
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
