/* What is known of attempts: rows, their text, and against a table that has one entry for each
 * message. */
#include "backends/nats/jet_deliveries.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka.h wants these before itself */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { CREATED = 77 };

static void expect_text(const struct jet_returns *returns, const char *rows)
{
    char *page = jet_returns_write(returns, CREATED);
    const char *head = "1 77\n";

    assert_int_equal(strncmp(page, head, strlen(head)), 0);
    assert_string_equal(page + strlen(head), rows);
    free(page);
}

static void test_one_row_for_all_that_went_back_together(void **state)
{
    struct jet_returns returns = {0};

    (void)state;
    for (uint64_t sequence = 20; sequence >= 11; sequence--)
        jet_returns_add(&returns, sequence, 1, 1);
    expect_text(&returns, "11-20 1 1\n");
    jet_returns_add(&returns, 15, 2, 2);
    expect_text(&returns, "11-14 1 1\n15-15 2 2\n16-20 1 1\n");
    jet_returns_add(&returns, 15, 1, 9); /* is older */
    jet_returns_settled(&returns, 11);
    jet_returns_settled(&returns, 18); /* would split a row */
    expect_text(&returns, "12-14 1 1\n15-15 2 2\n16-20 1 1\n");
    jet_returns_settled_to(&returns, 15);
    expect_text(&returns, "16-20 1 1\n");
    jet_returns_settled_to(&returns, 17);
    expect_text(&returns, "18-20 1 1\n");
    jet_returns_settled_to(&returns, 99);
    expect_text(&returns, "");
    jet_returns_clear(&returns);
}

static void test_attempts(void **state)
{
    struct jet_returns returns = {0};

    (void)state;
    assert_int_equal(jet_returns_attempt(&returns, 5, 3), 3);
    assert_true(jet_returns_know(&returns, 5, 1));
    assert_false(jet_returns_know(&returns, 5, 2));
    jet_returns_add(&returns, 5, 3, 1);
    assert_true(jet_returns_know(&returns, 5, 4));
    assert_false(jet_returns_know(&returns, 5, 5));
    assert_int_equal(jet_returns_attempt(&returns, 5, 4), 1);
    assert_int_equal(jet_returns_attempt(&returns, 5, 6), 3);
    assert_int_equal(jet_returns_attempt(&returns, 5, 2), 1); /* the server forgot some */
    assert_int_equal(jet_returns_attempt(&returns, 6, 2), 2);
    jet_returns_clear(&returns);
}

/* What the server counts alike is no row for others, and the first to go. */
static void test_plain_rows_are_for_us_alone(void **state)
{
    struct jet_returns returns = {0};

    (void)state;
    jet_returns_add(&returns, 1, 1, 1);
    for (uint64_t i = 1; i <= 2 * JET_RETURNS_MOST; i++)
        jet_returns_add(&returns, 1 + 2 * i, 1, 2);
    assert_true(returns.n <= JET_RETURNS_MOST);
    assert_int_equal(returns.forgotten, 0);
    expect_text(&returns, "1-1 1 1\n");
    for (uint64_t i = 1; i <= JET_RETURNS_MOST; i++)
        jet_returns_add(&returns, 1 + 2 * i, 2, 1);
    assert_int_equal(returns.n, JET_RETURNS_MOST);
    assert_int_equal(returns.forgotten, 1);
    jet_returns_clear(&returns);
}

static void test_pages_hold_the_newest(void **state)
{
    struct jet_returns returns = {0}, read = {0};
    char *page;

    (void)state;
    for (uint64_t i = 1; i <= JET_RETURNS_MOST; i++)
        jet_returns_add(&returns, 3 * i, 1, 1);
    page = jet_returns_write(&returns, CREATED);
    assert_true(strlen(page) < JET_PAGE_BYTES);
    jet_returns_read(&read, page, CREATED);
    assert_true(read.n > 500 && read.items[read.n - 1].to == 3 * JET_RETURNS_MOST);
    free(page);
    jet_returns_clear(&returns);
    jet_returns_clear(&read);
}

static void test_pages_of_others(void **state)
{
    static const char *const wrong[] = {
        "",       "1",           "2 77\n1-1 1 1\n", "1 78\n1-1 1 1\n",   "1 77 1-1 1 1\n",
        "1 77\n", "1 77\n1-1 1", "1 77\n2-1 1 1\n", "1 77\n0-1 1 1\n",   "1 77\n1-99999999 1 1\n",
        "x",      "1 77\nx",     "1 77\n1-1 1 0\n", "1 77\n1-1 1 1 1\n",
    };
    struct jet_returns returns = {0};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        jet_returns_read(&returns, wrong[i], CREATED);
        assert_int_equal(returns.n, 0);
    }
    jet_returns_add(&returns, 4, 2, 1);
    jet_returns_read(&returns, "1 77\n3-5 1 1\n9-9 3 2\nrubbish", CREATED);
    expect_text(&returns, "3-3 1 1\n4-4 2 1\n5-5 1 1\n9-9 3 2\n");
    jet_returns_clear(&returns);
}

/* Any order of notes and settlements says what a table of all messages does. */
static void test_as_a_table(void **state)
{
    enum { MESSAGES = 40, STEPS = 200000 };
    struct jet_returns returns = {0}, read = {0};
    struct {
        uint32_t deliveries, attempt;
    } table[MESSAGES + 1] = {{0}};
    unsigned random = 1;

    (void)state;
    for (unsigned step = 0; step < STEPS; step++) {
        random = random * 1664525 + 1013904223;

        unsigned sequence = 1 + (random >> 8) % MESSAGES;
        uint32_t deliveries = 1 + (random >> 16) % 4 + step / 1000;
        uint32_t attempt = 1 + (random >> 20) % 2;

        jet_returns_add(&returns, sequence, deliveries, attempt);
        if (deliveries > table[sequence].deliveries) {
            table[sequence].deliveries = deliveries;
            table[sequence].attempt = attempt;
        }
        for (unsigned i = 1; i <= MESSAGES && step % 64 == 0; i++) {
            uint32_t next = table[i].deliveries + 1;

            assert_int_equal(jet_returns_attempt(&returns, i, next),
                             table[i].deliveries > 0 ? table[i].attempt : 1);
            assert_true(jet_returns_know(&returns, i, next));
        }
    }
    for (size_t i = 1; i < returns.n; i++)
        assert_true(returns.items[i - 1].to < returns.items[i].from);

    char *page = jet_returns_write(&returns, CREATED);

    jet_returns_read(&read, page, CREATED);
    expect_text(&read, strchr(page, '\n') + 1);
    free(page);
    jet_returns_clear(&returns);
    jet_returns_clear(&read);
}

/* A page that others wrote, whose rows are large and overlap: its cost is in rows, not in messages.
 */
static void test_rows_that_overlap(void **state)
{
    enum { MESSAGES = 40, STEPS = 20000, ROWS = 2000 };
    struct jet_returns returns = {0};
    struct {
        uint32_t deliveries, attempt;
    } table[MESSAGES + 1] = {{0}};
    unsigned random = 1;

    (void)state;
    for (unsigned step = 0; step < STEPS; step++) {
        char page[96];

        random = random * 1664525 + 1013904223;

        unsigned from = 1 + (random >> 8) % MESSAGES, length = (random >> 14) % MESSAGES;
        unsigned to = from + length < MESSAGES ? from + length : MESSAGES;
        uint32_t deliveries = 1 + (random >> 20) % 8 + step / 500, attempt = 1 + (random >> 24) % 2;

        snprintf(page, sizeof page, "1 %d\n%u-%u %u %u\n", CREATED, from, to, deliveries, attempt);
        jet_returns_read(&returns, page, CREATED);
        for (unsigned i = from; i <= to; i++) {
            if (deliveries > table[i].deliveries) {
                table[i].deliveries = deliveries;
                table[i].attempt = attempt;
            }
        }
        for (unsigned i = 1; i <= MESSAGES; i++)
            assert_int_equal(jet_returns_attempt(&returns, i, table[i].deliveries + 1),
                             table[i].deliveries > 0 ? table[i].attempt : 1);
    }
    jet_returns_clear(&returns);

    char *page = malloc(ROWS * 32 + 16);
    size_t at = (size_t)snprintf(page, 16, "1 %d\n", CREATED);

    for (unsigned row = 1; row <= ROWS; row++)
        at += (size_t)snprintf(page + at, 32, "%u-%u %u 1\n", row, 1000000 + row % 3, row);
    jet_returns_read(&returns, page, CREATED);
    assert_int_equal(jet_returns_attempt(&returns, 500000, ROWS + 1), 1);
    jet_returns_clear(&returns);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_row_for_all_that_went_back_together),
        cmocka_unit_test(test_attempts),
        cmocka_unit_test(test_plain_rows_are_for_us_alone),
        cmocka_unit_test(test_pages_hold_the_newest),
        cmocka_unit_test(test_pages_of_others),
        cmocka_unit_test(test_as_a_table),
        cmocka_unit_test(test_rows_that_overlap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
