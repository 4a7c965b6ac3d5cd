#!/usr/bin/env python3
"""Files of at most 500 lines; functions of at most 60 lines, 6 parameters and 3 levels of nesting; 100 columns."""
import re

import source

FILE_LINES, FUNCTION_LINES, PARAMETERS, NESTING, COLUMNS = 500, 60, 6, 3, 100
CODE = (".c", ".h", ".cc", ".cpp")
OTHERS = (".py", ".sh", ".proto", ".cmake")
# Callbacks whose signature a library dictates.
DICTATED = re.compile(r"\b(nghttp2_session|struct MHD_Connection|rd_kafka_t)\s*\*")
COLUMNS_OF = {".py": 120, ".cmake": 120, ".sh": 120}
LINES_OF = {".proto": 800}  # one file per pattern, half of it comments


def functions(text):
    """(first line, name, parameter list, body lines) of each function: its braces stand in column 0."""
    lines = source.code(text).split("\n")
    start = None
    for number, line in enumerate(lines):
        if line.rstrip() == "{":
            start = number
        elif line.startswith("}") and start is not None:
            head, first = "", start - 1
            while first >= 0 and lines[first].strip() and not lines[first].rstrip().endswith((";", "}")):
                head = lines[first] + " " + head
                first -= 1
            match = re.search(r"(\w+)\s*\((.*)\)\s*$", head)
            if match:
                yield start + 1, match.group(1), match.group(2), lines[start:number + 1]
            start = None


def parameters(text):
    depth, count = 0, 1
    for c in text:
        depth += (c in "([") - (c in ")]")
        count += c == "," and depth == 0
    return 0 if text.strip() in ("", "void") else count


def nesting(body):
    """Depth of control statements. Indentation tells it, as the format is checked; initialisers do not count."""
    deepest, stack = 0, []
    for line in body[1:-1]:
        stripped = line.strip()
        for c in re.findall(r"[{}]", line):
            if c == "}":
                stack and stack.pop()
            else:
                stack.append(re.match(r"(}\s*else|if|for|while|do|switch|else)\b", stripped) is not None)
        deepest = max(deepest, sum(stack))
    return deepest


def check_file(path, text):
    lines = text.split("\n")
    columns = next((n for suffix, n in COLUMNS_OF.items() if path.endswith(suffix)), COLUMNS)
    most = next((n for suffix, n in LINES_OF.items() if path.endswith(suffix)), FILE_LINES)
    if len(lines) - 1 > most:
        yield f"{path}: {len(lines) - 1} lines (at most {most}): there are two subjects in it"
    for number, line in enumerate(lines, 1):
        if len(line) > columns:
            yield f"{path}:{number}: {len(line)} columns (at most {columns})"
    if not path.endswith(CODE):
        return
    for line, name, params, body in functions(text):
        if len(body) > FUNCTION_LINES:
            yield f"{path}:{line}: {name}: {len(body)} lines (at most {FUNCTION_LINES})"
        if parameters(params) > PARAMETERS and not DICTATED.search(params):
            yield f"{path}:{line}: {name}: {parameters(params)} parameters (at most {PARAMETERS}): an options struct"
        if nesting(body) > NESTING:
            yield f"{path}:{line}: {name}: nesting {nesting(body)} (at most {NESTING})"


def check(root):
    return [fault for path in source.files(root, *CODE, *OTHERS) for fault in check_file(path, source.read(root, path))]


_LONG = "int f(int a)\n{\n" + "    a++;\n" * 60 + "}\n"
_DEEP = ("int f(int a)\n{\n    if (a) {\n        while (a) {\n            for (;;) {\n                if (a) {\n"
         "                    a++;\n                }\n            }\n        }\n    }\n}\n")
SAMPLES = [
    ({"a.c": "int f(int a)\n{\n    return a;\n}\n"}, None),
    ({"a.c": "/* x */\n" * 501}, "501 lines"),
    ({"a.c": _LONG}, "f: 62 lines"),
    ({"a.c": "int f(int a, int b, int c, int d, int e,\n      int g, int h)\n{\n}\n"}, "7 parameters"),
    ({"a.c": "int f(int (*a)(int, int), int b, int c, int d, int e, int g)\n{\n}\n"}, None),
    ({"a.c": "int f(nghttp2_session *a, int b, int c, int d, int e, int g, int h)\n{\n}\n"}, None),
    ({"a.c": _DEEP}, "nesting 4"),
    ({"a.c": "/* " + "x" * 98 + "\n */\n"}, "101 columns"),
]

if __name__ == "__main__":
    source.run(check, SAMPLES)
