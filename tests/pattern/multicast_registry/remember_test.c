/* A multicast that is repeated under its message_id: who has the message does not get it again. */
#include "patterns/multicast_registry/multicast_priv.h"
#include "tests/pattern/multicast_registry/remembering.h"

static void test_a_repetition_has_the_first_answer(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *call = subscribed(rig, false, READERS, readers);

    (void)state;
    expect_sent(rig, "a", "x", 0);
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, call, 1);
    expect_sent(rig, "b", "x", 0);
    expect_got(rig, call, 2);
    expect_refused(rig, "a", "y", ERR_ALREADY_EXISTS);
    expect_got(rig, call, 2);
    fake_rig_advance(rig, WINDOW_MS + 1);
    expect_sent(rig, "a", "y", 0);
    expect_got(rig, call, 3);
    end(rig, call);
}

static void test_without_an_id_nothing_is_remembered(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *call = subscribed(rig, false, READERS, readers);

    (void)state;
    expect_sent(rig, "", "x", 0);
    expect_sent(rig, "", "x", 0);
    expect_got(rig, call, 2);
    assert_int_equal(fake_keys(&rig->world), 0);
    end(rig, call);
}

static void test_a_registry_that_cannot_is_told_of(void **state)
{
    static const struct multicast_operation row = {.name = "Multicast", .need = NEED_IDEMPOTENCE};
    static const unsigned masks[] = {MASK, MASK | FAKE_BASIC | FAKE_CAS, REMEMBERS};
    static const enum pattern_how how[] = {PATTERN_UNAVAILABLE, PATTERN_UNAVAILABLE,
                                           PATTERN_EMULATED};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(masks); i++) {
        struct fake_rig *rig = rig_with(masks[i]);
        struct call *call = subscribed(rig, false, READERS, readers);
        const struct multicast *multicast = CONTAINER_OF(rig->pattern, struct multicast, base);

        assert_int_equal(multicast_how(&multicast->plan, &row), how[i]);
        expect_sent(rig, "a", "x", 0);
        expect_sent(rig, "a", "x", 0);
        expect_got(rig, call, how[i] == PATTERN_EMULATED ? 1 : 2);
        end(rig, call);
    }
}

static void test_only_those_that_failed_are_tried_again(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *call = subscribed(rig, false, READERS, readers);

    (void)state;
    rig->world.poison = slice_str("prism.multicast.i1");
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    expect_sent(rig, "a", "x", 1);
    assert_int_equal(got(call, 1), 0);
    expect_sent(rig, "a", "x", 1);
    rig->world.poison = message_null();
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, call, 1);
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, call, 1);
    end(rig, call);
}

/* More names than are remembered: nothing can be said of them any more. */
static void test_too_many_failures_are_not_remembered(void **state)
{
    enum { MANY = 200, LONG = 400 };

    struct fake_rig *rig = unbound_with(REMEMBERS, BOTH_SLOTS);
    struct call *call;
    char name[LONG + 1];

    (void)state;
    fake_rig_set(rig, "retry_attempts", 1);
    fake_rig_bind(rig);
    for (int i = 0; i < MANY; i++) {
        memset(name, 'n', LONG);
        snprintf(name, sizeof name, "%03d", i);
        name[3] = 'n';
        name[LONG] = '\0';
        fake_register(&rig->world, name, "{}", 0);
    }
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    rig->world.mode = FAKE_PARKED;
    call = begin(rig, "a", "x");
    fake_rig_drain(rig);
    fake_release(&rig->world, 1); /* it is claimed */
    fake_rig_drain(rig);
    fake_release(&rig->world, 1); /* there is a page */
    fake_rig_drain(rig);
    rig->world.fail_at = rig->world.ops; /* what is sent, in two pages */
    rig->world.fail_last = rig->world.fail_at + 1;
    settle(rig, call);
    assert_int_equal(answer_of(call)->failed_count, MANY);
    rig->world.mode = FAKE_AT_ONCE;
    fake_call_free(call);
    expect_refused(rig, "a", "x", ERR_FAILED_PRECONDITION);
    free_rig(rig);
}

/* A page is under way, and stays there: what comes later is released first. */
static struct call *begin_slow(struct fake_rig *rig)
{
    struct call *call;

    rig->world.mode = FAKE_PARKED;
    rig->world.order = FAKE_LAST_FIRST;
    call = begin(rig, "a", "x");
    fake_rig_drain(rig);
    fake_release(&rig->world, 1); /* it is claimed */
    fake_rig_drain(rig);
    return call;
}

enum { LOOKS = 3 }; /* of who is refused: put_if absent, get, what is left of the lease */

static void release_latest(struct fake_rig *rig, unsigned n)
{
    while (n-- > 0) {
        assert_int_equal(fake_release(&rig->world, 1), 1);
        fake_rig_drain(rig);
    }
}

static void test_one_that_is_not_over_is_waited_for(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *reader = subscribed(rig, false, READERS, readers);
    struct call *first = begin_slow(rig), *second = begin(rig, "a", "x");

    (void)state;
    fake_rig_drain(rig);
    release_latest(rig, LOOKS);
    assert_int_equal(second->status.code, ERR_UNAVAILABLE);
    assert_true(second->status.retry_after_ms > 0);
    settle(rig, first);
    assert_int_equal(answer_of(first)->target_count, TARGETS);
    fake_call_free(first);
    fake_call_free(second);
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, reader, 1);
    end(rig, reader);
}

/* The first ends between two looks at its record: its answer is there. */
static void test_one_that_ends_meanwhile_is_answered(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *reader = subscribed(rig, false, READERS, readers);
    struct call *first = begin_slow(rig), *second = begin(rig, "a", "x");

    (void)state;
    fake_rig_drain(rig);
    release_latest(rig, LOOKS - 1);
    rig->world.order = FAKE_FIRST_FIRST;
    release_latest(rig, 1); /* the page of the first */
    rig->world.order = FAKE_LAST_FIRST;
    release_latest(rig, 2); /* it is sent, and written down */
    assert_int_equal(answer_of(first)->target_count, TARGETS);
    settle(rig, second);
    assert_int_equal(answer_of(second)->target_count, TARGETS);
    assert_false(answer_of(second)->resumed);
    fake_call_free(first);
    fake_call_free(second);
    rig->world.mode = FAKE_AT_ONCE;
    expect_got(rig, reader, 1);
    end(rig, reader);
}

/* The end could not be written: nothing is known of the first but its claim. */
static void test_a_claim_expires(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *call;

    (void)state;
    rig->world.fail_at = rig->world.ops + 4; /* claim, page, publish, the outcome */
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    call = send(rig, "a", "x");
    assert_true(answer_of(call)->success);
    fake_call_free(call);
    assert_int_equal(
        counter_read(&CONTAINER_OF(rig->pattern, struct multicast, base)->stats.forgotten), 1);
    expect_refused(rig, "a", "x", ERR_UNAVAILABLE);
    fake_rig_advance(rig, LEASE_MS);
    expect_sent(rig, "a", "x", 0);
    free_rig(rig);
}

static void test_nothing_is_sent_that_is_not_claimed(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *call = subscribed(rig, false, READERS, readers);

    (void)state;
    rig->world.fail_at = rig->world.ops + 1;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    expect_refused(rig, "a", "x", ERR_UNAVAILABLE);
    expect_got(rig, call, 0);
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, call, 1);
    end(rig, call);
}

/* The client goes after any number of steps, and repeats. A page may be under way then. */
static void test_a_cancelled_one_goes_on(void **state)
{
    enum { STEPS = 24, PAGE = 3 };

    (void)state;
    for (unsigned steps = 0; steps < STEPS; steps++) {
        struct fake_rig *rig = rig_with(REMEMBERS);
        struct call *reader = subscribed(rig, false, READERS, readers), *call;

        rig->world.page_limit = PAGE;
        rig->world.mode = FAKE_PARKED;
        call = begin(rig, "a", "x");
        fake_rig_drain(rig);
        for (unsigned i = 0; i < steps && fake_release(&rig->world, 1) > 0; i++)
            fake_rig_drain(rig);
        if (call->ends == 0)
            fake_call_cancel(call);
        settle(rig, call);
        fake_call_free(call);
        rig->world.mode = FAKE_AT_ONCE;
        expect_sent(rig, "a", "x", 0);
        expect_got(rig, reader, 1);
        end(rig, reader);
    }
}

/* The answer to the claim is lost, but not the claim. */
static void test_a_claim_that_may_stand_is_looked_for(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *call = subscribed(rig, false, READERS, readers);

    (void)state;
    rig->world.messages.faults.lose_at = rig->world.ops + 1;
    expect_sent(rig, "a", "x", 0);
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, call, 1);
    end(rig, call);
}

/* The client goes while it is looked for: nothing stands in the way of a repetition. */
static void lose_and_leave(struct fake_rig *rig, unsigned claim)
{
    struct call *call;

    rig->world.mode = FAKE_PARKED;
    rig->world.messages.faults.lose_at = rig->world.ops + claim;
    call = begin(rig, "a", "x");
    fake_rig_drain(rig);
    for (unsigned i = 0; i < claim; i++) {
        fake_release(&rig->world, 1);
        fake_rig_drain(rig);
    }
    assert_int_equal(call->ends, 0);
    fake_call_cancel(call);
    settle(rig, call);
    assert_int_equal(call->status.code, ERR_UNAVAILABLE);
    assert_int_equal(call->status.effect, EFFECT_NONE);
    fake_call_free(call);
    rig->world.mode = FAKE_AT_ONCE;
}

static void test_a_lost_claim_of_one_who_left_is_removed(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *reader = subscribed(rig, false, READERS, readers);

    (void)state;
    lose_and_leave(rig, 1);
    assert_int_equal(fake_keys(&rig->world), 0);
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, reader, 1);
    end(rig, reader);
}

static void fail_first(struct fake_rig *rig)
{
    rig->world.poison = slice_str("prism.multicast.i1");
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    expect_sent(rig, "a", "x", 1);
}

static void test_a_lost_claim_leaves_what_it_replaced(void **state)
{
    enum { CLAIM = 3 }; /* put_if absent, get, put_if version */
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *reader = subscribed(rig, false, READERS, readers);

    (void)state;
    fail_first(rig);
    lose_and_leave(rig, CLAIM);
    rig->world.poison = message_null();
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, reader, 1);
    end(rig, reader);
}

/* Whoever went on is gone in the middle: what the first had reached stays reached. */
static void test_a_lapsed_claim_keeps_what_it_replaced(void **state)
{
    enum { END = 6 }; /* put_if absent, get, put_if version, get of the identity, publish, end */
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *reader = subscribed(rig, false, READERS, readers);

    (void)state;
    fail_first(rig);
    rig->world.fail_at = rig->world.ops + END;
    expect_sent(rig, "a", "x", 1);
    expect_refused(rig, "a", "x", ERR_UNAVAILABLE);
    rig->world.poison = message_null();
    fake_rig_advance(rig, LEASE_MS);
    expect_sent(rig, "a", "x", 0);
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, reader, 1);
    end(rig, reader);
}

static void test_a_claim_lasts_as_long_as_its_multicast(void **state)
{
    enum { RENEWAL = 2, RENEW_MS = 5001 };
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *reader = subscribed(rig, false, READERS, readers);
    struct call *first = begin_slow(rig);

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct call *second;

        fake_rig_advance(rig, RENEW_MS);
        release_latest(rig, RENEWAL);
        second = begin(rig, "a", "x");
        fake_rig_drain(rig);
        release_latest(rig, LOOKS);
        assert_int_equal(second->status.code, ERR_UNAVAILABLE);
        fake_call_free(second);
    }
    settle(rig, first);
    fake_call_free(first);
    rig->world.mode = FAKE_AT_ONCE;
    expect_sent(rig, "a", "x", 0);
    expect_got(rig, reader, 1);
    end(rig, reader);
}

/* Its claim is gone, and another's is there: it neither goes on nor writes over that. */
static void test_whose_claim_is_taken_stops(void **state)
{
    enum { RENEW_MS = 5001 };
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *call = begin_slow(rig);
    const struct fake_entry *entry = &rig->world.entries[0];

    (void)state;
    assert_int_equal(rig->world.n, 1);
    fake_table_set(&rig->world, entry->key, slice_str("another's"), 0);
    fake_rig_advance(rig, RENEW_MS);
    release_latest(rig, 1); /* the look at the claim; the page is asked to end */
    fake_rig_drain(rig);
    assert_int_equal(call->status.code, ERR_ABORTED);
    assert_true(slice_equal(entry->value, slice_str("another's")));
    assert_int_equal(
        counter_read(&CONTAINER_OF(rig->pattern, struct multicast, base)->stats.forgotten), 1);
    fake_call_free(call);
    free_rig(rig);
}

/* No renewal has come through, and another has claimed by the time it is over. */
static void test_the_end_is_not_written_over_anothers_claim(void **state)
{
    struct fake_rig *rig = rig_with(REMEMBERS);
    struct call *call = begin_slow(rig);
    const struct fake_entry *entry = &rig->world.entries[0];

    (void)state;
    fake_table_set(&rig->world, entry->key, slice_str("another's"), 0);
    settle(rig, call);
    assert_int_equal(answer_of(call)->target_count, TARGETS);
    assert_true(slice_equal(entry->value, slice_str("another's")));
    fake_call_free(call);
    free_rig(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_repetition_has_the_first_answer),
        cmocka_unit_test(test_without_an_id_nothing_is_remembered),
        cmocka_unit_test(test_a_registry_that_cannot_is_told_of),
        cmocka_unit_test(test_only_those_that_failed_are_tried_again),
        cmocka_unit_test(test_too_many_failures_are_not_remembered),
        cmocka_unit_test(test_one_that_is_not_over_is_waited_for),
        cmocka_unit_test(test_one_that_ends_meanwhile_is_answered),
        cmocka_unit_test(test_a_claim_expires),
        cmocka_unit_test(test_nothing_is_sent_that_is_not_claimed),
        cmocka_unit_test(test_a_cancelled_one_goes_on),
        cmocka_unit_test(test_a_claim_that_may_stand_is_looked_for),
        cmocka_unit_test(test_a_lost_claim_of_one_who_left_is_removed),
        cmocka_unit_test(test_a_lost_claim_leaves_what_it_replaced),
        cmocka_unit_test(test_a_lapsed_claim_keeps_what_it_replaced),
        cmocka_unit_test(test_a_claim_lasts_as_long_as_its_multicast),
        cmocka_unit_test(test_whose_claim_is_taken_stops),
        cmocka_unit_test(test_the_end_is_not_written_over_anothers_claim),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
