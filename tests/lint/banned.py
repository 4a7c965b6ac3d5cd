#!/usr/bin/env python3
"""Calls that have no place here, allocation outside its folders, and mutable statics."""
import re

import source

# What to use instead.
BANNED = {
    r"strcpy|strcat|sprintf|vsprintf|gets": "no bound: snprintf, memcpy with a checked length",
    r"strncpy|strncat": "may leave the text unterminated: memcpy with a checked length",
    r"atoi|atol|atoll|atof": "cannot report an error: strtol and its kin, checked",
    r"strtok|localtime|gmtime|asctime|ctime": "not safe with threads: the _r variant",
    r"sleep|usleep": "no synchronisation by sleeping: wait for an event, with a deadline",
    r"alloca": "stack of unknown size: the call's arena",
    r"system|popen": "no shell",
    r"setjmp|longjmp": "hidden control flow",
    r"rand|srand": "not random enough for anything",
}
ALLOCATION = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|strndup|asprintf|reallocarray)\s*\(")
MAY_ALLOCATE = re.compile(r"src/|pool/|backends/|client/|perf/|tests/")
# They stand in for calls of libraries, which carry no context of ours.
MAY_BE_STATIC = re.compile(r"tests/|perf/|src/rpc/(coalesce|guard|inflow|sockets|tls_calls)\.c")
# One by one, with the reason why no struct can hold them.
STATICS = {
    ("client/src/channel.c", "once"): "one quieting of abseil for the process",
    ("src/base/log.c", "sink"): "the process has one standard error",
    ("src/base/log.c", "turn"): "the lock of that sink",
    ("src/base/digest.c", "sha256"): "OpenSSL's, found once for the process; digests are made anywhere",
    ("src/rpc/library_log.c", "budget"): "gRPC's log function is told nothing of ours",
}
CALLS = [(re.compile(rf"(?<![\w.>])({names})\s*\("), why) for names, why in BANNED.items()]
_NAME = r"\b(?P<name>\w+)\s*(\[[^\]]*\]\s*)*(=|;)"
# Of a file or of a function.
STATIC = re.compile(r"^[ \t]*static (?!.*\b(const|inline|_Thread_local|__thread)\b)"
                    r"([^(){}=;]*|[^(){}=;]*\{[^{}]*\}[^(){}=;]*)" + _NAME, re.M)
# A pointer to const that may itself be changed is mutable as well.
STATIC_POINTER = re.compile(r"^[ \t]*static const [^(){}=;]*\*(?!\s*const)[^(){}=;]*" + _NAME, re.M)


def check(root):
    faults = []
    for path in source.files(root, ".c", ".h"):
        text = source.code(source.read(root, path))
        found = [(m, f"{m.group(1)}: {why}") for calls, why in CALLS for m in calls.finditer(text)]
        if not MAY_ALLOCATE.match(path):
            found += [(m, f"{m.group(1)}: memory comes from the call's arena here") for m in ALLOCATION.finditer(text)]
        if not MAY_BE_STATIC.match(path):
            found += [(m, f"{m['name']}: mutable static: state hangs on a struct that somebody owns")
                      for pattern in (STATIC, STATIC_POINTER) for m in pattern.finditer(text)
                      if (path, m["name"]) not in STATICS]
        faults += [f"{path}:{text.count(chr(10), 0, m.start()) + 1}: {what}" for m, what in found]
    return sorted(faults)


SAMPLES = [
    ({"pool/a.c": "/* strcpy(a, b) */\nstatic const int x = 1;\nint f(void)\n{\n    return puts(\"atoi(\");\n}\n"},
     None),
    ({"pool/a.c": "void f(char *a)\n{\n    strcpy(a, a);\n}\n"}, "pool/a.c:3: strcpy"),
    ({"tests/a.c": "void f(void)\n{\n    sleep(1);\n}\n"}, "sleep"),
    ({"patterns/a.c": "void *f(void)\n{\n    return malloc(1);\n}\n"}, "malloc"),
    ({"patterns/a.c": "void f(struct ops *o)\n{\n    o->free(o);\n}\n"}, None),
    ({"src/a.c": "static int count;\n"}, "mutable static"),
    ({"src/a.c": "static const char *name = 0;\n"}, "mutable static"),
    ({"src/a.c": "void f(void)\n{\n    static struct turn t = TURN(1, 2);\n}\n"}, "src/a.c:3: t: mutable static"),
    ({"src/a.c": "void f(void)\n{\n    static int seen[2];\n    seen[0]++;\n}\n"}, "seen: mutable static"),
    ({"src/a.c": "static struct {\n    int fd;\n} sink = {.fd = 2};\n"}, "src/a.c:1: sink: mutable static"),
    ({"src/a.c": "void f(void)\n{\n    static const char x[] = \"\";\n    static const char *const y = x;\n}\n"},
     None),
    ({"src/base/log.c": "void f(void)\n{\n    static int turn;\n}\n"}, None),
    ({"src/a.c": "static const char *const name = 0;\nstatic int f(void);\n"}, None),
]

if __name__ == "__main__":
    source.run(check, SAMPLES)
