/* Messages of a frame are written byte for byte as the general encoder writes them: random ones of
 * every kind are written, and packed from a struct. */
#include "patterns/consumer/consumed.h"
#include "patterns/consumer/messages.h"
#include "patterns/messages.h"
#include "patterns/messaging/claim.h"
#include "patterns/messaging/message_id.h"
#include "tests/unit/patterns/some.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { ROUNDS = 5000, MESSAGES = 5, HEADERS = 6 };

#define TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

struct given {
    struct incoming incoming[MESSAGES];
    struct header headers[MESSAGES][HEADERS];
    struct consumed messages[MESSAGES];
    size_t n;
    struct arena *arena;
};

/* ---- what is written ---- */

static struct header some_header(struct arena *arena)
{
    static const char *const names[] = {"traceparent", CLAIM_HEADER, "a", "b", ""};
    static const char *const values[] = {TRACEPARENT, "v1 size=1", "", "\xff\xfe", "x"};
    struct header header = {.name = some_bytes(arena, 12), .value = some_bytes(arena, 300)};

    if (below(2) == 0) {
        header.name = slice_str(names[below(5)]);
        header.value = slice_str(values[below(5)]);
    }
    if (below(8) == 0)
        header.value = message_null();
    return header;
}

static struct slice maybe(struct arena *arena, size_t most)
{
    unsigned kind = below(4);

    return kind == 0 ? message_null() : kind == 1 ? message_empty() : some_bytes(arena, most);
}

static struct slice maybe_text(struct arena *arena)
{
    return below(3) == 0 ? slice_of(NULL, 0) : some_text(arena, 0);
}

static void give_message(struct given *g, size_t i)
{
    static const int64_t offsets[] = {-1, 0, 1, 127, 128, 9007199254740993, INT64_MAX};
    static const int32_t partitions[] = {-1, 0, 1, 200, INT32_MAX};
    static const int32_t attempts[] = {0, 1, 2, 300, INT32_MAX, INT32_MIN};
    static const uint64_t times[] = {0, 1, 1767225600123, INT64_MAX};
    struct incoming *in = &g->incoming[i];
    struct consumed *m = &g->messages[i];

    *in = (struct incoming){.key = maybe(g->arena, 200),
                            .headers = g->headers[i],
                            .n_headers = below(HEADERS + 1),
                            .partition = partitions[below(5)],
                            .offset = offsets[below(7)],
                            .position = below(2) == 0 ? message_null() : some_text(g->arena, 0),
                            .timestamp_ms = times[below(4)]};
    for (size_t k = 0; k < in->n_headers; k++)
        g->headers[i][k] = some_header(g->arena);
    *m = (struct consumed){.from = in,
                           .topic = some_text(g->arena, 0),
                           .id = maybe_text(g->arena),
                           .payload = maybe(g->arena, below(2) == 0 ? 100 : 40000),
                           .claim = message_null(),
                           .subscription_id = maybe_text(g->arena),
                           .ack_token = maybe_text(g->arena),
                           .sequence = offsets[below(7)],
                           .attempt = attempts[below(6)],
                           .claimed = below(2) == 0};
}

/* ---- what is expected ---- */

static Prism__Patterns__Schemas__ClaimReference *expect_claim(struct given *g)
{
    Prism__Patterns__Schemas__ClaimReference *claim = arena_alloc(g->arena, sizeof *claim);

    prism__patterns__schemas__claim_reference__init(claim);
    claim->key = arena_strdup(g->arena, some_text(g->arena, 1));
    claim->size = below(2) == 0 ? 1 : INT64_MAX;
    claim->sha256 = pb_bytes(some_bytes(g->arena, 32));
    return claim;
}

static struct slice packed(struct arena *arena, const ProtobufCMessage *message)
{
    uint8_t *bytes = arena_alloc(arena, protobuf_c_message_get_packed_size(message));

    return slice_of(bytes, protobuf_c_message_pack(message, bytes));
}

static bool is_text(struct slice bytes)
{
    return utf8_valid(bytes) && (bytes.len == 0 || memchr(bytes.data, 0, bytes.len) == NULL);
}

static char *expect_name(struct arena *arena, struct slice name)
{
    char *out = arena_alloc(arena, 3 * name.len + 1), *at = out;

    if (is_text(name))
        return arena_strdup(arena, name);
    for (size_t i = 0; i < name.len; i++) {
        bool plain = name.data[i] > ' ' && name.data[i] < 0x7f && name.data[i] != '%';

        at += snprintf(at, 4, plain ? "%c" : "%%%02X", name.data[i]);
    }
    *at = '\0';
    return out;
}

static void expect_metadata(struct arena *arena, pb_consumed_message *to, const struct incoming *in,
                            size_t i)
{
    pb_consumed_metadata *entry = arena_alloc(arena, sizeof *entry);
    const struct header *header = &in->headers[i];
    unsigned times = 0;

    for (size_t k = 0; k < in->n_headers; k++)
        times += slice_equal(in->headers[k].name, header->name);
    if (times > 1 || !is_text(header->name) || message_is_null(header->value) ||
        !is_text(header->value))
        return;
    prism__patterns__consumer__consumed_message__metadata_entry__init(entry);
    entry->key = arena_strdup(arena, header->name);
    entry->value = arena_strdup(arena, header->value);
    to->metadata[to->n_metadata++] = entry;
}

static void expect_headers(struct arena *arena, pb_consumed_message *to, const struct consumed *m)
{
    to->headers = arena_array(arena, HEADERS, sizeof *to->headers);
    to->metadata = arena_array(arena, HEADERS, sizeof *to->metadata);
    for (size_t i = 0; i < m->from->n_headers; i++) {
        const struct header *header = &m->from->headers[i];
        pb_header *out = arena_alloc(arena, sizeof *out);

        if (m->claimed && slice_equal(header->name, slice_str(CLAIM_HEADER)))
            continue;
        prism__patterns__schemas__header__init(out);
        out->name = expect_name(arena, header->name);
        if (!message_is_null(header->value)) {
            out->_value_case = PRISM__PATTERNS__SCHEMAS__HEADER___VALUE_VALUE;
            out->value = pb_bytes(header->value);
        }
        to->headers[to->n_headers++] = out;
        expect_metadata(arena, to, m->from, i);
    }
}

static void expect_place(struct arena *arena, pb_consumed_message *to, const struct incoming *in)
{
    if (in->partition >= 0) {
        to->_partition_case = CONSUMER_PB(CONSUMED_MESSAGE___PARTITION_PARTITION);
        to->partition = in->partition;
    }
    if (in->offset >= 0) {
        to->_offset_case = CONSUMER_PB(CONSUMED_MESSAGE___OFFSET_OFFSET);
        to->offset = in->offset;
    }
    if (!message_is_null(in->position))
        to->position = arena_strdup(arena, in->position);
    else if (in->offset >= 0)
        to->position = arena_decimal(arena, in->offset);
    if (in->timestamp_ms != 0) {
        to->_timestamp_ms_case = CONSUMER_PB(CONSUMED_MESSAGE___TIMESTAMP_MS_TIMESTAMP_MS);
        to->timestamp_ms = (int64_t)in->timestamp_ms;
    }
}

static void expect_content(struct given *g, pb_consumed_message *to, struct consumed *m)
{
    if (below(6) == 0) {
        to->_claim_case = CONSUMER_PB(CONSUMED_MESSAGE___CLAIM_CLAIM);
        to->claim = expect_claim(g);
        m->claim = packed(g->arena, &to->claim->base);
    } else if (!message_is_null(m->payload)) {
        to->_payload_case = CONSUMER_PB(CONSUMED_MESSAGE___PAYLOAD_PAYLOAD);
        to->payload = pb_bytes(m->payload);
    }
}

static pb_consumed_message *expect_message(struct given *g, struct consumed *m)
{
    const struct incoming *in = m->from;
    struct arena *arena = g->arena;
    pb_consumed_message *to = arena_alloc(arena, sizeof *to);

    prism__patterns__consumer__consumed_message__init(to);
    to->message_id =
        m->id.len > 0 ? arena_strdup(arena, m->id)
                      : message_id_made(arena, m->topic, in->position, in->partition, in->offset);
    to->topic = arena_strdup(arena, m->topic);
    expect_content(g, to, m);
    if (!message_is_null(in->key)) {
        to->_ordering_key_case = CONSUMER_PB(CONSUMED_MESSAGE___ORDERING_KEY_ORDERING_KEY);
        to->ordering_key = pb_bytes(in->key);
    }
    to->subscription_id = arena_strdup(arena, m->subscription_id);
    to->ack_token = pb_bytes(m->ack_token);
    to->sequence = m->sequence;
    if (m->attempt != 0) {
        to->_attempt_case = CONSUMER_PB(CONSUMED_MESSAGE___ATTEMPT_ATTEMPT);
        to->attempt = m->attempt;
    }
    expect_place(arena, to, in);
    expect_headers(arena, to, m);
    return to;
}

/* ---- the comparison ---- */

static struct slice written(struct given *g)
{
    size_t bytes = 0;

    for (size_t i = 0; i < g->n; i++) {
        consumed_measure(&g->messages[i], g->arena);
        bytes += consumed_bytes(&g->messages[i]);
    }

    uint8_t *out = arena_alloc(g->arena, bytes), *at = out;

    for (size_t i = 0; i < g->n; i++)
        at = consumed_write(at, &g->messages[i]);
    assert_int_equal(at - out, bytes);
    return slice_of(out, bytes);
}

static void compare(struct given *g)
{
    pb_consume_response frame = CONSUMER_PB(CONSUME_RESPONSE__INIT);

    frame.messages = arena_array(g->arena, MESSAGES, sizeof *frame.messages);
    for (size_t i = 0; i < g->n; i++)
        frame.messages[frame.n_messages++] = expect_message(g, &g->messages[i]);

    struct slice ours = written(g), theirs = packed(g->arena, &frame.base);

    assert_int_equal(ours.len, theirs.len);
    if (ours.len > 0)
        assert_memory_equal(ours.data, theirs.data, ours.len);
    for (size_t i = 0; i < g->n; i++)
        assert_string_equal(consumed_id(g->arena, &g->messages[i]), frame.messages[i]->message_id);
}

static void test_random_messages(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct given *g = calloc(1, sizeof *g);
        struct arena arena;

        assert_non_null(g);
        arena_init(&arena, NULL);
        g->arena = &arena;
        g->n = below(MESSAGES + 1);
        for (size_t i = 0; i < g->n; i++)
            give_message(g, i);
        compare(g);
        arena_clear(&arena);
        free(g);
    }
}

/* Another client of the source chose them. In CPU time, of which others that are busy take none;
 * comparing each name with each takes minutes. */
static void test_many_headers(void **state)
{
    enum { MANY = 400000, MOST_SECONDS = 10 };
    struct arena arena;
    struct header *headers;
    struct incoming in = {.n_headers = MANY, .partition = -1, .offset = -1};
    struct consumed m = {.from = &in, .payload = message_null(), .claim = message_null()};
    size_t metadata = 0;
    clock_t begun;

    (void)state;
    arena_init(&arena, NULL);
    in.headers = headers = arena_array(&arena, MANY, sizeof *headers);
    in.key = in.position = message_null();
    for (size_t i = 0; i < MANY; i++)
        headers[i] =
            (struct header){slice_str(arena_printf(&arena, "name-%06zu", i)), slice_str("value")};
    headers[MANY - 1].name = headers[0].name;
    begun = clock();
    consumed_measure(&m, &arena);
    assert_true((clock() - begun) / CLOCKS_PER_SEC < MOST_SECONDS);
    for (size_t i = 0; i < m.n_headers; i++)
        metadata += m.headers[i].metadata;
    assert_int_equal(m.n_headers, MANY);
    assert_int_equal(metadata, MANY - 2);
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_messages),
        cmocka_unit_test(test_many_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
