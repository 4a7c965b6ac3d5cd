/* Settlement by token: what it does to the instance that holds the delivery, and what becomes of
 * deliveries with a token that go to somebody else. */
#include "patterns/consumer/feed.h"
#include "patterns/consumer/token.h"
#include "tests/pattern/consumer/consumer.h"

#include <stdlib.h>

enum { LEASE_MS = 1000 };

static const pb_disposition RETRIED = CONSUMER_PB(DISPOSITION__RETRY),
                            RELEASED = CONSUMER_PB(DISPOSITION__RELEASE),
                            DEAD = CONSUMER_PB(DISPOSITION__DEAD_LETTER);

static struct call *member_with(struct fake_rig *rig, pb_order_mode order, int64_t lease_ms)
{
    pb_subscribe_request subscribe = subscription();

    subscribe.ack_tokens = true;
    subscribe.order = order;
    if (lease_ms > 0) {
        subscribe._lease_ms_case = CONSUMER_PB(SUBSCRIBE_REQUEST___LEASE_MS_LEASE_MS);
        subscribe.lease_ms = lease_ms;
    }
    return join(rig, &subscribe);
}

static struct call *keyed_member(struct fake_rig *rig)
{
    return member_with(rig, CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY), 0);
}

static struct call *leased_member(struct fake_rig *rig)
{
    return member_with(rig, CONSUMER_PB(ORDER_MODE__ORDER_NONE), LEASE_MS);
}

/* Acknowledges the i-th delivery by its token. Returns the failure's code. */
static int settle(struct fake_rig *rig, const struct call *of, size_t i)
{
    ProtobufCBinaryData token = delivery_at(of, i)->ack_token;
    pb_deliveries deliveries = CONSUMER_PB(DELIVERIES__INIT);
    pb_acknowledge_request request = CONSUMER_PB(ACKNOWLEDGE_REQUEST__INIT);
    const pb_acknowledge_response *response;
    struct call *call;
    int code = ERR_OK;

    assert_true(token.len > 0);
    deliveries.ack_tokens = &token;
    deliveries.n_ack_tokens = 1;
    request.deliveries = &deliveries;
    call = fake_call(rig, "Acknowledge", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    response = (const void *)call->reply;
    assert_int_equal(response->acknowledged_count + (int)response->n_failures, 1);
    if (response->n_failures > 0) {
        code = response->failures[0]->code;
        assert_int_equal(response->failures[0]->ack_token.len, token.len);
    }
    fake_call_free(call);
    return code;
}

static void expect_settled(struct fake_rig *rig, uint64_t lost)
{
    const struct consumer_stats *stats = &consumer_in(rig)->stats;

    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    assert_int_equal(stat_of(&stats->unsettled), 0);
    assert_int_equal(stat_of(&stats->redelivered), 0);
    assert_int_equal(stat_of(&stats->lost), lost);
}

static void test_the_holder_is_told(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = keyed_member(rig);

    (void)state;
    put(rig, "k", "1");
    put(rig, "k", "2");
    assert_int_equal(deliveries(call), 1);
    assert_int_equal(settle(rig, call, 0), ERR_OK);
    assert_int_equal(deliveries(call), 2); /* the next of its key */
    assert_int_equal(through(call), 1);
    assert_int_equal(settle(rig, call, 0), ERR_ABORTED);
    assert_int_equal(settle(rig, call, 1), ERR_OK);
    assert_int_equal(through(call), 2);
    expect_settled(rig, 0);
    leave(rig, call);
    consumer_free(rig);
}

/* Nobody tells: its lease ends, and it neither comes again nor has failed. */
static void test_the_holder_finds_out(void **state)
{
    struct fake_rig *rig = mortal(1); /* a failure would show */
    struct call *call;

    (void)state;
    rig->world.messages.faults.silent = true;
    call = leased_member(rig);
    put(rig, NULL, "1");
    assert_int_equal(settle(rig, call, 0), ERR_OK);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.unsettled), 1);
    fake_rig_advance(rig, 2 * LEASE_MS);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 1);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 0);
    expect_settled(rig, 0);
    leave(rig, call);
    consumer_free(rig);
}

/* However it comes back, and to whomever it goes, its token settles nothing any more. */
static void test_late_tokens(void **state)
{
    (void)state;
    for (int way = 0; way < 5; way++) {
        struct fake_rig *rig = consumer_rig(FAKE_STREAM);
        struct call *call = way == 4 ? leased_member(rig)
                                     : member_with(rig,
                                                   way == 3 ? CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY)
                                                            : CONSUMER_PB(ORDER_MODE__ORDER_NONE),
                                                   0);
        struct call *other = NULL;

        put(rig, "k", "1");
        assert_int_equal(deliveries(call), 1);
        if (way == 0)
            reject(rig, call, 1, RELEASED, 0);
        if (way == 1 || way == 3)
            reject(rig, call, 1, RETRIED, 0);
        if (way == 2) {
            other = leased_member(rig);
            fake_call_push(call, NULL);
        }
        if (way == 4)
            fake_rig_advance(rig, 2 * LEASE_MS);
        fake_rig_run(rig);
        assert_int_equal(settle(rig, call, 0), ERR_ABORTED);
        assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
        if (other != NULL)
            assert_int_equal(settle(rig, other, 0), ERR_OK);
        else
            assert_int_equal(settle(rig, call, 1), ERR_OK);
        assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
        leave(rig, other != NULL ? other : call);
        if (other != NULL)
            fake_call_free(call);
        consumer_free(rig);
    }
}

/* A dead letter is not written of what was settled meanwhile; whoever asked for it is told. */
static void test_no_letter_of_what_is_settled(void **state)
{
    struct fake_rig *rig = mortal(0);
    struct call *call;

    (void)state;
    rig->world.messages.faults.silent = true;
    call = keyed_member(rig);
    put(rig, "k", "1");
    put(rig, "k", "2");
    assert_int_equal(settle(rig, call, 0), ERR_OK);
    reject(rig, call, 1, DEAD, 0);
    assert_int_equal(last_failure(call), ERR_ABORTED);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 0);
    assert_int_equal(deliveries(call), 2);
    reject(rig, call, 2, DEAD, 0);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 1);
    assert_int_equal(settle(rig, call, 1), ERR_ABORTED);
    expect_settled(rig, 0);
    leave(rig, call);
    consumer_free(rig);
}

/* The source does not answer: nobody gets it until it does. */
static void test_a_recall_that_fails(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = leased_member(rig);

    (void)state;
    put(rig, NULL, "1");
    rig->world.fail_at = rig->world.ops + 1;
    rig->world.fail_last = rig->world.ops + 3;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "the fake is away");
    fake_rig_advance(rig, LEASE_MS + LEASE_MS / 10 + 10);
    fake_rig_run(rig);
    assert_int_equal(deliveries(call), 1);
    for (int i = 0; i < 3; i++) {
        fake_rig_advance(rig, 210);
        fake_rig_run(rig);
    }
    assert_int_equal(deliveries(call), 2);
    assert_int_equal(settle(rig, call, 0), ERR_ABORTED);
    assert_int_equal(settle(rig, call, 1), ERR_OK);
    leave(rig, call);
    consumer_free(rig);
}

/* It ends while its deliveries are being recalled: all is given back. */
static void test_the_end_while_recalling(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    struct call *call = leased_member(rig);

    (void)state;
    for (int i = 0; i < 10; i++)
        put(rig, NULL, "1");
    assert_int_equal(deliveries(call), 10);
    vanish(rig, call);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 10);
    call = leased_member(rig);
    assert_int_equal(deliveries(call), 10);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(settle(rig, call, i), ERR_OK);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 0);
    leave(rig, call);
    consumer_free(rig);
}

static struct fake_rig *with_letters(void)
{
    struct fake_rig *rig = mortal(0);

    return rig;
}

/* It has rejected the first one, and what the slots are asked for waits. */
static void vanish_with_a_letter(struct fake_rig *rig, struct call *call)
{
    rig->world.mode = FAKE_PARKED;
    start_to_reject(rig, call, 1, DEAD, 0);
    fake_call_cancel(call);
    fake_rig_drain(rig);
}

/* What was asked for last, and not the letter. */
static void answer_last(struct fake_rig *rig)
{
    rig->world.order = FAKE_LAST_FIRST;
    assert_int_equal(fake_release(&rig->world, 1), 1);
    fake_rig_drain(rig);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 0);
}

/* The letter is asked for once the recall has its answer: the end waits for it from the reject on,
 * and no longer than for others. */
static void test_the_end_waits_for_a_letter_after_its_recall(void **state)
{
    struct fake_rig *rig = with_letters();
    struct call *call = member_with(rig, CONSUMER_PB(ORDER_MODE__ORDER_NONE), 0);

    (void)state;
    put(rig, NULL, "1");
    vanish_with_a_letter(rig, call);
    answer_last(rig);
    fake_rig_advance(rig, FEED_LETTERS_MS - 100);
    assert_int_equal(rig->world.messages.subscriptions, 1);
    fake_rig_advance(rig, 200);
    assert_int_equal(rig->world.messages.subscriptions, 0);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 1);
    fake_call_free(call);
    consumer_free(rig);
}

/* One that was released twice waits here, and its token is still good. */
static void test_the_end_recalls_what_waits_here(void **state)
{
    struct fake_rig *rig = with_letters();
    struct call *call = member_with(rig, CONSUMER_PB(ORDER_MODE__ORDER_NONE), 0);

    (void)state;
    put(rig, NULL, "1");
    put(rig, NULL, "2");
    reject(rig, call, 2, RELEASED, 0);
    assert_int_equal(deliveries(call), 3);
    start_to_reject(rig, call, 3, RELEASED, 0);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.parked), 1);
    vanish_with_a_letter(rig, call);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.parked), 0);
    for (int i = 0; i < 3; i++) /* the recalls of both, and RELEASE */
        answer_last(rig);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.released), 3);
    assert_int_equal(rig->world.messages.not_recalled, 0);
    fake_rig_run(rig);
    assert_int_equal(rig->world.messages.subscriptions, 0);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), 1);
    assert_int_equal(fake_unsettled(&rig->world, "t", "g"), 1);
    fake_call_free(call);
    consumer_free(rig);
}

static void expect_refused(struct fake_rig *rig, pb_subscribe_request *subscribe,
                           enum err_code code)
{
    struct call *call = join(rig, subscribe);

    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, code);
    fake_call_free(call);
}

static void test_who_can_have_none(void **state)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    pb_subscribe_request subscribe = subscription();

    (void)state;
    subscribe.ack_tokens = true;
    rig->world.messages.stream.settling.tickets = NULL;
    fake_rig_bind(rig);
    expect_refused(rig, &subscribe, ERR_UNIMPLEMENTED);
    consumer_free(rig);

    rig = consumer_rig(FAKE_STREAM);
    subscribe.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO;
    expect_refused(rig, &subscribe, ERR_INVALID_ARGUMENT);
    subscribe = subscription();
    subscribe.ack_tokens = true;
    subscribe.consumer_group = pb_text("");
    expect_refused(rig, &subscribe, ERR_INVALID_ARGUMENT);
    consumer_free(rig);
}

/* A queue has no group. */
static void test_queues(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_QUEUE);
    struct call *call = leased_member(rig);

    (void)state;
    put(rig, NULL, "1");
    assert_int_equal(settle(rig, call, 0), ERR_OK);
    assert_int_equal(settle(rig, call, 0), ERR_ABORTED);
    assert_int_equal(stat_of(&consumer_in(rig)->stats.unsettled), 0);
    leave(rig, call);
    consumer_free(rig);
}

/* Whoever knows the namespace's name can make tokens: of many groups, they take no more room. */
static void test_tokens_of_many_groups(void **state)
{
    enum { MANY = 10000, GROUPS = 64, MOST_BYTES = 400 };
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    const struct token_scope scope = {.namespace_name = consumer_in(rig)->base.namespace_name,
                                      .backend = consumer_in(rig)->source->type->name};
    ProtobufCBinaryData *tokens = calloc(MANY, sizeof *tokens);
    pb_deliveries deliveries = CONSUMER_PB(DELIVERIES__INIT);
    pb_acknowledge_request request = CONSUMER_PB(ACKNOWLEDGE_REQUEST__INIT);
    const pb_acknowledge_response *response;
    struct arena memory;
    struct call *call;

    (void)state;
    assert_non_null(tokens);
    arena_init(&memory, NULL);
    for (int i = 0; i < MANY; i++) {
        struct slice group = slice_str(arena_printf(&memory, "g%d", i % GROUPS));
        struct slice bytes = token_write(&memory, &scope,
                                         &(struct token){.topic = slice_str("t"),
                                                         .group = group,
                                                         .ticket = slice_str("forged")});

        tokens[i] =
            (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)bytes.data, .len = bytes.len};
    }
    deliveries.ack_tokens = tokens;
    deliveries.n_ack_tokens = MANY;
    request.deliveries = &deliveries;
    call = fake_call(rig, "Acknowledge", &request.base);
    assert_true(call->arena.bytes < (size_t)MANY * MOST_BYTES);
    fake_rig_run(rig);
    response = (const void *)call->reply;
    assert_int_equal(response->n_failures, MANY);
    for (int i = 0; i < MANY; i++)
        assert_memory_equal(response->failures[i]->ack_token.data, tokens[i].data, tokens[i].len);
    fake_call_free(call);
    arena_clear(&memory);
    free(tokens);
    consumer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_holder_is_told),
        cmocka_unit_test(test_the_holder_finds_out),
        cmocka_unit_test(test_late_tokens),
        cmocka_unit_test(test_no_letter_of_what_is_settled),
        cmocka_unit_test(test_a_recall_that_fails),
        cmocka_unit_test(test_the_end_while_recalling),
        cmocka_unit_test(test_the_end_waits_for_a_letter_after_its_recall),
        cmocka_unit_test(test_the_end_recalls_what_waits_here),
        cmocka_unit_test(test_who_can_have_none),
        cmocka_unit_test(test_queues),
        cmocka_unit_test(test_tokens_of_many_groups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
