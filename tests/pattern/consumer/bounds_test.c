/* At the bounds of memory, and members that keep returning the same message. */
#include "tests/pattern/consumer/consumer.h"

enum { HALF = 600 };

static char *half(char letter)
{
    static char text[HALF + 1];

    memset(text, letter, HALF);
    return text;
}

static struct fake_rig *small_rig(const char *bound)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);

    fake_rig_set(rig, bound, 1024);
    fake_rig_bind(rig);
    return rig;
}

/* Each job that waits counts: the rig aborts when the worker does not come to rest. */
static void test_a_group_that_is_full_rests(void **state)
{
    struct fake_rig *rig = small_rig("max_group_bytes");
    struct call *call = member(rig);

    (void)state;
    for (char c = 'a'; c < 'e'; c++)
        put(rig, NULL, half(c));
    assert_int_equal(deliveries(call), 2);
    ack(rig, call, 1);
    assert_int_equal(deliveries(call), 3);
    ack(rig, call, 2);
    ack(rig, call, 3);
    assert_int_equal(deliveries(call), 4);
    leave(rig, call);
    consumer_free(rig);
}

/* Of two groups one holds all that the worker may. */
static void test_a_group_that_waits_for_memory_rests(void **state)
{
    struct fake_rig *rig = small_rig("max_message_memory");
    pb_subscribe_request subscribe = subscription();
    struct call *holder = member(rig), *waits;

    (void)state;
    put(rig, NULL, half('a'));
    put(rig, NULL, half('b'));
    put(rig, NULL, half('c'));
    subscribe.consumer_group = pb_text("h");
    waits = join(rig, &subscribe);
    assert_int_equal(deliveries(holder), 2);
    assert_int_equal(deliveries(waits), 1);
    ack(rig, holder, 1);
    ack(rig, holder, 2);
    ack(rig, waits, 1);
    assert_int_equal(deliveries(holder), 3);
    ack(rig, holder, 3);
    ack(rig, waits, 2);
    ack(rig, waits, 3);
    assert_int_equal(deliveries(waits), 3);
    leave(rig, holder);
    leave(rig, waits);
    consumer_free(rig);
}

static void test_a_group_that_drains_waits_for_no_memory(void **state)
{
    struct fake_rig *rig = small_rig("max_message_memory");
    pb_subscribe_request subscribe = subscription();
    struct call *holder = member(rig), *drained;

    (void)state;
    put(rig, NULL, half('a'));
    put(rig, NULL, half('b'));
    put(rig, NULL, half('c'));
    subscribe.consumer_group = pb_text("h");
    drained = join(rig, &subscribe);
    fake_call_drain(drained);
    fake_rig_run(rig);
    ack(rig, holder, 1);
    ack(rig, holder, 2);
    ack(rig, holder, 3);
    assert_int_equal(deliveries(holder), 3);
    leave(rig, holder);
    vanish(rig, drained);
    consumer_free(rig);
}

/* One message, two members with room: who gets none is sent nothing. */
static void test_no_frame_is_empty(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *one = member(rig), *two = member(rig);
    size_t sent = one->sent_count + two->sent_count;

    (void)state;
    put(rig, NULL, "a");
    assert_int_equal(deliveries(one) + deliveries(two), 1);
    assert_int_equal(one->sent_count + two->sent_count, sent + 1);
    leave(rig, one);
    leave(rig, two);
    consumer_free(rig);
}

static struct call *one_at_a_time(struct fake_rig *rig, pb_order_mode order)
{
    pb_subscribe_request subscribe = subscription();

    subscribe._max_in_flight_case = CONSUMER_PB(SUBSCRIBE_REQUEST___MAX_IN_FLIGHT_MAX_IN_FLIGHT);
    subscribe.max_in_flight = 1;
    subscribe.order = order;
    return join(rig, &subscribe);
}

/* The first release is had again at once; then the message makes room for others. */
static void test_a_message_that_is_always_released_starves_nobody(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = one_at_a_time(rig, CONSUMER_PB(ORDER_MODE__ORDER_NONE));

    (void)state;
    put(rig, NULL, "a");
    put(rig, NULL, "b");
    expect_delivery(call, 0, "a", 1);
    reject(rig, call, 1, CONSUMER_PB(DISPOSITION__RELEASE), 0);
    expect_delivery(call, 1, "a", 1);
    reject(rig, call, 2, CONSUMER_PB(DISPOSITION__RELEASE), 0);
    expect_delivery(call, 2, "b", 1);
    fake_rig_advance(rig, 1000);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 3);
    ack(rig, call, 3);
    expect_delivery(call, 3, "a", 1);
    ack(rig, call, 4);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    leave(rig, call);
    consumer_free(rig);
}

static void test_a_released_message_keeps_its_place_among_its_key(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = one_at_a_time(rig, CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY));

    (void)state;
    put(rig, "k", "a");
    put(rig, "k", "b");
    for (int64_t i = 1; i < 5; i++) {
        expect_delivery(call, (size_t)i - 1, "a", 1);
        reject(rig, call, i, CONSUMER_PB(DISPOSITION__RELEASE), 0);
        fake_rig_advance(rig, 1000);
        fake_rig_run(rig);
    }
    ack(rig, call, 5);
    expect_delivery(call, 5, "b", 1);
    leave(rig, call);
    consumer_free(rig);
}

/* ACK_AUTO while the source takes no settlements: slower each time, not as fast as it can. */
static void test_a_settlement_that_fails_is_no_busy_loop(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    subscribe.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO;
    call = join(rig, &subscribe);
    put(rig, NULL, "a");
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    rig->world.fail_at = rig->world.ops + 2;
    rig->world.fail_last = UINT64_MAX;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "the fake is away");
    put(rig, NULL, "b");
    assert_true(deliveries(call) <= 3);
    rig->world.fail_at = 0;
    fake_rig_advance(rig, 1000);
    fake_rig_run(rig);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    leave(rig, call);
    consumer_free(rig);
}

static void test_a_frame_waits_to_become_fuller(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();
    struct call *call;
    size_t frames;

    (void)state;
    subscribe._max_wait_ms_case = CONSUMER_PB(SUBSCRIBE_REQUEST___MAX_WAIT_MS_MAX_WAIT_MS);
    subscribe.max_wait_ms = 100;
    subscribe._max_frame_messages_case =
        CONSUMER_PB(SUBSCRIBE_REQUEST___MAX_FRAME_MESSAGES_MAX_FRAME_MESSAGES);
    subscribe.max_frame_messages = 3;
    call = join(rig, &subscribe);
    frames = call->sent_count;
    put(rig, NULL, "a");
    put(rig, NULL, "b");
    assert_int_equal(call->sent_count, frames);
    put(rig, NULL, "c");
    assert_int_equal(call->sent_count, frames + 1);
    assert_int_equal(deliveries(call), 3);
    put(rig, NULL, "d");
    assert_int_equal(deliveries(call), 3);
    fake_rig_advance(rig, 101);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 4);
    leave(rig, call);
    consumer_free(rig);
}

static void test_a_partition_comes_one_by_one(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    subscribe.order = CONSUMER_PB(ORDER_MODE__ORDER_PARTITION);
    call = join(rig, &subscribe);
    put(rig, "x", "a");
    put(rig, "y", "b");
    assert_int_equal(deliveries(call), 1);
    reject(rig, call, 1, CONSUMER_PB(DISPOSITION__RETRY), 1000);
    assert_int_equal(deliveries(call), 1);
    fake_rig_advance(rig, 1001);
    fake_rig_run(rig);
    expect_delivery(call, 1, "a", 2);
    ack(rig, call, 2);
    expect_delivery(call, 2, "b", 1);
    leave(rig, call);
    consumer_free(rig);
}

/* Groups that get nothing have credit, too. */
static void test_idle_groups_leave_memory_to_busy_ones(void **state)
{
    static char *const names[] = {"i", "j", "k", "l"};
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();
    struct call *idle[4], *busy;

    (void)state;
    fake_rig_set(rig, "max_message_memory", 16 * HALF);
    fake_rig_bind(rig);
    subscribe.topic = pb_text("quiet");
    for (int i = 0; i < 4; i++) {
        subscribe.consumer_group = names[i];
        idle[i] = join(rig, &subscribe);
    }
    busy = member(rig);
    for (int i = 0; i < 6; i++)
        put(rig, NULL, half('a'));
    assert_int_equal(deliveries(busy), 6);
    for (int i = 0; i < 4; i++)
        leave(rig, idle[i]);
    leave(rig, busy);
    consumer_free(rig);
}

/* C20: messages wait, credit is there, and nothing comes. */
static void stands_still(bool lone)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);
    const struct counter *stalled = &consumer_in(rig)->stats.stalled;

    rig->world.messages.faults.lone = lone;
    for (int i = 0; i < 4; i++) {
        fake_rig_advance(rig, 10001);
        fake_rig_run(rig);
    }
    assert_int_equal(stat_of(stalled), 0);
    rig->world.messages.faults.stalled = true;
    put(rig, NULL, "a");
    for (int i = 0; i < 2; i++) { /* it is looked at seldom by now, and the second time soon */
        assert_int_equal(stat_of(stalled), 0);
        fake_rig_advance(rig, i == 0 ? 80001 : 10001);
        fake_rig_run(rig);
    }
    assert_int_equal(stat_of(stalled), 1);
    rig->world.messages.faults.stalled = false;
    fake_rig_advance(rig, 1);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 1);
    for (int i = 0; i < 4; i++) { /* it is held, and nothing waits */
        fake_rig_advance(rig, 80001);
        fake_rig_run(rig);
        assert_int_equal(stat_of(stalled), 0);
    }
    leave(rig, call);
    consumer_free(rig);
}

static void test_c20_a_source_that_stands_still_is_noticed(void **state)
{
    (void)state;
    stands_still(false);
}

/* As Kafka, which does not tell what other processes hold. */
static void test_c20_so_is_one_that_knows_no_others(void **state)
{
    (void)state;
    stands_still(true);
}

static void look(struct fake_rig *rig)
{
    fake_rig_advance(rig, 80001);
    fake_rig_run(rig);
}

/* Of a member that takes no more as well, and of one to which messages come all the time. */
static void test_how_far_groups_are_behind_is_told(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();
    const struct counter *lag = &consumer_in(rig)->stats.lag;
    struct call *full, *other;

    (void)state;
    subscribe._max_in_flight_case = CONSUMER_PB(SUBSCRIBE_REQUEST___MAX_IN_FLIGHT_MAX_IN_FLIGHT);
    subscribe.max_in_flight = 1;
    full = join(rig, &subscribe);
    subscribe.consumer_group = pb_text("other");
    other = join(rig, &subscribe);
    for (int i = 0; i < 3; i++)
        put(rig, NULL, "a");
    assert_int_equal(stat_of(lag), 0);
    look(rig);
    assert_int_equal(stat_of(lag), 6);
    ack(rig, full, 1);
    ack(rig, full, 2);
    look(rig);
    assert_int_equal(stat_of(lag), 4);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.stalled), 0);
    rig->world.fail_at = rig->world.ops + 1;
    rig->world.fail_last = rig->world.ops + 2;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "the fake is away");
    look(rig);
    assert_int_equal(rig->world.ops, rig->world.fail_last); /* both were asked in vain */
    assert_int_equal(stat_of(lag), 4);                      /* as it was told last */
    look(rig);
    assert_int_equal(stat_of(lag), 4);
    leave(rig, full);
    assert_int_equal(stat_of(lag), 3);
    leave(rig, other);
    assert_int_equal(stat_of(lag), 0);
    consumer_free(rig);
}

/* One of another server, which is empty. What waits is not known then. */
static void test_a_partition_that_is_not_known_hides_no_other(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);

    (void)state;
    rig->world.messages.faults.stalled = rig->world.messages.faults.uncommitted = true;
    put(rig, NULL, "a");
    put(rig, NULL, "a");
    for (int i = 0; i < 3; i++)
        look(rig);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.lag), 2);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.stalled), 0);
    leave(rig, call);
    consumer_free(rig);
}

/* Looks of a minute at a group to which messages come all the time. */
static uint64_t looks_in_a_minute(bool dear)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    struct call *call;
    uint64_t looks = 0;

    rig->world.messages.stream.dear_position = dear;
    fake_rig_bind(rig);
    call = member(rig);
    for (int64_t i = 1; i <= 60; i++) {
        uint64_t before;

        put(rig, NULL, "a");
        ack(rig, call, i);
        before = rig->world.ops;
        fake_rig_advance(rig, 1000);
        fake_rig_run(rig);
        looks += rig->world.ops - before;
    }
    leave(rig, call);
    consumer_free(rig);
    return looks;
}

static void test_a_dear_question_is_asked_seldom(void **state)
{
    (void)state;
    assert_in_range(looks_in_a_minute(false), 5, 12);
    assert_in_range(looks_in_a_minute(true), 0, 1);
}

/* The answer would come to a group that is no more. */
static void test_a_group_that_goes_lets_go_of_its_look(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);

    (void)state;
    rig->world.mode = FAKE_PARKED;
    fake_rig_advance(rig, 10001);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.in_flight, 1);
    fake_call_cancel(call);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 1);
    fake_call_free(call);
    assert_null(consumer_in(rig)->feeds);
    assert_int_equal(rig->world.in_flight, 0);
    consumer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_group_that_is_full_rests),
        cmocka_unit_test(test_a_group_that_waits_for_memory_rests),
        cmocka_unit_test(test_a_group_that_drains_waits_for_no_memory),
        cmocka_unit_test(test_no_frame_is_empty),
        cmocka_unit_test(test_a_message_that_is_always_released_starves_nobody),
        cmocka_unit_test(test_a_released_message_keeps_its_place_among_its_key),
        cmocka_unit_test(test_a_settlement_that_fails_is_no_busy_loop),
        cmocka_unit_test(test_a_frame_waits_to_become_fuller),
        cmocka_unit_test(test_a_partition_comes_one_by_one),
        cmocka_unit_test(test_idle_groups_leave_memory_to_busy_ones),
        cmocka_unit_test(test_c20_a_source_that_stands_still_is_noticed),
        cmocka_unit_test(test_c20_so_is_one_that_knows_no_others),
        cmocka_unit_test(test_how_far_groups_are_behind_is_told),
        cmocka_unit_test(test_a_partition_that_is_not_known_hides_no_other),
        cmocka_unit_test(test_a_dear_question_is_asked_seldom),
        cmocka_unit_test(test_a_group_that_goes_lets_go_of_its_look),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
