/* prism-bench: what Prism's RPCs cost, alone and against baselines. docs/benchmarking.md explains
 * how to read it. */
#include "perf/bench/commands.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: prism-bench COMMAND [OPTION]...\n"
    "\n"
    "  run           load operations on one server, closed or open loop\n"
    "  ratios        prismd and the baselines alternately; one record per target\n"
    "  instructions  instructions per call, by callgrind\n"
    "\n"
    "prism-bench COMMAND --help tells the options.\n";

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"run", command_run},
        {"ratios", command_ratios},
        {"instructions", command_instructions},
    };
    const char *name = argc > 1 ? argv[1] : "";

    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    if (strcmp(name, "--version") == 0) {
        puts("prism-bench " PRISM_VERSION);
        return STATUS_DONE;
    }
    bool asked = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    fputs(usage, asked ? stdout : stderr);
    return asked ? STATUS_DONE : STATUS_USAGE;
}
