#include "patterns/multicast_registry/frame_writer.h"

#include "patterns/multicast_registry/travel.h"
#include "src/base/utf8.h"
#include "src/base/varint.h"

#include <string.h>

/* The protocol's field numbers; all are below 16, so that each takes one byte with its type. */
enum {
    FRAME_MESSAGES_FIELD = 1,
    FRAME_DROPPED = 3,
    FRAME_ATTACHED = 4,
    FRAME_DRAINING = 6,
    FRAME_RESUME_TOKEN = 7,

    MESSAGE_ID = 1,
    MESSAGE_PAYLOAD = 2,
    MESSAGE_CONTENT_TYPE = 3,
    MESSAGE_PUBLISHED = 4,
    MESSAGE_IDENTITIES = 5,
    MESSAGE_ATTEMPT = 6,
    MESSAGE_SEQUENCE = 7,
    MESSAGE_METADATA = 8,

    HEADER_NAME = 1,
    HEADER_VALUE = 2
};

enum { NUMBER = 0, BYTES = 2 };

/* ---- fields: absent where they are 0 or empty ---- */

static inline size_t number_bytes(int64_t value)
{
    return value != 0 ? 1 + varint_bytes((uint64_t)value) : 0;
}

static inline uint8_t *write_number(uint8_t *at, unsigned field, int64_t value)
{
    if (value == 0)
        return at;
    *at++ = (uint8_t)(field << 3 | NUMBER);
    return varint_write(at, (uint64_t)value);
}

/* One that is there, also if it is empty. */
static inline size_t content_bytes(size_t len)
{
    return 1 + varint_bytes(len) + len;
}

static inline uint8_t *write_length(uint8_t *at, unsigned field, size_t len)
{
    *at++ = (uint8_t)(field << 3 | BYTES);
    return varint_write(at, len);
}

static inline uint8_t *append(uint8_t *at, struct slice bytes)
{
    if (bytes.len > 0)
        memcpy(at, bytes.data, bytes.len);
    return at + bytes.len;
}

static inline size_t bytes_bytes(struct slice bytes)
{
    return bytes.len > 0 ? content_bytes(bytes.len) : 0;
}

static inline uint8_t *write_bytes(uint8_t *at, unsigned field, struct slice bytes)
{
    return bytes.len > 0 ? append(write_length(at, field, bytes.len), bytes) : at;
}

/* ---- a message ---- */

/* Others may have written what cannot be a text of the protocol. */
static struct slice text_of(struct slice bytes)
{
    bool text = utf8_valid(bytes) && (bytes.len == 0 || memchr(bytes.data, 0, bytes.len) == NULL);

    return text ? bytes : slice_of("", 0);
}

static size_t header_bytes(const struct header *header)
{
    return bytes_bytes(text_of(header->name)) + content_bytes(header->value.len);
}

static uint8_t *write_header(uint8_t *at, const struct header *header)
{
    at = write_length(at, MESSAGE_METADATA, header_bytes(header));
    at = write_bytes(at, HEADER_NAME, text_of(header->name));
    return append(write_length(at, HEADER_VALUE, header->value.len), header->value);
}

static size_t metadata_bytes(const struct incoming *from)
{
    size_t bytes = 0;

    for (size_t i = 0; i < from->n_headers; i++) {
        if (!travel_is_ours(&from->headers[i]))
            bytes += content_bytes(header_bytes(&from->headers[i]));
    }
    return bytes;
}

static uint8_t *write_metadata(uint8_t *at, const struct incoming *from)
{
    for (size_t i = 0; i < from->n_headers; i++) {
        if (!travel_is_ours(&from->headers[i]))
            at = write_header(at, &from->headers[i]);
    }
    return at;
}

void frame_message_init(struct frame_message *m, const struct incoming *from, struct slice identity,
                        int64_t sequence)
{
    *m = (struct frame_message){
        .from = from,
        .id = text_of(travel_id(from)),
        .content_type = text_of(travel_header(from, MULTICAST_HEADER_TYPE)),
        .published_at_ms = travel_number(from, MULTICAST_HEADER_PUBLISHED),
        .attempt = from->attempt > 1 ? (int32_t)from->attempt : 1,
        .sequence = sequence,
        .first.identity = identity,
    };
    m->last = &m->first;
    m->bytes = bytes_bytes(m->id) + bytes_bytes(from->payload) + bytes_bytes(m->content_type) +
               number_bytes(m->published_at_ms) + content_bytes(identity.len) +
               number_bytes(m->attempt) + number_bytes(m->sequence) + metadata_bytes(from);
}

void frame_message_add(struct frame_message *m, struct frame_name *name)
{
    name->next = NULL;
    m->last->next = name;
    m->last = name;
    m->bytes += content_bytes(name->identity.len);
}

/* ---- the frame ---- */

static size_t news_bytes(const struct frame_news *news)
{
    return number_bytes(news->dropped) + number_bytes(news->attached) +
           number_bytes(news->draining) + bytes_bytes(news->resume_token) + news->seldom.len;
}

static uint8_t *write_news(uint8_t *at, const struct frame_news *news)
{
    at = write_number(at, FRAME_DROPPED, news->dropped);
    at = write_number(at, FRAME_ATTACHED, news->attached);
    at = write_number(at, FRAME_DRAINING, news->draining);
    at = write_bytes(at, FRAME_RESUME_TOKEN, news->resume_token);
    return append(at, news->seldom);
}

size_t frame_bytes(const struct frame *frame)
{
    size_t bytes = news_bytes(&frame->news);

    for (size_t i = 0; i < frame->n; i++) {
        const struct frame_message *m = &frame->messages[i];

        bytes += content_bytes(m->bytes);
        if (frame_references(m->from))
            bytes -= m->from->payload.len;
    }
    return bytes;
}

struct writing {
    uint8_t *at, *begin; /* begin: of the part that is being written */
    struct call_part *parts;
    size_t n;
};

/* What was written since the last part is one of its own. */
static void cut(struct writing *w)
{
    if (w->at == w->begin)
        return;
    w->parts[w->n++] = (struct call_part){.bytes = slice_of(w->begin, (size_t)(w->at - w->begin))};
    w->begin = w->at;
}

static void write_payload(struct writing *w, const struct incoming *from)
{
    if (!frame_references(from)) {
        w->at = write_bytes(w->at, MESSAGE_PAYLOAD, from->payload);
        return;
    }
    w->at = write_length(w->at, MESSAGE_PAYLOAD, from->payload.len);
    cut(w);
    w->parts[w->n++] = (struct call_part){.bytes = from->payload, .block = from->block};
}

static void write_message(struct writing *w, const struct frame_message *m)
{
    w->at = write_length(w->at, FRAME_MESSAGES_FIELD, m->bytes);
    w->at = write_bytes(w->at, MESSAGE_ID, m->id);
    write_payload(w, m->from);
    w->at = write_bytes(w->at, MESSAGE_CONTENT_TYPE, m->content_type);
    w->at = write_number(w->at, MESSAGE_PUBLISHED, m->published_at_ms);
    for (const struct frame_name *name = &m->first; name != NULL; name = name->next)
        w->at = append(write_length(w->at, MESSAGE_IDENTITIES, name->identity.len), name->identity);
    w->at = write_number(w->at, MESSAGE_ATTEMPT, m->attempt);
    w->at = write_number(w->at, MESSAGE_SEQUENCE, m->sequence);
    w->at = write_metadata(w->at, m->from);
}

size_t frame_write(const struct frame *frame, uint8_t *out, struct call_part *parts)
{
    struct writing w = {.at = out, .begin = out, .parts = parts};

    for (size_t i = 0; i < frame->n; i++)
        write_message(&w, &frame->messages[i]);
    w.at = write_news(w.at, &frame->news);
    cut(&w);
    return w.n;
}
