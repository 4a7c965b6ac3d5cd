/* What comes for many identities of one stream at once, in one batch: each gets it as if it had
 * come alone. The fake's topics share, as far as the pattern says that its subscriptions do. */
#include "tests/pattern/multicast_registry/multicast.h"

enum { CROWD = 1100, LONG_NAME = 508, ROUNDS = 3 };

static struct fake_rig *sharing(void)
{
    struct fake_rig *rig = bound();

    rig->world.messages.bundles = true;
    return rig;
}

static void take_all(struct fake_rig *rig, struct call *call)
{
    while (fake_call_take(call))
        fake_rig_run(rig);
}

static int64_t dropped(const struct call *call)
{
    int64_t all = 0;

    for (size_t i = 0; i < call->sent_count; i++)
        all += ((const pb_receive_frame *)call->sent[i].message)->dropped_count;
    return all;
}

/* The first letters of what has come for the identity, in order. */
static const char *heard_by(const struct call *call, const char *identity, char text[16])
{
    const pb_multicast_message *got[64];
    size_t n = sent_messages(call, got, ARRAY_LEN(got)), len = 0;

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < got[i]->n_identities; j++) {
            if (strcmp(got[i]->identities[j], identity) == 0 && len < 15)
                text[len++] = (char)got[i]->payload.data[0];
        }
    }
    text[len] = '\0';
    return text;
}

static void test_as_if_alone(void **state)
{
    static const char *const names[] = {"i1", "i2", "i3"};
    struct fake_rig *rig = sharing();
    struct call *call = subscribed(rig, true, ARRAY_LEN(names), names);
    const pb_multicast_message *got[16];
    char text[16];

    (void)state;
    multicast_text(rig, "same", "x"); /* these wait together, but for the first */
    multicast_text(rig, "same", "y");
    multicast_text(rig, "same", "x");
    multicast_text(rig, "another", "z");
    take_all(rig, call);
    assert_int_equal(rig->world.messages.shared, 4 * ARRAY_LEN(names));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_string_equal(heard_by(call, names[i], text), "xyxz");
    assert_int_equal(sent_messages(call, got, ARRAY_LEN(got)), 4);
    assert_int_equal(dropped(call), 0);
    end(rig, call);
}

/* Credit is each identity's own: what has left makes room for as much. */
static void test_credit_comes_back(void **state)
{
    enum { MANY = 100 };
    static const char *const names[] = {"i1", "i2"};
    struct fake_rig *rig = sharing();
    struct call *call = subscribed(rig, false, ARRAY_LEN(names), names);

    (void)state;
    for (int i = 0; i < MANY; i++)
        multicast_text(rig, "", "x");
    assert_int_equal(rig->world.messages.shared, MANY * ARRAY_LEN(names));
    assert_int_equal(call->held_bytes, 0);
    assert_int_equal(dropped(call), 0);
    end(rig, call);
}

/* One of three is detached while two batches wait: it is told what it lost, the others get theirs.
 * With the last one what waits is held no longer. */
static void test_one_is_detached(void **state)
{
    struct fake_rig *rig = sharing();
    struct call *call = fake_call_with(rig, "Attach", NULL, 0, true);
    char text[16];
    uint64_t held;

    (void)state;
    attach(rig, call, "i1", false);
    attach(rig, call, "i2", false);
    attach(rig, call, "i3", false);
    take_all(rig, call);
    multicast_text(rig, "", "a"); /* leaves in a frame that is not taken */
    multicast_text(rig, "", "b");
    multicast_text(rig, "", "c");
    attach(rig, call, "i2", true);
    fake_call_take(call);
    fake_rig_run(rig);
    take_all(rig, call);
    assert_string_equal(heard_by(call, "i1", text), "abc");
    assert_string_equal(heard_by(call, "i2", text), "a");
    assert_string_equal(heard_by(call, "i3", text), "abc");
    assert_int_equal(dropped(call), 2);
    multicast_text(rig, "", "d");
    multicast_text(rig, "", "e");
    held = call->held_bytes;
    assert_true(held > 0);
    attach(rig, call, "i1", true);
    attach(rig, call, "i3", true);
    assert_true(call->held_bytes < held);
    take_all(rig, call);
    assert_int_equal(dropped(call), 4);
    end(rig, call);
}

/* Names that fill a frame: it is cut within a batch, and the rest follows. */
static void test_a_batch_in_several_frames(void **state)
{
    struct fake_rig *rig = unbound();
    pb_receive_request request = MULTICAST_PB(SUBSCRIBE_REQUEST__INIT);
    char **names = calloc(CROWD, sizeof *names);
    unsigned *heard = calloc(CROWD, sizeof *heard);
    size_t frames = 0;
    struct call *call;

    (void)state;
    assert_true(names != NULL && heard != NULL);
    fake_rig_bind(rig);
    rig->world.messages.bundles = true;
    for (unsigned i = 0; i < CROWD; i++) {
        names[i] = malloc(LONG_NAME + 1);
        assert_non_null(names[i]);
        memset(names[i], 'n', LONG_NAME);
        snprintf(names[i], 8, "%04u", i);
        names[i][4] = '-';
        names[i][LONG_NAME] = '\0';
        fake_register(&rig->world, names[i], "{}", 0);
    }
    request.identities = names;
    request.n_identities = CROWD;
    call = fake_call_with(rig, "Subscribe", &request.base, 0, true);
    fake_rig_run(rig);
    for (int i = 0; i < ROUNDS; i++)
        multicast_text(rig, "", "x");
    take_all(rig, call);
    for (size_t i = 0; i < call->sent_count; i++) {
        const pb_receive_frame *frame = (const pb_receive_frame *)call->sent[i].message;

        frames += frame->n_messages > 0;
        for (size_t j = 0; j < frame->n_messages; j++) {
            for (size_t k = 0; k < frame->messages[j]->n_identities; k++)
                heard[strtoul(frame->messages[j]->identities[k], NULL, 10)]++;
        }
    }
    assert_true(frames > ROUNDS);
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(heard[i], ROUNDS);
        free(names[i]);
    }
    free(heard);
    free(names);
    end(rig, call);
}

/* Cancelled while a frame is under way and batches wait; the world finds what is not released. */
static void test_the_end(void **state)
{
    static const char *const names[] = {"i1", "i2", "i3"};
    struct fake_rig *rig = sharing();
    struct call *call = subscribed(rig, true, ARRAY_LEN(names), names);

    (void)state;
    for (int i = 0; i < ROUNDS; i++)
        multicast_text(rig, "", "x");
    assert_true(call->held_bytes > 0);
    end(rig, call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_if_alone),     cmocka_unit_test(test_credit_comes_back),
        cmocka_unit_test(test_one_is_detached), cmocka_unit_test(test_a_batch_in_several_frames),
        cmocka_unit_test(test_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
