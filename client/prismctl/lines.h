/* Messages of a file, one a line or each behind its length, gathered into batches of bounded size.
 */
#ifndef PRISM_CLIENT_PRISMCTL_LINES_H
#define PRISM_CLIENT_PRISMCTL_LINES_H

#include "prism/prism.h"

#include <stdbool.h>
#include <stdio.h>

enum { LINES_MOST_BYTES = 1 << 20 }; /* of a batch, unless its only line is longer */

struct lines {
    FILE *file;
    bool delimited; /* each message behind its length, four bytes, the highest first */
    size_t max_line_bytes;
    struct prism_buffer text; /* the lines of the batch, then the line that did not fit any more */
    size_t room;
    size_t kept; /* bytes of that line; it opens the next batch */
    bool at_end, too_long;
    bool cut; /* the file ended within a message; that is no message */
};

/* Reads the next lines without their newlines, at most `most` of them, and returns their number.
 * The bytes are borrowed until the next call. 0: the end of the file, also within a message, or
 * too_long (a line is longer than max_line_bytes), or ferror(file). A fault ends the batch in front
 * of its line. */
size_t lines_next(struct lines *lines, struct prism_bytes *batch, size_t most);

void lines_clear(struct lines *lines);

#endif
