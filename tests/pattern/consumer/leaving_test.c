/* A partition goes to another process: what is held of it is finished or given back, and nothing of
 * it is delivered here any more. Each test runs on a source that settles messages one by one, and
 * on one that keeps a position. */
#include "tests/pattern/consumer/consumer.h"

enum { PARTITIONS = 2, TIME_MS = 5000 };

static struct fake_rig *rig_of(void **state)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);

    rig->world.messages.partitions = PARTITIONS;
    rig->world.messages.stream.settling.single = *(const bool *)*state;
    fake_rig_bind(rig);
    return rig;
}

static struct call *ordered_member(struct fake_rig *rig)
{
    pb_subscribe_request subscribe = subscription();

    subscribe.order = CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY);
    return join(rig, &subscribe);
}

/* Three of a key; the first is out. Returns their partition. */
static int32_t three(struct fake_rig *rig, const struct call *call)
{
    put(rig, "k", "1");
    put(rig, "k", "2");
    put(rig, "k", "3");
    assert_int_equal(deliveries(call), 1);
    return delivery_at(call, 0)->partition;
}

static void start_leaving(struct fake_rig *rig, int32_t partition)
{
    fake_leave(&rig->world, "t", partition, TIME_MS);
    fake_rig_run(rig);
}

static pb_revoke_reason last_revoked(const struct call *call)
{
    for (size_t i = call->sent_count; i-- > 0;) {
        const pb_consume_response *frame = frame_at(call, i);

        if (frame->n_revoked > 0)
            return frame->revoked[0]->reason;
    }
    return CONSUMER_PB(REVOKE_REASON__REVOKE_REASON_UNSPECIFIED);
}

static void test_what_is_out_can_be_settled_and_the_rest_goes(void **state)
{
    struct fake_rig *rig = rig_of(state);
    struct call *call = ordered_member(rig);
    int32_t partition = three(rig, call);

    start_leaving(rig, partition);
    ack(rig, call, 1);
    assert_int_equal(through(call), 1);
    assert_int_equal(last_failure(call), ERR_OK);
    assert_int_equal(deliveries(call), 1);
    fake_rig_advance(rig, TIME_MS);
    fake_rig_run(rig);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 2);
    assert_int_equal(deliveries(call), 1);
    leave(rig, call);
    consumer_free(rig);
}

static void test_what_comes_back_goes_as_well(void **state)
{
    for (int way = 0; way < 4; way++) {
        struct fake_rig *rig = rig_of(state);
        struct call *call = ordered_member(rig), *second = NULL;

        start_leaving(rig, three(rig, call));
        if (way == 0)
            reject(rig, call, 1, CONSUMER_PB(DISPOSITION__RETRY), 0);
        if (way == 1)
            reject(rig, call, 1, CONSUMER_PB(DISPOSITION__RETRY), 100);
        if (way == 2)
            reject(rig, call, 1, CONSUMER_PB(DISPOSITION__RELEASE), 0);
        if (way == 3) {
            second = ordered_member(rig);
            vanish(rig, call);
            call = second;
        }
        fake_rig_advance(rig, TIME_MS);
        fake_rig_run(rig);
        assert_int_equal(deliveries(call), way == 3 ? 0 : 1);
        assert_int_equal(last_failure(call), ERR_OK);
        assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 3);
        leave(rig, call);
        consumer_free(rig);
    }
}

static void test_when_the_time_is_up_it_is_revoked(void **state)
{
    struct fake_rig *rig = rig_of(state);
    struct call *call = ordered_member(rig);

    start_leaving(rig, three(rig, call));
    assert_int_equal(last_revoked(call), CONSUMER_PB(REVOKE_REASON__REVOKE_REASON_UNSPECIFIED));
    fake_rig_advance(rig, TIME_MS);
    fake_rig_run(rig);
    assert_int_equal(last_revoked(call), CONSUMER_PB(REVOKE_REASON__REBALANCED));
    ack(rig, call, 1);
    assert_int_equal(last_failure(call), ERR_ABORTED);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 3);
    leave(rig, call);
    consumer_free(rig);
}

static void test_other_partitions_go_on(void **state)
{
    struct fake_rig *rig = rig_of(state);
    struct call *call = ordered_member(rig);
    int32_t partition = three(rig, call);
    size_t before;

    start_leaving(rig, partition);
    before = deliveries(call);
    put(rig, NULL, "x"); /* a key might share the lane of the others */
    assert_int_equal(deliveries(call), before + 1);
    expect_delivery(call, before, "x", 1);
    assert_int_not_equal(delivery_at(call, before)->partition, partition);
    leave(rig, call);
    consumer_free(rig);
}

static void test_what_waits_for_a_retry_goes(void **state)
{
    struct fake_rig *rig = rig_of(state);
    struct call *call = ordered_member(rig);
    int32_t partition = three(rig, call);

    reject(rig, call, 1, CONSUMER_PB(DISPOSITION__RETRY), 100);
    start_leaving(rig, partition);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.parked), 0);
    fake_rig_advance(rig, TIME_MS);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 1);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 3);
    leave(rig, call);
    consumer_free(rig);
}

static const bool one_by_one = true, by_position = false;

#define ON(test, source)                                                                           \
    {                                                                                              \
        .name = #test " " #source, .test_func = (test),                                            \
        .initial_state = (void *)(uintptr_t) & (source)                                            \
    }
#define BOTH(test) ON(test, one_by_one), ON(test, by_position)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_what_is_out_can_be_settled_and_the_rest_goes),
        BOTH(test_what_comes_back_goes_as_well),
        BOTH(test_when_the_time_is_up_it_is_revoked),
        BOTH(test_other_partitions_go_on),
        BOTH(test_what_waits_for_a_retry_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
