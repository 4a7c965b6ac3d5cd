/* One client, many threads; and calls without a waiting thread. */
#include "tests/client/fixture.h"

#include <grpc/status.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>

enum { THREADS = 8, CALLS = 100, ASYNC_CALLS = 500 };

static const struct prism_channel_options quick = {
    .deadline_ms = 30000, .retry = {.max_attempts = 3, .initial_ms = 5, .max_ms = 20}};

static void serve_values(struct script_server *server)
{
    Prism__Patterns__Keyvalue__RetrieveResponse found =
        PRISM__PATTERNS__KEYVALUE__RETRIEVE_RESPONSE__INIT;
    Prism__Patterns__Keyvalue__StoreResponse stored =
        PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;
    Prism__Patterns__Keyvalue__RemoveResponse removed =
        PRISM__PATTERNS__KEYVALUE__REMOVE_RESPONSE__INIT;

    found.found = true;
    found.value = (ProtobufCBinaryData){.len = 5, .data = (uint8_t *)(uintptr_t) "value"};
    stored.success = removed.success = removed.existed = true;
    script_always(server, (struct script_step){.method = "Retrieve", .messages = {&found.base}});
    script_always(server, (struct script_step){.method = "Store", .messages = {&stored.base}});
    script_always(server, (struct script_step){.method = "Remove", .messages = {&removed.base}});
}

static void *store_and_retrieve(void *arg)
{
    struct prism_keyvalue *keyvalue = arg;
    uintptr_t failed = 0;

    for (int i = 0; i < CALLS; i++) {
        struct prism_value value;
        struct prism_error error;

        failed += prism_keyvalue_store(keyvalue, "k", prism_bytes_of("value", 5), NULL, NULL,
                                       &error) != PRISM_OK;
        failed += prism_keyvalue_retrieve(keyvalue, "k", NULL, &value, &error) != PRISM_OK ||
                  value.data.len != 5;
        prism_value_free(&value);
    }
    return (void *)failed;
}

static void threads_share_a_client(void **state)
{
    pthread_t threads[THREADS];
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    serve_values(f.server);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, store_and_retrieve, f.keyvalue), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(script_calls(f.server, "Store"), THREADS * CALLS);
    assert_int_equal(script_calls(f.server, "Retrieve"), THREADS * CALLS);
    fixture_close(&f);
}

/* ---- asynchronous ---- */

struct tally {
    struct prism_keyvalue *keyvalue;
    atomic_uint stored, retrieved, removed, failed;
    enum prism_code last_code;
    char last_message[64];
};

static void on_removed(void *context, const struct prism_error *error, bool existed)
{
    struct tally *tally = context;

    atomic_fetch_add(error->code == PRISM_OK && existed ? &tally->removed : &tally->failed, 1);
}

static void on_retrieved(void *context, const struct prism_error *error,
                         const struct prism_value *value)
{
    struct tally *tally = context;
    bool good = error->code == PRISM_OK && value->found && value->data.len == 5;

    tally->last_code = error->code;
    snprintf(tally->last_message, sizeof tally->last_message, "%.60s", error->message);
    atomic_fetch_add(good ? &tally->retrieved : &tally->failed, 1);
}

/* Each finished write starts a remove from within the callback. */
static void on_stored(void *context, const struct prism_error *error, struct prism_bytes version)
{
    struct tally *tally = context;
    const struct prism_callback next = {.fn.removed = on_removed, .context = tally};

    atomic_fetch_add(error->code == PRISM_OK && version.len == 0 ? &tally->stored : &tally->failed,
                     1);
    if (prism_keyvalue_remove_async(tally->keyvalue, "k", NULL, next, NULL) != PRISM_OK)
        atomic_fetch_add(&tally->failed, 1);
}

static void every_asynchronous_call_reports_once(void **state)
{
    struct tally tally = {0};
    struct prism_callback stored = {.fn.stored = on_stored, .context = &tally};
    struct prism_callback retrieved = {.fn.retrieved = on_retrieved, .context = &tally};
    struct fixture f;
    char key[16];

    (void)state;
    fixture_open(&f, &quick);
    serve_values(f.server);
    tally.keyvalue = f.keyvalue;
    for (int i = 0; i < ASYNC_CALLS; i++) {
        snprintf(key, sizeof key, "k%d", i); /* reused: arguments are copied */
        assert_ok(prism_keyvalue_store_async(f.keyvalue, key, prism_bytes_of("value", 5), NULL,
                                             stored, &f.error),
                  f.error);
        assert_ok(prism_keyvalue_retrieve_async(f.keyvalue, key, NULL, retrieved, &f.error),
                  f.error);
    }
    prism_channel_wait(f.channel);
    assert_int_equal(tally.failed, 0);
    assert_int_equal(tally.stored, ASYNC_CALLS);
    assert_int_equal(tally.retrieved, ASYNC_CALLS);
    assert_int_equal(tally.removed, ASYNC_CALLS);
    fixture_close(&f);
}

static void asynchronous_calls_retry_and_fail_as_others_do(void **state)
{
    struct tally tally = {0};
    struct prism_callback retrieved = {.fn.retrieved = on_retrieved, .context = &tally};
    struct prism_retrieve_options hasty = {.deadline_ms = 100};
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    serve_values(f.server);
    for (int i = 0; i < 2; i++)
        script_once(f.server, (struct script_step){.method = "Retrieve",
                                                   .status = GRPC_STATUS_UNAVAILABLE,
                                                   .text = "later"});
    assert_ok(prism_keyvalue_retrieve_async(f.keyvalue, "k", NULL, retrieved, &f.error), f.error);
    prism_channel_wait(f.channel);
    assert_int_equal(tally.retrieved, 1);
    assert_int_equal(script_calls(f.server, "Retrieve"), 3);

    script_always(f.server, (struct script_step){.method = "Retrieve", .hang = true});
    assert_ok(prism_keyvalue_retrieve_async(f.keyvalue, "k", &hasty, retrieved, &f.error), f.error);
    prism_channel_wait(f.channel);
    assert_int_equal(tally.failed, 1);
    assert_int_equal(tally.last_code, PRISM_DEADLINE_EXCEEDED);
    assert_string_equal(tally.last_message, "Retrieve: no answer within 100 ms");

    /* Refused before the call: no callback. */
    assert_int_equal(prism_keyvalue_retrieve_async(f.keyvalue, "", NULL, retrieved, &f.error),
                     PRISM_INVALID_ARGUMENT);
    assert_int_equal(tally.failed, 1);
    fixture_close(&f);
}

struct gate {
    sem_t reached, opened;
};

static void wait_at_gate(void *context, const struct prism_error *error,
                         const struct prism_value *value)
{
    struct gate *gate = context;

    (void)error;
    (void)value;
    sem_post(&gate->reached);
    sem_wait(&gate->opened);
}

static void on_refused(void *context, const struct prism_error *error, struct prism_bytes version)
{
    (void)version;
    *(struct prism_error *)context = *error;
}

/* The answer came in time: the calls of this thread have read it while the channel's stood still,
 * as that of a busy client does. */
static void an_answer_that_is_looked_at_late_is_told(void **state)
{
    struct prism_call_options hasty = {.deadline_ms = 2000};
    struct prism_store_options in_time = {.deadline_ms = 2000};
    struct prism_error told = {.code = PRISM_OK};
    struct gate gate;
    struct fixture f;

    (void)state;
    sem_init(&gate.reached, 0, 0);
    sem_init(&gate.opened, 0, 0);
    fixture_open(&f, &quick);
    serve_values(f.server);
    script_once(f.server, (struct script_step){.method = "Store",
                                               .status = GRPC_STATUS_DEADLINE_EXCEEDED,
                                               .text = "nothing was done",
                                               .effect = "none"});
    script_always(f.server, (struct script_step){.method = "Remove", .hang = true});

    struct prism_callback waits = {.fn.retrieved = wait_at_gate, .context = &gate};
    struct prism_callback refused = {.fn.stored = on_refused, .context = &told};

    prism_keyvalue_retrieve_async(f.keyvalue, "k", NULL, waits, &f.error);
    sem_wait(&gate.reached);
    prism_keyvalue_store_async(f.keyvalue, "k", prism_bytes_of("v", 1), &in_time, refused,
                               &f.error);
    /* The server never answers this one: it lasts until the deadline of both has passed. */
    assert_int_equal(prism_keyvalue_remove(f.keyvalue, "k", &hasty, NULL, &f.error),
                     PRISM_DEADLINE_EXCEEDED);
    sem_post(&gate.opened);
    prism_channel_wait(f.channel);
    assert_int_equal(told.code, PRISM_DEADLINE_EXCEEDED);
    assert_string_equal(told.message, "nothing was done");
    fixture_close(&f);
    sem_destroy(&gate.reached);
    sem_destroy(&gate.opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_a_client),
        cmocka_unit_test(every_asynchronous_call_reports_once),
        cmocka_unit_test(asynchronous_calls_retry_and_fail_as_others_do),
        cmocka_unit_test(an_answer_that_is_looked_at_late_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
