#!/usr/bin/env python3
"""Each rule of proto_lint.py is broken once, in a folder of its own, and has to say so."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

LINT = pathlib.Path(__file__).resolve().with_name("proto_lint.py")

SCHEMAS = """\
// Schemas.
syntax = "proto3";

package prism.patterns.schemas;

option csharp_namespace = "Prism.Patterns.Schemas";
option go_package = "prism/patterns/schemas";
option java_multiple_files = true;
option java_package = "prism.patterns.schemas";

// A capability.
message OperationCapability {}
"""

GOOD = """\
// A pattern.
syntax = "proto3";

package prism.patterns.box;

import "prism/patterns/schemas/slot_schema.proto";

option csharp_namespace = "Prism.Patterns.Box";
option go_package = "prism/patterns/box";
option java_multiple_files = true;
option java_package = "prism.patterns.box";

// A service.
service BoxPattern {
  // Tells.
  rpc GetCapabilities(GetCapabilitiesRequest) returns (Capabilities);

  // Puts.
  rpc Put(PutRequest) returns (PutResponse);
}

// Asks.
message GetCapabilitiesRequest {}

// Answers.
message Capabilities {
  // Slots.
  Slots slots = 1;

  // Operations.
  repeated prism.patterns.schemas.OperationCapability operations = 2;
}

// Slots.
message Slots {}

// What to put.
message PutRequest {
  // How.
  Mode mode = 1;

  // Where.
  map<string, string> places = 2;

  // What.
  oneof what {
    // Text.
    string text = 3;
  }
}

// Outcome.
message PutResponse {
  // Why not.
  optional string error = 1;

  // Same.
  int32 code = 2;
}

// A mode.
enum Mode {
  // Not stated.
  MODE_UNSPECIFIED = 0;

  // Fast.
  FAST = 1;
}
"""

OLD = """\
// An old service.
syntax = "proto3";

package prism.interfaces.box;

option csharp_namespace = "Prism.Interfaces.Box";
option go_package = "prism/interfaces/box";
option java_multiple_files = true;
option java_package = "prism.interfaces.box";

// Boxes.
// Deprecated: use prism.patterns.box.BoxPattern.
service BoxInterface {
  option deprecated = true;
}
"""

BUF = """\
version: v2
lint:
  use:
    - STANDARD
  except:
    - ENUM_VALUE_PREFIX
    - PACKAGE_VERSION_SUFFIX
    - RPC_RESPONSE_STANDARD_NAME
    - SERVICE_SUFFIX
"""


def lint(box=GOOD, old=OLD, box_path="prism/patterns/box/box_pattern.proto", buf="never"):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for path, text in (
            ("prism/patterns/schemas/slot_schema.proto", SCHEMAS),
            (box_path, box),
            ("prism/interfaces/box/box.proto", old),
            ("buf.yaml", BUF),
        ):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(LINT), "--proto", folder, "--buf", buf], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr


def changed(text, old, new):
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the sample"
    return text.replace(old, new)


class ProtoLint(unittest.TestCase):
    def assert_fault(self, expected, **files):
        code, output = lint(**files)
        self.assertEqual(code, 1, output)
        self.assertIn(expected, output)
        self.assertEqual(len(output.strip().split("\n")), 1, f"more than the one fault:\n{output}")

    def test_good_sample_passes(self):
        code, output = lint()
        self.assertEqual(code, 0, output)

    def test_missing_comments(self):
        for comment, kind in (
            ("// A service.\n", "service"),
            ("  // Puts.\n", "rpc"),
            ("// What to put.\n", "message"),
            ("  // How.\n", "field"),
            ("  // Where.\n", "field"),
            ("  // What.\n", "oneof"),
            ("    // Text.\n", "field"),
            ("// A mode.\n", "enum"),
            ("  // Fast.\n", "value"),
            ("// A pattern.\n", "file"),
        ):
            with self.subTest(comment):
                code, output = lint(box=changed(GOOD, comment, ""))
                self.assertEqual(code, 1, output)
                self.assertIn(f"{kind} ", output)
                self.assertIn("has no comment", output)

    def test_unfinished_comment(self):
        self.assert_fault("does not end with a full stop", box=changed(GOOD, "// How.", "// How"))

    def test_names(self):
        self.assert_fault("name does not have the form", box=changed(GOOD, "Mode mode = 1", "Mode theMode = 1"))
        self.assert_fault("name does not have the form", box=changed(GOOD, "FAST = 1", "Fast = 1"))
        self.assert_fault("name does not have the form", box=changed(GOOD, "rpc Put(", "rpc put("))
        self.assert_fault("name does not have the form", box=GOOD.replace("PutRequest", "Put_Request"))

    def test_folder_and_package(self):
        self.assert_fault("does not match the folder", box_path="prism/patterns/crate/box_pattern.proto")
        self.assert_fault("snake case", box_path="prism/patterns/box/BoxPattern.proto")

    def test_keywords(self):
        self.assert_fault("register is a C keyword", box=changed(GOOD, "Mode mode = 1", "Mode register = 1"))
        self.assert_fault("do is a C or C++ keyword", box=changed(GOOD, "rpc Put(", "rpc Do("))
        self.assert_fault("new is a C or C++ keyword", box=changed(GOOD, "rpc Put(", "rpc New("))

    def test_mended_keywords_pass(self):
        code, output = lint(box=changed(GOOD, "rpc Put(", "rpc Register("))
        self.assertEqual(code, 0, output)

    def test_packages_of_other_languages(self):
        for option, wrong in (
            ('go_package = "prism/patterns/box"', 'go_package = "box"'),
            ("java_multiple_files = true", "java_multiple_files = false"),
            ('java_package = "prism.patterns.box"', 'java_package = "box"'),
            ('csharp_namespace = "Prism.Patterns.Box"', 'csharp_namespace = "Prism.Patterns.box"'),
        ):
            with self.subTest(option):
                self.assert_fault(f"option {option.split()[0]} has to be", box=changed(GOOD, option, wrong))

    def test_zero_value(self):
        self.assert_fault("has to be 0 and end in _UNSPECIFIED", box=GOOD.replace("MODE_UNSPECIFIED", "MODE_NONE"))

    def test_deprecation(self):
        self.assert_fault("is not marked deprecated", old=changed(OLD, "  option deprecated = true;\n", ""))
        self.assert_fault("what replaces it", old=changed(OLD, "// Deprecated: use", "// See"))

    def test_capabilities(self):
        self.assert_fault("has no unary GetCapabilities", box=changed(GOOD, "rpc GetCapabilities(", "rpc Tell("))
        self.assert_fault(
            "has no unary GetCapabilities", box=changed(GOOD, "returns (Capabilities)", "returns (stream Capabilities)")
        )
        self.assert_fault("no field slots = 1", box=changed(GOOD, "Slots slots = 1", "Slots slots = 3"))
        self.assert_fault("OperationCapability operations", box=changed(GOOD, "operations = 2", "actions = 2"))

    def test_error_without_code(self):
        self.assert_fault("no int32 code", box=changed(GOOD, "int32 code = 2", "string code = 2"))

    def test_long_line_and_unfinished_text(self):
        self.assert_fault("longer than 100 columns", box=changed(GOOD, "// How.", f"// {'x' * 100}."))
        self.assert_fault("unfinished", box=changed(GOOD, "// How.", "// TODO."))

    def test_text_that_does_not_compile(self):
        self.assert_fault("box_pattern.proto", box=changed(GOOD, "int32 code = 2;", "int32 code = 2"))

    def test_buf_finds_what_we_do_not(self):
        sample = changed(GOOD, "(PutRequest)", "(Slots)")
        self.assertEqual(lint(box=sample)[0], 0)
        code, output = lint(box=sample, buf="always")
        if "buf is neither on the PATH" in output:
            self.skipTest("buf not at hand")
        self.assertEqual(code, 1, output)
        self.assertIn("PutRequest", output)


if __name__ == "__main__":
    unittest.main()
