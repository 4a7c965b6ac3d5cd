/* Receivers on the fake: what is attached, frames, what is lost, and every way to the end. */
#include "tests/pattern/multicast_registry/multicast.h"

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

/* The client is gone, and its topics are closed, before the send under way is given up. */
static void test_a_send_outlasts_the_topics(void **state)
{
    static const char *const names[] = {"i1", "i2"};

    (void)state;
    for (int one_topic = 0; one_topic < 2; one_topic++) {
        struct fake_rig *rig = unbound();
        struct call *call;

        rig->world.messages.topic.sink.many_topics = !one_topic;
        fake_rig_bind(rig);
        call = subscribed(rig, true, 2, names);
        call->late_sends = true;
        fake_call_cancel(call);
        fake_rig_run(rig);
        assert_int_equal(rig->world.messages.subscriptions, 0);
        assert_int_equal(call->ends, 0);
        fake_call_lose(call);
        settle(rig, call);
        assert_int_equal(call->status.code, ERR_CANCELLED);
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

/* Two messages with one identifier and one payload are two, also in one frame, and each identity
 * gets its messages in their order. */
/* Its memory goes before the reason is told. */
static void test_a_message_that_cannot_be_read_is_the_reason(void **state)
{
    static const uint8_t no_text[] = {0x0a, 0x03, 0x0a, 0x01, 0xff};
    struct fake_rig *rig = bound();
    struct call *call = fake_call(rig, "Attach", NULL);

    (void)state;
    attach(rig, call, "i1", false);
    fake_call_push_bytes(call, no_text, sizeof no_text);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(call->status.text, "UTF-8"));
    fake_call_free(call);
    free_rig(rig);
}

static void test_equal_messages_stay_two(void **state)
{
    static const char *const names[] = {"i1", "i2"};
    static const char *const texts[] = {"x", "y", "x"};
    const pb_multicast_message *got[16];
    struct fake_rig *rig = bound();
    struct call *call = subscribed(rig, true, 2, names);
    char seen[2][8] = {"", ""};
    size_t n;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        multicast_text(rig, "same", texts[i]);
    while (fake_call_take(call))
        fake_rig_run(rig);
    n = sent_messages(call, got, ARRAY_LEN(got));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < got[i]->n_identities; j++) {
            char *to = seen[got[i]->identities[j][1] - '1'];

            size_t len = strlen(to);

            assert_true(got[i]->payload.len == 1 && len + 1 < sizeof seen[0]);
            to[len] = (char)got[i]->payload.data[0];
            for (size_t k = 0; k < j; k++)
                assert_string_not_equal(got[i]->identities[k], got[i]->identities[j]);
        }
    }
    assert_string_equal(seen[0], "xyx");
    assert_string_equal(seen[1], "xyx");
    assert_true(n < 6); /* and yet they share */
    end(rig, call);
}

/* What waits for an identity that is detached is told as lost, and is held no longer. */
static void test_what_a_detached_identity_had_is_counted(void **state)
{
    struct fake_rig *rig = bound();
    struct call *call = fake_call_with(rig, "Attach", NULL, 0, true);
    int64_t dropped = 0;
    uint64_t held;

    (void)state;
    attach(rig, call, "i1", false);
    while (fake_call_take(call))
        fake_rig_run(rig);
    multicast_text(rig, "", "first"); /* leaves in a frame that is not taken */
    multicast_text(rig, "", "second");
    multicast_text(rig, "", "third");
    held = call->held_bytes;
    assert_true(held > 0);
    attach(rig, call, "i1", true);
    fake_rig_run(rig);
    assert_true(call->held_bytes < held);
    while (fake_call_take(call))
        fake_rig_run(rig);
    for (size_t i = 0; i < call->sent_count; i++)
        dropped += ((const pb_receive_frame *)call->sent[i].message)->dropped_count;
    assert_int_equal(dropped, 2);
    end(rig, call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_receiver_in_every_state),
        cmocka_unit_test(test_a_receiver_whose_topic_is_refused),
        cmocka_unit_test(test_attached_again_while_it_leaves),
        cmocka_unit_test(test_a_send_outlasts_the_topics),
        cmocka_unit_test(test_attach_ends_before_its_client),
        cmocka_unit_test(test_a_message_that_cannot_be_read_is_the_reason),
        cmocka_unit_test(test_equal_messages_stay_two),
        cmocka_unit_test(test_what_a_detached_identity_had_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
