#!/usr/bin/env python3
"""proto_additive.py has to notice every kind of change, on a small protocol of its own."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().with_name("proto_additive.py")

SAMPLE = """\
syntax = "proto3";
package box;
import "google/protobuf/descriptor.proto";
service Box {
  rpc Put(Item) returns (Answer);
  rpc Watch(Item) returns (stream Answer);
}
message Item {
  string name = 1;
  optional int64 size = 2;
  repeated string tags = 3;
  map<string, bytes> parts = 4;
  oneof where {
    string shelf = 5;
    int32 place = 6;
  }
  message Inner {
    bool open = 1;
  }
}
message Answer {
  Kind kind = 1;
}
enum Kind {
  KIND_UNSPECIFIED = 0;
  GOOD = 1;
}
extend google.protobuf.FieldOptions {
  string index = 50100;
}
"""


class ProtoAdditive(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.proto = pathlib.Path(folder.name) / "proto"
        self.proto.mkdir()
        self.baseline = pathlib.Path(folder.name) / "baseline.json"
        self.write(SAMPLE)
        self.assertEqual(self.run_tool("--update")[0], 0)

    def write(self, text, name="box.proto"):
        (self.proto / name).write_text(text, encoding="utf-8")

    def change(self, old, new):
        self.assertEqual(SAMPLE.count(old), 1, old)
        self.write(SAMPLE.replace(old, new))

    def run_tool(self, *options):
        command = [sys.executable, str(TOOL), "--proto", str(self.proto), "--baseline", str(self.baseline), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_unchanged_passes(self):
        self.assertEqual(self.run_tool()[0], 0)

    def test_comment_and_order_do_not_matter(self):
        moved = SAMPLE.replace("  string name = 1;\n", "")
        self.write(moved.replace("}\nmessage Answer", "  string name = 1;\n}\n// New.\nmessage Answer"))
        code, output = self.run_tool()
        self.assertEqual(code, 0, output)

    def test_breaking_changes(self):
        for old, new, expected in (
            ("  string name = 1;\n", "", "1 (string name) is gone"),
            ("string name = 1", "string name = 9", "1 (string name) is gone"),
            ("string name = 1", "bytes name = 1", "was 'string name' and is 'bytes name'"),
            ("string name = 1", "string title = 1", "was 'string name' and is 'string title'"),
            ("string name = 1", "repeated string name = 1", "is 'repeated string name'"),
            ("optional int64 size", "int64 size", "was 'optional int64 size'"),
            ("repeated string tags", "string tags", "was 'repeated string tags'"),
            ("map<string, bytes>", "map<string, string>", "was 'map<string, bytes> parts'"),
            ("    int32 place = 6;\n  }\n", "  }\n  int32 place = 6;\n", "was 'oneof where int32 place'"),
            ("    bool open = 1;\n", "", "message box.Item.Inner: 1 (bool open) is gone"),
            ("  GOOD = 1;\n", "", "enum box.Kind: 1 (GOOD) is gone"),
            ("GOOD = 1", "FINE = 1", "was 'GOOD' and is 'FINE'"),
            ("  rpc Put(Item) returns (Answer);\n", "", "service box.Box: Put (box.Item -> box.Answer) is gone"),
            ("rpc Put(Item)", "rpc Put(Answer)", "is 'box.Answer -> box.Answer'"),
            ("rpc Put(Item)", "rpc Put(stream Item)", "is 'stream box.Item -> box.Answer'"),
            ("(stream Answer)", "(Answer)", "was 'box.Item -> stream box.Answer'"),
            ("package box", "package crate", "message box.Item is gone"),
            ("index = 50100", "index = 50101", "extension box.index: 50100"),
        ):
            with self.subTest(new):
                self.change(old, new)
                code, output = self.run_tool()
                self.assertEqual(code, 1, output)
                self.assertIn("breaks clients: ", output)
                self.assertIn(expected, output)
                code, output = self.run_tool("--update")
                self.assertEqual(code, 1, "recorded a breaking change")
                self.write(SAMPLE)
                self.assertEqual(self.run_tool()[0], 0, "the record was touched")

    def test_move_to_another_file(self):
        (self.proto / "box.proto").rename(self.proto / "crate.proto")
        code, output = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("was 'box.proto' and is 'crate.proto'", output)

    def test_addition_has_to_be_recorded(self):
        for old, new, expected in (
            ("string name = 1;", "string name = 1;\n  string note = 7;", "message box.Item: 7 (string note)"),
            ("GOOD = 1;", "GOOD = 1;\n  BAD = 2;", "enum box.Kind: 2 (BAD)"),
            ("message Answer {", "message New {}\nmessage Answer {", "message box.New"),
            ("  rpc Put", "  rpc Take(Item) returns (Answer);\n  rpc Put", "service box.Box: Take"),
        ):
            with self.subTest(new):
                self.change(old, new)
                code, output = self.run_tool()
                self.assertEqual(code, 1, output)
                self.assertIn(f"not recorded: {expected}", output)
                self.assertNotIn("breaks clients", output)

    def test_recorded_addition_is_protected(self):
        self.change("string name = 1;", "string name = 1;\n  string note = 7;")
        self.assertEqual(self.run_tool("--update")[0], 0)
        self.assertEqual(self.run_tool()[0], 0)
        self.write(SAMPLE)
        code, output = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("7 (string note) is gone", output)

    def test_breaking_change_can_be_accepted(self):
        self.change("  string name = 1;\n", "")
        self.assertEqual(self.run_tool("--update", "--accept-breaking")[0], 0)
        self.assertEqual(self.run_tool()[0], 0)

    def test_missing_baseline_fails(self):
        self.baseline.unlink()
        self.assertEqual(self.run_tool()[0], 1)


if __name__ == "__main__":
    unittest.main()
