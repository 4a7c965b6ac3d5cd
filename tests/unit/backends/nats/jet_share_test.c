/* What topics may have of the window, and whose turn it is. */
#include "backends/nats/jet_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ITEMS = 6000, TOPICS = 5 };

struct rig {
    struct jet_shares shares;
    struct jet_item items[TOPICS][ITEMS];
};

/* The first n topics hold all of their items. */
static struct rig *start(unsigned n)
{
    struct rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    jet_shares_init(&rig->shares);
    for (unsigned t = 0; t < n; t++) {
        for (unsigned i = 0; i < ITEMS; i++) {
            rig->items[t][i] =
                (struct jet_item){.share = &rig->shares.all[t], .bytes = 1, .first_ns = i + 1};
            jet_shares_hold(&rig->shares, &rig->items[t][i]);
        }
    }
    return rig;
}

static void stop(struct rig *rig)
{
    jet_shares_clear(&rig->shares);
    free(rig);
}

static size_t send_all(struct rig *rig)
{
    struct jet_item *item;
    size_t n = 0;

    while ((item = jet_shares_next(&rig->shares)) != NULL) {
        jet_shares_sent(&rig->shares, item->share, item->bytes);
        n++;
    }
    return n;
}

static void test_one_alone_has_half(void **state)
{
    struct rig *rig = start(1);

    (void)state;
    assert_int_equal(send_all(rig), JET_WINDOW / 2);
    assert_false(jet_shares_may_send(&rig->shares, &rig->shares.all[0]));
    assert_true(jet_shares_may_send(&rig->shares, &rig->shares.all[1]));
    stop(rig);
}

static void test_several_have_the_same(void **state)
{
    struct rig *rig = start(TOPICS - 1);

    (void)state;
    send_all(rig);
    for (unsigned t = 0; t + 1 < TOPICS; t++)
        assert_in_range(rig->shares.all[t].n_sent, JET_WINDOW / TOPICS, JET_WINDOW / TOPICS + 1);
    stop(rig);
}

/* Whatever is taken, one message goes. */
static void test_each_has_one(void **state)
{
    struct rig *rig = start(0);
    struct jet_share *first = &rig->shares.all[0], *last = &rig->shares.all[1];

    (void)state;
    jet_shares_sent(&rig->shares, first, JET_WINDOW_BYTES + 1);
    assert_false(jet_shares_may_send(&rig->shares, first));
    assert_true(jet_shares_may_send(&rig->shares, last));
    jet_shares_sent(&rig->shares, last, 1);
    assert_false(jet_shares_may_send(&rig->shares, last));
    jet_shares_unsent(&rig->shares, first, JET_WINDOW_BYTES + 1);
    assert_true(jet_shares_may_send(&rig->shares, last));
    stop(rig);
}

/* Topics that have much to send do not go before one that has come later. */
static void test_turns(void **state)
{
    struct rig *rig = start(3);
    unsigned turns[3] = {0};

    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        struct jet_item *item = jet_shares_next(&rig->shares);

        assert_non_null(item);
        turns[item->share - rig->shares.all]++;
    }
    for (unsigned t = 0; t < 3; t++)
        assert_int_equal(turns[t], 100);
    stop(rig);
}

static void test_older_first(void **state)
{
    struct rig *rig = start(1);
    struct jet_item heirs[] = {{.share = &rig->shares.all[0], .first_ns = 2},
                               {.share = &rig->shares.all[0], .first_ns = 1}};

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        jet_shares_inherit(&rig->shares, &heirs[i]);
    assert_ptr_equal(jet_shares_next(&rig->shares), &rig->items[0][0]);
    assert_ptr_equal(jet_shares_next(&rig->shares), &heirs[0]);
    assert_ptr_equal(jet_shares_next(&rig->shares), &heirs[1]);
    assert_ptr_equal(jet_shares_next(&rig->shares), &rig->items[0][1]);
    stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_alone_has_half), cmocka_unit_test(test_several_have_the_same),
        cmocka_unit_test(test_each_has_one),       cmocka_unit_test(test_turns),
        cmocka_unit_test(test_older_first),
    };

    return cmocka_run_group_tests_name("jet_share", tests, NULL, NULL);
}
