/* When the client tries again and when it must not, shown by a server that fails on purpose. */
#include "tests/client/fixture.h"

#include "src/base/container.h"
#include "tests/client/breaking_peer.h"

#include <grpc/status.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 };

static const struct prism_channel_options quick = {
    .deadline_ms = PATIENCE_MS, .retry = {.max_attempts = 4, .initial_ms = 10, .max_ms = 100}};

static void answer(struct script_server *server, const char *method, int status, const char *text)
{
    script_once(server, (struct script_step){.method = method, .status = status, .text = text});
}

static void let_retrieve_find(struct script_server *server)
{
    Prism__Patterns__Keyvalue__RetrieveResponse found =
        PRISM__PATTERNS__KEYVALUE__RETRIEVE_RESPONSE__INIT;

    found.found = true;
    found.value = (ProtobufCBinaryData){.len = 5, .data = (uint8_t *)(uintptr_t) "value"};
    script_always(server, (struct script_step){.method = "Retrieve", .messages = {&found.base}});
}

static void let_store_succeed(struct script_server *server)
{
    Prism__Patterns__Keyvalue__StoreResponse stored =
        PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;

    stored.success = true;
    script_always(server, (struct script_step){.method = "Store", .messages = {&stored.base}});
}

static enum prism_code store(struct fixture *f, uint32_t deadline_ms)
{
    struct prism_store_options options = {.deadline_ms = deadline_ms};

    return prism_keyvalue_store(f->keyvalue, "key", prism_bytes_of("value", 5), &options, NULL,
                                &f->error);
}

static enum prism_code retrieve(struct fixture *f, uint32_t deadline_ms)
{
    struct prism_retrieve_options options = {.deadline_ms = deadline_ms};
    struct prism_value value;
    enum prism_code code = prism_keyvalue_retrieve(f->keyvalue, "key", &options, &value, &f->error);

    prism_value_free(&value);
    return code;
}

static void read_is_repeated_when_unavailable(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    let_retrieve_find(f.server);
    answer(f.server, "Retrieve", GRPC_STATUS_UNAVAILABLE, "backend down");
    answer(f.server, "Retrieve", GRPC_STATUS_UNAVAILABLE, "backend down");
    assert_ok(retrieve(&f, 0), f.error);
    assert_int_equal(script_calls(f.server, "Retrieve"), 3);
    assert_string_equal(f.error.message, "");
    fixture_close(&f);
}

static void read_gives_up_after_the_last_attempt(void **state)
{
    uint64_t begin;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    script_always(f.server, (struct script_step){.method = "Retrieve",
                                                 .status = GRPC_STATUS_UNAVAILABLE,
                                                 .text = "backend down"});
    begin = now_ms();
    assert_int_equal(retrieve(&f, 0), PRISM_UNAVAILABLE);
    assert_int_equal(script_calls(f.server, "Retrieve"), 4);
    assert_string_equal(f.error.message, "backend down");
    assert_true(f.error.retryable);
    /* Three waits of at least half of 10, 20 and 40 ms. */
    assert_in_range(now_ms() - begin, 35, PATIENCE_MS);
    fixture_close(&f);
}

static void write_is_not_repeated_when_its_outcome_is_unknown(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    let_store_succeed(f.server);
    answer(f.server, "Store", GRPC_STATUS_UNAVAILABLE, "connection to the backend lost");
    assert_int_equal(store(&f, 0), PRISM_UNAVAILABLE);
    assert_int_equal(script_calls(f.server, "Store"), 1);
    assert_false(f.error.retryable);
    fixture_close(&f);
}

/* A server that stops resets calls that reach it too late; to the caller that is no cancellation.
 */
static void call_broken_off_by_the_server_is_unavailable(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    let_store_succeed(f.server);
    let_retrieve_find(f.server);
    answer(f.server, "Store", GRPC_STATUS_CANCELLED, "CANCELLED");
    assert_int_equal(store(&f, 0), PRISM_UNAVAILABLE);
    assert_false(f.error.retryable);
    assert_int_equal(script_calls(f.server, "Store"), 1);
    answer(f.server, "Retrieve", GRPC_STATUS_CANCELLED, "CANCELLED");
    assert_ok(retrieve(&f, 0), f.error);
    assert_int_equal(script_calls(f.server, "Retrieve"), 2);
    fixture_close(&f);
}

static void write_is_repeated_when_admission_refused_it(void **state)
{
    uint64_t begin;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    let_store_succeed(f.server);
    script_once(f.server, (struct script_step){.method = "Store",
                                               .status = GRPC_STATUS_RESOURCE_EXHAUSTED,
                                               .text = "too many calls",
                                               .retry_after_ms = 300});
    begin = now_ms();
    assert_ok(store(&f, 0), f.error);
    assert_int_equal(script_calls(f.server, "Store"), 2);
    /* Our own wait would have been 10 ms; the server asked for more. */
    assert_in_range(now_ms() - begin, 300, PATIENCE_MS);
    fixture_close(&f);
}

static void write_is_repeated_when_a_draining_server_refused_it(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    let_store_succeed(f.server);
    script_once(f.server, (struct script_step){.method = "Store",
                                               .status = GRPC_STATUS_UNAVAILABLE,
                                               .text = "the server is draining",
                                               .subject = "draining",
                                               .retry_after_ms = 20});
    assert_ok(store(&f, 0), f.error);
    assert_int_equal(script_calls(f.server, "Store"), 2);
    fixture_close(&f);
}

/* UNAVAILABLE does not say which of the two it is; the server does. */
static void write_is_repeated_when_nothing_happened(void **state)
{
    struct script_step lost = {.method = "Store",
                               .status = GRPC_STATUS_UNAVAILABLE,
                               .text = "the backend is not reached",
                               .effect = "none"};
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    let_store_succeed(f.server);
    script_once(f.server, lost);
    assert_ok(store(&f, 0), f.error);
    assert_int_equal(script_calls(f.server, "Store"), 2);

    lost.effect = "unknown";
    script_once(f.server, lost);
    assert_int_equal(store(&f, 0), PRISM_UNAVAILABLE);
    assert_int_equal(script_calls(f.server, "Store"), 3);
    assert_false(f.error.retryable);

    lost.status = GRPC_STATUS_RESOURCE_EXHAUSTED; /* a delay does not make it known */
    lost.retry_after_ms = 1;
    script_once(f.server, lost);
    assert_int_equal(store(&f, 0), PRISM_RESOURCE_EXHAUSTED);
    assert_false(f.error.retryable);
    fixture_close(&f);
}

static void exhaustion_without_advice_is_not_repeated(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    let_retrieve_find(f.server);
    answer(f.server, "Retrieve", GRPC_STATUS_RESOURCE_EXHAUSTED, "answer too large");
    assert_int_equal(retrieve(&f, 0), PRISM_RESOURCE_EXHAUSTED);
    assert_int_equal(script_calls(f.server, "Retrieve"), 1);
    assert_false(f.error.retryable);
    fixture_close(&f);
}

static void other_codes_are_not_repeated(void **state)
{
    static const int codes[] = {GRPC_STATUS_INVALID_ARGUMENT,    GRPC_STATUS_INTERNAL,
                                GRPC_STATUS_FAILED_PRECONDITION, GRPC_STATUS_PERMISSION_DENIED,
                                GRPC_STATUS_UNIMPLEMENTED,       GRPC_STATUS_ABORTED};
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    let_retrieve_find(f.server);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        answer(f.server, "Retrieve", codes[i], "no");
        assert_int_equal(retrieve(&f, 0), codes[i]);
        assert_int_equal(script_calls(f.server, "Retrieve"), i + 1);
    }
    fixture_close(&f);
}

static void advice_beyond_the_deadline_ends_the_call_at_once(void **state)
{
    uint64_t begin;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    script_always(f.server, (struct script_step){.method = "Store",
                                                 .status = GRPC_STATUS_RESOURCE_EXHAUSTED,
                                                 .text = "too many calls",
                                                 .retry_after_ms = 60000});
    begin = now_ms();
    assert_int_equal(store(&f, 15000), PRISM_RESOURCE_EXHAUSTED);
    assert_in_range(now_ms() - begin, 0, 10000);
    assert_int_equal(script_calls(f.server, "Store"), 1);
    assert_int_equal(f.error.retry_after_ms, 60000);
    assert_true(f.error.retryable);
    fixture_close(&f);
}

static void deadline_ends_a_call_and_travels_with_it(void **state)
{
    uint64_t begin;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    script_always(f.server, (struct script_step){.method = "Retrieve", .hang = true});
    begin = now_ms();
    assert_int_equal(retrieve(&f, 200), PRISM_DEADLINE_EXCEEDED);
    assert_in_range(now_ms() - begin, 190, PATIENCE_MS);
    assert_in_range(script_last_deadline_ms(f.server), 1, 250); /* gRPC rounds it up on its way */
    assert_string_equal(f.error.message, "Retrieve: no answer within 200 ms");
    assert_false(f.error.retryable);
    assert_int_equal(script_calls(f.server, "Retrieve"), 1);
    fixture_close(&f);
}

/* It may know that nothing was done. The words may be gRPC's own: it is not they that tell. */
static void what_the_server_says_of_a_deadline_is_told(void **state)
{
    static const char *const texts[] = {"not sent in time: nothing was done", "Deadline Exceeded"};
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        answer(f.server, "Store", GRPC_STATUS_DEADLINE_EXCEEDED, texts[i]);
        assert_int_equal(store(&f, PATIENCE_MS), PRISM_DEADLINE_EXCEEDED);
        assert_string_equal(f.error.message, texts[i]);
        assert_false(f.error.retryable);
    }
    fixture_close(&f);
}

static void channel_gives_the_deadline_that_a_call_lacks(void **state)
{
    const struct prism_channel_options options = {.deadline_ms = 250};
    struct fixture f;

    (void)state;
    fixture_open(&f, &options);
    script_always(f.server, (struct script_step){.method = "Store", .hang = true});
    assert_int_equal(store(&f, 0), PRISM_DEADLINE_EXCEEDED);
    assert_string_equal(f.error.message, "Store: no answer within 250 ms");
    fixture_close(&f);
}

/* Until the client has noticed that the server is gone, a write may still go out on the old
 * connection. */
static void await_refused_write(struct fixture *f)
{
    uint64_t until = now_ms() + PATIENCE_MS;

    do {
        assert_int_equal(store(f, 0), PRISM_UNAVAILABLE);
    } while (!f->error.retryable && now_ms() < until);
    assert_true(f->error.retryable);
}

/* However the address is written, the client tells a write that was sent from one that was not. */
static void every_kind_of_target_tells_what_was_sent(void **state)
{
    static const char *const forms[] = {"127.0.0.1:%d",        "ipv4:127.0.0.1:%d",
                                        "localhost:%d",        "dns:127.0.0.1:%d",
                                        "dns:///127.0.0.1:%d", "ipv4:127.0.0.1:%d,127.0.0.2:%d"};
    static const char *const socket_forms[] = {"unix:/%s", "unix:///%s", "unix:%s"};

    (void)state;
    assert_int_equal(chdir("/"), 0); /* the last form is relative */
    for (size_t i = 0; i < ARRAY_LEN(forms) + ARRAY_LEN(socket_forms); i++) {
        struct fixture f = {.server = script_server_start(0)};
        int port = script_server_port(f.server);
        char target[256];

        if (i < ARRAY_LEN(forms))
            snprintf(target, sizeof target, forms[i], port, port);
        else
            snprintf(target, sizeof target, socket_forms[i - ARRAY_LEN(forms)],
                     script_server_socket(f.server) + 1);
        offer_everything(f.server);
        fixture_connect(&f, target, &quick);
        answer(f.server, "Store", GRPC_STATUS_UNAVAILABLE, "connection to the backend lost");
        assert_int_equal(store(&f, 0), PRISM_UNAVAILABLE);
        assert_int_equal(script_calls(f.server, "Store"), 1);
        assert_false(f.error.retryable);
        script_server_stop(f.server);
        f.server = NULL;
        await_refused_write(&f);
        fixture_close(&f);
    }
}

static void *store_on_thread(void *arg)
{
    struct fixture *f = arg;

    store(f, PATIENCE_MS);
    return NULL;
}

static void write_survives_a_restart_because_nothing_was_sent(void **state)
{
    const struct prism_channel_options patient = {
        .deadline_ms = PATIENCE_MS,
        .retry = {.max_attempts = 1000, .initial_ms = 10, .max_ms = 50}};
    const struct prism_channel_options hasty = {.retry = {.max_attempts = 1}};
    struct fixture f, probe;
    pthread_t thread;
    int port;

    (void)state;
    fixture_open(&f, &patient);
    port = script_server_port(f.server);
    memset(&probe, 0, sizeof probe);
    assert_ok(prism_channel_open(script_server_target(f.server), &hasty, &probe.channel, NULL),
              probe.error);
    assert_ok(prism_keyvalue_open(probe.channel, &probe.keyvalue, &probe.error), probe.error);
    script_server_stop(f.server);
    await_refused_write(&probe);

    /* The patient one has found, or will find, nobody there; then somebody is. */
    pthread_create(&thread, NULL, store_on_thread, &f);
    await_refused_write(&probe);
    f.server = script_server_start(port);
    let_store_succeed(f.server);
    pthread_join(thread, NULL);
    assert_ok(f.error.code, f.error);
    assert_int_equal(script_calls(f.server, "Store"), 1);
    fixture_close(&probe);
    fixture_close(&f);
}

static void broken_connection_repeats_reads_only(void **state)
{
    struct breaking_peer *peer;
    struct fixture f;
    unsigned before;
    int port;

    (void)state;
    fixture_open(&f, &quick);
    port = script_server_port(f.server);
    script_server_stop(f.server);
    f.server = NULL;
    await_refused_write(&f);
    peer = breaking_peer_start(port);

    /* The channel comes back on its own time, so writes are refused for a while yet; but sooner
     * than by gRPC's own look at its sockets, every 5 s. */
    for (uint64_t until = now_ms() + 4500; breaking_peer_requests(peer) == 0;) {
        assert_int_equal(store(&f, 0), PRISM_UNAVAILABLE);
        assert_true(now_ms() < until);
    }
    assert_int_equal(breaking_peer_requests(peer), 1);
    assert_false(f.error.retryable);

    before = breaking_peer_requests(peer);
    for (uint64_t until = now_ms() + PATIENCE_MS; breaking_peer_requests(peer) < before + 2;) {
        assert_int_equal(retrieve(&f, 0), PRISM_UNAVAILABLE);
        assert_true(f.error.retryable);
        assert_true(now_ms() < until);
    }
    fixture_close(&f);
    breaking_peer_stop(peer);
}

static void nobody_there_is_unavailable(void **state)
{
    const struct prism_channel_options options = {.retry = {.max_attempts = 2, .initial_ms = 1}};
    struct script_server *server = script_server_start(0);
    struct prism_channel *channel;
    struct prism_keyvalue *keyvalue;
    struct prism_error error;
    char target[64];

    (void)state;
    memcpy(target, script_server_target(server), strlen(script_server_target(server)) + 1);
    script_server_stop(server);
    assert_ok(prism_channel_open(target, &options, &channel, &error), error);
    assert_int_equal(prism_keyvalue_open(channel, &keyvalue, &error), PRISM_UNAVAILABLE);
    assert_null(keyvalue);
    assert_true(error.retryable);
    assert_non_null(strstr(error.message, "onnect"));
    prism_channel_close(channel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_is_repeated_when_unavailable),
        cmocka_unit_test(read_gives_up_after_the_last_attempt),
        cmocka_unit_test(write_is_not_repeated_when_its_outcome_is_unknown),
        cmocka_unit_test(call_broken_off_by_the_server_is_unavailable),
        cmocka_unit_test(write_is_repeated_when_admission_refused_it),
        cmocka_unit_test(write_is_repeated_when_a_draining_server_refused_it),
        cmocka_unit_test(write_is_repeated_when_nothing_happened),
        cmocka_unit_test(exhaustion_without_advice_is_not_repeated),
        cmocka_unit_test(other_codes_are_not_repeated),
        cmocka_unit_test(advice_beyond_the_deadline_ends_the_call_at_once),
        cmocka_unit_test(deadline_ends_a_call_and_travels_with_it),
        cmocka_unit_test(what_the_server_says_of_a_deadline_is_told),
        cmocka_unit_test(channel_gives_the_deadline_that_a_call_lacks),
        cmocka_unit_test(every_kind_of_target_tells_what_was_sent),
        cmocka_unit_test(write_survives_a_restart_because_nothing_was_sent),
        cmocka_unit_test(broken_connection_repeats_reads_only),
        cmocka_unit_test(nobody_there_is_unavailable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
