/* Payloads in the object store that gzip has made smaller: inflated to what was published, slice
 * for slice, or a dead letter. */
#include "tests/pattern/consumer/objects.h"

#include "patterns/messaging/claim.h"
#include "patterns/messaging/claim_gzip.h"

enum { GZIPPED = 300000 };

static uint8_t *gzipped_payload(void)
{
    static uint8_t bytes[GZIPPED];

    for (size_t i = 0; i < GZIPPED; i++)
        bytes[i] = (uint8_t)(i % 251);
    return bytes;
}

struct deflated {
    struct claim_gzip gzip;
    uint8_t bytes[GZIPPED];
    size_t n;
};

static void keep(struct claim_gzip *gzip, bool good)
{
    assert_true(good);
    CONTAINER_OF(gzip, struct deflated, gzip)->n = gzip->made;
}

/* What the producer makes of it. */
static struct slice deflated_payload(struct fake_rig *rig)
{
    static struct deflated deflated;
    struct semaphore permits;
    struct arena arena;

    arena_init(&arena, NULL);
    memset(&deflated, 0, sizeof deflated);
    semaphore_init(&permits, 1);
    deflated.gzip = (struct claim_gzip){.home = &rig->worker,
                                        .permits = &permits,
                                        .arena = &arena,
                                        .from = slice_of(gzipped_payload(), GZIPPED),
                                        .to = deflated.bytes,
                                        .room = GZIPPED,
                                        .done = keep};
    claim_deflate(&deflated.gzip);
    fake_rig_drain(rig);
    arena_clear(&arena);
    return slice_of(deflated.bytes, deflated.n);
}

/* size, stored: as the message says; object: as it is. */
static void claim_gzip(struct fake_rig *rig, uint64_t size, uint64_t stored, struct slice object)
{
    struct arena arena;

    arena_init(&arena, NULL);

    struct claim claim = claim_new(&arena, slice_of(gzipped_payload(), GZIPPED), 0);

    claim.size = size;
    claim.stored = stored;

    struct header header = {.name = slice_str(CLAIM_HEADER), .value = claim_write(&arena, &claim)};

    fake_table_set(&rig->world, claim.key, object, 0);
    put_item(rig, (struct outgoing){.topic = slice_str("t"),
                                    .key = message_null(),
                                    .payload = message_empty(),
                                    .headers = &header,
                                    .n_headers = 1});
    arena_clear(&arena);
}

static void test_a_compressed_payload_is_inflated(void **state)
{
    struct fake_rig *rig = objects_rig();
    struct slice object = deflated_payload(rig);
    struct call *call = member(rig);

    (void)state;
    claim_gzip(rig, GZIPPED, object.len, object);
    assert_int_equal(delivery_at(call, 0)->payload.len, GZIPPED);
    assert_memory_equal(delivery_at(call, 0)->payload.data, gzipped_payload(), GZIPPED);
    assert_null(delivery_at(call, 0)->claim);
    assert_in_range(stat_of(&consumer_in(rig)->stats.held_bytes), GZIPPED, GZIPPED + 1000);
    ack(rig, call, 1);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.held_bytes), 0);
    leave(rig, call);
    consumer_free(rig);
}

static void test_who_wants_references_is_told_how_it_is_stored(void **state)
{
    struct fake_rig *rig = objects_rig();
    struct slice object = deflated_payload(rig);
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    subscribe._max_inline_bytes_case =
        CONSUMER_PB(SUBSCRIBE_REQUEST___MAX_INLINE_BYTES_MAX_INLINE_BYTES);
    subscribe.max_inline_bytes = 0;
    call = join(rig, &subscribe);
    claim_gzip(rig, GZIPPED, object.len, object);
    claim_gzip(rig, GZIPPED, 0, slice_of(gzipped_payload(), GZIPPED));
    assert_string_equal(delivery_at(call, 0)->claim->encoding, "gzip");
    assert_int_equal(delivery_at(call, 0)->claim->size, GZIPPED);
    assert_string_equal(delivery_at(call, 1)->claim->encoding, "");
    leave(rig, call);
    consumer_free(rig);
}

/* Truncated, garbled, longer or shorter than said, another one's, not gzip's. */
static void test_a_compressed_payload_that_is_corrupt_dies(void **state)
{
    static uint8_t garbled[GZIPPED];
    struct fake_rig *rig = objects_rig();
    struct slice object = deflated_payload(rig);
    struct call *call = member(rig);

    (void)state;
    memcpy(garbled, object.data, object.len);
    garbled[object.len / 2] ^= 0x55;
    claim_gzip(rig, GZIPPED, object.len - 1, slice_of(object.data, object.len - 1));
    claim_gzip(rig, GZIPPED, object.len, slice_of(garbled, object.len));
    claim_gzip(rig, GZIPPED - 1, object.len, object);
    claim_gzip(rig, GZIPPED + 1, object.len, object);
    claim_gzip(rig, GZIPPED, object.len - 1, object);
    claim_gzip(rig, GZIPPED, object.len + 1, object);
    claim_gzip(rig, GZIPPED, 500, slice_of(gzipped_payload(), 500));
    put(rig, NULL, "next");
    for (size_t i = 0; i < 7; i++) {
        const struct outgoing *letter = fake_message(&rig->world, "t.g.dead", i);
        struct claim kept;

        assert_non_null(letter);
        assert_true(claim_read(letter->headers[0].value, &kept) && kept.stored > 0);
        assert_true(slice_starts_with(letter->headers[1].value, slice_str("CLAIM_CORRUPT")));
    }
    expect_delivery(call, 0, "next", 1);
    leave(rig, call);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.held_bytes), 0);
    consumer_free(rig);
}

/* The room that both forms take is asked for before. */
static void test_compressed_payloads_are_bounded(void **state)
{
    struct fake_rig *rig = unbound();
    struct slice object = deflated_payload(rig);
    struct call *call;

    (void)state;
    fake_rig_set(rig, "max_group_bytes", 2 * GZIPPED + object.len);
    fake_rig_bind(rig);
    call = member(rig);
    for (size_t i = 0; i < 3; i++)
        claim_gzip(rig, GZIPPED, object.len, object);
    assert_int_equal(deliveries(call), 1);
    ack(rig, call, 1);
    ack(rig, call, 2);
    assert_int_equal(deliveries(call), 3);
    leave(rig, call);
    consumer_free(rig);
}

/* While it is inflated, slice for slice. */
static void test_an_end_between_slices_leaves_nothing(void **state)
{
    unsigned under_way = 0;

    (void)state;
    for (int way = 0; way < 3; way++) {
        for (unsigned turns = 0; turns < 14; turns++) {
            struct fake_rig *rig = objects_rig();
            struct slice object = deflated_payload(rig);
            pb_subscribe_request subscribe = subscription();
            struct call *call = member(rig);

            claim_gzip(rig, GZIPPED, object.len, object);
            claim_gzip(rig, GZIPPED, object.len, object);
            vanish(rig, call);
            rig->world.mode = FAKE_PARKED;
            call = start_to_join(rig, &subscribe);
            for (int i = 0; i < 100 && consumer_in(rig)->inflating.held == 0; i++) {
                if (worker_drain(&rig->worker, 1) == 0)
                    fake_release(&rig->world, 1);
            }
            for (unsigned i = 0; i < turns; i++)
                worker_drain(&rig->worker, 1);
            under_way += consumer_in(rig)->inflating.held;
            if (way == 0)
                fake_revoke(&rig->world, "t", "g");
            if (way == 1)
                fake_leave(&rig->world, "t", -1, 1000);
            fake_rig_drain(rig);
            vanish(rig, call);
            assert_int_equal(stat_of(&consumer_in(rig)->stats.held_bytes), 0);
            assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 2);
            consumer_free(rig);
        }
    }
    assert_true(under_way > 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_compressed_payload_is_inflated),
        cmocka_unit_test(test_who_wants_references_is_told_how_it_is_stored),
        cmocka_unit_test(test_a_compressed_payload_that_is_corrupt_dies),
        cmocka_unit_test(test_compressed_payloads_are_bounded),
        cmocka_unit_test(test_an_end_between_slices_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
