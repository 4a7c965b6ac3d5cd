/* The commands of prism-bench. Each takes the words after its name and returns an exit status:
 * 0 done, 1 something went wrong (no figure of it is printed), 2 wrong usage, 3 measured, but a
 * target does not hold and --strict was given. */
#ifndef PRISM_PERF_BENCH_COMMANDS_H
#define PRISM_PERF_BENCH_COMMANDS_H

#include "perf/load/workload.h"

#include <stdbool.h>
#include <stdint.h>

enum { STATUS_DONE, STATUS_FAILED, STATUS_USAGE, STATUS_TARGET_MISSED };

int command_run(int argc, char **argv);
int command_ratios(int argc, char **argv);
int command_instructions(int argc, char **argv);

/* For their options. Each says on standard error what is wrong with the text, and returns false. */
bool option_number(const char *name, const char *text, uint64_t max, uint64_t *value);
bool option_seconds(const char *name, const char *text, double *value);
bool option_output(const char *text, bool *as_json);

/* Reads a file of identifiers of one length, one a line; they stay until the process ends. */
bool option_ids(const char *name, const char *path, struct workload_options *options);

/* Is `name` one of the comma-separated names of the list? An empty or NULL list has every name. */
bool list_has(const char *list, const char *name);

#endif
