/* Scan when the backend fails, when the reader is slow, and when it is gone. */
#include "tests/pattern/keyvalue/kv.h"

/* ---- failures, readers ---- */

static void test_failure_on_a_later_page(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    kv_fill(rig, 20);
    rig->world.page_limit = 5;
    rig->world.fail_at = 3;

    struct call *call = kv_run(rig, "Scan", &request.base);

    kv_assert_failed(call, ERR_UNAVAILABLE, NULL, NULL);
    assert_int_equal(call->sent_count, 2);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_a_slow_reader_holds_one_page(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");
    size_t taken = 0;

    (void)state;
    kv_fill(rig, 50);
    rig->world.page_limit = 10;

    struct call *call = fake_call_with(rig, "Scan", &request.base, 0, true);

    for (;;) {
        fake_rig_run(rig);
        if (call->ends > 0)
            break;
        assert_int_equal(rig->world.ops, taken + 1); /* the next page is not read before */
        assert_true(fake_call_take(call));
        taken++;
    }
    assert_int_equal(taken, 5);
    kv_assert_pages(call);
    fake_call_free(call);
    kv_rig_free(rig);
}

/* However long the stream, no more than two pages are held. */
static void test_memory_of_a_long_stream(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");
    char key[24], value[1001] = "";
    size_t most = 0;

    (void)state;
    memset(value, 'v', sizeof value - 1);
    for (size_t i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "k%04zu", i);
        fake_put(&rig->world, key, value);
    }
    rig->world.page_limit = 10;
    kv_scan_values(&request);
    kv_scan_limit(&request, 1000);

    struct call *call = fake_call_with(rig, "Scan", &request.base, 0, true);

    for (;;) {
        fake_rig_run(rig);
        if (call->ends > 0)
            break;
        most = call->arena.bytes > most ? call->arena.bytes : most;
        fake_call_take(call);
    }
    kv_assert_pages(call);
    assert_int_equal(kv_keys_in(call), 1000);
    assert_true(most < 100 * 100); /* the call's own: nothing of the 1 MB that went through */
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_client_gone_while_a_page_is_read(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    kv_fill(rig, 20);
    rig->world.mode = FAKE_PARKED;

    struct call *call = fake_call(rig, "Scan", &request.base);

    fake_call_cancel(call);
    fake_rig_drain(rig);
    kv_assert_failed(call, ERR_CANCELLED, NULL, NULL);
    assert_int_equal(rig->world.cancelled, 1);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_client_gone_while_a_page_is_sent(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    kv_fill(rig, 20);
    rig->world.page_limit = 5;

    struct call *call = fake_call_with(rig, "Scan", &request.base, 0, true);

    fake_rig_drain(rig);
    assert_int_equal(call->sent_count, 1);
    fake_call_cancel(call);
    fake_rig_drain(rig);
    kv_assert_failed(call, ERR_CANCELLED, NULL, "gone");
    assert_int_equal(rig->world.ops, 1);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_client_gone_between_empty_pages(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    rig->world.mode = FAKE_THREAD; /* cannot be cancelled */
    rig->world.empty_pages = SIZE_MAX;

    struct call *call = fake_call(rig, "Scan", &request.base);

    fake_call_cancel(call);
    fake_rig_run(rig);
    kv_assert_failed(call, ERR_CANCELLED, NULL, NULL);
    assert_int_equal(rig->world.ops, 1);
    fake_call_free(call);
    kv_rig_free(rig);
}

/* The client gets a cursor while there is time, however few keys match. */
static void test_cursor_before_the_deadline(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    kv_fill(rig, 20);
    rig->world.mode = FAKE_PARKED;
    rig->world.empty_pages = SIZE_MAX;

    struct call *call = fake_call_with(rig, "Scan", &request.base, 90, false);

    fake_release(&rig->world, 1);
    fake_rig_drain(rig);
    assert_int_equal(call->sent_count, 0);
    fake_rig_advance(rig, 40); /* as long again, and little time is left */
    fake_release(&rig->world, 1);
    fake_rig_drain(rig);
    assert_int_equal(call->sent_count, 1);
    fake_rig_advance(rig, 60);
    kv_assert_failed(call, ERR_DEADLINE_EXCEEDED, NULL, NULL);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_deadline_while_a_page_is_read(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");

    (void)state;
    kv_fill(rig, 20);
    rig->world.mode = FAKE_PARKED;
    rig->world.page_limit = 5;

    struct call *call = fake_call_with(rig, "Scan", &request.base, 100, false);

    fake_release(&rig->world, 1);
    fake_rig_drain(rig);
    assert_int_equal(call->sent_count, 1);
    fake_rig_advance(rig, 101);
    kv_assert_failed(call, ERR_DEADLINE_EXCEEDED, NULL, NULL);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_interface_withdrawn_in_the_middle(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_scan_request request = kv_scan("");
    pb_retrieve_request other = kv_retrieve("key00000");

    (void)state;
    kv_fill(rig, 20);
    rig->world.page_limit = 5;

    struct call *call = fake_call_with(rig, "Scan", &request.base, 0, true);

    fake_rig_run(rig);
    fake_world_offer(&rig->world, FAKE_BASIC);
    fake_call_free(kv_run(rig, "Retrieve", &other.base)); /* a call that makes the plan afresh */
    while (call->ends == 0) {
        fake_call_take(call);
        fake_rig_run(rig);
    }
    assert_int_equal(kv_keys_in(call), 20); /* it goes on with what it began with */
    fake_call_free(call);
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failure_on_a_later_page),
        cmocka_unit_test(test_a_slow_reader_holds_one_page),
        cmocka_unit_test(test_memory_of_a_long_stream),
        cmocka_unit_test(test_client_gone_while_a_page_is_read),
        cmocka_unit_test(test_client_gone_while_a_page_is_sent),
        cmocka_unit_test(test_client_gone_between_empty_pages),
        cmocka_unit_test(test_cursor_before_the_deadline),
        cmocka_unit_test(test_deadline_while_a_page_is_read),
        cmocka_unit_test(test_interface_withdrawn_in_the_middle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
