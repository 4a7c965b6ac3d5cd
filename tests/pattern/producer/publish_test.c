/* Publish and PublishBatch: outcomes, checks, what reaches the sink. P numbers are cases of what
 * goes wrong with messages in other products. */
#include "tests/pattern/producer/producer.h"

static struct call *publish(struct fake_rig *rig, const pb_publish_request *request)
{
    struct call *call = fake_call(rig, "Publish", &request->base);

    fake_rig_run(rig);
    return call;
}

/* ---- one message ---- */

static void test_stored_with_its_place(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    pb_publish_request request = message_to("orders", "hello");
    struct call *call = publish(rig, &request);

    (void)state;
    assert_true(answer_of(call)->success);
    assert_int_equal(answer_of(call)->outcome, PB(OUTCOME__STORED));
    assert_int_equal(answer_of(call)->code, ERR_OK);
    assert_int_equal(answer_of(call)->_offset_case, PB(PUBLISH_RESPONSE___OFFSET_OFFSET));
    assert_int_equal(answer_of(call)->offset, 0);
    assert_string_equal(answer_of(call)->message_id, "orders/0/0");
    expect_payload(rig, "orders", 0, "hello");
    fake_call_free(call);
    producer_free(rig);
}

static void test_every_kind_of_sink_takes_messages(void **state)
{
    static const unsigned masks[] = {FAKE_STREAM, FAKE_QUEUE, FAKE_TOPIC};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(masks); i++) {
        struct fake_rig *rig = producer_rig(masks[i]);
        pb_publish_request request = message_to("orders", "hello");
        struct call *call = publish(rig, &request);

        assert_true(answer_of(call)->success);
        fake_call_free(call);
        producer_free(rig);
    }
}

static void test_p1_no_success_before_the_sinks_own_report(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    pb_publish_request request = message_to("orders", "hello");
    struct call *call;

    (void)state;
    rig->world.mode = FAKE_PARKED;
    fake_rig_bind(rig);
    call = fake_call(rig, "Publish", &request.base);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 0);
    fake_rig_run(rig);
    assert_true(answer_of(call)->success);
    fake_call_free(call);
    producer_free(rig);
}

static void test_p2_a_lost_answer_is_unknown_and_not_tried_again(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    pb_publish_request request = message_to("orders", "hello");
    struct call *call;

    (void)state;
    rig->world.messages.faults.lose_at = 1;
    call = publish(rig, &request);
    assert_false(answer_of(call)->success);
    assert_int_equal(answer_of(call)->outcome, PB(OUTCOME__OUTCOME_UNKNOWN));
    assert_int_equal(answer_of(call)->code, ERR_UNAVAILABLE);
    assert_int_equal(fake_published(&rig->world, "orders"), 1);
    fake_call_free(call);
    producer_free(rig);
}

static void test_what_was_not_sent_is_tried_again(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    pb_publish_request request = message_to("orders", "hello");
    struct call *call;

    (void)state;
    rig->world.fail_at = 1;
    rig->world.fail_last = 2;
    call = publish(rig, &request);
    assert_int_equal(call->ends, 0); /* it waits */
    fake_rig_advance(rig, 1000);
    assert_int_equal(call->ends, 0);
    fake_rig_advance(rig, 1000);
    assert_true(answer_of(call)->success);
    assert_int_equal(fake_published(&rig->world, "orders"), 1);
    fake_call_free(call);
    producer_free(rig);
}

static void test_given_up_after_retry_for_ms(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    pb_publish_request request = message_to("orders", "hello");
    struct call *call;

    (void)state;
    fake_rig_set(rig, "retry_for_ms", 100);
    fake_rig_bind(rig);
    rig->world.fail_at = 1;
    rig->world.fail_last = UINT64_MAX;
    call = publish(rig, &request);
    for (int i = 0; i < 100 && call->ends == 0; i++)
        fake_rig_advance(rig, 10);
    assert_int_equal(answer_of(call)->outcome, PB(OUTCOME__NOT_STORED));
    assert_int_equal(answer_of(call)->code, ERR_UNAVAILABLE);
    assert_int_equal(fake_published(&rig->world, "orders"), 0);
    fake_call_free(call);
    producer_free(rig);
}

static void test_p12_hopeless_errors_are_not_tried_again(void **state)
{
    static const enum err_code codes[] = {ERR_INVALID_ARGUMENT, ERR_PERMISSION_DENIED,
                                          ERR_NOT_FOUND};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        struct fake_rig *rig = producer_rig(FAKE_STREAM);
        pb_publish_request request = message_to("orders", "hello");
        struct call *call;

        rig->world.fail_at = 1;
        rig->world.fail_with = err_make(codes[i], "hopeless");
        call = publish(rig, &request);
        assert_int_equal(call->ends, 1);
        assert_int_equal(rig->world.ops, 1);
        if (codes[i] == ERR_NOT_FOUND)
            assert_int_equal(answer_of(call)->code, ERR_NOT_FOUND);
        else
            assert_int_equal(call->status.code, codes[i]);
        fake_call_free(call);
        producer_free(rig);
    }
}

/* ---- checks ---- */

static void expect_fault(struct fake_rig *rig, const pb_publish_request *request,
                         enum err_code code, const char *subject)
{
    struct call *call = publish(rig, request);

    assert_int_equal(call->status.code, code);
    assert_string_equal(call->status.subject, subject);
    assert_int_equal(rig->world.ops, 0);
    fake_call_free(call);
}

static void test_topics_are_checked(void **state)
{
    static const char *const bad[] = {"",     "a b",    "orders.*", "orders.>", "a?",
                                      "a[b]", "$SYS.x", "__intern", "a\tb",     "a\x7f"};
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    char longest[MESSAGE_TOPIC_BYTES + 2];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        pb_publish_request request = message_to(bad[i], "x");

        expect_fault(rig, &request, ERR_INVALID_ARGUMENT, "topic");
    }
    memset(longest, 't', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';

    pb_publish_request request = message_to(longest, "x");

    expect_fault(rig, &request, ERR_INVALID_ARGUMENT, "topic");
    request = message_to(longest + 1, "x");

    struct call *call = publish(rig, &request);

    assert_true(answer_of(call)->success);
    fake_call_free(call);
    producer_free(rig);
}

static void test_topics_are_allowed_by_pattern_and_prefixed(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    pb_publish_request request = message_to("orders.eu", "x");
    struct call *call;

    (void)state;
    fake_rig_set_text(rig, "allowed_topics", "billing, orders.*");
    fake_rig_set_text(rig, "topic_prefix", "team-");
    fake_rig_bind(rig);
    call = publish(rig, &request);
    assert_true(answer_of(call)->success);
    assert_string_equal(answer_of(call)->message_id, "orders.eu/0/0");
    assert_int_equal(fake_published(&rig->world, "team-orders.eu"), 1);
    fake_call_free(call);
    rig->world.ops = 0;
    request = message_to("other", "x");
    expect_fault(rig, &request, ERR_PERMISSION_DENIED, "topic");
    producer_free(rig);
}

static void set_header(schema_header *header, const char *name, const char *value, size_t len)
{
    prism__patterns__schemas__header__init(header);
    header->name = pb_text(name);
    if (value == NULL)
        return;
    header->_value_case = PRISM__PATTERNS__SCHEMAS__HEADER___VALUE_VALUE;
    header->value = pb_bytes(slice_of(value, len));
}

static void expect_header(const struct header *header, const char *name, const char *value,
                          size_t len)
{
    assert_true(slice_equal(header->name, slice_str(name)));
    assert_int_equal(message_is_null(header->value), value == NULL);
    assert_true(slice_equal(header->value, slice_of(value, len)));
}

static void test_p13_headers_go_out_byte_for_byte(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    pb_publish_request request = message_to("orders", "x");
    schema_header headers[4], *pointers[] = {&headers[0], &headers[1], &headers[2], &headers[3]};
    pb_metadata_entry entries[2] = {
        PRISM__PATTERNS__PRODUCER__PUBLISH_REQUEST__METADATA_ENTRY__INIT,
        PRISM__PATTERNS__PRODUCER__PUBLISH_REQUEST__METADATA_ENTRY__INIT};
    pb_metadata_entry *metadata[] = {&entries[0], &entries[1]};
    struct call *call;

    (void)state;
    set_header(&headers[0], "b", "\x00\xff", 2);
    set_header(&headers[1], "a", "first", 5);
    set_header(&headers[2], "a", "second", 6);
    set_header(&headers[3], "empty", "", 0);
    entries[0].key = pb_text("z");
    entries[0].value = pb_text("1");
    entries[1].key = pb_text("m");
    entries[1].value = pb_text("");
    request.headers = pointers;
    request.n_headers = 4;
    request.metadata = metadata;
    request.n_metadata = 2;
    call = publish(rig, &request);
    assert_true(answer_of(call)->success);

    const struct outgoing *kept = fake_message(&rig->world, "orders", 0);

    assert_int_equal(kept->n_headers, 6);
    expect_header(&kept->headers[0], "b", "\x00\xff", 2);
    expect_header(&kept->headers[1], "a", "first", 5);
    expect_header(&kept->headers[2], "a", "second", 6);
    expect_header(&kept->headers[3], "empty", "", 0);
    expect_header(&kept->headers[4], "m", "", 0);
    expect_header(&kept->headers[5], "z", "1", 1);
    fake_call_free(call);
    producer_free(rig);
}

static void test_p13_headers_that_cannot_be_carried_are_refused(void **state)
{
    static const char *const names[] = {"", "prism-id", "null"};
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    schema_header header, *pointer = &header;
    pb_publish_request request = message_to("orders", "x");

    (void)state;
    rig->world.messages.stream.sink.null_header_values = false;
    fake_rig_bind(rig);
    request.headers = &pointer;
    request.n_headers = 1;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        set_header(&header, names[i], i == 2 ? NULL : "v", 1);
        expect_fault(rig, &request, ERR_INVALID_ARGUMENT, "headers");
    }
    producer_free(rig);
}

static void test_p15_null_is_not_empty(void **state)
{
    (void)state;
    for (int can = 0; can < 2; can++) {
        struct fake_rig *rig = producer_unbound(FAKE_STREAM);
        pb_publish_request null = message_to("orders", ""), empty = null;
        struct call *calls[2];

        rig->world.messages.stream.sink.null_payload = can;
        fake_rig_bind(rig);
        null._payload_case = PB(PUBLISH_REQUEST___PAYLOAD__NOT_SET);
        calls[0] = publish(rig, &null);
        calls[1] = publish(rig, &empty);
        assert_int_equal(message_is_null(fake_message(&rig->world, "orders", 0)->payload), can);
        assert_false(message_is_null(fake_message(&rig->world, "orders", 1)->payload));
        fake_call_free(calls[0]);
        fake_call_free(calls[1]);
        producer_free(rig);
    }
}

static void test_sizes_are_checked(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    char id[258];
    pb_publish_request request = message_to("orders", "0123456789");

    (void)state;
    rig->world.messages.stream.sink.max_message_bytes = 12;
    fake_rig_bind(rig);
    expect_fault(rig, &request, ERR_INVALID_ARGUMENT, "payload");
    request = message_to("t", "x");
    set_id(&request, "");
    expect_fault(rig, &request, ERR_INVALID_ARGUMENT, "message_id");
    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    set_id(&request, id);
    expect_fault(rig, &request, ERR_INVALID_ARGUMENT, "message_id");
    producer_free(rig);
}

/* ---- batches ---- */

static void test_results_stand_in_request_order(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = {.n = 0};
    struct call *call;

    (void)state;
    add(&messages, message_to("a", "1"));
    add(&messages, message_to("b c", "2")); /* a fault takes no neighbour with it */
    add(&messages, message_to("b", "3"));
    add(&messages, message_to("a", "4"));
    call = publish_batch(rig, &messages);
    fake_rig_run(rig);
    assert_int_equal(answers_of(call)->n_results, 4);
    assert_int_equal(answers_of(call)->success_count, 3);
    assert_int_equal(answers_of(call)->failure_count, 1);
    assert_false(answers_of(call)->all_success);
    assert_string_equal(answers_of(call)->results[0]->message_id, "a/0/0");
    assert_int_equal(answers_of(call)->results[1]->code, ERR_INVALID_ARGUMENT);
    assert_int_equal(answers_of(call)->results[1]->outcome, PB(OUTCOME__NOT_STORED));
    assert_string_equal(answers_of(call)->results[2]->message_id, "b/0/0");
    assert_string_equal(answers_of(call)->results[3]->message_id, "a/0/1");
    fake_call_free(call);
    producer_free(rig);
}

static void test_an_empty_batch_succeeds(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = {.n = 0};
    struct call *call = publish_batch(rig, &messages);

    (void)state;
    fake_rig_run(rig);
    assert_true(answers_of(call)->all_success);
    assert_int_equal(rig->world.ops, 0);
    fake_call_free(call);
    producer_free(rig);
}

static void test_p11_only_what_failed_is_sent_again(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct messages messages = {.n = 0};
    struct call *call;

    (void)state;
    for (int i = 0; i < 20; i++)
        add(&messages, keyed("orders", i % 5 == 0 ? "bad" : "good", "x"));
    rig->world.poison = slice_str("bad");
    call = publish_batch(rig, &messages);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 0);
    rig->world.poison = (struct slice){0};
    fake_rig_advance(rig, 1000);
    assert_true(answers_of(call)->all_success);
    assert_int_equal(fake_published(&rig->world, "orders"), 20);
    assert_int_equal(rig->world.items_sent, 24);
    fake_call_free(call);
    producer_free(rig);
}

/* Of 20 messages, by a sink that takes one at a time. */
static unsigned most_side_by_side(struct fake_rig *rig)
{
    struct messages messages = {.n = 0};
    struct call *call;

    rig->world.mode = FAKE_PARKED;
    rig->world.messages.stream.sink.max_items = 1;
    fake_rig_bind(rig);
    for (int i = 0; i < 20; i++)
        add(&messages, message_to("orders", "x"));
    call = publish_batch(rig, &messages);
    fake_rig_run(rig);
    assert_true(answers_of(call)->all_success);
    assert_int_equal(rig->world.ops, 20);
    fake_call_free(call);
    return rig->world.max_in_flight;
}

static void test_a_sink_without_batches_gets_single_messages(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);

    (void)state;
    fake_rig_set(rig, "publish_width", 4);
    assert_int_equal(most_side_by_side(rig), 4);
    producer_free(rig);
}

static void test_a_sink_that_gathers_gets_more_at_a_time(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);

    (void)state;
    rig->world.messages.stream.sink.width = 15;
    assert_int_equal(most_side_by_side(rig), 15);
    producer_free(rig);
}

static void test_permits_bound_all_calls_of_a_worker(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    pb_publish_request request = message_to("orders", "x");
    struct call *calls[10];

    (void)state;
    rig->world.mode = FAKE_PARKED;
    fake_rig_set(rig, "publish_permits", 3);
    fake_rig_bind(rig);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        calls[i] = fake_call(rig, "Publish", &request.base);
    fake_rig_run(rig);
    assert_int_equal(rig->world.max_in_flight, 3);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        assert_true(answer_of(calls[i])->success);
        fake_call_free(calls[i]);
    }
    producer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored_with_its_place),
        cmocka_unit_test(test_every_kind_of_sink_takes_messages),
        cmocka_unit_test(test_p1_no_success_before_the_sinks_own_report),
        cmocka_unit_test(test_p2_a_lost_answer_is_unknown_and_not_tried_again),
        cmocka_unit_test(test_what_was_not_sent_is_tried_again),
        cmocka_unit_test(test_given_up_after_retry_for_ms),
        cmocka_unit_test(test_p12_hopeless_errors_are_not_tried_again),
        cmocka_unit_test(test_topics_are_checked),
        cmocka_unit_test(test_topics_are_allowed_by_pattern_and_prefixed),
        cmocka_unit_test(test_p13_headers_go_out_byte_for_byte),
        cmocka_unit_test(test_p13_headers_that_cannot_be_carried_are_refused),
        cmocka_unit_test(test_p15_null_is_not_empty),
        cmocka_unit_test(test_sizes_are_checked),
        cmocka_unit_test(test_results_stand_in_request_order),
        cmocka_unit_test(test_an_empty_batch_succeeds),
        cmocka_unit_test(test_p11_only_what_failed_is_sent_again),
        cmocka_unit_test(test_a_sink_without_batches_gets_single_messages),
        cmocka_unit_test(test_a_sink_that_gathers_gets_more_at_a_time),
        cmocka_unit_test(test_permits_bound_all_calls_of_a_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
