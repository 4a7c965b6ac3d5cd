/* Messages that are sent behind others: their order, what they count, and how they end. */
#include "tests/unit/rpc/rpc_service.h"

/* The first message is more than a client's window, so it is not taken before it is read. */
enum { FIRST = BIG_BYTES, MESSAGES = 40, BEHIND = (CALL_SENDS - 1) * AHEAD_TEXT, SLACK = 4096 };

static const char held_bytes[] = "\nprism_rpc_held_bytes ";
static const char unread_answers[] = "\nprism_rpc_unread_answers_total ";

static void begin(struct client_call *c, struct fixture *f, size_t first_bytes, bool larger,
                  gpr_timespec deadline)
{
    Request request = PRISM__PATTERNS__KEYVALUE__STORE_REQUEST__INIT;
    uint8_t value[MESSAGES] = {larger}, packed[MESSAGES + 64];
    char key[32];

    snprintf(key, sizeof key, "%zu", first_bytes);
    atomic_store(&ahead_sent, 0);
    atomic_store(&ahead_taken, 0);
    atomic_store(&ahead_failed, 0);
    request.key = key;
    request.value = (ProtobufCBinaryData){.data = value, .len = MESSAGES};
    client_begin(c, &f->client, "/test.Service/Ahead", deadline, NULL);
    client_send(c, packed, prism__patterns__keyvalue__store_request__pack(&request, packed));
    client_half_close(c);
}

static void expect_message(struct client_call *c, int32_t number, size_t bytes)
{
    uint8_t *out = NULL;
    size_t len = 0;

    assert_true(client_receive(c, &out, &len));

    Response *response = prism__patterns__keyvalue__store_response__unpack(NULL, len, out);

    assert_non_null(response);
    assert_int_equal(response->code, number);
    assert_int_equal(strlen(response->error), bytes);
    prism__patterns__keyvalue__store_response__free_unpacked(response, NULL);
    gpr_free(out);
}

static void end(struct client_call *c, struct fixture *f)
{
    client_end(c);
    until_in_flight(f, 0);
    until_metric(f, held_bytes, 0);
    stop(f);
}

/* As far as it goes while the client reads nothing. */
static void begin_unread(struct client_call *c, struct fixture *f, gpr_timespec deadline)
{
    begin(c, f, FIRST, false, deadline);
    until(&ahead_sent, CALL_SENDS);
}

static void test_they_come_in_their_order(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c;
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    begin(&c, &f, AHEAD_TEXT, false, in_seconds(20));
    for (int32_t i = 1; i <= MESSAGES; i++)
        expect_message(&c, i, AHEAD_TEXT);
    assert_int_equal(client_last_status(&c), GRPC_STATUS_OK);
    assert_int_equal(atomic_load(&ahead_taken), MESSAGES);
    end(&c, &f);
}

static void test_they_count_while_nobody_reads(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c;
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    begin_unread(&c, &f, in_seconds(20));
    assert_in_range(metric(&f, held_bytes), FIRST + BEHIND, FIRST + BEHIND + SLACK);
    assert_int_equal(atomic_load(&ahead_taken), 0);
    assert_int_equal(atomic_load(&ahead_sent), CALL_SENDS);
    expect_message(&c, 1, FIRST);
    for (int32_t i = 2; i <= MESSAGES; i++)
        expect_message(&c, i, AHEAD_TEXT);
    assert_int_equal(client_last_status(&c), GRPC_STATUS_OK);
    end(&c, &f);
}

/* More than half of what may be held: then one at a time. */
static void test_none_goes_ahead_while_memory_is_short(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c;
    struct fixture f;

    (void)state;
    options.max_inflight_bytes = FIRST + FIRST / 2;
    start(&f, &options, 1, 64);
    begin(&c, &f, FIRST, false, in_seconds(20));
    until(&ahead_sent, 1);
    /* On the only worker, so behind the handler. */
    assert_int_equal(client_unary(&f.client, "/test.Service/Fail", "k", 1, in_seconds(20)),
                     GRPC_STATUS_INVALID_ARGUMENT);
    assert_int_equal(atomic_load(&ahead_sent), 1);
    expect_message(&c, 1, FIRST);
    for (int32_t i = 2; i <= MESSAGES; i++)
        expect_message(&c, i, AHEAD_TEXT);
    assert_int_equal(client_last_status(&c), GRPC_STATUS_OK);
    end(&c, &f);
}

/* Memory was ample, but not for this one: it is told after the one that is on its way. */
static void test_a_refused_one_keeps_its_place(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c;
    struct fixture f;

    (void)state;
    options.max_inflight_bytes = 2 * FIRST + SLACK;
    start(&f, &options, 1, 64);
    begin(&c, &f, FIRST, true, in_seconds(20));
    until(&ahead_sent, CALL_SENDS);
    assert_int_equal(atomic_load(&ahead_failed), 0);
    expect_message(&c, 1, FIRST);
    assert_int_equal(client_last_status(&c), GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(atomic_load(&ahead_taken), 1);
    assert_int_equal(atomic_load(&ahead_failed), atomic_load(&ahead_sent) - 1);
    end(&c, &f);
}

static void test_all_fail_when_the_client_goes(void **state)
{
    struct rpc_options options = default_options();

    (void)state;
    for (int late = 0; late < 2; late++) {
        struct client_call c;
        struct fixture f;

        start(&f, &options, 1, 64);
        begin_unread(&c, &f, in_seconds(late ? 1 : 20));
        if (!late)
            grpc_call_cancel(c.call, NULL);
        assert_int_equal(client_status(&c),
                         late ? GRPC_STATUS_DEADLINE_EXCEEDED : GRPC_STATUS_CANCELLED);
        until(&ahead_failed, CALL_SENDS);
        end(&c, &f);
        assert_int_equal(atomic_load(&ahead_taken), 0);
        assert_int_equal(atomic_load(&ahead_sent), CALL_SENDS);
    }
}

static void test_all_fail_when_nothing_is_taken_in_time(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c;
    struct fixture f;

    (void)state;
    options.unread_answer_ms = 100;
    start(&f, &options, 1, 64);
    begin_unread(&c, &f, in_seconds(20));
    until_metric(&f, unread_answers, 1);
    until(&ahead_failed, CALL_SENDS);
    assert_int_not_equal(client_last_status(&c), GRPC_STATUS_OK);
    end(&c, &f);
    assert_int_equal(atomic_load(&ahead_taken), 0);
}

/* The time of the drain is up before the client reads: nothing is left behind. */
static void test_a_drain_gives_them_up_in_time(void **state)
{
    struct rpc_options options = default_options();
    struct rpc_drain_report report;
    struct client_call c;
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    begin_unread(&c, &f, in_seconds(20));
    rpc_server_drain(f.server, 50, &report, NULL, NULL);
    assert_int_equal(report.abandoned, 1);
    until(&ahead_failed, CALL_SENDS);
    assert_int_not_equal(client_last_status(&c), GRPC_STATUS_OK);
    end(&c, &f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_they_come_in_their_order),
        cmocka_unit_test(test_they_count_while_nobody_reads),
        cmocka_unit_test(test_none_goes_ahead_while_memory_is_short),
        cmocka_unit_test(test_a_refused_one_keeps_its_place),
        cmocka_unit_test(test_all_fail_when_the_client_goes),
        cmocka_unit_test(test_all_fail_when_nothing_is_taken_in_time),
        cmocka_unit_test(test_a_drain_gives_them_up_in_time),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc sends ahead", tests, NULL, NULL);
    grpc_shutdown();
    return failed;
}
