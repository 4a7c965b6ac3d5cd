/* What redis says of its settings beyond the table: all of it at once, with a fix, and no secret.
 */
#include "backends/redis/redis.h"

#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SETTINGS = 32, PAIRS = 12, FAULTS = 5 };

struct example {
    const char *settings[PAIRS]; /* name, value, ..., NULL */
    const char *at[FAULTS];      /* setting "/" other, in any order; NULL ends it */
};

static size_t index_of(const char *name)
{
    size_t i = 0;

    while (backend_redis.settings[i].name != NULL &&
           strcmp(backend_redis.settings[i].name, name) != 0)
        i++;
    assert_non_null(backend_redis.settings[i].name);
    return i;
}

static struct backend_value value_of(const char *text)
{
    return (struct backend_value){
        .text = text, .number = strcmp(text, "true") == 0 ? 1 : strtoull(text, NULL, 10)};
}

static void read_values(struct backend_value *values, const char *const *settings)
{
    const struct backend_setting *table = backend_redis.settings;

    for (size_t i = 0; table[i].name != NULL; i++)
        values[i] = value_of(table[i].fallback);
    for (size_t i = 0; settings[i] != NULL; i += 2)
        values[index_of(settings[i])] = value_of(settings[i + 1]);
}

static bool is_about(const struct backend_fault *fault, const char *at)
{
    size_t n = strcspn(at, "/");

    if (strncmp(fault->setting, at, n) != 0 || fault->setting[n] != '\0')
        return false;
    return at[n] == '\0' ? fault->other == NULL
                         : fault->other != NULL && strcmp(fault->other, at + n + 1) == 0;
}

static const struct backend_fault *find(const struct backend_faults *faults, const char *at)
{
    for (size_t i = 0; i < faults->count; i++)
        if (is_about(&faults->items[i], at))
            return &faults->items[i];
    fail_msg("no fault at %s", at);
    return NULL;
}

static const struct example examples[] = {
    {{NULL}, {NULL}},
    {{"address", "redis://u:p@h:1/3", "database", "3", "db", "3"}, {NULL}},
    {{"username", "u", "password", "p", "db", "5", "key_prefix", "a*b"}, {NULL}},
    {{"username", "u"}, {NULL}}, /* of one that needs none (nopass) */
    {{"address", "redis://:p@h", "username", "u"}, {NULL}},
    {{"address", "redis://h/0", "database", "0"}, {NULL}},
    {{"address", "rediss://h"}, {NULL}},
    {{"tls", "true", "tls_server_name", "n"}, {NULL}},
    {{"tls_ca", "/ca"}, {"tls_ca/tls"}},
    {{"address", "unix:/s", "tls", "true"}, {"tls/address"}},
    {{"address", "rediss://h", "tls_cert", "/c"}, {"tls_cert/tls_key"}},
    {{"address", "rediss://h", "tls_key", "/k"}, {"tls_key/tls_cert"}},
    {{"tls", "true", "tls_server_name", "n", "tls_verify", "false"},
     {"tls_server_name/tls_verify"}},
    {{"address", ""}, {"address"}},
    {{"address", "a,b:7000", "cluster", "true"}, {NULL}},
    {{"cluster", "true", "database", "1"}, {"database/cluster"}},
    {{"cluster", "true", "address", "redis://a/1"}, {"address/cluster"}},
    {{"cluster", "true", "sentinel_master", "m"}, {"cluster/sentinel_master"}},
    {{"cluster", "true", "address", "unix:/s"}, {"cluster/address"}},
    {{"address", "a,b"}, {"address/sentinel_master"}},
    {{"cluster", "true", "key_prefix", "a{b"}, {NULL}},
    {{"address", "a,b:26380", "sentinel_master", "m", "sentinel_password", "p"}, {NULL}},
    {{"sentinel_password", "p"}, {"sentinel_password/sentinel_master"}},
    {{"address", "unix:/s", "sentinel_master", "m"}, {"sentinel_master/address"}},
    {{"key_prefix", ""}, {"key_prefix"}},
    {{"key_prefix", "a:b"}, {"key_prefix"}},
    {{"database", "1", "db", "2"}, {"db/database"}},
    {{"address", "redis://h/0", "db", "4"}, {"db/address"}},
    {{"address", "redis://h/3", "database", "4", "db", "4"}, {"database/address", "db/address"}},
    {{"address", "redis://u:p@h", "username", "v"}, {"username/address"}},
    {{"address", "redis://u:p@h", "password", "q"}, {"password/address"}},
    {{"address", "redis://u:p@h/3", "username", "v", "password", "q", "database", "4", "key_prefix",
      "%"},
     {"username/address", "password/address", "database/address", "key_prefix"}},
    /* An address that is none says nothing of the others. */
    {{"address", "redis://u:p@h/x", "password", "q", "database", "4", "db", "5", "key_prefix", ":"},
     {"address", "db/database", "key_prefix"}},
};

static void test_all_at_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        struct backend_value values[SETTINGS];
        struct backend_faults faults = {.count = 0};
        size_t n = 0;

        read_values(values, examples[i].settings);
        backend_redis.check(values, &faults);
        for (; n < FAULTS && examples[i].at[n] != NULL; n++) {
            const struct backend_fault *fault = find(&faults, examples[i].at[n]);

            assert_true(fault->text != NULL && fault->fix != NULL);
        }
        if (faults.count != n)
            fail_msg("example %zu has %zu faults", i, faults.count);
    }
}

/* store_open refuses what check finds, and nothing else. */
static void test_the_store_agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        struct backend_value values[SETTINGS];
        const struct backend_options options = {
            .namespace_name = "n", .slot = "primary", .values = values};
        struct backend_store *store = NULL;

        read_values(values, examples[i].settings);
        struct err e = backend_redis.store_open(&store, &options);

        assert_int_equal(e.code == ERR_OK, examples[i].at[0] == NULL);
        assert_int_equal(store != NULL, e.code == ERR_OK);
        if (store != NULL)
            backend_redis.store_close(store);
        else
            index_of(e.subject);
    }
}

static void test_no_secret_is_told(void **state)
{
    static const char *const settings[] = {"address",    "redis://sesame:sesame@sesame/sesame",
                                           "username",   "sesame",
                                           "password",   "sesame",
                                           "key_prefix", "sesame:",
                                           NULL};
    struct backend_value values[SETTINGS];
    struct backend_faults faults = {.count = 0};

    (void)state;
    read_values(values, settings);
    backend_redis.check(values, &faults);
    assert_int_equal(faults.count, 2);
    for (size_t i = 0; i < faults.count; i++)
        assert_true(strstr(faults.items[i].text, "sesame") == NULL &&
                    strstr(faults.items[i].fix, "sesame") == NULL);
}

/* Keys of Prism's own beside a stream carry a tag in braces. */
static void test_a_brace_before_the_tag(void **state)
{
    static const char *const settings[] = {"cluster", "true", "key_prefix", "a{b", NULL};
    struct backend_value values[SETTINGS] = {{0}};
    struct backend_faults faults = {.count = 0};

    (void)state;
    read_values(values, settings);
    backend_redis_stream.check(values, &faults);
    assert_int_equal(faults.count, 1);
    find(&faults, "key_prefix/cluster");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_the_store_agrees),
        cmocka_unit_test(test_no_secret_is_told),
        cmocka_unit_test(test_a_brace_before_the_tag),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
