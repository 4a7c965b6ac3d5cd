#include "client/prismctl/lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INPUT_BYTES = 1 << 16, LINGER_MS = 10, LENGTH_BYTES = 4 };

enum got { GOT, PAUSE, END };

/* ---- bytes ---- */

/* Waits for input; with `pausing` only a moment, as complete lines wait to be sent. */
static enum got await(struct lines *lines, bool pausing)
{
    struct pollfd fds[2] = {{.fd = lines->fd, .events = POLLIN},
                            {.fd = lines->interrupt_fd, .events = POLLIN}};
    int ready;

    do
        ready = poll(fds, 2, pausing ? LINGER_MS : -1);
    while (ready < 0 && errno == EINTR);
    lines->interrupted = ready > 0 && fds[1].revents != 0;
    return lines->interrupted ? END : ready == 0 ? PAUSE : GOT;
}

static enum got fill(struct lines *lines, bool pausing)
{
    enum got got = await(lines, pausing);
    ssize_t n;

    if (got == PAUSE)
        return PAUSE;
    if (lines->input == NULL && (lines->input = malloc(INPUT_BYTES)) == NULL)
        abort();
    do
        n = got == GOT ? read(lines->fd, lines->input, INPUT_BYTES) : 0;
    while (n < 0 && errno == EINTR);
    lines->fault = n < 0 ? errno : 0;
    lines->at = 0;
    lines->end = n > 0 ? (size_t)n : 0;
    lines->at_end = n <= 0;
    return n > 0 ? GOT : END;
}

static void append(struct lines *lines, const uint8_t *bytes, size_t n)
{
    if (n == 0)
        return;
    while (lines->room - lines->text.len < n) {
        lines->room = lines->room > 0 ? lines->room * 2 : 4096;
        lines->text.data = realloc(lines->text.data, lines->room);
        if (lines->text.data == NULL)
            abort();
    }
    memcpy(lines->text.data + lines->text.len, bytes, n);
    lines->text.len += n;
}

/* ---- messages ---- */

/* Takes bytes of the line that begins at `start`, up to its newline. True: it is complete. */
static bool take_line(struct lines *lines, size_t start)
{
    const uint8_t *from = lines->input + lines->at;
    size_t left = lines->end - lines->at, room = lines->max_line_bytes - (lines->text.len - start);
    const uint8_t *newline = memchr(from, '\n', left);
    size_t n = newline != NULL ? (size_t)(newline - from) : left;

    lines->too_long = n > room;
    if (lines->too_long)
        return false;
    append(lines, from, n);
    lines->at += n + (newline != NULL);
    return newline != NULL;
}

static uint32_t length_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* The same with a length in front, which stays in the text until the message is complete. */
static bool take_delimited(struct lines *lines, size_t start)
{
    size_t has = lines->text.len - start, left = lines->end - lines->at, wanted = LENGTH_BYTES;

    if (has >= LENGTH_BYTES)
        wanted += length_at(lines->text.data + start);
    if (wanted - has < left)
        left = wanted - has;
    append(lines, lines->input + lines->at, left);
    lines->at += left;
    has += left;
    if (has < LENGTH_BYTES)
        return false;
    wanted = length_at(lines->text.data + start);
    lines->too_long = wanted > lines->max_line_bytes;
    if (lines->too_long || has < LENGTH_BYTES + wanted)
        return false;
    memmove(lines->text.data + start, lines->text.data + start + LENGTH_BYTES, wanted);
    lines->text.len -= LENGTH_BYTES;
    return true;
}

/* What the end of the input left of a line. The last line may lack its newline; what an error or an
 * interrupt cut off is no line, nor is a part behind a length. */
static enum got take_rest(struct lines *lines, size_t start)
{
    bool rest = lines->text.len > start;

    lines->cut = rest && (lines->delimited || lines->interrupted);
    return rest && !lines->cut && lines->fault == 0 ? GOT : END;
}

/* Completes the line that begins at `start`. */
static enum got read_message(struct lines *lines, size_t start, bool pausing)
{
    for (;;) {
        enum got got = lines->at < lines->end ? GOT : fill(lines, pausing);

        if (got == END)
            return take_rest(lines, start);
        if (got == PAUSE)
            return PAUSE;
        if (lines->delimited ? take_delimited(lines, start) : take_line(lines, start))
            return GOT;
        if (lines->too_long)
            return END;
    }
}

/* ---- batches ---- */

/* The text moves while it grows, so the lines are pointed at only when all have been read. */
static void point(struct prism_bytes *batch, size_t n, const struct lines *lines)
{
    const uint8_t *at = lines->text.data;

    for (size_t i = 0; i < n; i++) {
        batch[i].data = at;
        at += batch[i].len;
    }
}

/* What was read of the next line goes to the front. True: it is complete. */
static bool reopen(struct lines *lines)
{
    bool full = lines->kept_full;

    if (lines->kept > 0)
        memmove(lines->text.data, lines->text.data + lines->text.len - lines->kept, lines->kept);
    lines->text.len = lines->kept;
    lines->kept_full = false;
    return full;
}

size_t lines_next(struct lines *lines, struct prism_bytes *batch, size_t most)
{
    bool full = reopen(lines), whole = lines->whole_bytes > 0;
    size_t n = 0, start = 0, most_bytes = whole ? lines->whole_bytes : LINES_MOST_BYTES;

    lines->kept = 0;
    while (n < most && (full || (!lines->at_end && !lines->too_long))) {
        enum got got = full ? GOT : read_message(lines, start, n > 0 && !whole);

        full = false;
        lines->kept = lines->text.len - start;
        if (got != GOT)
            break;
        lines->kept_full = n > 0 && lines->text.len > most_bytes;
        if (lines->kept_full)
            break;
        batch[n++].len = lines->kept;
        lines->kept = 0;
        start = lines->text.len;
    }
    point(batch, n, lines);
    return n;
}

void lines_clear(struct lines *lines)
{
    free(lines->text.data);
    free(lines->input);
    lines->text = (struct prism_buffer){0};
}
