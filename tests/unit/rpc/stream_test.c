/* src/rpc against a C-core client: streams, and how calls end when the server drains. */
#include "tests/unit/rpc/rpc_service.h"

static void test_server_stream(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c;
    uint8_t request[2000] = {0x12, 0xc4, 0x13}; /* field 2, 2500 bytes: not complete */
    Request message = PRISM__PATTERNS__KEYVALUE__STORE_REQUEST__INIT;
    uint8_t value[500] = {0};
    int n = 0;

    (void)state;
    start(&f, &options, 2, 64);
    message.key = (char *)(uintptr_t) "k";
    message.value = (ProtobufCBinaryData){.data = value, .len = sizeof value};
    size_t len = prism__patterns__keyvalue__store_request__pack(&message, request);

    client_begin(&c, &f.client, "/test.Service/Stream", in_seconds(20), NULL);
    client_send(&c, request, len);
    client_half_close(&c);
    for (;;) {
        uint8_t *out = NULL;
        size_t out_len = 0;

        if (!client_receive(&c, &out, &out_len))
            break;
        Response *response = prism__patterns__keyvalue__store_response__unpack(NULL, out_len, out);

        assert_non_null(response);
        assert_int_equal(response->code, 500 - n);
        prism__patterns__keyvalue__store_response__free_unpacked(response, NULL);
        gpr_free(out);
        n++;
    }
    assert_int_equal(n, 500);
    assert_int_equal(client_status(&c), 0);
    client_end(&c);
    stop(&f);
}

static void send_key(struct client_call *c, const char *key)
{
    uint8_t bytes[64] = {0x0a, (uint8_t)strlen(key)};

    memcpy(bytes + 2, key, strlen(key));
    assert_true(client_send(c, bytes, 2 + strlen(key)));
}

static void test_bidi(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    for (int end = 0; end < 2; end++) {
        struct client_call c;
        uint8_t *out = NULL;
        size_t len = 0;

        client_begin(&c, &f.client, "/test.Service/Bidi", in_seconds(20), NULL);
        for (int i = 0; i < 50; i++) {
            send_key(&c, "hello");
            assert_true(client_receive(&c, &out, &len));
            gpr_free(out);
        }
        if (end)
            send_key(&c, "end"); /* ends with a receive outstanding on the server */
        else
            client_half_close(&c);
        assert_int_equal(client_status(&c), 0);
        client_end(&c);
    }
    stop(&f);
}

static void test_waiting_stream_is_told(void **state)
{
    struct fixture f;

    (void)state;
    for (int drain = 0; drain < 2; drain++) {
        struct rpc_options options = default_options();
        struct rpc_drain_report report;
        struct client_call c;

        start(&f, &options, 1, 64);
        client_begin(&c, &f.client, "/test.Service/Wait", in_seconds(20), NULL);
        client_send(&c, "", 0);
        client_half_close(&c);
        until(&parked_now, 1);
        if (drain) {
            rpc_server_drain(f.server, 20000, &report, NULL, NULL);
            assert_int_equal(report.abandoned, 0);
            assert_int_equal(report.in_flight, 1);
            assert_int_equal(report.finished, 1);
        } else {
            grpc_call_cancel(c.call, NULL);
        }
        until(&cancelled_ops, 1);
        assert_int_equal(client_status(&c),
                         drain ? GRPC_STATUS_UNAVAILABLE : GRPC_STATUS_CANCELLED);
        client_end(&c);
        stop(&f);
    }
}

/* A drain does not use up the news that the client has gone. */
static void test_drain_and_cancellation_are_two_things(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c;

    (void)state;
    start(&f, &options, 1, 64);
    client_begin(&c, &f.client, "/test.Service/Wait", in_seconds(20), NULL);
    send_key(&c, "stay");
    client_half_close(&c);
    until(&parked_now, 1);
    rpc_server_refuse(f.server);
    until(&drains, 2); /* told, and told at once when it asked again */
    assert_int_equal(atomic_load(&cancelled_ops), 0);
    grpc_call_cancel(c.call, NULL);
    until(&cancelled_ops, 1);
    assert_int_equal(client_status(&c), GRPC_STATUS_CANCELLED);
    client_end(&c);
    stop(&f);
}

/* What stays is spread, and places of those that have gone are taken again. */
static void test_streams_are_spread_over_the_workers(void **state)
{
    enum { WORKERS = 4, EACH = 5, STREAMS = WORKERS * EACH };
    struct rpc_options options = default_options();
    struct client_call calls[STREAMS];
    struct fixture f;

    (void)state;
    start(&f, &options, WORKERS, 64);
    for (uint64_t round = 1; round <= 2; round++) {
        for (int i = 0; i < STREAMS; i++) {
            client_begin(&calls[i], &f.client, "/test.Service/Wait", in_seconds(20), NULL);
            send_key(&calls[i], "k");
            client_half_close(&calls[i]);
        }
        until(&parked_now, (int)round * STREAMS);
        for (int worker = 0; worker < WORKERS; worker++) {
            char line[64];

            snprintf(line, sizeof line, "\nprism_worker_jobs_total{worker=\"%d\"} ", worker);
            until_metric(&f, line, round * EACH);
        }
        for (int i = 0; i < STREAMS; i++) {
            grpc_call_cancel(calls[i].call, NULL);
            client_last_status(&calls[i]);
            client_end(&calls[i]);
        }
        until_in_flight(&f, 0);
    }
    stop(&f);
}

static bool has_header(const struct client_call *c, const char *name, const char *value)
{
    for (size_t i = 0; i < c->initial.count; i++) {
        if (grpc_slice_str_cmp(c->initial.metadata[i].key, name) == 0)
            return grpc_slice_str_cmp(c->initial.metadata[i].value, value) == 0;
    }
    return false;
}

static void test_headers_come_before_any_message(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c;
    grpc_op op = {.op = GRPC_OP_RECV_INITIAL_METADATA};

    (void)state;
    start(&f, &options, 1, 64);
    client_begin(&c, &f.client, "/test.Service/Parts", in_seconds(20), NULL);
    send_key(&c, "hold");
    client_half_close(&c);
    op.data.recv_initial_metadata.recv_initial_metadata = &c.initial;
    c.has_initial = true;
    assert_true(client_batch(&c, &op, 1)); /* the server waits and sends nothing else */
    assert_true(has_header(&c, "x-prism-subscription-id", "s-1"));
    grpc_call_cancel(c.call, NULL);
    until(&cancelled_ops, 1);
    assert_int_equal(client_status(&c), GRPC_STATUS_CANCELLED);
    client_end(&c);
    stop(&f);
}

static void test_parts_make_messages_and_give_their_block_back(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c;
    uint8_t *out = NULL;
    size_t len = 0;

    (void)state;
    start(&f, &options, 2, 64);
    client_begin(&c, &f.client, "/test.Service/Parts", in_seconds(20), NULL);
    send_key(&c, "k");
    client_half_close(&c);
    for (int left = PARTS_SENT; left > 0; left--) {
        assert_true(client_receive(&c, &out, &len));
        Response *response = prism__patterns__keyvalue__store_response__unpack(NULL, len, out);

        assert_non_null(response);
        assert_int_equal(strlen(response->error), PARTS_PAYLOAD);
        assert_int_equal(response->code, left);
        prism__patterns__keyvalue__store_response__free_unpacked(response, NULL);
        gpr_free(out);
    }
    assert_int_equal(client_last_status(&c), GRPC_STATUS_OK);
    assert_true(has_header(&c, "x-prism-subscription-id", "s-1"));
    client_end(&c);
    until(&blocks_disposed, 1);
    stop(&f);
}

/* The client goes while gRPC still holds the block. */
static void test_a_block_comes_back_from_a_broken_send(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c;

    (void)state;
    start(&f, &options, 1, 64);
    client_begin(&c, &f.client, "/test.Service/Parts", in_seconds(20), NULL);
    send_key(&c, "k");
    client_half_close(&c);
    grpc_call_cancel(c.call, NULL);
    assert_int_equal(client_last_status(&c), GRPC_STATUS_CANCELLED);
    client_end(&c);
    until_in_flight(&f, 0);
    stop(&f); /* the handler may not have begun: what began has to be over */
    assert_in_range(atomic_load(&blocks_disposed), 0, 1);
}

static void test_drain_gives_up_in_time(void **state)
{
    struct rpc_options options = default_options();
    struct rpc_drain_report report;
    struct fixture f;
    struct client_call c;

    (void)state;
    start(&f, &options, 1, 64);
    client_begin(&c, &f.client, "/test.Service/Park", in_seconds(20), NULL);
    client_send(&c, "", 0);
    client_half_close(&c);
    until(&parked_now, 1);
    rpc_server_drain(f.server, 50, &report, NULL, NULL);
    assert_int_equal(report.abandoned, 1);
    assert_int_not_equal(client_status(&c), 0);
    until(&parked_now, 0);
    client_end(&c);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_stream),
        cmocka_unit_test(test_bidi),
        cmocka_unit_test(test_waiting_stream_is_told),
        cmocka_unit_test(test_drain_and_cancellation_are_two_things),
        cmocka_unit_test(test_streams_are_spread_over_the_workers),
        cmocka_unit_test(test_headers_come_before_any_message),
        cmocka_unit_test(test_parts_make_messages_and_give_their_block_back),
        cmocka_unit_test(test_a_block_comes_back_from_a_broken_send),
        cmocka_unit_test(test_drain_gives_up_in_time),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc streams", tests, NULL, NULL);
    grpc_shutdown();
    return failed;
}
