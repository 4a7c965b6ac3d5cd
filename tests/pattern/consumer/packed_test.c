/* Members have so much that what came is packed: it comes again, is named and dies as it was. */
#include "patterns/consumer/member.h"
#include "src/base/block.h"
#include "tests/pattern/consumer/consumer.h"

enum {
    MANY = FEED_AS_THEY_CAME + 4 * BATCH_MESSAGES,
    VERY_MANY = FEED_PACKS_ALL + FEED_AS_THEY_CAME,
    MOST = 32768
};

#define LETTERS "t.g.dead"

/* The text of the i-th. */
static const char *text(size_t i)
{
    static char out[32];

    snprintf(out, sizeof out, "message %zu", i);
    return out;
}

static void fill_rig(struct fake_rig *rig, size_t n)
{
    rig->slots = WITH_DEAD_LETTERS;
    fake_rig_set(rig, "max_in_flight", MOST);
    fake_rig_bind(rig);
    for (size_t i = 0; i < n; i++) {
        const struct header header = {slice_str("h"), slice_str(text(i))};

        put_item(rig, (struct outgoing){.topic = slice_str("t"),
                                        .key = slice_str("k"),
                                        .id = slice_str(text(i)),
                                        .payload = slice_str(text(i)),
                                        .headers = &header,
                                        .n_headers = 1});
    }
}

static struct fake_rig *rig_with(size_t n)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);

    fill_rig(rig, n);
    return rig;
}

static struct fake_rig *rig_with_many(void)
{
    return rig_with(MANY);
}

static size_t packed_in(struct fake_rig *rig)
{
    size_t n = 0;

    for (struct parcel *p = consumer_in(rig)->feeds->parcels; p != NULL; p = p->next)
        n += p->messages == NULL ? p->n : 0;
    return n;
}

/* Of what is packed, and of what was made of it again. */
static size_t bytes_in(struct fake_rig *rig)
{
    size_t bytes = 0;

    for (struct parcel *p = consumer_in(rig)->feeds->parcels; p != NULL; p = p->next) {
        if (p->packed != NULL)
            bytes += p->memory.bytes + p->again.bytes + p->packed->bytes.len;
    }
    return bytes;
}

/* A message and what it was told as. */
static void expect_all(const struct call *call, int32_t attempt)
{
    assert_int_equal(deliveries(call), MANY);
    for (size_t frame = 0, i = 0; frame < call->sent_count; frame++) {
        const pb_consume_response *response = frame_at(call, frame);

        for (size_t j = 0; j < response->n_messages; j++, i++) {
            const pb_consumed_message *message = response->messages[j];
            struct slice payload = slice_of(message->payload.data, message->payload.len);

            assert_int_equal(message->sequence, (int64_t)i + 1);
            assert_int_equal(message->attempt, attempt);
            assert_true(slice_equal(payload, slice_str(text(i))));
            assert_string_equal(message->message_id, text(i));
            assert_int_equal(message->n_headers, 1);
        }
    }
}

static void test_it_comes_again_when_its_member_vanishes(void **state)
{
    struct fake_rig *rig = rig_with_many();
    struct call *call = member(rig), *other;

    (void)state;
    expect_all(call, 1);
    assert_in_range(packed_in(rig), BATCH_MESSAGES, MANY);
    vanish(rig, call);
    other = member(rig);
    expect_all(other, 2);
    ack(rig, other, MANY);
    ack(rig, other, 1);
    assert_int_equal(through(other), 1);
    assert_int_equal(last_failure(other), ERR_OK);
    leave(rig, other);
    consumer_free(rig);
}

static void test_it_is_acknowledged_packed(void **state)
{
    struct fake_rig *rig = rig_with_many();
    struct call *call = member(rig);
    size_t packed = packed_in(rig);

    (void)state;
    for (int64_t i = 1; i <= MANY; i++)
        ack(rig, call, i);
    assert_true(packed >= BATCH_MESSAGES);
    assert_int_equal(through(call), MANY);
    assert_int_equal(last_failure(call), ERR_OK);
    assert_int_equal(rig->world.messages.batches_out, 0);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.held_bytes), 0);
    leave(rig, call);
    consumer_free(rig);
}

/* ... by and by. The last frame may not have been written. */
static void test_those_that_came_first_are_packed_as_well(void **state)
{
    struct fake_rig *rig = rig_with(VERY_MANY);
    struct call *call = member(rig);

    (void)state;
    assert_int_equal(deliveries(call), VERY_MANY);
    assert_in_range(packed_in(rig), VERY_MANY - FRAME_MAX_MESSAGES - BATCH_MESSAGES, VERY_MANY);
    for (int64_t i = VERY_MANY; i >= 1; i--)
        ack(rig, call, i);
    assert_int_equal(through(call), VERY_MANY);
    assert_int_equal(last_failure(call), ERR_OK);
    assert_int_equal(rig->world.messages.batches_out, 0);
    leave(rig, call);
    consumer_free(rig);
}

/* The newest ones are those that are packed. */
static void test_it_dies_and_is_retried_as_it_was(void **state)
{
    struct fake_rig *rig = rig_with_many();
    struct call *call = member(rig);
    const struct outgoing *letter;

    (void)state;
    assert_true(packed_in(rig) >= BATCH_MESSAGES);
    reject(rig, call, MANY - 1, CONSUMER_PB(DISPOSITION__DEAD_LETTER), 0);
    assert_int_equal(fake_published(&rig->world, LETTERS), 1);
    letter = fake_message(&rig->world, LETTERS, 0);
    assert_true(slice_equal(letter->payload, slice_str(text(MANY - 2))));
    assert_true(slice_equal(letter->key, slice_str("k")));
    assert_true(slice_equal(letter->headers[0].value, slice_str(text(MANY - 2))));
    reject(rig, call, MANY, CONSUMER_PB(DISPOSITION__RELEASE), 0);
    assert_int_equal(deliveries(call), MANY + 1);
    expect_delivery(call, MANY, text(MANY - 1), 1);
    leave(rig, call);
    consumer_free(rig);
}

static void test_it_is_named_by_its_identifier(void **state)
{
    struct fake_rig *rig = rig_with_many();
    struct call *stream = member(rig), *call;
    pb_acknowledge_request request = CONSUMER_PB(ACKNOWLEDGE_REQUEST__INIT);
    pb_deliveries which = CONSUMER_PB(DELIVERIES__INIT);
    char *ids[] = {pb_text(text(0)), NULL};
    char last[32];

    (void)state;
    assert_true(packed_in(rig) >= BATCH_MESSAGES);
    snprintf(last, sizeof last, "%s", text(MANY - 1));
    ids[1] = last;
    which.subscription_id = frame_at(stream, 0)->started->subscription_id;
    which.message_ids = ids + 1;
    which.n_message_ids = 1;
    request.deliveries = &which;
    call = fake_call(rig, "Acknowledge", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(((const pb_acknowledge_response *)call->reply)->acknowledged_count, 1);
    fake_call_free(call);
    leave(rig, stream);
    consumer_free(rig);
}

static void extend_by_id(struct fake_rig *rig, const struct call *stream, const char *id)
{
    pb_extend_request request = CONSUMER_PB(EXTEND_REQUEST__INIT);
    pb_deliveries which = CONSUMER_PB(DELIVERIES__INIT);
    char copy[32], *ids[] = {copy};
    struct call *call;

    snprintf(copy, sizeof copy, "%s", id);
    which.subscription_id = frame_at(stream, 0)->started->subscription_id;
    which.message_ids = ids;
    which.n_message_ids = 1;
    request.deliveries = &which;
    request.lease_ms = 1000;
    call = fake_call(rig, "Extend", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(((const pb_extend_response *)call->reply)->extended_count, 1);
    fake_call_free(call);
}

static void test_it_stays_packed_when_it_is_named(void **state)
{
    struct fake_rig *rig = rig_with_many();
    struct call *stream = member(rig);
    size_t packed = packed_in(rig), bytes = bytes_in(rig);

    (void)state;
    assert_true(packed >= BATCH_MESSAGES);
    for (size_t i = 1; i <= 3; i++) {
        extend_by_id(rig, stream, text(MANY - i));
        assert_int_equal(packed_in(rig), packed);
        assert_int_equal(bytes_in(rig), bytes);
    }
    leave(rig, stream);
    consumer_free(rig);
}

/* Parcels of which something was made again, and stayed. */
static size_t opened_in(struct fake_rig *rig)
{
    size_t n = 0;

    for (struct parcel *p = consumer_in(rig)->feeds->parcels; p != NULL; p = p->next)
        n += p->packed != NULL && p->messages != NULL;
    return n;
}

static struct call *packed_member(struct fake_rig *rig, bool ack_tokens)
{
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    subscribe.ack_tokens = ack_tokens;
    call = join(rig, &subscribe);
    assert_in_range(packed_in(rig), BATCH_MESSAGES, MANY);
    assert_int_equal(opened_in(rig), 0);
    return call;
}

/* Whether the source, a dead letter or nobody is told of it. */
static void expect_packed_when(pb_disposition disposition, unsigned max_attempts, int64_t delay,
                               bool ack_tokens)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    struct call *call;

    rig->world.messages.stream.settling.delays = false;
    fake_rig_set(rig, "max_attempts", max_attempts);
    fill_rig(rig, MANY);
    call = packed_member(rig, ack_tokens);
    for (int64_t i = 1; i <= 3; i++) {
        reject(rig, call, MANY - i * (BATCH_MESSAGES / 2), disposition, delay);
        assert_int_equal(opened_in(rig), 0);
    }
    assert_int_equal(last_failure(call), ERR_OK);
    leave(rig, call);
    consumer_free(rig);
}

static void test_it_stays_packed_when_it_is_rejected(void **state)
{
    (void)state;
    expect_packed_when(CONSUMER_PB(DISPOSITION__RETRY), 3, 0, false);
    expect_packed_when(CONSUMER_PB(DISPOSITION__RETRY), 3, 60000, false);
    expect_packed_when(CONSUMER_PB(DISPOSITION__RETRY), 1, 0, false);
    expect_packed_when(CONSUMER_PB(DISPOSITION__DROP), 3, 0, false);
    expect_packed_when(CONSUMER_PB(DISPOSITION__DEAD_LETTER), 3, 0, false);
    expect_packed_when(CONSUMER_PB(DISPOSITION__DEAD_LETTER), 3, 0, true);
}

/* What was given back is with its member again. */
static void test_it_is_packed_again(void **state)
{
    struct fake_rig *rig = rig_with_many();
    struct call *call = member(rig);
    size_t packed = packed_in(rig), bytes = bytes_in(rig);

    (void)state;
    assert_true(packed >= BATCH_MESSAGES);
    for (size_t i = 0; i < 3; i++) {
        reject(rig, call, (int64_t)(MANY - i), CONSUMER_PB(DISPOSITION__RELEASE), 0);
        assert_int_equal(deliveries(call), MANY + i + 1);
        expect_delivery(call, MANY + i, text(MANY - 1 - i), 1);
        assert_int_equal(packed_in(rig), packed);
        assert_int_equal(bytes_in(rig), bytes);
    }
    leave(rig, call);
    consumer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_comes_again_when_its_member_vanishes),
        cmocka_unit_test(test_it_is_acknowledged_packed),
        cmocka_unit_test(test_those_that_came_first_are_packed_as_well),
        cmocka_unit_test(test_it_dies_and_is_retried_as_it_was),
        cmocka_unit_test(test_it_is_named_by_its_identifier),
        cmocka_unit_test(test_it_stays_packed_when_it_is_named),
        cmocka_unit_test(test_it_stays_packed_when_it_is_rejected),
        cmocka_unit_test(test_it_is_packed_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
