/* Acknowledge, on the fake's streams. */
#include "tests/pattern/multicast_registry/keeping.h"

static const char *const one[] = {"i1"};

static struct call *acknowledge(struct fake_rig *rig, const char *subscription, const char *id)
{
    pb_acknowledge_request request = MULTICAST_PB(ACKNOWLEDGE_REQUEST__INIT);
    char *ids[] = {pb_text(id), pb_text("unknown")};
    struct call *call;

    request.subscription_id = pb_text(subscription);
    request.message_ids = ids;
    request.n_message_ids = 2;
    call = fake_call(rig, "Acknowledge", &request.base);
    settle(rig, call);
    return call;
}

static void test_the_rpc_that_confirms(void **state)
{
    struct fake_rig *rig = keeping(FAKE_STREAM);
    struct call *receiver = subscribed(rig, false, 1, one), *call;
    const char *name = ((const pb_receive_frame *)receiver->sent[0].message)->subscription_id;
    const pb_acknowledge_response *answer;

    (void)state;
    multicast_text(rig, "m1", "a");
    assert_int_equal(waiting(rig), 1);
    call = acknowledge(rig, name, "m1");
    answer = (const pb_acknowledge_response *)call->reply;
    assert_int_equal(answer->acknowledged_count, 1);
    assert_int_equal(answer->n_failed_ids, 1);
    assert_string_equal(answer->failed_ids[0], "unknown");
    fake_call_free(call);
    fake_rig_run(rig);
    assert_int_equal(waiting(rig), 0);
    call = acknowledge(rig, "00000000000000000000000000000000", "m1");
    assert_int_equal(call->status.code, ERR_NOT_FOUND);
    fake_call_free(call);
    call = acknowledge(rig, "nonsense", "m1");
    assert_int_equal(call->status.code, ERR_NOT_FOUND);
    fake_call_free(call);
    end(rig, receiver);
}

static void test_too_many_are_named(void **state)
{
    struct fake_rig *rig = keeping(FAKE_STREAM);
    pb_acknowledge_request request = MULTICAST_PB(ACKNOWLEDGE_REQUEST__INIT);
    char *names[REGISTRY_BATCH + 1];
    struct call *call;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        names[i] = pb_text("m1");
    for (int identities = 0; identities < 2; identities++) {
        request.message_ids = request.identities = names;
        request.n_message_ids = identities ? 1 : ARRAY_LEN(names);
        request.n_identities = identities ? ARRAY_LEN(names) : 0;
        call = fake_call(rig, "Acknowledge", &request.base);
        settle(rig, call);
        assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
        assert_string_equal(call->status.subject, identities ? "identities" : "message_ids");
        fake_call_free(call);
    }
    free_rig(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_rpc_that_confirms),
        cmocka_unit_test(test_too_many_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
