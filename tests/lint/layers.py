#!/usr/bin/env python3
"""Who may include what. The table is the architecture; CMake's link graph repeats it."""
import os
import re

import source

# Foreign libraries by the start of the header's name. Whatever is not listed is libc.
LIBRARIES = {
    "ck": ("ck_",), "uv": ("uv.h", "uv/"), "grpc": ("grpc/", "grpcpp/"), "hiredis": ("hiredis/",), "nats": ("nats/",),
    "rdkafka": ("librdkafka/",), "libpq": ("libpq-fe.h",), "curl": ("curl/",), "cjson": ("cjson/",),
    "cyaml": ("cyaml/", "yaml.h"), "http": ("microhttpd.h",), "jemalloc": ("jemalloc/",), "nghttp2": ("nghttp2/",),
    "protobuf": ("protobuf-c/", "google/protobuf-c/"), "openssl": ("openssl/",), "cmocka": ("cmocka.h",),
}
GENERATED = re.compile(r"(\.pb-c\.h|^prism_descriptors\.h)$")
ANY = ("",)

# (where, ours it may include, libraries it may include, generated protocol code it may include). The first row that
# matches decides; "X" in "backends/X/" is the folder's own name.
TABLE = [
    (r"src/base/digest\.[ch]", ("src/base/",), ("openssl",), ()),
    (r"src/base/openssl_exit\.h", (), ("openssl",), ()),
    (r"src/base/", ("src/base/",), (), ()),
    (r"src/filter/", ("src/base/", "src/filter/"), (), ()),
    (r"pool/ring\.[ch]", ("src/base/", "pool/"), ("ck",), ()),
    (r"pool/", ("src/base/", "pool/"), ("uv",), ()),
    (r"src/rpc/tls_check\.[ch]", ("src/base/err.h", "src/rpc/tls_check.h"), ("openssl",), ()),
    (r"src/rpc/tls_calls\.c", ("src/rpc/inflow.h",), ("openssl",), ()),
    (r"src/rpc/", ("src/base/", "pool/", "src/rpc/"), ("grpc", "protobuf"), ("google/",)),
    (r"backends/registry\.c", ("src/base/", "backends/"), (), ()),
    (r"backends/[^/]+\.[ch]", ("src/base/", "src/filter/", "pool/", "backends/[^/]+$"), (), ()),
    (r"backends/redis/redis_tls\.[ch]", ("src/base/err.h", "backends/redis/redis_tls.h"), ("openssl",), ()),
    # A connection and its calls know no cluster: that one tells them what to ask it (redis_conn.h).
    (r"backends/redis/redis_(conn|call|hello|resolve|seek|state|turns|words|write)\.[ch]",
     ("src/base/", "pool/", "backends/[^/]+$", r"backends/redis/redis_(call|conn|link|store|text|tls)\.h"),
     ("hiredis", "uv"), ()),
    (r"backends/redis/", ("src/base/", "src/filter/", "pool/", "backends/[^/]+$", "backends/X/"), ("hiredis", "uv"),
     ()),
    # The floors of memstore; backends/memstore/shard.h tells them.
    (r"backends/memstore/(entry|hash|index|wheel|shard)\.[ch]",
     ("src/base/", r"backends/memstore/(entry|hash|index|wheel|shard)\.h"), (), ()),
    (r"backends/memstore/(capacity|expiry|store|read|cursor|scan)\.[ch]",
     ("src/base/", "backends/kv.h", r"backends/memstore/(entry|hash|index|wheel|shard|store)\.h"), (), ()),
    (r"backends/memstore/order\.[ch]", ("src/base/", "backends/memstore/order.h"), (), ()),
    (r"backends/memstore/roster.*\.[ch]",
     ("src/base/", "src/filter/", "backends/registry.h", r"backends/memstore/(order|roster|roster_priv|store)\.h"), (),
     ()),
    (r"backends/memstore/(sessions.*|session_items)\.[ch]",
     ("src/base/", "backends/session.h", r"backends/memstore/(order|sessions|sessions_priv|store)\.h"), (), ()),
    (r"backends/memstore/(sweep|enumerate|single|window|instance)\.[ch]",
     ("src/base/", "pool/", r"backends/memstore/(memstore|store|roster|sessions|instance)\.h"), (), ()),
    (r"backends/kafka/", ("src/base/", "pool/", "backends/[^/]+$", "backends/X/"), ("rdkafka", "uv"), ()),
    (r"backends/nats/", ("src/base/", "pool/", "backends/[^/]+$", "backends/X/"), ("nats",), ()),
    (r"backends/postgres/", ("src/base/", "src/filter/", "pool/", "backends/[^/]+$", "backends/X/"), ("libpq", "uv"),
     ()),
    # What speaks signed HTTP shares a client; only that one knows libcurl.
    (r"backends/aws/http.*\.[ch]", ("src/base/", "pool/", r"backends/aws/http.*\.h"), ("curl", "uv"), ()),
    (r"backends/aws/", ("src/base/", "pool/", "backends/[^/]+$", "backends/X/"), (), ()),
    (r"backends/dynamodb/", ("src/base/", "pool/", "backends/[^/]+$", "backends/aws/", "backends/X/"), ("cjson",), ()),
    (r"backends/s3/", ("src/base/", "pool/", "backends/[^/]+$", "backends/aws/", "backends/X/"), (), ()),
    (r"backends/[^/]+/", ("src/base/", "src/filter/", "pool/", "backends/[^/]+$", "backends/X/"), (), ()),
    (r"patterns/", ("src/base/", "src/filter/", "pool/", "backends/[^/]+$", "src/rpc/call.h", "patterns/"),
     ("protobuf",), ANY),
    (r"src/config/", ("src/base/", "backends/[^/]+$", "patterns/pattern.h", "src/config/"), ("cyaml",), ()),
    (r"src/services/admin", ("src/base/", "pool/", "src/services/"), ("http",), ()),
    (r"src/services/", ("src/base/", "pool/", "src/rpc/call.h", "src/services/"), ("protobuf",), ANY),
    (r"src/[^/]+\.[ch]", ("src/", "pool/", "backends/[^/]+$", "patterns/[^/]+$"), ("uv", "jemalloc", "protobuf"), ANY),
    # prismctl checks configurations with the server's own code; the library knows nothing of the server.
    (r"client/prismctl/", ("client/prismctl/", "prism/", "src/base/", "src/config/config.h", "src/rpc/tls_set.h",
                           "pool/", "backends/[^/]+$", "patterns/pattern.h"), (), ()),
    (r"client/", ("client/", "prism/"), ("grpc", "protobuf"), ANY),
    (r"(tests|perf)/", ANY, tuple(LIBRARIES), ANY),
]
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)


def row_of(path):
    for row in TABLE:
        if re.match(row[0], path):
            return row
    return None


def allowed(target, patterns, path):
    own = "/".join(path.split("/")[:2]) + "/"
    return any(re.match(p.replace("backends/X/", own), target) for p in patterns)


def library_of(target):
    return next((name for name, starts in LIBRARIES.items() if target.startswith(starts)), None)


def fault_of(root, path, row, bracket, target):
    _, ours, libraries, generated = row
    if GENERATED.search(target):
        return None if allowed(target, generated, path) else "generated protocol code is out of bounds here"
    library = library_of(target)
    if bracket == "<":
        if target.startswith("prism/"):
            return None if allowed(target, ours, path) else "the client library is out of bounds here"
        return None if library is None or library in libraries else f"library {library} is out of bounds here"
    if path.startswith(("client/", "tests/")) and os.path.exists(os.path.join(root, "client/include", target)):
        return None
    if not os.path.exists(os.path.join(root, target)):
        return "includes are written from the root of the repository"
    return None if allowed(target, ours, path) else "crosses a layer"


def check(root):
    faults = []
    for path in source.files(root, ".c", ".h"):
        row = row_of(path)
        if row is None:
            faults.append(f"{path}: in no layer (tests/lint/layers.py)")
            continue
        text = source.read(root, path)
        for match in INCLUDE.finditer(text):
            fault = fault_of(root, path, row, *match.groups())
            if fault:
                line = text.count("\n", 0, match.start(2)) + 1
                faults.append(f"{path}:{line}: {match.group(2)}: {fault}")
    return faults


SAMPLES = [
    ({"src/base/err.h": "", "pool/op.h": '#include "src/base/err.h"\n#include <stdint.h>\n'}, None),
    ({"src/base/err.h": '#include "pool/op.h"\n', "pool/op.h": ""}, "crosses a layer"),
    ({"patterns/keyvalue/store.c": "#include <grpc/grpc.h>\n"}, "library grpc"),
    ({"patterns/keyvalue/store.c": '#include "backends/redis/redis.h"\n', "backends/redis/redis.h": ""}, "crosses"),
    ({"backends/redis/a.c": '#include "backends/memstore/m.h"\n', "backends/memstore/m.h": ""}, "crosses"),
    ({"backends/redis/a.c": '#include "backends/redis/b.h"\n', "backends/redis/b.h": ""}, None),
    ({"pool/worker.c": "#include <ck_ring.h>\n"}, "library ck"),
    ({"src/rpc/call.c": '#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"\n'}, "generated"),
    ({"src/rpc/tls.c": "#include <openssl/ssl.h>\n"}, "library openssl"),
    ({"src/rpc/tls_check.c": "#include <openssl/ssl.h>\n"}, None),
    ({"src/rpc/tls_check.c": "#include <grpc/grpc.h>\n"}, "library grpc"),
    ({"pool/op.c": '#include "op.h"\n', "pool/op.h": ""}, "from the root"),
    ({"util/x.c": ""}, "in no layer"),
    ({"client/src/a.c": '#include "pool/op.h"\n', "pool/op.h": ""}, "crosses a layer"),
]

if __name__ == "__main__":
    source.run(check, SAMPLES)
