#include "backends/redis/redis_text.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct good {
    const char *text, *host;
    unsigned port;
    const char *username, *password;
    int database;
};

static void same_text(const char *a, const char *b)
{
    if (b == NULL)
        assert_null(a);
    else
        assert_string_equal(a, b);
}

static void what_people_write(void **state)
{
    static const struct good cases[] = {
        {"localhost:6379", "localhost", 6379, NULL, NULL, -1},
        {"db", "db", 6379, NULL, NULL, -1},
        {"10.0.0.1:1", "10.0.0.1", 1, NULL, NULL, -1},
        {"[::1]:7000", "::1", 7000, NULL, NULL, -1},
        {"[fe80::1]", "fe80::1", 6379, NULL, NULL, -1},
        {"redis://h", "h", 6379, NULL, NULL, -1},
        {"redis://h/", "h", 6379, NULL, NULL, -1},
        {"redis://h:65535/15", "h", 65535, NULL, NULL, 15},
        {"redis://:p@h", "h", 6379, "", "p", -1},
        {"redis://u@h", "h", 6379, "u", NULL, -1},
        {"redis://u:p%40s@[::1]:2/3", "::1", 2, "u", "p@s", 3},
        {"redis://u:a:b@h", "h", 6379, "u", "a:b", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct good *c = &cases[i];
        struct redis_address address;
        struct err e = redis_address_parse(&address, slice_str(c->text));

        if (e.code != ERR_OK)
            fail_msg("%s: %s", c->text, e.text);
        assert_false(address.unix_socket);
        assert_string_equal(address.host, c->host);
        assert_int_equal(address.port, c->port);
        same_text(address.username, c->username);
        same_text(address.password, c->password);
        assert_int_equal(address.database, c->database);
        redis_address_clear(&address);
        assert_null(address.host);
    }
}

static void unix_sockets(void **state)
{
    static const char *const cases[][2] = {{"unix:/run/redis.sock", "/run/redis.sock"},
                                           {"unix:///run/redis.sock", "/run/redis.sock"},
                                           {"unix:here.sock", "here.sock"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct redis_address address;

        assert_int_equal(redis_address_parse(&address, slice_str(cases[i][0])).code, ERR_OK);
        assert_true(address.unix_socket);
        assert_string_equal(address.host, cases[i][1]);
        redis_address_clear(&address);
    }
}

static void several_servers(void **state)
{
    struct redis_address address;

    (void)state;
    assert_int_equal(redis_address_parse(&address, slice_str("redis://u:p@a,[::1]:1,b.c:2/3")).code,
                     ERR_OK);
    assert_int_equal(address.seed_count, 3);
    assert_string_equal(address.seeds[0].host, "a");
    assert_int_equal(address.seeds[0].port, 0);
    assert_string_equal(address.seeds[1].host, "::1");
    assert_int_equal(address.seeds[1].port, 1);
    assert_string_equal(address.seeds[2].host, "b.c");
    assert_int_equal(address.seeds[2].port, 2);
    assert_int_equal(address.database, 3);
    assert_string_equal(address.host, "a");
    assert_int_equal(address.port, REDIS_PORT);
    redis_address_clear(&address);
}

static void what_is_refused(void **state)
{
    static const char *const cases[] = {"",
                                        ":6379",
                                        "h:",
                                        "h:0",
                                        "h:65536",
                                        "h:1a",
                                        "h:-1",
                                        "::1",
                                        "a,",
                                        "a,,b",
                                        ",a",
                                        "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q",
                                        "[::1",
                                        "[::1]x",
                                        "[::1]:",
                                        "[]:1",
                                        "a b",
                                        "redis://",
                                        "redis://h/x",
                                        "redis://h/1/2",
                                        "redis://:@",
                                        "rediss://",
                                        "http://h",
                                        "redis://%zz@h",
                                        "redis://%@h",
                                        "unix:",
                                        "unix://",
                                        "h/1",
                                        "redis://h/99999999999",
                                        "redis://h?x=1",
                                        "redis://u%00:p@h"};
    char path[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct redis_address address;
        struct err e = redis_address_parse(&address, slice_str(cases[i]));

        if (e.code != ERR_INVALID_ARGUMENT)
            fail_msg("%s was accepted", cases[i]);
        assert_string_equal(e.subject, "address");
        assert_null(address.host);
        assert_null(address.password);
    }
    /* The longest path that the system takes, and one byte more. */
    snprintf(path, sizeof path, "unix:/%0*d", REDIS_PATH_BYTES - 1, 0);

    struct redis_address address;

    assert_int_equal(redis_address_parse(&address, slice_str(path)).code, ERR_OK);
    redis_address_clear(&address);
    snprintf(path, sizeof path, "unix:/%0*d", REDIS_PATH_BYTES, 0);
    assert_int_equal(redis_address_parse(&address, slice_str(path)).code, ERR_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_people_write),
        cmocka_unit_test(unix_sockets),
        cmocka_unit_test(several_servers),
        cmocka_unit_test(what_is_refused),
    };

    return cmocka_run_group_tests_name("redis_address", tests, NULL, NULL);
}
