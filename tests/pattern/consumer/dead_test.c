/* C13: dead letters that their slot refuses for good hold up nothing, and are not lost in silence.
 */
#include "patterns/consumer/feed.h"
#include "patterns/messaging/dead.h"
#include "tests/pattern/consumer/consumer.h"

#define LETTERS "t.g.dead"

static const pb_disposition RETRIED = CONSUMER_PB(DISPOSITION__RETRY),
                            DEAD = CONSUMER_PB(DISPOSITION__DEAD_LETTER),
                            DROPPED = CONSUMER_PB(DISPOSITION__DROP);

static struct call *member_by_key(struct fake_rig *rig)
{
    pb_subscribe_request subscribe = subscription();

    subscribe.order = CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY);
    return join(rig, &subscribe);
}

static bool says(const struct outgoing *letter, const char *name, const char *value)
{
    for (size_t i = 0; i < letter->n_headers; i++) {
        if (slice_equal(letter->headers[i].name, slice_str(name)))
            return slice_equal(letter->headers[i].value, slice_str(value));
    }
    return false;
}

static const struct letters *letters_of(struct fake_rig *rig)
{
    return &consumer_in(rig)->letters;
}

/* Its letter is too large as it is: what can be kept is, and says what it lacks. */
static void test_a_letter_that_does_not_fit_is_kept_without_its_payload(void **state)
{
    struct fake_rig *rig = mortal(1);
    struct call *call = member_by_key(rig);
    const struct outgoing *letter;

    (void)state;
    put(rig, "k", "large");
    put(rig, "k", "next");
    rig->world.fail_with = err_about(ERR_INVALID_ARGUMENT, "payload", "too large");
    rig->world.fail_at = rig->world.ops + 1;
    reject(rig, call, 1, RETRIED, 0);
    assert_int_equal(last_failure(call), ERR_OK);
    assert_int_equal(fake_published(&rig->world, LETTERS), 1);
    letter = fake_message(&rig->world, LETTERS, 0);
    assert_int_equal(letter->payload.len, 0);
    assert_true(slice_equal(letter->key, slice_str("k")));
    assert_true(says(letter, DEAD_LETTER_OMITTED, "5"));
    assert_true(says(letter, DEAD_LETTER_HEADER "reason", "because"));
    expect_delivery(call, 1, "next", 1);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
    assert_int_equal(stat_of(&letters_of(rig)->cut), 1);
    assert_int_equal(stat_of(&letters_of(rig)->stored), 0);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.dead_letters), 1);
    assert_null(pattern_consumer.restriction(rig->pattern, SLOT_DEAD));
    leave(rig, call);
    consumer_free(rig);
}

/* The slot knows no null payload. An empty one is another message, so the letter says what it was.
 */
static void test_a_null_payload_is_told_from_an_empty_one(void **state)
{
    struct fake_rig *rig = mortal(1);
    struct call *call = member(rig);
    const struct outgoing *letter;

    (void)state;
    put_item(rig, (struct outgoing){.topic = slice_str("t"), .payload = message_null()});
    rig->world.messages.stream.sink.null_payload = false;
    reject(rig, call, 1, RETRIED, 0);
    assert_int_equal(fake_published(&rig->world, LETTERS), 1);
    letter = fake_message(&rig->world, LETTERS, 0);
    assert_false(message_is_null(letter->payload));
    assert_true(says(letter, DEAD_LETTER_OMITTED, "null"));
    leave(rig, call);
    consumer_free(rig);
}

static void refuse_letters(struct fake_rig *rig, enum err_code code)
{
    rig->world.fail_with = err_make(code, "not here");
    rig->world.poison = slice_str(LETTERS);
}

/* Dropped, counted and logged, as without the slot: what stands behind it comes. */
static void test_what_is_refused_for_good_is_dropped(void **state)
{
    static const enum err_code codes[] = {ERR_INVALID_ARGUMENT, ERR_OUT_OF_RANGE,
                                          ERR_UNIMPLEMENTED};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        struct fake_rig *rig = mortal(2);
        struct call *call = member_by_key(rig);

        refuse_letters(rig, codes[i]);
        put(rig, "k", "rejected");
        put(rig, "k", "kills its reader");
        put(rig, "k", "next");
        reject(rig, call, 1, RETRIED, 0);
        expect_delivery(call, 1, "rejected", 2);
        reject(rig, call, 2, RETRIED, 0);
        assert_int_equal(last_failure(call), ERR_OK);
        for (int32_t attempt = 1; attempt <= 2; attempt++) {
            vanish(rig, call);
            call = member_by_key(rig);
        }
        fake_rig_run(rig);
        expect_delivery(call, 0, "next", 1);
        assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
        assert_int_equal(fake_published(&rig->world, LETTERS), 0);
        assert_int_equal(stat_of(&letters_of(rig)->refused), 2);
        assert_int_equal(stat_of(&consumer_in(rig)->stats.dropped), 2);
        assert_int_equal(stat_of(&consumer_in(rig)->stats.dead_letters), 0);
        assert_non_null(pattern_consumer.restriction(rig->pattern, SLOT_DEAD));
        leave(rig, call);
        consumer_free(rig);
    }
}

/* Who asked for a dead letter, with attempts left, hears that there is none, and still has it. */
static void test_who_rejects_is_told_and_decides(void **state)
{
    struct fake_rig *rig = mortal(2);
    struct call *call = member(rig);

    (void)state;
    refuse_letters(rig, ERR_INVALID_ARGUMENT);
    put(rig, NULL, "a");
    reject(rig, call, 1, DEAD, 0);
    assert_int_equal(last_failure(call), ERR_INVALID_ARGUMENT);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.dropped), 0);
    reject(rig, call, 1, DROPPED, 0);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.dropped), 1);
    leave(rig, call);
    consumer_free(rig);
}

/* A topic and a permission that are missing are the slot's fault, not the letter's: it waits. */
static void test_what_the_slot_lacks_is_waited_for(void **state)
{
    static const enum err_code codes[] = {ERR_PERMISSION_DENIED, ERR_NOT_FOUND};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        struct fake_rig *rig = mortal(1);
        struct call *call = member(rig);

        refuse_letters(rig, codes[i]);
        put(rig, NULL, "a");
        vanish(rig, call);
        call = member(rig);
        fake_rig_advance(rig, 10 * DEAD_AGAIN_MS);
        fake_rig_run(rig);
        assert_in_range(stat_of(&letters_of(rig)->failed), 2, 11);
        assert_int_equal(stat_of(&letters_of(rig)->refused), 0);
        assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
        assert_non_null(pattern_consumer.restriction(rig->pattern, SLOT_DEAD));
        rig->world.poison = message_null();
        fake_rig_advance(rig, 2 * DEAD_AGAIN_MS);
        fake_rig_run(rig);
        assert_int_equal(fake_published(&rig->world, LETTERS), 1);
        assert_true(slice_equal(fake_message(&rig->world, LETTERS, 0)->payload, slice_str("a")));
        assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
        leave(rig, call);
        consumer_free(rig);
    }
}

/* What the slots are asked for then waits. */
static void vanish_unanswered(struct fake_rig *rig, struct call *call)
{
    rig->world.mode = FAKE_PARKED;
    fake_call_cancel(call);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 1);
    fake_call_free(call);
    assert_int_equal(fake_published(&rig->world, LETTERS), 0);
}

static void vanish_with_a_last_attempt(struct fake_rig *rig, struct call *call)
{
    assert_int_equal(deliveries(call), 1);
    vanish_unanswered(rig, call);
}

/* Until the letter is written and the message is settled, the source keeps it for us: nobody else
 * gets what is dead. */
static void test_the_end_waits_for_dead_letters(void **state)
{
    struct fake_rig *rig = mortal(1);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    vanish_with_a_last_attempt(rig, call);
    assert_int_equal(rig->world.messages.subscriptions, 1);
    fake_rig_run(rig);
    assert_int_equal(rig->world.messages.subscriptions, 0);
    assert_int_equal(fake_published(&rig->world, LETTERS), 1);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.late), 0);
    consumer_free(rig);
}

/* The same without a slot, where it is dropped and counted: once. */
static void test_the_end_waits_for_what_is_dropped(void **state)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    struct call *call;

    (void)state;
    fake_rig_set(rig, "max_attempts", 1);
    fake_rig_bind(rig);
    call = member(rig);
    put(rig, NULL, "a");
    vanish_with_a_last_attempt(rig, call);
    fake_rig_run(rig);
    assert_int_equal(rig->world.messages.subscriptions, 0);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.dropped), 1);
    consumer_free(rig);
}

/* A slot that does not answer does not keep a group's messages from others for ever. */
static void test_the_end_waits_for_dead_letters_for_a_while(void **state)
{
    struct fake_rig *rig = mortal(1);
    struct call *call = member(rig);

    (void)state;
    put(rig, NULL, "a");
    vanish_with_a_last_attempt(rig, call);
    fake_rig_advance(rig, FEED_LETTERS_MS - 100);
    assert_int_equal(rig->world.messages.subscriptions, 1);
    fake_rig_advance(rig, 200);
    assert_int_equal(rig->world.messages.subscriptions, 0);
    assert_int_equal(fake_published(&rig->world, LETTERS), 0);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
    fake_rig_run(rig);
    assert_int_equal(fake_published(&rig->world, LETTERS), 1);
    consumer_free(rig);
}

/* All but the first, which is a dead letter on its way. */
static void answer_the_source(struct fake_rig *rig, size_t n)
{
    rig->world.order = FAKE_LAST_FIRST;
    for (; n > 0; n--) {
        assert_int_equal(fake_release(&rig->world, 1), 1);
        fake_rig_drain(rig);
    }
    rig->world.mode = FAKE_AT_ONCE;
    assert_int_equal(fake_published(&rig->world, LETTERS), 0);
}

/* With nothing that is parked. */
static struct call *another(struct fake_rig *rig, pb_order_mode order)
{
    pb_subscribe_request subscribe = subscription();

    subscribe.order = order;
    return start_to_join(rig, &subscribe);
}

/* Others have it at once, but for what waits behind the dying one for the sake of order. */
static void test_the_end_keeps_only_what_dies(void **state)
{
    struct fake_rig *rig = mortal(2);
    struct call *call = member_by_key(rig);

    (void)state;
    put(rig, "k", "dies");
    put(rig, "k", "behind it");
    put(rig, NULL, "failed"); /* a key might share the lane of the first one */
    put(rig, NULL, "parked");
    reject(rig, call, 1, RETRIED, 0);
    expect_delivery(call, 3, "dies", 2);
    reject(rig, call, 3, RETRIED, 60000);
    assert_int_equal(deliveries(call), 4);
    vanish_unanswered(rig, call);
    answer_the_source(rig, 2);
    assert_int_equal(rig->world.messages.subscriptions, 1);

    call = another(rig, CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY));
    assert_int_equal(rig->world.messages.subscriptions, 2);
    assert_int_equal(deliveries(call), 2);
    expect_delivery(call, 0, "failed", 2);
    expect_delivery(call, 1, "parked", 2);
    fake_rig_run(rig);
    assert_int_equal(rig->world.messages.subscriptions, 1);
    assert_int_equal(fake_published(&rig->world, LETTERS), 1);
    expect_delivery(call, 2, "behind it", 1);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.late), 0);
    leave(rig, call);
    consumer_free(rig);
}

/* Nor does it wait for who has asked for the letter and is no longer there. */
static void test_the_end_does_not_wait_for_who_asked_for_a_letter(void **state)
{
    struct fake_rig *rig = mortal(2);
    struct call *gone = member(rig), *call;

    (void)state;
    put(rig, NULL, "rejected");
    put(rig, NULL, "a");
    rig->world.mode = FAKE_PARKED;
    start_to_reject(rig, gone, 1, DEAD, 0);
    fake_call_cancel(gone);
    fake_rig_drain(rig);
    answer_the_source(rig, 1);
    call = another(rig, CONSUMER_PB(ORDER_MODE__ORDER_MODE_UNSPECIFIED));
    assert_int_equal(deliveries(call), 1);
    expect_delivery(call, 0, "a", 2);
    fake_rig_advance(rig, FEED_LETTERS_MS + 100);
    assert_int_equal(deliveries(call), 2);
    expect_delivery(call, 1, "rejected", 1);
    fake_rig_run(rig);
    assert_int_equal(fake_published(&rig->world, LETTERS), 1);
    assert_int_equal(gone->ends, 1);
    fake_call_free(gone);
    leave(rig, call);
    consumer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_letter_that_does_not_fit_is_kept_without_its_payload),
        cmocka_unit_test(test_a_null_payload_is_told_from_an_empty_one),
        cmocka_unit_test(test_what_is_refused_for_good_is_dropped),
        cmocka_unit_test(test_who_rejects_is_told_and_decides),
        cmocka_unit_test(test_what_the_slot_lacks_is_waited_for),
        cmocka_unit_test(test_the_end_waits_for_dead_letters),
        cmocka_unit_test(test_the_end_waits_for_what_is_dropped),
        cmocka_unit_test(test_the_end_waits_for_dead_letters_for_a_while),
        cmocka_unit_test(test_the_end_keeps_only_what_dies),
        cmocka_unit_test(test_the_end_does_not_wait_for_who_asked_for_a_letter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
