/* RetrieveBatch, RemoveBatch, and atomic batches. */
#include "tests/pattern/keyvalue/kv.h"

static const pb_retrieve_batch_response *got(const struct call *call)
{
    kv_assert_ok(call);
    return (const void *)call->reply;
}

static const pb_remove_batch_response *removed(const struct call *call)
{
    kv_assert_ok(call);
    return (const void *)call->reply;
}

/* ---- RetrieveBatch ---- */

static void test_retrieved_in_request_order(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_keys_request *keys = kv_keys(100);

        rig->world.order = FAKE_LAST_FIRST;
        kv_fill(rig, 50);
        keys->pointers[60] = keys->texts[7]; /* repetitions are answered each */
        keys->pointers[61] = kv_text("");

        struct call *call = kv_run(rig, "RetrieveBatch", &keys->retrieve.base);

        assert_int_equal(got(call)->n_results, 100);
        assert_int_equal(got(call)->found_count, 51);
        for (size_t i = 0; i < 100; i++) {
            const pb_retrieve_response *result = got(call)->results[i];

            assert_int_equal(result->found, i < 50 || i == 60);
            assert_int_equal(result->code, i == 61 ? ERR_INVALID_ARGUMENT : ERR_OK);
            if (result->found)
                assert_memory_equal(result->value.data, keys->pointers[i], 8);
        }
        fake_call_free(call);
        free(keys);
        kv_rig_free(rig);
    }
}

static void test_retrieve_nothing(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct kv_keys_request *keys = kv_keys(0);
    struct call *call = kv_run(rig, "RetrieveBatch", &keys->retrieve.base);

    (void)state;
    assert_int_equal(got(call)->n_results, 0);
    fake_call_free(call);
    free(keys);
    kv_rig_free(rig);
}

static void test_retrieve_failures(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_keys_request *keys = kv_keys(20);

        kv_fill(rig, 20);
        rig->world.poison = slice_str("key00004");

        struct call *call = kv_run(rig, "RetrieveBatch", &keys->retrieve.base);

        assert_int_equal(got(call)->found_count, 19);
        assert_int_equal(got(call)->results[4]->code, ERR_UNAVAILABLE);
        assert_false(got(call)->results[4]->found);
        assert_non_null(strstr(got(call)->results[4]->error, "told to fail"));
        fake_call_free(call);
        rig->world.fail_at = rig->world.ops + 1;
        rig->world.fail_last = UINT64_MAX;
        call = kv_run(rig, "RetrieveBatch", &keys->retrieve.base);
        kv_assert_failed(call, ERR_UNAVAILABLE, NULL, NULL);
        fake_call_free(call);
        free(keys);
        kv_rig_free(rig);
    }
}

/* Values that do not fit are refused one by one, and those not asked for yet are not fetched. */
static void test_a_response_has_an_end(void **state)
{
    char value[401] = "";

    (void)state;
    memset(value, 'x', sizeof value - 1);
    for (int way = 0; way < KV_WAYS; way++) {
        static const unsigned masks[KV_WAYS] = {[KV_NATIVE] = FAKE_ALL,
                                                [KV_WINDOWS] = FAKE_AS_MEMSTORE,
                                                [KV_PIPELINED] = FAKE_BASIC,
                                                [KV_EMULATED] = FAKE_BASIC};
        struct fake_rig *rig = kv_rig_unbound(masks[way]);
        struct kv_keys_request *keys = kv_keys(200);
        size_t told = 0;

        rig->max_message_bytes = 8000;
        fake_world_in_process(&rig->world, way == KV_PIPELINED || way == KV_WINDOWS);
        rig->emulate = 1u << BACKEND_KV_BATCH;
        if (way == KV_EMULATED)
            rig->world.mode = FAKE_PARKED;
        fake_rig_bind(rig);
        for (size_t i = 0; i < 200; i++)
            fake_put(&rig->world, keys->texts[i], value);

        struct call *call = kv_run(rig, "RetrieveBatch", &keys->retrieve.base);

        for (size_t i = 0; i < 200; i++) {
            const pb_retrieve_response *result = got(call)->results[i];

            told += result->found != 0;
            assert_int_equal(result->code, result->found ? ERR_OK : ERR_RESOURCE_EXHAUSTED);
            assert_int_equal(result->value.len, result->found ? 400 : 0);
        }
        assert_int_equal(told, got(call)->found_count);
        assert_in_range(told, 15, 19);
        assert_true(rig->world.items_sent < 150);
        fake_call_free(call);
        free(keys);
        kv_rig_free(rig);
    }
}

/* ---- RemoveBatch ---- */

static void test_removed_in_request_order(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        for (int order = FAKE_FIRST_FIRST; order <= FAKE_SHUFFLED; order++) {
            struct fake_rig *rig = kv_rig_of(way);
            struct kv_keys_request *keys = kv_keys(40);

            rig->world.order = (enum fake_order)order;
            kv_fill(rig, 20);
            keys->pointers[39] = keys->texts[0]; /* gone by then */
            keys->pointers[30] = kv_text("");

            struct call *call = kv_run(rig, "RemoveBatch", &keys->remove.base);

            assert_false(removed(call)->all_success);
            assert_int_equal(removed(call)->success_count, 39);
            assert_int_equal(removed(call)->results[30]->code, ERR_INVALID_ARGUMENT);
            for (size_t i = 0; i < 40; i++)
                assert_int_equal(removed(call)->results[i]->existed, i < 20);
            assert_int_equal(fake_keys(&rig->world), 0);
            fake_call_free(call);
            free(keys);
            kv_rig_free(rig);
        }
    }
}

static void test_remove_failures(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_keys_request *keys = kv_keys(20);

        kv_fill(rig, 20);
        rig->world.poison = slice_str("key00019");

        struct call *call = kv_run(rig, "RemoveBatch", &keys->remove.base);

        assert_int_equal(removed(call)->success_count, 19);
        assert_int_equal(removed(call)->results[19]->code, ERR_UNAVAILABLE);
        assert_int_equal(fake_keys(&rig->world), 1);
        fake_call_free(call);
        rig->world.fail_at = rig->world.ops + 1;
        rig->world.fail_last = UINT64_MAX;
        call = kv_run(rig, "RemoveBatch", &keys->remove.base);
        kv_assert_failed(call, ERR_UNAVAILABLE, NULL, NULL);
        fake_call_free(call);
        free(keys);
        kv_rig_free(rig);
    }
}

/* ---- atomic ---- */

static struct kv_batch_request *store_all(size_t n)
{
    struct kv_batch_request *batch = kv_store_batch(n);

    batch->message.atomic = true;
    return batch;
}

static struct kv_keys_request *remove_all(size_t n)
{
    struct kv_keys_request *keys = kv_keys(n);

    keys->remove.atomic = true;
    return keys;
}

static void test_atomic_is_one_backend_call(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL & ~FAKE_BATCH); /* needs no other batches */
    struct kv_batch_request *batch = store_all(20);
    struct kv_keys_request *keys = remove_all(20);
    struct call *call = kv_run(rig, "StoreBatch", &batch->message.base);

    (void)state;
    kv_assert_ok(call);
    assert_true(((pb_store_batch_response *)call->reply)->all_success);
    assert_int_equal(fake_keys(&rig->world), 20);
    assert_int_equal(rig->world.ops, 1);
    fake_call_free(call);
    call = kv_run(rig, "RemoveBatch", &keys->remove.base);
    assert_true(removed(call)->all_success);
    assert_true(removed(call)->results[19]->existed);
    assert_int_equal(rig->world.ops, 2);
    assert_int_equal(fake_keys(&rig->world), 0);
    fake_call_free(call);
    free(batch);
    free(keys);
    kv_rig_free(rig);
}

static void test_atomic_of_nothing(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct kv_batch_request *batch = store_all(0);
    struct call *call = kv_run(rig, "StoreBatch", &batch->message.base);

    (void)state;
    kv_assert_ok(call);
    assert_true(((pb_store_batch_response *)call->reply)->all_success);
    assert_int_equal(rig->world.ops, 0);
    fake_call_free(call);
    free(batch);
    kv_rig_free(rig);
}

static void test_atomic_needs_transactions(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL & ~FAKE_TXN);
    struct kv_batch_request *batch = store_all(2);
    struct kv_keys_request *keys = remove_all(2);
    const char *text = "backend does not implement KeyValueTransactionalInterface";

    (void)state;
    kv_refused(rig, "StoreBatch", &batch->message.base, ERR_UNIMPLEMENTED,
               "KeyValueTransactionalInterface", text);
    kv_refused(rig, "RemoveBatch", &keys->remove.base, ERR_UNIMPLEMENTED,
               "KeyValueTransactionalInterface", text);
    free(batch);
    free(keys);
    kv_rig_free(rig);
}

static void test_atomic_is_bounded_by_the_transaction(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct kv_batch_request *batch = store_all(21);
    struct kv_keys_request *keys = remove_all(21);

    (void)state;
    kv_refused(rig, "StoreBatch", &batch->message.base, ERR_INVALID_ARGUMENT, "requests",
               "at most 20");
    kv_refused(rig, "RemoveBatch", &keys->remove.base, ERR_INVALID_ARGUMENT, "keys", "at most 20");
    free(batch);
    free(keys);
    kv_rig_free(rig);
}

static void test_atomic_refuses_for_one_fault(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL & ~FAKE_TTL);
    pb_precondition absent = kv_if_absent(true);
    struct kv_batch_request *batch = store_all(10);
    struct kv_keys_request *keys = remove_all(10);

    (void)state;
    batch->items[4].key = kv_text("");
    kv_refused(rig, "StoreBatch", &batch->message.base, ERR_INVALID_ARGUMENT, "requests[4].key",
               "empty");
    batch->items[4] = kv_store_for("k", "v", 0);
    kv_refused(rig, "StoreBatch", &batch->message.base, ERR_INVALID_ARGUMENT,
               "requests[4].expiration_seconds", NULL);
    batch->items[4] = kv_store_for("k", "v", 5);
    kv_refused(rig, "StoreBatch", &batch->message.base, ERR_UNIMPLEMENTED, "KeyValueTTLInterface",
               "requests[4]: expiration not supported");
    batch->items[4] = kv_store("k", "v");
    batch->items[4].precondition = &absent;
    kv_refused(rig, "StoreBatch", &batch->message.base, ERR_UNIMPLEMENTED, "precondition",
               "requests[4]");
    keys->pointers[9] = kv_text("");
    kv_refused(rig, "RemoveBatch", &keys->remove.base, ERR_INVALID_ARGUMENT, "keys[9]", "empty");
    free(batch);
    free(keys);
    kv_rig_free(rig);
}

static void test_atomic_failure_is_a_status_and_changes_nothing(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct kv_batch_request *batch = store_all(10);
    struct kv_keys_request *keys = remove_all(10);

    (void)state;
    fake_put(&rig->world, "key00000", "old");
    rig->world.poison = slice_str("key00005");

    struct call *call = kv_run(rig, "StoreBatch", &batch->message.base);

    kv_assert_failed(call, ERR_UNAVAILABLE, NULL, NULL);
    fake_call_free(call);
    call = kv_run(rig, "RemoveBatch", &keys->remove.base);
    kv_assert_failed(call, ERR_UNAVAILABLE, NULL, NULL);
    fake_call_free(call);
    assert_true(fake_has(&rig->world, "key00000", "old"));
    assert_int_equal(fake_keys(&rig->world), 1);
    free(batch);
    free(keys);
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retrieved_in_request_order),
        cmocka_unit_test(test_retrieve_nothing),
        cmocka_unit_test(test_retrieve_failures),
        cmocka_unit_test(test_a_response_has_an_end),
        cmocka_unit_test(test_removed_in_request_order),
        cmocka_unit_test(test_remove_failures),
        cmocka_unit_test(test_atomic_is_one_backend_call),
        cmocka_unit_test(test_atomic_of_nothing),
        cmocka_unit_test(test_atomic_needs_transactions),
        cmocka_unit_test(test_atomic_is_bounded_by_the_transaction),
        cmocka_unit_test(test_atomic_refuses_for_one_fault),
        cmocka_unit_test(test_atomic_failure_is_a_status_and_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
