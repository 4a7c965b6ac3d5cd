/* Retrieve, Remove, Exists, and the three operations on expiry. */
#include "tests/pattern/keyvalue/kv.h"

/* ---- Retrieve ---- */

static void test_retrieve_found_absent_empty(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC);
    pb_retrieve_request request = kv_retrieve("k");
    struct call *call = kv_run(rig, "Retrieve", &request.base);
    const pb_retrieve_response *answer = (const void *)call->reply;

    (void)state;
    kv_assert_ok(call);
    assert_false(answer->found);
    assert_int_equal(answer->_error_case, 0);
    fake_call_free(call);
    fake_put(&rig->world, "k", "");
    call = kv_run(rig, "Retrieve", &request.base);
    answer = (const void *)call->reply;
    assert_true(answer->found);
    assert_int_equal(answer->value.len, 0);
    fake_call_free(call);
    fake_put(&rig->world, "k", "value");
    call = kv_run(rig, "Retrieve", &request.base);
    answer = (const void *)call->reply;
    assert_memory_equal(answer->value.data, "value", 5);
    assert_int_equal(answer->_version_case, 0);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_retrieve_version_needs_cas(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC);
    pb_retrieve_request request = kv_retrieve("k");

    (void)state;
    request.with_version = true;
    kv_refused(rig, "Retrieve", &request.base, ERR_UNIMPLEMENTED, "KeyValueCASInterface", NULL);
    kv_rig_free(rig);
    rig = kv_rig(FAKE_BASIC | FAKE_CAS);

    struct call *call = kv_run(rig, "Retrieve", &request.base);

    assert_int_equal(((pb_retrieve_response *)call->reply)->_version_case, 0);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_retrieve_of_what_no_message_takes(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_BASIC);
    pb_retrieve_request request = kv_retrieve("k");
    char big[2001] = "";

    (void)state;
    rig->max_message_bytes = 2000;
    fake_rig_bind(rig);
    memset(big, 'x', sizeof big - 1);
    fake_put(&rig->world, "k", big);

    struct call *call = kv_run(rig, "Retrieve", &request.base);

    kv_assert_failed(call, ERR_RESOURCE_EXHAUSTED, "max_message_bytes", "2000 bytes");
    fake_call_free(call);
    kv_rig_free(rig);
}

/* ---- Remove, Exists ---- */

static void test_remove_twice(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC);
    pb_remove_request request = PRISM__PATTERNS__KEYVALUE__REMOVE_REQUEST__INIT;

    (void)state;
    request.key = kv_text("k");
    fake_put(&rig->world, "k", "v");
    for (int present = 1; present >= 0; present--) {
        struct call *call = kv_run(rig, "Remove", &request.base);
        const pb_remove_response *answer = (const void *)call->reply;

        kv_assert_ok(call);
        assert_true(answer->success);
        assert_int_equal(answer->existed, present);
        assert_int_equal(answer->code, 0);
        fake_call_free(call);
    }
    kv_rig_free(rig);
}

static void test_exists(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC);
    pb_exists_request request = PRISM__PATTERNS__KEYVALUE__EXISTS_REQUEST__INIT;

    (void)state;
    request.key = kv_text("k");
    for (int present = 0; present < 2; present++) {
        struct call *call = kv_run(rig, "Exists", &request.base);

        kv_assert_ok(call);
        assert_int_equal(((pb_exists_response *)call->reply)->exists, present);
        fake_call_free(call);
        fake_put(&rig->world, "k", "v");
    }
    kv_rig_free(rig);
}

/* All that takes a key checks it, before the backend is asked. */
static void test_every_key_is_checked(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_retrieve_request retrieve = kv_retrieve("");
    pb_remove_request removal = PRISM__PATTERNS__KEYVALUE__REMOVE_REQUEST__INIT;
    pb_exists_request exists = PRISM__PATTERNS__KEYVALUE__EXISTS_REQUEST__INIT;
    pb_set_expiration_request set = kv_set_expiration("", 1);
    pb_get_expiration_request get = PRISM__PATTERNS__KEYVALUE__GET_EXPIRATION_REQUEST__INIT;
    pb_clear_expiration_request clear = PRISM__PATTERNS__KEYVALUE__CLEAR_EXPIRATION_REQUEST__INIT;
    const struct {
        const char *rpc;
        const ProtobufCMessage *request;
    } calls[] = {{"Retrieve", &retrieve.base}, {"Remove", &removal.base},
                 {"Exists", &exists.base},     {"SetExpiration", &set.base},
                 {"GetExpiration", &get.base}, {"ClearExpiration", &clear.base}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        kv_refused(rig, calls[i].rpc, calls[i].request, ERR_INVALID_ARGUMENT, "key", "empty");
    kv_rig_free(rig);
}

/* ---- expiry ---- */

static int64_t seconds_left(struct fake_rig *rig, const char *key)
{
    pb_get_expiration_request request = PRISM__PATTERNS__KEYVALUE__GET_EXPIRATION_REQUEST__INIT;

    request.key = kv_text(key);

    struct call *call = kv_run(rig, "GetExpiration", &request.base);
    int64_t left = ((pb_get_expiration_response *)call->reply)->expiration_seconds;

    kv_assert_ok(call);
    fake_call_free(call);
    return left;
}

static bool set_expiration(struct fake_rig *rig, const char *key, int64_t seconds)
{
    pb_set_expiration_request request = kv_set_expiration(key, seconds);
    struct call *call = kv_run(rig, "SetExpiration", &request.base);
    const pb_set_expiration_response *answer = (const void *)call->reply;
    bool existed = answer->key_existed;

    kv_assert_ok(call);
    assert_true(answer->success);
    fake_call_free(call);
    return existed;
}

static bool clear_expiration(struct fake_rig *rig, const char *key)
{
    pb_clear_expiration_request request = PRISM__PATTERNS__KEYVALUE__CLEAR_EXPIRATION_REQUEST__INIT;

    request.key = kv_text(key);

    struct call *call = kv_run(rig, "ClearExpiration", &request.base);
    const pb_clear_expiration_response *answer = (const void *)call->reply;
    bool removed = answer->expiration_removed;

    kv_assert_ok(call);
    assert_true(answer->success);
    fake_call_free(call);
    return removed;
}

static void test_expiration_set_told_cleared(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC | FAKE_TTL);

    (void)state;
    assert_int_equal(seconds_left(rig, "k"), -2);
    assert_false(set_expiration(rig, "k", 10));
    assert_false(clear_expiration(rig, "k"));
    fake_put(&rig->world, "k", "v");
    assert_int_equal(seconds_left(rig, "k"), -1);
    assert_false(clear_expiration(rig, "k"));
    assert_true(set_expiration(rig, "k", 10));
    assert_int_equal(seconds_left(rig, "k"), 10);
    fake_rig_advance(rig, 1);
    assert_int_equal(seconds_left(rig, "k"), 10); /* rounded up */
    fake_rig_advance(rig, 9500);
    assert_int_equal(seconds_left(rig, "k"), 1);
    assert_true(clear_expiration(rig, "k"));
    fake_rig_advance(rig, 100000);
    assert_int_equal(seconds_left(rig, "k"), -1);
    assert_true(set_expiration(rig, "k", 1));
    fake_rig_advance(rig, 1000);
    assert_int_equal(seconds_left(rig, "k"), -2);
    kv_rig_free(rig);
}

static void test_expiration_of_zero_removes(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC | FAKE_TTL);

    (void)state;
    fake_put(&rig->world, "k", "v");
    assert_true(set_expiration(rig, "k", 0));
    assert_int_equal(fake_keys(&rig->world), 0);
    assert_false(set_expiration(rig, "k", 0));
    kv_rig_free(rig);
}

static void test_set_expiration_bounds(void **state)
{
    static const int64_t bad[] = {-1, INT64_MIN, 3153600001, INT64_MAX};
    struct fake_rig *rig = kv_rig(FAKE_BASIC | FAKE_TTL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        pb_set_expiration_request request = kv_set_expiration("k", bad[i]);

        kv_refused(rig, "SetExpiration", &request.base, ERR_INVALID_ARGUMENT, "expiration_seconds",
                   "0 to 3153600000");
    }
    kv_rig_free(rig);
}

static void test_expiry_without_ttl(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_POSTGRES);
    pb_set_expiration_request set = kv_set_expiration("k", 1);
    pb_get_expiration_request get = PRISM__PATTERNS__KEYVALUE__GET_EXPIRATION_REQUEST__INIT;
    pb_clear_expiration_request clear = PRISM__PATTERNS__KEYVALUE__CLEAR_EXPIRATION_REQUEST__INIT;
    const char *text = "expiration not supported: backend does not implement KeyValueTTLInterface";

    (void)state;
    get.key = clear.key = kv_text("k");
    kv_refused(rig, "SetExpiration", &set.base, ERR_UNIMPLEMENTED, "KeyValueTTLInterface", text);
    kv_refused(rig, "GetExpiration", &get.base, ERR_UNIMPLEMENTED, "KeyValueTTLInterface", text);
    kv_refused(rig, "ClearExpiration", &clear.base, ERR_UNIMPLEMENTED, "KeyValueTTLInterface",
               text);
    kv_rig_free(rig);
}

/* ---- Count ---- */

static void test_count(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC | FAKE_SCAN);
    pb_count_request request = PRISM__PATTERNS__KEYVALUE__COUNT_REQUEST__INIT;

    (void)state;
    kv_fill(rig, 15);
    fake_put(&rig->world, "other", "v");

    struct call *call = kv_run(rig, "Count", &request.base);

    assert_int_equal(((pb_count_response *)call->reply)->count, 16);
    fake_call_free(call);
    request._prefix_case = PRISM__PATTERNS__KEYVALUE__COUNT_REQUEST___PREFIX_PREFIX;
    request.prefix = kv_text("key0000");
    call = kv_run(rig, "Count", &request.base);
    assert_int_equal(((pb_count_response *)call->reply)->count, 10);
    fake_call_free(call);
    request.prefix = kv_text("\xc0");
    kv_refused(rig, "Count", &request.base, ERR_INVALID_ARGUMENT, "prefix", "UTF-8");
    kv_rig_free(rig);
    rig = kv_rig(FAKE_AS_S3);
    request.prefix = kv_text("key");
    kv_refused(rig, "Count", &request.base, ERR_UNIMPLEMENTED, "KeyValueScanInterface",
               "scan not supported");
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retrieve_found_absent_empty),
        cmocka_unit_test(test_retrieve_version_needs_cas),
        cmocka_unit_test(test_retrieve_of_what_no_message_takes),
        cmocka_unit_test(test_remove_twice),
        cmocka_unit_test(test_exists),
        cmocka_unit_test(test_every_key_is_checked),
        cmocka_unit_test(test_expiration_set_told_cleared),
        cmocka_unit_test(test_expiration_of_zero_removes),
        cmocka_unit_test(test_set_expiration_bounds),
        cmocka_unit_test(test_expiry_without_ttl),
        cmocka_unit_test(test_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
