#include "client/prismctl/lines.h"

#include <stdlib.h>
#include <string.h>

static void append(struct lines *lines, uint8_t byte)
{
    if (lines->text.len == lines->room) {
        lines->room = lines->room > 0 ? lines->room * 2 : 4096;
        lines->text.data = realloc(lines->text.data, lines->room);
        if (lines->text.data == NULL)
            abort();
    }
    lines->text.data[lines->text.len++] = byte;
}

/* Four bytes, the highest first. False: there are none, or too few of them. */
static bool read_length(struct lines *lines, uint32_t *length)
{
    uint8_t bytes[4];
    size_t n = fread(bytes, 1, sizeof bytes, lines->file);

    *length =
        (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    lines->cut = n > 0 && n < sizeof bytes;
    return n == sizeof bytes;
}

static bool read_delimited(struct lines *lines)
{
    uint32_t length;
    int c;

    if (!read_length(lines, &length)) {
        lines->at_end = true;
        return false;
    }
    if (length > lines->max_line_bytes) {
        lines->too_long = true;
        return false;
    }
    for (; length > 0 && (c = getc_unlocked(lines->file)) != EOF; length--)
        append(lines, (uint8_t)c);
    lines->at_end = lines->cut = length > 0;
    return length == 0;
}

/* Appends one line to the text. False: there is none. */
static bool read_line(struct lines *lines)
{
    size_t start = lines->text.len;
    int c;

    while ((c = getc_unlocked(lines->file)) != EOF && c != '\n') {
        if (lines->text.len - start == lines->max_line_bytes) {
            lines->too_long = true;
            return false;
        }
        append(lines, (uint8_t)c);
    }
    if (c == EOF)
        lines->at_end = true;
    /* The last line may lack its newline; what an error cut off is no line. */
    return c == '\n' || (lines->text.len > start && !ferror(lines->file));
}

/* The text moves while it grows, so the lines are pointed at only when all have been read. */
static void point(struct prism_bytes *batch, size_t n, const struct lines *lines)
{
    const uint8_t *at = lines->text.data;

    for (size_t i = 0; i < n; i++) {
        batch[i].data = at;
        at += batch[i].len;
    }
}

size_t lines_next(struct lines *lines, struct prism_bytes *batch, size_t most)
{
    size_t n = 0, kept = lines->kept, start = lines->text.len - kept;
    bool waiting = kept > 0;

    if (waiting)
        memmove(lines->text.data, lines->text.data + start, kept);
    lines->text.len = kept;
    lines->kept = 0;
    if (waiting)
        batch[n++].len = kept;
    while (n < most && !lines->at_end && !lines->too_long) {
        start = lines->text.len;
        if (!(lines->delimited ? read_delimited(lines) : read_line(lines)))
            break;
        if (n > 0 && lines->text.len > LINES_MOST_BYTES) {
            lines->kept = lines->text.len - start;
            break;
        }
        batch[n++].len = lines->text.len - start;
    }
    point(batch, n, lines);
    return n;
}

void lines_clear(struct lines *lines)
{
    free(lines->text.data);
    lines->text = (struct prism_buffer){0};
}
