/* Atomic batches with deduplication by the state store and claim checks, and every operation of one
 * fails in turn: it is never a part that is there, and what the client was told is true. */
#include "tests/pattern/producer/atomic.h"
#include "tests/pattern/producer/torture.h"

/* ---- deduplication by the state store, and claim checks ---- */

static struct messages with_ids(size_t n)
{
    static char ids[MESSAGES][24];
    struct messages messages = batch_of(n);

    for (size_t i = 0; i < n; i++) {
        snprintf(ids[i], sizeof ids[i], "id-%zu", i);
        set_id(&messages.items[i], ids[i]);
    }
    return messages;
}

static void test_a_repeat_is_a_duplicate_as_a_whole(void **state)
{
    struct fake_rig *rig = bound_with(STATE);
    struct messages messages = with_ids(BATCH);

    (void)state;
    for (int again = 0; again < 2; again++) {
        struct call *call = run_atomic(rig, &messages);

        for (size_t i = 0; i < BATCH; i++) {
            assert_int_equal(answers_of(call)->results[i]->deduplicated, again);
            assert_int_equal(answers_of(call)->results[i]->offset, i);
        }
        expect_stored(call);
        assert_int_equal(published(rig), BATCH);
    }
    producer_free(rig);
}

static void test_a_batch_of_which_a_part_is_known_is_refused(void **state)
{
    struct fake_rig *rig = bound_with(STATE | OBJECT);
    struct messages messages = with_ids(BATCH);
    struct call *call = start(rig, "id-2", "2");
    size_t keys;

    (void)state;
    assert_true(run(rig, call)->success);
    fake_call_free(call);
    keys = fake_keys(&rig->world);
    messages.items[5].payload = bytes_of("a payload that would be an object");
    call = run_atomic(rig, &messages);
    assert_int_equal(call->status.code, ERR_ALREADY_EXISTS);
    assert_string_equal(call->status.subject, "messages[2].message_id");
    assert_int_equal(published(rig), 1);
    assert_int_equal(fake_keys(&rig->world), keys); /* no claim stays, and no object */
    fake_call_free(call);
    producer_free(rig);
}

static void test_a_stranger_is_named(void **state)
{
    struct fake_rig *rig = bound_with(STATE);
    struct messages messages = with_ids(BATCH);

    (void)state;
    set_id(&messages.items[4], "id-1"); /* two payloads, one identifier */
    expect_refused(rig, &messages, ERR_ALREADY_EXISTS, "messages[4].message_id");
    assert_int_equal(fake_keys(&rig->world), 0);
    producer_free(rig);
}

static void test_twins_are_one(void **state)
{
    struct fake_rig *rig = bound_with(STATE);
    struct messages messages = with_ids(BATCH);

    (void)state;
    messages.items[3] = messages.items[0];
    for (int again = 0; again < 2; again++) {
        struct call *call = run_atomic(rig, &messages);

        assert_true(answers_of(call)->results[3]->deduplicated);
        assert_int_equal(answers_of(call)->results[3]->offset, 0);
        expect_stored(call);
        assert_int_equal(published(rig), BATCH - 1);
    }
    producer_free(rig);
}

/* The place of the culprit is that in the request, also behind a twin, which is not sent. */
static void test_a_culprit_behind_a_twin(void **state)
{
    struct fake_rig *rig = bound_with(STATE);
    struct messages messages = with_ids(BATCH);

    (void)state;
    messages.items[1] = messages.items[0];
    messages.items[4] = keyed("orders", "poison", "x");
    rig->world.poison = slice_str("poison");
    rig->world.fail_with = err_about(ERR_INVALID_ARGUMENT, "payload", "the sink dislikes it");
    expect_refused(rig, &messages, ERR_INVALID_ARGUMENT, "messages[4].payload");
    assert_int_equal(fake_keys(&rig->world), 0);
    producer_free(rig);
}

/* ---- every operation fails in turn ---- */

/* What the client was told and what is there agree, and it is never a part. */
static void expect_whole(struct fake_rig *rig, const struct call *call, size_t before)
{
    size_t there = published(rig) - before;
    const pb_publish_batch_response *answers = (const void *)call->reply;

    assert_int_equal(call->ends, 1);
    assert_true(there == 0 || there == BATCH);
    if (call->status.code != ERR_OK) {
        if (call->status.effect == EFFECT_NONE)
            assert_int_equal(there, 0);
        return;
    }
    for (size_t i = 0; i < BATCH; i++) {
        assert_int_equal(answers->results[i]->outcome, answers->results[0]->outcome);
        assert_int_equal(answers->results[i]->code, answers->results[0]->code);
    }
    if (answers->results[0]->outcome != PB(OUTCOME__OUTCOME_UNKNOWN))
        assert_int_equal(there, answers->all_success ? BATCH : 0);
}

static struct messages hard_batch(void)
{
    struct messages messages = with_ids(BATCH);

    messages.items[1].payload = bytes_of("a payload that becomes an object");
    messages.items[4].payload = bytes_of("a payload that becomes another one");
    return messages;
}

static void fail_at(uint64_t at, bool parked, bool lost, enum err_code code)
{
    struct fake_rig *rig = rig_with(STATE | OBJECT);
    struct messages messages = hard_batch();
    struct call *call;

    torture_with(rig, at, parked, lost, code);
    fake_rig_bind(rig);
    call = run_atomic(rig, &messages);
    expect_whole(rig, call, 0);
    torture_settled(rig, BATCH);
    fake_call_free(call);
    producer_free(rig);
}

static void test_every_operation_fails_in_turn(void **state)
{
    (void)state;
    torture_each(fail_at);
}

static void test_cancelled_at_every_step(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < LAST_OPERATION; steps++) {
        struct fake_rig *rig = rig_with(STATE | OBJECT);
        struct messages messages = hard_batch();
        struct call *call;

        rig->world.mode = FAKE_PARKED;
        fake_rig_bind(rig);
        call = publish_atomic(rig, &messages);
        for (unsigned i = 0; i < steps && fake_release(&rig->world, 1) > 0; i++)
            fake_rig_drain(rig);
        fake_call_cancel(call);
        for (int i = 0; i < 100; i++) {
            fake_rig_run(rig);
            fake_rig_advance(rig, 50);
        }
        expect_whole(rig, call, 0);
        torture_settled(rig, BATCH);
        fake_call_free(call);
        producer_free(rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_repeat_is_a_duplicate_as_a_whole),
        cmocka_unit_test(test_a_batch_of_which_a_part_is_known_is_refused),
        cmocka_unit_test(test_a_stranger_is_named),
        cmocka_unit_test(test_twins_are_one),
        cmocka_unit_test(test_a_culprit_behind_a_twin),
        cmocka_unit_test(test_every_operation_fails_in_turn),
        cmocka_unit_test(test_cancelled_at_every_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
