/* Store: writes, expiry, preconditions; every check before the first effect. */
#include "tests/pattern/keyvalue/kv.h"

static const pb_store_response *answer(const struct call *call)
{
    kv_assert_ok(call);
    return (const void *)call->reply;
}

static void store_ok(struct fake_rig *rig, const pb_store_request *request)
{
    struct call *call = kv_run(rig, "Store", &request->base);

    assert_true(answer(call)->success);
    assert_int_equal(answer(call)->code, 0);
    assert_int_equal(answer(call)->_error_case, 0);
    fake_call_free(call);
}

/* Told in-band, with nothing sent or written. */
static void store_denied(struct fake_rig *rig, const pb_store_request *request, enum err_code code,
                         const char *text)
{
    uint64_t ops = rig->world.ops;
    struct call *call = kv_run(rig, "Store", &request->base);

    assert_false(answer(call)->success);
    assert_int_equal(answer(call)->code, code);
    assert_non_null(strstr(answer(call)->error, text));
    assert_int_equal(rig->world.ops, ops);
    fake_call_free(call);
}

static void test_value_is_stored_and_replaced(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC);
    pb_store_request first = kv_store("k", "one"), second = kv_store("k", "two");

    (void)state;
    store_ok(rig, &first);
    assert_true(fake_has(&rig->world, "k", "one"));
    store_ok(rig, &second);
    assert_true(fake_has(&rig->world, "k", "two"));
    kv_rig_free(rig);
}

static void test_empty_and_binary_values(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC);
    pb_store_request request = kv_store("empty", "");
    uint8_t all[256];

    (void)state;
    store_ok(rig, &request);
    assert_true(fake_has(&rig->world, "empty", ""));
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (uint8_t)i;
    request = kv_store("bytes", "");
    request.value = (ProtobufCBinaryData){.len = sizeof all, .data = all};
    store_ok(rig, &request);
    assert_true(
        slice_equal(fake_find(&rig->world, slice_str("bytes"))->value, slice_of(all, sizeof all)));
    kv_rig_free(rig);
}

static void test_keys_are_checked(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_BASIC);
    pb_store_request request = kv_store("", "v");

    (void)state;
    rig->world.type.limits.key_bytes = 8;
    fake_rig_bind(rig);
    kv_refused(rig, "Store", &request.base, ERR_INVALID_ARGUMENT, "key", "empty");
    request = kv_store("ninechars", "v");
    kv_refused(rig, "Store", &request.base, ERR_INVALID_ARGUMENT, "key", "at most 8");
    request = kv_store("\xff\xfe", "v");
    kv_refused(rig, "Store", &request.base, ERR_INVALID_ARGUMENT, "key", "UTF-8");
    request = kv_store("ascii..\xc3", "v");
    kv_refused(rig, "Store", &request.base, ERR_INVALID_ARGUMENT, "key", "UTF-8");
    request = kv_store("\xc3\xa9t\xc3\xa9", "v");
    store_ok(rig, &request);
    request = kv_store("8letters", "v");
    store_ok(rig, &request);
    kv_rig_free(rig);
}

static void test_values_are_bounded(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_BASIC);
    pb_store_request request = kv_store("k", "12345");

    (void)state;
    rig->world.type.limits.value_bytes = 4;
    fake_rig_bind(rig);
    kv_refused(rig, "Store", &request.base, ERR_INVALID_ARGUMENT, "value", "at most 4");
    request = kv_store("k", "1234");
    store_ok(rig, &request);
    kv_rig_free(rig);
}

static void test_expiration_is_part_of_the_write(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_REDIS);
    pb_store_request request = kv_store_for("test:key", "value", 60);

    (void)state;
    store_ok(rig, &request);
    assert_int_equal(rig->world.ops, 1);
    fake_rig_advance(rig, 59999);
    assert_true(fake_has(&rig->world, "test:key", "value"));
    fake_rig_advance(rig, 1);
    assert_false(fake_has(&rig->world, "test:key", "value"));
    kv_rig_free(rig);
}

static void test_a_store_without_expiration_clears_it(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_REDIS);
    pb_store_request request = kv_store_for("k", "v", 5);

    (void)state;
    store_ok(rig, &request);
    request = kv_store("k", "w");
    store_ok(rig, &request);
    fake_rig_advance(rig, 3600000);
    assert_true(fake_has(&rig->world, "k", "w"));
    kv_rig_free(rig);
}

static void test_expiration_unsupported_is_told_and_nothing_written(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_POSTGRES);
    pb_store_request request = kv_store_for("test:key", "value", 60);

    (void)state;
    store_denied(rig, &request, ERR_UNIMPLEMENTED, "expiration not supported");
    assert_int_equal(fake_keys(&rig->world), 0);
    kv_rig_free(rig);
}

static void test_expiration_bounds(void **state)
{
    static const int64_t bad[] = {0, -1, INT64_MIN, 3153600001, INT64_MAX};
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_store_request request;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        request = kv_store_for("k", "v", bad[i]);
        kv_refused(rig, "Store", &request.base, ERR_INVALID_ARGUMENT, "expiration_seconds",
                   "1 to 3153600000");
    }
    request = kv_store_for("k", "v", 3153600000);
    store_ok(rig, &request);
    kv_rig_free(rig);
}

static void test_expiration_bound_is_a_setting(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    pb_store_request request = kv_store_for("k", "v", 11);

    (void)state;
    fake_rig_set(rig, "max_expiration_seconds", 10);
    fake_rig_bind(rig);
    kv_refused(rig, "Store", &request.base, ERR_INVALID_ARGUMENT, "expiration_seconds", "1 to 10");
    kv_rig_free(rig);
}

/* An expiration that the backend cannot keep is refused, not shortened. */
static void test_expiration_bound_is_the_backend_s(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    pb_store_request request = kv_store_for("k", "v", 8);

    (void)state;
    rig->world.type.limits.ttl_ms = 7999;
    fake_rig_bind(rig);
    kv_refused(rig, "Store", &request.base, ERR_INVALID_ARGUMENT, "expiration_seconds", "1 to 7");
    kv_rig_free(rig);
}

static void test_tags_are_not_dropped_in_silence(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    Prism__Common__Tags__TagsEntry entry = PRISM__COMMON__TAGS__TAGS_ENTRY__INIT;
    Prism__Common__Tags__TagsEntry *entries[] = {&entry};
    Prism__Common__Tags tags = PRISM__COMMON__TAGS__INIT;
    pb_store_request request = kv_store("k", "v");

    (void)state;
    request.tags = &tags;
    store_ok(rig, &request);
    entry.key = kv_text("a");
    entry.value = kv_text("b");
    tags.n_tags = 1;
    tags.tags = entries;
    store_denied(rig, &request, ERR_UNIMPLEMENTED, "tags not supported");
    kv_rig_free(rig);
}

/* ---- preconditions ---- */

static void test_if_absent(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_precondition condition = kv_if_absent(true);
    pb_store_request request = kv_store_for("k", "one", 60);

    (void)state;
    request.precondition = &condition;

    struct call *call = kv_run(rig, "Store", &request.base);

    assert_true(answer(call)->success);
    assert_int_equal(answer(call)->_version_case,
                     PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___VERSION_VERSION);
    assert_true(answer(call)->version.len > 0);
    fake_call_free(call);
    request.value = kv_bytes("two");
    call = kv_run(rig, "Store", &request.base);
    assert_false(answer(call)->success);
    assert_int_equal(answer(call)->code, ERR_ALREADY_EXISTS);
    assert_int_equal(answer(call)->_version_case, 0);
    fake_call_free(call);
    assert_true(fake_has(&rig->world, "k", "one"));
    fake_rig_advance(rig, 60000);
    assert_false(fake_has(&rig->world, "k", "one"));
    kv_rig_free(rig);
}

static void test_if_version(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_retrieve_request read = kv_retrieve("k");
    pb_store_request request = kv_store("k", "two");
    pb_precondition condition = kv_if_version("v999");

    (void)state;
    fake_put(&rig->world, "k", "one");
    request.precondition = &condition;

    struct call *call = kv_run(rig, "Store", &request.base);

    assert_false(answer(call)->success);
    assert_int_equal(answer(call)->code, ERR_FAILED_PRECONDITION);
    fake_call_free(call);
    assert_true(fake_has(&rig->world, "k", "one"));

    read.with_version = true;
    struct call *got = kv_run(rig, "Retrieve", &read.base);

    condition.if_version = ((pb_retrieve_response *)got->reply)->version;
    call = kv_run(rig, "Store", &request.base);
    assert_true(answer(call)->success);
    assert_true(fake_has(&rig->world, "k", "two"));
    fake_call_free(call);
    call = kv_run(rig, "Store", &request.base); /* that version is gone */
    assert_int_equal(answer(call)->code, ERR_FAILED_PRECONDITION);
    fake_call_free(call);
    fake_call_free(got);
    kv_rig_free(rig);
}

static void test_preconditions_that_say_nothing(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_precondition conditions[] = {kv_if_absent(false), kv_if_version(""),
                                    PRISM__PATTERNS__KEYVALUE__PRECONDITION__INIT};
    pb_store_request request = kv_store("k", "v");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(conditions); i++) {
        request.precondition = &conditions[i];
        kv_refused(rig, "Store", &request.base, ERR_INVALID_ARGUMENT, "precondition", NULL);
    }
    kv_rig_free(rig);
}

static void test_precondition_without_cas(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL & ~FAKE_CAS);
    pb_precondition condition = kv_if_absent(true);
    pb_store_request request = kv_store("k", "v");

    (void)state;
    request.precondition = &condition;
    kv_refused(rig, "Store", &request.base, ERR_UNIMPLEMENTED, "KeyValueCASInterface",
               "backend does not implement KeyValueCASInterface");
    assert_int_equal(fake_keys(&rig->world), 0);
    kv_rig_free(rig);
}

/* ---- failures of the backend ---- */

static void test_backend_failures_are_statuses(void **state)
{
    static const enum err_code codes[] = {ERR_UNAVAILABLE, ERR_DEADLINE_EXCEEDED, ERR_INTERNAL,
                                          ERR_RESOURCE_EXHAUSTED};
    struct fake_rig *rig = kv_rig(FAKE_BASIC);
    pb_store_request request = kv_store("k", "v");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        rig->world.fail_at = rig->world.ops + 1;
        rig->world.fail_with = err_about(codes[i], "a thing", "it went wrong");
        rig->world.fail_with.retry_after_ms = 250;

        struct call *call = kv_run(rig, "Store", &request.base);

        kv_assert_failed(call, codes[i], "a thing", "it went wrong");
        assert_int_equal(call->status.retry_after_ms, 250);
        fake_call_free(call);
    }
    kv_rig_free(rig);
}

static void test_full_store(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC);
    pb_store_request one = kv_store("one", "v"), two = kv_store("two", "v");

    (void)state;
    rig->world.max_keys = 1;
    store_ok(rig, &one);

    struct call *call = kv_run(rig, "Store", &two.base);

    kv_assert_failed(call, ERR_RESOURCE_EXHAUSTED, NULL, NULL);
    fake_call_free(call);
    store_ok(rig, &one); /* overwriting needs no room */
    kv_rig_free(rig);
}

static void test_cancel_and_deadline_let_the_backend_go(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_store_request request = kv_store("k", "v");

    (void)state;
    rig->world.mode = FAKE_PARKED;

    struct call *call = fake_call(rig, "Store", &request.base);

    fake_call_cancel(call);
    fake_rig_drain(rig);
    kv_assert_failed(call, ERR_CANCELLED, NULL, NULL);
    fake_call_free(call);
    call = fake_call_with(rig, "Store", &request.base, 50, false);
    fake_rig_advance(rig, 49);
    assert_int_equal(call->ends, 0);
    fake_rig_advance(rig, 2);
    kv_assert_failed(call, ERR_DEADLINE_EXCEEDED, NULL, NULL);
    fake_call_free(call);
    assert_int_equal(rig->world.cancelled, 2);
    assert_int_equal(fake_keys(&rig->world), 0);
    kv_rig_free(rig);
}

static void test_completion_from_another_thread(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_store_request request = kv_store("k", "v");

    (void)state;
    rig->world.mode = FAKE_THREAD;
    for (int i = 0; i < 200; i++)
        store_ok(rig, &request);
    kv_rig_free(rig);
}

static void test_requests_that_do_not_decode(void **state)
{
    static const uint8_t truncated[] = {0x0a, 0x7f, 'k'};
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct call *call =
        fake_call_bytes(rig, fake_method(rig->type, "Store"), truncated, sizeof truncated);

    (void)state;
    kv_assert_failed(call, ERR_INVALID_ARGUMENT, "request", NULL);
    fake_call_free(call);
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_value_is_stored_and_replaced),
        cmocka_unit_test(test_empty_and_binary_values),
        cmocka_unit_test(test_keys_are_checked),
        cmocka_unit_test(test_values_are_bounded),
        cmocka_unit_test(test_expiration_is_part_of_the_write),
        cmocka_unit_test(test_a_store_without_expiration_clears_it),
        cmocka_unit_test(test_expiration_unsupported_is_told_and_nothing_written),
        cmocka_unit_test(test_expiration_bounds),
        cmocka_unit_test(test_expiration_bound_is_a_setting),
        cmocka_unit_test(test_expiration_bound_is_the_backend_s),
        cmocka_unit_test(test_tags_are_not_dropped_in_silence),
        cmocka_unit_test(test_if_absent),
        cmocka_unit_test(test_if_version),
        cmocka_unit_test(test_preconditions_that_say_nothing),
        cmocka_unit_test(test_precondition_without_cas),
        cmocka_unit_test(test_backend_failures_are_statuses),
        cmocka_unit_test(test_full_store),
        cmocka_unit_test(test_cancel_and_deadline_let_the_backend_go),
        cmocka_unit_test(test_completion_from_another_thread),
        cmocka_unit_test(test_requests_that_do_not_decode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
