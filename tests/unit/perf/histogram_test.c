/* perf/histogram.h: exact counts, bounded error of percentiles, edges. */
#include "perf/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Tens of kilobytes of buckets do not belong on a stack. */
static struct histogram one, other;

static int fresh(void **state)
{
    (void)state;
    histogram_init(&one);
    histogram_init(&other);
    return 0;
}

static void empty_answers_zero(void **state)
{
    (void)state;
    assert_int_equal(histogram_percentile(&one, 50), 0);
    assert_int_equal(histogram_min(&one), 0);
    assert_int_equal(histogram_max(&one), 0);
    assert_true(histogram_mean(&one) == 0.0);
}

static void one_record_answers_every_percentile(void **state)
{
    (void)state;
    histogram_record(&one, 123456789);
    assert_int_equal(histogram_percentile(&one, 0), 123456789);
    assert_int_equal(histogram_percentile(&one, 50), 123456789);
    assert_int_equal(histogram_percentile(&one, 100), 123456789);
}

static void small_values_are_exact(void **state)
{
    (void)state;
    for (uint64_t v = 1; v <= 200; v++)
        histogram_record(&one, v);
    assert_int_equal(histogram_percentile(&one, 50), 100);
    assert_int_equal(histogram_percentile(&one, 99), 198);
    assert_int_equal(histogram_percentile(&one, 100), 200);
    assert_true(histogram_mean(&one) == 100.5);
}

/* Every power of two and its neighbours: where an off-by-one in the bucket edges would show. */
static void error_is_below_one_percent_everywhere(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < HISTOGRAM_MAX_BITS; bit++) {
        for (int64_t off = -1; off <= 1; off++) {
            uint64_t value = (UINT64_C(1) << bit) + (uint64_t)off;
            histogram_init(&one);
            histogram_record(&one, value);
            histogram_record(&one, HISTOGRAM_MAX_VALUE);
            uint64_t told = histogram_percentile(&one, 50);
            assert_true(told >= value);
            assert_true(told - value <= value / HISTOGRAM_SUB);
        }
    }
}

static void percentiles_of_a_wide_uniform_range(void **state)
{
    (void)state;
    for (uint64_t v = 1; v <= 100000; v++)
        histogram_record(&one, v * 1000);
    for (unsigned percent = 1; percent <= 100; percent++) {
        uint64_t exact = (uint64_t)percent * 1000000;
        uint64_t told = histogram_percentile(&one, percent);
        assert_true(told >= exact);
        assert_true(told <= exact + exact / 100);
    }
    assert_int_equal(histogram_percentile(&one, 100), 100000000);
}

static void too_large_values_stay_in_the_count_and_the_maximum(void **state)
{
    (void)state;
    histogram_record(&one, 5);
    histogram_record(&one, UINT64_MAX);
    assert_int_equal(one.count, 2);
    assert_int_equal(histogram_percentile(&one, 50), 5);
    assert_true(histogram_percentile(&one, 99) == UINT64_MAX);
    assert_true(histogram_max(&one) == UINT64_MAX);
}

static void merging_equals_recording_both(void **state)
{
    static struct histogram both;

    (void)state;
    histogram_init(&both);
    for (uint64_t v = 1; v < 5000; v += 3) {
        histogram_record(&one, v * v);
        histogram_record(&both, v * v);
        histogram_record(&other, v * 7);
        histogram_record(&both, v * 7);
    }
    histogram_merge(&one, &other);
    assert_memory_equal(&one, &both, sizeof one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(empty_answers_zero, fresh),
        cmocka_unit_test_setup(one_record_answers_every_percentile, fresh),
        cmocka_unit_test_setup(small_values_are_exact, fresh),
        cmocka_unit_test_setup(error_is_below_one_percent_everywhere, fresh),
        cmocka_unit_test_setup(percentiles_of_a_wide_uniform_range, fresh),
        cmocka_unit_test_setup(too_large_values_stay_in_the_count_and_the_maximum, fresh),
        cmocka_unit_test_setup(merging_equals_recording_both, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
