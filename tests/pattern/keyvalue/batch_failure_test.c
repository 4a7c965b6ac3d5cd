/* Batches when operations fail, when the client goes away, and when the call as a whole is refused.
 */
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

/* ---- failures of operations ---- */

static void test_some_operations_fail(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_batch_request *batch = kv_store_batch(20);

        rig->world.fail_at = 2;

        struct call *call = run(rig, batch);
        /* One chunk, one window, or one item. */
        size_t lost = way == KV_NATIVE ? 8 : way == KV_WINDOWS ? 10 : 1;

        assert_int_equal(answer(call)->success_count, 20 - lost);
        assert_int_equal(answer(call)->results[lost]->code, ERR_UNAVAILABLE);
        fake_call_free(call);
        free(batch);
        kv_rig_free(rig);
    }
}

static void test_all_operations_fail(void **state)
{
    (void)state;
    for (int way = 0; way < KV_WAYS; way++) {
        struct fake_rig *rig = kv_rig_of(way);
        struct kv_batch_request *batch = kv_store_batch(20);

        rig->world.fail_at = 1;
        rig->world.fail_last = UINT64_MAX;

        struct call *call = run(rig, batch);

        kv_assert_failed(call, ERR_UNAVAILABLE, NULL, "told to fail");
        fake_call_free(call);
        free(batch);
        kv_rig_free(rig);
    }
}

static void test_cancelled_half_way(void **state)
{
    struct fake_rig *rig = kv_rig_emulating(FAKE_BASIC);
    struct kv_batch_request *batch = kv_store_batch(100);
    struct call *call = fake_call(rig, "StoreBatch", &batch->message.base);

    (void)state;
    fake_release(&rig->world, 5);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.ops, 15);
    fake_call_cancel(call);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(rig->world.cancelled, 10);
    assert_int_equal(rig->world.ops, 15); /* the other 85 were not sent any more */
    assert_int_equal(fake_keys(&rig->world), 5);
    assert_int_equal(answer(call)->success_count, 5);
    assert_int_equal(answer(call)->results[99]->code, ERR_CANCELLED);
    fake_call_free(call);
    free(batch);
    kv_rig_free(rig);
}

static void test_deadline_half_way(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct kv_batch_request *batch = kv_store_batch(200);
    struct call *call;

    (void)state;
    rig->world.mode = FAKE_PARKED;
    call = fake_call_with(rig, "StoreBatch", &batch->message.base, 100, false);
    fake_release(&rig->world, 3);
    fake_rig_drain(rig);
    fake_rig_advance(rig, 101);
    assert_int_equal(call->ends, 1);
    assert_int_equal(answer(call)->success_count, 24);
    assert_int_equal(answer(call)->results[199]->code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(rig->world.ops, 13);
    fake_call_free(call);
    free(batch);
    kv_rig_free(rig);
}

static void test_cancelled_before_a_permit_came(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_BASIC);
    struct kv_batch_request *batch = kv_store_batch(4);

    (void)state;
    rig->emulate = 1u << BACKEND_KV_BATCH;
    rig->world.mode = FAKE_PARKED;
    fake_rig_set(rig, "emulation_permits", 1);
    fake_rig_bind(rig);

    struct call *first = fake_call(rig, "StoreBatch", &batch->message.base);
    struct call *second = fake_call(rig, "StoreBatch", &batch->message.base);

    fake_call_cancel(second);
    fake_rig_drain(rig);
    assert_int_equal(second->ends, 0); /* it has to wait for the permit to let go of it */
    fake_rig_run(rig);
    assert_int_equal(answer(first)->success_count, 4);
    kv_assert_failed(second, ERR_CANCELLED, NULL, NULL);
    assert_int_equal(rig->world.ops, 4);
    fake_call_free(first);
    fake_call_free(second);
    free(batch);
    kv_rig_free(rig);
}

/* ---- the call as a whole ---- */

static void test_without_batches(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_S3);
    struct kv_batch_request *batch = kv_store_batch(2);
    struct kv_keys_request *keys = kv_keys(2);
    const char *text = "batch not supported: backend does not implement KeyValueBatchInterface";

    (void)state;
    kv_refused(rig, "StoreBatch", &batch->message.base, ERR_UNIMPLEMENTED, "KeyValueBatchInterface",
               text);
    kv_refused(rig, "RetrieveBatch", &keys->retrieve.base, ERR_UNIMPLEMENTED,
               "KeyValueBatchInterface", text);
    kv_refused(rig, "RemoveBatch", &keys->remove.base, ERR_UNIMPLEMENTED, "KeyValueBatchInterface",
               text);
    free(batch);
    free(keys);
    kv_rig_free(rig);
}

static void test_too_many_items(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    struct kv_batch_request *batch = kv_store_batch(51);
    struct kv_keys_request *keys = kv_keys(51);

    (void)state;
    fake_rig_set(rig, "max_batch_items", 50);
    fake_rig_bind(rig);
    kv_refused(rig, "StoreBatch", &batch->message.base, ERR_INVALID_ARGUMENT, "requests",
               "at most 50");
    kv_refused(rig, "RetrieveBatch", &keys->retrieve.base, ERR_INVALID_ARGUMENT, "keys",
               "at most 50");
    kv_refused(rig, "RemoveBatch", &keys->remove.base, ERR_INVALID_ARGUMENT, "keys", "at most 50");
    batch->message.n_requests = 50;
    fake_call_free(run(rig, batch));
    assert_int_equal(fake_keys(&rig->world), 50);
    free(batch);
    free(keys);
    kv_rig_free(rig);
}

/* Texts go first; the codes always fit. */
static void test_an_answer_never_exceeds_a_message(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    struct kv_batch_request *batch = kv_store_batch(100);
    struct kv_keys_request *keys = kv_keys(100);

    (void)state;
    rig->max_message_bytes = 2000;
    fake_rig_bind(rig);
    for (size_t i = 1; i < 100; i++) {
        batch->items[i].key = kv_text("");
        keys->pointers[i] = kv_text("");
    }

    struct call *call = run(rig, batch);

    assert_int_equal(answer(call)->success_count, 1);
    assert_int_equal(answer(call)->results[99]->code, ERR_INVALID_ARGUMENT);
    assert_int_equal(answer(call)->results[99]->_error_case, 0);
    fake_call_free(call);
    call = kv_run(rig, "RemoveBatch", &keys->remove.base);
    kv_assert_ok(call);
    assert_int_equal(((pb_remove_batch_response *)call->reply)->success_count, 1);
    fake_call_free(call);
    free(batch);
    free(keys);
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_some_operations_fail),
        cmocka_unit_test(test_all_operations_fail),
        cmocka_unit_test(test_cancelled_half_way),
        cmocka_unit_test(test_deadline_half_way),
        cmocka_unit_test(test_cancelled_before_a_permit_came),
        cmocka_unit_test(test_without_batches),
        cmocka_unit_test(test_too_many_items),
        cmocka_unit_test(test_an_answer_never_exceeds_a_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
