/* Payloads in the object store: fetched on delivery, within a budget; what is not there or not the
 * payload is a dead letter, and a store that is away is waited for. */
#include "tests/pattern/consumer/objects.h"

#include "patterns/messaging/claim.h"

enum { SIZE = 1000 };

static char *payload_of(char letter)
{
    static char texts[26][SIZE + 1];
    char *text = texts[letter - 'a'];

    memset(text, letter, SIZE);
    return text;
}

static void store(struct fake_rig *rig, struct slice key, const char *value)
{
    char name[128];

    snprintf(name, sizeof name, "%.*s", (int)key.len, (const char *)key.data);
    fake_put(&rig->world, name, value);
}

/* As the producer writes it; `stored`: what the object holds; NULL: there is none. */
static void claim_with(struct fake_rig *rig, char letter, const char *key, const char *stored)
{
    struct arena arena;

    arena_init(&arena, NULL);

    struct claim claim = claim_new(&arena, slice_of(payload_of(letter), SIZE), 0);
    struct header headers[] = {
        {.name = slice_str(CLAIM_HEADER), .value = claim_write(&arena, &claim)},
        {.name = slice_str("h"), .value = slice_str("v")}};

    if (stored != NULL)
        store(rig, claim.key, stored);
    put_item(rig, (struct outgoing){.topic = slice_str("t"),
                                    .key = key != NULL ? slice_str(key) : message_null(),
                                    .payload = message_empty(),
                                    .headers = headers,
                                    .n_headers = 2});
    arena_clear(&arena);
}

static void claim(struct fake_rig *rig, char letter, const char *key)
{
    claim_with(rig, letter, key, payload_of(letter));
}

static void expect_payload(const struct call *call, size_t i, char letter, int32_t attempt)
{
    const pb_consumed_message *message = delivery_at(call, i);

    assert_null(message->claim);
    assert_int_equal(message->attempt, attempt);
    assert_int_equal(message->payload.len, SIZE);
    assert_memory_equal(message->payload.data, payload_of(letter), SIZE);
    assert_int_equal(message->n_headers, 1);
    assert_string_equal(message->headers[0]->name, "h");
}

static void test_the_payload_is_fetched(void **state)
{
    struct fake_rig *rig = objects_rig();
    struct call *call = member(rig);

    (void)state;
    claim(rig, 'a', NULL);
    put(rig, NULL, "small");
    assert_int_equal(deliveries(call), 2);
    expect_payload(call, 0, 'a', 1);
    reject(rig, call, 1, CONSUMER_PB(DISPOSITION__RETRY), 0);
    expect_payload(call, 2, 'a', 2);
    ack(rig, call, 2);
    ack(rig, call, 3);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.held_bytes), 0);
    leave(rig, call);
    consumer_free(rig);
}

static void test_a_key_keeps_its_order(void **state)
{
    struct fake_rig *rig = objects_rig();
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    rig->world.mode = FAKE_AT_ONCE;
    subscribe.order = CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY);
    call = join(rig, &subscribe);
    claim(rig, 'a', "k");
    put(rig, "k", "b");
    expect_payload(call, 0, 'a', 1);
    assert_int_equal(deliveries(call), 1);
    ack(rig, call, 1);
    expect_delivery(call, 1, "b", 1);
    leave(rig, call);
    consumer_free(rig);
}

/* Two fit; the third comes when one is settled. */
static void test_payloads_are_bounded(void **state)
{
    struct fake_rig *rig = unbound();
    struct call *call;

    (void)state;
    fake_rig_set(rig, "max_group_bytes", 3 * SIZE);
    fake_rig_bind(rig);
    call = member(rig);
    for (char c = 'a'; c < 'f'; c++)
        claim(rig, c, NULL);
    assert_int_equal(deliveries(call), 2);
    assert_true(stat_of(&consumer_in(rig)->stats.held_bytes) <= 3 * SIZE);
    for (int64_t i = 1; i <= 5; i++)
        ack(rig, call, i);
    assert_int_equal(deliveries(call), 5);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.held_bytes), 0);
    leave(rig, call);
    consumer_free(rig);
}

/* One that exceeds the bound alone goes on. */
static void test_a_payload_beyond_the_bound_comes_alone(void **state)
{
    struct fake_rig *rig = unbound();
    struct call *call;

    (void)state;
    fake_rig_set(rig, "max_group_bytes", SIZE / 2);
    fake_rig_bind(rig);
    call = member(rig);
    claim(rig, 'a', NULL);
    claim(rig, 'b', NULL);
    assert_int_equal(deliveries(call), 1);
    ack(rig, call, 1);
    assert_int_equal(deliveries(call), 2);
    leave(rig, call);
    consumer_free(rig);
}

static void expect_letter(struct fake_rig *rig, size_t i, const char *reason)
{
    const struct outgoing *letter = fake_message(&rig->world, "t.g.dead", i);

    assert_non_null(letter);
    assert_int_equal(letter->payload.len, 0);
    assert_true(slice_equal(letter->headers[0].name, slice_str(CLAIM_HEADER)));
    assert_true(slice_starts_with(letter->headers[2].value, slice_str(reason)));
}

/* B3: with the reason, and at once. */
static void test_what_is_lost_or_corrupt_dies(void **state)
{
    struct fake_rig *rig = objects_rig();
    struct call *call = member(rig);

    (void)state;
    claim_with(rig, 'a', NULL, NULL);
    claim_with(rig, 'b', NULL, payload_of('c'));
    claim_with(rig, 'd', NULL, "short");
    put(rig, NULL, "next");
    expect_letter(rig, 0, "CLAIM_LOST");
    expect_letter(rig, 1, "CLAIM_CORRUPT");
    expect_letter(rig, 2, "CLAIM_CORRUPT");
    expect_delivery(call, 0, "next", 1);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
    leave(rig, call);
    consumer_free(rig);
}

/* The dead letter tells why also when it could not be written at once. */
static void test_the_reason_outlasts_a_failure(void **state)
{
    struct fake_rig *rig = objects_rig();
    struct call *call = member(rig);

    (void)state;
    rig->world.fail_at = rig->world.ops + 3; /* the publish, the get, the dead letter */
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "the fake is away");
    claim_with(rig, 'a', NULL, NULL);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 0);
    fake_rig_advance(rig, 1500);
    fake_rig_run(rig);
    expect_letter(rig, 0, "CLAIM_LOST");
    leave(rig, call);
    consumer_free(rig);
}

static void fail_gets(struct fake_rig *rig, enum err_code code, uint64_t published)
{
    rig->world.fail_with = err_make(code, "the fake is away");
    rig->world.fail_at = rig->world.ops + published + 1;
    rig->world.fail_last = UINT64_MAX;
}

static const char *restriction(const struct fake_rig *rig)
{
    return pattern_consumer.restriction(rig->pattern, SLOT_OBJECT);
}

/* B3: it is no loss, and no attempt; the slot is DEGRADED meanwhile. */
static void test_a_store_that_is_away_is_waited_for(void **state)
{
    struct fake_rig *rig = objects_rig();
    struct call *call = member(rig);

    (void)state;
    fail_gets(rig, ERR_UNAVAILABLE, 1);
    assert_null(restriction(rig));
    claim(rig, 'a', NULL);
    assert_int_equal(deliveries(call), 0);
    assert_string_equal(restriction(rig), "the object store is away");
    fake_rig_advance(rig, 1500);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 0);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.object_failures), 2);
    rig->world.fail_with.code = ERR_PERMISSION_DENIED;
    fake_rig_advance(rig, 2500);
    fake_rig_run(rig);
    assert_string_equal(restriction(rig), "the object store denies access");
    rig->world.fail_at = 0;
    fake_rig_advance(rig, 4500);
    fake_rig_run(rig);
    expect_payload(call, 0, 'a', 1);
    assert_null(restriction(rig));
    leave(rig, call);
    consumer_free(rig);
}

/* After 0.5 to 1 s, 1 to 2, 2 to 4, and then 4 to 8. */
static void test_it_is_asked_less_and_less_often(void **state)
{
    struct fake_rig *rig = objects_rig();
    struct call *call = member(rig);

    (void)state;
    fail_gets(rig, ERR_UNAVAILABLE, 1);
    claim(rig, 'a', NULL);
    for (int i = 0; i < 600; i++) {
        fake_rig_advance(rig, 100);
        fake_rig_run(rig);
    }
    assert_in_range(stat_of(&consumer_in(rig)->stats.object_failures), 9, 20);
    leave(rig, call);
    consumer_free(rig);
}

/* One that is fetched says nothing of the one that is denied; nobody asks for it any more: it is
 * over. */
static void test_it_is_degraded_while_any_waits(void **state)
{
    struct fake_rig *rig = objects_rig();
    struct call *call = member(rig);

    (void)state;
    fail_gets(rig, ERR_PERMISSION_DENIED, 1);
    claim(rig, 'a', NULL);
    rig->world.fail_at = 0;
    claim(rig, 'b', NULL);
    expect_payload(call, 0, 'b', 1);
    assert_non_null(restriction(rig));
    leave(rig, call);
    assert_null(restriction(rig));
    assert_int_equal(consumer_in(rig)->troubled, 0);
    consumer_free(rig);
}

static void test_one_that_is_too_large_comes_as_its_claim(void **state)
{
    struct fake_rig *rig = objects_rig();
    pb_subscribe_request subscribe = subscription();
    const pb_consumed_message *message;
    struct call *call;

    (void)state;
    subscribe._max_inline_bytes_case =
        CONSUMER_PB(SUBSCRIBE_REQUEST___MAX_INLINE_BYTES_MAX_INLINE_BYTES);
    subscribe.max_inline_bytes = SIZE - 1;
    call = join(rig, &subscribe);
    claim(rig, 'a', NULL);
    message = delivery_at(call, 0);
    assert_int_equal(message->_payload_case, 0);
    assert_non_null(message->claim);
    assert_int_equal(message->claim->size, SIZE);
    assert_int_equal(message->claim->sha256.len, DIGEST_BYTES);
    assert_true(fake_find(&rig->world, slice_str(message->claim->key)) != NULL);
    assert_int_equal(message->n_headers, 1);
    leave(rig, call);
    subscribe.max_inline_bytes = SIZE;
    call = join(rig, &subscribe);
    expect_payload(call, 0, 'a', 1);
    leave(rig, call);
    consumer_free(rig);
}

/* At every moment the member may vanish, or the partition go. */
static void test_an_end_at_any_moment_leaves_nothing(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        for (size_t released = 0; released < 6; released++) {
            struct fake_rig *rig = objects_rig();
            struct call *call = member(rig);

            claim(rig, 'a', NULL);
            claim(rig, 'b', NULL);
            vanish(rig, call);
            rig->world.mode = FAKE_PARKED;
            call = member(rig);
            fake_release(&rig->world, released);
            fake_rig_drain(rig);
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_payload_is_fetched),
        cmocka_unit_test(test_a_key_keeps_its_order),
        cmocka_unit_test(test_payloads_are_bounded),
        cmocka_unit_test(test_a_payload_beyond_the_bound_comes_alone),
        cmocka_unit_test(test_what_is_lost_or_corrupt_dies),
        cmocka_unit_test(test_the_reason_outlasts_a_failure),
        cmocka_unit_test(test_a_store_that_is_away_is_waited_for),
        cmocka_unit_test(test_it_is_asked_less_and_less_often),
        cmocka_unit_test(test_it_is_degraded_while_any_waits),
        cmocka_unit_test(test_one_that_is_too_large_comes_as_its_claim),
        cmocka_unit_test(test_an_end_at_any_moment_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
