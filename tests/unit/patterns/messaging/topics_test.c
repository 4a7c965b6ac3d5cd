/* Which topics are allowed, and how their names are mapped. Faulty names: the pattern's tests. */
#include "patterns/messaging/topics.h"

#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static enum err_code map(const char *allowed, const char *name)
{
    struct arena arena;
    struct topics topics;
    struct slice full;
    enum err_code code;

    arena_init(&arena, NULL);
    topics_init(&topics, &arena, "", allowed);
    code = topics_map(&topics, &arena, slice_str(name), &full).code;
    arena_clear(&arena);
    return code;
}

static void test_patterns(void **state)
{
    static const struct {
        const char *allowed, *name;
        bool is_allowed;
    } cases[] = {
        {"*", "anything", true},          {"", "anything", false},      {"orders", "orders", true},
        {"orders", "orders2", false},     {"orders*", "orders2", true}, {"*.eu", "a.b.eu", true},
        {"*.eu", "a.b.us", false},        {"a*b*c", "a-b-b-c", true},   {"a*b*c", "a-c-b", false},
        {"x, orders ,y", "orders", true}, {"x,,y", "y", true},          {"a**b", "ab", true},
        {"*a*a*a*b", "aaaaaaaaaa", false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(map(cases[i].allowed, cases[i].name),
                         cases[i].is_allowed ? ERR_OK : ERR_PERMISSION_DENIED);
}

static void test_a_prefix_comes_and_goes(void **state)
{
    struct arena arena;
    struct topics topics;
    struct slice full;

    (void)state;
    arena_init(&arena, NULL);
    topics_init(&topics, &arena, "team.", "*");
    assert_int_equal(topics_map(&topics, &arena, slice_str("orders"), &full).code, ERR_OK);
    assert_true(slice_equal(full, slice_str("team.orders")));
    assert_true(slice_equal(topics_unmap(&topics, full), slice_str("orders")));
    assert_true(slice_equal(topics_unmap(&topics, slice_str("other")), slice_str("other")));
    arena_clear(&arena);
}

/* The beginning of a name, too: it need not be long, and may be empty. */
static void test_what_no_name_begins_with(void **state)
{
    static const char *const good[] = {"", "a", "team.", "prism.multicast.", "a-b_c/"};
    static const char *const bad[] = {"$", "__x", "a b", "a*", "a>", "a?", "a[", "a\t", "\x7f"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_null(topics_fault(slice_str(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_non_null(topics_fault(slice_str(bad[i])));
}

static void test_settings_that_no_name_can_have(void **state)
{
    static const struct {
        const char *prefix, *allowed, *about;
    } cases[] = {{"", "*", NULL},
                 {"team.", "orders", NULL},
                 {"*", "*", "topic_prefix"},
                 {"a b", "*", "topic_prefix"},
                 {"", "", "allowed_topics"},
                 {"", " , ", "allowed_topics"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct backend_faults faults = {.count = 0};

        topics_check(&faults, cases[i].prefix, cases[i].allowed);
        assert_int_equal(faults.count, cases[i].about != NULL);
        if (cases[i].about != NULL)
            assert_string_equal(faults.items[0].setting, cases[i].about);
    }
}

static void test_settings_that_are_part_of_a_name(void **state)
{
    struct backend_faults faults = {.count = 0};

    (void)state;
    topics_check_part(&faults, "default_group", "a.b/c");
    assert_int_equal(faults.count, 0);
    topics_check_part(&faults, "default_group", "a b");
    topics_check_part(&faults, "dead_letter_suffix", "/ *");
    topics_check(&faults, "*", "");
    assert_int_equal(faults.count, 4);
    assert_string_equal(faults.items[0].setting, "default_group");
    assert_string_equal(faults.items[1].setting, "dead_letter_suffix");
}

static void test_the_bound_is_said(void **state)
{
    char name[301] = {0};
    struct arena arena;
    struct topics topics;
    struct slice full;

    (void)state;
    memset(name, 'x', sizeof name - 1);
    arena_init(&arena, NULL);
    topics_init(&topics, &arena, "team.", "*");
    assert_string_equal(topics_map(&topics, &arena, slice_str(name), &full).text,
                        "topic has 300 bytes, and 244 are the most (max_topic_bytes)");
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_a_prefix_comes_and_goes),
        cmocka_unit_test(test_what_no_name_begins_with),
        cmocka_unit_test(test_settings_that_no_name_can_have),
        cmocka_unit_test(test_settings_that_are_part_of_a_name),
        cmocka_unit_test(test_the_bound_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
