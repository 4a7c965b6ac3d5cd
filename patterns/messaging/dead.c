#include "patterns/messaging/dead.h"

#include <string.h>

enum { DEAD_HEADERS = 7, REASON_BYTES = 1024 };

/* Text of a client, as every backend can carry it: without control characters, and with no spaces
 * at its ends. */
static const char *plain_text(struct arena *arena, const char *text)
{
    size_t bytes;
    char *plain;

    while (*text != '\0' && (unsigned char)*text <= ' ')
        text++;
    bytes = strnlen(text, REASON_BYTES);
    plain = arena_strdup(arena, slice_of(text, bytes));
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)plain[i] < ' ' || plain[i] == 0x7f)
            plain[i] = ' ';
    }
    while (bytes > 0 && plain[bytes - 1] == ' ')
        plain[--bytes] = '\0';
    return plain;
}

/* An empty value says nothing, and some backends refuse it. */
static void add_header(struct outgoing *item, struct header *headers, const char *name,
                       struct slice value)
{
    if (value.len == 0)
        return;
    headers[item->n_headers++] = (struct header){.name = slice_str(name), .value = value};
}

void dead_letter_fill(struct outgoing *item, struct arena *arena, const struct death *death)
{
    const struct incoming *message = death->message;
    struct header *headers = arena_array(arena, message->n_headers + DEAD_HEADERS, sizeof *headers);

    *item = (struct outgoing){
        .topic = death->to,
        .key = message->key,
        .payload = death->payload,
        .shared = death->payload.len > 0 ? message->block : NULL,
        .headers = headers,
        .n_headers = message->n_headers,
        .partition = -1,
        .offset = -1,
    };
    if (message->n_headers > 0)
        memcpy(headers, message->headers, message->n_headers * sizeof *headers);
    add_header(item, headers, DEAD_LETTER_HEADER "reason",
               slice_str(plain_text(arena, death->reason)));
    add_header(item, headers, DEAD_LETTER_HEADER "topic", message->topic);
    add_header(item, headers, DEAD_LETTER_HEADER "group", death->group);
    add_header(item, headers, DEAD_LETTER_IDENTITY, death->identity);
    add_header(item, headers, DEAD_LETTER_HEADER "attempt",
               slice_str(arena_printf(arena, "%u", death->deliveries)));
    add_header(item, headers, DEAD_LETTER_ID, death->id);
    add_header(item, headers, DEAD_LETTER_OMITTED, death->omitted);
}

struct slice dead_letter_topic(struct arena *arena, struct slice topic, struct slice group,
                               const char *suffix)
{
    return slice_str(arena_printf(arena, "%.*s%s%.*s%s", (int)topic.len, (const char *)topic.data,
                                  group.len > 0 ? "." : "", (int)group.len,
                                  (const char *)group.data, suffix));
}
