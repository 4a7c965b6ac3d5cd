/* Acknowledgements of large frames: no larger than clients take, and nothing is left out. */
#include "tests/pattern/producer/producer.h"

enum { N = 10000, ACK_BYTES = (1 << 20) + 4096, ID_BYTES = 256 };

/* Every third one goes nowhere. */
static void push_large(struct fake_rig *rig, struct call *call, bool with_results)
{
    pb_publish_request *items = calloc(N, sizeof *items), **pointers = calloc(N, sizeof *pointers);
    pb_publish_frame frame = PRISM__PATTERNS__PRODUCER__PUBLISH_FRAME__INIT;
    char(*ids)[ID_BYTES + 1] = calloc(N, sizeof *ids);

    assert_true(items != NULL && pointers != NULL && ids != NULL);
    for (int i = 0; i < N; i++) {
        snprintf(ids[i], sizeof ids[i], "%0*d", ID_BYTES, i);
        items[i] = message_to(i % 3 == 2 ? "bad topic" : "orders", "x");
        set_id(&items[i], ids[i]);
        pointers[i] = &items[i];
    }
    frame.messages = pointers;
    frame.n_messages = N;
    frame.with_results = with_results;
    frame.failure_mode = PB(FAILURE_MODE__CONTINUE);
    fake_call_push(call, &frame.base);
    fake_rig_run(rig);
    free(items);
    free(pointers);
    free(ids);
}

struct told {
    int64_t messages, failures, results;
};

static void read_ack(struct told *told, const pb_publish_ack *ack, bool with_results)
{
    assert_true(protobuf_c_message_get_packed_size(&ack->base) <= ACK_BYTES);
    assert_true(ack->settled_through >= told->messages);
    for (size_t i = 0; i < ack->n_failures; i++) {
        assert_int_equal(ack->failures[i]->sequence, 3 * ++told->failures);
        assert_int_equal(ack->failures[i]->code, ERR_INVALID_ARGUMENT);
    }
    for (size_t i = 0; i < ack->n_results; i++) {
        if (ack->results[i]->success)
            assert_int_equal(strtol(ack->results[i]->message_id, NULL, 10), told->results);
        assert_int_equal(ack->results[i]->success, told->results++ % 3 != 2);
    }
    told->messages = ack->settled_through;
    assert_int_equal(ack->failure_count, told->failures);
    assert_int_equal(ack->success_count + ack->failure_count, told->messages);
    if (with_results)
        assert_int_equal(told->results, told->messages);
}

static void test_a_large_frame_is_told_in_parts(void **state)
{
    (void)state;
    for (int with_results = 0; with_results < 2; with_results++) {
        struct fake_rig *rig = producer_rig(FAKE_STREAM);
        struct call *call = stream_open(rig);
        struct told told = {0};

        push_large(rig, call, with_results);
        fake_call_push(call, NULL);
        fake_rig_run(rig);
        assert_int_equal(call->ends, 1);
        assert_int_equal(call->status.code, ERR_OK);
        for (size_t i = 0; i < call->sent_count; i++)
            read_ack(&told, ack_at(call, i), with_results);
        assert_int_equal(told.messages, N);
        assert_int_equal(told.failures, N / 3);
        fake_call_free(call);
        producer_free(rig);
    }
}

/* What is told in parts is kept until the last of them. */
static void test_a_client_that_goes_between_the_parts(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    struct call *call = stream_open(rig);

    (void)state;
    call->slow_reader = true;
    push_large(rig, call, true);
    assert_true(fake_call_take(call));
    fake_rig_run(rig);
    assert_in_range(last_ack(call)->settled_through, 1, N - 1);
    fake_call_cancel(call);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    fake_call_free(call);
    producer_free(rig);
}

static void test_what_is_announced_fits_a_message(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    const Prism__Patterns__Producer__Capabilities *caps;
    pb_publish_request request = message_to("orders", "");
    struct call *call;
    uint8_t *payload;

    (void)state;
    rig->max_message_bytes = 32768;
    fake_rig_bind(rig);
    call = fake_call(rig, "GetCapabilities", NULL);
    caps = (const void *)call->reply;
    assert_int_equal(caps->max_message_size, 32768 - 8192);
    payload = calloc(1, (size_t)caps->max_message_size + 1);
    assert_non_null(payload);
    request.payload = (ProtobufCBinaryData){.len = (size_t)caps->max_message_size, .data = payload};
    assert_true(protobuf_c_message_get_packed_size(&request.base) <= rig->max_message_bytes);
    fake_call_free(call);
    call = fake_call(rig, "Publish", &request.base);
    fake_rig_run(rig);
    assert_true(answer_of(call)->success);
    fake_call_free(call);
    request.payload.len++;
    call = fake_call(rig, "Publish", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    fake_call_free(call);
    free(payload);
    producer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_large_frame_is_told_in_parts),
        cmocka_unit_test(test_a_client_that_goes_between_the_parts),
        cmocka_unit_test(test_what_is_announced_fits_a_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
