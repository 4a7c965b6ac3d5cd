/* Whether a topic is heard is told without the table of names, and never wrongly denied. */
#include "backends/memstore/messaging.h"
#include "tests/unit/backends/memstore/memstore_rig.h"

enum { LONGEST = 40 };

static bool is_heard(struct messaging *m, const char *name, size_t len)
{
    return names_may_be_heard(m, slice_of(name, len));
}

/* Names that differ in their length, or in one byte. */
static void test_heard_as_long_as_it_is_there(void **state)
{
    struct rig rig;
    struct messaging *m;
    struct named *named[LONGEST + 1];
    char name[LONGEST];
    bool full;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    m = rig.store->messaging;
    memset(name, 'n', sizeof name);
    for (size_t len = 1; len <= LONGEST; len++) {
        named[len] = names_get(m, &named_topic, slice_of(name, len), true, &full);
        assert_non_null(named[len]);
    }
    for (size_t len = 1; len <= LONGEST; len++)
        assert_true(is_heard(m, name, len));
    for (size_t len = 1; len <= LONGEST; len++) {
        assert_true(names_level_may_be_heard(m, message_null())); /* there are any */
        names_put(m, named[len]);
    }
    assert_false(names_level_may_be_heard(m, message_null()));
    for (size_t len = 1; len <= LONGEST; len++)
        assert_false(is_heard(m, name, len));
    rig_close(&rig);
}

/* What is behind the last dot counts, wherever it stands. */
static void test_last_levels(void **state)
{
    static const char *const topics[] = {"a.b.last", "last", ".last", "a.", "."};
    static const char *const levels[] = {"last", "last", "last", "", ""};
    struct rig rig;
    struct messaging *m;
    bool full;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    m = rig.store->messaging;
    for (unsigned i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        struct named *named = names_get(m, &named_topic, slice_str(topics[i]), true, &full);

        assert_true(names_level_may_be_heard(m, slice_str(levels[i])));
        assert_true(names_may_be_heard(m, slice_str(topics[i])));
        assert_false(names_level_may_be_heard(m, slice_str("b.last")));
        names_put(m, named);
        assert_false(names_level_may_be_heard(m, slice_str(levels[i])));
    }
    rig_close(&rig);
}

/* Many at a time: those that are there, and they go with their last reference. */
static void test_many_at_a_time(void **state)
{
    static const char *const topics[] = {"a", "of eight", "of a number that is no multiple", "b"};
    struct named *one[4], *found[6];
    struct slice wanted[6];
    struct rig rig;
    struct messaging *m;
    bool full;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    m = rig.store->messaging;
    for (unsigned i = 0; i < 4; i++) {
        one[i] = names_get(m, &named_topic, slice_str(topics[i]), true, &full);
        wanted[i] = slice_str(topics[i]);
    }
    wanted[4] = slice_str("nobody");
    wanted[5] = message_null();
    names_get_many(m, &named_topic, wanted, 6, found);
    for (unsigned i = 0; i < 4; i++)
        assert_ptr_equal(found[i], one[i]);
    assert_null(found[4]);
    assert_null(found[5]);
    names_get_many(m, &named_stream, wanted, 4, found + 2); /* another kind has other names */
    for (unsigned i = 2; i < 6; i++)
        assert_null(found[i]);
    names_put_many(m, found, 6);
    names_put_many(m, one, 4);
    names_get_many(m, &named_topic, wanted, 2, found);
    assert_ptr_equal(found[0], NULL);
    assert_int_equal(names_count(m), 2); /* two references of the first look are left */
    names_put(m, one[2]);
    names_put(m, one[3]);
    assert_int_equal(names_count(m), 0);
    rig_close(&rig);
}

static void test_streams_and_queues_are_no_topics(void **state)
{
    struct rig rig;
    struct messaging *m;
    bool full;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    m = rig.store->messaging;
    names_put(m, names_get(m, &named_queue, slice_str("q"), true, &full));
    names_put(m, names_get(m, &named_stream, slice_str("q"), true, &full));
    assert_false(is_heard(m, "q", 1));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heard_as_long_as_it_is_there),
        cmocka_unit_test(test_last_levels),
        cmocka_unit_test(test_many_at_a_time),
        cmocka_unit_test(test_streams_and_queues_are_no_topics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
