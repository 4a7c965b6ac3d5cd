#include "patterns/messaging/lanes.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct item {
    struct lane_item lane; /* first */
    unsigned key, number;
    bool started;
};

static void start(struct lane_item *lane)
{
    struct item *item = CONTAINER_OF(lane, struct item, lane);

    assert_false(item->started);
    item->started = true;
}

static void choose(const struct lanes *lanes, struct item *item, const char *key)
{
    item->started = false;
    lanes_choose(lanes, slice_str(key), &item->lane);
}

static void put(struct lanes *lanes, struct item *item, const char *key)
{
    choose(lanes, item, key);
    lanes_put(lanes, &item->lane);
}

static int setup(void **state)
{
    static struct arena arena;

    arena_init(&arena, NULL);
    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    arena_clear(*state);
    return 0;
}

static void test_one_at_a_time(void **state)
{
    struct lanes lanes;
    struct item items[4];

    lanes_init(&lanes, *state, 1, 1, 0, start);
    for (unsigned i = 0; i < 4; i++)
        put(&lanes, &items[i], "a");
    assert_true(items[0].started);
    assert_false(items[1].started);
    assert_int_equal(lanes.waiting, 3);
    assert_false(lanes_remove(&lanes, &items[0].lane)); /* under way */
    assert_true(lanes_remove(&lanes, &items[1].lane));
    assert_true(lanes_remove(&lanes, &items[3].lane));
    lanes_done(&lanes, &items[0].lane);
    assert_true(items[2].started);
    assert_false(items[1].started || items[3].started);
    put(&lanes, &items[3], "b"); /* in the only bucket */
    assert_true(items[3].started);
    put(&lanes, &items[1], "a");
    assert_false(items[1].started);
    lanes_done(&lanes, &items[3].lane);
    lanes_done(&lanes, &items[2].lane);
    assert_true(items[1].started);
    lanes_done(&lanes, &items[1].lane);
    put(&lanes, &items[0], "a");
    assert_true(items[0].started);
    assert_int_equal(lanes.waiting, 0);
}

static void test_without_a_key(void **state)
{
    struct lanes lanes;
    struct item items[2];

    lanes_init(&lanes, *state, 1, 1, 0, start);
    for (unsigned i = 0; i < 2; i++) {
        put(&lanes, &items[i], NULL);
        assert_true(items[i].started);
        assert_false(lanes_remove(&lanes, &items[i].lane));
    }
    lanes_done(&lanes, &items[1].lane);
    lanes_done(&lanes, &items[0].lane);
}

enum { KEYS = 40, N = 4000 };

/* All are chosen before the first is put: buckets may become more in between. */
static void put_random(struct lanes *lanes, struct item *items, uint32_t *random)
{
    unsigned put_of[KEYS] = {0};

    for (unsigned i = 0; i < N; i++) {
        char key[16];

        *random = *random * 1103515245u + 12345u;
        items[i].key = (*random >> 16) % KEYS;
        items[i].number = put_of[items[i].key]++;
        snprintf(key, sizeof key, "key-%u", items[i].key);
        choose(lanes, &items[i], key);
    }
    for (unsigned i = 0; i < N; i++)
        lanes_put(lanes, &items[i].lane);
}

/* Random keys, ended in random order: of each key in the order of the puts, one at a time. Returns
 * how many were under way at first. */
static unsigned run(struct lanes *lanes, struct item *items)
{
    unsigned next[KEYS] = {0}, done = 0, at_first = 0;
    uint32_t random = 1;

    put_random(lanes, items, &random);
    for (unsigned i = 0; i < N; i++)
        at_first += items[i].started;
    while (done < N) {
        for (unsigned i = 0; i < N; i++) {
            struct item *item = &items[i];

            if (!item->started || item->number == UINT32_MAX)
                continue;
            random = random * 1103515245u + 12345u;
            if ((random >> 16) % 3 == 0)
                continue;
            assert_int_equal(item->number, next[item->key]++);
            item->number = UINT32_MAX;
            done++;
            lanes_done(lanes, &item->lane);
        }
    }
    assert_int_equal(lanes->waiting, 0);
    assert_int_equal(lanes->lanes, 0);
    return at_first;
}

/* However few buckets there are, a key waits for none but itself. */
static void test_order_by_key(void **state)
{
    static struct item items[N];
    struct lanes lanes;

    lanes_init(&lanes, *state, 4, 4, 99, start);
    assert_int_equal(run(&lanes, items), KEYS);
    assert_int_equal(lanes.n, 4);
}

static void test_more_buckets(void **state)
{
    static struct item items[N];
    struct lanes lanes;

    lanes_init(&lanes, *state, 1, 1024, 99, start);
    assert_int_equal(run(&lanes, items), KEYS);
    assert_int_equal(lanes.n, 64); /* as many as lanes, and not as items */
}

/* Lanes that stand in one bucket, and in others later, go on where they were: the middle one and
 * the last one of a bucket end, too. */
static void test_lanes_move(void **state)
{
    enum { LANES = 16, EACH = 3 };
    struct lanes lanes;
    struct item items[EACH][LANES];

    lanes_init(&lanes, *state, 1, LANES, 5, start);
    for (unsigned turn = 0; turn < EACH; turn++) {
        for (unsigned i = 0; i < LANES; i++) {
            put(&lanes, &items[turn][i], (const char[]){(char)('a' + i), '\0'});
            assert_int_equal(items[turn][i].started, turn == 0);
        }
    }
    assert_int_equal(lanes.n, LANES);
    assert_int_equal(lanes.waiting, (EACH - 1) * LANES);
    for (unsigned i = 0; i < LANES; i++)
        assert_int_equal(lanes_remove(&lanes, &items[1][i].lane), true);
    for (unsigned i = 0; i < LANES; i++) {
        lanes_done(&lanes, &items[0][i].lane);
        assert_true(items[2][i].started);
        assert_false(items[1][i].started);
        assert_false(lanes_remove(&lanes, &items[2][i].lane));
        lanes_done(&lanes, &items[2][i].lane);
    }
    assert_int_equal(lanes.waiting, 0);
    assert_int_equal(lanes.lanes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order_by_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_buckets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lanes_move, setup, teardown),
    };

    return cmocka_run_group_tests_name("lanes", tests, NULL, NULL);
}
