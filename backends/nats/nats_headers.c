/* Headers of a message, past a fault of the library (3.4). It finds a header by a hash that leaves
 * out most of the name's bytes, and compares no more of a name than the sought one has: asked for
 * x-id it may answer with x-identity, and it asks itself so when it adds a header and when it takes
 * a message apart.
 *
 *   out   the shortest names are added first: a longer one is never taken for a shorter one
 *   in    read from the lines as they came, which the library keeps behind subject and reply, in
 *         front of the payload. It has no function for that; if it keeps them elsewhere one day,
 *         there are none there, and the tests of headers fail.
 */
#include "backends/nats/nats_priv.h"

#include <stdlib.h>

#define VERSION "NATS/1.0"

/* ---- out ---- */

/* The library takes texts. */
static natsStatus add(natsMsg *message, const struct header *header)
{
    size_t name = header->name.len, value = header->value.len, room = name + value + 2;
    char small[512], *text = small;
    natsStatus s;

    if (room > sizeof small && (text = malloc(room)) == NULL)
        abort();
    memcpy(text, header->name.data, name);
    text[name] = '\0';
    memcpy(text + name + 1, header->value.data, value);
    text[room - 1] = '\0';
    s = natsMsgHeader_Add(message, text, text + name + 1);
    if (text != small)
        free(text);
    return s;
}

/* Those of one name stay in their order, which is that of their places. */
static int by_length(const void *a, const void *b)
{
    const struct header *x = *(const struct header *const *)a,
                        *y = *(const struct header *const *)b;

    if (x->name.len != y->name.len)
        return x->name.len < y->name.len ? -1 : 1;
    return ((uintptr_t)x > (uintptr_t)y) - ((uintptr_t)x < (uintptr_t)y);
}

/* A dead letter of another client's message may have any number of headers. */
natsStatus nats_headers_add(natsMsg *message, const struct outgoing *item)
{
    const struct header key = {.name = slice_str(NATS_KEY_HEADER), .value = item->key};
    const struct header id = {.name = slice_str(NATS_ID_HEADER), .value = item->id};
    const struct header *few[32], **sorted = few;
    natsStatus s = NATS_OK;
    size_t n = 0;

    if (item->n_headers + 2 > ARRAY_LEN(few) &&
        (sorted = malloc((item->n_headers + 2) * sizeof *sorted)) == NULL)
        abort();
    for (size_t i = 0; i < item->n_headers; i++)
        sorted[n++] = &item->headers[i];
    if (!message_is_null(item->key))
        sorted[n++] = &key;
    if (!message_is_null(item->id))
        sorted[n++] = &id;
    if (n > 1)
        qsort(sorted, n, sizeof *sorted, by_length);
    for (size_t i = 0; i < n && s == NATS_OK; i++)
        s = add(message, sorted[i]);
    if (sorted != few)
        free(sorted);
    return s;
}

/* ---- in ---- */

static struct slice lines_of(const natsMsg *message)
{
    const char *reply = natsMsg_GetReply(message);
    const char *before = reply != NULL ? reply : natsMsg_GetSubject(message);
    const char *at = before + strlen(before) + 1, *end = natsMsg_GetData(message);

    if (end == NULL || end <= at + sizeof VERSION || memcmp(at, VERSION, strlen(VERSION)) != 0)
        return slice_of(NULL, 0);
    return slice_of(at, (size_t)(end - 1 - at)); /* a NUL is behind them */
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct slice trimmed(const uint8_t *at, const uint8_t *end)
{
    while (at < end && is_space(*at))
        at++;
    while (end > at && is_space(end[-1]))
        end--;
    return slice_of(at, (size_t)(end - at));
}

/* Where the library has been already, a NUL ends name and value. */
static const uint8_t *end_of(const uint8_t *at, const uint8_t *end, int mark)
{
    while (at < end && *at != '\0' && *at != mark)
        at++;
    return at;
}

static struct header read_line(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *name = end_of(at, end, ':'), *value = name < end ? name + 1 : end;

    return (struct header){.name = slice_of(at, (size_t)(name - at)),
                           .value = trimmed(value, end_of(value, end, '\0'))};
}

/* A line that begins with a space belongs to the value before it. */
static void go_on(struct header *header, struct slice more, struct arena *arena)
{
    header->value = slice_str(arena_printf(arena, "%.*s %.*s", (int)header->value.len,
                                           (const char *)header->value.data, (int)more.len,
                                           (const char *)more.data));
}

static void take(struct incoming *in, struct header *headers, const struct header *header)
{
    if (slice_equal(header->name, slice_str(NATS_KEY_HEADER)))
        in->key = header->value;
    else if (slice_equal(header->name, slice_str(NATS_ID_HEADER)))
        in->id = header->value;
    else
        headers[in->n_headers++] = *header;
}

static size_t count_lines(struct slice lines)
{
    size_t n = 0;

    for (size_t i = 0; i < lines.len; i++)
        n += lines.data[i] == '\n';
    return n;
}

void nats_headers_take(struct incoming *in, natsMsg *message, struct arena *arena)
{
    struct slice lines = lines_of(message);
    const uint8_t *at = lines.data, *end = at + lines.len, *next;
    struct header *headers, header = {.name = slice_of(NULL, 0)};

    if (lines.len == 0)
        return;
    headers = arena_array(arena, count_lines(lines), sizeof *headers);
    at = memchr(at, '\n', lines.len);
    for (at = at != NULL ? at + 1 : end; at < end && *at != '\r'; at = next + 1) {
        next = memchr(at, '\n', (size_t)(end - at));
        if (next == NULL)
            break;
        if (is_space(*at)) {
            go_on(&header, trimmed(at, end_of(at, next, '\0')), arena);
            continue;
        }
        if (header.name.len > 0)
            take(in, headers, &header);
        header = read_line(at, next);
    }
    if (header.name.len > 0)
        take(in, headers, &header);
    in->headers = headers;
}
