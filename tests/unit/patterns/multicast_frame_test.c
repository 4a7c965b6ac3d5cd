/* Frames of every kind say what the general encoder would say: random messages are written, decoded
 * by the general decoder, and compared field by field, as packed again. */
#include "patterns/messages.h"
#include "patterns/multicast_registry/frame_writer.h"
#include "patterns/multicast_registry/messages.h"
#include "patterns/multicast_registry/travel.h"
#include "src/base/block.h"
#include "tests/unit/patterns/some.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROUNDS = 3000, MESSAGES = 5, NAMES = 4, HEADERS = 6, FRAMES_BYTES = 1 << 16 };

/* ---- what is written ---- */

struct given {
    struct incoming incoming[MESSAGES];
    struct header headers[MESSAGES][HEADERS];
    struct frame_message messages[MESSAGES];
    struct frame frame;
    struct block *blocks[MESSAGES];
    struct arena *arena;
};

static struct header some_header(struct arena *arena)
{
    static const char *const ours[] = {MULTICAST_HEADER_TYPE, MULTICAST_HEADER_PUBLISHED,
                                       MULTICAST_HEADER_EXPIRES, MULTICAST_HEADER_ID};
    static const char *const values[] = {"1767225600123", "0", "12x", "text/plain", ""};
    struct header header = {.name = some_bytes(arena, 12), .value = some_bytes(arena, 30)};

    if (below(2) == 0) {
        header.name = slice_str(ours[below(4)]);
        header.value = slice_str(values[below(5)]);
    }
    if (below(10) == 0)
        header.value = message_null();
    return header;
}

static void give_message(struct given *g, size_t i)
{
    struct incoming *in = &g->incoming[i];
    struct slice payload = some_bytes(g->arena, below(2) == 0 ? 100 : 3000);
    size_t names = below(NAMES);

    g->blocks[i] = below(2) == 0 ? block_copy(payload) : NULL;
    *in = (struct incoming){.id = below(5) == 0 ? message_null() : some_bytes(g->arena, 40),
                            .payload = g->blocks[i] != NULL ? g->blocks[i]->bytes : payload,
                            .block = g->blocks[i],
                            .headers = g->headers[i],
                            .n_headers = below(HEADERS + 1),
                            .attempt = below(4)};
    for (size_t k = 0; k < in->n_headers; k++)
        g->headers[i][k] = some_header(g->arena);
    frame_message_init(&g->messages[i], in, some_text(g->arena, 1),
                       below(3) == 0 ? INT64_MAX - (int)i : (int64_t)i + 1);
    while (names-- > 0) {
        struct frame_name *name = arena_alloc(g->arena, sizeof *name);

        name->identity = some_text(g->arena, 1);
        frame_message_add(&g->messages[i], name);
    }
}

/* ---- what is expected ---- */

static char *text_of(struct arena *arena, struct slice bytes)
{
    bool text = utf8_valid(bytes) && (bytes.len == 0 || memchr(bytes.data, 0, bytes.len) == NULL);

    return arena_strdup(arena, text ? bytes : slice_of("", 0));
}

static schema_header *expect_header(struct arena *arena, const struct header *from)
{
    schema_header *header = arena_alloc(arena, sizeof *header);

    prism__patterns__schemas__header__init(header);
    header->name = text_of(arena, from->name);
    header->_value_case = PRISM__PATTERNS__SCHEMAS__HEADER___VALUE_VALUE;
    header->value = pb_bytes(from->value);
    return header;
}

static pb_multicast_message *expect_message(struct arena *arena, const struct frame_message *from)
{
    const struct incoming *in = from->from;
    pb_multicast_message *message = arena_alloc(arena, sizeof *message);

    prism__patterns__multicast_registry__multicast_message__init(message);
    message->message_id = text_of(arena, travel_id(in));
    message->payload = pb_bytes(in->payload);
    message->content_type = text_of(arena, travel_header(in, MULTICAST_HEADER_TYPE));
    message->published_at_ms = travel_number(in, MULTICAST_HEADER_PUBLISHED);
    message->attempt = in->attempt > 1 ? (int32_t)in->attempt : 1;
    message->sequence = from->sequence;
    message->identities = arena_array(arena, NAMES + 1, sizeof *message->identities);
    for (const struct frame_name *name = &from->first; name != NULL; name = name->next)
        message->identities[message->n_identities++] = arena_strdup(arena, name->identity);
    message->metadata = arena_array(arena, HEADERS, sizeof *message->metadata);
    for (size_t i = 0; i < in->n_headers; i++) {
        if (!travel_is_ours(&in->headers[i]))
            message->metadata[message->n_metadata++] = expect_header(arena, &in->headers[i]);
    }
    return message;
}

static void expect(const struct given *g, pb_receive_frame *frame)
{
    struct arena *arena = g->arena;

    frame->messages = arena_array(arena, MESSAGES, sizeof *frame->messages);
    for (size_t i = 0; i < g->frame.n; i++)
        frame->messages[frame->n_messages++] = expect_message(arena, &g->messages[i]);
    frame->dropped_count = g->frame.news.dropped;
    frame->attached_count = (int32_t)g->frame.news.attached;
    frame->draining = g->frame.news.draining;
    frame->resume_token = arena_strdup(arena, g->frame.news.resume_token);
}

/* ---- the comparison ---- */

static struct slice joined(const struct given *g)
{
    struct call_part parts[2 * MESSAGES + 1];
    size_t bytes = frame_bytes(&g->frame), copied = 0, len = 0;
    uint8_t *out = arena_alloc(g->arena, bytes), *all = arena_alloc(g->arena, FRAMES_BYTES);
    size_t n = frame_write(&g->frame, out, parts);

    assert_true(n <= 2 * g->frame.n + 1);
    for (size_t i = 0; i < n; i++) {
        assert_true(len + parts[i].bytes.len <= FRAMES_BYTES);
        assert_int_not_equal(parts[i].bytes.len, 0);
        memcpy(all + len, parts[i].bytes.data, parts[i].bytes.len);
        len += parts[i].bytes.len;
        copied += parts[i].block == NULL ? parts[i].bytes.len : 0;
        assert_true(parts[i].block == NULL || parts[i].bytes.len >= REFERENCED_BYTES);
    }
    assert_int_equal(copied, bytes);
    return slice_of(all, len);
}

static struct slice packed(struct arena *arena, const ProtobufCMessage *message)
{
    uint8_t *bytes = arena_alloc(arena, protobuf_c_message_get_packed_size(message));

    return slice_of(bytes, protobuf_c_message_pack(message, bytes));
}

static void assert_same(const struct given *g)
{
    pb_receive_frame expected = MULTICAST_PB(SUBSCRIBE_RESPONSE__INIT);
    struct slice wire = joined(g), a, b;
    pb_receive_frame *got =
        prism__patterns__multicast_registry__subscribe_response__unpack(NULL, wire.len, wire.data);

    assert_non_null(got);
    expect(g, &expected);
    if (g->frame.news.seldom.len > 0)
        expected.subscription_id = (char *)(uintptr_t) "the first";
    a = packed(g->arena, &expected.base);
    b = packed(g->arena, &got->base);
    prism__patterns__multicast_registry__subscribe_response__free_unpacked(got, NULL);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
}

static void test_random_frames(void **state)
{
    pb_receive_frame first = MULTICAST_PB(SUBSCRIBE_RESPONSE__INIT);
    static const int64_t numbers[] = {0, 1, 127, 128, INT32_MAX, -1};

    (void)state;
    first.subscription_id = (char *)(uintptr_t) "the first";
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct given *g = calloc(1, sizeof *g);
        struct arena arena;

        assert_non_null(g);
        arena_init(&arena, NULL);
        g->arena = &arena;
        g->frame.messages = g->messages;
        g->frame.n = below(MESSAGES + 1);
        for (size_t i = 0; i < g->frame.n; i++)
            give_message(g, i);
        g->frame.news = (struct frame_news){.dropped = numbers[below(6)],
                                            .attached = numbers[below(6)],
                                            .draining = below(2) == 0,
                                            .resume_token = some_text(&arena, 0)};
        if (below(3) == 0)
            g->frame.news.seldom = packed(&arena, &first.base);
        assert_same(g);
        for (size_t i = 0; i < g->frame.n; i++)
            block_unref(g->blocks[i]);
        arena_clear(&arena);
        free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
