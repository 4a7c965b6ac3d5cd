/* The deprecated Batch and Scan services. */
#include "tests/pattern/keyvalue/kv.h"

#define BATCH(rpc) "/prism.interfaces.keyvalue.KeyValueBatchInterface/" rpc
#define SCAN(rpc)  "/prism.interfaces.keyvalue.KeyValueScanInterface/" rpc

enum { ITEMS = 40 };

struct sets {
    old_batch_set_request message;
    old_set_request items[ITEMS], *pointers[ITEMS];
    char texts[ITEMS][24];
};

static struct sets *sets_new(void)
{
    struct sets *sets = calloc(1, sizeof *sets);

    assert_non_null(sets);
    prism__interfaces__keyvalue__batch_set_request__init(&sets->message);
    sets->message.n_requests = ITEMS;
    sets->message.requests = sets->pointers;
    for (size_t i = 0; i < ITEMS; i++) {
        snprintf(sets->texts[i], sizeof sets->texts[i], "key%05zu", i);
        prism__interfaces__keyvalue__set_request__init(&sets->items[i]);
        sets->items[i].key = sets->texts[i];
        sets->items[i].value = kv_bytes(sets->texts[i]);
        sets->pointers[i] = &sets->items[i];
    }
    return sets;
}

/* BatchGetRequest and BatchDeleteRequest are alike. */
static struct call *keys_call(struct fake_rig *rig, const char *path, struct kv_keys_request *keys)
{
    old_batch_get_request request = PRISM__INTERFACES__KEYVALUE__BATCH_GET_REQUEST__INIT;

    request.n_keys = keys->retrieve.n_keys;
    request.keys = keys->pointers;
    return kv_run(rig, path, &request.base);
}

static void test_batch_set(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct sets *sets = sets_new();
        struct call *call = kv_run(rig, BATCH("BatchSet"), &sets->message.base);
        const old_batch_set_response *answer = (const void *)call->reply;

        kv_assert_ok(call);
        assert_true(answer->all_success);
        assert_int_equal(answer->n_results, ITEMS);
        assert_int_equal(fake_keys(&rig->world), ITEMS);
        fake_call_free(call);
        sets->items[3].key = kv_text("");
        rig->world.poison = slice_str("key00020");
        call = kv_run(rig, BATCH("BatchSet"), &sets->message.base);
        answer = (const void *)call->reply;
        assert_false(answer->all_success);
        for (size_t i = 0; i < ITEMS; i++) {
            assert_int_equal(answer->results[i]->success, i != 3 && i != 20);
            assert_int_equal(answer->results[i]->error[0] == '\0', i != 3 && i != 20);
        }
        fake_call_free(call);
        free(sets);
        kv_rig_free(rig);
    }
}

static void test_batch_get_and_delete_in_request_order(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_keys_request *keys = kv_keys(ITEMS);
        struct call *call;
        const old_batch_get_response *got;
        const old_batch_delete_response *gone;

        rig->world.order = FAKE_LAST_FIRST;
        kv_fill(rig, 30);
        keys->pointers[35] = kv_text("");
        call = keys_call(rig, BATCH("BatchGet"), keys);
        kv_assert_ok(call);
        got = (const void *)call->reply;
        assert_int_equal(got->n_results, ITEMS);
        assert_int_equal(got->found_count, 30);
        for (size_t i = 0; i < ITEMS; i++) {
            assert_int_equal(got->results[i]->found, i < 30);
            assert_int_equal(got->results[i]->error[0] != '\0', i == 35);
            if (i < 30)
                assert_memory_equal(got->results[i]->value.data, keys->texts[i], 8);
        }
        fake_call_free(call);
        call = keys_call(rig, BATCH("BatchDelete"), keys);
        kv_assert_ok(call);
        gone = (const void *)call->reply;
        assert_false(gone->all_success);
        for (size_t i = 0; i < ITEMS; i++)
            assert_int_equal(gone->results[i]->success, i != 35);
        assert_int_equal(fake_keys(&rig->world), 0);
        fake_call_free(call);
        free(keys);
        kv_rig_free(rig);
    }
}

static void test_batches_when_the_backend_is_down(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct sets *sets = sets_new();
    struct kv_keys_request *keys = kv_keys(ITEMS);
    struct call *call;

    (void)state;
    rig->world.fail_at = 1;
    rig->world.fail_last = UINT64_MAX;
    call = kv_run(rig, BATCH("BatchSet"), &sets->message.base);
    kv_assert_ok(call);
    assert_false(((old_batch_set_response *)call->reply)->all_success);
    fake_call_free(call);
    call = keys_call(rig, BATCH("BatchGet"), keys);
    kv_assert_ok(call);
    assert_int_equal(((old_batch_get_response *)call->reply)->found_count, 0);
    fake_call_free(call);
    call = keys_call(rig, BATCH("BatchDelete"), keys);
    kv_assert_ok(call);
    assert_false(((old_batch_delete_response *)call->reply)->all_success);
    fake_call_free(call);
    free(sets);
    free(keys);
    kv_rig_free(rig);
}

static void test_batches_that_end_with_the_call(void **state)
{
    static const char *const paths[] = {BATCH("BatchSet"), BATCH("BatchGet"), BATCH("BatchDelete")};
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct sets *sets = sets_new();
    struct kv_keys_request *keys = kv_keys(5);

    (void)state;
    rig->world.mode = FAKE_PARKED;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct call *call = fake_call_with(
            rig, paths[i], i == 0 ? &sets->message.base : &keys->retrieve.base, 10, false);

        fake_rig_advance(rig, 20);
        kv_assert_failed(call, ERR_DEADLINE_EXCEEDED, NULL, NULL);
        fake_call_free(call);
    }
    free(sets);
    free(keys);
    kv_rig_free(rig);
}

static void test_refused_as_a_whole(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_S3);
    struct sets *sets = sets_new();
    struct kv_keys_request *keys = kv_keys(5);

    (void)state;
    kv_refused(rig, BATCH("BatchSet"), &sets->message.base, ERR_UNIMPLEMENTED, NULL, "batch not");
    kv_refused(rig, BATCH("BatchGet"), &keys->retrieve.base, ERR_UNIMPLEMENTED, NULL, "batch not");
    kv_refused(rig, BATCH("BatchDelete"), &keys->retrieve.base, ERR_UNIMPLEMENTED, NULL,
               "batch not");
    free(sets);
    free(keys);
    kv_rig_free(rig);
}

/* Without a code beside it, a lost error would make a key look absent: then the call fails instead.
 */
static void test_outcomes_that_fit_no_message(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    struct kv_keys_request *keys = kv_keys(100);
    struct call *call;

    (void)state;
    rig->max_message_bytes = 2000;
    fake_rig_bind(rig);
    for (size_t i = 0; i < 100; i++)
        keys->pointers[i] = kv_text("");
    call = keys_call(rig, BATCH("BatchGet"), keys);
    kv_assert_failed(call, ERR_RESOURCE_EXHAUSTED, "max_message_bytes", NULL);
    fake_call_free(call);
    call = keys_call(rig, BATCH("BatchDelete"), keys);
    kv_assert_ok(call);
    assert_false(((old_batch_delete_response *)call->reply)->results[99]->success);
    fake_call_free(call);
    free(keys);
    kv_rig_free(rig);
}

/* ---- Scan ---- */

static struct call *scan(struct fake_rig *rig, const char *path, const char *prefix, int32_t limit)
{
    old_scan_request request = PRISM__INTERFACES__KEYVALUE__SCAN_REQUEST__INIT;

    request.prefix = kv_text(prefix);
    request.limit = limit;
    return kv_run(rig, path, &request.base);
}

static void test_scan_streams_one_key_a_message(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct call *call;

    (void)state;
    kv_fill(rig, 150);
    rig->world.page_limit = 40;
    call = scan(rig, SCAN("Scan"), "key", 0); /* no limit */
    kv_assert_ok(call);
    assert_int_equal(call->sent_count, 150);
    for (size_t i = 0; i < 150; i++) {
        const old_scan_response *item = (const void *)call->sent[i].message;

        assert_int_equal(strlen(item->key), 8);
        assert_memory_equal(item->value.data, item->key, 8);
    }
    fake_call_free(call);
    call = scan(rig, SCAN("ScanKeys"), "key", 7);
    kv_assert_ok(call);
    assert_int_equal(call->sent_count, 7);
    assert_string_equal(((old_key_response *)call->sent[6].message)->key, "key00006");
    fake_call_free(call);
    call = scan(rig, SCAN("Scan"), "nothing", 0);
    kv_assert_ok(call);
    assert_int_equal(call->sent_count, 0);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_scan_refused(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    old_scan_request request = PRISM__INTERFACES__KEYVALUE__SCAN_REQUEST__INIT;

    (void)state;
    request.limit = -1;
    kv_refused(rig, SCAN("Scan"), &request.base, ERR_INVALID_ARGUMENT, "limit", "0, for no limit");
    kv_rig_free(rig);
    rig = kv_rig(FAKE_AS_S3);
    request.limit = 0;
    kv_refused(rig, SCAN("Scan"), &request.base, ERR_UNIMPLEMENTED, NULL, "scan not supported");
    kv_refused(rig, SCAN("ScanKeys"), &request.base, ERR_UNIMPLEMENTED, NULL, NULL);
    kv_refused(rig, SCAN("Count"), &request.base, ERR_UNIMPLEMENTED, NULL, NULL);
    kv_rig_free(rig);
}

static void test_scan_of_what_no_message_takes(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    char value[2001] = "";
    struct call *call;

    (void)state;
    rig->max_message_bytes = 2000;
    fake_rig_bind(rig);
    memset(value, 'v', sizeof value - 1);
    fake_put(&rig->world, "a", "small");
    fake_put(&rig->world, "b", value);
    call = scan(rig, SCAN("Scan"), "", 0);
    kv_assert_failed(call, ERR_RESOURCE_EXHAUSTED, NULL, NULL);
    assert_int_equal(call->sent_count, 1);
    fake_call_free(call);
    call = scan(rig, SCAN("ScanKeys"), "", 0);
    kv_assert_ok(call);
    assert_int_equal(call->sent_count, 2);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_scan_reader_gone(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    old_scan_request request = PRISM__INTERFACES__KEYVALUE__SCAN_REQUEST__INIT;
    struct call *call;

    (void)state;
    kv_fill(rig, 20);
    call = fake_call_with(rig, SCAN("Scan"), &request.base, 0, true);
    fake_rig_drain(rig);
    fake_call_take(call);
    fake_rig_drain(rig);
    assert_int_equal(call->sent_count, 2);
    fake_call_cancel(call);
    fake_rig_drain(rig);
    kv_assert_failed(call, ERR_CANCELLED, NULL, NULL);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_count(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    old_count_request request = PRISM__INTERFACES__KEYVALUE__COUNT_REQUEST__INIT;
    struct call *call;

    (void)state;
    kv_fill(rig, 15);
    request.prefix = kv_text("key0000");
    call = kv_run(rig, SCAN("Count"), &request.base);
    kv_assert_ok(call);
    assert_int_equal(((old_count_response *)call->reply)->count, 10);
    fake_call_free(call);
    rig->world.fail_at = 2;
    call = kv_run(rig, SCAN("Count"), &request.base);
    kv_assert_failed(call, ERR_UNAVAILABLE, NULL, NULL);
    fake_call_free(call);
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_set),
        cmocka_unit_test(test_batch_get_and_delete_in_request_order),
        cmocka_unit_test(test_batches_when_the_backend_is_down),
        cmocka_unit_test(test_batches_that_end_with_the_call),
        cmocka_unit_test(test_refused_as_a_whole),
        cmocka_unit_test(test_outcomes_that_fit_no_message),
        cmocka_unit_test(test_scan_streams_one_key_a_message),
        cmocka_unit_test(test_scan_refused),
        cmocka_unit_test(test_scan_of_what_no_message_takes),
        cmocka_unit_test(test_scan_reader_gone),
        cmocka_unit_test(test_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
