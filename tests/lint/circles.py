#!/usr/bin/env python3
"""Files of a folder stand on floors: each calls only what lower ones define. So there is no circle of files that call
each other, directly or through others. Said of the folders below.
What a header defines, inline or as a macro, counts for who uses it."""
import os
import re

import source

FOLDERS = ("backends/memstore", "backends/redis")
DEFINED = re.compile(r"^(?!static|extern|typedef|enum)\w[\w *]*?\b(\w+)(?:\([^;{}]*\)\n\{|(?:\[\w*\])* = )", re.M)
INLINE = re.compile(r"^static inline [\w *]*?\b(\w+)\([^;{}]*\)\n\{(.*?)^\}", re.M | re.S)
MACRO = re.compile(r"^#define (\w+)((?:.*\\\n)*.*)", re.M)
OWN = re.compile(r"^static [^;{}=]*?\b(\w+)(?:\([^;{}]*\)[;\n]|(?:\[\w*\])* = )", re.M)
WORD = re.compile(r"(?<!struct )(?<!enum )(?<!union )(?<![.\w])(?<!->)[A-Za-z]\w+")


def uses(root, folder):
    """For each file, the names of the folder's others that it uses: {file: {other: names}}."""
    names = [path for path in source.files(root, ".c", ".h") if os.path.dirname(path) == folder]
    text = {path: source.code(source.read(root, path)) for path in names}
    inline = {name: set(WORD.findall(body)) for path in names if path.endswith(".h")
              for name, body in INLINE.findall(text[path]) + MACRO.findall(text[path])}
    files = [path for path in names if path.endswith(".c")]
    home = {name: path for path in files for name in DEFINED.findall(text[path])}
    found = {path: {} for path in files}
    for path in files:
        seen, ahead = set(), set(WORD.findall(text[path])) - set(OWN.findall(text[path]))
        while ahead:
            seen |= ahead
            ahead = {word for name in ahead for word in inline.get(name, ())} - seen
        for name in sorted(seen):
            if home.get(name, path) != path:
                found[path].setdefault(home[name], []).append(name)
    return found


def reached(found, start):
    """What a file calls, directly or through others."""
    seen, ahead = set(), [start]
    while ahead:
        for other in found[ahead.pop()]:
            if other not in seen:
                seen.add(other)
                ahead.append(other)
    return seen


def check(root):
    faults = []
    for folder in FOLDERS:
        found = uses(root, folder)
        reach = {path: reached(found, path) for path in found}
        for path in sorted(found):
            for other, names in sorted(found[path].items()):
                if path in reach[other]:
                    faults.append(f"{path}: in a circle with {other}, of which it uses {', '.join(names)}")
    return faults


CALL = "void {0}(void)\n{{\n    {1}();\n}}\n"
SAMPLES = [
    ({"backends/memstore/a.c": CALL.format("a", "bb"), "backends/memstore/b.c": CALL.format("bb", "puts")}, None),
    ({"backends/memstore/a.c": CALL.format("aa", "bb"), "backends/memstore/b.c": CALL.format("bb", "aa")}, "circle"),
    ({"backends/memstore/a.c": CALL.format("aa", "bb"), "backends/memstore/b.c": CALL.format("bb", "cc"),
      "backends/memstore/c.c": "const struct x cc = {.run = aa};\n"}, "circle"),
    ({"backends/memstore/a.c": CALL.format("aa", "bb"), "backends/memstore/b.c": CALL.format("bb", "low"),
      "backends/memstore/b.h": "static inline " + CALL.format("low", "aa")}, "circle"),
    ({"backends/memstore/a.c": CALL.format("aa", "bb"),
      "backends/memstore/b.c": "/* aa() */\n" + CALL.format("bb", "x->aa")}, None),
    ({"backends/memstore/a.c": CALL.format("aa", "bb"),
      "backends/memstore/b.c": "static " + CALL.format("aa", "puts") + CALL.format("bb", "aa")}, None),
]

if __name__ == "__main__":
    source.run(check, SAMPLES)
