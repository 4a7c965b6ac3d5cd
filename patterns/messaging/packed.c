/* One allocation:
 *
 *   struct head | tokens | blocks, if any message has one | bytes of each | a record for each
 *
 * A record is a row of varints and texts: what is the same or nearly so in the next message (topic,
 * offset, timestamp) is told by the difference. A text is its length plus one, then its bytes; 0 is
 * null. */
#include "patterns/messaging/packed.h"

#include "src/base/block.h"
#include "src/base/varint.h"

#include <string.h>

struct head {
    uint32_t n;
    int32_t partition;
    bool blocks;
};

enum { MOST_NUMBERS = 12 }; /* of a record, beside its texts and headers */

/* ---- where things are ---- */

static const struct head *head_of(const struct block *packed)
{
    return (const void *)packed->bytes.data;
}

static const uint8_t *tokens_of(const struct block *packed)
{
    return packed->bytes.data + sizeof(struct head);
}

static const uint8_t *blocks_of(const struct block *packed)
{
    return tokens_of(packed) + head_of(packed)->n * sizeof(uint64_t);
}

static const uint8_t *sizes_of(const struct block *packed)
{
    const struct head *head = head_of(packed);

    return blocks_of(packed) + (head->blocks ? head->n * sizeof(struct block *) : 0);
}

static const uint8_t *records_of(const struct block *packed)
{
    return sizes_of(packed) + head_of(packed)->n * sizeof(uint32_t);
}

static struct block *block_at(const struct block *packed, uint32_t i)
{
    struct block *block = NULL;

    if (head_of(packed)->blocks)
        memcpy(&block, blocks_of(packed) + i * sizeof block, sizeof block);
    return block;
}

int32_t packed_partition(const struct block *packed)
{
    return head_of(packed)->partition;
}

uint64_t packed_token(const struct block *packed, uint32_t i)
{
    uint64_t token;

    memcpy(&token, tokens_of(packed) + i * sizeof token, sizeof token);
    return token;
}

size_t packed_bytes(const struct block *packed, uint32_t i)
{
    uint32_t bytes;

    memcpy(&bytes, sizes_of(packed) + i * sizeof bytes, sizeof bytes);
    return bytes;
}

/* ---- writing ---- */

/* What the record before said. */
struct before {
    struct slice topic;
    int64_t offset;
    uint64_t timestamp_ms;
};

static uint64_t zigzag(uint64_t difference)
{
    return difference << 1 ^ (0 - (difference >> 63));
}

static uint64_t unzigzag(uint64_t number)
{
    return number >> 1 ^ (0 - (number & 1));
}

static uint8_t *put_text(uint8_t *at, struct slice text)
{
    at = varint_write(at, message_is_null(text) ? 0 : text.len + 1);
    if (text.len > 0)
        memcpy(at, text.data, text.len);
    return at + text.len;
}

static bool is_within(struct slice part, struct slice whole)
{
    return !message_is_null(part) && part.data >= whole.data && part.len <= whole.len &&
           (size_t)(part.data - whole.data) <= whole.len - part.len;
}

static bool stays_in_block(const struct incoming *m)
{
    return m->block != NULL && is_within(m->payload, m->block->bytes);
}

static size_t text_room(struct slice text)
{
    return VARINT_BYTES + text.len;
}

static size_t record_room(const struct incoming *m)
{
    size_t room = MOST_NUMBERS * VARINT_BYTES + text_room(m->topic) + text_room(m->key) +
                  text_room(m->id) + text_room(m->position);

    if (!stays_in_block(m))
        room += text_room(m->payload);
    for (size_t i = 0; i < m->n_headers; i++)
        room += text_room(m->headers[i].name) + text_room(m->headers[i].value);
    return room;
}

static uint8_t *put_record(uint8_t *at, const struct incoming *m, struct before *before)
{
    bool same_topic = before->topic.data != NULL && slice_equal(m->topic, before->topic);

    at = put_text(at, same_topic ? message_null() : m->topic);
    at = put_text(at, m->key);
    at = put_text(at, m->id);
    at = put_text(at, m->position);
    if (stays_in_block(m)) {
        at = varint_write(at, (size_t)(m->payload.data - m->block->bytes.data));
        at = varint_write(at, m->payload.len);
    } else {
        at = put_text(at, m->payload);
    }
    at = varint_write(at, zigzag((uint64_t)m->offset - (uint64_t)before->offset));
    at = varint_write(at, zigzag(m->timestamp_ms - before->timestamp_ms));
    at = varint_write(at, m->attempt);
    at = varint_write(at, m->n_headers);
    for (size_t i = 0; i < m->n_headers; i++) {
        at = put_text(at, m->headers[i].name);
        at = put_text(at, m->headers[i].value);
    }
    *before = (struct before){m->topic, m->offset, m->timestamp_ms};
    return at;
}

static uint8_t *put_fixed(uint8_t *at, const struct incoming *messages, const struct head *head)
{
    at = (uint8_t *)memcpy(at, head, sizeof *head) + sizeof *head;
    for (uint32_t i = 0; i < head->n; i++, at += sizeof(uint64_t))
        memcpy(at, &messages[i].token, sizeof(uint64_t));
    for (uint32_t i = 0; head->blocks && i < head->n; i++, at += sizeof(struct block *)) {
        struct block *block = stays_in_block(&messages[i]) ? block_ref(messages[i].block) : NULL;

        memcpy(at, &block, sizeof block);
    }
    for (uint32_t i = 0; i < head->n; i++, at += sizeof(uint32_t)) {
        uint32_t bytes = (uint32_t)message_in_bytes(&messages[i]);

        memcpy(at, &bytes, sizeof bytes);
    }
    return at;
}

struct block *packed_new(const struct incoming *messages, uint32_t n, struct arena *scratch)
{
    struct head head = {.n = n, .partition = messages[0].partition};
    struct before before = {.offset = 0};
    size_t room = sizeof head;

    for (uint32_t i = 0; i < n; i++) {
        if (messages[i].partition != head.partition)
            return NULL;
        head.blocks |= stays_in_block(&messages[i]);
        room += sizeof(uint64_t) + sizeof(struct block *) + sizeof(uint32_t) +
                record_room(&messages[i]);
    }

    uint8_t *bytes = arena_alloc(scratch, room), *at = put_fixed(bytes, messages, &head);

    for (uint32_t i = 0; i < n; i++)
        at = put_record(at, &messages[i], &before);
    return block_copy(slice_of(bytes, (size_t)(at - bytes)));
}

void packed_destroy(struct block *packed)
{
    if (packed == NULL)
        return;
    for (uint32_t i = 0; head_of(packed)->blocks && i < head_of(packed)->n; i++)
        block_unref(block_at(packed, i));
    block_unref(packed);
}

/* ---- reading ---- */

static uint64_t take_number(struct slice *from)
{
    uint64_t number = 0;
    size_t n = varint_read(*from, &number);

    from->data += n;
    from->len -= n;
    return number;
}

static struct slice take_bytes(struct slice *from, size_t len)
{
    struct slice text = slice_of(from->data, len);

    from->data += len;
    from->len -= len;
    return text;
}

static struct slice take_text(struct slice *from)
{
    uint64_t len = take_number(from);

    if (len == 0)
        return message_null();
    return len == 1 ? message_empty() : take_bytes(from, len - 1);
}

static struct slice take_payload(struct slice *from, const struct block *block)
{
    if (block == NULL)
        return take_text(from);

    const uint8_t *data = block->bytes.data + take_number(from);

    return slice_of(data, take_number(from));
}

static void take_headers(struct slice *from, struct incoming *m, struct arena *arena)
{
    struct header *headers;

    m->n_headers = (uint32_t)take_number(from);
    if (m->n_headers == 0)
        return;
    m->headers = headers = arena_array(arena, m->n_headers, sizeof *headers);
    for (uint32_t i = 0; i < m->n_headers; i++) {
        headers[i].name = take_text(from);
        headers[i].value = take_text(from);
    }
}

static void take_record(struct slice *from, struct incoming *m, struct before *before,
                        struct arena *arena)
{
    struct slice topic = take_text(from);

    m->topic = message_is_null(topic) ? before->topic : topic;
    m->key = take_text(from);
    m->id = take_text(from);
    m->position = take_text(from);
    m->payload = take_payload(from, m->block);
    m->offset = (int64_t)((uint64_t)before->offset + unzigzag(take_number(from)));
    m->timestamp_ms = before->timestamp_ms + unzigzag(take_number(from));
    m->attempt = (uint32_t)take_number(from);
    take_headers(from, m, arena);
    *before = (struct before){m->topic, m->offset, m->timestamp_ms};
}

struct incoming *packed_open(const struct block *packed, struct arena *arena)
{
    const struct head *head = head_of(packed);
    struct incoming *messages = arena_array(arena, head->n, sizeof *messages);
    const uint8_t *records = records_of(packed);
    struct slice from =
        slice_of(records, packed->bytes.len - (size_t)(records - packed->bytes.data));
    struct before before = {.offset = 0};

    for (uint32_t i = 0; i < head->n; i++) {
        messages[i].token = packed_token(packed, i);
        messages[i].partition = head->partition;
        messages[i].block = block_at(packed, i);
        take_record(&from, &messages[i], &before, arena);
    }
    return messages;
}
