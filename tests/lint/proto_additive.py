#!/usr/bin/env python3
"""Changes of the protocol have to be additions: proto_additive.py [--root REPOSITORY] [--update]

Compares the protocol with tests/proto/baseline.json, a readable record of everything clients can
depend on: names, numbers, types, presence, the file of each declaration. Fails when something in the
record is gone or different. An addition that is not recorded fails too, so that the record never
falls behind; after review, --update records it. --update refuses to forget anything unless
--accept-breaking is given as well, which a major release may need.

Files that nobody serves yet are not recorded: nobody can depend on them.
"""

import argparse
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "proto" / "tools"))
import descriptors  # noqa: E402

NOT_SERVED = set()


def record_field(field):
    return f"{field.label if field.label != 'map' else ''} {field.type} {field.name}".strip()


def record_rpc(rpc):
    method = rpc.proto
    request = ("stream " if method.client_streaming else "") + method.input_type.lstrip(".")
    response = ("stream " if method.server_streaming else "") + method.output_type.lstrip(".")
    return f"{request} -> {response}"


def record(proto_root):
    """{kind: {full name: {member: text}}}; members are numbers, or names for RPCs."""
    out = {"services": {}, "messages": {}, "enums": {}, "extensions": {}}
    for file in descriptors.load(proto_root):
        if file.name in NOT_SERVED:
            continue
        for item in file.walk():
            entry = {"file": file.name}
            if item.kind == "service":
                entry.update({rpc.name: record_rpc(rpc) for rpc in item.children})
                out["services"][item.full_name] = entry
            elif item.kind == "message":
                fields = sorted(item.of("field"), key=lambda field: field.proto.number)
                entry.update({str(field.proto.number): record_field(field) for field in fields})
                out["messages"][item.full_name] = entry
            elif item.kind == "enum":
                values = sorted(item.children, key=lambda value: value.proto.number)
                entry.update({str(value.proto.number): value.name for value in values})
                out["enums"][item.full_name] = entry
            elif item.kind == "extension":
                entry[str(item.proto.number)] = f"{item.proto.extendee.lstrip('.')}: {record_field(item)}"
                out["extensions"][item.full_name] = entry
    return out


def compare(old, new):
    """(what is gone or different, what is not recorded yet), as lines of text."""
    breaking, additions = [], []
    for kind in new:
        old_items, new_items = old.get(kind, {}), new[kind]
        one = kind[:-1]
        for name, members in old_items.items():
            if name not in new_items:
                breaking.append(f"{one} {name} is gone")
                continue
            for member, text in members.items():
                now = new_items[name].get(member)
                if now is None:
                    breaking.append(f"{one} {name}: {member} ({text}) is gone")
                elif now != text:
                    breaking.append(f"{one} {name}: {member} was '{text}' and is '{now}'")
            additions += [
                f"{one} {name}: {member} ({text})" for member, text in new_items[name].items() if member not in members
            ]
        additions += [f"{one} {name}" for name in new_items if name not in old_items]
    return breaking, additions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=HERE.parents[1], help="the repository")
    parser.add_argument("--proto", type=pathlib.Path, help="folder of the protocol files (default: ROOT/proto)")
    parser.add_argument("--baseline", type=pathlib.Path, help="default: ROOT/tests/proto/baseline.json")
    parser.add_argument("--update", action="store_true", help="record additions")
    parser.add_argument("--accept-breaking", action="store_true", help="with --update: forget what is gone")
    options = parser.parse_args()
    baseline = options.baseline or options.root / "tests" / "proto" / "baseline.json"

    try:
        new = record(options.proto or options.root / "proto")
    except descriptors.ProtocolError as fault:
        print(fault)
        return 1
    if baseline.exists():
        old = json.loads(baseline.read_text(encoding="utf-8"))
    elif options.update:
        old = {}
    else:
        print(f"{baseline} is missing")
        return 1

    breaking, additions = compare(old, new)
    for line in breaking:
        print(f"breaks clients: {line}")
    if options.update and (options.accept_breaking or not breaking):
        baseline.write_text(json.dumps(new, indent=2) + "\n", encoding="utf-8")
        print(f"recorded {len(additions)} additions")
        return 0
    if additions and not options.update:
        print("\n".join(f"not recorded: {line}" for line in additions))
        print("after review: python3 tests/lint/proto_additive.py --update")
    if breaking or (additions and not options.update):
        return 1
    print(f"{sum(len(items) for items in new.values())} declarations as recorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
