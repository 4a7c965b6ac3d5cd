/* Messages of a file, one a line or each behind its length, gathered into batches of bounded size.
 * A batch also ends when the input pauses, unless it is to be whole: a pipe's lines do not wait for
 * a hundred of them. */
#ifndef PRISM_CLIENT_PRISMCTL_LINES_H
#define PRISM_CLIENT_PRISMCTL_LINES_H

#include "prism/prism.h"

#include <stdbool.h>
#include <stdint.h>

enum { LINES_MOST_BYTES = 1 << 20 }; /* of a batch, unless its only line is longer */

struct lines {
    int fd;
    int interrupt_fd; /* readable: no more is read, and what was read is all; -1 = none */
    bool delimited;   /* each message behind its length, four bytes, the highest first */
    size_t max_line_bytes;
    size_t whole_bytes; /* not 0: of a batch; neither a pause nor LINES_MOST_BYTES ends one, and
                           with kept_full behind lines_next there were more */
    struct prism_buffer text; /* the lines of the batch, then what was read of the next one */
    size_t room;
    size_t kept;    /* bytes of that line; it opens the next batch */
    bool kept_full; /* it is complete */
    uint8_t *input;
    size_t at, end; /* of it */
    int fault;      /* errno of a read that failed; 0 = none */
    bool at_end, too_long, interrupted;
    bool cut; /* the input ended within a message; that is no message */
};

/* Reads the next lines without their newlines, at most `most` of them, and returns their number.
 * The bytes are borrowed until the next call. 0: the end of the input, also within a message, or
 * too_long (a line is longer than max_line_bytes), or a fault. A fault ends the batch in front of
 * its line. An interrupt is the end of the input, and `cut` if it came within a message. */
size_t lines_next(struct lines *lines, struct prism_bytes *batch, size_t most);

void lines_clear(struct lines *lines);

#endif
