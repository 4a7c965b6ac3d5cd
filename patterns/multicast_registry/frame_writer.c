#include "patterns/multicast_registry/frame_writer.h"

#include "patterns/messaging/fields.h"
#include "patterns/multicast_registry/travel.h"

/* The protocol's field numbers. */
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
    MESSAGE_METADATA = 8
};

/* ---- a message ---- */

static struct slice text_of(struct slice bytes)
{
    return field_is_text(bytes) ? bytes : slice_of("", 0);
}

/* A value is always there. */
static struct slice value_of(const struct header *header)
{
    return message_is_null(header->value) ? message_empty() : header->value;
}

static size_t metadata_bytes(const struct incoming *from)
{
    size_t bytes = 0;

    for (size_t i = 0; i < from->n_headers; i++) {
        const struct header *header = &from->headers[i];

        if (!travel_is_ours(header))
            bytes +=
                field_content_bytes(field_header_bytes(text_of(header->name), value_of(header)));
    }
    return bytes;
}

static uint8_t *write_metadata(uint8_t *at, const struct incoming *from)
{
    for (size_t i = 0; i < from->n_headers; i++) {
        const struct header *header = &from->headers[i];

        if (!travel_is_ours(header))
            at = field_write_header(at, MESSAGE_METADATA, text_of(header->name), value_of(header));
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
    m->bytes = field_bytes_bytes(m->id) + field_bytes_bytes(from->payload) +
               field_bytes_bytes(m->content_type) + field_number_bytes(m->published_at_ms) +
               field_content_bytes(identity.len) + field_number_bytes(m->attempt) +
               field_number_bytes(m->sequence) + metadata_bytes(from);
}

void frame_message_add(struct frame_message *m, struct frame_name *name)
{
    name->next = NULL;
    m->last->next = name;
    m->last = name;
    m->bytes += field_content_bytes(name->identity.len);
}

/* ---- the frame ---- */

static size_t news_bytes(const struct frame_news *news)
{
    return field_number_bytes(news->dropped) + field_number_bytes(news->attached) +
           field_number_bytes(news->draining) + field_bytes_bytes(news->resume_token) +
           news->seldom.len;
}

static uint8_t *write_news(uint8_t *at, const struct frame_news *news)
{
    at = field_write_number(at, FRAME_DROPPED, news->dropped);
    at = field_write_number(at, FRAME_ATTACHED, news->attached);
    at = field_write_number(at, FRAME_DRAINING, news->draining);
    at = field_write_bytes(at, FRAME_RESUME_TOKEN, news->resume_token);
    return field_append(at, news->seldom);
}

size_t frame_bytes(const struct frame *frame)
{
    size_t bytes = news_bytes(&frame->news);

    for (size_t i = 0; i < frame->n; i++) {
        const struct frame_message *m = &frame->messages[i];

        bytes += field_content_bytes(m->bytes);
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
        w->at = field_write_bytes(w->at, MESSAGE_PAYLOAD, from->payload);
        return;
    }
    w->at = field_write_length(w->at, MESSAGE_PAYLOAD, from->payload.len);
    cut(w);
    w->parts[w->n++] = (struct call_part){.bytes = from->payload, .block = from->block};
}

static void write_message(struct writing *w, const struct frame_message *m)
{
    w->at = field_write_length(w->at, FRAME_MESSAGES_FIELD, m->bytes);
    w->at = field_write_bytes(w->at, MESSAGE_ID, m->id);
    write_payload(w, m->from);
    w->at = field_write_bytes(w->at, MESSAGE_CONTENT_TYPE, m->content_type);
    w->at = field_write_number(w->at, MESSAGE_PUBLISHED, m->published_at_ms);
    for (const struct frame_name *name = &m->first; name != NULL; name = name->next)
        w->at = field_write_content(w->at, MESSAGE_IDENTITIES, name->identity);
    w->at = field_write_number(w->at, MESSAGE_ATTEMPT, m->attempt);
    w->at = field_write_number(w->at, MESSAGE_SEQUENCE, m->sequence);
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
