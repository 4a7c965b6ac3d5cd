/* Deduplication by the state store. */
#include "tests/pattern/producer/slots.h"

/* ---- deduplication ---- */

static void test_p2_a_repeat_is_told_the_first_place(void **state)
{
    struct fake_rig *rig = bound_with(STATE);
    struct call *other = start(rig, "other", "x"), *first, *again;

    (void)state;
    run(rig, other);
    first = start(rig, "id", "x");
    assert_false(run(rig, first)->deduplicated);
    again = start(rig, "id", "x");
    assert_true(run(rig, again)->success);
    assert_true(answer_of(again)->deduplicated);
    assert_int_equal(answer_of(again)->offset, 1);
    assert_string_equal(answer_of(again)->message_id, "id");
    assert_int_equal(published(rig), 2);
    fake_call_free(other);
    fake_call_free(first);
    fake_call_free(again);
    producer_free(rig);
}

static void test_p4_a_failed_attempt_is_not_remembered(void **state)
{
    (void)state;
    for (int lost = 0; lost < 2; lost++) {
        struct fake_rig *rig = bound_with(STATE);
        struct call *first, *again;

        /* 1: put_if, 2: publish */
        if (lost)
            rig->world.messages.faults.lose_at = 2;
        else
            rig->world.fail_at = 2;
        rig->world.fail_with = err_make(ERR_NOT_FOUND, "no such topic");
        first = start(rig, "id", "x");
        assert_false(run(rig, first)->success);
        assert_int_equal(fake_keys(&rig->world), 0);
        again = start(rig, "id", "x");
        assert_true(run(rig, again)->success);
        assert_false(answer_of(again)->deduplicated);
        assert_int_equal(published(rig), lost ? 2 : 1);
        fake_call_free(first);
        fake_call_free(again);
        producer_free(rig);
    }
}

static void test_p4_a_claim_whose_answer_was_lost_is_given_up(void **state)
{
    struct fake_rig *rig = bound_with(STATE);
    struct call *calls[4];

    (void)state;
    rig->world.messages.faults.lose_at = 1; /* put_if */
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        if (i == 2) /* the record of the second one is there, and stays */
            rig->world.messages.faults.lose_at = rig->world.ops + 1;
        calls[i] = start(rig, "id", "x");
        assert_int_equal(run(rig, calls[i])->success, i % 2);
        assert_int_equal(fake_keys(&rig->world), i > 0);
    }
    assert_false(answer_of(calls[1])->deduplicated);
    assert_true(answer_of(calls[3])->deduplicated);
    assert_int_equal(published(rig), 1);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        fake_call_free(calls[i]);
    producer_free(rig);
}

static void expect_wait(uint64_t retry_for_ms, uint64_t attempt_ms)
{
    struct fake_rig *rig = rig_with(STATE);
    struct call *first, *second;

    rig->world.mode = FAKE_PARKED;
    fake_rig_set(rig, "retry_for_ms", retry_for_ms);
    fake_rig_bind(rig);
    first = start(rig, "id", "x");
    fake_release(&rig->world, 1); /* it is claimed */
    fake_rig_drain(rig);
    fake_rig_advance(rig, attempt_ms);
    second = start(rig, "id", "x");
    rig->world.order = FAKE_LAST_FIRST;
    fake_release(&rig->world, 1); /* second: put_if finds it */
    fake_rig_drain(rig);
    fake_release(&rig->world, 1); /* second: get */
    fake_rig_drain(rig);
    assert_int_equal(second->ends, 0);
    assert_int_equal(published(rig), 0);
    fake_rig_run(rig);
    for (int i = 0; i < 10 && second->ends == 0; i++) {
        fake_rig_advance(rig, 30);
        fake_rig_run(rig);
    }
    assert_false(answer_of(first)->deduplicated);
    assert_true(answer_of(second)->deduplicated);
    assert_int_equal(published(rig), 1);
    fake_call_free(first);
    fake_call_free(second);
    producer_free(rig);
}

static void test_p4_an_open_attempt_is_waited_for(void **state)
{
    (void)state;
    expect_wait(2000, 0);
    expect_wait(600000, 599000); /* the claim lasts as long as the attempt may */
}

/* The first attempt lasts longer than its claim, and another one claims the identifier. */
static void test_p4_a_late_attempt_leaves_the_record_of_another(void **state)
{
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        struct fake_rig *rig = rig_with(STATE);
        struct call *first, *second, *third;

        rig->world.mode = FAKE_PARKED;
        rig->world.fail_at = fails ? 2 : 0; /* 1: put_if, 2: publish */
        rig->world.fail_with = err_make(ERR_NOT_FOUND, "no such topic");
        fake_rig_bind(rig);
        first = start(rig, "id", "x");
        fake_release(&rig->world, 1); /* it is claimed */
        fake_rig_drain(rig);
        fake_rig_advance(rig, 700000);
        second = start(rig, "id", "y");
        rig->world.order = FAKE_LAST_FIRST;
        fake_release(&rig->world, 1); /* second: put_if */
        fake_rig_drain(rig);
        rig->world.order = FAKE_FIRST_FIRST;
        fake_release(&rig->world, 1); /* first: publish */
        fake_rig_drain(rig);
        rig->world.order = FAKE_LAST_FIRST;
        if (first->ends == 0)
            fake_release(&rig->world, 1); /* first: what it remembers */
        fake_rig_drain(rig);
        assert_int_equal(answer_of(first)->success, !fails);
        assert_int_equal(second->ends, 0);
        assert_int_equal(fake_keys(&rig->world), 1);
        third = start(rig, "id", "x"); /* the record is the second one's */
        assert_int_equal(run(rig, third)->code, ERR_ALREADY_EXISTS);
        assert_true(answer_of(second)->success);
        fake_call_free(first);
        fake_call_free(second);
        fake_call_free(third);
        producer_free(rig);
    }
}

static void test_p5_another_payload_is_no_duplicate(void **state)
{
    struct fake_rig *rig = bound_with(STATE);
    struct call *first = start(rig, "id", "x"), *other;

    (void)state;
    run(rig, first);
    other = start(rig, "id", "y");
    assert_false(run(rig, other)->success);
    assert_int_equal(answer_of(other)->code, ERR_ALREADY_EXISTS);
    assert_int_equal(answer_of(other)->outcome, PB(OUTCOME__NOT_STORED));
    assert_int_equal(published(rig), 1);
    fake_call_free(first);
    fake_call_free(other);
    producer_free(rig);
}

static void test_p5_content_counts_only_by_name(void **state)
{
    (void)state;
    for (int by_content = 0; by_content < 2; by_content++) {
        struct fake_rig *rig = rig_with(STATE);
        struct call *calls[2];

        fake_rig_set(rig, "deduplicate_content", (uint64_t)by_content);
        fake_rig_bind(rig);
        for (int i = 0; i < 2; i++) {
            calls[i] = start(rig, NULL, "tick");
            assert_true(run(rig, calls[i])->success);
        }
        assert_int_equal(answer_of(calls[1])->deduplicated, by_content);
        assert_int_equal(published(rig), by_content ? 1 : 2);
        fake_call_free(calls[0]);
        fake_call_free(calls[1]);
        producer_free(rig);
    }
}

static void test_p6_the_window_is_what_it_says(void **state)
{
    struct fake_rig *rig = bound_with(STATE);
    struct call *first = start(rig, "id", "x"), *within, *after;

    (void)state;
    run(rig, first);
    fake_rig_advance(rig, 119000);
    within = start(rig, "id", "x");
    assert_true(run(rig, within)->deduplicated);
    fake_rig_advance(rig, 2000);
    after = start(rig, "id", "x");
    assert_false(run(rig, after)->deduplicated);
    fake_call_free(first);
    fake_call_free(within);
    fake_call_free(after);
    producer_free(rig);
}

static void test_duplicates_within_a_batch(void **state)
{
    static const char *const payloads[] = {"x", "x", "y", "x"};
    struct fake_rig *rig = bound_with(STATE);
    struct messages messages = {.n = 0};
    const pb_publish_batch_response *answers;
    struct call *call;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
        add(&messages, message_to("orders", payloads[i]));
        set_id(&messages.items[i], "id");
    }
    add(&messages, message_to("elsewhere", "y"));
    set_id(&messages.items[4], "id"); /* of another topic */
    call = publish_batch(rig, &messages);
    fake_rig_run(rig);
    answers = answers_of(call);
    assert_false(answers->results[0]->deduplicated);
    assert_true(answers->results[1]->deduplicated);
    assert_int_equal(answers->results[1]->offset, answers->results[0]->offset);
    assert_int_equal(answers->results[2]->code, ERR_ALREADY_EXISTS);
    assert_true(answers->results[3]->deduplicated);
    assert_true(answers->results[4]->success);
    assert_int_equal(published(rig), 1);
    fake_call_free(call);
    producer_free(rig);
}

static void test_nothing_is_sent_without_the_state_store(void **state)
{
    struct fake_rig *rig = bound_with(STATE);
    struct call *call;

    (void)state;
    rig->world.fail_at = 1;
    call = start(rig, "id", "x");
    assert_int_equal(run(rig, call)->code, ERR_UNAVAILABLE);
    assert_int_equal(answer_of(call)->outcome, PB(OUTCOME__NOT_STORED));
    assert_int_equal(published(rig), 0);
    fake_call_free(call);
    producer_free(rig);
}

static void test_frames_keep_their_order(void **state)
{
    struct fake_rig *rig = rig_with(STATE);
    struct messages slow = {.n = 0}, fast = {.n = 0};
    pb_publish_frame frame;
    struct call *call;

    (void)state;
    rig->world.mode = FAKE_PARKED;
    fake_rig_bind(rig);
    call = stream_open(rig);
    add(&slow, keyed("orders", "k", "1"));
    set_id(&slow.items[0], "id");
    add(&fast, keyed("orders", "k", "2"));
    frame = frame_of(&slow);
    push(rig, call, &frame);
    frame = frame_of(&fast); /* needs no state store, and waits all the same */
    push(rig, call, &frame);
    fake_rig_run(rig);
    expect_payload(rig, "orders", 0, "1");
    expect_payload(rig, "orders", 1, "2");
    assert_int_equal(last_ack(call)->settled_through, 2);
    fake_call_push(call, NULL);
    fake_rig_run(rig);
    fake_call_free(call);
    producer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p2_a_repeat_is_told_the_first_place),
        cmocka_unit_test(test_p4_a_failed_attempt_is_not_remembered),
        cmocka_unit_test(test_p4_a_claim_whose_answer_was_lost_is_given_up),
        cmocka_unit_test(test_p4_an_open_attempt_is_waited_for),
        cmocka_unit_test(test_p4_a_late_attempt_leaves_the_record_of_another),
        cmocka_unit_test(test_p5_another_payload_is_no_duplicate),
        cmocka_unit_test(test_p5_content_counts_only_by_name),
        cmocka_unit_test(test_p6_the_window_is_what_it_says),
        cmocka_unit_test(test_duplicates_within_a_batch),
        cmocka_unit_test(test_nothing_is_sent_without_the_state_store),
        cmocka_unit_test(test_frames_keep_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
