/* Multicasts on a fake whose operations fail, are lost, wait, and are cancelled, in virtual time.
 */
#include "patterns/messages.h"
#include "patterns/multicast_registry/messages.h"
#include "patterns/multicast_registry/multicast_registry.h"
#include "src/base/container.h"
#include "tests/fake/fake_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MASK = FAKE_REGISTRY | FAKE_TOPIC, BOTH_SLOTS = 3, TARGETS = 10, LAST_OPERATION = 12 };

static struct fake_rig *unbound(void)
{
    struct fake_rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    fake_rig_init(rig, &pattern_multicast_registry, MASK);
    rig->slots = BOTH_SLOTS;
    return rig;
}

static void enter(struct fake_rig *rig)
{
    for (int i = 0; i < TARGETS; i++) {
        char name[8];

        snprintf(name, sizeof name, "i%d", i);
        fake_register(&rig->world, name, "{\"a\": 1}", 0);
    }
}

static struct fake_rig *bound(void)
{
    struct fake_rig *rig = unbound();

    fake_rig_bind(rig);
    enter(rig);
    return rig;
}

static void free_rig(struct fake_rig *rig)
{
    fake_rig_clear(rig);
    free(rig);
}

static pb_multicast_request to_all(void)
{
    pb_multicast_request request = MULTICAST_PB(MULTICAST_REQUEST__INIT);

    request.payload = (ProtobufCBinaryData){.len = 1, .data = (uint8_t *)(uintptr_t) "x"};
    return request;
}

static void settle(struct fake_rig *rig, const struct call *call)
{
    for (int i = 0; i < 1000 && call->ends == 0; i++) {
        fake_rig_run(rig);
        fake_rig_advance(rig, 50);
    }
    assert_int_equal(call->ends, 1);
}

static const pb_multicast_response *answer_of(const struct call *call)
{
    assert_int_equal(call->status.code, ERR_OK);
    return (const pb_multicast_response *)call->reply;
}

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

static struct call *start(struct fake_rig *rig, bool streams)
{
    pb_multicast_request request = to_all();

    return fake_call(rig, streams ? "MulticastStream" : "Multicast", &request.base);
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

/* Messages to several identities of one stream share a payload; what was taken in goes back. */
static void test_a_receiver_in_every_state(void **state)
{
    pb_receive_request request = MULTICAST_PB(SUBSCRIBE_REQUEST__INIT);
    char *names[] = {pb_text("i1"), pb_text("i2"), pb_text("i2")};

    (void)state;
    request.identities = names;
    request.n_identities = ARRAY_LEN(names);
    for (int slow = 0; slow < 2; slow++) {
        for (int drained = 0; drained < 2; drained++) {
            struct fake_rig *rig = bound();
            struct call *call = fake_call_with(rig, "Subscribe", &request.base, 0, slow != 0);

            for (int i = 0; i < 3; i++) {
                struct call *sent = start(rig, false);

                settle(rig, sent);
                fake_call_free(sent);
                fake_rig_run(rig);
            }
            if (!slow) {
                assert_true(call->sent_count >= 1);
                assert_int_equal(((const pb_receive_frame *)call->sent[0].message)->attached_count,
                                 2);
            }
            if (drained) {
                fake_call_drain(call);
                fake_rig_run(rig);
                while (fake_call_take(call))
                    fake_rig_run(rig);
            } else {
                fake_call_cancel(call);
            }
            settle(rig, call);
            fake_call_free(call);
            free_rig(rig);
        }
    }
}

static void test_a_receiver_whose_topic_is_refused(void **state)
{
    struct fake_rig *rig = bound();
    pb_receive_request request = MULTICAST_PB(SUBSCRIBE_REQUEST__INIT);
    struct call *call;

    (void)state;
    rig->world.messages.faults.open_error = err_make(ERR_PERMISSION_DENIED, "not yours");
    request.identity = pb_text("i1");
    call = fake_call(rig, "Subscribe", &request.base);
    settle(rig, call);
    assert_int_equal(call->status.code, ERR_PERMISSION_DENIED);
    fake_call_free(call);
    free_rig(rig);
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

static void attach(struct fake_rig *rig, struct call *call, const char *name, bool leave)
{
    pb_attach_identities in = MULTICAST_PB(ATTACH_IDENTITIES__INIT);
    pb_detach_identities out = MULTICAST_PB(DETACH_IDENTITIES__INIT);
    pb_attach_request request = MULTICAST_PB(ATTACH_REQUEST__INIT);
    char *names[] = {pb_text(name)};

    in.identities = out.identities = names;
    in.n_identities = out.n_identities = 1;
    if (leave) {
        request.action_case = MULTICAST_PB(ATTACH_REQUEST__ACTION_DETACH);
        request.detach = &out;
    } else {
        request.action_case = MULTICAST_PB(ATTACH_REQUEST__ACTION_ATTACH);
        request.attach = &in;
    }
    fake_call_push(call, &request.base);
    fake_rig_run(rig);
}

static int32_t attached(const struct call *call)
{
    return ((const pb_receive_frame *)call->sent[call->sent_count - 1].message)->attached_count;
}

/* The topic is still being closed when the identity is attached again: the last word holds. */
static void test_attached_again_while_it_leaves(void **state)
{
    (void)state;
    for (int words = 1; words <= 3; words++) {
        struct fake_rig *rig = bound();
        struct call *call = fake_call(rig, "Attach", NULL);

        attach(rig, call, "i1", false);
        assert_int_equal(attached(call), 1);
        rig->world.messages.faults.holds_closes = true;
        for (int i = 1; i <= words; i++)
            attach(rig, call, "i1", i % 2 == 1);
        rig->world.messages.faults.holds_closes = false;
        fake_messages_look(&rig->world);
        fake_rig_run(rig);
        assert_int_equal(rig->world.messages.subscriptions, words % 2 == 0);
        assert_int_equal(attached(call), words % 2 == 0);
        fake_call_cancel(call);
        settle(rig, call);
        fake_rig_run(rig);
        fake_call_free(call);
        free_rig(rig);
    }
}

/* The stream ends while its next message is waited for. */
static void test_attach_ends_before_its_client(void **state)
{
    (void)state;
    for (int slow = 0; slow < 2; slow++) {
        for (int drained = 0; drained < 2; drained++) {
            struct fake_rig *rig = bound();
            struct call *call = fake_call_with(rig, "Attach", NULL, 0, slow != 0);

            attach(rig, call, "i1", false);
            if (drained)
                fake_call_drain(call);
            else
                fake_call_cancel(call);
            fake_rig_run(rig);
            while (fake_call_take(call))
                fake_rig_run(rig);
            settle(rig, call);
            fake_rig_run(rig);
            fake_call_free(call);
            free_rig(rig);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_fails_alone),
        cmocka_unit_test(test_what_is_tried_again),
        cmocka_unit_test(test_the_walk_fails),
        cmocka_unit_test(test_time_is_up),
        cmocka_unit_test(test_every_operation_fails_in_turn),
        cmocka_unit_test(test_cancelled_at_every_step),
        cmocka_unit_test(test_a_receiver_in_every_state),
        cmocka_unit_test(test_a_receiver_whose_topic_is_refused),
        cmocka_unit_test(test_attempts_end_in_time),
        cmocka_unit_test(test_attached_again_while_it_leaves),
        cmocka_unit_test(test_attach_ends_before_its_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
