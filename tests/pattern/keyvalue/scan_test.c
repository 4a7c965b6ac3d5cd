/* Scan: pages, limits, budgets, cursors, sizes. */
#include "tests/pattern/keyvalue/kv.h"

static const pb_scan_response *last(const struct call *call)
{
    return kv_page(call, call->sent_count - 1);
}

static struct call *scan(struct fake_rig *rig, const pb_scan_request *request)
{
    struct call *call = kv_run(rig, "Scan", &request->base);

    kv_assert_pages(call);
    return call;
}

static void test_all_keys_in_pages(void **state)
{
    static const size_t counts[] = {0, 1, 99, 100};
    pb_scan_request request = kv_scan("");

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        struct fake_rig *rig = kv_rig_unbound(FAKE_BASIC | FAKE_SCAN);

        fake_rig_set(rig, "scan_page_items", 30);
        fake_rig_bind(rig);
        kv_fill(rig, counts[c]);

        struct call *call = scan(rig, &request);

        assert_int_equal(kv_keys_in(call), counts[c]);
        assert_int_equal(call->sent_count, counts[c] == 0 ? 1 : (counts[c] + 29) / 30);
        assert_false(last(call)->has_more);
        assert_int_equal(kv_page(call, 0)->n_values, 0);
        fake_call_free(call);
        kv_rig_free(rig);
    }
}

static void test_default_limit_is_100_and_a_cursor_goes_on(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST__INIT;
    struct call *first, *second;

    (void)state;
    kv_fill(rig, 130);
    first = scan(rig, &request);
    assert_int_equal(kv_keys_in(first), 100);
    assert_true(last(first)->has_more);
    kv_scan_cursor(&request, last(first)->next_cursor);
    second = scan(rig, &request);
    assert_int_equal(kv_keys_in(second), 30);
    assert_string_equal(kv_page(second, 0)->keys[0], "key00100");
    assert_false(last(second)->has_more);
    fake_call_free(first);
    fake_call_free(second);
    kv_rig_free(rig);
}

static void test_prefix_limit_values(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("b:");

    (void)state;
    fake_put(&rig->world, "a:1", "x");
    fake_put(&rig->world, "b:1", "one");
    fake_put(&rig->world, "b:2", "");
    fake_put(&rig->world, "b:3", "three");
    fake_put(&rig->world, "b*", "glob");
    kv_scan_values(&request);
    kv_scan_limit(&request, 2);

    struct call *call = scan(rig, &request);

    assert_int_equal(kv_keys_in(call), 2);
    assert_int_equal(kv_page(call, 0)->n_values, 2);
    assert_string_equal(kv_page(call, 0)->keys[1], "b:2");
    assert_memory_equal(kv_page(call, 0)->values[0].data, "one", 3);
    assert_int_equal(kv_page(call, 0)->values[1].len, 0);
    assert_true(last(call)->has_more);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_limit_is_lowered_to_the_bound(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    fake_rig_set(rig, "scan_max_limit", 40);
    fake_rig_bind(rig);
    kv_fill(rig, 100);
    kv_scan_limit(&request, INT32_MAX);

    struct call *call = scan(rig, &request);

    assert_int_equal(kv_keys_in(call), 40);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_byte_budget(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    kv_fill(rig, 50);
    kv_scan_values(&request);
    kv_scan_bytes(&request, 16 * 5); /* an item has 16 */

    struct call *call = scan(rig, &request);

    assert_in_range(kv_keys_in(call), 5, 6); /* the item that reaches it may be over */
    assert_true(last(call)->has_more);
    fake_call_free(call);
    kv_scan_bytes(&request, 1);
    call = scan(rig, &request);
    assert_int_equal(kv_keys_in(call), 1); /* progress is always made */
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_pages_follow_the_backend(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    kv_fill(rig, 20);
    rig->world.page_limit = 3; /* short pages are not the end */
    rig->world.empty_pages = 4;

    struct call *call = scan(rig, &request);

    assert_int_equal(kv_keys_in(call), 20);
    assert_int_equal(call->sent_count, 7); /* empty pages are no messages */
    assert_int_equal(rig->world.ops, 11);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_only_empty_pages(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("nothing");

    (void)state;
    rig->world.empty_pages = 3;

    struct call *call = scan(rig, &request);

    assert_int_equal(call->sent_count, 1);
    assert_int_equal(kv_page(call, 0)->n_keys, 0);
    fake_call_free(call);
    kv_rig_free(rig);
}

/* ---- messages and their size ---- */

static void test_no_message_is_too_large(void **state)
{
    static const size_t sizes[] = {10, 300, 700, 1500, 1900};
    pb_scan_request request = kv_scan("");
    char key[24], value[2001] = "";

    (void)state;
    memset(value, 'v', sizeof value - 1);
    kv_scan_values(&request);
    kv_scan_limit(&request, 1000);
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);

        rig->max_message_bytes = 2000; /* the call layer aborts above it */
        fake_rig_bind(rig);
        for (size_t i = 0; i < 100; i++) {
            snprintf(key, sizeof key, "k%03zu", i);
            fake_table_set(&rig->world, slice_str(key),
                           slice_of(value, i % 9 == 4 ? 1900 : sizes[s]), 0);
        }

        struct call *call = scan(rig, &request);

        assert_int_equal(kv_keys_in(call), 100);
        for (size_t i = 0, n = 0; i < call->sent_count; i++)
            for (size_t k = 0; k < kv_page(call, i)->n_keys; k++, n++) {
                snprintf(key, sizeof key, "k%03zu", n);
                assert_string_equal(kv_page(call, i)->keys[k], key);
                assert_int_equal(kv_page(call, i)->values[k].len, n % 9 == 4 ? 1900 : sizes[s]);
            }
        fake_call_free(call);
        kv_rig_free(rig);
    }
}

static void test_many_tiny_keys_in_a_small_message(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    pb_scan_request request = kv_scan("");
    char key[2] = "";

    (void)state;
    rig->max_message_bytes = 200; /* each key of one byte takes three, and two more for its value */
    fake_rig_bind(rig);
    for (char c = '!'; c < '~'; c++) {
        key[0] = c;
        fake_put(&rig->world, key, "");
    }
    kv_scan_values(&request);

    struct call *call = scan(rig, &request);

    assert_int_equal(kv_keys_in(call), '~' - '!');
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_an_item_that_fits_no_message(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    pb_scan_request request = kv_scan("");
    char value[3001] = "";

    (void)state;
    rig->max_message_bytes = 2000;
    fake_rig_bind(rig);
    memset(value, 'v', sizeof value - 1);
    fake_put(&rig->world, "a", "small");
    fake_put(&rig->world, "b", value);
    fake_put(&rig->world, "c", "small");
    kv_scan_values(&request);

    struct call *call = kv_run(rig, "Scan", &request.base);

    kv_assert_failed(call, ERR_RESOURCE_EXHAUSTED, "max_message_bytes", "scan without values");
    assert_int_equal(kv_keys_in(call), 1); /* what came before it has been told */
    fake_call_free(call);
    request = kv_scan("");
    call = scan(rig, &request);
    assert_int_equal(kv_keys_in(call), 3);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_keys_that_are_no_text_are_left_out(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");
    struct pattern *instances[1];
    struct metrics_page metrics;

    (void)state;
    log_configure(LOG_OFF, 2);
    fake_put(&rig->world, "good", "v");
    fake_put(&rig->world, "\xff\xfe", "v");
    fake_table_set(&rig->world, slice_of("a\0b", 3), slice_str("v"), 0);

    struct call *call = scan(rig, &request);

    assert_int_equal(kv_keys_in(call), 1);
    assert_string_equal(kv_page(call, 0)->keys[0], "good");
    fake_call_free(call);
    instances[0] = rig->pattern;
    metrics_page_init(&metrics);
    rig->type->render(instances, 1, &metrics);
    assert_non_null(
        strstr(metrics.text, "prism_keyvalue_scan_keys_skipped_total{namespace=\"default\"} 2"));
    metrics_page_clear(&metrics);
    log_configure(LOG_INFO, 2);
    kv_rig_free(rig);
}

/* ---- what is refused ---- */

static void test_arguments(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    kv_scan_limit(&request, 0);
    kv_refused(rig, "Scan", &request.base, ERR_INVALID_ARGUMENT, "limit", "1 or more");
    kv_scan_limit(&request, -7);
    kv_refused(rig, "Scan", &request.base, ERR_INVALID_ARGUMENT, "limit", "1 or more");
    request = kv_scan("");
    kv_scan_bytes(&request, 0);
    kv_refused(rig, "Scan", &request.base, ERR_INVALID_ARGUMENT, "max_bytes", "1 or more");
    request = kv_scan("\xe2\x28");
    kv_refused(rig, "Scan", &request.base, ERR_INVALID_ARGUMENT, "prefix", "UTF-8");
    kv_rig_free(rig);
    rig = kv_rig_unbound(FAKE_ALL);
    rig->world.type.limits.key_bytes = 4;
    fake_rig_bind(rig);
    request = kv_scan("12345");
    kv_refused(rig, "Scan", &request.base, ERR_INVALID_ARGUMENT, "prefix", "at most 4");
    kv_rig_free(rig);
}

static void test_forged_cursors(void **state)
{
    static const char *const forged[] = {"x", "after", "after:6", "after:zz", "after:6\xff"};
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(forged); i++) {
        kv_scan_cursor(&request, forged[i]);

        struct call *call = kv_run(rig, "Scan", &request.base);

        kv_assert_failed(call, ERR_INVALID_ARGUMENT, "cursor", NULL);
        assert_int_equal(call->sent_count, 0);
        fake_call_free(call);
    }
    kv_rig_free(rig);
}

static void test_unsupported(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_S3);
    pb_scan_request request = kv_scan("test:");

    (void)state;
    kv_refused(rig, "Scan", &request.base, ERR_UNIMPLEMENTED, "KeyValueScanInterface",
               "scan not supported: backend does not implement KeyValueScanInterface");
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_keys_in_pages),
        cmocka_unit_test(test_default_limit_is_100_and_a_cursor_goes_on),
        cmocka_unit_test(test_prefix_limit_values),
        cmocka_unit_test(test_limit_is_lowered_to_the_bound),
        cmocka_unit_test(test_byte_budget),
        cmocka_unit_test(test_pages_follow_the_backend),
        cmocka_unit_test(test_only_empty_pages),
        cmocka_unit_test(test_no_message_is_too_large),
        cmocka_unit_test(test_many_tiny_keys_in_a_small_message),
        cmocka_unit_test(test_an_item_that_fits_no_message),
        cmocka_unit_test(test_keys_that_are_no_text_are_left_out),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_forged_cursors),
        cmocka_unit_test(test_unsupported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
