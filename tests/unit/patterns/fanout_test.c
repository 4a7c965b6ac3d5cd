/* patterns/fanout.c: width, permits, order, depth, and what ends inside its own start. */
#include "patterns/fanout.h"
#include "pool/worker.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_ITEMS = 10000 };

struct item {
    struct op op;
    struct run *run;
};

/* One fan-out under observation. */
struct run {
    struct fanout fanout;
    struct op_group group;
    struct item items[MAX_ITEMS];
    unsigned started[MAX_ITEMS], ended[MAX_ITEMS];
    size_t in_flight, most_in_flight, all_done, next_index;
    unsigned depth, deepest;
    bool inline_ends; /* items end inside start() */
    bool odd_inline;  /* only those with an odd index */
};

struct world {
    struct worker worker;
    struct arena arena;
    struct semaphore semaphore;
};

static void never_wake(struct worker *worker)
{
    (void)worker;
}

static struct world *world_new(unsigned permits)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    worker_init(&world->worker, 0, never_wake);
    worker_set_current(&world->worker);
    arena_init(&world->arena, NULL);
    semaphore_init(&world->semaphore, permits);
    return world;
}

static void world_destroy(struct world *world)
{
    assert_int_equal(world->semaphore.held, 0);
    arena_clear(&world->arena);
    worker_clear(&world->worker);
    worker_set_current(NULL);
    free(world);
}

static void item_over(struct run *run, size_t i)
{
    run->ended[i]++;
    run->in_flight--;
    fanout_item_done(&run->fanout);
}

static void item_done(struct op *op)
{
    struct item *item = CONTAINER_OF(op, struct item, op);

    item_over(item->run, (size_t)(item - item->run->items));
}

static void start(struct fanout *fanout, size_t i)
{
    struct run *run = CONTAINER_OF(fanout, struct run, fanout);

    assert_int_equal(i, run->next_index);
    run->next_index++;
    run->started[i]++;
    if (++run->depth > run->deepest)
        run->deepest = run->depth;
    if (++run->in_flight > run->most_in_flight)
        run->most_in_flight = run->in_flight;
    run->items[i].run = run;
    if (run->inline_ends || (run->odd_inline && i % 2 == 1)) {
        item_over(run, i);
    } else {
        op_start(&run->items[i].op, &run->group, item_done);
        op_finish(&run->items[i].op, ERR_NONE);
    }
    run->depth--;
}

static void all_done(struct fanout *fanout)
{
    CONTAINER_OF(fanout, struct run, fanout)->all_done++;
}

static struct run *run_new(struct world *world, size_t n, size_t width)
{
    struct run *run = calloc(1, sizeof *run);

    assert_non_null(run);
    op_group_init(&run->group, &world->worker, &world->arena, 0);
    run->fanout = (struct fanout){
        .n = n,
        .width = width,
        .group = &run->group,
        .semaphore = &world->semaphore,
        .start = start,
        .all_done = all_done,
    };
    return run;
}

static void assert_each_once(const struct run *run)
{
    for (size_t i = 0; i < run->fanout.n; i++) {
        assert_int_equal(run->started[i], 1);
        assert_int_equal(run->ended[i], 1);
    }
    assert_int_equal(run->all_done, 1);
    assert_int_equal(run->group.pending, 0);
}

static void test_each_item_once_within_width(void **state)
{
    static const size_t counts[] = {1, 2, 9, 10, 11, 100, 10000};
    static const size_t widths[] = {1, 2, 10, 64, 20000};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        for (size_t w = 0; w < ARRAY_LEN(widths); w++) {
            struct world *world = world_new(100000);
            struct run *run = run_new(world, counts[c], widths[w]);
            size_t expected = counts[c] < widths[w] ? counts[c] : widths[w];

            fanout_run(&run->fanout);
            assert_int_equal(run->all_done, 0);
            worker_drain(&world->worker, 0);
            assert_each_once(run);
            assert_int_equal(run->most_in_flight, expected);
            assert_int_equal(run->deepest, 1);
            free(run);
            world_destroy(world);
        }
    }
}

static void test_no_items_is_done_at_once(void **state)
{
    struct world *world = world_new(1);
    struct run *run = run_new(world, 0, 10);

    (void)state;
    fanout_run(&run->fanout);
    assert_each_once(run);
    free(run);
    world_destroy(world);
}

static void test_permits_bound_fan_outs_together(void **state)
{
    struct world *world = world_new(3);
    struct run *runs[4];
    size_t most = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        runs[i] = run_new(world, 50, 10);
        fanout_run(&runs[i]->fanout);
        assert_true(world->semaphore.held <= 3);
    }
    /* Only the first could start anything: the others wait without an operation of their own. */
    assert_int_equal(runs[0]->in_flight, 3);
    assert_int_equal(runs[1]->in_flight, 0);
    assert_int_equal(runs[1]->group.pending, 1);
    worker_drain(&world->worker, 0);
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        assert_each_once(runs[i]);
        assert_int_equal(runs[i]->deepest, 1);
        most += runs[i]->most_in_flight;
    }
    assert_true(most >= 4);
    assert_true(counter_read(&world->semaphore.waited) > 0);
    for (size_t i = 0; i < ARRAY_LEN(runs); i++)
        free(runs[i]);
    world_destroy(world);
}

static void test_items_that_end_inside_start(void **state)
{
    struct world *world = world_new(2);
    struct run *all = run_new(world, 10000, 10), *odd = run_new(world, 1001, 10);

    (void)state;
    all->inline_ends = true;
    fanout_run(&all->fanout);
    assert_each_once(all);
    assert_int_equal(all->deepest, 1);
    odd->odd_inline = true;
    fanout_run(&odd->fanout);
    worker_drain(&world->worker, 0);
    assert_each_once(odd);
    assert_int_equal(odd->deepest, 1);
    free(all);
    free(odd);
    world_destroy(world);
}

/* One permit: each fan-out gets it in turn, and ends inside its own starts while others wait. */
static void test_inline_ends_hand_the_permit_on(void **state)
{
    struct world *world = world_new(1);
    struct run *runs[20];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        runs[i] = run_new(world, 7, 3);
        runs[i]->odd_inline = i % 2 == 0;
        runs[i]->inline_ends = i % 5 == 1;
        fanout_run(&runs[i]->fanout);
    }
    worker_drain(&world->worker, 0);
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        assert_each_once(runs[i]);
        free(runs[i]);
    }
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_item_once_within_width),
        cmocka_unit_test(test_no_items_is_done_at_once),
        cmocka_unit_test(test_permits_bound_fan_outs_together),
        cmocka_unit_test(test_items_that_end_inside_start),
        cmocka_unit_test(test_inline_ends_hand_the_permit_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
