/* The value that a command writes: an argument, a file, or standard input. Only as much of it is
 * read as the server takes, so a pipe or a device that never ends is refused, not gathered. */
#ifndef PRISM_CLIENT_PRISMCTL_VALUE_H
#define PRISM_CLIENT_PRISMCTL_VALUE_H

#include "client/prismctl/command.h"

#include <stdio.h>

struct value_source {
    const char *name;          /* for messages */
    FILE *file;                /* NULL: the argument is the value */
    struct prism_bytes bytes;  /* the value, once read */
    struct prism_buffer owned; /* holds it, unless it is the argument */
};

/* Finds and opens it; nothing is read yet. value_close is due in every case. Returns an exit code;
 * unless EXIT_DONE, the error has been printed. */
int value_open(struct value_source *source, const struct invocation *in);

/* Reads it to its end. announced_bytes: the largest value that the server takes, 0: it names none.
 * Returns as value_open; EXIT_REFUSED: it is larger. */
int value_read(struct value_source *source, const struct options *options, int64_t announced_bytes);

void value_close(struct value_source *source);

#endif
