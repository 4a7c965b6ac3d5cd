/* The client against a running prismd at PRISM_SERVER (skipped without), whatever its backend: what
 * the backend cannot do must be refused, what it can must work. PRISM_BACKEND, if set, names the
 * backend that is expected. */
#include "prism/keyvalue.h"
#include "tests/client/assert_ok.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKIPPED = 77, SCAN_KEYS = 1500, CHUNK = 100, THREADS = 8, ROUNDS = 50, ASYNC = 300 };

struct client {
    struct prism_channel *channel;
    struct prism_keyvalue *keyvalue;
    const struct prism_keyvalue_capabilities *capabilities;
    struct prism_error error;
};

static const struct prism_channel_options patient = {.deadline_ms = 30000};

static int set_up(void **state)
{
    struct client *c = calloc(1, sizeof *c);

    assert_non_null(c);
    assert_ok(prism_channel_open(getenv("PRISM_SERVER"), &patient, &c->channel, &c->error),
              c->error);
    assert_ok(prism_keyvalue_open(c->channel, &c->keyvalue, &c->error), c->error);
    c->capabilities = prism_keyvalue_capabilities(c->keyvalue);
    *state = c;
    return 0;
}

static int tear_down(void **state)
{
    struct client *c = *state;

    prism_keyvalue_close(c->keyvalue);
    prism_channel_close(c->channel);
    free(c);
    return 0;
}

static void store_text(struct client *c, const char *key, const char *text)
{
    assert_ok(prism_keyvalue_store(c->keyvalue, key, prism_bytes_of(text, strlen(text)), NULL, NULL,
                                   &c->error),
              c->error);
}

static void assert_value(struct client *c, const char *key, const char *text)
{
    struct prism_value value;

    assert_ok(prism_keyvalue_retrieve(c->keyvalue, key, NULL, &value, &c->error), c->error);
    assert_true(value.found);
    assert_int_equal(value.data.len, strlen(text));
    assert_memory_equal(value.data.data, text, strlen(text));
    prism_value_free(&value);
}

static void capabilities_are_discovered(void **state)
{
    struct client *c = *state;
    const char *expected = getenv("PRISM_BACKEND");

    if (expected != NULL)
        assert_string_equal(c->capabilities->backend_type, expected);
    assert_true(c->capabilities->interface_count > 0);
    assert_true(c->capabilities->operation_count > 0);
    assert_int_equal(c->capabilities->supports_scan,
                     c->capabilities->scan_performance != PRISM_UNAVAILABLE_OPERATION);
    assert_int_equal(c->capabilities->supports_batch,
                     c->capabilities->batch_performance != PRISM_UNAVAILABLE_OPERATION);
}

static void values_of_any_bytes_come_back(void **state)
{
    struct client *c = *state;
    size_t sizes[] = {0, 1, 256, 1 << 20};
    uint8_t *bytes = malloc(1 << 20);
    struct prism_value value;

    assert_non_null(bytes);
    for (size_t i = 0; i < 1 << 20; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_ok(prism_keyvalue_store(c->keyvalue, "e2e/bytes", prism_bytes_of(bytes, sizes[i]),
                                       NULL, NULL, &c->error),
                  c->error);
        assert_ok(prism_keyvalue_retrieve(c->keyvalue, "e2e/bytes", NULL, &value, &c->error),
                  c->error);
        assert_true(value.found);
        assert_int_equal(value.data.len, sizes[i]);
        if (sizes[i] > 0)
            assert_memory_equal(value.data.data, bytes, sizes[i]);
        prism_value_free(&value);
    }
    free(bytes);
}

static void keys_come_and_go(void **state)
{
    struct client *c = *state;
    struct prism_value value;
    bool flag;

    store_text(c, "e2e/key", "one");
    store_text(c, "e2e/key", "two");
    assert_value(c, "e2e/key", "two");
    assert_ok(prism_keyvalue_exists(c->keyvalue, "e2e/key", NULL, &flag, &c->error), c->error);
    assert_true(flag);
    assert_ok(prism_keyvalue_remove(c->keyvalue, "e2e/key", NULL, &flag, &c->error), c->error);
    assert_true(flag);
    assert_ok(prism_keyvalue_remove(c->keyvalue, "e2e/key", NULL, &flag, &c->error), c->error);
    assert_false(flag);
    assert_ok(prism_keyvalue_exists(c->keyvalue, "e2e/key", NULL, &flag, &c->error), c->error);
    assert_false(flag);
    assert_ok(prism_keyvalue_retrieve(c->keyvalue, "e2e/key", NULL, &value, &c->error), c->error);
    assert_false(value.found);
}

static void expiration_is_set_with_the_value(void **state)
{
    struct client *c = *state;
    const struct prism_store_options options = {.expiration_s = 60};
    int64_t seconds;
    bool flag;

    if (!c->capabilities->supports_expiration) {
        assert_int_equal(prism_keyvalue_store(c->keyvalue, "e2e/ttl", prism_bytes_of("v", 1),
                                              &options, NULL, &c->error),
                         PRISM_UNIMPLEMENTED);
        assert_non_null(strstr(c->error.message, "expiration not supported by backend"));
        return;
    }
    assert_ok(prism_keyvalue_store(c->keyvalue, "e2e/ttl", prism_bytes_of("v", 1), &options, NULL,
                                   &c->error),
              c->error);
    assert_value(c, "e2e/ttl", "v");
    assert_ok(prism_keyvalue_get_expiration(c->keyvalue, "e2e/ttl", NULL, &seconds, &c->error),
              c->error);
    assert_in_range(seconds, 51, 60);
    assert_ok(prism_keyvalue_set_expiration(c->keyvalue, "e2e/ttl", 600, NULL, &flag, &c->error),
              c->error);
    assert_true(flag);
    assert_ok(prism_keyvalue_get_expiration(c->keyvalue, "e2e/ttl", NULL, &seconds, &c->error),
              c->error);
    assert_in_range(seconds, 550, 600);
    assert_ok(prism_keyvalue_clear_expiration(c->keyvalue, "e2e/ttl", NULL, &flag, &c->error),
              c->error);
    assert_true(flag);
    assert_ok(prism_keyvalue_get_expiration(c->keyvalue, "e2e/ttl", NULL, &seconds, &c->error),
              c->error);
    assert_int_equal(seconds, PRISM_NEVER_EXPIRES);
    assert_ok(prism_keyvalue_get_expiration(c->keyvalue, "e2e/none", NULL, &seconds, &c->error),
              c->error);
    assert_int_equal(seconds, PRISM_NO_SUCH_KEY);
}

static void preconditions_guard_writes(void **state)
{
    struct client *c = *state;
    struct prism_store_options options = {.if_absent = true};
    const struct prism_retrieve_options versioned = {.with_version = true};
    struct prism_bytes bytes = prism_bytes_of("v", 1);
    enum prism_code code;
    struct prism_value value;

    if (!c->capabilities->supports_preconditions) {
        assert_int_equal(
            prism_keyvalue_store(c->keyvalue, "e2e/cas", bytes, &options, NULL, &c->error),
            PRISM_UNIMPLEMENTED);
        return;
    }
    assert_ok(prism_keyvalue_remove(c->keyvalue, "e2e/cas", NULL, NULL, &c->error), c->error);
    assert_ok(prism_keyvalue_store(c->keyvalue, "e2e/cas", bytes, &options, NULL, &c->error),
              c->error);
    code = prism_keyvalue_store(c->keyvalue, "e2e/cas", bytes, &options, NULL, &c->error);
    assert_true(code == PRISM_FAILED_PRECONDITION || code == PRISM_ALREADY_EXISTS);

    assert_ok(prism_keyvalue_retrieve(c->keyvalue, "e2e/cas", &versioned, &value, &c->error),
              c->error);
    assert_true(value.version.len > 0);
    options.if_absent = false;
    options.if_version = prism_bytes_of(value.version.data, value.version.len);
    assert_ok(prism_keyvalue_store(c->keyvalue, "e2e/cas", prism_bytes_of("w", 1), &options, NULL,
                                   &c->error),
              c->error);
    assert_int_equal(prism_keyvalue_store(c->keyvalue, "e2e/cas", bytes, &options, NULL, &c->error),
                     PRISM_FAILED_PRECONDITION);
    assert_value(c, "e2e/cas", "w");
    prism_value_free(&value);
}

/* ---- batches ---- */

struct chunk {
    char keys[CHUNK][32];
    const char *pointers[CHUNK];
    struct prism_store_item items[CHUNK];
};

static void chunk_init(struct chunk *chunk, const char *prefix, size_t first)
{
    memset(chunk, 0, sizeof *chunk);
    for (size_t i = 0; i < CHUNK; i++) {
        snprintf(chunk->keys[i], sizeof chunk->keys[i], "%s%zu", prefix, first + i);
        chunk->pointers[i] = chunk->keys[i];
        chunk->items[i].key = chunk->keys[i];
        chunk->items[i].value = prism_bytes_of(chunk->keys[i], strlen(chunk->keys[i]));
    }
}

static void batches_keep_the_order_of_their_items(void **state)
{
    struct client *c = *state;
    struct prism_batch batch;
    struct chunk chunk;

    chunk_init(&chunk, "e2e/batch/", 0);
    assert_true(c->capabilities->supports_batch);
    assert_ok(prism_keyvalue_store_batch(c->keyvalue, chunk.items, CHUNK, NULL, &batch, &c->error),
              c->error);
    assert_int_equal(batch.succeeded, CHUNK);
    prism_batch_free(&batch);
    assert_ok(prism_keyvalue_remove(c->keyvalue, chunk.keys[7], NULL, NULL, &c->error), c->error);

    assert_ok(
        prism_keyvalue_retrieve_batch(c->keyvalue, chunk.pointers, CHUNK, NULL, &batch, &c->error),
        c->error);
    assert_int_equal(batch.count, CHUNK);
    for (size_t i = 0; i < CHUNK; i++) {
        assert_int_equal(batch.items[i].found, i != 7);
        if (i != 7) {
            assert_int_equal(batch.items[i].value.len, strlen(chunk.keys[i]));
            assert_memory_equal(batch.items[i].value.data, chunk.keys[i], strlen(chunk.keys[i]));
        }
    }
    prism_batch_free(&batch);
    assert_ok(
        prism_keyvalue_remove_batch(c->keyvalue, chunk.pointers, CHUNK, NULL, &batch, &c->error),
        c->error);
    assert_int_equal(batch.succeeded, CHUNK);
    assert_false(batch.items[7].found);
    assert_true(batch.items[8].found);
    prism_batch_free(&batch);
}

static void atomic_batches_are_atomic_or_refused(void **state)
{
    struct client *c = *state;
    const struct prism_batch_options atomic = {.atomic = true};
    struct prism_batch batch;
    struct chunk chunk;

    chunk_init(&chunk, "e2e/atomic/", 0);
    if (c->capabilities->supports_transactions) {
        assert_ok(
            prism_keyvalue_store_batch(c->keyvalue, chunk.items, CHUNK, &atomic, &batch, &c->error),
            c->error);
        assert_int_equal(batch.succeeded, CHUNK);
        prism_batch_free(&batch);
        assert_value(c, chunk.keys[CHUNK - 1], chunk.keys[CHUNK - 1]);
        return;
    }
    assert_int_equal(
        prism_keyvalue_store_batch(c->keyvalue, chunk.items, CHUNK, &atomic, &batch, &c->error),
        PRISM_UNIMPLEMENTED);
    assert_non_null(strstr(c->error.message, "atomic batch not supported by backend"));
}

static int64_t batch_limit(const struct client *c)
{
    for (size_t i = 0; i < c->capabilities->operation_count; i++) {
        const struct prism_operation *o = &c->capabilities->operations[i];

        if (strcmp(o->name, "RetrieveBatch") == 0)
            return o->max_items;
    }
    return 0;
}

static void batch_beyond_the_announced_limit_is_refused_by_name(void **state)
{
    struct client *c = *state;
    size_t n = (size_t)batch_limit(c) + 1;
    const char **keys = malloc(n * sizeof *keys);
    struct prism_batch batch;

    assert_non_null(keys);
    assert_true(n > 1);
    for (size_t i = 0; i < n; i++)
        keys[i] = "e2e/k";
    assert_int_equal(prism_keyvalue_retrieve_batch(c->keyvalue, keys, n, NULL, &batch, &c->error),
                     PRISM_INVALID_ARGUMENT);
    assert_string_equal(c->error.field, "keys");
    free(keys);
}

/* ---- scan ---- */

static void store_scan_keys(struct client *c, const char *prefix)
{
    struct prism_batch batch;
    struct chunk chunk;

    for (size_t first = 0; first < SCAN_KEYS; first += CHUNK) {
        chunk_init(&chunk, prefix, first);
        assert_ok(
            prism_keyvalue_store_batch(c->keyvalue, chunk.items, CHUNK, NULL, &batch, &c->error),
            c->error);
        assert_int_equal(batch.succeeded, CHUNK);
        prism_batch_free(&batch);
    }
}

static void scan_reaches_the_end_and_repeats_nothing(void **state)
{
    struct client *c = *state;
    /* A prefix that a careless backend would take for a pattern. */
    const char *prefix = "e2e/scan[*]?/";
    const struct prism_scan_options options = {
        .prefix = prefix, .page_size = 100, .with_values = true};
    bool seen[SCAN_KEYS] = {false};
    struct prism_scan_item item;
    struct prism_scan *scan;
    int64_t count;
    size_t n = 0;

    if (!c->capabilities->supports_scan) {
        assert_int_equal(prism_keyvalue_scan(c->keyvalue, &options, &scan, &c->error),
                         PRISM_UNIMPLEMENTED);
        assert_non_null(strstr(c->error.message, "scan not supported by backend"));
        return;
    }
    store_scan_keys(c, prefix);
    store_text(c, "e2e/scanX/1", "not this one");
    assert_ok(prism_keyvalue_scan(c->keyvalue, &options, &scan, &c->error), c->error);
    while (prism_scan_next(scan, &item, &c->error)) {
        unsigned long i = strtoul(item.key + strlen(prefix), NULL, 10);

        assert_memory_equal(item.key, prefix, strlen(prefix));
        assert_true(i < SCAN_KEYS);
        assert_false(seen[i]);
        assert_int_equal(item.value.len, strlen(item.key));
        assert_memory_equal(item.value.data, item.key, item.value.len);
        seen[i] = true;
        n++;
    }
    assert_ok(c->error.code, c->error);
    prism_scan_close(scan);
    assert_int_equal(n, SCAN_KEYS);
    assert_ok(prism_keyvalue_count(c->keyvalue, prefix, NULL, &count, &c->error), c->error);
    assert_int_equal(count, SCAN_KEYS);
}

/* ---- errors, namespaces ---- */

static void unknown_namespace_is_refused(void **state)
{
    const struct prism_channel_options options = {.deadline_ms = 30000,
                                                  .namespace_name = "no-such-namespace"};
    struct prism_channel *channel;
    struct prism_keyvalue *keyvalue;
    struct prism_error error;

    (void)state;
    assert_ok(prism_channel_open(getenv("PRISM_SERVER"), &options, &channel, &error), error);
    assert_int_equal(prism_keyvalue_open(channel, &keyvalue, &error), PRISM_NOT_FOUND);
    assert_null(keyvalue);
    prism_channel_close(channel);
}

static void key_beyond_the_announced_limit_is_refused_by_name(void **state)
{
    struct client *c = *state;
    size_t len = (size_t)c->capabilities->max_key_bytes + 1;
    char *key;

    if (len == 1 || len > 2 << 20) /* no limit, or one that no message can reach */
        return;
    key = malloc(len + 1);
    assert_non_null(key);
    memset(key, 'k', len);
    key[len] = '\0';
    assert_int_equal(
        prism_keyvalue_store(c->keyvalue, key, prism_bytes_of("v", 1), NULL, NULL, &c->error),
        PRISM_INVALID_ARGUMENT);
    assert_string_equal(c->error.field, "key");
    free(key);
}

/* ---- threads ---- */

struct errand {
    struct client *client;
    int number;
    unsigned failed;
};

static void *write_and_read_back(void *arg)
{
    struct errand *errand = arg;

    for (int i = 0; i < ROUNDS; i++) {
        struct prism_error error;
        struct prism_value value;
        char key[32];

        snprintf(key, sizeof key, "e2e/thread/%d/%d", errand->number, i);
        errand->failed +=
            prism_keyvalue_store(errand->client->keyvalue, key, prism_bytes_of(key, strlen(key)),
                                 NULL, NULL, &error) != PRISM_OK;
        errand->failed += prism_keyvalue_retrieve(errand->client->keyvalue, key, NULL, &value,
                                                  &error) != PRISM_OK ||
                          value.data.len != strlen(key) ||
                          memcmp(value.data.data, key, strlen(key)) != 0;
        prism_value_free(&value);
    }
    return NULL;
}

static void threads_share_a_client(void **state)
{
    pthread_t threads[THREADS];
    struct errand errands[THREADS];

    for (int i = 0; i < THREADS; i++) {
        errands[i] = (struct errand){.client = *state, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_read_back, &errands[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(errands[i].failed, 0);
    }
}

static void count_success(void *context, const struct prism_error *error,
                          struct prism_bytes version)
{
    (void)version;
    if (error->code == PRISM_OK)
        atomic_fetch_add((atomic_uint *)context, 1);
}

static void asynchronous_stores_all_arrive(void **state)
{
    struct client *c = *state;
    atomic_uint succeeded = 0;
    const struct prism_callback callback = {.fn.stored = count_success, .context = &succeeded};
    char key[32];

    for (int i = 0; i < ASYNC; i++) {
        snprintf(key, sizeof key, "e2e/async/%d", i);
        assert_ok(prism_keyvalue_store_async(c->keyvalue, key, prism_bytes_of(key, strlen(key)),
                                             NULL, callback, &c->error),
                  c->error);
    }
    prism_channel_wait(c->channel);
    assert_int_equal(succeeded, ASYNC);
    assert_value(c, "e2e/async/299", "e2e/async/299");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capabilities_are_discovered),
        cmocka_unit_test(values_of_any_bytes_come_back),
        cmocka_unit_test(keys_come_and_go),
        cmocka_unit_test(expiration_is_set_with_the_value),
        cmocka_unit_test(preconditions_guard_writes),
        cmocka_unit_test(batches_keep_the_order_of_their_items),
        cmocka_unit_test(atomic_batches_are_atomic_or_refused),
        cmocka_unit_test(batch_beyond_the_announced_limit_is_refused_by_name),
        cmocka_unit_test(scan_reaches_the_end_and_repeats_nothing),
        cmocka_unit_test(unknown_namespace_is_refused),
        cmocka_unit_test(key_beyond_the_announced_limit_is_refused_by_name),
        cmocka_unit_test(threads_share_a_client),
        cmocka_unit_test(asynchronous_stores_all_arrive),
    };

    if (getenv("PRISM_SERVER") == NULL) {
        fputs("PRISM_SERVER names no server\n", stderr);
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
