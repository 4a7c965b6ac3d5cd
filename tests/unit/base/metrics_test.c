#include "src/base/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- helpers ---- */

static const char *text_of(struct metrics_page *page, char *out, size_t size)
{
    assert_true(page->len < size);
    memcpy(out, page->text, page->len);
    out[page->len] = '\0';
    return out;
}

static unsigned bucket_of(uint64_t ns)
{
    struct histogram h = {0};
    unsigned found = HISTOGRAM_BUCKETS, hits = 0;

    histogram_record(&h, ns);
    assert_int_equal(counter_read(&h.sum_ns), ns);
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
        if (counter_read(&h.buckets[b]) > 0) {
            found = b;
            hits++;
        }
    }
    assert_int_equal(hits, 1);
    return found;
}

/* ---- tests ---- */

static void test_counters(void **state)
{
    (void)state;
    struct counter c = {0};

    counter_add(&c, 3);
    counter_add_shared(&c, 4);
    assert_int_equal(counter_read(&c), 7);
}

static void test_bucket_edges(void **state)
{
    (void)state;
    assert_int_equal(bucket_of(0), 0);
    assert_int_equal(bucket_of(1), 0);
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS - 1; b++) {
        uint64_t edge = 1ull << (b + HISTOGRAM_MIN_SHIFT);

        assert_int_equal(bucket_of(edge), b); /* le: the edge itself belongs below */
        assert_int_equal(bucket_of(edge + 1), b + 1);
    }
    assert_int_equal(bucket_of(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void test_samples(void **state)
{
    (void)state;
    struct metrics_page page;
    char out[2048];
    const char *const labels[] = {"service", "kv", "odd", "a\\b\"c\nd\xff\xc3\xbc", NULL};

    metrics_page_init(&page);
    metrics_family(&page, "prism_x_total", "counter", "Back\\slash and\nnew \"line\".");
    metrics_sample(&page, "prism_x_total", NULL, 0.1);
    metrics_sample_u64(&page, "prism_x_total", labels, UINT64_MAX);
    metrics_sample(&page, "prism_y", &labels[4], 1.0 / 3.0);
    assert_string_equal(text_of(&page, out, sizeof out),
                        "# HELP prism_x_total Back\\\\slash and\\nnew \"line\".\n"
                        "# TYPE prism_x_total counter\n"
                        "prism_x_total 0.1\n"
                        "prism_x_total{service=\"kv\",odd=\"a\\\\b\\\"c\\nd\xef\xbf\xbd\xc3\xbc\"} "
                        "18446744073709551615\n"
                        "prism_y 0.33333333333333331\n");
    metrics_page_clear(&page);
}

static void test_special_numbers(void **state)
{
    (void)state;
    struct metrics_page page;
    char out[256];

    metrics_page_init(&page);
    metrics_sample(&page, "a", NULL, (double)NAN);
    metrics_sample(&page, "b", NULL, (double)INFINITY);
    metrics_sample(&page, "c", NULL, -(double)INFINITY);
    metrics_sample(&page, "d", NULL, 12345678);
    metrics_sample(&page, "e", NULL, 1e300);
    assert_string_equal(text_of(&page, out, sizeof out),
                        "a NaN\nb +Inf\nc -Inf\nd 12345678\ne 1e+300\n");
    metrics_page_clear(&page);
}

static void test_histogram_text(void **state)
{
    (void)state;
    struct histogram one = {0}, two = {0};
    const struct histogram *const parts[] = {&one, &two};
    const char *const labels[] = {"method", "Store", NULL};
    struct metrics_page page;
    char out[8192];

    histogram_record(&one, 5000);                /* le 8.192e-06 */
    histogram_record(&two, 10000);               /* le 1.6384e-05 */
    histogram_record(&two, 100 * 1000000000ull); /* beyond the last edge */
    metrics_page_init(&page);
    metrics_histogram(&page, "prism_s", labels, parts, 2);
    text_of(&page, out, sizeof out);
    assert_non_null(strstr(out, "prism_s_bucket{method=\"Store\",le=\"8.192e-06\"} 1\n"));
    assert_non_null(strstr(out, "prism_s_bucket{method=\"Store\",le=\"1.6384e-05\"} 2\n"));
    assert_non_null(strstr(out, "prism_s_bucket{method=\"Store\",le=\"34.359738368\"} 2\n"));
    assert_non_null(strstr(out, "prism_s_bucket{method=\"Store\",le=\"+Inf\"} 3\n"
                                "prism_s_sum{method=\"Store\"} 100.000015\n"
                                "prism_s_count{method=\"Store\"} 3\n"));
    metrics_page_clear(&page);
}

static void test_histograms_are_added(void **state)
{
    (void)state;
    struct histogram one = {0}, total = {0};

    histogram_record(&one, 5000);
    histogram_record(&one, 6000);
    histogram_record(&total, 10000);
    histogram_add(&total, &one);
    assert_int_equal(counter_read(&total.buckets[0]), 2);
    assert_int_equal(counter_read(&total.buckets[1]), 1);
    assert_int_equal(counter_read(&total.sum_ns), 21000);
    assert_int_equal(counter_read(&one.sum_ns), 11000);
}

static void test_histogram_without_parts(void **state)
{
    (void)state;
    struct metrics_page page;
    char out[8192];

    metrics_page_init(&page);
    metrics_histogram(&page, "h", NULL, NULL, 0);
    text_of(&page, out, sizeof out);
    assert_non_null(strstr(out, "h_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n"));
    metrics_page_clear(&page);
}

static void test_page_grows(void **state)
{
    (void)state;
    struct metrics_page page;
    size_t lines = 0;

    metrics_page_init(&page);
    for (uint64_t i = 0; i < 5000; i++)
        metrics_sample_u64(&page, "prism_some_metric_with_a_name", NULL, i);
    for (size_t i = 0; i < page.len; i++)
        lines += page.text[i] == '\n';
    assert_int_equal(lines, 5000);
    assert_memory_equal(page.text + page.len - 36, "\nprism_some_metric_with_a_name 4999\n", 36);
    metrics_page_clear(&page);
    assert_null(page.text);
    metrics_page_clear(&page); /* again: no harm */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_bucket_edges),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_special_numbers),
        cmocka_unit_test(test_histogram_text),
        cmocka_unit_test(test_histograms_are_added),
        cmocka_unit_test(test_histogram_without_parts),
        cmocka_unit_test(test_page_grows),
    };

    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
