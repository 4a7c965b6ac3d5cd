/* M5: what becomes of messages for a receiver that is too slow, by its policy; on topics of each
 * identity, and on one for all. The other receiver, which is fast, gets everything each time. */
#include "tests/pattern/multicast_registry/multicast.h"

enum { MANY = 100, WAIT = 4, CREDIT = 32 };

typedef Prism__Patterns__MulticastRegistry__FullPolicy policy;

static struct fake_rig *with_room_for(uint32_t messages, const char *by_default, bool one_topic)
{
    struct fake_rig *rig = unbound();

    rig->world.messages.topic.sink.many_topics = !one_topic;
    fake_rig_set(rig, "receiver_queue_messages", messages);
    fake_rig_set_text(rig, "when_full", by_default);
    fake_rig_bind(rig);
    enter(rig);
    return rig;
}

static struct call *receiving(struct fake_rig *rig, bool slow, policy when_full)
{
    pb_receive_request request = MULTICAST_PB(SUBSCRIBE_REQUEST__INIT);
    struct call *call;

    request.identity = pb_text("i1");
    request.when_full = when_full;
    call = fake_call_with(rig, "Subscribe", &request.base, 0, slow);
    fake_rig_run(rig);
    return call;
}

static void send_number(struct fake_rig *rig, int number, const char *key)
{
    pb_multicast_request request = to_all();
    char *names[] = {pb_text("i1")}, text[12];
    struct call *call;

    snprintf(text, sizeof text, "%d", number);
    request.identities = names;
    request.n_identities = 1;
    request.collapse_key = pb_text(key);
    request.payload =
        (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
    call = fake_call(rig, "Multicast", &request.base);
    settle(rig, call);
    assert_int_equal(answer_of(call)->failed_count, 0);
    fake_call_free(call);
    fake_rig_run(rig);
}

static void send_many(struct fake_rig *rig, const char *even, const char *odd)
{
    for (int i = 0; i < MANY; i++)
        send_number(rig, i, i % 2 == 0 ? even : odd);
}

static void take_all(struct fake_rig *rig, struct call *call)
{
    while (fake_call_take(call))
        fake_rig_run(rig);
}

/* Numbers of what has come, and how many were dropped, which is all told for this reason. */
static size_t numbers(const struct call *call, int *out, int reason, int64_t *dropped)
{
    const pb_multicast_message *got[2 * MANY];
    size_t n = sent_messages(call, got, ARRAY_LEN(got));

    for (size_t i = 0; i < n; i++) {
        char text[4] = "";

        memcpy(text, got[i]->payload.data, got[i]->payload.len);
        out[i] = (int)strtol(text, NULL, 10);
    }
    *dropped = 0;
    for (size_t i = 0; i < call->sent_count; i++) {
        const pb_receive_frame *frame = (const pb_receive_frame *)call->sent[i].message;
        int64_t told = 0;

        for (size_t j = 0; j < frame->n_drops; j++) {
            assert_int_equal(frame->drops[j]->reason, reason);
            told += frame->drops[j]->count;
        }
        assert_int_equal(told, frame->dropped_count);
        *dropped += told;
    }
    return n;
}

static void expect_all(struct fake_rig *rig, struct call *fast)
{
    int got[2 * MANY];
    int64_t dropped;

    assert_int_equal(numbers(fast, got, 0, &dropped), MANY);
    assert_int_equal(dropped, 0);
    end(rig, fast);
}

static void leave(struct fake_rig *rig, struct call *call)
{
    fake_call_cancel(call);
    settle(rig, call);
    fake_rig_run(rig);
    fake_call_free(call);
}

/* What the slow one has got is `first` from the front and then `last` from the end. */
static void keeps(policy when_full, const char *by_default, bool one_topic, int reason, int last)
{
    struct fake_rig *rig = with_room_for(WAIT, by_default, one_topic);
    struct call *slow = receiving(rig, true, when_full);
    struct call *fast = receiving(rig, false, when_full);
    int got[2 * MANY];
    int64_t dropped;
    size_t n;

    send_many(rig, "", "");
    take_all(rig, slow);
    n = numbers(slow, got, reason, &dropped);
    assert_int_equal(n + (size_t)dropped, MANY);
    assert_true(n >= WAIT && n <= CREDIT + WAIT + 1);
    for (size_t i = 0; i < n; i++) {
        size_t from_end = n - i;

        assert_int_equal(got[i], from_end <= (size_t)last ? MANY - (int)from_end : (int)i);
    }
    leave(rig, slow);
    expect_all(rig, fast);
}

static void test_m5_the_oldest_go(void **state)
{
    (void)state; /* by the namespace; with topics for each, it is their backend's affair */
    keeps(MULTICAST_PB(FULL_POLICY__FULL_UNSPECIFIED), "drop_oldest", true,
          MULTICAST_PB(DROP_REASON__DROP_OLDEST), WAIT);
    keeps(MULTICAST_PB(FULL_POLICY__FULL_DROP_OLDEST), "end_stream", true,
          MULTICAST_PB(DROP_REASON__DROP_OLDEST), WAIT);
}

static void test_m5_the_newest_go(void **state)
{
    (void)state;
    for (int one_topic = 0; one_topic < 2; one_topic++) {
        keeps(MULTICAST_PB(FULL_POLICY__FULL_DROP_NEWEST), "drop_oldest", one_topic,
              MULTICAST_PB(DROP_REASON__DROP_NEWEST), 0);
        keeps(MULTICAST_PB(FULL_POLICY__FULL_UNSPECIFIED), "drop_newest", one_topic,
              MULTICAST_PB(DROP_REASON__DROP_NEWEST), 0);
    }
}

/* Two keys, or none: of each the newest is the last that comes, whatever else has. */
static void test_m5_the_latest_of_each_key(void **state)
{
    static const char *const odds[] = {"a", "b"}; /* the even ones have a */
    enum { AT_ONCE = 2 };                         /* on its way, and in the inbox */

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct fake_rig *rig = with_room_for(WAIT, "drop_oldest", i / 2);
        policy latest = MULTICAST_PB(FULL_POLICY__FULL_LATEST_PER_KEY);
        struct call *slow = receiving(rig, true, latest), *fast = receiving(rig, false, latest);
        int got[2 * MANY];
        size_t keys = 1 + (size_t)(i % 2), n;
        int64_t dropped;

        send_many(rig, "a", odds[i % 2]);
        take_all(rig, slow);
        n = numbers(slow, got, MULTICAST_PB(DROP_REASON__DROP_REPLACED), &dropped);
        assert_int_equal(n + (size_t)dropped, MANY);
        assert_true(n >= keys + 1 && n <= keys + AT_ONCE);
        assert_int_equal(got[n - 1], MANY - 1);
        assert_int_equal(got[n - keys], MANY - (int)keys);
        leave(rig, slow);
        expect_all(rig, fast);
    }
}

/* More keys than may wait: then the oldest go. */
static void test_m5_too_many_keys(void **state)
{
    struct fake_rig *rig = with_room_for(WAIT, "latest_per_key", false);
    struct call *slow = receiving(rig, true, MULTICAST_PB(FULL_POLICY__FULL_UNSPECIFIED));
    int got[2 * MANY];
    int64_t dropped;
    size_t n;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        char key[4];

        snprintf(key, sizeof key, "%d", i);
        send_number(rig, i, key);
    }
    take_all(rig, slow);
    n = numbers(slow, got, MULTICAST_PB(DROP_REASON__DROP_OLDEST), &dropped);
    assert_int_equal(n + (size_t)dropped, MANY);
    for (size_t i = 1; i <= WAIT; i++)
        assert_int_equal(got[n - i], MANY - (int)i);
    end(rig, slow);
}

static void test_m5_the_stream_ends(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool by_default = i % 2 == 1;
        struct fake_rig *rig =
            with_room_for(WAIT, by_default ? "end_stream" : "drop_oldest", i / 2);
        policy ends = by_default ? MULTICAST_PB(FULL_POLICY__FULL_UNSPECIFIED)
                                 : MULTICAST_PB(FULL_POLICY__FULL_END_STREAM);
        struct call *slow = receiving(rig, true, ends), *fast = receiving(rig, false, ends);

        send_many(rig, "", "");
        take_all(rig, slow);
        settle(rig, slow);
        assert_int_equal(slow->status.code, ERR_RESOURCE_EXHAUSTED);
        assert_string_equal(slow->status.subject, "when_full");
        fake_rig_run(rig);
        fake_call_free(slow);
        expect_all(rig, fast);
    }
}

static void test_m5_no_such_policy(void **state)
{
    struct fake_rig *rig = with_room_for(WAIT, "drop_oldest", false);
    struct call *call = receiving(rig, false, (policy)9);

    (void)state;
    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(call->status.subject, "when_full");
    fake_call_free(call);
    free_rig(rig);
}

/* Numbers from..to. */
static void send_range(struct fake_rig *rig, int from, int to)
{
    for (int i = from; i < to; i++)
        send_number(rig, i, "");
}

/* While memory is short nothing begins to wait, and the old may be replaced by the new. What there
 * is credit for comes all the same. */
static void stays_small(policy when_full, bool one_topic, bool replaces)
{
    enum { HALF = MANY / 2, ROOM = 2 * MANY };
    struct fake_rig *rig = with_room_for(ROOM, "drop_oldest", one_topic);
    struct call *slow, *fast;
    int reason =
        replaces ? MULTICAST_PB(DROP_REASON__DROP_OLDEST) : MULTICAST_PB(DROP_REASON__DROP_NEWEST);
    int got[2 * MANY];
    int64_t dropped;
    uint64_t held;
    size_t n;

    slow = receiving(rig, true, when_full);
    fast = receiving(rig, false, when_full);
    send_range(rig, 0, HALF);
    held = slow->held_bytes;
    slow->memory_short = fast->memory_short = true;
    send_range(rig, HALF, MANY);
    assert_true(held > 0 && slow->held_bytes == held);
    take_all(rig, slow);
    n = numbers(slow, got, reason, &dropped);
    assert_int_equal(n, HALF);
    assert_int_equal(dropped, MANY - HALF);
    assert_int_equal(got[n - 1], replaces ? MANY - 1 : HALF - 1);
    assert_int_equal(got[0], 0);
    assert_int_equal(slow->held_bytes, 0);
    send_number(rig, MANY, "");
    take_all(rig, slow);
    assert_int_equal(numbers(slow, got, reason, &dropped), n + 1);
    leave(rig, slow);
    assert_int_equal(numbers(fast, got, 0, &dropped), MANY + 1);
    end(rig, fast);
}

static void test_memory_is_short(void **state)
{
    (void)state;
    stays_small(MULTICAST_PB(FULL_POLICY__FULL_DROP_NEWEST), false, false);
    stays_small(MULTICAST_PB(FULL_POLICY__FULL_DROP_NEWEST), true, false);
    stays_small(MULTICAST_PB(FULL_POLICY__FULL_DROP_OLDEST), true, true);
}

/* It is short from the beginning: there is nothing that could be replaced. */
static void test_nothing_may_wait(void **state)
{
    struct fake_rig *rig = with_room_for(WAIT, "drop_oldest", true);
    struct call *slow = receiving(rig, true, MULTICAST_PB(FULL_POLICY__FULL_UNSPECIFIED));
    int got[2 * MANY];
    int64_t dropped;
    size_t n;

    (void)state;
    slow->memory_short = true;
    send_range(rig, 0, MANY);
    take_all(rig, slow);
    n = numbers(slow, got, MULTICAST_PB(DROP_REASON__DROP_NEWEST), &dropped);
    assert_true(n >= CREDIT && n <= CREDIT + 1);
    assert_int_equal(n + (size_t)dropped, MANY);
    assert_int_equal(got[n - 1], (int)n - 1);
    leave(rig, slow);
    free_rig(rig);
}

/* The limit itself is met: the policy holds, and the stream goes on. */
static void test_the_limit_of_memory(void **state)
{
    enum { LIMIT = 48 << 10, ROOM = 2 * MANY };
    struct fake_rig *rig = with_room_for(ROOM, "drop_newest", false);
    struct call *slow;
    int got[2 * MANY];
    int64_t dropped;
    size_t n;

    (void)state;
    rig->hold_limit = LIMIT;
    slow = receiving(rig, true, MULTICAST_PB(FULL_POLICY__FULL_UNSPECIFIED));
    send_range(rig, 0, MANY);
    assert_true(slow->held_bytes > LIMIT / 2);
    take_all(rig, slow);
    n = numbers(slow, got, MULTICAST_PB(DROP_REASON__DROP_NEWEST), &dropped);
    assert_int_equal(n + (size_t)dropped, MANY);
    assert_true(dropped > 0);
    assert_int_equal(slow->held_bytes, 0);
    leave(rig, slow);
    free_rig(rig);
}

/* The topic is lost, or refused. */
static void test_the_topic_goes(void **state)
{
    struct fake_rig *rig = with_room_for(WAIT, "drop_newest", false);
    struct call *call = receiving(rig, false, MULTICAST_PB(FULL_POLICY__FULL_UNSPECIFIED));

    (void)state;
    fake_close(&rig->world, "prism.multicast.i1", err_make(ERR_NOT_FOUND, "removed"));
    settle(rig, call);
    assert_int_equal(call->status.code, ERR_NOT_FOUND);
    fake_rig_run(rig);
    fake_call_free(call);
    rig->world.messages.faults.open_error = err_make(ERR_PERMISSION_DENIED, "not yours");
    call = receiving(rig, false, MULTICAST_PB(FULL_POLICY__FULL_UNSPECIFIED));
    settle(rig, call);
    assert_int_equal(call->status.code, ERR_PERMISSION_DENIED);
    fake_rig_run(rig);
    fake_call_free(call);
    rig->world.messages.faults.open_error = ERR_NONE;
    free_rig(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_m5_the_oldest_go),          cmocka_unit_test(test_m5_the_newest_go),
        cmocka_unit_test(test_m5_the_latest_of_each_key), cmocka_unit_test(test_m5_too_many_keys),
        cmocka_unit_test(test_m5_the_stream_ends),        cmocka_unit_test(test_m5_no_such_policy),
        cmocka_unit_test(test_memory_is_short),           cmocka_unit_test(test_nothing_may_wait),
        cmocka_unit_test(test_the_limit_of_memory),       cmocka_unit_test(test_the_topic_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
