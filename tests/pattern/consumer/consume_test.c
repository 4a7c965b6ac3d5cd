/* Members, settlement, retries and dead letters, on a source whose faults the test chooses. */
#include "tests/pattern/consumer/consumer.h"

static const pb_disposition RETRIED = CONSUMER_PB(DISPOSITION__RETRY);
static const pb_disposition RELEASED = CONSUMER_PB(DISPOSITION__RELEASE);
static const pb_disposition DEAD = CONSUMER_PB(DISPOSITION__DEAD_LETTER);
static const pb_disposition DROPPED = CONSUMER_PB(DISPOSITION__DROP);

static void test_a_settlement_names_a_delivery(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    put(rig, NULL, "b");
    expect_delivery(call, 0, "a", 1);
    expect_delivery(call, 1, "b", 1);
    ack(rig, call, 2);
    assert_int_equal(through(call), 0);
    ack(rig, call, 1);
    assert_int_equal(through(call), 2);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    assert_int_equal(last_failure(call), ERR_OK);
    ack(rig, call, 1);
    assert_int_equal(last_failure(call), ERR_NOT_FOUND);
    ack(rig, call, 3);
    assert_int_equal(last_failure(call), ERR_NOT_FOUND);
    leave(rig, call);
    consumer_free(rig);
}

static void test_what_a_member_held_goes_to_the_others(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *first = member(rig), *second;

    (void)state;
    put(rig, NULL, "a");
    put(rig, NULL, "b");
    second = member(rig);
    assert_int_equal(deliveries(second), 0);
    ack(rig, first, 1);
    vanish(rig, first);
    assert_int_equal(deliveries(second), 1);
    expect_delivery(second, 0, "b", 2);
    ack(rig, second, 1);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    leave(rig, second);
    consumer_free(rig);
}

static void test_a_release_is_no_attempt_and_a_retry_is_one(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    reject(rig, call, 1, RELEASED, 0);
    expect_delivery(call, 1, "a", 1);
    reject(rig, call, 2, RETRIED, 0);
    expect_delivery(call, 2, "a", 2);
    reject(rig, call, 3, RETRIED, 500);
    assert_int_equal(deliveries(call), 3);
    fake_rig_advance(rig, 600);
    fake_rig_run(rig);
    expect_delivery(call, 3, "a", 3);
    reject(rig, call, 4, DROPPED, 0);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.dropped), 1);
    leave(rig, call);
    consumer_free(rig);
}

/* C7: the partition goes to another process while the member works. */
static void test_c7_a_late_settlement_is_refused_and_counted(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    assert_int_equal(deliveries(call), 1);
    fake_revoke(&rig->world, "t", "g");
    fake_rig_run(rig);
    ack(rig, call, 1);
    assert_int_equal(last_failure(call), ERR_ABORTED);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.late), 1);
    leave(rig, call);
    consumer_free(rig);
}

/* C22: at no moment more than credit and max_in_flight allow. */
static void test_c22_room_and_credit_are_bounds(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    subscribe._max_in_flight_case = CONSUMER_PB(SUBSCRIBE_REQUEST___MAX_IN_FLIGHT_MAX_IN_FLIGHT);
    subscribe.max_in_flight = 3;
    call = join(rig, &subscribe);
    for (int i = 0; i < 10; i++)
        put(rig, NULL, "x");
    assert_int_equal(deliveries(call), 3);
    assert_true(rig->world.messages.handed_over <= 3);
    ack(rig, call, 2);
    assert_int_equal(deliveries(call), 4);
    leave(rig, call);
    consumer_free(rig);
}

/* Keys share lanes now and then: one with another lane is found. */
static void put_another(struct fake_rig *rig, const struct call *call)
{
    size_t before = deliveries(call);
    char key[] = "a";

    for (; deliveries(call) == before && key[0] <= 'j'; key[0]++)
        put(rig, key, "3");
}

static void test_c14_a_key_waits_for_its_failure(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    subscribe.order = CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY);
    call = join(rig, &subscribe);
    put(rig, "k", "1");
    put(rig, "k", "2");
    put_another(rig, call);
    assert_int_equal(deliveries(call), 2);
    expect_delivery(call, 0, "1", 1);
    expect_delivery(call, 1, "3", 1);
    reject(rig, call, 1, RETRIED, 1000);
    assert_int_equal(deliveries(call), 2);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.parked), 1);
    fake_rig_advance(rig, 1100);
    fake_rig_run(rig);
    expect_delivery(call, 2, "1", 2);
    ack(rig, call, 3);
    expect_delivery(call, 3, "2", 1);
    leave(rig, call);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.parked), 0);
    consumer_free(rig);
}

/* C16: the letter counts the deliveries that were made, whoever ended the last one. */
static void expect_deliveries(struct fake_rig *rig, size_t letter, const char *count)
{
    const struct outgoing *item = fake_message(&rig->world, "t.g.dead", letter);

    for (size_t i = 0; i < item->n_headers; i++) {
        if (!slice_equal(item->headers[i].name, slice_str("prism-dead-letter-attempt")))
            continue;
        assert_true(slice_equal(item->headers[i].value, slice_str(count)));
        return;
    }
    fail_msg("the letter does not count");
}

/* C11: whoever makes the last attempt fail. */
static void test_c11_after_the_last_attempt_comes_a_dead_letter(void **state)
{
    struct fake_rig *rig = mortal(2);
    struct call *call;

    (void)state;
    call = member(rig);
    put(rig, NULL, "rejected");
    reject(rig, call, 1, RETRIED, 0);
    reject(rig, call, 2, RETRIED, 0);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 1);
    expect_deliveries(rig, 0, "2");
    put(rig, NULL, "crashes");
    vanish(rig, call);
    call = member(rig);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 1);
    leave(rig, call);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.dead_letters), 1);
    consumer_free(rig);
}

/* The subscription ends with its only member, so the source has to hear of the failure first. */
static void test_c11_a_message_that_kills_its_only_reader_ends(void **state)
{
    struct fake_rig *rig = mortal(2);
    struct call *call;

    (void)state;
    call = member(rig);
    put(rig, NULL, "killer");
    for (int32_t attempt = 1; attempt <= 2; attempt++) {
        expect_delivery(call, 0, "killer", attempt);
        vanish(rig, call);
        call = member(rig);
        fake_rig_run(rig);
    }
    assert_int_equal(deliveries(call), 0);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 1);
    expect_deliveries(rig, 0, "2");
    leave(rig, call);
    consumer_free(rig);
}

/* C11: nobody rejects it, and nobody's member ends: leases alone use its attempts up. */
static void test_c11_leases_that_run_out_are_attempts(void **state)
{
    struct fake_rig *rig = mortal(2);
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    subscribe._lease_ms_case = CONSUMER_PB(SUBSCRIBE_REQUEST___LEASE_MS_LEASE_MS);
    subscribe.lease_ms = 1000;
    call = join(rig, &subscribe);
    put(rig, NULL, "takes too long");
    assert_int_equal(deliveries(call), 1);
    fake_rig_advance(rig, 1200);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 2);
    expect_delivery(call, 1, "takes too long", 2);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 0);
    fake_rig_advance(rig, 1200);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 2);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 1);
    expect_deliveries(rig, 0, "2");
    assert_int_equal(stat_of(&consumer_in(rig)->stats.dead_letters), 1);
    leave(rig, call);
    consumer_free(rig);
}

/* C11: it waits when the last member leaves; released since, which is no attempt and undoes none.
 */
static void test_c11_what_failed_and_is_parked_is_an_attempt(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    subscribe._lease_ms_case = CONSUMER_PB(SUBSCRIBE_REQUEST___LEASE_MS_LEASE_MS);
    subscribe.lease_ms = 1000;
    call = join(rig, &subscribe);
    put(rig, NULL, "a");
    fake_rig_advance(rig, 1200);
    fake_rig_run(rig);
    expect_delivery(call, 1, "a", 2);
    reject(rig, call, 2, RELEASED, 0);
    expect_delivery(call, 2, "a", 2);
    reject(rig, call, 3, RELEASED, 0);
    assert_int_equal(deliveries(call), 3);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.parked), 1);
    leave(rig, call);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.parked), 0);
    call = member(rig);
    fake_rig_run(rig);
    expect_delivery(call, 0, "a", 2);
    leave(rig, call);
    consumer_free(rig);
}

/* The same for a retry that waits here, because its key does. */
static void test_c11_a_retry_that_is_parked_is_an_attempt(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();
    struct call *call;

    (void)state;
    subscribe.order = CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY);
    call = join(rig, &subscribe);
    put(rig, "k", "a");
    put(rig, "k", "b");
    reject(rig, call, 1, RETRIED, 100000);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.parked), 1);
    leave(rig, call);
    call = join(rig, &subscribe);
    fake_rig_run(rig);
    expect_delivery(call, 0, "a", 2);
    ack(rig, call, 1);
    expect_delivery(call, 1, "b", 1);
    leave(rig, call);
    consumer_free(rig);
}

/* C13: the original is settled after the dead letter, never instead of it. */
static void test_c13_a_dead_letter_that_fails_leaves_the_message(void **state)
{
    struct fake_rig *rig = mortal(0);
    struct call *call;

    (void)state;
    call = member(rig);
    put(rig, NULL, "a");
    rig->world.fail_at = rig->world.ops + 1;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "the fake is away");
    reject(rig, call, 1, DEAD, 0);
    assert_int_equal(last_failure(call), ERR_UNAVAILABLE);
    assert_non_null(pattern_consumer.restriction(rig->pattern, SLOT_DEAD));
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 0);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
    reject(rig, call, 1, DEAD, 0);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 1);
    assert_null(pattern_consumer.restriction(rig->pattern, SLOT_DEAD));
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    assert_true(slice_equal(fake_message(&rig->world, "t.g.dead", 0)->headers[0].name,
                            slice_str("prism-dead-letter-reason")));
    leave(rig, call);
    consumer_free(rig);
}

/* Who has the message by then writes the dead letter, if it comes to that. */
static void test_a_dead_letter_of_a_message_that_was_lost_is_given_up(void **state)
{
    struct fake_rig *rig = mortal(1);
    struct call *call, *other;

    (void)state;
    call = member(rig);
    other = member(rig);
    put(rig, NULL, "a");
    rig->world.fail_at = rig->world.ops + 1;
    rig->world.fail_last = UINT64_MAX;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "the fake is away");
    vanish(rig, deliveries(call) > 0 ? call : other);
    fake_revoke(&rig->world, "t", "g");
    fake_rig_run(rig);
    rig->world.fail_at = 0;
    fake_rig_advance(rig, 1500);
    fake_rig_run(rig);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 0);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
    leave(rig, rig->calls);
    consumer_free(rig);
}

static void test_members_of_a_queue_may_say_where_to_begin(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_QUEUE);
    pb_subscribe_request subscribe = subscription();
    struct call *calls[2];

    (void)state;
    subscribe.start_case = CONSUMER_PB(SUBSCRIBE_REQUEST__START_POSITION);
    subscribe.position = CONSUMER_PB(START_POSITION__LATEST);
    for (int i = 0; i < 2; i++) {
        calls[i] = join(rig, &subscribe);
        assert_int_equal(calls[i]->ends, 0);
    }
    leave(rig, calls[0]);
    leave(rig, calls[1]);
    consumer_free(rig);
}

static void test_c4_settlements_are_taken_during_a_drain(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    fake_call_drain(call);
    fake_rig_run(rig);
    assert_true(frame_at(call, call->sent_count - 1)->draining);
    put(rig, NULL, "b");
    assert_int_equal(deliveries(call), 1);
    assert_int_equal(call->ends, 0);
    ack(rig, call, 1);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_UNAVAILABLE);
    assert_int_equal(through(call), 1);
    fake_call_free(call);
    consumer_free(rig);
}

/* Whatever operation fails: no message is lost, none is settled twice, and all is given back. */
static void test_every_operation_may_fail(void **state)
{
    (void)state;
    for (uint64_t fail = 1; fail < 12; fail++) {
        struct fake_rig *rig = consumer_rig(FAKE_STREAM);
        struct call *call;

        put(rig, NULL, "a");
        put(rig, NULL, "b");
        rig->world.fail_at = rig->world.ops + fail;
        rig->world.fail_with = err_make(ERR_UNAVAILABLE, "the fake is away");
        call = member(rig);
        for (int64_t i = 1; i <= 12 && fake_unsettled(&rig->world, "t", "g") > 0; i++)
            ack(rig, call, 1 + i % 2);
        assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
        assert_int_equal(deliveries(call), 2);
        assert_int_equal(through(call), 2);
        leave(rig, call);
        consumer_free(rig);
    }
}

static void test_a_source_that_ends_ends_its_members(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    fake_close(&rig->world, "t", err_about(ERR_NOT_FOUND, "topic", "the topic was removed"));
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_NOT_FOUND);
    assert_string_equal(call->status.text, "the topic was removed");
    fake_call_free(call);
    consumer_free(rig);
}

static void test_topics_are_settled_by_sending(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_TOPIC);
    pb_subscribe_request manual = subscription();
    struct call *call;

    (void)state;
    manual.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_MANUAL;
    call = join(rig, &manual);
    assert_int_equal(call->status.code, ERR_UNIMPLEMENTED);
    fake_call_free(call);
    call = member(rig);
    assert_int_equal(frame_at(call, 0)->started->ack_mode,
                     PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO);
    leave(rig, call);
    consumer_free(rig);
}

/* With a delay as without one. */
static void test_with_ack_auto_nothing_is_settled_by_the_client(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_subscribe_request automatic = subscription();
    struct call *call;

    (void)state;
    automatic.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO;
    call = join(rig, &automatic);
    reject(rig, call, 1, CONSUMER_PB(DISPOSITION__RETRY), 10);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_FAILED_PRECONDITION);
    assert_string_equal(call->status.subject, "ack_mode");
    fake_call_free(call);
    consumer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_settlement_names_a_delivery),
        cmocka_unit_test(test_what_a_member_held_goes_to_the_others),
        cmocka_unit_test(test_a_release_is_no_attempt_and_a_retry_is_one),
        cmocka_unit_test(test_c7_a_late_settlement_is_refused_and_counted),
        cmocka_unit_test(test_c22_room_and_credit_are_bounds),
        cmocka_unit_test(test_c14_a_key_waits_for_its_failure),
        cmocka_unit_test(test_c11_after_the_last_attempt_comes_a_dead_letter),
        cmocka_unit_test(test_c11_a_message_that_kills_its_only_reader_ends),
        cmocka_unit_test(test_c11_leases_that_run_out_are_attempts),
        cmocka_unit_test(test_c11_what_failed_and_is_parked_is_an_attempt),
        cmocka_unit_test(test_c11_a_retry_that_is_parked_is_an_attempt),
        cmocka_unit_test(test_c13_a_dead_letter_that_fails_leaves_the_message),
        cmocka_unit_test(test_a_dead_letter_of_a_message_that_was_lost_is_given_up),
        cmocka_unit_test(test_members_of_a_queue_may_say_where_to_begin),
        cmocka_unit_test(test_c4_settlements_are_taken_during_a_drain),
        cmocka_unit_test(test_every_operation_may_fail),
        cmocka_unit_test(test_a_source_that_ends_ends_its_members),
        cmocka_unit_test(test_topics_are_settled_by_sending),
        cmocka_unit_test(test_with_ack_auto_nothing_is_settled_by_the_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
