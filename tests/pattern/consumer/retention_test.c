/* What a topic's retention may do reaches the capabilities. */
#include "tests/pattern/consumer/consumer.h"

enum {
    UNKNOWN = PRISM__PATTERNS__SCHEMAS__RETENTION__RETENTION_UNKNOWN,
    LOSSY = PRISM__PATTERNS__SCHEMAS__RETENTION__RETENTION_LOSSY
};

/* As GetCapabilities tells it, and with which generation. */
static int retention(struct fake_rig *rig, int64_t *generation)
{
    Prism__Patterns__Consumer__GetCapabilitiesRequest request =
        PRISM__PATTERNS__CONSUMER__GET_CAPABILITIES_REQUEST__INIT;
    struct call *call = fake_call(rig, "GetCapabilities", &request.base);
    const pb_consumer_capabilities *caps;
    int told;

    fake_rig_run(rig);
    assert_int_equal(call->status.code, ERR_OK);
    caps = (const void *)call->reply;
    told = (int)caps->retention;
    *generation = caps->generation;
    fake_call_free(call);
    return told;
}

/* P9 */
static void test_p9_a_lossy_topic_is_told(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    int64_t before, after;
    struct call *call;

    (void)state;
    assert_int_equal(retention(rig, &before), UNKNOWN);
    rig->world.messages.lossy = "max_age";
    call = member(rig);
    assert_int_equal(retention(rig, &after), LOSSY);
    assert_int_not_equal(after, before);
    leave(rig, call);
    rig->world.messages.lossy = NULL; /* of the next topic */
    call = member(rig);
    assert_int_equal(retention(rig, &before), LOSSY);
    assert_int_equal(after, before);
    leave(rig, call);
    consumer_free(rig);
}

static void test_a_topic_that_keeps_says_nothing_of_others(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    int64_t before, after;
    struct call *call = member(rig);

    (void)state;
    assert_int_equal(retention(rig, &before), UNKNOWN);
    put(rig, NULL, "a");
    assert_int_equal(deliveries(call), 1);
    assert_int_equal(retention(rig, &after), UNKNOWN);
    assert_int_equal(after, before);
    leave(rig, call);
    consumer_free(rig);
}

/* Messages flow meanwhile, and the group's end lets go of the question. */
static void test_nobody_waits_for_the_answer(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;
    pb_subscribe_request subscribe = subscription();
    int64_t generation;
    struct call *call;

    (void)state;
    rig->world.messages.lossy = "max_age";
    put(rig, NULL, "a");
    rig->world.mode = FAKE_PARKED;
    call = fake_call(rig, "Consume", NULL);
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_SUBSCRIBE);
    request.subscribe = &subscribe;
    fake_call_push(call, &request.base);
    fake_rig_drain(rig);
    assert_int_equal(deliveries(call), 1);
    assert_int_equal(rig->world.in_flight, 1);
    fake_call_push(call, NULL);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(rig->world.in_flight, 0);
    fake_call_free(call);
    assert_null(consumer_in(rig)->feeds);
    assert_int_equal(retention(rig, &generation), UNKNOWN);
    consumer_free(rig);
}

/* ---- strict_retention ---- */

static struct fake_rig *strict_rig(void)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);

    fake_rig_set(rig, "strict_retention", 1);
    fake_rig_bind(rig);
    return rig;
}

static void expect_refused(struct fake_rig *rig, enum err_code code, const char *text)
{
    struct call *call = member(rig);

    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, code);
    assert_non_null(strstr(call->status.text, text));
    assert_int_equal(deliveries(call), 0);
    fake_call_free(call);
    assert_null(consumer_in(rig)->feeds);
}

/* P9 */
static void test_p9_strict_refuses_what_may_be_lost(void **state)
{
    struct fake_rig *rig = strict_rig();
    pb_subscribe_request alone = subscription();
    struct call *call;

    (void)state;
    rig->world.messages.lossy = "max_age";
    put(rig, NULL, "a");
    expect_refused(rig, ERR_FAILED_PRECONDITION, "\"t\"");
    expect_refused(rig, ERR_FAILED_PRECONDITION, "max_age");
    alone.consumer_group = pb_text(""); /* it has no position to lose messages before */
    call = join(rig, &alone);
    assert_int_equal(call->ends, 0);
    leave(rig, call);
    rig->world.messages.lossy = NULL; /* the operator has mended it */
    call = member(rig);
    assert_int_equal(deliveries(call), 1);
    leave(rig, call);
    consumer_free(rig);
}

static void test_p9_strict_refuses_what_is_not_known(void **state)
{
    struct fake_rig *rig = strict_rig();
    struct call *call;

    (void)state;
    rig->world.fail_at = 1; /* the question */
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    expect_refused(rig, ERR_UNAVAILABLE, "away");
    call = member(rig);
    assert_int_equal(call->ends, 0);
    leave(rig, call);
    consumer_free(rig);
}

/* P9: who leaves before the answer leaves nothing behind. */
static void test_p9_strict_and_gone_before_the_answer(void **state)
{
    struct fake_rig *rig = strict_rig();
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    rig->world.mode = FAKE_PARKED;
    call = fake_call(rig, "Consume", NULL);
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_SUBSCRIBE);
    request.subscribe = &subscribe;
    fake_call_push(call, &request.base);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.in_flight, 1);
    fake_call_cancel(call);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(rig->world.in_flight, 0);
    fake_call_free(call);
    assert_null(consumer_in(rig)->feeds);
    consumer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p9_a_lossy_topic_is_told),
        cmocka_unit_test(test_a_topic_that_keeps_says_nothing_of_others),
        cmocka_unit_test(test_nobody_waits_for_the_answer),
        cmocka_unit_test(test_p9_strict_refuses_what_may_be_lost),
        cmocka_unit_test(test_p9_strict_refuses_what_is_not_known),
        cmocka_unit_test(test_p9_strict_and_gone_before_the_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
