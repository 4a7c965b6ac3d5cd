/* What a client is told of a message when the time of its call runs out. */
#include "tests/pattern/producer/producer.h"

/* While the client still waits: after its deadline it would know nothing. */
static void test_p2_what_cannot_be_tried_again_in_time_is_told(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    pb_publish_request request = message_to("orders", "hello");
    struct call *call;

    (void)state;
    rig->world.fail_at = 1;
    rig->world.fail_last = UINT64_MAX;
    call = fake_call_with(rig, "Publish", &request.base, 50, false);
    for (int i = 0; i < 4; i++)
        fake_rig_advance(rig, 10);
    assert_int_equal(answer_of(call)->outcome, PB(OUTCOME__NOT_STORED));
    assert_int_equal(answer_of(call)->code, ERR_UNAVAILABLE);
    fake_call_free(call);
    producer_free(rig);
}

/* The sink says what became of it, and a status would not. */
static void test_p2_what_is_taken_back_at_the_deadline_is_not_stored(void **state)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);
    pb_publish_request request = message_to("orders", "hello");
    struct call *call;

    (void)state;
    rig->world.mode = FAKE_PARKED;
    fake_rig_bind(rig);
    call = fake_call_with(rig, "Publish", &request.base, 50, false);
    fake_rig_drain(rig);
    fake_rig_advance(rig, 60);
    assert_int_equal(answer_of(call)->outcome, PB(OUTCOME__NOT_STORED));
    assert_int_equal(answer_of(call)->code, ERR_DEADLINE_EXCEEDED);
    fake_call_free(call);
    producer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p2_what_cannot_be_tried_again_in_time_is_told),
        cmocka_unit_test(test_p2_what_is_taken_back_at_the_deadline_is_not_stored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
