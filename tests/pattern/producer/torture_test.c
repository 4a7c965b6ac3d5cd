/* Every operation of a scenario fails in turn, at once and out of order: each call ends once, each
 * message has one outcome, and nothing stays unsettled. */
#include "tests/pattern/producer/torture.h"

enum { BATCH = 12, SLOTS = 7 };
enum { MASK = FAKE_STREAM | FAKE_BASIC | FAKE_TTL | FAKE_CAS };

static void fill(struct messages *messages, char texts[][32])
{
    static const char *const keys[] = {"a", "b", "c"};

    for (int i = 0; i < BATCH; i++) {
        snprintf(texts[i], sizeof texts[i], i % 4 == 0 ? "a payload that is large %d" : "%d", i);
        add(messages, keyed("orders", keys[i % 3], texts[i]));
        if (i % 2 == 0)
            set_id(&messages->items[i], texts[i]);
    }
}

static void settle_all(struct fake_rig *rig, const struct call *a, const struct call *b)
{
    for (int i = 0; i < 1000 && (a->ends == 0 || b->ends == 0); i++) {
        fake_rig_run(rig);
        fake_rig_advance(rig, 50);
    }
}

static void run(uint64_t at, bool parked, bool lost, enum err_code code)
{
    struct fake_rig *rig = producer_unbound(MASK);
    struct messages messages = {.n = 0};
    char texts[BATCH][32];
    pb_publish_frame frame;
    struct call *stream, *batch;

    rig->slots = SLOTS;
    fake_rig_set(rig, "claim_check_threshold", 16);
    torture_with(rig, at, parked, lost, code);
    fake_rig_bind(rig);
    fill(&messages, texts);
    stream = stream_open(rig);
    frame = frame_of(&messages);
    frame.with_results = true;
    push(rig, stream, &frame);
    fake_call_push(stream, NULL);
    batch = publish_batch(rig, &messages);
    settle_all(rig, stream, batch);
    assert_int_equal(stream->ends, 1);
    assert_int_equal(stream->status.code, ERR_OK);
    assert_int_equal(last_ack(stream)->success_count + last_ack(stream)->failure_count, BATCH);
    assert_int_equal(answers_of(batch)->n_results, BATCH);
    torture_settled(rig, 2 * BATCH);
    fake_call_free(stream);
    fake_call_free(batch);
    producer_free(rig);
}

static void test_every_operation_fails_in_turn(void **state)
{
    (void)state;
    torture_each(run);
}

static void test_cancelled_at_every_step(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < LAST_OPERATION; steps++) {
        struct fake_rig *rig = producer_unbound(MASK);
        struct messages messages = {.n = 0};
        char texts[BATCH][32];
        struct call *batch;

        rig->slots = SLOTS;
        rig->world.mode = FAKE_PARKED;
        fake_rig_set(rig, "claim_check_threshold", 16);
        fake_rig_bind(rig);
        fill(&messages, texts);
        batch = publish_batch(rig, &messages);
        for (unsigned i = 0; i < steps && fake_release(&rig->world, 1) > 0; i++)
            fake_rig_drain(rig);
        fake_call_cancel(batch);
        for (int i = 0; i < 100; i++) {
            fake_rig_run(rig);
            fake_rig_advance(rig, 50);
        }
        assert_int_equal(batch->ends, 1);
        fake_call_free(batch);
        producer_free(rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_fails_in_turn),
        cmocka_unit_test(test_cancelled_at_every_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
