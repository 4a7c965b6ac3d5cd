#include "patterns/messaging/settling.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { BYTES = 5 };

static int message;

static bool take(struct settling *settling, uint64_t sequence)
{
    void *found = settling_find(settling, sequence);

    assert_true(found == NULL || found == &message);
    assert_int_equal(settling_take(settling, sequence, BYTES), found != NULL);
    return found != NULL;
}

static void test_prefix(void **state)
{
    struct settling settling;

    (void)state;
    settling_init(&settling, 8);
    assert_int_equal(settling_through(&settling), 0);
    for (uint64_t i = 1; i <= 6; i++)
        assert_int_equal(settling_add(&settling, &message, BYTES), i);
    assert_int_equal(settling.bytes, 30);
    assert_true(take(&settling, 2));
    assert_true(take(&settling, 4));
    assert_int_equal(settling_through(&settling), 0);
    assert_false(take(&settling, 2)); /* settled */
    assert_false(take(&settling, 7)); /* not handed out */
    assert_false(take(&settling, 0));
    assert_null(settling_find(&settling, 4));
    assert_ptr_equal(settling_find(&settling, 3), &message);
    assert_true(take(&settling, 1));
    assert_int_equal(settling_through(&settling), 2);
    assert_true(take(&settling, 3));
    assert_int_equal(settling_through(&settling), 4);
    assert_int_equal(settling.unsettled, 2);
    assert_int_equal(settling.bytes, 10);
    assert_int_equal(settling_next(&settling, 0), 5);
    assert_int_equal(settling_next(&settling, 6), 6);
    assert_true(take(&settling, 6));
    assert_int_equal(settling_next(&settling, 6), 0);
    assert_true(take(&settling, 5));
    assert_int_equal(settling_through(&settling), 6);
    assert_int_equal(settling_next(&settling, 0), 0);
    settling_clear(&settling);
}

static void test_room(void **state)
{
    struct settling settling;

    (void)state;
    settling_init(&settling, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(settling_room(&settling));
        settling_add(&settling, &message, BYTES);
    }
    assert_false(settling_room(&settling));
    assert_true(take(&settling, 3));
    assert_true(settling_room(&settling));
    settling_clear(&settling);
}

/* One slow message: the others go on, for a span that has an end. */
static void test_one_slow_message(void **state)
{
    enum { MOST = 4 };
    struct settling settling;
    uint64_t passed = 0;

    (void)state;
    settling_init(&settling, MOST);
    settling_add(&settling, &message, BYTES);
    while (settling_room(&settling)) {
        uint64_t sequence = settling_add(&settling, &message, BYTES);

        assert_true(take(&settling, sequence));
        assert_int_equal(settling_through(&settling), 0);
        passed++;
    }
    assert_int_equal(passed, MOST * SETTLING_SPAN - 1);
    assert_true(take(&settling, 1));
    assert_int_equal(settling_through(&settling), passed + 1);
    assert_true(settling_room(&settling));
    settling_clear(&settling);
}

/* Against a plain table, in random order. */
static void test_random(void **state)
{
    enum { N = 5000, MOST = 100 };
    struct settling settling;
    bool open[N + 2] = {false};
    uint32_t random = 7;
    uint64_t next = 1, through = 0;

    (void)state;
    settling_init(&settling, MOST);
    while (through < N) {
        random = random * 1103515245u + 12345u;
        if (next <= N && settling_room(&settling) && (random >> 16) % 2 == 0) {
            assert_int_equal(settling_add(&settling, &message, BYTES), next);
            open[next++] = true;
            continue;
        }

        uint64_t sequence = through + 1 + (random >> 16) % (2 * MOST);
        bool was_open = sequence <= N && open[sequence];

        assert_int_equal(take(&settling, sequence), was_open);
        if (was_open)
            open[sequence] = false;
        while (through + 1 < next && !open[through + 1])
            through++;
        assert_int_equal(settling_through(&settling), through);
    }
    assert_int_equal(settling.unsettled, 0);
    assert_int_equal(settling.bytes, 0);
    settling_clear(&settling);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_one_slow_message),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests_name("settling", tests, NULL, NULL);
}
