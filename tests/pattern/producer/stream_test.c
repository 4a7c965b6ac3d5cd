/* PublishStream: windows, acknowledgements, order and what happens after a failure. */
#include "tests/pattern/producer/producer.h"

/* What a stopped stream is told. */
static void expect_failure(const pb_publish_ack *ack, size_t i, int64_t sequence,
                           enum err_code code)
{
    assert_true(i < ack->n_failures);
    assert_int_equal(ack->failures[i]->sequence, sequence);
    assert_int_equal(ack->failures[i]->code, code);
    assert_int_equal(ack->failures[i]->outcome, PB(OUTCOME__NOT_STORED));
}

static void close_stream(struct fake_rig *rig, struct call *call)
{
    fake_call_push(call, NULL);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    fake_call_free(call);
}

static struct fake_rig *parked_rig(void)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);

    rig->world.mode = FAKE_PARKED;
    fake_rig_bind(rig);
    return rig;
}

/* ---- acknowledgements ---- */

static void test_the_window_is_announced_at_once(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = stream_open(rig);

    (void)state;
    assert_int_equal(call->sent_count, 1);
    assert_int_equal(ack_at(call, 0)->window, 10000);
    assert_int_equal(ack_at(call, 0)->window_bytes, 8388608);
    assert_true(ack_at(call, 0)->generation > 0);
    assert_int_equal(ack_at(call, 0)->settled_through, 0);
    close_stream(rig, call);
    producer_free(rig);
}

static void test_acknowledgements_are_cumulative(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = stream_open(rig);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;

    (void)state;
    add(&messages, message_to("", "1"));
    add(&messages, message_to("other", "2"));
    add(&messages, message_to("bad topic", "3"));
    frame = frame_of(&messages);
    frame.topic = pb_text("orders");
    push(rig, call, &frame);
    frame.topic = pb_text(""); /* as before */
    push(rig, call, &frame);
    assert_int_equal(last_ack(call)->settled_through, 6);
    assert_int_equal(last_ack(call)->success_count, 4);
    assert_int_equal(last_ack(call)->failure_count, 2);
    assert_int_equal(last_ack(call)->n_failures, 1);
    expect_failure(last_ack(call), 0, 6, ERR_INVALID_ARGUMENT);
    assert_int_equal(last_ack(call)->n_results, 0);
    assert_int_equal(last_ack(call)->generation, 0); /* it has not changed */
    assert_int_equal(fake_published(&rig->world, "orders"), 2);
    assert_int_equal(fake_published(&rig->world, "other"), 2);
    close_stream(rig, call);
    producer_free(rig);
}

static void test_results_come_if_asked_for(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = stream_open(rig);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;

    (void)state;
    add(&messages, message_to("orders", "1"));
    set_id(&messages.items[0], "mine");
    add(&messages, message_to("orders", "2"));
    frame = frame_of(&messages);
    frame.with_results = true;
    push(rig, call, &frame);
    assert_int_equal(last_ack(call)->n_results, 2);
    assert_string_equal(last_ack(call)->results[0]->message_id, "mine");
    assert_string_equal(last_ack(call)->results[1]->message_id, "orders/0/1");
    close_stream(rig, call);
    producer_free(rig);
}

static void test_half_close_settles_everything_first(void **state)
{
    struct fake_rig *rig = parked_rig();
    struct call *call = stream_open(rig);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;

    (void)state;
    for (int i = 0; i < 10; i++)
        add(&messages, keyed("orders", "k", "x"));
    frame = frame_of(&messages);
    push(rig, call, &frame);
    fake_call_push(call, NULL);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 0);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    assert_int_equal(last_ack(call)->settled_through, 10);
    fake_call_free(call);
    producer_free(rig);
}

static void test_the_window_stops_reading(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;
    struct call *call;

    (void)state;
    rig->world.mode = FAKE_PARKED;
    fake_rig_set(rig, "window", 4);
    fake_rig_bind(rig);
    call = stream_open(rig);
    add(&messages, message_to("orders", "1"));
    add(&messages, message_to("orders", "2"));
    frame = frame_of(&messages);
    push(rig, call, &frame);
    push(rig, call, &frame);
    fake_call_push(call, &frame.base); /* lies at the door */
    fake_rig_drain(rig);
    assert_int_equal(rig->world.in_flight, 2);
    fake_rig_run(rig);
    assert_int_equal(fake_published(&rig->world, "orders"), 6);
    close_stream(rig, call);
    producer_free(rig);
}

static void test_one_acknowledgement_at_a_time(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = {.n = 0};
    struct call *call = fake_call_with(rig, "PublishStream", NULL, 0, true);
    pb_publish_frame frame;

    (void)state;
    add(&messages, message_to("orders", "1"));
    frame = frame_of(&messages);
    for (int i = 0; i < 5; i++)
        push(rig, call, &frame);
    assert_int_equal(call->sent_count, 1); /* the first one is not taken yet */
    assert_true(fake_call_take(call));
    fake_rig_drain(rig);
    assert_int_equal(call->sent_count, 2);
    assert_int_equal(last_ack(call)->settled_through, 5);
    assert_true(fake_call_take(call));
    fake_rig_drain(rig);
    close_stream(rig, call);
    producer_free(rig);
}

/* ---- order ---- */

static void test_of_a_key_one_operation_is_under_way(void **state)
{
    struct fake_rig *rig = parked_rig();
    struct call *call = stream_open(rig);
    struct messages first = {.n = 0}, second = {.n = 0};
    pb_publish_frame frame;

    (void)state;
    add(&first, keyed("orders", "k", "1"));
    add(&second, keyed("orders", "k", "2"));
    frame = frame_of(&first);
    push(rig, call, &frame);
    frame = frame_of(&second);
    push(rig, call, &frame);
    push(rig, call, &frame);
    assert_int_equal(rig->world.in_flight, 1);
    fake_rig_run(rig);
    assert_int_equal(rig->world.ops, 2); /* what came meanwhile went out together */
    expect_payload(rig, "orders", 0, "1");
    expect_payload(rig, "orders", 1, "2");
    assert_int_equal(last_ack(call)->settled_through, 3);
    close_stream(rig, call);
    producer_free(rig);
}

static void test_p3_a_retry_does_not_overtake(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = stream_open(rig);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;
    char payload[8][8];

    (void)state;
    rig->world.fail_at = 1;
    rig->world.fail_last = 3;
    for (int i = 0; i < 8; i++) {
        snprintf(payload[i], sizeof payload[i], "%d", i);
        messages.n = 0;
        add(&messages, keyed("orders", i % 2 ? "odd" : "even", payload[i]));
        frame = frame_of(&messages);
        push(rig, call, &frame);
    }
    for (int i = 0; i < 100; i++)
        fake_rig_advance(rig, 10);
    assert_int_equal(last_ack(call)->settled_through, 8);
    assert_int_equal(last_ack(call)->failure_count, 0);
    for (size_t i = 0; i < 8; i++)
        expect_payload(rig, "orders", i, payload[i]);
    close_stream(rig, call);
    producer_free(rig);
}

static void test_p3_a_failed_key_stops_until_it_is_resumed(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = stream_open(rig);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;
    ProtobufCBinaryData resumed = bytes_of("bad");

    (void)state;
    rig->world.poison = slice_str("bad");
    rig->world.fail_with = err_make(ERR_PERMISSION_DENIED, "not yours");
    add(&messages, keyed("orders", "bad", "1"));
    frame = frame_of(&messages);
    push(rig, call, &frame);
    expect_failure(last_ack(call), 0, 1, ERR_PERMISSION_DENIED);
    rig->world.poison = (struct slice){0};
    messages.n = 0;
    add(&messages, keyed("orders", "bad", "2"));
    add(&messages, keyed("orders", "good", "3"));
    add(&messages, message_to("orders", "4"));
    add(&messages, keyed("other", "bad", "5")); /* the key of another topic */
    frame = frame_of(&messages);
    push(rig, call, &frame);
    assert_int_equal(last_ack(call)->n_failures, 1);
    expect_failure(last_ack(call), 0, 2, ERR_ABORTED);
    assert_int_equal(fake_published(&rig->world, "orders"), 2);
    assert_int_equal(fake_published(&rig->world, "other"), 1);
    frame.resume_keys = &resumed;
    frame.n_resume_keys = 1;
    push(rig, call, &frame);
    assert_int_equal(last_ack(call)->n_failures, 0);
    assert_int_equal(fake_published(&rig->world, "orders"), 5);
    close_stream(rig, call);
    producer_free(rig);
}

static void failed_first(struct fake_rig *rig, struct call *call, pb_failure_mode mode)
{
    struct messages messages = {.n = 0};
    pb_publish_frame frame;

    rig->world.fail_at = 1;
    rig->world.fail_with = err_make(ERR_NOT_FOUND, "no such topic");
    add(&messages, keyed("orders", "k", "1"));
    frame = frame_of(&messages);
    frame.failure_mode = mode;
    push(rig, call, &frame);
    expect_failure(last_ack(call), 0, 1, ERR_NOT_FOUND);
}

static void test_continue_goes_on(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = stream_open(rig);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;

    (void)state;
    failed_first(rig, call, PB(FAILURE_MODE__CONTINUE));
    add(&messages, keyed("orders", "k", "2"));
    frame = frame_of(&messages);
    push(rig, call, &frame);
    assert_int_equal(fake_published(&rig->world, "orders"), 1);
    close_stream(rig, call);
    producer_free(rig);
}

static void test_stop_stream_stops_everything(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = stream_open(rig);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;

    (void)state;
    failed_first(rig, call, PB(FAILURE_MODE__STOP_STREAM));
    add(&messages, message_to("orders", "2"));
    add(&messages, keyed("orders", "other", "3"));
    frame = frame_of(&messages);
    push(rig, call, &frame);
    expect_failure(last_ack(call), 0, 2, ERR_ABORTED);
    expect_failure(last_ack(call), 1, 3, ERR_ABORTED);
    frame.resume = true;
    push(rig, call, &frame);
    assert_int_equal(fake_published(&rig->world, "orders"), 2);
    close_stream(rig, call);
    producer_free(rig);
}

/* Whatever finishes in whatever order, and whatever is tried again: of each key the log holds what
 * was sent, in order, each message once. */
static void test_p3_order_per_key_under_injected_failures(void **state)
{
    enum { FRAMES = 200, KEYS = 7 };
    static const unsigned modes[] = {FAKE_AT_ONCE, FAKE_PARKED};
    int next[KEYS];

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(modes) * 2; m++) {
        struct fake_rig *rig = producer_unbound(FAKE_STREAM);
        unsigned random = 1;
        char payloads[3][16], keys[3][8];

        rig->world.mode = modes[m / 2];
        rig->world.order = FAKE_SHUFFLED;
        rig->world.messages.stream.sink.keyed = m % 2 == 0;
        fake_rig_set(rig, "retry_for_ms", 600000);
        fake_rig_bind(rig);

        struct call *call = stream_open(rig);

        memset(next, 0, sizeof next);
        for (int f = 0; f < FRAMES; f++) {
            struct messages messages = {.n = 0};
            pb_publish_frame frame;

            for (int i = 0; i < 3; i++) {
                random = random * 1103515245u + 12345u;

                unsigned key = (random >> 16) % KEYS;

                snprintf(keys[i], sizeof keys[i], "%u", key);
                snprintf(payloads[i], sizeof payloads[i], "%d", next[key]++);
                add(&messages, keyed("orders", keys[i], payloads[i]));
            }
            frame = frame_of(&messages);
            rig->world.fail_at = f % 5 == 0 ? rig->world.ops + 1 : 0;
            push(rig, call, &frame);
            if (f % 3 == 0)
                fake_release(&rig->world, 1);
            fake_rig_advance(rig, 7);
        }
        rig->world.fail_at = 0;
        for (int i = 0; i < 10000 && last_ack(call)->settled_through < FRAMES * 3; i++) {
            fake_rig_run(rig);
            fake_rig_advance(rig, 100);
        }
        assert_int_equal(last_ack(call)->success_count, FRAMES * 3);
        assert_int_equal(fake_published(&rig->world, "orders"), FRAMES * 3);
        memset(next, 0, sizeof next);
        for (size_t i = 0; i < FRAMES * 3; i++) {
            const struct outgoing *kept = fake_message(&rig->world, "orders", i);
            int *n = &next[kept->key.data[0] - '0'];

            snprintf(payloads[0], sizeof payloads[0], "%d", (*n)++);
            assert_true(slice_equal(kept->payload, slice_str(payloads[0])));
        }
        close_stream(rig, call);
        producer_free(rig);
    }
}

/* ---- ends ---- */

static void test_a_client_that_goes_away_ends_the_call(void **state)
{
    struct fake_rig *rig = parked_rig();
    struct call *call = stream_open(rig);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;

    (void)state;
    add(&messages, keyed("orders", "k", "1"));
    frame = frame_of(&messages);
    push(rig, call, &frame);
    push(rig, call, &frame);
    fake_call_cancel(call);
    fake_rig_run(rig);
    assert_int_equal(call->status.code, ERR_CANCELLED);
    assert_int_equal(rig->world.in_flight, 0);
    fake_call_free(call);
    producer_free(rig);
}

static void test_a_drain_settles_what_was_read(void **state)
{
    struct fake_rig *rig = parked_rig();
    struct call *call = stream_open(rig);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;

    (void)state;
    add(&messages, keyed("orders", "k", "1"));
    frame = frame_of(&messages);
    push(rig, call, &frame);
    push(rig, call, &frame);
    fake_call_drain(call);
    fake_rig_drain(rig);
    assert_true(last_ack(call)->draining);
    assert_int_equal(call->ends, 0);
    fake_rig_run(rig);
    assert_int_equal(last_ack(call)->settled_through, 2);
    assert_int_equal(call->status.code, ERR_UNAVAILABLE);
    fake_call_free(call);
    producer_free(rig);
}

static void test_an_idle_stream_ends_with_the_drain(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = stream_open(rig);

    (void)state;
    fake_call_drain(call);
    fake_rig_run(rig);
    assert_true(last_ack(call)->draining);
    assert_int_equal(call->status.code, ERR_UNAVAILABLE);
    fake_call_free(call);
    producer_free(rig);
}

static void test_a_frame_that_is_too_large_ends_the_stream(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    struct messages messages = {.n = 0};
    pb_publish_frame frame;
    struct call *call;

    (void)state;
    fake_rig_set(rig, "max_batch_items", 3);
    fake_rig_bind(rig);
    call = stream_open(rig);
    for (int i = 0; i < 4; i++)
        add(&messages, message_to("orders", "x"));
    frame = frame_of(&messages);
    push(rig, call, &frame);
    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(call->status.subject, "messages");
    fake_call_free(call);
    producer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_window_is_announced_at_once),
        cmocka_unit_test(test_acknowledgements_are_cumulative),
        cmocka_unit_test(test_results_come_if_asked_for),
        cmocka_unit_test(test_half_close_settles_everything_first),
        cmocka_unit_test(test_the_window_stops_reading),
        cmocka_unit_test(test_one_acknowledgement_at_a_time),
        cmocka_unit_test(test_of_a_key_one_operation_is_under_way),
        cmocka_unit_test(test_p3_a_retry_does_not_overtake),
        cmocka_unit_test(test_p3_a_failed_key_stops_until_it_is_resumed),
        cmocka_unit_test(test_continue_goes_on),
        cmocka_unit_test(test_stop_stream_stops_everything),
        cmocka_unit_test(test_p3_order_per_key_under_injected_failures),
        cmocka_unit_test(test_a_client_that_goes_away_ends_the_call),
        cmocka_unit_test(test_a_drain_settles_what_was_read),
        cmocka_unit_test(test_an_idle_stream_ends_with_the_drain),
        cmocka_unit_test(test_a_frame_that_is_too_large_ends_the_stream),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
