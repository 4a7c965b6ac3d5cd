/* One allocation:
 *
 *   struct head | tokens | blocks | bytes of each | offsets | attempts | a record for each
 *
 * All before the records are columns: what all rows have in common stands in the head, and a row
 * takes as many bytes as the rest needs: none where each is one step from the one before.
 *
 * A record says by a mask what is not as in the message before, and only tells that, in a row of
 * varints and texts. A text is its length plus one, 0 being null, and its bytes; where there was
 * one before, with how many bytes of that it begins. */
#include "patterns/messaging/packed.h"

#include "src/base/block.h"
#include "src/base/varint.h"

#include <string.h>

enum column { TOKENS, BLOCKS, BYTES, OFFSETS, ATTEMPTS, COLUMNS };

/* A row is the difference to the least, without the low bits that none has. */
struct common {
    uint64_t least;
    uint32_t at;   /* the first row, behind the head */
    uint16_t step; /* of rows without bytes; else 0 */
    uint8_t shift;
    uint8_t width; /* bytes of a row */
};

struct head {
    struct common common[COLUMNS];
    uint32_t n, records; /* records: behind the head */
    int32_t partition;
};

/* What a record tells, in its order. The rarest have the highest bits. */
enum told {
    TOLD_KEY = 1 << 0,
    TOLD_ID = 1 << 1,
    TOLD_POSITION = 1 << 2,
    TOLD_PLACE = 1 << 3, /* the payload is not the whole block, but here */
    TOLD_TIMESTAMP = 1 << 4,
    TOLD_HEADERS = 1 << 5, /* it has some */
    TOLD_TOPIC = 1 << 6,
};

enum { MOST_NUMBERS = 5 }; /* of a record, beside its texts and headers */

/* The first one is told against this. */
static const struct incoming nothing_before;

/* ---- where things are ---- */

static const struct head *head_of(const struct block *packed)
{
    return (const void *)packed->bytes.data;
}

static uint64_t row_of(const struct block *packed, enum column column, uint32_t i)
{
    const struct common *common = &head_of(packed)->common[column];
    const uint8_t *at =
        packed->bytes.data + sizeof(struct head) + common->at + (size_t)i * common->width;
    uint64_t row = 0;

    for (unsigned byte = 0; byte < common->width; byte++)
        row |= (uint64_t)at[byte] << (8 * byte);
    return common->least + (uint64_t)i * common->step + (row << common->shift);
}

static struct block *block_at(const struct block *packed, uint32_t i)
{
    return (struct block *)(uintptr_t)row_of(packed, BLOCKS, i);
}

int32_t packed_partition(const struct block *packed)
{
    return head_of(packed)->partition;
}

uint64_t packed_token(const struct block *packed, uint32_t i)
{
    return row_of(packed, TOKENS, i);
}

size_t packed_bytes(const struct block *packed, uint32_t i)
{
    return row_of(packed, BYTES, i);
}

int64_t packed_offset(const struct block *packed, uint32_t i)
{
    return (int64_t)row_of(packed, OFFSETS, i);
}

uint32_t packed_attempt(const struct block *packed, uint32_t i)
{
    return (uint32_t)row_of(packed, ATTEMPTS, i);
}

/* ---- writing ---- */

static uint64_t zigzag(uint64_t difference)
{
    return difference << 1 ^ (0 - (difference >> 63));
}

static uint64_t unzigzag(uint64_t number)
{
    return number >> 1 ^ (0 - (number & 1));
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

static bool is_whole_block(const struct incoming *m)
{
    return m->payload.data == m->block->bytes.data && m->payload.len == m->block->bytes.len;
}

static bool is_same(struct slice a, struct slice b)
{
    return message_is_null(a) == message_is_null(b) && slice_equal(a, b);
}

static unsigned what_is_told(const struct incoming *m, const struct incoming *before)
{
    unsigned told = 0;

    told |= is_same(m->topic, before->topic) ? 0 : TOLD_TOPIC;
    told |= is_same(m->key, before->key) ? 0 : TOLD_KEY;
    told |= is_same(m->id, before->id) ? 0 : TOLD_ID;
    told |= is_same(m->position, before->position) ? 0 : TOLD_POSITION;
    told |= stays_in_block(m) && !is_whole_block(m) ? TOLD_PLACE : 0;
    told |= m->timestamp_ms == before->timestamp_ms ? 0 : TOLD_TIMESTAMP;
    return told | (m->n_headers == 0 ? 0 : TOLD_HEADERS);
}

static uint8_t *put_bytes(uint8_t *at, const uint8_t *data, size_t len)
{
    if (len > 0)
        memcpy(at, data, len);
    return at + len;
}

static uint8_t *put_text(uint8_t *at, struct slice text)
{
    at = varint_write(at, message_is_null(text) ? 0 : text.len + 1);
    return put_bytes(at, text.data, text.len);
}

static uint8_t *put_changed(uint8_t *at, struct slice text, struct slice before)
{
    size_t as_before = 0;

    if (text.len == 0 || before.len == 0)
        return put_text(at, text);
    while (as_before < text.len && as_before < before.len &&
           text.data[as_before] == before.data[as_before])
        as_before++;
    at = varint_write(at, text.len + 1);
    at = varint_write(at, as_before);
    return put_bytes(at, text.data + as_before, text.len - as_before);
}

static size_t text_room(struct slice text)
{
    return 2 * VARINT_BYTES + text.len;
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

static uint8_t *put_payload(uint8_t *at, const struct incoming *m)
{
    if (!stays_in_block(m))
        return put_text(at, m->payload);
    if (is_whole_block(m))
        return at;
    at = varint_write(at, (size_t)(m->payload.data - m->block->bytes.data));
    return varint_write(at, m->payload.len);
}

static uint8_t *put_headers(uint8_t *at, const struct incoming *m)
{
    at = varint_write(at, m->n_headers);
    for (size_t i = 0; i < m->n_headers; i++) {
        at = put_text(at, m->headers[i].name);
        at = put_text(at, m->headers[i].value);
    }
    return at;
}

static uint8_t *put_record(uint8_t *at, const struct incoming *m, const struct incoming *before)
{
    unsigned told = what_is_told(m, before);

    at = varint_write(at, told);
    if (told & TOLD_KEY)
        at = put_changed(at, m->key, before->key);
    if (told & TOLD_ID)
        at = put_changed(at, m->id, before->id);
    if (told & TOLD_POSITION)
        at = put_changed(at, m->position, before->position);
    at = put_payload(at, m);
    if (told & TOLD_TIMESTAMP)
        at = varint_write(at, zigzag(m->timestamp_ms - before->timestamp_ms));
    if (told & TOLD_HEADERS)
        at = put_headers(at, m);
    if (told & TOLD_TOPIC)
        at = put_changed(at, m->topic, before->topic);
    return at;
}

/* 0: they are not all as far from one another, or further than fits. */
static uint16_t step_of(const uint64_t *rows, uint32_t n)
{
    uint64_t step = n > 1 ? rows[1] - rows[0] : 0;

    for (uint32_t i = 1; i < n; i++) {
        if (rows[i] - rows[i - 1] != step)
            return 0;
    }
    return step <= UINT16_MAX ? (uint16_t)step : 0;
}

/* What the rows have in common. */
static struct common common_of(const uint64_t *rows, uint32_t n)
{
    struct common common = {.least = rows[0], .step = step_of(rows, n)};
    uint64_t bits = 0;

    if (common.step != 0)
        return common;
    for (uint32_t i = 1; i < n; i++)
        common.least = rows[i] < common.least ? rows[i] : common.least;
    for (uint32_t i = 0; i < n; i++)
        bits |= rows[i] - common.least;
    common.shift = bits == 0 ? 0 : (uint8_t)__builtin_ctzll(bits);
    for (bits >>= common.shift; bits != 0; bits >>= 8)
        common.width++;
    return common;
}

static uint8_t *put_rows(uint8_t *at, const struct common *common, const uint64_t *rows, uint32_t n)
{
    for (uint32_t i = 0; common->width > 0 && i < n; i++) {
        uint64_t row = (rows[i] - common->least) >> common->shift;

        for (unsigned byte = 0; byte < common->width; byte++)
            *at++ = (uint8_t)(row >> (8 * byte));
    }
    return at;
}

static uint8_t *put_columns(uint8_t *first, struct head *head, const uint64_t *rows)
{
    uint8_t *at = first;

    for (uint32_t column = 0; column < COLUMNS; column++, rows += head->n) {
        head->common[column] = common_of(rows, head->n);
        head->common[column].at = (uint32_t)(at - first);
        at = put_rows(at, &head->common[column], rows, head->n);
    }
    head->records = (uint32_t)(at - first);
    return at;
}

struct block *packed_new(const struct incoming *messages, uint32_t n, struct arena *scratch)
{
    struct head head = {.n = n, .partition = messages[0].partition};
    const struct incoming *before = &nothing_before;
    size_t room = sizeof head + (size_t)n * COLUMNS * sizeof(uint64_t);

    for (uint32_t i = 0; i < n; i++) {
        if (messages[i].partition != head.partition)
            return NULL;
        room += record_room(&messages[i]);
    }

    uint64_t *rows = arena_alloc(scratch, (size_t)n * COLUMNS * sizeof *rows);
    uint8_t *bytes = arena_alloc(scratch, room), *at;

    for (uint32_t i = 0; i < n; i++) {
        const struct incoming *m = &messages[i];

        rows[TOKENS * n + i] = m->token;
        rows[BLOCKS * n + i] = stays_in_block(m) ? (uintptr_t)block_ref(m->block) : 0;
        rows[BYTES * n + i] = message_in_bytes(m);
        rows[OFFSETS * n + i] = (uint64_t)m->offset;
        rows[ATTEMPTS * n + i] = m->attempt;
    }
    at = put_columns(bytes + sizeof head, &head, rows);
    memcpy(bytes, &head, sizeof head);
    for (uint32_t i = 0; i < n; before = &messages[i++])
        at = put_record(at, &messages[i], before);
    return block_copy(slice_of(bytes, (size_t)(at - bytes)));
}

void packed_destroy(struct block *packed)
{
    if (packed == NULL)
        return;
    for (uint32_t i = 0; i < head_of(packed)->n; i++)
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

static struct slice take_changed(struct slice *from, struct slice before, struct arena *arena)
{
    uint64_t len = take_number(from), as_before;

    if (len <= 1)
        return len == 0 ? message_null() : message_empty();
    len--;
    as_before = before.len > 0 ? take_number(from) : 0;

    struct slice rest = take_bytes(from, len - as_before);

    if (as_before == 0)
        return rest;

    uint8_t *text = arena_alloc(arena, len);

    memcpy(text, before.data, as_before);
    put_bytes(text + as_before, rest.data, rest.len);
    return slice_of(text, len);
}

static struct slice take_payload(struct slice *from, const struct block *block, unsigned told)
{
    if (block == NULL)
        return take_text(from);
    if (!(told & TOLD_PLACE))
        return block->bytes;

    const uint8_t *data = block->bytes.data + take_number(from);

    return slice_of(data, take_number(from));
}

static void take_headers(struct slice *from, struct incoming *m, struct arena *arena)
{
    struct header *headers;

    m->n_headers = (uint32_t)take_number(from);
    m->headers = headers = arena_array(arena, m->n_headers, sizeof *headers);
    for (uint32_t i = 0; i < m->n_headers; i++) {
        headers[i].name = take_text(from);
        headers[i].value = take_text(from);
    }
}

static void take_record(struct slice *from, struct incoming *m, const struct incoming *before,
                        struct arena *arena)
{
    unsigned told = (unsigned)take_number(from);

    m->topic = before->topic;
    m->key = told & TOLD_KEY ? take_changed(from, before->key, arena) : before->key;
    m->id = told & TOLD_ID ? take_changed(from, before->id, arena) : before->id;
    m->position =
        told & TOLD_POSITION ? take_changed(from, before->position, arena) : before->position;
    m->payload = take_payload(from, m->block, told);
    m->timestamp_ms =
        before->timestamp_ms + (told & TOLD_TIMESTAMP ? unzigzag(take_number(from)) : 0);
    if (told & TOLD_HEADERS)
        take_headers(from, m, arena);
    if (told & TOLD_TOPIC)
        m->topic = take_changed(from, before->topic, arena);
}

struct incoming *packed_open(const struct block *packed, struct arena *arena)
{
    const struct head *head = head_of(packed);
    struct incoming *messages = arena_array(arena, head->n, sizeof *messages);
    const struct incoming *before = &nothing_before;
    const uint8_t *records = packed->bytes.data + sizeof *head + head->records;
    struct slice from =
        slice_of(records, packed->bytes.len - (size_t)(records - packed->bytes.data));

    for (uint32_t i = 0; i < head->n; before = &messages[i++]) {
        messages[i].token = packed_token(packed, i);
        messages[i].offset = packed_offset(packed, i);
        messages[i].attempt = packed_attempt(packed, i);
        messages[i].partition = head->partition;
        messages[i].block = block_at(packed, i);
        take_record(&from, &messages[i], before, arena);
    }
    return messages;
}
