/* How clients name deliveries: by identifiers, and many at once. */
#include "patterns/consumer/member.h"
#include "tests/pattern/consumer/consumer.h"

#include <time.h>

static const char *subscription_id(const struct call *call)
{
    assert_non_null(frame_at(call, 0)->started);
    return frame_at(call, 0)->started->subscription_id;
}

static struct call *acknowledge(struct fake_rig *rig, const struct call *stream, char **ids,
                                size_t n)
{
    pb_acknowledge_request request = CONSUMER_PB(ACKNOWLEDGE_REQUEST__INIT);
    pb_deliveries which = CONSUMER_PB(DELIVERIES__INIT);
    struct call *call;

    which.subscription_id = pb_text(subscription_id(stream));
    which.message_ids = ids;
    which.n_message_ids = n;
    request.deliveries = &which;
    call = fake_call(rig, "Acknowledge", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    return call;
}

static void put_named(struct fake_rig *rig, const char *id)
{
    put_item(rig, (struct outgoing){.topic = slice_str("t"),
                                    .key = message_null(),
                                    .id = slice_str(id),
                                    .payload = slice_str("x")});
}

static void expect_failure(const pb_acknowledge_response *answer, size_t i, int code,
                           const char *id)
{
    assert_true(i < answer->n_failures);
    assert_int_equal(answer->failures[i]->code, code);
    assert_string_equal(answer->failures[i]->message_id, id);
    assert_true(answer->failures[i]->error[0] != '\0');
}

static void test_identifiers_name_one_delivery_each(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *stream = member(rig), *call;
    char *ids[] = {pb_text("c"), pb_text("twice"), pb_text("a"), pb_text("absent"), pb_text("c")};
    const pb_acknowledge_response *answer;

    (void)state;
    put_named(rig, "a");
    put_named(rig, "twice");
    put_named(rig, "b");
    put_named(rig, "twice");
    put_named(rig, "c");
    put_named(rig, "twice");
    call = acknowledge(rig, stream, ids, 5);
    assert_int_equal(call->status.code, ERR_OK);
    answer = (const void *)call->reply;
    assert_int_equal(answer->acknowledged_count, 2);
    assert_int_equal(answer->n_failures, 3);
    expect_failure(answer, 0, ERR_FAILED_PRECONDITION, "twice");
    expect_failure(answer, 1, ERR_FAILED_PRECONDITION, "absent");
    expect_failure(answer, 2, ERR_NOT_FOUND, "");
    assert_int_equal(answer->failures[2]->sequence, 5);
    fake_call_free(call);
    leave(rig, stream);
    consumer_free(rig);
}

static char **absent_ids(struct arena *arena, size_t n)
{
    char **ids = arena_alloc(arena, n * sizeof *ids);

    for (size_t i = 0; i < n; i++)
        ids[i] = arena_printf(arena, "t/0/%zu", 1000000 + i);
    return ids;
}

static void test_identifiers_are_bounded(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *stream = member(rig), *call;
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    call = acknowledge(rig, stream, absent_ids(&arena, CONSUMER_MAX_IDS + 1), CONSUMER_MAX_IDS + 1);
    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    fake_call_free(call);
    arena_clear(&arena);
    leave(rig, stream);
    consumer_free(rig);
}

/* Their answer is as large as it gets: texts make room for the names. */
static void test_an_answer_fits(void **state)
{
    enum { N = 5000, LONG = 500 };
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *stream = member(rig), *call;
    const pb_acknowledge_response *answer;
    struct arena arena;
    char **ids;

    (void)state;
    arena_init(&arena, NULL);
    ids = arena_alloc(&arena, N * sizeof *ids);
    for (size_t i = 0; i < N; i++)
        ids[i] = arena_printf(&arena, "%0*zu", LONG, i);
    call = acknowledge(rig, stream, ids, N);
    assert_int_equal(call->status.code, ERR_OK);
    answer = (const void *)call->reply;
    assert_int_equal(answer->n_failures, N);
    assert_true(protobuf_c_message_get_packed_size(&answer->base) <= FAKE_MAX_MESSAGE_BYTES);
    fake_call_free(call);
    for (size_t i = 0; i < N; i++)
        ids[i] = arena_printf(&arena, "%0*zu", 2 * LONG - LONG / 4, i);
    call = acknowledge(rig, stream, ids, N);
    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    fake_call_free(call);
    arena_clear(&arena);
    leave(rig, stream);
    consumer_free(rig);
}

/* In CPU time, of which others that are busy take none. */
static void test_many_identifiers_of_many_deliveries(void **state)
{
    enum { DELIVERIES = 5000, MOST_SECONDS = 2 };
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    struct call *stream, *call;
    struct arena arena;
    clock_t begun;

    (void)state;
    fake_rig_set(rig, "max_in_flight", DELIVERIES);
    fake_rig_bind(rig);
    stream = member(rig);
    for (int i = 0; i < DELIVERIES; i++)
        put(rig, NULL, "x");
    assert_int_equal(consumer_in(rig)->feeds->members->settling.unsettled, DELIVERIES);
    arena_init(&arena, NULL);
    begun = clock();
    call = acknowledge(rig, stream, absent_ids(&arena, CONSUMER_MAX_IDS), CONSUMER_MAX_IDS);
    assert_true((clock() - begun) / CLOCKS_PER_SEC < MOST_SECONDS);
    assert_int_equal(call->status.code, ERR_OK);
    fake_call_free(call);
    arena_clear(&arena);
    vanish(rig, stream);
    consumer_free(rig);
}

static void acknowledge_absent(struct fake_rig *rig, struct call *call, size_t n)
{
    Prism__Patterns__Consumer__ConsumeAck which = CONSUMER_PB(CONSUME_ACK__INIT);
    pb_consume_request request = CONSUMER_PB(CONSUME_REQUEST__INIT);

    which.n_sequences = n;
    which.sequences = calloc(n, sizeof *which.sequences);
    assert_non_null(which.sequences);
    for (size_t i = 0; i < n; i++)
        which.sequences[i] = (int64_t)(1000 + i);
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_ACK);
    request.ack = &which;
    say(rig, call, &request);
    free(which.sequences);
}

static void test_many_failures_come_in_several_frames(void **state)
{
    enum { N = 20000, FRAME_BYTES = 128 * 1024 };
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);
    int64_t next = 1000;

    (void)state;
    acknowledge_absent(rig, call, N);
    put(rig, NULL, "a");
    ack(rig, call, 1); /* it is heard */
    for (size_t i = 0; i < call->sent_count; i++) {
        const pb_consume_response *frame = frame_at(call, i);

        assert_true(protobuf_c_message_get_packed_size(&frame->base) < FRAME_BYTES);
        for (size_t k = 0; k < frame->n_failures; k++) {
            assert_int_equal(frame->failures[k]->sequence, next++);
            assert_int_equal(frame->failures[k]->code, ERR_NOT_FOUND);
        }
    }
    assert_int_equal(next, 1000 + N);
    assert_int_equal(through(call), 1);
    assert_true(call->held_bytes < 1000); /* of the last one only */
    leave(rig, call);
    consumer_free(rig);
}

/* A client that does not read is told of everything later: that is memory until then. */
static void test_what_is_to_be_told_is_memory(void **state)
{
    enum { N = 20000 };
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);

    (void)state;
    call->slow_reader = true;
    acknowledge_absent(rig, call, N);
    assert_true(call->held_bytes > N * sizeof(pb_settlement_failure));
    vanish(rig, call);
    call = member(rig);
    rig->hold_limit = N;
    acknowledge_absent(rig, call, N);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_RESOURCE_EXHAUSTED);
    fake_call_free(call);
    consumer_free(rig);
}

/* What could not be told goes with its subscription. */
static void test_failures_of_a_client_that_vanishes(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);

    (void)state;
    call->slow_reader = true;
    acknowledge_absent(rig, call, 20000);
    vanish(rig, call);
    consumer_free(rig);
}

static struct call *extend(struct fake_rig *rig, const struct call *stream)
{
    pb_extend_request request = CONSUMER_PB(EXTEND_REQUEST__INIT);
    pb_deliveries which = CONSUMER_PB(DELIVERIES__INIT);
    int64_t sequence = 1;
    struct call *call;

    which.subscription_id = pb_text(subscription_id(stream));
    which.sequences = &sequence;
    which.n_sequences = 1;
    request.deliveries = &which;
    request.lease_ms = 5000;
    call = fake_call(rig, "Extend", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    return call;
}

/* Without a lease there is no time at which it ends. */
static void test_an_extension_tells_its_end(void **state)
{
    (void)state;
    for (int leased = 0; leased < 2; leased++) {
        struct fake_rig *rig = consumer_rig(FAKE_STREAM);
        pb_subscribe_request subscribe = subscription();
        const pb_extend_response *answer;
        struct call *stream, *call;

        if (leased) {
            subscribe._lease_ms_case = CONSUMER_PB(SUBSCRIBE_REQUEST___LEASE_MS_LEASE_MS);
            subscribe.lease_ms = 1000;
        }
        stream = join(rig, &subscribe);
        put(rig, NULL, "a");
        call = extend(rig, stream);
        answer = (const void *)call->reply;
        assert_int_equal(answer->extended_count, 1);
        assert_int_equal(answer->expires_at_ms > 0, leased);
        fake_call_free(call);
        ack(rig, stream, 1);
        leave(rig, stream);
        consumer_free(rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identifiers_name_one_delivery_each),
        cmocka_unit_test(test_identifiers_are_bounded),
        cmocka_unit_test(test_an_answer_fits),
        cmocka_unit_test(test_many_identifiers_of_many_deliveries),
        cmocka_unit_test(test_many_failures_come_in_several_frames),
        cmocka_unit_test(test_what_is_to_be_told_is_memory),
        cmocka_unit_test(test_failures_of_a_client_that_vanishes),
        cmocka_unit_test(test_an_extension_tells_its_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
