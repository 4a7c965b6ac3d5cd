/* What calls hold, and how streams and queued calls behave when there is no room, or no time. */
#include "tests/unit/rpc/rpc_service.h"

#include <semaphore.h>

enum { KIB = 1024, LIMIT = 256 * KIB, MESSAGE = 40 * KIB, DEADLINE_MS = 300 };

/* ---- helpers ---- */

/* A StoreRequest with this key and so many bytes of value. */
static void send_request(struct client_call *c, const char *key, size_t value_bytes)
{
    Request request = PRISM__PATTERNS__KEYVALUE__STORE_REQUEST__INIT;
    uint8_t *value = calloc(1, value_bytes + 1), *packed = calloc(1, value_bytes + 64);

    request.key = (char *)(uintptr_t)key;
    request.value = (ProtobufCBinaryData){.data = value, .len = value_bytes};
    assert_true(
        client_send(c, packed, prism__patterns__keyvalue__store_request__pack(&request, packed)));
    free(packed);
    free(value);
}

static void begin_unary(struct client_call *c, struct fixture *f, const char *path,
                        size_t value_bytes)
{
    client_begin(c, &f->client, path, in_seconds(CALL_TIMEOUT_S), NULL);
    send_request(c, "k", value_bytes);
    client_half_close(c);
}

static void expect_echo(struct client_call *c)
{
    uint8_t *out = NULL;
    size_t len = 0;

    assert_true(client_receive(c, &out, &len));
    gpr_free(out);
}

static const char waiting[] = "\nprism_rpc_receives_waiting ";
static const char held_bytes[] = "\nprism_rpc_held_bytes ";

/* A parked call holds most of the limit; then a stream whose first message exceeds it. */
static void fill_up(struct fixture *f, struct client_call *parked, struct client_call *stream)
{
    struct rpc_options options = default_options();

    options.max_inflight_bytes = LIMIT;
    start(f, &options, 2, 64);
    begin_unary(parked, f, "/test.Service/Park", LIMIT - MESSAGE / 2);
    until(&parked_now, 1);
    client_begin(stream, &f->client, "/test.Service/Bidi", in_seconds(CALL_TIMEOUT_S), NULL);
    send_request(stream, "one", MESSAGE);
    expect_echo(stream);
    until_metric(f, waiting, 1);
}

static void end_all(struct fixture *f, struct client_call *parked, struct client_call *stream)
{
    client_end(parked);
    client_end(stream);
    until_in_flight(f, 0);
    until_metric(f, held_bytes, 0);
    stop(f);
}

/* Keeps a worker from its work until `go`. */
struct block_worker {
    struct job job;
    sem_t reached, go;
};

static void run_block(struct job *job)
{
    struct block_worker *block = CONTAINER_OF(job, struct block_worker, job);

    sem_post(&block->reached);
    sem_wait(&block->go);
}

static void block_worker(struct fixture *f, struct block_worker *block)
{
    *block = (struct block_worker){.job.run = run_block};
    sem_init(&block->reached, 0, 0);
    sem_init(&block->go, 0, 0);
    worker_land(pool_worker(f->pool, 0), &block->job);
    sem_wait(&block->reached);
}

/* ---- streams ---- */

static void test_a_stream_waits_for_room_and_goes_on(void **state)
{
    struct client_call parked, stream;
    struct fixture f;

    (void)state;
    fill_up(&f, &parked, &stream);
    assert_true(metric(&f, held_bytes) > LIMIT);
    send_request(&stream, "two", MESSAGE);
    assert_int_equal(atomic_load(&bidi_messages), 1); /* nobody asks gRPC for the second */
    grpc_call_cancel(parked.call, NULL);
    expect_echo(&stream);
    assert_int_equal(atomic_load(&bidi_messages), 2);
    client_half_close(&stream);
    assert_int_equal(client_last_status(&stream), GRPC_STATUS_OK);
    assert_int_equal(client_last_status(&parked), GRPC_STATUS_CANCELLED);
    end_all(&f, &parked, &stream);
}

static void test_a_waiting_stream_hears_that_its_client_has_gone(void **state)
{
    struct client_call parked, stream;
    struct fixture f;

    (void)state;
    fill_up(&f, &parked, &stream);
    grpc_call_cancel(stream.call, NULL);
    until(&bidi_failed, 1);
    until_metric(&f, waiting, 0);
    assert_int_equal(client_last_status(&stream), GRPC_STATUS_CANCELLED);
    grpc_call_cancel(parked.call, NULL);
    assert_int_equal(client_last_status(&parked), GRPC_STATUS_CANCELLED);
    end_all(&f, &parked, &stream);
}

/* Its messages stay in the call's arena: alone, it may exceed the limit rather than wait for
 * itself. */
static void test_the_only_stream_never_waits_for_ever(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c;
    struct fixture f;

    (void)state;
    options.max_inflight_bytes = 2 * MESSAGE;
    start(&f, &options, 1, 64);
    client_begin(&c, &f.client, "/test.Service/Bidi", in_seconds(CALL_TIMEOUT_S), NULL);
    for (int i = 0; i < 5; i++) {
        send_request(&c, "k", MESSAGE);
        expect_echo(&c);
    }
    client_half_close(&c);
    assert_int_equal(client_last_status(&c), GRPC_STATUS_OK);
    client_end(&c);
    until_in_flight(&f, 0);
    until_metric(&f, held_bytes, 0);
    stop(&f);
}

/* Runs on the poller, behind all that has come. */
static void pass_the_poller(struct fixture *f)
{
    assert_int_equal(client_unary(&f->client, "/test.Service/Echo", "k", 1, in_seconds(20)), 0);
}

/* A stream that has been answered once, and whose worker does nothing from now on. */
static void begin_blocked(struct fixture *f, struct client_call *c, struct block_worker *block)
{
    struct rpc_options options = default_options();

    start(f, &options, 1, 64);
    client_begin(c, &f->client, "/test.Service/Bidi", in_seconds(CALL_TIMEOUT_S), NULL);
    send_request(c, "k", 1);
    expect_echo(c);
    block_worker(f, block);
}

/* So many messages of `part` bytes while nobody takes them: they are read up to the bound. */
static void read_ahead(int parts, size_t part, uint64_t most)
{
    enum { AHEAD = 256 * KIB };

    struct block_worker block;
    struct client_call c;
    struct fixture f;

    begin_blocked(&f, &c, &block);
    for (int i = 0; i < parts; i++)
        send_request(&c, "k", part);
    while (metric(&f, held_bytes) < AHEAD)
        pass_the_poller(&f);
    pass_the_poller(&f);
    assert_true(metric(&f, held_bytes) < AHEAD + most);
    sem_post(&block.go);
    for (int i = 0; i < parts; i++)
        expect_echo(&c);
    client_half_close(&c);
    assert_int_equal(client_last_status(&c), GRPC_STATUS_OK);
    client_end(&c);
    until_in_flight(&f, 0);
    until_metric(&f, held_bytes, 0);
    stop(&f);
}

static void test_a_stream_is_read_ahead_within_a_bound(void **state)
{
    (void)state;
    read_ahead(36, 8 * KIB, 16 * KIB);
}

/* Many small messages cost memory of their own. */
static void test_small_messages_count(void **state)
{
    (void)state;
    read_ahead(2000, 1, 2 * KIB);
}

/* What nobody has asked for yet goes with the call. */
static void test_what_was_read_ahead_is_dropped_at_the_end(void **state)
{
    struct block_worker block;
    struct client_call c;
    struct fixture f;

    (void)state;
    begin_blocked(&f, &c, &block);
    send_request(&c, "end", 1); /* the handler ends the call */
    for (int i = 0; i < 3; i++)
        send_request(&c, "k", MESSAGE / 4);
    pass_the_poller(&f);
    sem_post(&block.go);
    client_last_status(&c);
    client_end(&c);
    until_in_flight(&f, 0);
    until_metric(&f, held_bytes, 0);
    stop(&f);
}

/* ---- the queue ---- */

/* The client was told that it failed: it must not happen afterwards. */
static void test_calls_that_are_over_are_not_carried_out(void **state)
{
    struct rpc_options options = default_options();
    struct block_worker block;
    struct client_call late;
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    block_worker(&f, &block);
    /* Runs on the poller; the connection stands afterwards. */
    assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)), 0);

    uint64_t passed_ns = clock_now_ns() + 2 * DEADLINE_MS * NS_PER_MS; /* on the server as well */
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(DEADLINE_MS, GPR_TIMESPAN));

    client_begin(&late, &f.client, "/test.Service/Park", deadline, NULL);
    send_request(&late, "k", 2 * INLINE_BYTES); /* too large for the poller */
    client_half_close(&late);
    assert_int_equal(client_last_status(&late), GRPC_STATUS_DEADLINE_EXCEEDED);
    while (clock_now_ns() < passed_ns)
        sched_yield();
    sem_post(&block.go);
    until_in_flight(&f, 0);
    assert_int_equal(metric(&f, "\nprism_rpc_expired_in_queue_total "), 1);
    assert_int_equal(atomic_load(&cancelled_ops), 0); /* nothing was begun */
    client_end(&late);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stream_waits_for_room_and_goes_on),
        cmocka_unit_test(test_a_waiting_stream_hears_that_its_client_has_gone),
        cmocka_unit_test(test_the_only_stream_never_waits_for_ever),
        cmocka_unit_test(test_a_stream_is_read_ahead_within_a_bound),
        cmocka_unit_test(test_small_messages_count),
        cmocka_unit_test(test_what_was_read_ahead_is_dropped_at_the_end),
        cmocka_unit_test(test_calls_that_are_over_are_not_carried_out),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc memory", tests, NULL, NULL);
    grpc_shutdown();
    return failed;
}
