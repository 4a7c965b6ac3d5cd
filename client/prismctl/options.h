/* The options of prismctl's command line, which may stand anywhere on it. */
#ifndef PRISM_CLIENT_PRISMCTL_OPTIONS_H
#define PRISM_CLIENT_PRISMCTL_OPTIONS_H

#include "client/prismctl/command.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* What the command line says. */
struct line {
    struct options options;
    uint64_t given; /* a bit for each option, by its place in the table */
    bool help, version;
    char fault[256]; /* the first thing wrong with an option; "": nothing */
};

/* Moves the options to the front; getopt's optind is then the first argument. Goes on after a
 * fault, since --output behind it decides how it is told. Returns an exit code. */
int options_parse(struct line *line, int argc, char **argv);

/* The name of an option that was given and that is not one of those taken (TAKES_...); NULL: none.
 */
const char *options_misplaced(const struct line *line, unsigned takes);

/* Tells on standard error what is wrong. The exit code is that of wrong usage, also when the error
 * is a JSON document. `about` may be NULL. */
int line_complain(const struct line *line, const char *what, const char *about);

void options_print(FILE *out);

#endif
