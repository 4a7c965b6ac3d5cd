/* Frames that are sent while others are on their way. The reader is slow: it takes a frame when it
 * is told to. */
#include "tests/pattern/consumer/consumer.h"

enum { BIG = 100 * 1024 };

static struct call *slow_member(struct fake_rig *rig, int32_t max_frame_messages, bool automatic)
{
    pb_subscribe_request subscribe = subscription();
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;
    struct call *call = fake_call_with(rig, "Consume", NULL, 0, true);

    subscribe._max_frame_messages_case =
        CONSUMER_PB(SUBSCRIBE_REQUEST___MAX_FRAME_MESSAGES_MAX_FRAME_MESSAGES);
    subscribe.max_frame_messages = max_frame_messages;
    if (automatic)
        subscribe.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO;
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_SUBSCRIBE);
    request.subscribe = &subscribe;
    say(rig, call, &request);
    assert_int_equal(call->sent_count, 1); /* `started`, which is not taken yet */
    return call;
}

static void take(struct fake_rig *rig, struct call *call)
{
    assert_true(fake_call_take(call));
    fake_rig_run(rig);
}

static void take_all(struct fake_rig *rig, struct call *call)
{
    while (fake_call_take(call))
        fake_rig_run(rig);
}

/* "a", "b", .. */
static void put_letters(struct fake_rig *rig, int n)
{
    for (int i = 0; i < n; i++) {
        const char payload[] = {(char)('a' + i), '\0'};

        put(rig, NULL, payload);
    }
}

static void expect_letters(const struct call *call, int n)
{
    assert_int_equal(deliveries(call), n);
    for (int i = 0; i < n; i++) {
        const char payload[] = {(char)('a' + i), '\0'};

        expect_delivery(call, (size_t)i, payload, 1);
    }
}

static void test_full_frames_go_ahead_in_order(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = slow_member(rig, 2, false);

    (void)state;
    put_letters(rig, 1);
    assert_int_equal(call->sent_count, 1); /* it waits to become full */
    put(rig, NULL, "b");
    assert_int_equal(call->sent_count, 2);
    for (int i = 2; i < 12; i++) {
        const char payload[] = {(char)('a' + i), '\0'};

        put(rig, NULL, payload);
    }
    assert_int_equal(call->sent_count, CALL_SENDS);
    expect_letters(call, 2 * (CALL_SENDS - 1));
    take(rig, call);
    expect_letters(call, 2 * CALL_SENDS);
    take_all(rig, call);
    expect_letters(call, 12);
    leave(rig, call);
    consumer_free(rig);
}

static void test_none_goes_ahead_while_memory_is_short(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = slow_member(rig, 2, false);

    (void)state;
    call->memory_short = true;
    put_letters(rig, 6);
    assert_int_equal(call->sent_count, 1);
    take_all(rig, call);
    expect_letters(call, 6);
    take_all(rig, call);
    leave(rig, call);
    consumer_free(rig);
}

static void test_bytes_ahead_are_bounded(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = slow_member(rig, 1, false);
    char *big = malloc(BIG + 1);
    size_t ahead = 0;

    (void)state;
    memset(big, 'b', BIG);
    big[BIG] = '\0';
    for (int i = 0; i < 6; i++)
        put(rig, NULL, big);
    for (size_t i = 1; i < call->sent_count; i++)
        ahead += call->sent[i].bytes;
    assert_in_range(ahead, BIG, CALL_AHEAD_BYTES);
    assert_int_equal(call->sent_count, 1 + CALL_AHEAD_BYTES / (BIG + 1024));
    take_all(rig, call);
    assert_int_equal(deliveries(call), 6);
    free(big);
    leave(rig, call);
    consumer_free(rig);
}

/* One message that is larger than all that may go ahead goes alone. */
static void test_a_large_message_goes_alone(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = slow_member(rig, 1, false);
    char *large = malloc(CALL_AHEAD_BYTES + 1);

    (void)state;
    memset(large, 'l', CALL_AHEAD_BYTES);
    large[CALL_AHEAD_BYTES] = '\0';
    put(rig, NULL, large);
    assert_int_equal(call->sent_count, 1);
    take(rig, call);
    assert_int_equal(call->sent_count, 2);
    take_all(rig, call);
    assert_int_equal(deliveries(call), 1);
    free(large);
    leave(rig, call);
    consumer_free(rig);
}

/* What was not written was no attempt, and comes to the next one in its order. */
static void test_all_go_back_when_the_client_goes(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = slow_member(rig, 2, false), *other;

    (void)state;
    put_letters(rig, 8);
    expect_letters(call, 6);
    vanish(rig, call);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.unsettled), 0);
    other = member(rig);
    expect_letters(other, 8);
    leave(rig, other);
    consumer_free(rig);
}

/* The first frame of messages was taken, so its messages failed; the others did not. */
static void test_only_what_was_written_has_failed(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = slow_member(rig, 2, false), *other = slow_member(rig, 256, false);

    (void)state;
    call->late_sends = true;
    put_letters(rig, 8); /* each has a share; the other one's is no full frame */
    expect_letters(call, 6);
    take(rig, call); /* started */
    take(rig, call); /* a, b */
    fake_call_cancel(call);
    fake_rig_run(rig);
    while (call->ends == 0) {
        fake_call_lose(call);
        fake_rig_run(rig);
    }
    fake_call_free(call);
    take_all(rig, other);
    assert_int_equal(deliveries(other), 8);
    for (size_t i = 0; i < 8; i++) {
        const char payload[] = {(char)('a' + i), '\0'};

        expect_delivery(other, i, payload, i < 2 ? 2 : 1);
    }
    leave(rig, other);
    consumer_free(rig);
}

static void test_what_is_taken_settles_itself_and_no_more(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = slow_member(rig, 2, true);

    (void)state;
    put_letters(rig, 6);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 6);
    take(rig, call);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 6);
    take(rig, call);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 4);
    take_all(rig, call);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    leave(rig, call);
    consumer_free(rig);
}

/* What is on its way arrives; nothing new is sent, and the end comes when all is settled. */
static void test_a_drain_waits_for_what_is_on_its_way(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = slow_member(rig, 2, false);

    (void)state;
    put_letters(rig, 6);
    fake_call_drain(call);
    fake_rig_run(rig);
    put(rig, NULL, "g");
    assert_int_equal(call->ends, 0);
    take_all(rig, call);
    expect_letters(call, 6);
    assert_true(frame_at(call, call->sent_count - 1)->draining);
    for (int64_t i = 1; i <= 6; i++)
        ack(rig, call, i);
    take_all(rig, call);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_UNAVAILABLE);
    fake_call_free(call);
    consumer_free(rig);
}

/* A member with nothing on its way comes before one that has frames ahead. */
static void test_an_idle_member_comes_first(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *slow = slow_member(rig, 1, false), *idle;

    (void)state;
    idle = member(rig);
    put_letters(rig, 4);
    assert_int_equal(slow->sent_count, 1);
    expect_letters(idle, 4);
    take_all(rig, slow);
    leave(rig, slow);
    leave(rig, idle);
    consumer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_frames_go_ahead_in_order),
        cmocka_unit_test(test_none_goes_ahead_while_memory_is_short),
        cmocka_unit_test(test_bytes_ahead_are_bounded),
        cmocka_unit_test(test_a_large_message_goes_alone),
        cmocka_unit_test(test_all_go_back_when_the_client_goes),
        cmocka_unit_test(test_only_what_was_written_has_failed),
        cmocka_unit_test(test_what_is_taken_settles_itself_and_no_more),
        cmocka_unit_test(test_a_drain_waits_for_what_is_on_its_way),
        cmocka_unit_test(test_an_idle_member_comes_first),
    };

    return cmocka_run_group_tests_name("consumer, frames ahead", tests, NULL, NULL);
}
