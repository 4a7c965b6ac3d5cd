"""Generators of other languages take the protocol files as they are: no mapping, no warning."""
import os
import re
import subprocess

from rig import environment, suite

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto")
WELL_KNOWN = {"com.google.rpc", "io.grpc.health.v1"}


class Generators(suite.Case):
    def generate(self, *options):
        """Runs protoc on every file of ours; the folder with what it made."""
        out = suite.subfolder("generated")
        files = sorted(os.path.relpath(os.path.join(folder, name), PROTO)
                       for folder, _, names in os.walk(PROTO) for name in names if name.endswith(".proto"))
        done = subprocess.run([environment.tool("protoc"), "-I", PROTO, *(o.format(out=out) for o in options), *files],
                              capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return out

    def sources(self, out, ending):
        for folder, _, names in os.walk(out):
            for name in names:
                if name.endswith(ending):
                    with open(os.path.join(folder, name), encoding="utf-8") as f:
                        yield os.path.relpath(folder, out), name, f.read()

    def test_go(self):
        plugin = environment.tool("protoc-gen-go")
        sources = list(self.sources(self.generate(f"--plugin={plugin}", "--go_out={out}"), ".pb.go"))
        folders = {folder for folder, _, _ in sources}
        self.assertIn("prism/patterns/keyvalue", folders)
        for folder, name, text in sources:
            with self.subTest(file=name):
                ours = set(re.findall(r'"(prism/[^"]+\.?)"$', text, re.MULTILINE))
                self.assertLessEqual({i for i in ours if not i.endswith(".proto")}, folders, f"{folder}/{name} imports")

    def test_java(self):
        sources = list(self.sources(self.generate("--java_out={out}"), ".java"))
        found = {(folder, name) for folder, name, _ in sources}
        self.assertIn(("prism/patterns/keyvalue", "StoreRequest.java"), found)
        for folder, name, text in sources:
            package = re.search(r"^package ([\w.]+);$", text, re.MULTILINE).group(1)
            self.assertEqual(folder, package.replace(".", "/"), name)
            self.assertTrue(package.startswith("prism.") or package in WELL_KNOWN or package == "prism", package)


if __name__ == "__main__":
    suite.main()
