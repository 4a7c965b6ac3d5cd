/* The s3 backend against a real server: the contract of what it offers, and what is special to it.
 */
#include "backends/s3/s3.h"
#include "src/base/container.h"
#include "tests/contract/redis_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LARGE = 8 << 20 };

static char endpoint[64]; /* at which a bucket may be part of the path or of the host */
static const char *flat = "false";

#define LOGIN                                                                                      \
    "bucket", "prism-test", "access_key_id", "rigrigrig", "secret_access_key", "rigrigsecret"
#define HERE "endpoint", endpoint, "force_path_style", "true", "flat_names", flat, LOGIN

/* ---- fixtures ---- */

static int open_contract(void **state)
{
    redis_neighbours_open(state, &backend_s3, "a/b", (redis_settings){HERE, NULL});

    struct kv_fixture *kv = &((struct redis_fixture *)*state)->kv;

    kv->portion = 100;
    kv->backend->has.kv_scan = kv->elsewhere->has.kv_scan = backend_s3.emulations.kv_scan;
    return 0;
}

static int open_default(void **state)
{
    return redis_default_open_as(state, &backend_s3, (redis_settings){HERE, NULL});
}

/* ---- where it connects, and as whom ---- */

static void expect_works(const struct backend_type *type, redis_settings settings)
{
    struct redis_fixture fixture;

    redis_fixture_open_as(&fixture, type, "default", settings);
    redis_until(&fixture, BACKEND_READY);
    kv_put_ok(&fixture.kv, "where", "here", 0);
    assert_string_equal(kv_get_ok(&fixture.kv, "where"), "here");
    redis_fixture_close(&fixture);
}

static void speaks_both_styles(void **state)
{
    (void)state;
    expect_works(&backend_s3, (redis_settings){HERE, NULL});
    expect_works(&backend_minio, (redis_settings){HERE, NULL});
    expect_works(&backend_s3, (redis_settings){"endpoint", endpoint, LOGIN, NULL});
}

static void takes_the_login_from_the_environment(void **state)
{
    redis_settings settings = {"endpoint",         endpoint, "bucket", "prism-test",
                               "force_path_style", "true",   NULL};
    struct backend_store *store;

    (void)state;
    unsetenv("AWS_SECRET_ACCESS_KEY");
    kv_expect(redis_fixture_store_of(&backend_s3, &store, "default", settings),
              ERR_INVALID_ARGUMENT, "access_key_id");
    setenv("AWS_ACCESS_KEY_ID", "rigrigrig", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "rigrigsecret", 1);
    expect_works(&backend_s3, settings);
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
}

static void takes_the_login_from_a_file(void **state)
{
    char path[] = "/tmp/prism-s3-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    redis_settings right = {
        "endpoint", endpoint,           "bucket", "prism-test", "force_path_style",
        "true",     "credentials_file", path,     "profile",    "here",
        NULL};
    redis_settings wrong = {
        "endpoint", endpoint,           "bucket", "prism-test", "force_path_style",
        "true",     "credentials_file", path,     "profile",    "there",
        NULL};
    struct backend_store *store;

    (void)state;
    fputs("[default]\naws_access_key_id = other\naws_secret_access_key = other\n# a comment\n"
          "[here]\naws_access_key_id=rigrigrig\naws_secret_access_key = rigrigsecret \n",
          file);
    fclose(file);
    expect_works(&backend_s3, right);
    kv_expect(redis_fixture_store_of(&backend_s3, &store, "default", wrong), ERR_INVALID_ARGUMENT,
              "profile");
    unlink(path);
}

static void refuses_contradictions(void **state)
{
    static const char *const wrong[][9] = {
        {"endpoint", "ftp://there", LOGIN, NULL},
        {"endpoint", "http://", LOGIN, NULL},
        {"region", "", LOGIN, NULL},
        {"credentials_file", "/nowhere", LOGIN, NULL},
        {"key_prefix", "a/b", LOGIN, NULL},
        {"key_prefix", "..", LOGIN, NULL},
        {"bucket", "Bucket", "access_key_id", "a", "secret_access_key", "b", NULL},
        {"bucket", "bucket", "access_key_id", "a", NULL},
        {"bucket", "bucket", "access_key_id", "a", "secret_access_key", "b\r\nc: d", NULL},
        {"bucket", "bucket", "credentials_file", "/nowhere", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct backend_store *store;
        struct err e = redis_fixture_store_of(&backend_s3, &store, "default", wrong[i]);

        assert_int_equal(e.code, ERR_INVALID_ARGUMENT);
        assert_non_null(e.subject);
        assert_null(store);
    }
}

/* What is told while the server refuses us, and that nothing of it is an answer. */
static void expect_down(redis_settings settings, const char *text)
{
    struct redis_fixture fixture;
    struct kv_exists exists = {.key = slice_str("k")};
    struct err e;

    redis_fixture_open_as(&fixture, &backend_s3, "default", settings);
    redis_until(&fixture, BACKEND_DOWN);
    assert_non_null(strstr(atomic_load(&fixture.store->state_text), text));
    e = redis_put(&fixture, "k", "v");
    assert_int_equal(e.code, ERR_FAILED_PRECONDITION);
    assert_non_null(strstr(e.text, text));
    assert_int_not_equal(kv_do(&fixture.kv, kv_start_exists, &exists.op).code, ERR_OK);
    redis_fixture_close(&fixture);
}

static void says_why_it_is_refused(void **state)
{
    (void)state;
    expect_down((redis_settings){"endpoint", endpoint, "force_path_style", "true", "bucket",
                                 "prism-test", "access_key_id", "rigrigrig", "secret_access_key",
                                 "wrong", NULL},
                "secret key");
    expect_down((redis_settings){"endpoint", endpoint, "force_path_style", "true", "bucket",
                                 "prism-test", "access_key_id", "nobody", "secret_access_key",
                                 "wrong", NULL},
                "access key");
    expect_down((redis_settings){"endpoint", endpoint, "force_path_style", "true", "bucket",
                                 "another", "access_key_id", "rigrigrig", "secret_access_key",
                                 "rigrigsecret", NULL},
                "bucket");
}

/* ---- values ---- */

static void large_values_pass(void **state)
{
    struct redis_fixture *fixture = *state;
    uint8_t *large = test_malloc(LARGE);
    struct kv_put put = {.key = slice_str("large"), .value = slice_of(large, LARGE)};
    struct kv_room room = {.bytes = LARGE - 1};
    struct kv_get get = {.key = slice_str("large")};

    for (size_t i = 0; i < LARGE; i++)
        large[i] = (uint8_t)(i * 2654435761u >> 24);
    assert_int_equal(kv_do(&fixture->kv, kv_start_put, &put.op).code, ERR_OK);
    assert_int_equal(kv_do(&fixture->kv, kv_start_get, &get.op).code, ERR_OK);
    assert_true(get.found && slice_equal(get.value, put.value));
    get.room = &room;
    assert_int_equal(kv_do(&fixture->kv, kv_start_get, &get.op).code, ERR_OK);
    assert_true(get.found && get.value.data == NULL && room.exceeded);
    assert_int_equal(get.value.len, LARGE);
    assert_true(kv_del_ok(&fixture->kv, "large"));
    test_free(large);
}

/* In three parts, the last of them short, under a name that is a digest; written over once. */
static void values_in_parts_pass(void **state)
{
    enum { BYTES = 20 << 20 };
    struct redis_fixture fixture;
    uint8_t *bytes = test_malloc(BYTES);
    char key[400];

    (void)state;
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = '\0';
    redis_fixture_open_as(&fixture, &backend_s3, "default",
                          (redis_settings){HERE, "multipart_bytes", "8388608", NULL});
    redis_until(&fixture, BACKEND_READY);
    for (unsigned round = 0; round < 2; round++) {
        struct kv_put put = {.key = slice_str(key), .value = slice_of(bytes, BYTES)};
        struct kv_get get = {.key = put.key};

        for (size_t i = 0; i < BYTES; i++)
            bytes[i] = (uint8_t)((i + round) * 2654435761u >> 24);
        kv_expect(kv_do(&fixture.kv, kv_start_put, &put.op), ERR_OK, NULL);
        kv_expect(kv_do(&fixture.kv, kv_start_get, &get.op), ERR_OK, NULL);
        assert_true(get.found && slice_equal(get.value, put.value));
    }
    assert_true(kv_del_ok(&fixture.kv, key));
    test_free(bytes);
    redis_fixture_close(&fixture);
}

/* Names that are spelled otherwise where a key ends than where it goes on, and those of digests: a
 * scan of any prefix tells exactly the keys that begin so. */
static void names_of_all_kinds_are_listed(void **state)
{
    struct redis_fixture *fixture = *state;
    char long_key[400], longer_key[401];
    const char *const keys[] = {"n/",    "n/b",   "n//b",   "n/./c", "n/.",      "n/..",  "n/..d",
                                "n/...", "n/ b&", "n/\xff", "n/!2F", longer_key, long_key};
    const char *const prefixes[] = {"n",     "n/",  "n//",    "n/.", "n/..",
                                    "n/...", "n/ ", long_key, "n/x"};

    memset(long_key, 'x', sizeof long_key);
    memcpy(long_key, "n/x", 3);
    long_key[sizeof long_key - 1] = '\0';
    snprintf(longer_key, sizeof longer_key, "%sy", long_key);
    fixture->kv.backend->has.kv_scan = backend_s3.emulations.kv_scan;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        kv_put_ok(&fixture->kv, keys[i], "v", 0);
    for (size_t p = 0; p < ARRAY_LEN(prefixes); p++) {
        struct kv_scan_page page = {.prefix = slice_str(prefixes[p]), .more = true};
        struct kv_count count = {.prefix = page.prefix};
        unsigned wanted = 0, seen = 0;

        for (size_t i = 0; i < ARRAY_LEN(keys); i++)
            wanted += slice_starts_with(slice_str(keys[i]), page.prefix);
        while (page.more) {
            page.op = (struct op){0};
            page.cursor = page.next_cursor;
            page.max_items = 2;
            page.max_bytes = UINT64_MAX;
            kv_expect(kv_do(&fixture->kv, kv_start_page, &page.op), ERR_OK, NULL);
            seen += (unsigned)page.n;
        }
        assert_int_equal(seen, wanted);
        kv_expect(kv_do(&fixture->kv, kv_start_count, &count.op), ERR_OK, NULL);
        assert_int_equal(count.count, wanted);
    }
}

/* More than there are connections: the others wait for one, and each answer finds its operation. */
static void many_at_once(void **state)
{
    struct redis_fixture *fixture = *state;
    uint64_t before = counter_read(&fixture->kv.backend->stats.connects);

    redis_many_at_once(fixture, 500);
    assert_in_range(counter_read(&fixture->kv.backend->stats.connects) - before, 1, 64);
}

/* One more than max_in_flight is refused, whatever the server does. */
static void bounds_are_kept(void **state)
{
    enum { N = 40, MOST = 8 };
    struct redis_fixture fixture;
    struct kv_get gets[N] = {0};
    struct op *ops[N];
    struct redis_flight flight;
    unsigned refused = 0;

    (void)state;
    redis_fixture_open_as(&fixture, &backend_s3, "default",
                          (redis_settings){HERE, "max_in_flight", "8", NULL});
    redis_until(&fixture, BACKEND_READY);
    for (size_t i = 0; i < N; i++) {
        gets[i].key = slice_str("absent");
        ops[i] = &gets[i].op;
    }
    redis_launch(&flight, &fixture, kv_start_get, ops, N, 0);
    redis_land(&flight);
    for (size_t i = 0; i < N; i++) {
        if (gets[i].op.err.code == ERR_OK)
            continue;
        kv_expect(gets[i].op.err, ERR_RESOURCE_EXHAUSTED, "max_in_flight");
        assert_true(gets[i].op.err.retry_after_ms > 0);
        refused++;
    }
    assert_int_equal(refused, N - MOST);
    redis_flight_clear(&flight);
    redis_fixture_close(&fixture);
}

/* All that is in flight ends when the instance closes, and says so. */
static void closes_with_operations_in_flight(void **state)
{
    enum { N = 100 };
    struct redis_fixture fixture;
    struct kv_put puts[N] = {0};
    struct op *ops[N];
    struct redis_flight flight;

    (void)state;
    redis_fixture_open_as(&fixture, &backend_s3, "default", (redis_settings){HERE, NULL});
    for (size_t i = 0; i < N; i++) {
        puts[i] = (struct kv_put){.key = slice_str("closing"), .value = slice_str("v")};
        ops[i] = &puts[i].op;
    }
    redis_launch(&flight, &fixture, kv_start_put, ops, N, 0);
    kv_close(&fixture.kv, fixture.kv.backend);
    fixture.kv.backend = NULL;
    redis_land(&flight);
    for (size_t i = 0; i < N; i++)
        assert_true(puts[i].op.err.code == ERR_OK || puts[i].op.err.code == ERR_UNAVAILABLE);
    redis_flight_clear(&flight);
    redis_fixture_close(&fixture);
}

/* ---- conditional writes ---- */

static void conditions_that_are_ignored_are_not_offered(void **state)
{
    struct redis_fixture *fixture = *state;

    assert_null(fixture->kv.backend->has.kv_cas);
}

static void conditions_are_offered_unless_told_not_to(void **state)
{
    struct redis_fixture *fixture = *state, other;

    assert_non_null(fixture->kv.backend->has.kv_cas);
    assert_true(atomic_load(&fixture->store->facts_version) > 0);
    redis_fixture_open_as(&other, &backend_s3, "default",
                          (redis_settings){HERE, "conditional_writes", "false", NULL});
    redis_until(&other, BACKEND_READY);
    assert_null(other.kv.backend->has.kv_cas);
    redis_fixture_close(&other);
}

/* A count takes what two listings of a thousand names take, however many it needs. */
static void counts_forget_what_they_counted(void **state)
{
    enum { KEYS = 3200 };
    struct redis_fixture *fixture = *state;
    struct kv_count all = {.prefix = slice_str("counted/")};
    struct kv_count some = {.prefix = slice_str("counted/000")};
    size_t before, of_some;

    fixture->kv.portion = 100;
    fixture->kv.backend->has.kv_scan = backend_s3.emulations.kv_scan;
    kv_fill(&fixture->kv, "counted/", 0, KEYS);
    before = fixture->kv.arena.bytes;
    kv_expect(kv_do(&fixture->kv, kv_start_count, &some.op), ERR_OK, NULL);
    assert_int_equal(some.count, 100);
    of_some = fixture->kv.arena.bytes - before;
    kv_expect(kv_do(&fixture->kv, kv_start_count, &all.op), ERR_OK, NULL);
    assert_int_equal(all.count, KEYS);
    assert_true(fixture->kv.arena.bytes - before <= 2 * of_some);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speaks_both_styles),
        cmocka_unit_test(takes_the_login_from_the_environment),
        cmocka_unit_test(takes_the_login_from_a_file),
        cmocka_unit_test(refuses_contradictions),
        cmocka_unit_test(says_why_it_is_refused),
        cmocka_unit_test(bounds_are_kept),
        cmocka_unit_test(closes_with_operations_in_flight),
    };
    const struct CMUnitTest values[] = {KV_TEST(large_values_pass), KV_TEST(values_in_parts_pass),
                                        KV_TEST(names_of_all_kinds_are_listed),
                                        KV_TEST(many_at_once),
                                        KV_TEST(counts_forget_what_they_counted)};
    const struct CMUnitTest lacking[] = {KV_TEST(conditions_that_are_ignored_are_not_offered)};
    const struct CMUnitTest offered[] = {KV_TEST(conditions_are_offered_unless_told_not_to)};
    const char *address = getenv("PRISM_TEST_S3");
    const char *conditional = getenv("PRISM_TEST_S3_CONDITIONAL"); /* NULL: not installed */
    int failed;

    if (address == NULL)
        return 77;
    snprintf(endpoint, sizeof endpoint, "http://%s", address);
    failed = cmocka_run_group_tests_name("s3 connections", tests, NULL, NULL) +
             cmocka_run_group_tests_name("s3 values", values, open_default, redis_default_free) +
             kv_contract("s3", open_contract, redis_neighbours_close) +
             cmocka_run_group_tests_name("s3 without conditions", lacking, open_default,
                                         redis_default_free);
    if (conditional == NULL)
        return failed;
    snprintf(endpoint, sizeof endpoint, "http://%s", conditional);
    flat = "true";
    return failed + kv_contract("s3 with conditions", open_contract, redis_neighbours_close) +
           cmocka_run_group_tests_name("s3 conditions", offered, open_default, redis_default_free);
}
