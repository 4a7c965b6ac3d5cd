/* Where a cluster keeps a key: known answers of CLUSTER KEYSLOT, tags, and what redirects say. */
#include "backends/redis/redis_text.h"

#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void known_slots(void **state)
{
    static const struct {
        const char *key;
        unsigned slot;
    } cases[] = {{"", 0},
                 {"123456789", 12739},
                 {"foo", 12182},
                 {"{user1000}.following", 3443},
                 {"{user1000}.followers", 3443},
                 {"foo{}{bar}", 8363},
                 {"foo{{bar}}zap", 4015},
                 {"foo{bar}{zap}", 5061}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice key = slice_str(cases[i].key);

        for (size_t cut = 0; cut <= key.len; cut++) {
            struct slice head = slice_of(key.data, cut);
            struct slice tail = slice_of(key.data + cut, key.len - cut);

            if (redis_slot(head, tail) != cases[i].slot)
                fail_msg("%s is in slot %u", cases[i].key, redis_slot(head, tail));
        }
    }
}

/* What is named with the tag of a key is where that key is. */
static void tags(void **state)
{
    static const struct {
        const char *key, *tag; /* NULL: some number */
    } cases[] = {{"foo", "foo"}, {"{user1000}.following", "user1000"},
                 {"a{b", "a{b"}, {"{{bar}}zap", "{bar"},
                 {"a}b", NULL},  {"foo{}{bar}", NULL},
                 {"}{", NULL},   {"", ""}};
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct slice key = slice_str(cases[i].key), none = slice_of(NULL, 0);
        struct slice tag = redis_slot_tag(&arena, key);
        struct slice name = slice_str(
            arena_printf(&arena, "prism:wake:{%.*s}", (int)tag.len, (const char *)tag.data));

        if (cases[i].tag != NULL)
            assert_true(slice_equal(tag, slice_str(cases[i].tag)));
        if (key.len > 0)
            assert_int_equal(redis_slot(name, none), redis_slot(key, none));
    }
    arena_clear(&arena);
}

static void redirects(void **state)
{
    static const struct {
        const char *text;
        bool ask;
        unsigned slot;
        const char *host;
        uint16_t port;
    } cases[] = {{"MOVED 3999 127.0.0.1:6381", false, 3999, "127.0.0.1", 6381},
                 {"ASK 0 ::1:6381", true, 0, "::1", 6381},
                 {"MOVED 16383 :7000", false, 16383, "", 7000},
                 {"MOVED 1 ?:7000", false, 1, "", 7000},
                 {"ASK 1 a.example:1", true, 1, "a.example", 1}};
    struct redis_redirect redirect;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(redis_redirect_parse(slice_str(cases[i].text), &redirect));
        assert_int_equal(redirect.ask, cases[i].ask);
        assert_int_equal(redirect.slot, cases[i].slot);
        assert_string_equal(redirect.to.host, cases[i].host);
        assert_int_equal(redirect.to.port, cases[i].port);
    }
}

static void no_redirects(void **state)
{
    static const char *const cases[] = {"",
                                        "MOVED",
                                        "MOVED ",
                                        "MOVED 1",
                                        "MOVED 1 ",
                                        "MOVED 1 h",
                                        "MOVED 1 h:",
                                        "MOVED 1 h:0",
                                        "MOVED x :1",
                                        "MOVED 16384 :1",
                                        "ASK 1 h:65536",
                                        "ASKED 1 h:1",
                                        "ERR MOVED 1 h:1"};
    char longest[400] = "MOVED 1 ";
    struct redis_redirect redirect;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (redis_redirect_parse(slice_str(cases[i]), &redirect))
            fail_msg("%s is none", cases[i]);
    }
    memset(longest + strlen(longest), 'h', REDIS_HOST_BYTES + 2);
    memcpy(longest + strlen(longest), ":1", 3);
    assert_false(redis_redirect_parse(slice_str(longest), &redirect));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_slots),
        cmocka_unit_test(tags),
        cmocka_unit_test(redirects),
        cmocka_unit_test(no_redirects),
    };

    return cmocka_run_group_tests_name("redis_slot", tests, NULL, NULL);
}
