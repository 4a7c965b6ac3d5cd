/* Atomic batches: all messages are stored, or none is, and the client is told which. */
#include "tests/pattern/producer/atomic.h"

/* ---- what is sent ---- */

static void test_all_in_one_operation_in_order(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    struct messages messages = batch_of(MAX_ATOMIC);

    (void)state;
    rig->world.messages.stream.sink.keyed = false; /* else sent key by key, one by one */
    fake_rig_bind(rig);
    expect_stored(run_atomic(rig, &messages));
    assert_int_equal(rig->world.ops, 1);
    assert_int_equal(published(rig), MAX_ATOMIC);
    for (size_t i = 0; i < MAX_ATOMIC; i++)
        expect_payload(rig, "orders", i, (const char *)messages.items[i].payload.data);
    producer_free(rig);
}

static void test_queues_take_them_too(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_QUEUE);
    struct messages messages = batch_of(BATCH);

    (void)state;
    expect_stored(run_atomic(rig, &messages));
    assert_int_equal(published(rig), BATCH);
    producer_free(rig);
}

static void test_an_empty_batch_is_stored(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = {.n = 0};

    (void)state;
    expect_stored(run_atomic(rig, &messages));
    assert_int_equal(rig->world.ops, 0);
    producer_free(rig);
}

static void test_refused_where_the_sink_has_none(void **state)
{
    static const unsigned masks[] = {FAKE_TOPIC, FAKE_STREAM};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(masks); i++) {
        struct fake_rig *rig = producer_unbound(masks[i]);
        struct messages messages = batch_of(BATCH);

        rig->world.messages.stream.sink.atomic_items = 0;
        fake_rig_bind(rig);
        expect_refused(rig, &messages, ERR_UNIMPLEMENTED, NULL);
        assert_int_equal(rig->world.ops, 0);
        producer_free(rig);
    }
}

/* ---- faults that are found before anything is sent ---- */

static void test_one_fault_names_its_message(void **state)
{
    struct fake_rig *rig = bound_with(STATE | OBJECT);

    (void)state;
    for (size_t at = 0; at < BATCH; at += BATCH - 1) {
        struct messages messages = batch_of(BATCH);
        char subject[64];

        snprintf(subject, sizeof subject, "messages[%zu].topic", at);
        set_id(&messages.items[1], "one");
        messages.items[at].topic = pb_text("");
        expect_refused(rig, &messages, ERR_INVALID_ARGUMENT, subject);
    }
    assert_int_equal(rig->world.ops, 0);
    producer_free(rig);
}

static void test_one_topic(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = batch_of(BATCH);

    (void)state;
    messages.items[4].topic = pb_text("others");
    expect_refused(rig, &messages, ERR_INVALID_ARGUMENT, "messages[4].topic");
    assert_int_equal(rig->world.ops, 0);
    producer_free(rig);
}

static void test_limits(void **state)
{
    static char large[1000];
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    struct messages messages = batch_of(MAX_ATOMIC + 1);

    (void)state;
    rig->world.messages.stream.sink.max_frame_bytes = 3 * sizeof large;
    fake_rig_bind(rig);
    expect_refused(rig, &messages, ERR_INVALID_ARGUMENT, "messages");
    messages = batch_of(3);
    for (size_t i = 0; i < 3; i++)
        messages.items[i].payload =
            (ProtobufCBinaryData){.len = sizeof large - 10, .data = (uint8_t *)large};
    messages.items[0].payload.len += 30 - 3 * (strlen("orders") + strlen("a"));
    messages.items[0].payload.len++;
    expect_refused(rig, &messages, ERR_INVALID_ARGUMENT, "messages");
    messages.items[0].payload.len--; /* exactly as many */
    expect_stored(run_atomic(rig, &messages));
    producer_free(rig);
}

static const schema_operation_capability *atomic_of(const struct call *call)
{
    const pb_capabilities *caps = (const void *)call->reply;

    for (size_t i = 0; i < caps->n_operations; i++) {
        if (strcmp(caps->operations[i]->variant, "atomic") == 0)
            return caps->operations[i];
    }
    fail();
    return NULL;
}

#define SCHEMA(NAME) PRISM__PATTERNS__SCHEMAS__##NAME

static void test_capabilities(void **state)
{
    (void)state;
    for (int offered = 0; offered < 2; offered++) {
        struct fake_rig *rig = producer_unbound(FAKE_STREAM);
        pb_get_capabilities_request request =
            PRISM__PATTERNS__PRODUCER__GET_CAPABILITIES_REQUEST__INIT;
        const schema_operation_capability *atomic;
        struct call *call;

        rig->world.messages.stream.sink.atomic_items = offered ? 20 : 0;
        rig->world.messages.stream.sink.max_frame_bytes = 5000;
        fake_rig_bind(rig);
        call = fake_call(rig, "GetCapabilities", &request.base);
        atomic = atomic_of(call);
        assert_string_equal(atomic->operation, "PublishBatch");
        assert_int_equal(atomic->availability, offered ? SCHEMA(AVAILABILITY__AVAILABLE)
                                                       : SCHEMA(AVAILABILITY__UNAVAILABLE));
        assert_int_equal(atomic->unavailable_reason != NULL, !offered);
        if (offered) {
            assert_int_equal(atomic->atomicity, SCHEMA(ATOMICITY__ALL_OR_NOTHING));
            assert_int_equal(atomic->ordering, SCHEMA(ORDERING__REQUEST_ORDER));
            assert_string_equal(atomic->backend_calls, "1");
            assert_int_equal(atomic->limits->max_items, 20);
            assert_int_equal(atomic->limits->max_batch_bytes, 5000);
        }
        fake_call_free(call);
        producer_free(rig);
    }
}

/* ---- what the sink says ---- */

static void test_the_sinks_fault_names_its_message(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = batch_of(BATCH);

    (void)state;
    rig->world.poison = slice_str("b");
    rig->world.fail_with = err_about(ERR_INVALID_ARGUMENT, "headers", "the sink dislikes it");
    expect_refused(rig, &messages, ERR_INVALID_ARGUMENT, "messages[1].headers");
    producer_free(rig);
}

static void test_unknown_for_all(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = batch_of(BATCH);

    (void)state;
    rig->world.messages.faults.lose_at = 1;
    expect_all(run_atomic(rig, &messages), ERR_UNAVAILABLE, PB(OUTCOME__OUTCOME_UNKNOWN));
    assert_int_equal(rig->world.ops, 1); /* not tried again */
    producer_free(rig);
}

static void test_tried_again_as_a_whole(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = batch_of(BATCH);

    (void)state;
    rig->world.fail_at = 1;
    rig->world.fail_last = 3;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "not yet");
    expect_stored(run_atomic(rig, &messages));
    assert_int_equal(rig->world.ops, 4);
    assert_int_equal(published(rig), BATCH);
    for (size_t i = 0; i < BATCH; i++)
        expect_payload(rig, "orders", i, (const char *)messages.items[i].payload.data);
    producer_free(rig);
}

static void test_given_up_as_a_whole(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = batch_of(BATCH);

    (void)state;
    rig->world.fail_at = 1;
    rig->world.fail_last = UINT64_MAX;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "never");
    expect_all(run_atomic(rig, &messages), ERR_UNAVAILABLE, PB(OUTCOME__NOT_STORED));
    assert_true(rig->world.ops > 1);
    assert_int_equal(published(rig), 0);
    producer_free(rig);
}

static void test_a_full_queue_refuses_all(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_QUEUE);
    struct messages messages = batch_of(BATCH);

    (void)state;
    rig->world.messages.bounds.messages = BATCH + 2;
    fake_rig_bind(rig);
    expect_stored(run_atomic(rig, &messages));
    expect_all(run_atomic(rig, &messages), ERR_RESOURCE_EXHAUSTED, PB(OUTCOME__NOT_STORED));
    assert_int_equal(published(rig), BATCH);
    producer_free(rig);
}

static void test_cancelled_before_it_is_sent(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    struct messages first = batch_of(BATCH), second = batch_of(BATCH);
    struct call *calls[2];

    (void)state;
    rig->world.mode = FAKE_PARKED;
    fake_rig_set(rig, "publish_permits", 1);
    fake_rig_bind(rig);
    calls[0] = publish_atomic(rig, &first);
    calls[1] = publish_atomic(rig, &second);
    fake_rig_drain(rig);
    fake_call_cancel(calls[1]);
    fake_rig_run(rig);
    assert_int_equal(calls[1]->ends, 1);
    assert_int_equal(calls[1]->status.code, ERR_CANCELLED);
    assert_int_equal(published(rig), BATCH);
    expect_stored(calls[0]);
    fake_call_free(calls[1]);
    producer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_in_one_operation_in_order),
        cmocka_unit_test(test_queues_take_them_too),
        cmocka_unit_test(test_an_empty_batch_is_stored),
        cmocka_unit_test(test_refused_where_the_sink_has_none),
        cmocka_unit_test(test_one_fault_names_its_message),
        cmocka_unit_test(test_one_topic),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_the_sinks_fault_names_its_message),
        cmocka_unit_test(test_unknown_for_all),
        cmocka_unit_test(test_tried_again_as_a_whole),
        cmocka_unit_test(test_given_up_as_a_whole),
        cmocka_unit_test(test_a_full_queue_refuses_all),
        cmocka_unit_test(test_cancelled_before_it_is_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
