/* Senders who wait for confirmations, on the fake. */
#include "tests/pattern/multicast_registry/keeping.h"

enum { TIME_MS = 400 };

static const unsigned kinds[] = {FAKE_STREAM, FAKE_QUEUE};

static struct call *awaiting(struct fake_rig *rig)
{
    pb_multicast_request request = to_all();

    request.await_confirmation = true;
    request._timeout_ms_case = MULTICAST_PB(MULTICAST_REQUEST___TIMEOUT_MS_TIMEOUT_MS);
    request.timeout_ms = TIME_MS;
    return fake_call(rig, "Multicast", &request.base);
}

static struct call *attached(struct fake_rig *rig)
{
    pb_attach_identities in = MULTICAST_PB(ATTACH_IDENTITIES__INIT);
    pb_attach_request request = MULTICAST_PB(ATTACH_REQUEST__INIT);
    struct call *call = fake_call(rig, "Attach", NULL);
    char *names[] = {pb_text("i1"), pb_text("i2")};

    in.identities = names;
    in.n_identities = 2;
    request.action_case = MULTICAST_PB(ATTACH_REQUEST__ACTION_ATTACH);
    request.attach = &in;
    request.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_MANUAL;
    fake_call_push(call, &request.base);
    fake_rig_run(rig);
    return call;
}

static void confirm(struct fake_rig *rig, struct call *call, int64_t sequence)
{
    pb_acknowledge_messages which = MULTICAST_PB(ACKNOWLEDGE_MESSAGES__INIT);
    pb_attach_request request = MULTICAST_PB(ATTACH_REQUEST__INIT);

    which.sequences = &sequence;
    which.n_sequences = 1;
    request.action_case = MULTICAST_PB(ATTACH_REQUEST__ACTION_ACKNOWLEDGE);
    request.acknowledge = &which;
    fake_call_push(call, &request.base);
    fake_rig_run(rig);
}

static void free_ended(struct fake_rig *rig, struct call *call)
{
    fake_rig_run(rig);
    fake_call_free(call);
}

/* The answer waits for the last one, and says for each what became of it. */
static void test_the_answer_waits(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = keeping(kinds[k]);
        struct call *receiver = attached(rig), *sender = awaiting(rig);

        fake_rig_run(rig);
        confirm(rig, receiver, 2);
        assert_int_equal(sender->ends, 0);
        confirm(rig, receiver, 1);
        assert_int_equal(sender->ends, 1);
        assert_int_equal(answer_of(sender)->confirmed_count, 2);
        assert_int_equal(answer_of(sender)->delivered_count, 2);
        assert_int_equal(answer_of(sender)->pending_count, 0);
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(answer_of(sender)->results[i]->status,
                             MULTICAST_PB(DELIVERY_STATUS__CONFIRMED));
        free_ended(rig, sender);
        end(rig, receiver);
    }
}

/* When the time is over, what is not confirmed is PENDING, and that is no failure. */
static void test_the_time_is_over(void **state)
{
    struct fake_rig *rig = keeping(FAKE_QUEUE);
    struct call *receiver = attached(rig), *sender = awaiting(rig);

    (void)state;
    fake_rig_run(rig);
    confirm(rig, receiver, 1);
    assert_int_equal(sender->ends, 0);
    settle(rig, sender);
    assert_true(answer_of(sender)->success);
    assert_int_equal(answer_of(sender)->confirmed_count, 1);
    assert_int_equal(answer_of(sender)->pending_count, 1);
    free_ended(rig, sender);
    end(rig, receiver);
}

/* The topic cannot be opened, now or in time: nothing is sent. */
static void test_the_topic_does_not_open(void **state)
{
    (void)state;
    for (int stalled = 0; stalled < 2; stalled++) {
        struct fake_rig *rig = keeping(FAKE_QUEUE);
        struct call *sender;

        rig->world.messages.faults.stalled = stalled;
        if (!stalled)
            rig->world.messages.faults.open_error = err_make(ERR_PERMISSION_DENIED, "told to");
        sender = awaiting(rig);
        settle(rig, sender);
        assert_int_equal(sender->status.code,
                         stalled ? ERR_DEADLINE_EXCEEDED : ERR_PERMISSION_DENIED);
        assert_int_equal(fake_published(&rig->world, "prism.queue.i1"), 0);
        free_ended(rig, sender);
        free_rig(rig);
    }
}

/* The client leaves at any moment: the call ends once, and nothing stays open. */
static void test_the_client_leaves(void **state)
{
    (void)state;
    for (int moment = 0; moment < 4; moment++) {
        struct fake_rig *rig = keeping(FAKE_QUEUE);
        struct call *sender;

        rig->world.messages.faults.stalled = moment == 0;
        rig->world.mode = moment == 1 ? FAKE_PARKED : FAKE_AT_ONCE;
        sender = awaiting(rig);
        if (moment == 1)
            fake_rig_drain(rig); /* pages are under way */
        else
            fake_rig_run(rig); /* it opens, or it waits for confirmations */
        rig->world.messages.faults.holds_closes = moment == 3;
        fake_call_cancel(sender);
        fake_rig_run(rig);
        rig->world.messages.faults.holds_closes = false;
        fake_messages_look(&rig->world);
        settle(rig, sender);
        assert_int_equal(sender->status.code, ERR_CANCELLED);
        free_ended(rig, sender);
        assert_int_equal(rig->world.messages.subscriptions, 0);
        free_rig(rig);
    }
}

/* Whatever fails, in whatever order: one answer, which claims no more than was confirmed. */
static void test_every_operation_fails_in_turn(void **state)
{
    (void)state;
    for (uint64_t at = 1; at <= LAST_OPERATION; at++) {
        for (int variant = 0; variant < 8; variant++) {
            struct fake_rig *rig = keeping(kinds[variant & 1]);
            struct call *receiver, *sender;

            rig->world.mode = variant & 2 ? FAKE_PARKED : FAKE_AT_ONCE;
            rig->world.order = FAKE_SHUFFLED;
            rig->world.fail_with = err_make(ERR_UNAVAILABLE, "told to fail");
            if (variant & 4)
                rig->world.messages.faults.lose_at = at;
            else
                rig->world.fail_at = at;
            receiver = attached(rig);
            sender = awaiting(rig);
            fake_rig_run(rig);
            confirm(rig, receiver, 1);
            settle(rig, sender);
            if (sender->status.code == ERR_OK)
                assert_true(answer_of(sender)->confirmed_count <= 1);
            free_ended(rig, sender);
            end(rig, receiver);
        }
    }
}

static void published(struct op *op)
{
    assert_int_equal(op->err.code, ERR_OK);
}

/* A name on which confirmations would go elsewhere is not followed. */
static void test_a_foreign_name_is_not_followed(void **state)
{
    static const char topic[] = "prism.multicast.confirm.0123456789abcdef0123456789abcde*";
    struct fake_rig *rig = keeping(FAKE_QUEUE);
    struct call *receiver = attached(rig);
    struct header header = {.name = slice_str("prism-confirm-to"),
                            .value = slice_str("0123456789abcdef0123456789abcde*")};
    struct outgoing foreign = {.topic = slice_str("prism.queue.i1"),
                               .id = slice_str("id"),
                               .payload = slice_str("x"),
                               .headers = &header,
                               .n_headers = 1};
    struct publish publish = {.items = &foreign, .n = 1};
    struct op_group group;
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    op_group_init(&group, &rig->worker, &arena, 0);
    op_start(&publish.op, &group, published);
    rig->world.messages.queue.sink.publish(&rig->world.base, &publish);
    fake_rig_run(rig);
    arena_clear(&arena);
    confirm(rig, receiver, 1);
    assert_int_equal(fake_unsettled(&rig->world, "prism.queue.i1", "prism.multicast"), 0);
    assert_int_equal(fake_published(&rig->world, topic), 0);
    end(rig, receiver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_answer_waits),
        cmocka_unit_test(test_the_time_is_over),
        cmocka_unit_test(test_the_topic_does_not_open),
        cmocka_unit_test(test_the_client_leaves),
        cmocka_unit_test(test_every_operation_fails_in_turn),
        cmocka_unit_test(test_a_foreign_name_is_not_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
