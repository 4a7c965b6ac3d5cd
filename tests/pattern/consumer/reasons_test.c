/* What GetState says of messages that wait. */
#include "tests/pattern/consumer/consumer.h"

enum { HALF = 600 };

static struct call *ask(struct fake_rig *rig)
{
    pb_get_state_request request = PRISM__PATTERNS__CONSUMER__GET_STATE_REQUEST__INIT;

    request.topic = pb_text("t");
    request.consumer_group = pb_text("g");
    return fake_call(rig, "GetState", &request.base);
}

static void expect_reason(struct call *call, const char *reason, bool stuck)
{
    const pb_get_state_response *answer = (const void *)call->reply;

    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    assert_string_equal(answer->stalled_reason, reason);
    assert_int_equal(answer->stuck, stuck);
    fake_call_free(call);
}

static void expect_reason_now(struct fake_rig *rig, const char *reason, bool stuck)
{
    struct call *call = ask(rig);

    fake_rig_run(rig);
    expect_reason(call, reason, stuck);
}

static void expect_reason_at_bound(const char *bound, const char *reason)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    struct call *call;
    char half[HALF + 1] = {0};

    memset(half, 'a', HALF);
    fake_rig_set(rig, bound, 1024);
    fake_rig_bind(rig);
    call = member(rig);
    put(rig, NULL, half);
    put(rig, NULL, half);
    assert_int_equal(deliveries(call), 2);
    expect_reason_now(rig, "", false);
    put(rig, NULL, half);
    assert_int_equal(deliveries(call), 2);
    expect_reason_now(rig, reason, false);
    leave(rig, call);
    consumer_free(rig);
}

/* A group that holds all it may is told to be held up by that only if messages wait. */
static void test_a_full_bound_is_no_reason_while_nothing_waits(void **state)
{
    (void)state;
    expect_reason_at_bound("max_group_bytes", "the messages that are held fill max_group_bytes");
    expect_reason_at_bound("max_message_memory",
                           "the messages that are held fill max_message_memory");
}

/* Its own letter is on its way, and did not fail. */
static void test_a_trouble_of_other_groups_is_not_told(void **state)
{
    struct fake_rig *rig = mortal(1);
    struct call *call, *asked;

    (void)state;
    call = member(rig);
    put(rig, NULL, "a");
    assert_int_equal(deliveries(call), 1);
    trouble_met(&consumer_in(rig)->letters.trouble, "another group's");
    rig->world.mode = FAKE_PARKED;
    asked = ask(rig);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.in_flight, 1);
    start_to_reject(rig, call, 1, CONSUMER_PB(DISPOSITION__RETRY), 0);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.in_flight, 2);
    assert_int_equal(fake_release(&rig->world, 1), 1);
    fake_rig_drain(rig);
    expect_reason(asked, "", false);
    rig->world.mode = FAKE_AT_ONCE;
    fake_release(&rig->world, 1);
    fake_rig_run(rig);
    leave(rig, call);
    consumer_free(rig);
}

/* Who would be told that it failed is gone: the letter is tried again later. */
static void test_a_letter_that_failed_is_told(void **state)
{
    struct fake_rig *rig = mortal(1);
    struct call *call, *other;

    (void)state;
    call = member(rig);
    other = member(rig);
    put(rig, NULL, "a");
    if (deliveries(call) == 0) {
        struct call *swap = call;

        call = other;
        other = swap;
    }
    assert_int_equal(deliveries(call), 1);
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "the fake is away");
    rig->world.fail_at = rig->world.ops + 1;
    vanish(rig, call);
    expect_reason_now(rig, "dead letters cannot be written", true);
    fake_rig_advance(rig, 60000);
    fake_rig_run(rig);
    expect_reason_now(rig, "", false);
    leave(rig, other);
    consumer_free(rig);
}

/* C20: nothing is known of messages then. */
static void expect_a_late_beginning(const char *delayed_by, const char *reason)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    const struct counter *stalled = &consumer_in(rig)->stats.stalled;
    struct call *call;

    rig->world.messages.faults.stalled = true;
    rig->world.messages.faults.delayed_by = delayed_by;
    call = member(rig);
    for (int i = 0; i < 2; i++) {
        expect_reason_now(rig, "", false);
        fake_rig_advance(rig, 10001);
        fake_rig_run(rig);
    }
    expect_reason_now(rig, reason, true);
    assert_int_equal(counter_read(stalled), 1);
    rig->world.messages.faults.stalled = false;
    fake_rig_advance(rig, 1);
    fake_rig_run(rig);
    expect_reason_now(rig, "", false);
    assert_int_equal(counter_read(stalled), 0);
    put(rig, NULL, "a");
    assert_int_equal(deliveries(call), 1);
    leave(rig, call);
    consumer_free(rig);
}

static void test_c20_a_source_that_does_not_begin_is_told(void **state)
{
    (void)state;
    expect_a_late_beginning(NULL, "the source has not begun");
    expect_a_late_beginning("others share it out in another way",
                            "others share it out in another way");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_c20_a_source_that_does_not_begin_is_told),
        cmocka_unit_test(test_a_full_bound_is_no_reason_while_nothing_waits),
        cmocka_unit_test(test_a_trouble_of_other_groups_is_not_told),
        cmocka_unit_test(test_a_letter_that_failed_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
