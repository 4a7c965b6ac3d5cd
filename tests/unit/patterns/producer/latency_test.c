#include "patterns/producer/latency.h"

#include "src/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const uint64_t minute_ns = 60 * NS_PER_S;

static uint64_t quantile(const struct latency *latency, uint64_t now_ns, unsigned per_mille)
{
    struct latency_sum sum = {.total = 0};

    latency_add(&sum, latency, now_ns);
    return latency_quantile(&sum, per_mille);
}

static void test_quantiles_are_right_to_an_eighth(void **state)
{
    struct latency latency = {.minute.value = 0};
    uint64_t now_ns = 100 * minute_ns;

    (void)state;
    assert_int_equal(quantile(&latency, now_ns, 500), 0);
    for (uint64_t us = 1; us < UINT64_MAX / 16; us = us * 9 / 8 + 1) {
        struct latency one = {.minute.value = 0};

        latency_record(&one, now_ns, us, 1);
        if (us < (1ull << 33)) {
            assert_true(quantile(&one, now_ns, 500) >= us);
            assert_true(quantile(&one, now_ns, 500) <= us + us / 8);
        }
    }
    latency_record(&latency, now_ns, 100, 990);
    latency_record(&latency, now_ns, 5000, 10);
    assert_in_range(quantile(&latency, now_ns, 500), 100, 112);
    assert_in_range(quantile(&latency, now_ns, 990), 100, 112);
    assert_in_range(quantile(&latency, now_ns, 991), 5000, 5625);
}

static void test_old_minutes_are_forgotten(void **state)
{
    struct latency latency = {.minute.value = 0};

    (void)state;
    latency_record(&latency, 100 * minute_ns, 1000, 5);
    assert_true(quantile(&latency, 101 * minute_ns, 500) >= 1000);
    assert_int_equal(quantile(&latency, 102 * minute_ns, 500), 0);
    latency_record(&latency, 101 * minute_ns, 7, 5);
    assert_true(quantile(&latency, 101 * minute_ns, 990) >= 1000);
    latency_record(&latency, 102 * minute_ns, 7, 5);
    assert_int_equal(quantile(&latency, 102 * minute_ns, 990), 7);
    latency_record(&latency, 105 * minute_ns, 3, 1); /* nothing in between */
    assert_int_equal(quantile(&latency, 105 * minute_ns, 990), 3);
    latency_record(&latency, 106 * minute_ns, 1000, 5);
    latency_record(&latency, 107 * minute_ns, 1000, 5);
    latency_record(&latency, 109 * minute_ns, 3, 1); /* an even number of minutes later */
    assert_int_equal(quantile(&latency, 109 * minute_ns, 990), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles_are_right_to_an_eighth),
        cmocka_unit_test(test_old_minutes_are_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
