/* Multicasts on a fake whose operations fail, are lost, wait, and are cancelled, in virtual time.
 */
#include "tests/pattern/multicast_registry/multicast.h"

static void expect_all_counted(const pb_multicast_response *answer)
{
    assert_int_equal(answer->target_count, answer->delivered_count + answer->pending_count +
                                               answer->no_receiver_count + answer->failed_count +
                                               answer->skipped_count);
    assert_int_equal(answer->n_results, answer->target_count);
    assert_int_equal(answer->success, answer->failed_count == 0 && answer->code == 0);
}

/* One topic is refused for good: that delivery alone fails. */
static void test_one_fails_alone(void **state)
{
    struct fake_rig *rig = bound();
    pb_multicast_request request = to_all();
    const pb_multicast_response *answer;
    struct call *call;

    (void)state;
    request.results = MULTICAST_PB(RESULTS_MODE__RESULTS_FAILURES);
    rig->world.fail_with = err_make(ERR_PERMISSION_DENIED, "not this one");
    rig->world.poison = slice_str("prism.multicast.i3");
    call = fake_call(rig, "Multicast", &request.base);
    settle(rig, call);
    answer = answer_of(call);
    assert_int_equal(answer->target_count, TARGETS);
    assert_int_equal(answer->failed_count, 1);
    assert_false(answer->success);
    assert_int_equal(answer->code, ERR_PERMISSION_DENIED);
    assert_non_null(strstr(answer->error, "the first: not this one"));
    assert_int_equal(answer->n_results, 1);
    assert_string_equal(answer->results[0]->identity, "i3");
    assert_string_equal(answer->results[0]->error, "not this one");
    fake_call_free(call);
    free_rig(rig);
}

/* Refused for the moment: tried again, later, and then delivered. Lost: not tried again. */
static void test_what_is_tried_again(void **state)
{
    (void)state;
    for (int lost = 0; lost < 2; lost++) {
        struct fake_rig *rig = bound();
        pb_multicast_request request = to_all();
        const pb_multicast_response *answer;
        struct call *call;

        rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
        if (lost)
            rig->world.messages.faults.lose_at = 2;
        else
            rig->world.fail_at = 2; /* the page is the first operation, its publish the second */
        call = fake_call(rig, "Multicast", &request.base);
        fake_rig_run(rig);
        assert_int_equal(call->ends, lost);
        settle(rig, call);
        answer = answer_of(call);
        expect_all_counted(answer);
        assert_int_equal(answer->failed_count, lost ? TARGETS : 0);
        assert_int_equal(rig->world.ops, lost ? 2 : 3);
        fake_call_free(call);
        free_rig(rig);
    }
}

/* The registry fails on the way: what was sent is told, and that it was not all. */
static void test_the_walk_fails(void **state)
{
    struct fake_rig *rig = bound();
    pb_multicast_request request = to_all();
    const pb_multicast_response *answer;
    struct call *call;

    (void)state;
    rig->world.page_limit = 4;
    rig->world.fail_at = 2; /* the second page, while the first is sent */
    rig->world.fail_with = err_make(ERR_INTERNAL, "broken");
    call = fake_call(rig, "Multicast", &request.base);
    settle(rig, call);
    answer = answer_of(call);
    assert_false(answer->success);
    assert_int_equal(answer->code, ERR_INTERNAL);
    assert_string_equal(answer->error, "broken");
    assert_int_equal(answer->target_count, 4);
    assert_int_equal(answer->failed_count, 0);
    fake_call_free(call);
    free_rig(rig);
}

static void test_time_is_up(void **state)
{
    struct fake_rig *rig = bound();
    pb_multicast_request request = to_all();
    const pb_multicast_response *answer;
    struct call *call;

    (void)state;
    rig->world.mode = FAKE_PARKED;
    request._timeout_ms_case = MULTICAST_PB(MULTICAST_REQUEST___TIMEOUT_MS_TIMEOUT_MS);
    request.timeout_ms = 500;
    call = fake_call(rig, "Multicast", &request.base);
    fake_release(&rig->world, 1); /* the page */
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 0);
    fake_rig_advance(rig, 600);
    fake_rig_drain(rig);
    settle(rig, call);
    answer = answer_of(call);
    assert_int_equal(answer->target_count, TARGETS);
    assert_int_equal(answer->failed_count, TARGETS);
    for (size_t i = 0; i < answer->n_results; i++)
        assert_int_equal(answer->results[i]->status, MULTICAST_PB(DELIVERY_STATUS__TIMEOUT));
    fake_call_free(call);
    free_rig(rig);
}

/* As nanoseconds it would be over at once. */
static void test_a_long_time_is_not_up(void **state)
{
    struct fake_rig *rig = bound();
    pb_multicast_request request = to_all();
    struct call *call;

    (void)state;
    request._timeout_ms_case = MULTICAST_PB(MULTICAST_REQUEST___TIMEOUT_MS_TIMEOUT_MS);
    request.timeout_ms = (int64_t)(UINT64_MAX / 1000000) + 1;
    call = fake_call(rig, "Multicast", &request.base);
    settle(rig, call);
    assert_int_equal(answer_of(call)->target_count, TARGETS);
    assert_int_equal(answer_of(call)->failed_count, 0);
    fake_call_free(call);
    free_rig(rig);
}

static void check_stream(const struct call *call)
{
    const pb_multicast_progress *last;
    size_t results = 0;

    if (call->status.code != ERR_OK)
        return; /* nothing was sent */
    assert_true(call->sent_count > 0);
    last = (const pb_multicast_progress *)call->sent[call->sent_count - 1].message;
    assert_true(last->done);
    for (size_t i = 0; i < call->sent_count; i++)
        results += ((const pb_multicast_progress *)call->sent[i].message)->n_results;
    assert_int_equal(results, last->target_count);
}

/* Whatever fails, each call ends once, and each delivery is counted once. */
static void test_every_operation_fails_in_turn(void **state)
{
    static const enum err_code codes[] = {ERR_UNAVAILABLE, ERR_NOT_FOUND, ERR_RESOURCE_EXHAUSTED};

    (void)state;
    for (uint64_t at = 1; at <= LAST_OPERATION; at++) {
        for (int variant = 0; variant < 24; variant++) {
            struct fake_rig *rig = bound();
            struct call *call;

            rig->world.mode = variant & 1 ? FAKE_PARKED : FAKE_AT_ONCE;
            rig->world.order = FAKE_SHUFFLED;
            rig->world.page_limit = 3;
            rig->world.fail_with = err_make(codes[variant / 8], "told to fail");
            if (variant & 2)
                rig->world.messages.faults.lose_at = at;
            else
                rig->world.fail_at = at;
            call = start(rig, (variant & 4) != 0);
            settle(rig, call);
            if (variant & 4)
                check_stream(call);
            else if (call->status.code == ERR_OK && answer_of(call)->failed_count == 0)
                assert_int_equal(answer_of(call)->n_results, answer_of(call)->target_count);
            fake_call_free(call);
            free_rig(rig);
        }
    }
}

static void test_cancelled_at_every_step(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < LAST_OPERATION; steps++) {
        for (int streams = 0; streams < 2; streams++) {
            struct fake_rig *rig = bound();
            struct call *call;

            rig->world.mode = FAKE_PARKED;
            rig->world.page_limit = 3;
            call = start(rig, streams != 0);
            for (unsigned i = 0; i < steps && fake_release(&rig->world, 1) > 0; i++)
                fake_rig_drain(rig);
            fake_call_cancel(call);
            settle(rig, call);
            fake_call_free(call);
            free_rig(rig);
        }
    }
}

/* Waiting longer between attempts never waits beyond the time that the request gives. */
static void test_attempts_end_in_time(void **state)
{
    enum { TIMEOUT_MS = 600, STEP_MS = 50 };
    struct fake_rig *rig = unbound();
    pb_multicast_request request = to_all();
    struct call *call;

    (void)state;
    fake_rig_set(rig, "retry_attempts", 100);
    fake_rig_bind(rig);
    enter(rig);
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    rig->world.poison = slice_str("prism.multicast.i3");
    request._timeout_ms_case = MULTICAST_PB(MULTICAST_REQUEST___TIMEOUT_MS_TIMEOUT_MS);
    request.timeout_ms = TIMEOUT_MS;
    call = fake_call(rig, "Multicast", &request.base);
    for (int ms = 0; ms <= TIMEOUT_MS; ms += STEP_MS) {
        fake_rig_run(rig);
        fake_rig_advance(rig, STEP_MS);
    }
    assert_int_equal(call->ends, 1);
    assert_int_equal(answer_of(call)->failed_count, 1);
    fake_call_free(call);
    free_rig(rig);
}

/* A multicast that waits for its turn ends in time, and when its client goes. */
static void test_a_turn_is_waited_for_in_time(void **state)
{
    (void)state;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        struct fake_rig *rig = unbound();
        pb_multicast_request request = to_all();
        struct call *first, *second;

        fake_rig_set(rig, "publish_permits", 1);
        fake_rig_bind(rig);
        enter(rig);
        rig->world.mode = FAKE_PARKED;
        first = start(rig, false);
        fake_release(&rig->world, 1); /* its page: it has the permit */
        fake_rig_drain(rig);
        request._timeout_ms_case = MULTICAST_PB(MULTICAST_REQUEST___TIMEOUT_MS_TIMEOUT_MS);
        request.timeout_ms = 500;
        second = fake_call(rig, "Multicast", &request.base);
        rig->world.order = FAKE_LAST_FIRST;
        fake_release(&rig->world, 1); /* the second's page */
        fake_rig_drain(rig);
        assert_int_equal(second->ends, 0);
        if (cancelled)
            fake_call_cancel(second);
        else
            fake_rig_advance(rig, 600);
        fake_rig_drain(rig);
        assert_int_equal(first->ends, 0);
        assert_int_equal(second->ends, 1);
        if (!cancelled) {
            assert_int_equal(answer_of(second)->failed_count, TARGETS);
            assert_int_equal(answer_of(second)->results[0]->status,
                             MULTICAST_PB(DELIVERY_STATUS__TIMEOUT));
        }
        fake_call_free(second);
        settle(rig, first);
        assert_int_equal(answer_of(first)->delivered_count + answer_of(first)->no_receiver_count,
                         TARGETS);
        fake_call_free(first);
        free_rig(rig);
    }
}

/* M3: results are listed as far as memory goes; what was done is counted all the same. */
static void test_results_are_charged(void **state)
{
    (void)state;
    for (int full = 0; full < 2; full++) {
        struct fake_rig *rig = bound();
        struct call *call;

        rig->hold_limit = full ? 1000 : 0;
        call = start(rig, false);
        settle(rig, call);
        assert_int_equal(answer_of(call)->target_count, TARGETS);
        assert_int_equal(answer_of(call)->n_results, full ? 0 : TARGETS);
        assert_int_equal(answer_of(call)->truncated, full);
        if (!full)
            assert_true(call->held_bytes > 0);
        fake_call_free(call);
        free_rig(rig);
    }
}

/* Items that a multicast to a hundred pages has got through, by the time that one to ten, begun
 * behind it, is done. */
static uint64_t sent_before_the_small_one(uint64_t permits)
{
    enum { MANY = 1000, PAGE = 10 };
    struct fake_rig *rig = unbound();
    pb_multicast_request request = to_all();
    char *names[TARGETS], text[TARGETS][8];
    struct call *large, *small;
    uint64_t before;

    fake_rig_set(rig, "publish_permits", permits);
    fake_rig_bind(rig);
    enter(rig);
    for (int i = 0; i < MANY; i++) {
        char name[8];

        snprintf(name, sizeof name, "m%d", i);
        fake_register(&rig->world, name, NULL, 0);
    }
    for (int i = 0; i < TARGETS; i++) {
        snprintf(text[i], sizeof text[i], "i%d", i);
        names[i] = text[i];
    }
    rig->world.page_limit = PAGE;
    rig->world.mode = FAKE_PARKED;
    large = fake_call(rig, "Multicast", &request.base);
    for (int i = 0; i < 2 * PAGE; i++) { /* it is in full swing */
        fake_rig_drain(rig);
        fake_release(&rig->world, 1);
    }
    request.identities = names;
    request.n_identities = TARGETS;
    before = rig->world.items_sent;
    small = fake_call(rig, "Multicast", &request.base);
    for (int i = 0; i < MANY && small->ends == 0; i++) {
        fake_rig_drain(rig);
        fake_release(&rig->world, 1);
        fake_rig_drain(rig);
    }
    assert_int_equal(answer_of(small)->target_count, TARGETS);
    assert_int_equal(large->ends, 0);
    before = rig->world.items_sent - before - TARGETS;
    settle(rig, large);
    assert_int_equal(answer_of(large)->target_count, MANY + TARGETS);
    fake_call_free(small);
    fake_call_free(large);
    free_rig(rig);
    return before / PAGE;
}

/* Pages are counted, not time: each lane of the large one gets on by a page or so. */
static void test_a_large_one_holds_up_a_small_one_by_a_page(void **state)
{
    (void)state;
    assert_in_range(sent_before_the_small_one(16), 0, 2);
    assert_in_range(sent_before_the_small_one(1), 0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_fails_alone),
        cmocka_unit_test(test_what_is_tried_again),
        cmocka_unit_test(test_the_walk_fails),
        cmocka_unit_test(test_time_is_up),
        cmocka_unit_test(test_a_long_time_is_not_up),
        cmocka_unit_test(test_every_operation_fails_in_turn),
        cmocka_unit_test(test_cancelled_at_every_step),
        cmocka_unit_test(test_attempts_end_in_time),
        cmocka_unit_test(test_a_turn_is_waited_for_in_time),
        cmocka_unit_test(test_results_are_charged),
        cmocka_unit_test(test_a_large_one_holds_up_a_small_one_by_a_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
