/* Messages that are kept until receivers confirm them, on the fake's queues and streams. */
#include "tests/pattern/multicast_registry/keeping.h"

#include <time.h>

static const unsigned kinds[] = {FAKE_STREAM, FAKE_QUEUE};

static void confirm_these(struct fake_rig *rig, struct call *call, int64_t through,
                          int64_t *sequences, size_t n)
{
    pb_acknowledge_messages which = MULTICAST_PB(ACKNOWLEDGE_MESSAGES__INIT);
    pb_attach_request request = MULTICAST_PB(ATTACH_REQUEST__INIT);

    which.through = through;
    which.sequences = sequences;
    which.n_sequences = n;
    request.action_case = MULTICAST_PB(ATTACH_REQUEST__ACTION_ACKNOWLEDGE);
    request.acknowledge = &which;
    fake_call_push(call, &request.base);
    fake_rig_run(rig);
}

static void confirm(struct fake_rig *rig, struct call *call, int64_t through, int64_t one_more)
{
    confirm_these(rig, call, through, &one_more, one_more > 0);
}

/* Nobody is there: PENDING. Then they come in order, and those that are not confirmed come again.
 */
static void test_messages_wait_and_come_again(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = keeping(kinds[k]);
        pb_multicast_request request = to_all();
        struct call *call = fake_call(rig, "Multicast", &request.base);
        char seen[40];

        settle(rig, call);
        assert_int_equal(answer_of(call)->pending_count, 2);
        assert_int_equal(answer_of(call)->results[0]->status,
                         MULTICAST_PB(DELIVERY_STATUS__PENDING));
        assert_true(answer_of(call)->success);
        fake_call_free(call);
        for (const char *text = "abcd"; *text != '\0'; text++)
            multicast_text(rig, "", (char[]){*text, '\0'});
        call = attached_with(rig, 0);
        texts_of(call, seen);
        assert_string_equal(seen, "xabcd");
        confirm(rig, call, 2, 4);
        leave(rig, call);
        call = attached_with(rig, 0);
        texts_of(call, seen);
        assert_string_equal(seen, "bd");
        confirm(rig, call, 2, 0);
        leave(rig, call);
        call = attached_with(rig, 0);
        texts_of(call, seen);
        assert_string_equal(seen, "");
        assert_int_equal(waiting(rig), 0);
        end(rig, call);
    }
}

static void test_confirmed_in_any_order(void **state)
{
    int64_t sequences[] = {4, 99, 2, 2, -1}, *many = calloc(100001, sizeof *many);
    struct fake_rig *rig = keeping(FAKE_STREAM);
    struct call *call;
    char seen[40];

    (void)state;
    for (const char *text = "abcde"; *text != '\0'; text++)
        multicast_text(rig, "", (char[]){*text, '\0'});
    call = attached_with(rig, 0);
    confirm_these(rig, call, 0, sequences, ARRAY_LEN(sequences));
    leave(rig, call);
    call = attached_with(rig, 0);
    texts_of(call, seen);
    assert_string_equal(seen, "ace");
    assert_int_equal(waiting(rig), 3);
    confirm_these(rig, call, 0, many, 100001); /* more than may be named */
    settle(rig, call);
    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(call->status.subject, "acknowledge.sequences");
    end(rig, call);
    free(many);
}

/* The first frame says that the receiver stands, and no more, even if messages were there before.
 */
static void test_the_first_frame_is_empty(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = keeping(kinds[k]);
        struct call *call;

        multicast_text(rig, "", "a");
        call = attached_with(rig, 0);
        assert_int_equal(((const pb_receive_frame *)call->sent[0].message)->n_messages, 0);
        assert_int_equal(((const pb_receive_frame *)call->sent[1].message)->n_messages, 1);
        end(rig, call);
    }
}

/* No more are sent than may be unconfirmed; each confirmation makes room. */
static void test_the_window(void **state)
{
    struct fake_rig *rig = keeping(FAKE_STREAM);
    struct call *call = attached_with(rig, 2);
    char seen[40];

    (void)state;
    for (const char *text = "abcde"; *text != '\0'; text++)
        multicast_text(rig, "", (char[]){*text, '\0'});
    texts_of(call, seen);
    assert_string_equal(seen, "ab");
    confirm(rig, call, 0, 1);
    texts_of(call, seen);
    assert_string_equal(seen, "abc");
    confirm(rig, call, 3, 0);
    texts_of(call, seen);
    assert_string_equal(seen, "abcde");
    confirm(rig, call, 99, 99);
    assert_int_equal(waiting(rig), 0);
    end(rig, call);
}

/* More than the credit of an identity pass, if they are confirmed. */
static void test_credit_comes_back(void **state)
{
    enum { MANY = 200 };

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = keeping(kinds[k]);
        struct call *call = attached_with(rig, 0);
        int64_t last = 0;

        for (int i = 0; i < MANY; i++)
            multicast_text(rig, "", "m");
        for (int i = 0; i < MANY && last < MANY; i++) {
            const pb_multicast_message *got[MANY];
            size_t n = sent_messages(call, got, MANY);

            last = got[n - 1]->sequence;
            confirm(rig, call, last, 0);
        }
        assert_int_equal(last, MANY);
        end(rig, call);
    }
}

/* By itself a message is confirmed when the transport has it, not before. */
static void test_automatic_confirmation(void **state)
{
    struct fake_rig *rig = keeping(FAKE_STREAM);
    pb_receive_request request = MULTICAST_PB(SUBSCRIBE_REQUEST__INIT);
    struct call *call;

    (void)state;
    request.identity = pb_text("i1");
    request.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO;
    call = fake_call_with(rig, "Subscribe", &request.base, 0, true);
    fake_rig_run(rig);
    fake_call_take(call);
    fake_rig_run(rig);
    multicast_text(rig, "", "a");
    assert_int_equal(waiting(rig), 1);
    while (fake_call_take(call))
        fake_rig_run(rig);
    fake_rig_run(rig);
    assert_int_equal(waiting(rig), 0);
    end(rig, call);
}

static void multicast_with(struct fake_rig *rig, const char *text, int64_t expires_ms,
                           const char *collapse_key)
{
    pb_multicast_request request = to_all();
    struct call *call;

    request.payload = (ProtobufCBinaryData){.len = 1, .data = (uint8_t *)(uintptr_t)text};
    if (expires_ms > 0) {
        request._expires_after_ms_case =
            MULTICAST_PB(MULTICAST_REQUEST___EXPIRES_AFTER_MS_EXPIRES_AFTER_MS);
        request.expires_after_ms = expires_ms;
    }
    request.collapse_key = pb_text(collapse_key);
    call = fake_call(rig, "Multicast", &request.base);
    settle(rig, call);
    assert_int_equal(answer_of(call)->pending_count, 2);
    fake_call_free(call);
}

static void pass_some_milliseconds(void)
{
    struct timespec from, now;

    clock_gettime(CLOCK_REALTIME, &from);
    do
        clock_gettime(CLOCK_REALTIME, &now);
    while ((now.tv_sec - from.tv_sec) * 1000 + (now.tv_nsec - from.tv_nsec) / 1000000 < 3);
}

static void test_what_is_not_worth_receiving(void **state)
{
    struct fake_rig *rig = keeping(FAKE_STREAM);
    struct call *call;
    char seen[40];

    (void)state;
    multicast_with(rig, "a", 1, "");
    multicast_with(rig, "b", 1000000, "");
    multicast_with(rig, "c", 0, "k");
    multicast_with(rig, "d", 0, "other");
    multicast_with(rig, "e", 0, "k");
    pass_some_milliseconds();
    call = attached_with(rig, 0);
    texts_of(call, seen);
    assert_string_equal(seen, "bde");
    assert_int_equal(waiting(rig), 3);
    end(rig, call);
}

/* M7: a message that no receiver can confirm does not stay in front for ever; what is behind it,
 * and is not confirmed either, has used up nothing. */
static void test_given_up_after_so_many_deliveries(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct fake_rig *rig = keeping(kinds[k]);
        struct call *call;
        char seen[40];

        multicast_text(rig, "", "a");
        multicast_text(rig, "", "b");
        for (int i = 0; i < 3; i++) {
            call = attached_with(rig, 0);
            texts_of(call, seen);
            assert_string_equal(seen, "ab");
            leave(rig, call);
        }
        for (int i = 0; i < 3; i++) {
            call = attached_with(rig, 0);
            texts_of(call, seen);
            assert_string_equal(seen, "b");
            leave(rig, call);
        }
        call = attached_with(rig, 0);
        texts_of(call, seen);
        assert_string_equal(seen, "");
        assert_int_equal(waiting(rig), 0);
        end(rig, call);
    }
}

/* M6: a queue that is full refuses what is new, once, and keeps the rest; others get theirs. */
static void test_m6_a_full_queue(void **state)
{
    struct fake_rig *rig = keeping(FAKE_QUEUE);
    char *names[] = {pb_text("i1")};
    pb_multicast_request request = to_all();
    uint64_t before = rig->world.items_sent;
    struct call *call;
    char seen[40];

    (void)state;
    rig->world.messages.bounds.messages = 2;
    for (int i = 0; i < 3; i++) {
        request.identities = names;
        request.n_identities = i < 2; /* the third one goes to i2 as well */
        call = fake_call(rig, "Multicast", &request.base);
        settle(rig, call);
        assert_int_equal(answer_of(call)->failed_count, i == 2);
        if (i < 2)
            fake_call_free(call);
    }
    assert_int_equal(answer_of(call)->pending_count, 1);
    assert_false(answer_of(call)->success);
    for (size_t i = 0; i < 2; i++) {
        const pb_delivery_result *result = answer_of(call)->results[i];
        bool full = strcmp(result->identity, "i1") == 0;

        assert_int_equal(result->status, full ? MULTICAST_PB(DELIVERY_STATUS__FAILED)
                                              : MULTICAST_PB(DELIVERY_STATUS__PENDING));
        assert_int_equal(result->code, full ? ERR_RESOURCE_EXHAUSTED : ERR_OK);
    }
    fake_call_free(call);
    assert_int_equal(rig->world.items_sent - before, 4);
    call = attached_with(rig, 0);
    texts_of(call, seen);
    assert_string_equal(seen, "xx");
    end(rig, call);
}

/* To those who listen at the moment, past the queues. */
static void test_at_most_once_is_not_kept(void **state)
{
    struct fake_rig *rig = keeping(FAKE_STREAM);
    struct call *receiver = attached_with(rig, 0), *call;
    pb_multicast_request request = to_all();
    char seen[40];

    (void)state;
    request.delivery = PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_MOST_ONCE;
    call = fake_call(rig, "Multicast", &request.base);
    settle(rig, call);
    assert_int_equal(answer_of(call)->pending_count, 0);
    assert_int_equal(answer_of(call)->target_count, 2);
    fake_call_free(call);
    fake_rig_run(rig);
    texts_of(receiver, seen);
    assert_string_equal(seen, "x");
    assert_int_equal(waiting(rig), 0);
    end(rig, receiver);
}

/* Whatever fails: each call ends once, and what is not confirmed is still there. */
static void test_every_operation_fails_in_turn(void **state)
{
    (void)state;
    for (uint64_t at = 1; at <= LAST_OPERATION; at++) {
        for (int variant = 0; variant < 8; variant++) {
            struct fake_rig *rig = keeping(kinds[variant & 1]);
            struct call *receiver, *call;

            rig->world.mode = variant & 2 ? FAKE_PARKED : FAKE_AT_ONCE;
            rig->world.order = FAKE_SHUFFLED;
            rig->world.fail_with = err_make(ERR_UNAVAILABLE, "told to fail");
            if (variant & 4)
                rig->world.messages.faults.lose_at = at;
            else
                rig->world.fail_at = at;
            receiver = attached_with(rig, 0);
            for (int i = 0; i < 3; i++) {
                call = start(rig, false);
                settle(rig, call);
                fake_call_free(call);
                fake_rig_run(rig);
                confirm(rig, receiver, i + 1, 0);
            }
            end(rig, receiver);
        }
    }
}

static void test_the_end_while_confirming(void **state)
{
    (void)state;
    for (int drained = 0; drained < 2; drained++) {
        struct fake_rig *rig = keeping(FAKE_QUEUE);
        struct call *receiver = attached_with(rig, 0);

        multicast_text(rig, "", "a");
        multicast_text(rig, "", "b");
        rig->world.mode = FAKE_PARKED;
        confirm(rig, receiver, 1, 0);
        if (drained) {
            fake_call_drain(receiver);
            fake_rig_run(rig);
            assert_int_equal(receiver->ends, 0); /* "b" may still be confirmed */
            confirm(rig, receiver, 2, 0);
        } else {
            fake_call_cancel(receiver);
        }
        settle(rig, receiver);
        fake_rig_run(rig);
        fake_call_free(receiver);
        free_rig(rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_wait_and_come_again),
        cmocka_unit_test(test_confirmed_in_any_order),
        cmocka_unit_test(test_the_first_frame_is_empty),
        cmocka_unit_test(test_the_window),
        cmocka_unit_test(test_credit_comes_back),
        cmocka_unit_test(test_automatic_confirmation),
        cmocka_unit_test(test_what_is_not_worth_receiving),
        cmocka_unit_test(test_given_up_after_so_many_deliveries),
        cmocka_unit_test(test_m6_a_full_queue),
        cmocka_unit_test(test_at_most_once_is_not_kept),
        cmocka_unit_test(test_every_operation_fails_in_turn),
        cmocka_unit_test(test_the_end_while_confirming),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
