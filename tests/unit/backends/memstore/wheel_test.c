/* The wheel alone: what is noted is handed out, never early, and not late by more than was
 * promised. */
#include "backends/memstore/wheel.h"

#include "tests/unit/backends/memstore/memstore_rig.h"

enum { NOTES = 20000 };

struct bench {
    struct wheel wheel;
    uint64_t now;
    uint64_t noted[NOTES], due[NOTES]; /* by tag; due 0 = handed out */
    size_t left;
};

static struct bench *bench_new(uint64_t now)
{
    struct bench *bench = calloc(1, sizeof *bench);

    assert_non_null(bench);
    bench->now = now;
    wheel_init(&bench->wheel, now);
    return bench;
}

static void bench_destroy(struct bench *bench)
{
    wheel_clear(&bench->wheel);
    free(bench);
}

static void note(struct bench *bench, uint32_t tag, uint64_t due)
{
    wheel_add(&bench->wheel, (struct wheel_note){.tag = tag, .generation = tag % 8}, due);
    bench->noted[tag] = bench->now;
    bench->due[tag] = due;
    bench->left++;
}

/* A slot of the level that a wait belongs to is divided by 512; a level reaches over 63 slots and
 * what is left of the first. */
static uint64_t lateness(uint64_t wait)
{
    uint64_t most = 1;

    for (unsigned level = 2; level < WHEEL_LEVELS; level++) {
        if (wait >= 63ull << 6 * (level - 1))
            most = (1ull << 6 * level) / 512;
    }
    return most;
}

/* Moves time to `now` and takes what is due. */
static void advance(struct bench *bench, uint64_t now)
{
    struct wheel_note out;
    enum wheel_step step;
    uint64_t before = bench->now;

    bench->now = now;
    while ((step = wheel_step(&bench->wheel, now, &out)) != WHEEL_IDLE) {
        if (step == WHEEL_MOVED)
            continue;
        assert_true(out.tag < NOTES && out.generation == out.tag % 8);

        uint64_t due = bench->due[out.tag];

        assert_int_not_equal(due, 0);
        assert_true(due <= now);
        /* It could have come when time stood at `before`, unless it was to be late. */
        if (due > bench->noted[out.tag])
            assert_true(before < due + lateness(due - bench->noted[out.tag]));
        bench->due[out.tag] = 0;
        bench->left--;
    }
    assert_true(wheel_next_tick(&bench->wheel) > now);
    assert_int_equal(bench->wheel.notes, bench->left);
}

static void test_each_tick(void **state)
{
    struct bench *bench = bench_new(1000003);
    uint64_t seed = 1;

    (void)state;
    for (uint32_t tag = 0; tag < NOTES; tag++)
        note(bench, tag, bench->now + rig_random(&seed) % 6000);
    for (unsigned i = 0; i < 6100; i++)
        advance(bench, bench->now + 1);
    assert_int_equal(bench->left, 0);
    bench_destroy(bench);
}

/* Waits of all magnitudes, time in leaps of all magnitudes, notes added as time goes. */
static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 40; seed++) {
        uint64_t random = seed;
        struct bench *bench = bench_new(rig_random(&random) >> 30);
        uint32_t tag = 0;

        while (tag < 2000 || bench->left > 0) {
            if (tag < 2000 && rig_random(&random) % 4 != 0)
                note(bench, tag++,
                     bench->now + (rig_random(&random) >> (35 + rig_random(&random) % 29)));
            else
                advance(bench,
                        bench->now + (rig_random(&random) >> (34 + rig_random(&random) % 30)));
        }
        assert_int_equal(wheel_next_tick(&bench->wheel), UINT64_MAX);
        bench_destroy(bench);
    }
}

static void test_passed_is_due_now(void **state)
{
    struct bench *bench = bench_new(5000);

    (void)state;
    note(bench, 1, 4000);
    note(bench, 2, 5000);
    note(bench, 3, 0);
    bench->due[3] = 1;
    advance(bench, 5000);
    assert_int_equal(bench->left, 0);
    bench_destroy(bench);
}

/* Beyond the horizon it is early: the owner notes it again, and it ends at its time all the same.
 */
static void test_beyond_the_horizon(void **state)
{
    struct bench *bench = bench_new(77);
    struct wheel_note out;
    uint64_t due = 77 + (1ull << 33), now = 77;
    unsigned early = 0;

    (void)state;
    wheel_add(&bench->wheel, (struct wheel_note){.tag = 5}, due);
    for (;;) {
        enum wheel_step step = wheel_step(&bench->wheel, now, &out);

        if (step == WHEEL_IDLE) {
            assert_true(wheel_next_tick(&bench->wheel) > now);
            now = wheel_next_tick(&bench->wheel);
            assert_true(now != UINT64_MAX);
        } else if (step == WHEEL_DUE && now < due) {
            early++;
            wheel_add(&bench->wheel, out, due);
        } else if (step == WHEEL_DUE) {
            break;
        }
    }
    assert_in_range(early, 1, 20);
    assert_true(now - due < (1ull << 30) / 512);
    bench_destroy(bench);
}

/* An empty stretch of a year costs a few steps, and one step never moves more than one chunk. */
static void test_steps_are_few_and_small(void **state)
{
    struct bench *bench = bench_new(0);
    struct wheel_note out;
    unsigned steps = 0, due = 0;

    (void)state;
    for (uint32_t tag = 0; tag < NOTES; tag++)
        note(bench, tag, 400000000);
    for (;;) {
        enum wheel_step step = wheel_step(&bench->wheel, 500000000, &out);

        if (step == WHEEL_IDLE)
            break;
        steps += step == WHEEL_MOVED;
        due += step == WHEEL_DUE;
    }
    assert_int_equal(due, NOTES);
    assert_in_range(steps, NOTES / 13, 4 * (NOTES / 13 + 2));
    bench_destroy(bench);
}

static void test_bytes(void **state)
{
    struct bench *bench = bench_new(0);
    size_t empty = wheel_bytes(&bench->wheel);

    (void)state;
    for (uint32_t tag = 0; tag < NOTES; tag++)
        note(bench, tag, 1000 + tag % 16);
    assert_true(wheel_bytes(&bench->wheel) - empty < NOTES * 6);
    advance(bench, 5000);
    assert_true(wheel_bytes(&bench->wheel) - empty <= 64);
    bench_destroy(bench);
}

/* A review hands out everything within one round over the slots, whenever it was due. */
static void test_review(void **state)
{
    struct bench *bench = bench_new(12345);
    struct wheel_note out;
    uint64_t seed = 3;
    unsigned handed = 0;

    (void)state;
    for (uint32_t tag = 0; tag < 1000; tag++)
        wheel_add(&bench->wheel, (struct wheel_note){.tag = tag},
                  bench->now + 1 + (rig_random(&seed) >> (34 + tag % 30)));
    for (unsigned round = 0; round < WHEEL_LEVELS * WHEEL_SLOTS && bench->wheel.notes > 0;
         round++) {
        wheel_review(&bench->wheel);
        while (bench->wheel.due != NULL) {
            assert_int_equal(wheel_step(&bench->wheel, bench->now, &out), WHEEL_DUE);
            handed++;
        }
    }
    assert_int_equal(handed, 1000);
    wheel_review(&bench->wheel);
    assert_null(bench->wheel.due);
    assert_int_equal(wheel_step(&bench->wheel, bench->now, &out), WHEEL_IDLE);
    bench_destroy(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_tick),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_passed_is_due_now),
        cmocka_unit_test(test_beyond_the_horizon),
        cmocka_unit_test(test_steps_are_few_and_small),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_review),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
