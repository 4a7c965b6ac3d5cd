"""What `cmake --install` puts in place can be used by a program that knows nothing but pkg-config."""
import os
import re
import shutil
import subprocess

from rig import environment, suite

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../client/examples")
MANUAL = os.path.join(EXAMPLES, "../../docs/client.md")
CC = os.environ.get("CC", "cc")


def output(*argv, env=None, cwd=None):
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=100, env=env, cwd=cwd).stdout


def manual():
    with open(MANUAL, encoding="utf-8") as f:
        return f.read()


class Install(suite.Case):
    @classmethod
    def setUpClass(cls):
        environment.tool("pkg-config")
        # Elsewhere than configured, and moved afterwards: the files must not remember where they were.
        first, cls.prefix = suite.subfolder("prefix"), os.path.join(suite.folder(), "moved")
        output("cmake", "--install", os.environ["PRISM_BUILD"], "--prefix", first, "--component", "client")
        shutil.move(first, cls.prefix)
        lib = next(os.path.join(cls.prefix, "lib", p) for p in ("", *os.listdir(os.path.join(cls.prefix, "lib")))
                   if os.path.exists(os.path.join(cls.prefix, "lib", p, "libprism.a")))
        cls.lib = os.path.normpath(lib)
        cls.env = {**os.environ, "PKG_CONFIG_PATH": os.path.join(cls.lib, "pkgconfig")}

    def flags(self, *options):
        return output("pkg-config", *options, "prism", env=self.env).split()

    def build(self, name, *flags):
        program = os.path.join(suite.subfolder("program"), name)
        output(CC, "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", os.path.join(EXAMPLES, name + ".c"), "-o",
               program, *flags)
        return program

    def run_without_server(self, program):
        done = subprocess.run([program, "unix:/nowhere/prism.sock"], capture_output=True, text=True, timeout=60,
                              check=False, env={**os.environ, "LD_LIBRARY_PATH": self.lib, "GRPC_VERBOSITY": "NONE"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("UNAVAILABLE", done.stderr)

    def test_shared(self):
        program = self.build("scan", *self.flags("--cflags", "--libs"))
        self.assertIn("libprism.so.0", output("ldd", program))
        self.run_without_server(program)

    def documented(self, mark, source):
        """Runs the compiler line of docs/client.md that contains `mark`, with the installed prefix as it is."""
        line = next(line for line in manual().splitlines() if line.startswith("cc program.c ") and mark in line)
        program = os.path.join(suite.subfolder("documented"), "program")
        shutil.copy(source, program + ".c")
        options = "-o program -std=c11 -Wall -Wextra -Werror"
        output("sh", "-ec", line.replace("cc program.c", f'"$CC" program.c {options}', 1),
               env={**self.env, "CC": CC}, cwd=os.path.dirname(program))
        return program

    def test_static(self):
        self.assertTrue(os.path.exists(os.path.join(self.lib, "libprism.so")), "the prefix holds both")
        program = self.documented("--static", os.path.join(EXAMPLES, "batch.c"))
        self.assertNotIn("libprism", output("ldd", program))
        self.run_without_server(program)

    def test_first_example(self):
        source = os.path.join(suite.subfolder("first"), "first.c")
        with open(source, "w", encoding="utf-8") as f:
            f.write(re.search(r"(?s)```c\n(.*?)```", manual()).group(1))
        program = self.documented("--cflags --libs prism)", source)
        self.assertRegex(output("ldd", program, env={**os.environ, "LD_LIBRARY_PATH": self.lib}),
                         "libprism.so.0 => " + re.escape(self.lib))

    def test_only_the_api_is_visible(self):
        for path, options in (("libprism.so", ["-D"]), ("libprism.a", ["-g"])):
            table = output("nm", "--defined-only", *options, os.path.join(self.lib, path))
            names = {line.split()[-1] for line in table.splitlines() if len(line.split()) == 3}
            self.assertIn("prism_keyvalue_open", names)
            self.assertEqual({n for n in names if not n.startswith("prism_")}, set())
            self.assertEqual({n for n in names if n.startswith("prism__")}, set(), "generated code")

    def test_headers_are_cplusplus(self):
        compiler = shutil.which("c++") or shutil.which("g++")
        if compiler is None:
            self.skipTest("no C++ compiler")
        source = os.path.join(suite.subfolder("cplusplus"), "a.cc")
        with open(source, "w", encoding="ascii") as f:
            f.write("#include <prism/keyvalue.h>\nint main() { return prism_version()[0] == 0; }\n")
        output(compiler, "-Wall", "-Wextra", "-Werror", "-pedantic", source, "-o", source + ".out",
               *self.flags("--cflags", "--libs"))

    def test_command_and_completion(self):
        self.assertIn("prismctl", output(os.path.join(self.prefix, "bin/prismctl"), "--version"))
        for path in ("share/bash-completion/completions/prismctl", "share/zsh/site-functions/_prismctl"):
            self.assertTrue(os.path.exists(os.path.join(self.prefix, path)), path)


if __name__ == "__main__":
    suite.main()
