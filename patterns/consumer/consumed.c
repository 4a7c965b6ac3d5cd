#include "patterns/consumer/consumed.h"

#include "patterns/messaging/claim.h"
#include "patterns/messaging/fields.h"

#include <stdlib.h>

/* The protocol's field numbers. */
enum {
    FRAME_MESSAGES = 1,

    MESSAGE_ID = 1,
    MESSAGE_TOPIC = 2,
    MESSAGE_PARTITION = 3,
    MESSAGE_OFFSET = 4,
    MESSAGE_PAYLOAD = 5,
    MESSAGE_METADATA = 6,
    MESSAGE_TIMESTAMP = 7,
    MESSAGE_ATTEMPT = 8,
    MESSAGE_SUBSCRIPTION = 9,
    MESSAGE_SEQUENCE = 10,
    MESSAGE_KEY = 11,
    MESSAGE_HEADERS_FIELD = 12,
    MESSAGE_POSITION = 13,
    MESSAGE_ACK_TOKEN = 14,
    MESSAGE_CLAIM = 15,

    ENTRY_KEY = 1,
    ENTRY_VALUE = 2
};

/* ---- what is measured ---- */

struct slice consumed_name(struct arena *arena, struct slice name)
{
    static const char digits[] = "0123456789ABCDEF";

    if (field_is_text(name))
        return name;

    char *out = arena_alloc(arena, 3 * name.len), *at = out;

    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];

        if (c > ' ' && c < 0x7f && c != '%') {
            *at++ = (char)c;
            continue;
        }
        *at++ = '%';
        *at++ = digits[c >> 4];
        *at++ = digits[c & 15];
    }
    return slice_of(out, (size_t)(at - out));
}

/* The place is "partition/offset", of which the position is the end. */
static void take_position(struct consumed *m)
{
    const struct incoming *from = m->from;
    char *at = m->digits;

    m->position = m->place = from->position;
    if (!message_is_null(from->position) || from->offset < 0)
        return;
    at += decimal_write(at, from->partition < 0 ? 0 : from->partition);
    *at++ = '/';
    m->position = slice_of(at, decimal_write(at, from->offset));
    m->place = slice_of(m->digits, (size_t)(at - m->digits) + m->position.len);
}

static int by_name(const void *a, const void *b)
{
    const struct header *const *x = a, *const *y = b;

    return slice_compare((*x)->name, (*y)->name);
}

/* For each header: another one has its name. Found by sorting, since whoever writes to the source
 * chooses how many there are. */
static const bool *find_repeated(const struct incoming *from, struct arena *arena)
{
    size_t n = from->n_headers;
    const struct header **sorted = arena_alloc(arena, n * sizeof(void *));
    bool *repeated = arena_zalloc(arena, n * sizeof *repeated);

    for (size_t i = 0; i < n; i++)
        sorted[i] = &from->headers[i];
    qsort(sorted, n, sizeof(void *), by_name);
    for (size_t i = 1; i < n; i++) {
        if (slice_equal(sorted[i - 1]->name, sorted[i]->name))
            repeated[sorted[i - 1] - from->headers] = repeated[sorted[i] - from->headers] = true;
    }
    return repeated;
}

/* All but the one that tells where the payload lies, which is ours. */
static void take_headers(struct consumed *m, struct arena *arena)
{
    const struct incoming *from = m->from;
    struct slice ours = slice_str(CLAIM_HEADER);
    const bool *repeated;

    m->n_headers = 0;
    if (from->n_headers == 0)
        return;
    repeated = find_repeated(from, arena);
    m->headers = arena_alloc(arena, from->n_headers * sizeof *m->headers);
    for (size_t i = 0; i < from->n_headers; i++) {
        const struct header *header = &from->headers[i];
        bool text = field_is_text(header->name);

        if (m->claimed && slice_equal(header->name, ours))
            continue;
        m->headers[m->n_headers++] = (struct consumed_header){
            .name = text ? header->name : consumed_name(arena, header->name),
            .value = header->value,
            .metadata = text && !repeated[i] && !message_is_null(header->value) &&
                        field_is_text(header->value)};
    }
}

static size_t entry_bytes(const struct consumed_header *header)
{
    return field_bytes_bytes(header->name) + field_bytes_bytes(header->value);
}

static size_t headers_bytes(const struct consumed *m)
{
    size_t bytes = 0;

    for (size_t i = 0; i < m->n_headers; i++) {
        const struct consumed_header *header = &m->headers[i];

        bytes += field_content_bytes(field_header_bytes(header->name, header->value));
        if (header->metadata)
            bytes += field_content_bytes(entry_bytes(header));
    }
    return bytes;
}

static size_t id_bytes(const struct consumed *m)
{
    if (m->id.len > 0)
        return m->id.len;
    return message_is_null(m->place) ? 0 : m->topic.len + 1 + m->place.len;
}

static size_t place_bytes(const struct incoming *from)
{
    return (from->partition >= 0 ? field_value_bytes(from->partition) : 0) +
           (from->offset >= 0 ? field_value_bytes(from->offset) : 0) +
           field_number_bytes((int64_t)from->timestamp_ms);
}

static size_t content_bytes(const struct consumed *m)
{
    if (!message_is_null(m->claim))
        return field_content_bytes(m->claim.len);
    return message_is_null(m->payload) ? 0 : field_content_bytes(m->payload.len);
}

void consumed_measure(struct consumed *m, struct arena *arena)
{
    const struct incoming *from = m->from;
    size_t id;

    take_position(m);
    take_headers(m, arena);
    id = id_bytes(m);
    m->bytes = (id > 0 ? field_content_bytes(id) : 0) + field_bytes_bytes(m->topic) +
               place_bytes(from) + content_bytes(m) + field_number_bytes(m->attempt) +
               field_bytes_bytes(m->subscription_id) + field_number_bytes(m->sequence) +
               (message_is_null(from->key) ? 0 : field_content_bytes(from->key.len)) +
               headers_bytes(m) + field_bytes_bytes(m->position) + field_bytes_bytes(m->ack_token);
}

/* ---- what is written ---- */

static uint8_t *append_id(uint8_t *at, const struct consumed *m)
{
    if (m->id.len > 0)
        return field_append(at, m->id);
    if (message_is_null(m->place))
        return at;
    at = field_append(at, m->topic);
    *at++ = '/';
    return field_append(at, m->place);
}

char *consumed_id(struct arena *arena, const struct consumed *m)
{
    uint8_t *out = arena_alloc(arena, id_bytes(m) + 1);

    *append_id(out, m) = '\0';
    return (char *)out;
}

static uint8_t *write_id(uint8_t *at, const struct consumed *m)
{
    size_t bytes = id_bytes(m);

    return bytes > 0 ? append_id(field_write_length(at, MESSAGE_ID, bytes), m) : at;
}

static uint8_t *write_metadata(uint8_t *at, const struct consumed *m)
{
    for (size_t i = 0; i < m->n_headers; i++) {
        const struct consumed_header *header = &m->headers[i];

        if (!header->metadata)
            continue;
        at = field_write_length(at, MESSAGE_METADATA, entry_bytes(header));
        at = field_write_bytes(at, ENTRY_KEY, header->name);
        at = field_write_bytes(at, ENTRY_VALUE, header->value);
    }
    return at;
}

static uint8_t *write_headers(uint8_t *at, const struct consumed *m)
{
    for (size_t i = 0; i < m->n_headers; i++)
        at = field_write_header(at, MESSAGE_HEADERS_FIELD, m->headers[i].name, m->headers[i].value);
    return at;
}

size_t consumed_bytes(const struct consumed *m)
{
    return field_content_bytes(m->bytes);
}

uint8_t *consumed_write(uint8_t *at, const struct consumed *m)
{
    const struct incoming *from = m->from;

    at = field_write_length(at, FRAME_MESSAGES, m->bytes);
    at = write_id(at, m);
    at = field_write_bytes(at, MESSAGE_TOPIC, m->topic);
    if (from->partition >= 0)
        at = field_write_value(at, MESSAGE_PARTITION, from->partition);
    if (from->offset >= 0)
        at = field_write_value(at, MESSAGE_OFFSET, from->offset);
    if (message_is_null(m->claim) && !message_is_null(m->payload))
        at = field_write_content(at, MESSAGE_PAYLOAD, m->payload);
    at = write_metadata(at, m);
    at = field_write_number(at, MESSAGE_TIMESTAMP, (int64_t)from->timestamp_ms);
    at = field_write_number(at, MESSAGE_ATTEMPT, m->attempt);
    at = field_write_bytes(at, MESSAGE_SUBSCRIPTION, m->subscription_id);
    at = field_write_number(at, MESSAGE_SEQUENCE, m->sequence);
    if (!message_is_null(from->key))
        at = field_write_content(at, MESSAGE_KEY, from->key);
    at = write_headers(at, m);
    at = field_write_bytes(at, MESSAGE_POSITION, m->position);
    at = field_write_bytes(at, MESSAGE_ACK_TOKEN, m->ack_token);
    return message_is_null(m->claim) ? at : field_write_content(at, MESSAGE_CLAIM, m->claim);
}
