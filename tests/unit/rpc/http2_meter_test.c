/* The meter of one connection: what it counts, however the bytes are cut, and what empties its
 * purse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/rpc/http2_meter.h"

#include <string.h>

enum { DATA, HEADERS, RST = 3, SETTINGS, PING = 6, WINDOW_UPDATE = 8, CONTINUATION };
enum { END_STREAM = 1, END_HEADERS = 4, PRIORITY = 0x20 };

static const struct meter_limits limits = {.max_streams = 500, .max_header_bytes = 1000};

struct script {
    uint8_t bytes[1 << 18];
    size_t len;
};

static void put(struct script *s, int kind, int flags, uint32_t stream, const void *payload,
                size_t n)
{
    uint8_t *at = s->bytes + s->len;
    const uint8_t head[9] = {0,
                             (uint8_t)(n >> 8),
                             (uint8_t)n,
                             (uint8_t)kind,
                             (uint8_t)flags,
                             0,
                             (uint8_t)(stream >> 16),
                             (uint8_t)(stream >> 8),
                             (uint8_t)stream};

    assert_true(s->len + sizeof head + n <= sizeof s->bytes);
    memcpy(at, head, sizeof head);
    if (payload != NULL)
        memcpy(at + sizeof head, payload, n);
    else
        memset(at + sizeof head, 'x', n);
    s->len += sizeof head + n;
}

static void preface(struct script *s)
{
    s->len = 24;
    memset(s->bytes, 'P', 24);
    put(s, SETTINGS, 0, 0, NULL, 6);
}

/* `step` bytes at a time. */
static void receive(struct meter *m, struct script *s, size_t step)
{
    for (size_t at = 0; at < s->len; at += step)
        meter_received(m, s->bytes + at, s->len - at < step ? s->len - at : step);
    s->len = 0;
}

static void send(struct meter *m, struct script *s, size_t step)
{
    for (size_t at = 0; at < s->len; at += step)
        meter_sent(m, s->bytes + at, s->len - at < step ? s->len - at : step);
    s->len = 0;
}

static void begin(struct meter *m, struct script *s)
{
    meter_init(m, &limits);
    preface(s);
    receive(m, s, sizeof s->bytes);
}

/* A call in all its states, with the bytes cut at every size. */
static void test_a_call(void **state)
{
    static struct script s;
    struct meter m;

    (void)state;
    for (size_t step = 1; step < 40; step++) {
        meter_init(&m, &limits);
        preface(&s);
        put(&s, HEADERS, END_HEADERS, 1, NULL, 50);
        receive(&m, &s, step);
        assert_int_equal(m.open, 1);
        assert_int_equal(m.incomplete, 1);
        put(&s, DATA, 0, 1,
            "\0\0\0\0\x0a"
            "abc",
            8);
        receive(&m, &s, step);
        assert_int_equal(m.part_bytes, 8);
        put(&s, DATA, 0, 1, "defghi", 6);
        receive(&m, &s, step);
        assert_int_equal(m.part_bytes, 14);
        assert_int_equal(m.incomplete, 1);
        put(&s, DATA, END_STREAM, 1, "j", 1);
        receive(&m, &s, step);
        assert_int_equal(m.part_bytes, 0);
        assert_int_equal(m.incomplete, 0);
        assert_int_equal(m.open, 1);
        put(&s, HEADERS, END_HEADERS, 1, NULL, 20);
        put(&s, DATA, 0, 1, NULL, 100);
        put(&s, HEADERS, END_HEADERS | END_STREAM, 1, NULL, 20);
        send(&m, &s, step);
        assert_int_equal(m.open, 0);
        assert_int_equal(m.fault, METER_SOUND);
        assert_true(m.purse >= METER_FIRST - 1); /* the settings */
        meter_clear(&m);
    }
}

/* Streams that end in any order, and in each way there is. */
static void test_many_streams(void **state)
{
    static struct script s;
    struct meter m;

    (void)state;
    begin(&m, &s);
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t first = 1 + round * 800;

        for (uint32_t i = 0; i < 400; i++) {
            put(&s, HEADERS, END_HEADERS, first + 2 * i, NULL, 10);
            put(&s, DATA, 0, first + 2 * i,
                "\0\0\0\0\x09"
                "x",
                6);
        }
        receive(&m, &s, 1000);
        assert_int_equal(m.open, 400);
        assert_int_equal(m.incomplete, 400);
        assert_int_equal(m.part_bytes, 2400);
        for (uint32_t i = 0; i < 400; i++) {
            uint32_t id = first + 2 * (i * 7 % 400);

            if (i % 3 == 0)
                put(&s, RST, 0, id, NULL, 4);
        }
        receive(&m, &s, 1000);
        assert_int_equal(m.open, 266);
        for (uint32_t i = 0; i < 400; i++) {
            uint32_t id = first + 2 * (i * 7 % 400);

            if (i % 3 == 1)
                put(&s, RST, 0, id, NULL, 4);
            else if (i % 3 == 2)
                put(&s, HEADERS, END_STREAM, id, NULL, 4);
        }
        send(&m, &s, 1000);
        assert_int_equal(m.open, 0);
        assert_int_equal(m.incomplete, 0);
        assert_int_equal(m.part_bytes, 0);
    }
    meter_clear(&m);
}

static void test_limits(void **state)
{
    static struct script s;
    struct meter m;

    (void)state;
    begin(&m, &s);
    for (uint32_t i = 0; i <= limits.max_streams; i++)
        put(&s, HEADERS, END_STREAM, 1 + 2 * i, NULL, 10);
    receive(&m, &s, 4096);
    assert_int_equal(m.fault, METER_TOO_MANY_STREAMS);
    meter_clear(&m);

    begin(&m, &s);
    put(&s, HEADERS, 0, 1, NULL, 600);
    put(&s, CONTINUATION, 0, 1, NULL, 400);
    receive(&m, &s, 4096);
    assert_int_equal(m.fault, METER_SOUND);
    put(&s, CONTINUATION, END_HEADERS, 1, NULL, 1);
    receive(&m, &s, 4096);
    assert_int_equal(m.fault, METER_LONG_HEADERS);
    meter_clear(&m);
}

/* What is not complete ages; what is complete does not, until its next message begins. */
static void test_overdue(void **state)
{
    static struct script s;
    uint8_t cut[METER_CUT_BYTES];
    struct meter m;

    (void)state;
    begin(&m, &s);
    m.mark = UINT16_MAX; /* it may go round */
    put(&s, HEADERS, END_HEADERS, 1, NULL, 10);
    put(&s, HEADERS, END_HEADERS, 3, NULL, 10);
    put(&s, DATA, 0, 3, "\0\0\0\0\0", 5);
    receive(&m, &s, 7);
    assert_true(meter_between_frames(&m));
    assert_int_equal(meter_overdue(&m, 1), 0);
    m.mark = 2;
    assert_int_equal(meter_overdue(&m, 4), 0);
    assert_int_equal(meter_overdue(&m, 3), 1);
    meter_received(&m, cut, meter_cut(1, cut));
    assert_int_equal(meter_overdue(&m, 1), 0);
    assert_int_equal(m.incomplete, 0);

    put(&s, DATA, 0, 3, "\0\0\0", 3); /* the second message begins */
    receive(&m, &s, 1);
    m.mark = 4;
    assert_int_equal(meter_overdue(&m, 3), 0);
    assert_int_equal(meter_overdue(&m, 2), 3);

    put(&s, HEADERS, 0, 5, NULL, 10); /* a header list that goes on */
    receive(&m, &s, 4096);
    assert_false(meter_between_frames(&m));
    put(&s, CONTINUATION, END_HEADERS, 5, NULL, 1);
    receive(&m, &s, 4096);
    assert_true(meter_between_frames(&m));
    put(&s, DATA, 0, 5, NULL, 10);
    s.len--;
    receive(&m, &s, 4096);
    assert_false(meter_between_frames(&m));
    meter_clear(&m);
}

static void put_update(struct script *s, uint32_t stream, uint32_t bytes)
{
    const uint8_t payload[4] = {0, (uint8_t)(bytes >> 16), (uint8_t)(bytes >> 8), (uint8_t)bytes};

    put(s, WINDOW_UPDATE, 0, stream, payload, sizeof payload);
}

/* A setting before it, so that this one is found. */
static void put_initial_window(struct script *s, uint16_t bytes)
{
    const uint8_t payload[12] = {
        0, 3, 0, 0, 1, 0, 0, 4, [10] = (uint8_t)(bytes >> 8), (uint8_t)bytes};

    put(s, SETTINGS, 0, 0, payload, sizeof payload);
}

/* Begins a message of 1000 bytes and more, and sends so many of it. */
static void put_part(struct script *s, uint32_t stream, uint16_t bytes)
{
    static const uint8_t part[UINT16_MAX] = {0, 0, 16};

    put(s, DATA, 0, stream, part, bytes);
}

/* Who has used up its stream's window is held back by us: only the time in which it could send
 * makes it late, however our frames are cut. */
static void test_a_stream_that_is_held_back_is_not_overdue(void **state)
{
    static struct script s;
    struct meter m;

    (void)state;
    for (size_t step = 1; step < 16; step++) {
        begin(&m, &s);
        m.mark = UINT16_MAX - 2;
        put_initial_window(&s, 2000);
        send(&m, &s, step);
        put(&s, HEADERS, END_HEADERS, 1, NULL, 10);
        put_part(&s, 1, 1999);
        receive(&m, &s, 4096);
        m.mark++;
        assert_int_equal(meter_overdue(&m, 1), 1);
        put(&s, DATA, 0, 1, NULL, 1); /* the last byte that it may send */
        receive(&m, &s, 4096);
        m.mark = 100;
        assert_int_equal(meter_overdue(&m, 1), 0);
        put_update(&s, 1, 500);
        send(&m, &s, step);
        assert_int_equal(meter_overdue(&m, 2), 0);
        m.mark++;
        assert_int_equal(meter_overdue(&m, 2), 1); /* one mark before, one after */
        put(&s, DATA, 0, 1, NULL, 500);
        receive(&m, &s, 4096);
        assert_int_equal(meter_overdue(&m, 1), 0);
        put_initial_window(&s, 2001);
        send(&m, &s, step);
        assert_int_equal(meter_overdue(&m, 2), 1);
        meter_clear(&m);
    }
}

/* The same when it is the connection's window. */
static void test_a_connection_that_is_held_back_is_not_overdue(void **state)
{
    static struct script s;
    struct meter m;

    (void)state;
    begin(&m, &s);
    put(&s, HEADERS, END_HEADERS, 1, NULL, 10);
    put(&s, HEADERS, END_HEADERS, 3, NULL, 10);
    put_part(&s, 1, 40000);
    receive(&m, &s, 4096);
    put_update(&s, 1, 60000);
    send(&m, &s, 7);
    m.mark = 1;
    put_part(&s, 1, UINT16_MAX - 40000);
    receive(&m, &s, 4096);
    m.mark = 50;
    assert_int_equal(meter_overdue(&m, 2), 0);
    put_update(&s, 0, 10);
    send(&m, &s, 1);
    assert_int_equal(meter_overdue(&m, 2), 0);
    m.mark = 51;
    assert_int_not_equal(meter_overdue(&m, 2), 0);
    put(&s, HEADERS, END_HEADERS, 5, NULL, 10); /* its time begins now */
    receive(&m, &s, 4096);
    put(&s, RST, 0, 1, NULL, 4);
    put(&s, RST, 0, 3, NULL, 4);
    receive(&m, &s, 4096);
    assert_int_equal(meter_overdue(&m, 1), 0);
    m.mark = 52;
    assert_int_equal(meter_overdue(&m, 1), 5);
    meter_clear(&m);
}

#define GRPC_TYPE                                                                                  \
    "\x5f\x10"                                                                                     \
    "application/grpc"

static void test_reserved_flags(void **state)
{
    static struct script s;
    struct meter m;

    (void)state;
    begin(&m, &s);
    put(&s, HEADERS, END_HEADERS, 1, GRPC_TYPE, sizeof GRPC_TYPE - 1);
    put(&s, DATA, 0, 1, "\x80\0\0\0\1x\0\0\0\0\0\1", 12); /* three messages */
    size_t first = s.len - 12;
    size_t len = s.len;
    receive(&m, &s, len);
    assert_int_equal(s.bytes[first], 1);
    assert_int_equal(s.bytes[first + 6], 0);
    assert_int_equal(s.bytes[first + 11], 1);
    meter_clear(&m);
}

/* Messages of a stream are replaced unless it declares gRPC's, in whatever frames its headers come.
 */
static void test_foreign_types(void **state)
{
    static const char list[] = "\0\0\0\0\0" GRPC_TYPE;
    static const uint8_t replaced[] = {1,   0,   0,   0,   11,  0, 'f', 'o',
                                       'r', 'e', 'i', 'g', 'n', 0, 0,   'f'};
    static struct script s;
    struct meter m;

    (void)state;
    for (size_t step = 1; step < 60; step++) {
        meter_init(&m, &limits);
        preface(&s);
        put(&s, HEADERS, END_HEADERS | PRIORITY, 1, list, sizeof list - 1);
        put(&s, HEADERS, PRIORITY, 3, list, 9);
        put(&s, CONTINUATION, END_HEADERS, 3, list + 9, sizeof list - 1 - 9);
        put(&s, HEADERS, END_HEADERS, 5, list + 5, 2); /* a shorter one, which says less */
        for (uint32_t id = 1; id <= 5; id += 2)
            put(&s, DATA, 0, id,
                "\0\0\0\0\x0b"
                "elevenbytes",
                16);
        size_t len = s.len;

        receive(&m, &s, step);
        assert_memory_equal(s.bytes + len - 16, replaced, sizeof replaced);
        assert_memory_equal(s.bytes + len - 16 - 25 + 5, "elevenbytes", 11);
        assert_memory_equal(s.bytes + len - 16 - 50 + 5, "elevenbytes", 11);
        meter_clear(&m);
    }
}

/* Each kind of overhead empties the purse; time fills it. */
static void test_overhead(void **state)
{
    static const struct {
        int kind;
        size_t bytes;
        enum meter_expense what;
    } floods[] = {{RST, 4, METER_RESETS},        {PING, 8, METER_PINGS},
                  {SETTINGS, 6, METER_SETTINGS}, {WINDOW_UPDATE, 4, METER_WINDOW_UPDATES},
                  {DATA, 0, METER_EMPTY_DATA},   {CONTINUATION, 0, METER_HEADERS},
                  {99, 3, METER_OTHER}};
    static struct script s;
    struct meter m;

    (void)state;
    for (size_t f = 0; f < sizeof floods / sizeof floods[0]; f++) {
        unsigned n = 0;

        begin(&m, &s);
        for (; m.purse >= 0; n++) {
            put(&s, floods[f].kind, 0, 1, NULL, floods[f].bytes);
            receive(&m, &s, 4096);
        }
        assert_in_range(n, METER_FIRST - 2, METER_FIRST + 2);
        assert_int_equal(m.blame, floods[f].what);
        meter_earn(&m, UINT32_MAX);
        assert_int_equal(m.purse, METER_PURSE);
        meter_clear(&m);
    }
}

/* Who takes a stream of small messages opens two windows again for each. */
static void test_messages_that_are_taken_pay(void **state)
{
    static struct script s;
    struct meter m;

    (void)state;
    begin(&m, &s);
    put(&s, HEADERS, END_HEADERS | END_STREAM, 1, NULL, 50);
    receive(&m, &s, 4096);
    for (int i = 0; i < 20000; i++) {
        put(&s, DATA, 0, 1, "\0\0\0\0\1x", 6);
        send(&m, &s, 4096);
        put(&s, WINDOW_UPDATE, 0, 0, NULL, 4);
        put(&s, WINDOW_UPDATE, 0, 1, NULL, 4);
        receive(&m, &s, 4096);
    }
    assert_true(m.purse >= METER_FIRST - 2); /* what came before */
    meter_clear(&m);
}

/* Calls that are served pay for the frames that come with them, for ever; calls that are reset do
 * not. */
static void test_served_calls_pay(void **state)
{
    static struct script s;
    struct meter m;

    (void)state;
    begin(&m, &s);
    for (uint32_t i = 0; i < 20000; i++) {
        put(&s, HEADERS, END_HEADERS, 1 + 2 * i, NULL, 50);
        put(&s, DATA, END_STREAM, 1 + 2 * i, "\0\0\0\0\0", 5);
        put(&s, WINDOW_UPDATE, 0, 0, NULL, 4);
        put(&s, PING, 0, 0, NULL, 8);
        receive(&m, &s, 4096);
        put(&s, HEADERS, END_STREAM, 1 + 2 * i, NULL, 20);
        send(&m, &s, 4096);
    }
    assert_int_equal(m.purse, METER_PURSE);
    meter_clear(&m);

    begin(&m, &s);
    for (uint32_t i = 0; i < METER_FIRST / 4 + 1; i++) {
        put(&s, HEADERS, END_STREAM, 1 + 2 * i, NULL, 50);
        put(&s, RST, 0, 1 + 2 * i, NULL, 4);
        receive(&m, &s, 4096);
    }
    assert_true(m.purse < 0);
    assert_int_equal(m.blame, METER_RESETS);
    meter_clear(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call),
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_overdue),
        cmocka_unit_test(test_a_stream_that_is_held_back_is_not_overdue),
        cmocka_unit_test(test_a_connection_that_is_held_back_is_not_overdue),
        cmocka_unit_test(test_reserved_flags),
        cmocka_unit_test(test_foreign_types),
        cmocka_unit_test(test_overhead),
        cmocka_unit_test(test_messages_that_are_taken_pay),
        cmocka_unit_test(test_served_calls_pay),
    };

    return cmocka_run_group_tests_name("http2 meter", tests, NULL, NULL);
}
