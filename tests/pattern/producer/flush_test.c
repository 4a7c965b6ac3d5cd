/* Flush and GetStats. */
#include "tests/pattern/producer/producer.h"

static struct call *flush(struct fake_rig *rig, int64_t timeout_ms)
{
    pb_flush_request request = PRISM__PATTERNS__PRODUCER__FLUSH_REQUEST__INIT;
    struct call *call;

    if (timeout_ms != 0) {
        request._timeout_ms_case = PB(FLUSH_REQUEST___TIMEOUT_MS_TIMEOUT_MS);
        request.timeout_ms = timeout_ms;
    }
    call = fake_call(rig, "Flush", &request.base);
    fake_rig_drain(rig);
    return call;
}

static const pb_flush_response *flushed(const struct call *call)
{
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    return (const void *)call->reply;
}

static struct fake_rig *parked_rig(void)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);

    rig->world.mode = FAKE_PARKED;
    fake_rig_bind(rig);
    return rig;
}

static struct call *publish(struct fake_rig *rig)
{
    pb_publish_request request = message_to("orders", "x");
    struct call *call = fake_call(rig, "Publish", &request.base);

    fake_rig_drain(rig);
    return call;
}

static void test_nothing_to_wait_for(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = flush(rig, 0);

    (void)state;
    assert_true(flushed(call)->success);
    assert_int_equal(flushed(call)->flushed_count, 0);
    fake_call_free(call);
    producer_free(rig);
}

static void test_p14_waits_for_what_came_before_and_nothing_later(void **state)
{
    struct fake_rig *rig = parked_rig();
    struct call *before[3], *after, *waits;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(before); i++)
        before[i] = publish(rig);
    waits = flush(rig, 0);
    after = publish(rig);
    assert_int_equal(waits->ends, 0);
    fake_release(&rig->world, 3);
    fake_rig_drain(rig);
    assert_true(flushed(waits)->success);
    assert_int_equal(flushed(waits)->flushed_count, 3);
    assert_int_equal(after->ends, 0);
    fake_rig_run(rig);
    for (size_t i = 0; i < ARRAY_LEN(before); i++)
        fake_call_free(before[i]);
    fake_call_free(after);
    fake_call_free(waits);
    producer_free(rig);
}

static void test_p14_a_failure_among_them_is_told(void **state)
{
    struct fake_rig *rig = parked_rig();
    struct call *good, *bad, *waits;

    (void)state;
    rig->world.fail_at = 2;
    rig->world.fail_with = err_make(ERR_NOT_FOUND, "no such topic");
    good = publish(rig);
    bad = publish(rig);
    waits = flush(rig, 0);
    fake_rig_run(rig);
    assert_false(flushed(waits)->success);
    assert_int_equal(flushed(waits)->code, ERR_ABORTED);
    assert_int_equal(flushed(waits)->flushed_count, 2);
    assert_int_equal(flushed(waits)->failed_count, 1);
    fake_call_free(good);
    fake_call_free(bad);
    fake_call_free(waits);
    producer_free(rig);
}

static void test_p14_a_time_out_tells_what_is_open(void **state)
{
    struct fake_rig *rig = parked_rig();
    struct call *one = publish(rig), *two = publish(rig), *waits = flush(rig, 50);

    (void)state;
    fake_release(&rig->world, 1);
    fake_rig_advance(rig, 49);
    assert_int_equal(waits->ends, 0);
    fake_rig_advance(rig, 10);
    assert_false(flushed(waits)->success);
    assert_int_equal(flushed(waits)->code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(flushed(waits)->flushed_count, 1);
    assert_int_equal(flushed(waits)->pending_count, 1);
    fake_call_free(waits);
    fake_rig_run(rig);
    fake_call_free(one);
    fake_call_free(two);
    producer_free(rig);
}

static void test_a_timeout_below_1_is_refused(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = flush(rig, -1);

    (void)state;
    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(call->status.subject, "timeout_ms");
    fake_call_free(call);
    producer_free(rig);
}

static void test_stats_count_outcomes(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    pb_get_stats_request request = PRISM__PATTERNS__PRODUCER__GET_STATS_REQUEST__INIT;
    struct call *calls[4];
    const pb_get_stats_response *stats;

    (void)state;
    rig->world.fail_at = 2;
    rig->world.fail_with = err_make(ERR_NOT_FOUND, "no such topic");
    rig->world.messages.faults.lose_at = 3;
    for (size_t i = 0; i < 3; i++)
        calls[i] = publish(rig);
    fake_rig_run(rig);
    calls[3] = fake_call(rig, "GetStats", &request.base);
    stats = (const void *)calls[3]->reply;
    assert_int_equal(stats->messages_published, 1);
    assert_int_equal(stats->messages_failed, 1);
    assert_int_equal(stats->messages_unknown, 1);
    assert_int_equal(stats->bytes_published, 1);
    assert_int_equal(stats->batches_published, 3);
    assert_int_equal(stats->unsettled, 0);
    assert_int_equal(stats->unsettled_bytes, 0);
    assert_true(stats->last_publish_unix_ms > 0);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        fake_call_free(calls[i]);
    producer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_wait_for),
        cmocka_unit_test(test_p14_waits_for_what_came_before_and_nothing_later),
        cmocka_unit_test(test_p14_a_failure_among_them_is_told),
        cmocka_unit_test(test_p14_a_time_out_tells_what_is_open),
        cmocka_unit_test(test_a_timeout_below_1_is_refused),
        cmocka_unit_test(test_stats_count_outcomes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
