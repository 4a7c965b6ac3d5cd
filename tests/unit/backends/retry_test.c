/* B8: however much is refused, retries are a tenth of the calls, and a reserve. */
#include "backends/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_nothing_is_answered(void **state)
{
    struct retry_budget budget = retry_budget_begin();
    struct backend_stats stats = {0};
    unsigned retries = 0;

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        retries += retry_budget_spend(&budget, &stats);
    assert_int_equal(retries, RETRY_RESERVE);
    assert_int_equal(counter_read(&stats.retries), RETRY_RESERVE);
    assert_int_equal(counter_read(&stats.retries_refused), 1000 - RETRY_RESERVE);
}

/* Each call is refused once before it is answered. */
static void test_a_tenth_in_the_long_run(void **state)
{
    struct retry_budget budget = retry_budget_begin();
    struct backend_stats stats = {0};
    unsigned retries = 0, calls = 10000;

    (void)state;
    for (unsigned i = 0; i < calls; i++) {
        retries += retry_budget_spend(&budget, &stats);
        retry_budget_earn(&budget);
    }
    assert_in_range(retries, calls / RETRY_CALLS, calls / RETRY_CALLS + RETRY_RESERVE);
}

static void test_what_is_saved_up_is_bounded(void **state)
{
    struct retry_budget budget = retry_budget_begin();
    struct backend_stats stats = {0};
    unsigned retries = 0;

    (void)state;
    for (unsigned i = 0; i < 1000000; i++)
        retry_budget_earn(&budget);
    while (retry_budget_spend(&budget, &stats))
        retries++;
    assert_int_equal(retries, RETRY_MOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_answered),
        cmocka_unit_test(test_a_tenth_in_the_long_run),
        cmocka_unit_test(test_what_is_saved_up_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
