/* perf/load: requests are what the server's own decoder reads, replies are judged rightly. */
#include "perf/load/operation.h"

#include "perf/load/wire.h"
#include "prism/interfaces/keyvalue/keyvalue_basic.pb-c.h"
#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"
#include "prism/patterns/session_store/session_store_pattern.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KV(name) prism__patterns__keyvalue__##name

static struct workload workload;
static uint8_t *buffer;

static void use(struct workload_options options)
{
    assert_null(workload_check(&options));
    workload_init(&workload, &options, 7);
    buffer = malloc(workload_request_bytes_max(&workload) + 1);
    assert_non_null(buffer);
}

static int drop(void **state)
{
    (void)state;
    free(buffer);
    buffer = NULL;
    workload_clear(&workload);
    return 0;
}

static size_t write_request(const char *name)
{
    const struct operation *o = operation_find(name);

    assert_non_null(o);
    size_t bytes = o->write(&workload, buffer);
    assert_true(bytes <= workload_request_bytes_max(&workload));
    return bytes;
}

static bool judge(const char *name, const uint8_t *reply, size_t bytes,
                  struct operation_outcome *outcome)
{
    *outcome = (struct operation_outcome){0};
    return operation_find(name)->judge(&workload, reply, bytes, outcome);
}

static void a_store_is_read_back_by_the_generated_decoder(void **state)
{
    struct workload_options o = workload_defaults();

    (void)state;
    o.ttl_seconds = 90;
    use(o);
    size_t bytes = write_request("store");
    Prism__Patterns__Keyvalue__StoreRequest *m = KV(store_request__unpack)(NULL, bytes, buffer);
    assert_non_null(m);
    assert_int_equal(strlen(m->key), 16);
    assert_memory_equal(m->key, "key-", 4);
    assert_int_equal(m->value.len, 128);
    assert_int_equal(
        m->_expiration_seconds_case,
        PRISM__PATTERNS__KEYVALUE__STORE_REQUEST___EXPIRATION_SECONDS_EXPIRATION_SECONDS);
    assert_int_equal(m->expiration_seconds, 90);
    KV(store_request__free_unpacked)(m, NULL);
}

static void batches_carry_every_item(void **state)
{
    struct workload_options o = workload_defaults();

    (void)state;
    o.batch = 333;
    o.value_bytes = 300;
    use(o);
    size_t bytes = write_request("store-batch");
    Prism__Patterns__Keyvalue__StoreBatchRequest *s =
        KV(store_batch_request__unpack)(NULL, bytes, buffer);
    assert_non_null(s);
    assert_int_equal(s->n_requests, 333);
    for (size_t i = 0; i < s->n_requests; i++) {
        assert_int_equal(strlen(s->requests[i]->key), 16);
        assert_int_equal(s->requests[i]->value.len, 300);
    }
    KV(store_batch_request__free_unpacked)(s, NULL);

    bytes = write_request("retrieve-batch");
    Prism__Patterns__Keyvalue__RetrieveBatchRequest *r =
        KV(retrieve_batch_request__unpack)(NULL, bytes, buffer);
    assert_non_null(r);
    assert_int_equal(r->n_keys, 333);
    KV(retrieve_batch_request__free_unpacked)(r, NULL);
}

static void a_scan_asks_for_the_keys_of_the_load(void **state)
{
    struct workload_options o = workload_defaults();

    (void)state;
    o.scan_limit = 77;
    o.scan_values = true;
    use(o);
    size_t bytes = write_request("scan");
    Prism__Patterns__Keyvalue__ScanRequest *m = KV(scan_request__unpack)(NULL, bytes, buffer);
    assert_non_null(m);
    assert_string_equal(m->prefix, WORKLOAD_PREFIX);
    assert_int_equal(m->limit, 77);
    assert_true(m->include_values);
    KV(scan_request__free_unpacked)(m, NULL);
}

static void a_session_is_read_back_by_the_generated_decoder(void **state)
{
    struct workload_options o = workload_defaults();

    (void)state;
    o.ids = "id-1id-2";
    o.id_bytes = 4;
    o.id_count = 2;
    use(o);
    size_t bytes = write_request("session-create");
    Prism__Patterns__SessionStore__CreateSessionRequest *m =
        prism__patterns__session_store__create_session_request__unpack(NULL, bytes, buffer);
    assert_non_null(m);
    assert_int_equal(strlen(m->metadata->user_id), 16);
    assert_int_equal(m->ttl_seconds, 3600);
    assert_int_equal(m->n_data, 1);
    assert_int_equal(m->data[0]->value->value.len, 128);
    prism__patterns__session_store__create_session_request__free_unpacked(m, NULL);

    bytes = write_request("session-get");
    Prism__Patterns__SessionStore__GetSessionRequest *g =
        prism__patterns__session_store__get_session_request__unpack(NULL, bytes, buffer);
    assert_non_null(g);
    assert_memory_equal(g->session_id, "id-", 3);
    assert_int_equal(strlen(g->session_id), 4);
    prism__patterns__session_store__get_session_request__free_unpacked(g, NULL);
}

static void a_session_that_is_not_there_is_no_answer(void **state)
{
    static const uint8_t absent[] = {0x10, 0x00}, empty[] = {0x0a, 0x00, 0x10, 0x01};
    struct operation_outcome outcome;

    (void)state;
    use(workload_defaults());
    assert_false(judge("session-get", absent, sizeof absent, &outcome));
    assert_false(judge("session-get", empty, sizeof empty, &outcome)); /* without its value */
    assert_false(judge("session-create", absent, 0, &outcome));
}

static void the_deprecated_set_is_read_back(void **state)
{
    (void)state;
    use(workload_defaults());
    size_t bytes = write_request("deprecated-set");
    Prism__Interfaces__Keyvalue__SetRequest *m =
        prism__interfaces__keyvalue__set_request__unpack(NULL, bytes, buffer);
    assert_non_null(m);
    assert_int_equal(strlen(m->key), 16);
    assert_int_equal(m->value.len, 128);
    prism__interfaces__keyvalue__set_request__free_unpacked(m, NULL);
}

static void a_failed_store_is_no_figure(void **state)
{
    struct operation_outcome outcome;
    uint8_t reply[32];

    (void)state;
    use(workload_defaults());
    uint8_t *end = wire_put_uint(reply, 1, 1);
    assert_true(judge("store", reply, (size_t)(end - reply), &outcome));
    assert_int_equal(outcome.items, 1);
    end = wire_put_bytes(end, 2, "full", 4);
    assert_false(judge("store", reply, (size_t)(end - reply), &outcome));
    assert_false(judge("store", reply, 0, &outcome));
}

static void a_retrieve_must_bring_the_whole_value(void **state)
{
    struct operation_outcome outcome;
    uint8_t reply[160];

    (void)state;
    use(workload_defaults());
    uint8_t *end = wire_put_uint(reply, 1, 1);
    end = wire_put_bytes(end, 2, workload.value, 128);
    assert_true(judge("retrieve", reply, (size_t)(end - reply), &outcome));
    assert_int_equal(outcome.hits, 1);
    end = wire_put_bytes(wire_put_uint(reply, 1, 1), 2, workload.value, 127);
    assert_false(judge("retrieve", reply, (size_t)(end - reply), &outcome));
    assert_true(judge("retrieve", reply, 0, &outcome));
    assert_int_equal(outcome.hits, 0);
}

static void a_batch_must_answer_every_item(void **state)
{
    struct operation_outcome outcome;
    uint8_t reply[256];

    (void)state;
    struct workload_options o = workload_defaults();
    o.batch = 3;
    use(o);
    uint8_t *end = reply;
    for (int i = 0; i < 3; i++)
        end = wire_put_bytes(end, 1, "\x08\x01", 2);
    uint8_t *results = end;
    end = wire_put_uint(end, 2, 2);
    assert_true(judge("retrieve-batch", reply, (size_t)(end - reply), &outcome));
    assert_int_equal(outcome.items, 3);
    assert_int_equal(outcome.hits, 2);
    assert_false(judge("retrieve-batch", reply + 4, (size_t)(end - reply) - 4, &outcome));

    end = wire_put_uint(wire_put_uint(results, 2, 1), 3, 3);
    assert_true(judge("store-batch", reply, (size_t)(end - reply), &outcome));
    end = wire_put_uint(wire_put_uint(results, 2, 0), 3, 2);
    assert_false(judge("store-batch", reply, (size_t)(end - reply), &outcome));
}

static void a_cut_reply_is_an_error(void **state)
{
    struct operation_outcome outcome;
    uint8_t reply[160];

    (void)state;
    use(workload_defaults());
    uint8_t *end = wire_put_bytes(wire_put_uint(reply, 1, 1), 2, workload.value, 128);
    for (size_t bytes = 3; bytes < (size_t)(end - reply); bytes++)
        assert_false(judge("retrieve", reply, bytes, &outcome));
}

static void sequential_keys_visit_each_key_once(void **state)
{
    struct workload_options o = workload_defaults();

    (void)state;
    o.keys = 1000;
    o.sequential = true;
    use(o);
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(workload_next_key(&workload), i);
    assert_int_equal(workload_next_key(&workload), 0);
}

static void random_keys_stay_in_range_and_reach_all(void **state)
{
    struct workload_options o = workload_defaults();
    bool seen[50] = {false};
    unsigned reached = 0;

    (void)state;
    o.keys = 50;
    use(o);
    for (int i = 0; i < 5000; i++) {
        uint32_t key = workload_next_key(&workload);
        assert_true(key < 50);
        reached += !seen[key];
        seen[key] = true;
    }
    assert_int_equal(reached, 50);
}

static void keys_have_the_length_asked_for(void **state)
{
    struct workload_options o = workload_defaults();
    uint8_t key[20];

    (void)state;
    o.key_bytes = 14;
    use(o);
    workload_write_key(&workload, UINT32_MAX, key);
    assert_memory_equal(key, "key-4294967295", 14);
    workload_write_key(&workload, 0, key);
    assert_memory_equal(key, "key-0000000000", 14);
}

static void bounds_are_checked(void **state)
{
    struct workload_options o = workload_defaults();

    (void)state;
    o.key_bytes = 13;
    assert_non_null(workload_check(&o));
    o = workload_defaults();
    o.keys = 0;
    assert_non_null(workload_check(&o));
    o = workload_defaults();
    o.batch = 0;
    assert_non_null(workload_check(&o));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_store_is_read_back_by_the_generated_decoder, drop),
        cmocka_unit_test_teardown(batches_carry_every_item, drop),
        cmocka_unit_test_teardown(a_scan_asks_for_the_keys_of_the_load, drop),
        cmocka_unit_test_teardown(a_session_is_read_back_by_the_generated_decoder, drop),
        cmocka_unit_test_teardown(a_session_that_is_not_there_is_no_answer, drop),
        cmocka_unit_test_teardown(the_deprecated_set_is_read_back, drop),
        cmocka_unit_test_teardown(a_failed_store_is_no_figure, drop),
        cmocka_unit_test_teardown(a_retrieve_must_bring_the_whole_value, drop),
        cmocka_unit_test_teardown(a_batch_must_answer_every_item, drop),
        cmocka_unit_test_teardown(a_cut_reply_is_an_error, drop),
        cmocka_unit_test_teardown(sequential_keys_visit_each_key_once, drop),
        cmocka_unit_test_teardown(random_keys_stay_in_range_and_reach_all, drop),
        cmocka_unit_test_teardown(keys_have_the_length_asked_for, drop),
        cmocka_unit_test(bounds_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
