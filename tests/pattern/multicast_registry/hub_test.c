/* Receivers where one topic carries the messages of all identities. */
#include "tests/pattern/multicast_registry/multicast.h"

static const char topic[] = "prism.multicast.all";

static struct fake_rig *with_hub(void)
{
    struct fake_rig *rig = unbound();

    rig->world.messages.topic.sink.many_topics = false;
    fake_rig_bind(rig);
    enter(rig);
    return rig;
}

static size_t messages_of(const struct call *call)
{
    size_t n = 0;

    for (size_t i = 0; i < call->sent_count; i++)
        n += ((const pb_receive_frame *)call->sent[i].message)->n_messages;
    return n;
}

static void to_one(struct fake_rig *rig, const char *identity)
{
    pb_multicast_request request = to_all();
    char *names[] = {pb_text(identity)};
    struct call *call;

    request.identities = names;
    request.n_identities = 1;
    call = fake_call(rig, "Multicast", &request.base);
    settle(rig, call);
    assert_int_equal(answer_of(call)->failed_count, 0);
    fake_call_free(call);
    fake_rig_run(rig);
}

static void leave(struct fake_rig *rig, struct call *call)
{
    fake_call_cancel(call);
    settle(rig, call);
    fake_rig_run(rig);
    fake_call_free(call);
}

/* One subscription for all; each gets what is for its identities; the last one closes it. */
static void test_dealt_out_by_identity(void **state)
{
    static const char *const first[] = {"i1", "i2"}, *const second[] = {"i2"};
    struct fake_rig *rig = with_hub();

    (void)state;
    for (int round = 0; round < 2; round++) {
        struct call *one = subscribed(rig, false, 2, first);
        struct call *two = subscribed(rig, false, 1, second);

        assert_int_equal(rig->world.messages.subscriptions, 1);
        to_one(rig, "i1");
        assert_int_equal(messages_of(one), 1);
        assert_int_equal(messages_of(two), 0);
        to_one(rig, "i2");
        to_one(rig, "i3");
        assert_int_equal(messages_of(one), 2);
        assert_int_equal(messages_of(two), 1);
        leave(rig, one);
        assert_int_equal(rig->world.messages.subscriptions, 1);
        leave(rig, two);
        assert_int_equal(rig->world.messages.subscriptions, 0);
    }
    free_rig(rig);
}

/* M5: a slow one loses the oldest, is told how many, and holds up nobody. */
static void test_a_slow_receiver(void **state)
{
    enum { MANY = 1000 };
    static const char *const names[] = {"i1"};
    struct fake_rig *rig = with_hub();
    struct call *slow = subscribed(rig, true, 1, names), *fast = subscribed(rig, false, 1, names);
    int64_t dropped = 0;

    (void)state;
    for (int i = 0; i < MANY; i++)
        to_one(rig, "i1");
    while (fake_call_take(slow))
        fake_rig_run(rig);
    for (size_t i = 0; i < slow->sent_count; i++)
        dropped += ((const pb_receive_frame *)slow->sent[i].message)->dropped_count;
    assert_true(dropped > 0);
    assert_int_equal((size_t)dropped + messages_of(slow), MANY);
    assert_int_equal(messages_of(fast), MANY);
    leave(rig, slow);
    end(rig, fast);
}

/* The topic is lost, refused, or closes slowly while others come. */
static void test_the_topic_goes(void **state)
{
    static const char *const names[] = {"i1", "i2"};
    struct fake_rig *rig = with_hub();
    struct call *call = subscribed(rig, false, 2, names), *other;

    (void)state;
    fake_close(&rig->world, topic, err_make(ERR_NOT_FOUND, "removed"));
    settle(rig, call);
    assert_int_equal(call->status.code, ERR_NOT_FOUND);
    fake_rig_run(rig);
    fake_call_free(call);
    rig->world.messages.faults.open_error = err_make(ERR_PERMISSION_DENIED, "not yours");
    call = subscribed(rig, false, 2, names);
    settle(rig, call);
    assert_int_equal(call->status.code, ERR_PERMISSION_DENIED);
    fake_rig_run(rig);
    fake_call_free(call);
    rig->world.messages.faults.open_error = ERR_NONE;
    call = subscribed(rig, false, 1, names);
    rig->world.messages.faults.holds_closes = true;
    fake_call_cancel(call);
    fake_rig_run(rig);
    other = subscribed(rig, false, 2, names);
    rig->world.messages.faults.holds_closes = false;
    fake_messages_look(&rig->world);
    fake_rig_run(rig);
    settle(rig, call);
    fake_call_free(call);
    to_one(rig, "i2");
    assert_int_equal(messages_of(other), 1);
    end(rig, other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dealt_out_by_identity),
        cmocka_unit_test(test_a_slow_receiver),
        cmocka_unit_test(test_the_topic_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
