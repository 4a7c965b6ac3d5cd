/* The deprecated Basic and TTL services: their messages, filled as they always were. */
#include "tests/pattern/keyvalue/kv.h"

#define BASIC(rpc) "/prism.interfaces.keyvalue.KeyValueBasicInterface/" rpc
#define TTL(rpc)   "/prism.interfaces.keyvalue.KeyValueTTLInterface/" rpc

/* All requests here begin with the key, so this one stands for any that has nothing else. */
static old_get_request key_only(const char *key)
{
    old_get_request request = PRISM__INTERFACES__KEYVALUE__GET_REQUEST__INIT;

    request.key = kv_text(key);
    return request;
}

static struct call *ask(struct fake_rig *rig, const char *path, const char *key)
{
    old_get_request request = key_only(key);

    return kv_run(rig, path, &request.base);
}

static struct call *set(struct fake_rig *rig, const char *key, const char *value)
{
    old_set_request request = PRISM__INTERFACES__KEYVALUE__SET_REQUEST__INIT;

    request.key = kv_text(key);
    request.value = kv_bytes(value);
    return kv_run(rig, BASIC("Set"), &request.base);
}

static struct call *expire(struct fake_rig *rig, const char *key, int64_t seconds)
{
    old_expire_request request = PRISM__INTERFACES__KEYVALUE__EXPIRE_REQUEST__INIT;

    request.key = kv_text(key);
    request.ttl_seconds = seconds;
    return kv_run(rig, TTL("Expire"), &request.base);
}

static int64_t ttl(struct fake_rig *rig, const char *key)
{
    struct call *call = ask(rig, TTL("GetTTL"), key);
    const old_get_ttl_response *answer = (const void *)call->reply;
    int64_t seconds = answer->ttl_seconds;

    kv_assert_ok(call);
    assert_string_equal(answer->error, "");
    fake_call_free(call);
    return seconds;
}

static void test_set_get_delete_exists(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC);
    struct call *call = set(rig, "k", "v");
    const old_set_response *stored = (const void *)call->reply;
    const old_get_response *got;
    const old_delete_response *gone;
    const old_exists_response *exists;

    (void)state;
    assert_true(stored->success);
    assert_string_equal(stored->error, "");
    fake_call_free(call);
    call = ask(rig, BASIC("Get"), "k");
    got = (const void *)call->reply;
    assert_true(got->found);
    assert_memory_equal(got->value.data, "v", 1);
    assert_string_equal(got->error, "");
    fake_call_free(call);
    call = ask(rig, BASIC("Exists"), "k");
    exists = (const void *)call->reply;
    assert_true(exists->exists);
    fake_call_free(call);
    for (int i = 0; i < 2; i++) { /* an absent key is no error */
        call = ask(rig, BASIC("Delete"), "k");
        gone = (const void *)call->reply;
        assert_true(gone->success);
        fake_call_free(call);
    }
    call = ask(rig, BASIC("Get"), "k");
    got = (const void *)call->reply;
    assert_false(got->found);
    assert_string_equal(got->error, "");
    fake_call_free(call);
    call = ask(rig, BASIC("Exists"), "k");
    exists = (const void *)call->reply;
    assert_false(exists->exists);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_set_clears_expiry_and_ignores_tags(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC | FAKE_TTL);
    Prism__Common__Tags__TagsEntry entry = PRISM__COMMON__TAGS__TAGS_ENTRY__INIT;
    Prism__Common__Tags__TagsEntry *entries[] = {&entry};
    Prism__Common__Tags tags = PRISM__COMMON__TAGS__INIT;
    old_set_request request = PRISM__INTERFACES__KEYVALUE__SET_REQUEST__INIT;
    struct call *call;

    (void)state;
    fake_call_free(set(rig, "k", "v"));
    fake_call_free(expire(rig, "k", 60));
    assert_int_equal(ttl(rig, "k"), 60);
    entry.key = entry.value = kv_text("x");
    tags.n_tags = 1;
    tags.tags = entries;
    request.key = kv_text("k");
    request.value = kv_bytes("w");
    request.tags = &tags;
    call = kv_run(rig, BASIC("Set"), &request.base);
    assert_true(((old_set_response *)call->reply)->success);
    fake_call_free(call);
    assert_int_equal(ttl(rig, "k"), -1);
    kv_rig_free(rig);
}

static void test_expire_ttl_persist(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_BASIC | FAKE_TTL);
    struct call *call = expire(rig, "k", 10);
    const old_expire_response *answer = (const void *)call->reply;
    const old_persist_response *kept;

    (void)state;
    assert_true(answer->success);
    assert_false(answer->key_existed);
    fake_call_free(call);
    assert_int_equal(ttl(rig, "k"), -2);
    fake_put(&rig->world, "k", "v");
    assert_int_equal(ttl(rig, "k"), -1);
    call = ask(rig, TTL("Persist"), "k");
    kept = (const void *)call->reply;
    assert_true(kept->success);
    assert_false(kept->expiration_removed);
    fake_call_free(call);
    call = expire(rig, "k", 10);
    answer = (const void *)call->reply;
    assert_true(answer->key_existed);
    fake_call_free(call);
    assert_int_equal(ttl(rig, "k"), 10);
    call = ask(rig, TTL("Persist"), "k");
    kept = (const void *)call->reply;
    assert_true(kept->expiration_removed);
    fake_call_free(call);
    call = expire(rig, "k", 0); /* now */
    answer = (const void *)call->reply;
    assert_true(answer->success && answer->key_existed);
    fake_call_free(call);
    assert_int_equal(ttl(rig, "k"), -2);
    kv_rig_free(rig);
}

/* Faults and failures are told in-band, where the old responses have room for them. */
static void test_faults_are_told_in_band(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_BASIC | FAKE_TTL);
    struct call *call;

    (void)state;
    rig->world.type.limits.value_bytes = 3;
    fake_rig_bind(rig);
    call = set(rig, "", "v");
    assert_false(((old_set_response *)call->reply)->success);
    assert_non_null(strstr(((old_set_response *)call->reply)->error, "key is empty"));
    fake_call_free(call);
    call = set(rig, "k", "1234");
    assert_false(((old_set_response *)call->reply)->success);
    fake_call_free(call);
    call = ask(rig, BASIC("Get"), "");
    assert_string_not_equal(((old_get_response *)call->reply)->error, "");
    fake_call_free(call);
    call = ask(rig, BASIC("Delete"), "");
    assert_false(((old_delete_response *)call->reply)->success);
    fake_call_free(call);
    call = ask(rig, BASIC("Exists"), "");
    assert_string_not_equal(((old_exists_response *)call->reply)->error, "");
    fake_call_free(call);
    call = expire(rig, "k", -1);
    assert_false(((old_expire_response *)call->reply)->success);
    fake_call_free(call);
    call = ask(rig, TTL("GetTTL"), "");
    assert_string_not_equal(((old_get_ttl_response *)call->reply)->error, "");
    fake_call_free(call);
    call = ask(rig, TTL("Persist"), "");
    assert_false(((old_persist_response *)call->reply)->success);
    fake_call_free(call);
    assert_int_equal(rig->world.ops, 0);
    kv_rig_free(rig);
}

static void test_failures_are_told_in_band(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct call *call;

    (void)state;
    rig->world.fail_at = 1;
    rig->world.fail_last = UINT64_MAX;
    call = set(rig, "k", "v");
    assert_string_equal(((old_set_response *)call->reply)->error, "the fake was told to fail");
    fake_call_free(call);
    call = ask(rig, BASIC("Get"), "k");
    assert_false(((old_get_response *)call->reply)->found);
    assert_string_not_equal(((old_get_response *)call->reply)->error, "");
    fake_call_free(call);
    call = ask(rig, TTL("GetTTL"), "k");
    assert_string_not_equal(((old_get_ttl_response *)call->reply)->error, "");
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_the_calls_own_end_is_a_status(void **state)
{
    static const char *const paths[] = {BASIC("Set"),    BASIC("Get"),  BASIC("Delete"),
                                        BASIC("Exists"), TTL("Expire"), TTL("GetTTL"),
                                        TTL("Persist")};
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    old_get_request request = key_only("k");

    (void)state;
    rig->world.mode = FAKE_PARKED;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct call *call = fake_call_with(rig, paths[i], &request.base, 10, false);

        fake_rig_advance(rig, 20);
        kv_assert_failed(call, ERR_DEADLINE_EXCEEDED, NULL, NULL);
        fake_call_free(call);
    }
    kv_rig_free(rig);
}

static void test_without_ttl(void **state)
{
    static const char *const paths[] = {TTL("Expire"), TTL("GetTTL"), TTL("Persist")};
    struct fake_rig *rig = kv_rig(FAKE_AS_POSTGRES);
    old_get_request request = key_only("k");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        kv_refused(rig, paths[i], &request.base, ERR_UNIMPLEMENTED, "KeyValueTTLInterface",
                   "expiration not supported");
    kv_rig_free(rig);
}

static void test_a_value_that_no_message_takes(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_BASIC);
    char value[2001] = "";
    struct call *call;

    (void)state;
    rig->max_message_bytes = 2000;
    fake_rig_bind(rig);
    memset(value, 'v', sizeof value - 1);
    fake_put(&rig->world, "k", value);
    call = ask(rig, BASIC("Get"), "k");
    assert_false(((old_get_response *)call->reply)->found);
    assert_non_null(strstr(((old_get_response *)call->reply)->error, "2000 bytes"));
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_every_deprecated_method_names_its_replacement(void **state)
{
    size_t n = 0;

    (void)state;
    for (size_t s = 1; pattern_keyvalue.services[s] != NULL; s++) {
        const struct service *service = pattern_keyvalue.services[s];

        for (size_t m = 0; m < service->method_count; m++, n++) {
            const char *replacement = service->methods[m].replaced_by;
            const char *rpc = strrchr(replacement, '.') + 1;

            assert_true(strncmp(replacement, pattern_keyvalue.service,
                                strlen(pattern_keyvalue.service)) == 0);
            assert_ptr_equal(fake_method(&pattern_keyvalue, rpc)->replaced_by, NULL);
        }
    }
    assert_int_equal(n, 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_get_delete_exists),
        cmocka_unit_test(test_set_clears_expiry_and_ignores_tags),
        cmocka_unit_test(test_expire_ttl_persist),
        cmocka_unit_test(test_faults_are_told_in_band),
        cmocka_unit_test(test_failures_are_told_in_band),
        cmocka_unit_test(test_the_calls_own_end_is_a_status),
        cmocka_unit_test(test_without_ttl),
        cmocka_unit_test(test_a_value_that_no_message_takes),
        cmocka_unit_test(test_every_deprecated_method_names_its_replacement),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
