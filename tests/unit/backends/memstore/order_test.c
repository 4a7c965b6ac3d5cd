/* The ordered set against a sorted array, through growth, random change and decay. */
#include "backends/memstore/roster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MEMBERS = 4000, NUMBERS = 3 };

static struct member *member_of(unsigned i)
{
    struct member *member = calloc(1, sizeof *member + 16);

    assert_non_null(member);
    member->identity_len = (uint32_t)snprintf((char *)member->bytes, 16, "%05u", i * 7919 % 100000);
    return member;
}

static int by_name(const void *a, const void *b)
{
    return slice_compare(member_name(*(struct member *const *)a),
                         member_name(*(struct member *const *)b));
}

/* The same sequence in each run. */
static unsigned roll(unsigned sides)
{
    static uint64_t seed = 1;

    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % sides;
}

struct bench {
    struct order order;
    struct member *members[MEMBERS]; /* in order */
    bool in[NUMBERS][MEMBERS];
    size_t entries;
};

/* By some at a time, to the end. */
static void expect_skips(const struct bench *bench, uint64_t number)
{
    struct order_place place = order_seek(&bench->order, number, slice_of(NULL, 0), false);
    unsigned i = 0, most, passed;
    void *last = NULL;

    do {
        most = roll(200) + 1;
        passed = order_skip(&place, number, most, &last);
        assert_true(passed <= most);
        for (unsigned n = 0; n < passed; n++, i++) {
            while (!bench->in[number][i])
                i++;
        }
        assert_true(passed == 0 || last == bench->members[i - 1]);
    } while (passed == most);
    while (i < MEMBERS)
        assert_false(bench->in[number][i++]);
    assert_null(order_at(&place, number));
}

/* Walks each number from the start, and from behind a member. */
static void expect_same(const struct bench *bench)
{
    for (uint64_t number = 0; number < NUMBERS; number++) {
        struct order_place place = order_seek(&bench->order, number, slice_of(NULL, 0), false);

        for (unsigned i = 0; i < MEMBERS; i++) {
            if (!bench->in[number][i])
                continue;
            assert_ptr_equal(order_at(&place, number), bench->members[i]);
            if (i % 97 == 0) {
                struct slice name = member_name(bench->members[i]);
                struct order_place at = order_seek(&bench->order, number, name, false);
                struct order_place behind = order_seek(&bench->order, number, name, true);

                assert_ptr_equal(order_at(&at, number), bench->members[i]);
                order_next(&at);
                assert_true(at.leaf == behind.leaf && at.at == behind.at);
            }
            order_next(&place);
        }
        assert_null(order_at(&place, number));
        expect_skips(bench, number);
    }
    assert_int_equal(bench->order.entries, bench->entries);
}

/* Another of the number, if there is any. */
static void expect_other(const struct bench *bench, unsigned number, unsigned i,
                         const struct member *other)
{
    for (unsigned j = 0; other == NULL && j < MEMBERS; j++)
        assert_true(j == i || !bench->in[number][j]);
    if (other != NULL) {
        struct order_place place = order_seek(&bench->order, number, member_name(other), false);

        assert_ptr_equal(order_at(&place, number), other);
        assert_ptr_not_equal(other, bench->members[i]);
    }
}

static void set(struct bench *bench, unsigned number, unsigned i, bool in)
{
    if (bench->in[number][i] == in)
        return;
    bench->in[number][i] = in;
    bench->entries += in ? 1 : (size_t)-1;
    if (in)
        expect_other(bench, number, i, order_insert(&bench->order, number, bench->members[i]));
    else
        order_remove(&bench->order, number, bench->members[i]);
}

static void test_model(void **state)
{
    struct bench *bench = calloc(1, sizeof *bench);
    uint64_t number;

    (void)state;
    assert_non_null(bench);
    bench->order.name = member_name;
    for (unsigned i = 0; i < MEMBERS; i++)
        bench->members[i] = member_of(i);
    qsort(bench->members, MEMBERS, sizeof *bench->members, by_name);
    assert_null(order_first(&bench->order, &number));
    for (unsigned i = 0; i < MEMBERS; i++) /* ascending */
        set(bench, 1, i, true);
    expect_same(bench);
    assert_true(order_bytes(&bench->order) < 24 * MEMBERS); /* and so nearly full */
    for (unsigned i = MEMBERS; i-- > 0;)                    /* descending */
        set(bench, 0, i, true);
    expect_same(bench);
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned i = 0; i < 2000; i++)
            set(bench, roll(NUMBERS), roll(MEMBERS), roll(100) < (round < 30 ? 70 : 5));
        expect_same(bench);
    }
    for (unsigned n = 0; n < NUMBERS; n++) {
        for (unsigned i = 0; i < MEMBERS; i++)
            set(bench, n, i, false);
    }
    expect_same(bench);
    assert_int_equal(bench->order.nodes, 0);
    for (unsigned i = 0; i < MEMBERS; i++) {
        set(bench, i % NUMBERS, i, true);
    }
    order_clear(&bench->order);
    for (unsigned i = 0; i < MEMBERS; i++)
        free(bench->members[i]);
    free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model)};

    return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
