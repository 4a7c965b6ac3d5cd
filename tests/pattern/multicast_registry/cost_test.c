/* What a dry run says that a multicast would cost, beside what the multicast then does. */
#include "tests/pattern/multicast_registry/keeping.h"

static void rate(pb_multicast_request *request, int32_t per_second)
{
    request->_rate_per_second_case =
        MULTICAST_PB(MULTICAST_REQUEST___RATE_PER_SECOND_RATE_PER_SECOND);
    request->rate_per_second = per_second;
}

static struct call *dry(struct fake_rig *rig, const pb_multicast_request *from)
{
    pb_multicast_request request = *from;
    struct call *call;

    request.dry_run = true;
    call = fake_call(rig, "Multicast", &request.base);
    settle(rig, call);
    return call;
}

static pb_multicast_cost cost_of(struct fake_rig *rig, const pb_multicast_request *request)
{
    struct call *call = dry(rig, request);
    pb_multicast_cost cost;

    assert_non_null(answer_of(call)->cost);
    cost = *answer_of(call)->cost;
    fake_call_free(call);
    return cost;
}

/* Real multicasts have no cost, nor has what would be refused. */
static void test_who_is_told(void **state)
{
    struct fake_rig *rig = bound();
    pb_multicast_request request = to_all();
    struct call *call = fake_call(rig, "Multicast", &request.base);

    (void)state;
    settle(rig, call);
    assert_null(answer_of(call)->cost);
    fake_call_free(call);
    request._max_targets_case = MULTICAST_PB(MULTICAST_REQUEST___MAX_TARGETS_MAX_TARGETS);
    request.max_targets = TARGETS - 1;
    call = dry(rig, &request);
    assert_int_equal(answer_of(call)->target_count, TARGETS);
    assert_null(answer_of(call)->cost);
    fake_call_free(call);
    request.max_targets = TARGETS;
    assert_int_equal(cost_of(rig, &request).published_messages, TARGETS);
    free_rig(rig);
}

/* Of a stream: in its last message, which is the only one. */
static void test_a_stream_is_told(void **state)
{
    struct fake_rig *rig = bound();
    pb_multicast_request request = to_all();
    const pb_multicast_progress *last;
    struct call *call;

    (void)state;
    request.dry_run = true;
    call = fake_call(rig, "MulticastStream", &request.base);
    settle(rig, call);
    assert_int_equal(call->sent_count, 1);
    last = (const pb_multicast_progress *)call->sent[0].message;
    assert_true(last->done);
    assert_int_equal(last->cost->published_messages, TARGETS);
    fake_call_free(call);
    free_rig(rig);
}

/* Kept messages are stored, and others published: never both. */
static void test_which_slot(void **state)
{
    struct fake_rig *rig = keeping(FAKE_STREAM);
    pb_multicast_request request = to_all();
    pb_multicast_cost cost = cost_of(rig, &request);

    (void)state;
    assert_int_equal(cost.stored_messages, 2);
    assert_int_equal(cost.published_messages, 0);
    assert_int_equal(waiting(rig), 0);
    request.delivery = PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_MOST_ONCE;
    cost = cost_of(rig, &request);
    assert_int_equal(cost.stored_messages, 0);
    assert_int_equal(cost.published_messages, 2);
    free_rig(rig);
}

/* The time at which it began is a header of 13 digits; the other bytes are the request's. */
static void test_bytes(void **state)
{
    enum { PUBLISHED = sizeof "prism-published-at-ms" - 1 + 13 };
    struct fake_rig *rig = bound();
    pb_multicast_request request = to_all();
    Prism__Patterns__Schemas__Header header = PRISM__PATTERNS__SCHEMAS__HEADER__INIT;
    Prism__Patterns__Schemas__Header *headers[] = {&header};
    int64_t plain = cost_of(rig, &request).message_bytes;

    (void)state;
    assert_int_equal(plain, TARGETS * (1 + PUBLISHED));
    header.name = pb_text("abc");
    header._value_case = PRISM__PATTERNS__SCHEMAS__HEADER___VALUE_VALUE;
    header.value = (ProtobufCBinaryData){.len = 4, .data = (uint8_t *)(uintptr_t) "defg"};
    request.metadata = headers;
    request.n_metadata = 1;
    request.payload.len = 0;
    assert_int_equal(cost_of(rig, &request).message_bytes, plain + TARGETS * (7 - 1));
    free_rig(rig);
}

static uint64_t duration_ms(struct fake_rig *rig, const pb_multicast_request *request)
{
    struct call *call = fake_call(rig, "Multicast", &request->base);
    uint64_t ms = 0;

    fake_rig_run(rig);
    for (; call->ends == 0 && ms < 60000; ms++) {
        fake_rig_advance(rig, 1);
        fake_rig_run(rig);
    }
    assert_int_equal(answer_of(call)->target_count, TARGETS);
    fake_call_free(call);
    return ms;
}

/* On the rig's clock nothing takes time but the rate. How many the last page has is not known
 * before: it may be fewer than fit, and go later by as much. */
static void test_a_rate_takes_its_time(void **state)
{
    static const struct {
        int32_t rate;
        int64_t least_ms;
        uint64_t takes_ms;
    } cases[] = {{1, 9000, 9000}, {3, 2999, 3000}, {20, 400, 400},   {50, 100, 100},
                 {90, 11, 100},   {100, 0, 0},     {INT32_MAX, 0, 0}};
    struct fake_rig *rig = bound();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        pb_multicast_request request = to_all();
        int64_t least_ms;

        assert_int_equal(cost_of(rig, &request).least_ms, 0);
        rate(&request, cases[i].rate);
        least_ms = cost_of(rig, &request).least_ms;
        assert_int_equal(least_ms, cases[i].least_ms);
        assert_in_range(duration_ms(rig, &request), cases[i].takes_ms, cases[i].takes_ms + 2);
    }
    free_rig(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_told),
        cmocka_unit_test(test_a_stream_is_told),
        cmocka_unit_test(test_which_slot),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_a_rate_takes_its_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
