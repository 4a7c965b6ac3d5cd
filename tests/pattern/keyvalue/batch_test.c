/* StoreBatch: native, emulated and pipelined; items at fault, items of one key. */
#include "tests/pattern/keyvalue/kv.h"

static const pb_store_batch_response *answer(const struct call *call)
{
    kv_assert_ok(call);
    return (const void *)call->reply;
}

static struct call *run(struct fake_rig *rig, const struct kv_batch_request *batch)
{
    return kv_run(rig, "StoreBatch", &batch->message.base);
}

static void test_all_stored_in_request_order(void **state)
{
    static const size_t counts[] = {0, 1, 7, 8, 9, 10, 11, 100, 1000};

    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
            struct fake_rig *rig = kv_rig_of(way);
            struct kv_batch_request *batch = kv_store_batch(counts[c]);
            struct call *call = run(rig, batch);

            assert_true(answer(call)->all_success);
            assert_int_equal(answer(call)->success_count, counts[c]);
            assert_int_equal(answer(call)->n_results, counts[c]);
            for (size_t i = 0; i < counts[c]; i++) {
                assert_true(answer(call)->results[i]->success);
                assert_true(fake_has(&rig->world, batch->texts[i], batch->texts[i]));
            }
            assert_int_equal(fake_keys(&rig->world), counts[c]);
            fake_call_free(call);
            free(batch);
            kv_rig_free(rig);
        }
    }
}

static void test_backend_calls_are_as_announced(void **state)
{
    static const uint64_t expected[KV_WAYS] = {
        [KV_NATIVE] = 13, [KV_WINDOWS] = 10, [KV_PIPELINED] = 100, [KV_EMULATED] = 100};

    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_batch_request *batch = kv_store_batch(100);

        fake_call_free(run(rig, batch));
        assert_int_equal(rig->world.ops,
                         expected[way]); /* native: ceil(100/8); a window holds 10 */
        free(batch);
        kv_rig_free(rig);
    }
}

static void test_no_more_in_flight_than_the_width(void **state)
{
    struct fake_rig *rig = kv_rig_emulating(FAKE_BASIC);
    struct kv_batch_request *batch = kv_store_batch(100);
    struct call *call = fake_call(rig, "StoreBatch", &batch->message.base);

    (void)state;
    assert_int_equal(rig->world.in_flight, 10);
    fake_rig_run(rig);
    assert_int_equal(rig->world.max_in_flight, 10);
    assert_true(answer(call)->all_success);
    fake_call_free(call);
    free(batch);
    kv_rig_free(rig);
}

static void test_permits_are_shared_by_all_batches(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_BASIC);
    struct kv_batch_request *batch = kv_store_batch(50);
    struct call *calls[8];

    (void)state;
    rig->emulate = 1u << BACKEND_KV_BATCH;
    rig->world.mode = FAKE_PARKED;
    fake_rig_set(rig, "emulation_permits", 12);
    fake_rig_bind(rig);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        calls[i] = fake_call(rig, "StoreBatch", &batch->message.base);
    assert_int_equal(rig->world.in_flight, 12);
    fake_rig_run(rig);
    assert_int_equal(rig->world.max_in_flight, 12);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        assert_true(answer(calls[i])->all_success);
        fake_call_free(calls[i]);
    }
    free(batch);
    kv_rig_free(rig);
}

/* Single-steps the worker until one of them has ended. */
static void until_one_ends(struct fake_rig *rig, const struct call *a, const struct call *b)
{
    while (a->ends + b->ends == 0)
        assert_int_equal(worker_drain(&rig->worker, 1), 1);
}

/* Others have a turn between the windows of a batch: a Store that came later ends before a long
 * batch, and after one that fits a window. */
static void test_others_have_a_turn_between_windows(void **state)
{
    static const size_t counts[] = {10, 1000};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        struct fake_rig *rig = kv_rig_memstore();
        struct kv_batch_request *batch = kv_store_batch(counts[c]);
        pb_store_request one = kv_store("k", "v");
        struct call *many = fake_call(rig, "StoreBatch", &batch->message.base);
        struct call *single = fake_call(rig, "Store", &one.base);

        until_one_ends(rig, many, single);
        assert_int_equal(many->ends, counts[c] == 10);
        fake_rig_run(rig);
        assert_true(answer(many)->all_success);
        fake_call_free(many);
        fake_call_free(single);
        free(batch);
        kv_rig_free(rig);
    }
}

static void test_results_keep_their_places_when_completions_do_not(void **state)
{
    static const enum fake_order orders[] = {FAKE_LAST_FIRST, FAKE_SHUFFLED};

    (void)state;
    for (size_t o = 0; o < ARRAY_LEN(orders); o++) {
        struct fake_rig *rig = kv_rig_emulating(FAKE_BASIC);
        struct kv_batch_request *batch = kv_store_batch(64);

        rig->world.order = orders[o];
        rig->world.poison = slice_str("key00041");

        struct call *call = run(rig, batch);

        assert_false(answer(call)->all_success);
        assert_int_equal(answer(call)->success_count, 63);
        for (size_t i = 0; i < 64; i++)
            assert_int_equal(answer(call)->results[i]->code, i == 41 ? ERR_UNAVAILABLE : ERR_OK);
        fake_call_free(call);
        free(batch);
        kv_rig_free(rig);
    }
}

static void test_completion_from_another_thread(void **state)
{
    struct fake_rig *rig = kv_rig_emulating(FAKE_BASIC);
    struct kv_batch_request *batch = kv_store_batch(500);

    (void)state;
    rig->world.mode = FAKE_THREAD;

    struct call *call = run(rig, batch);

    assert_int_equal(answer(call)->success_count, 500);
    fake_call_free(call);
    free(batch);
    kv_rig_free(rig);
}

/* ---- the same key more than once ---- */

static void test_the_later_entry_of_a_key_decides(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        for (int order = FAKE_FIRST_FIRST; order <= FAKE_SHUFFLED; order++) {
            struct fake_rig *rig = kv_rig_of(way);
            struct kv_batch_request *batch = kv_store_batch(60);

            rig->world.order = (enum fake_order)order;
            if (way == KV_NATIVE)
                rig->world.mode = FAKE_PARKED;
            for (size_t i = 0; i < 60; i++)
                batch->items[i].key = batch->texts[i % 7];

            struct call *call = run(rig, batch);

            assert_int_equal(answer(call)->success_count, 60);
            for (size_t i = 53; i < 60; i++)
                assert_true(fake_has(&rig->world, batch->texts[i % 7], batch->texts[i]));
            fake_call_free(call);
            free(batch);
            kv_rig_free(rig);
        }
    }
}

/* Chunks go side by side when no key is named twice, else one after the other. */
static void test_chunks_wait_for_each_other_only_when_they_must(void **state)
{
    (void)state;
    for (int twice = 0; twice < 2; twice++) {
        struct fake_rig *rig = kv_rig(FAKE_ALL);
        struct kv_batch_request *batch = kv_store_batch(80);

        rig->world.mode = FAKE_PARKED;
        if (twice != 0)
            batch->items[79].key = batch->texts[0];

        struct call *call = run(rig, batch);

        assert_int_equal(rig->world.max_in_flight, twice != 0 ? 1 : 10);
        fake_call_free(call);
        free(batch);
        kv_rig_free(rig);
    }
}

/* ---- items at fault ---- */

static void spoil(struct kv_batch_request *batch)
{
    batch->items[3].key = kv_text("");
    batch->items[5] = kv_store_for(batch->texts[5], "v", 0);
    batch->items[6] = kv_store_for(batch->texts[6], "v", -4);
}

static void test_items_at_fault_never_reach_the_backend(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_batch_request *batch = kv_store_batch(20);

        spoil(batch);

        struct call *call = run(rig, batch);

        assert_false(answer(call)->all_success);
        assert_int_equal(answer(call)->success_count, 17);
        for (size_t i = 0; i < 20; i++) {
            bool bad = i == 3 || i == 5 || i == 6;
            const pb_store_response *result = answer(call)->results[i];

            assert_int_equal(result->success, !bad);
            assert_int_equal(result->code, bad ? ERR_INVALID_ARGUMENT : ERR_OK);
            assert_int_equal(result->_error_case != 0, bad);
            assert_int_equal(fake_has(&rig->world, batch->texts[i], batch->texts[i]), !bad);
        }
        assert_non_null(strstr(answer(call)->results[6]->error, "expiration_seconds"));
        assert_int_equal(rig->world.items_sent, 17);
        fake_call_free(call);
        free(batch);
        kv_rig_free(rig);
    }
}

static void test_only_items_at_fault(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_batch_request *batch = kv_store_batch(2);

        batch->items[0].key = batch->items[1].key = kv_text("");

        struct call *call = run(rig, batch);

        assert_int_equal(answer(call)->success_count, 0);
        assert_int_equal(rig->world.ops, 0);
        fake_call_free(call);
        free(batch);
        kv_rig_free(rig);
    }
}

static void test_expiration_in_items(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_POSTGRES);
    struct kv_batch_request *batch = kv_store_batch(3);

    (void)state;
    batch->items[1] = kv_store_for(batch->texts[1], "v", 60);

    struct call *call = run(rig, batch);

    assert_int_equal(answer(call)->success_count, 2);
    assert_int_equal(answer(call)->results[1]->code, ERR_UNIMPLEMENTED);
    assert_non_null(strstr(answer(call)->results[1]->error, "expiration not supported"));
    assert_int_equal(fake_keys(&rig->world), 2);
    fake_call_free(call);
    kv_rig_free(rig);

    for (int way = 0; way < KV_WAYS; way++) {
        rig = kv_rig_of(way);
        fake_call_free(run(rig, batch));
        fake_rig_advance(rig, 60000);
        assert_int_equal(fake_keys(&rig->world), 2);
        kv_rig_free(rig);
    }
    free(batch);
}

static void test_preconditions_in_items(void **state)
{
    pb_precondition absent = kv_if_absent(true), version = kv_if_version("v1");

    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_batch_request *batch = kv_store_batch(20);

        fake_put(&rig->world, "key00000", "old"); /* gets version v1 */
        fake_put(&rig->world, "key00001", "old");
        batch->items[0].precondition = &version;
        batch->items[1].precondition = &absent;
        batch->items[2].precondition = &absent;
        batch->items[19].key = batch->texts[2]; /* after item 2: the key is present by then */
        batch->items[19].precondition = &absent;

        struct call *call = run(rig, batch);
        const pb_store_batch_response *got = answer(call);

        assert_int_equal(got->success_count, 18);
        assert_true(got->results[0]->success && got->results[0]->version.len > 0);
        assert_int_equal(got->results[1]->code, ERR_ALREADY_EXISTS);
        assert_true(got->results[2]->success && got->results[2]->version.len > 0);
        assert_int_equal(got->results[3]->_version_case, 0);
        assert_int_equal(got->results[19]->code, ERR_ALREADY_EXISTS);
        assert_true(fake_has(&rig->world, "key00001", "old"));
        fake_call_free(call);
        free(batch);
        kv_rig_free(rig);
    }
}

static void test_precondition_without_cas_is_a_fault_of_the_item(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL & ~FAKE_CAS);
    pb_precondition absent = kv_if_absent(true);
    struct kv_batch_request *batch = kv_store_batch(3);

    (void)state;
    batch->items[2].precondition = &absent;

    struct call *call = run(rig, batch);

    assert_int_equal(answer(call)->success_count, 2);
    assert_int_equal(answer(call)->results[2]->code, ERR_UNIMPLEMENTED);
    fake_call_free(call);
    free(batch);
    kv_rig_free(rig);
}

static void test_an_item_that_the_backend_refuses(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct kv_batch_request *batch = kv_store_batch(30);

    (void)state;
    rig->world.poison = slice_str("key00011");
    batch->items[2].key = kv_text(""); /* what is sent is another list than what was asked */

    struct call *call = run(rig, batch);

    assert_int_equal(answer(call)->success_count, 28);
    assert_int_equal(answer(call)->results[11]->code, ERR_UNAVAILABLE);
    assert_int_equal(answer(call)->results[2]->code, ERR_INVALID_ARGUMENT);
    fake_call_free(call);
    free(batch);
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_stored_in_request_order),
        cmocka_unit_test(test_backend_calls_are_as_announced),
        cmocka_unit_test(test_no_more_in_flight_than_the_width),
        cmocka_unit_test(test_permits_are_shared_by_all_batches),
        cmocka_unit_test(test_others_have_a_turn_between_windows),
        cmocka_unit_test(test_results_keep_their_places_when_completions_do_not),
        cmocka_unit_test(test_completion_from_another_thread),
        cmocka_unit_test(test_the_later_entry_of_a_key_decides),
        cmocka_unit_test(test_chunks_wait_for_each_other_only_when_they_must),
        cmocka_unit_test(test_items_at_fault_never_reach_the_backend),
        cmocka_unit_test(test_only_items_at_fault),
        cmocka_unit_test(test_expiration_in_items),
        cmocka_unit_test(test_preconditions_in_items),
        cmocka_unit_test(test_precondition_without_cas_is_a_fault_of_the_item),
        cmocka_unit_test(test_an_item_that_the_backend_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
