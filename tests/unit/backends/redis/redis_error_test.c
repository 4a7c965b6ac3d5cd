#include "backends/redis/redis_text.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void words_have_codes(void **state)
{
    static const struct {
        const char *reply;
        enum err_code code;
        bool retry;
    } cases[] = {
        {"OOM command not allowed when used memory > 'maxmemory'.", ERR_RESOURCE_EXHAUSTED, true},
        {"LOADING Redis is loading the dataset in memory", ERR_UNAVAILABLE, true},
        {"MASTERDOWN Link with MASTER is down", ERR_UNAVAILABLE, true},
        {"READONLY You can't write against a read only replica.", ERR_UNAVAILABLE, true},
        {"BUSY Redis is busy running a script.", ERR_UNAVAILABLE, true},
        {"TRYAGAIN Multiple keys request during rehashing of slot", ERR_UNAVAILABLE, true},
        {"CLUSTERDOWN The cluster is down", ERR_UNAVAILABLE, true},
        {"ERR Script attempted to access a non local key in a cluster node script: 1",
         ERR_UNAVAILABLE, true},
        {"MISCONF Redis is configured to save RDB snapshots", ERR_UNAVAILABLE, true},
        {"NOREPLICAS Not enough good replicas to write.", ERR_UNAVAILABLE, true},
        {"NOAUTH Authentication required.", ERR_FAILED_PRECONDITION, false},
        {"WRONGPASS invalid username-password pair", ERR_FAILED_PRECONDITION, false},
        {"NOPERM this user has no permissions", ERR_PERMISSION_DENIED, false},
        {"WRONGTYPE Operation against a key", ERR_FAILED_PRECONDITION, false},
        {"EXECABORT Transaction discarded", ERR_ABORTED, true},
        {"MOVED 3999 127.0.0.1:6381", ERR_FAILED_PRECONDITION, false},
        {"ASK 3999 127.0.0.1:6381", ERR_FAILED_PRECONDITION, false},
        {"CROSSSLOT Keys in request don't hash to the same slot", ERR_FAILED_PRECONDITION, false},
        {"ERR max number of clients reached", ERR_UNAVAILABLE, true},
        {"ERR unknown command", ERR_INTERNAL, false},
        {"OOMPH is another word", ERR_INTERNAL, false},
        {"", ERR_INTERNAL, false},
    };
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = redis_error(&arena, slice_str(cases[i].reply));

        if (e.code != cases[i].code)
            fail_msg("%s: %s", cases[i].reply, err_code_name(e.code));
        assert_int_equal(e.retry_after_ms > 0, cases[i].retry);
        assert_non_null(e.text);
        if (e.code == ERR_RESOURCE_EXHAUSTED)
            assert_string_equal(e.subject, "maxmemory");
    }
    arena_clear(&arena);
}

static void unknown_errors_are_shown(void **state)
{
    struct arena arena;
    char reply[] = "ERR something new", longer[1000];

    (void)state;
    arena_init(&arena, NULL);

    struct err e = redis_error(&arena, slice_str(reply));

    memset(reply, 'x', sizeof reply - 1); /* the text is a copy */
    assert_string_equal(e.text, "redis: ERR something new");
    memset(longer, 'y', sizeof longer);
    e = redis_error(&arena, slice_of(longer, sizeof longer));
    assert_true(strlen(e.text) < 300);
    e = redis_error(&arena, slice_str("ERR unknown command 'SET', with args beginning with: 'key' "
                                      "'\xff\xfe\x80 a secret'"));
    assert_string_equal(e.text, "redis: ERR unknown command 'SET'");
    e = redis_error(&arena, slice_str("ERR bad \xc3\xa4"));
    assert_string_equal(e.text, "redis: ERR bad ");
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_have_codes),
        cmocka_unit_test(unknown_errors_are_shown),
    };

    return cmocka_run_group_tests_name("redis_error", tests, NULL, NULL);
}
