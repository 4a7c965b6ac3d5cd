#!/usr/bin/env python3
"""What ships carries the usual hardening: position-independent, full RELRO with immediate binding, no executable stack;
the code that is ours has stack protectors and checked string functions.

hardening.py FILE...: programs, shared libraries and archives of ours. --self-test CC: it can fail."""
import os
import re
import subprocess
import sys
import tempfile


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout


def faults_of_image(path):
    """Of a program or a shared library."""
    header, segments, dynamic = (output("readelf", "-W", option, path) for option in ("-h", "-l", "-d"))
    shared = ".so" in os.path.basename(path)
    if not re.search(r"Type:\s+DYN", header) or not (shared or re.search(r"FLAGS_1.*\bPIE\b", dynamic)):
        yield "not position-independent"
    if "GNU_RELRO" not in segments:
        yield "no RELRO"
    if not re.search(r"\(FLAGS\).*BIND_NOW|\(FLAGS_1\).*\bNOW\b", dynamic):
        yield "not bound at the start (BIND_NOW)"
    if not re.search(r"GNU_STACK.*\sRW\s", segments):
        yield "the stack is executable"


def wanted_by(archive):
    """What its members call. Archives hold our code alone: what other libraries in a program have does not count.
    readelf and not nm: where members hold code for whole programs as well, nm shows the symbols of that alone."""
    return set(re.findall(r"\bUND (\S+)", output("readelf", "-sW", archive)))


def check(paths):
    archives = {path: wanted_by(path) for path in paths if path.endswith(".a")}
    faults = [f"{os.path.basename(path)}: {fault}" for path in paths if path not in archives
              for fault in faults_of_image(path)]
    faults += [f"{os.path.basename(path)}: no stack protector" for path, wanted in archives.items()
               if "__stack_chk_fail" not in wanted]
    # Not each of them: one may copy nothing whose room the compiler knows.
    if not any(re.fullmatch(r"__(?!stack)\w+_chk", name) for wanted in archives.values() for name in wanted):
        faults.append("archives: no checked functions (_FORTIFY_SOURCE)")
    return faults


CODE = """#include <stdio.h>
void f(const char *s);
void f(const char *s) { char text[64]; snprintf(text, (size_t)s[0], "%s", s); puts(text); }
int main(int n, char **v) { f(v[n - 1]); return 0; }
"""
GOOD = (["-O2", "-fPIE", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"],
        ["-pie", "-Wl,-z,relro,-z,now"])
BAD = ((GOOD[0], ["-no-pie", "-Wl,-z,relro,-z,now"], "not position-independent"),
       (GOOD[0], ["-pie", "-Wl,-z,relro,-z,lazy"], "not bound at the start"),
       (GOOD[0], ["-pie", "-Wl,-z,norelro,-z,now"], "no RELRO"),
       (GOOD[0], [*GOOD[1], "-Wl,-z,execstack"], "the stack is executable"),
       (["-O2", "-fPIE", "-fno-stack-protector", "-D_FORTIFY_SOURCE=2"], GOOD[1], "no stack protector"),
       (["-O2", "-fPIE", "-fstack-protector-strong", "-U_FORTIFY_SOURCE"], GOOD[1], "no checked functions"))


def self_test(compiler):
    with tempfile.TemporaryDirectory() as folder:
        source, code, archive, image = (os.path.join(folder, name) for name in ("a.c", "a.o", "a.a", "a"))
        with open(source, "w", encoding="ascii") as f:
            f.write(CODE)
        for compile_flags, link_flags, wanted in ((*GOOD, None), *BAD):
            output(compiler, *compile_flags, "-c", source, "-o", code)
            output("ar", "rcs", archive, code)
            output(compiler, *link_flags, code, "-o", image)
            found = check([image, archive])
            assert bool(found) == bool(wanted) and all(wanted in fault for fault in found), (wanted, found)
            os.unlink(archive)


def main(arguments):
    if arguments[0] == "--self-test":
        self_test(arguments[1])
        return 0
    faults = check(arguments)
    print(*faults, f"{len(faults)} faults", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
