/* What comes for many identities of one stream at once, in one batch: each gets it as if it had
 * come alone. The fake's topics share, as far as the pattern says that its subscriptions do. */
#include "patterns/multicast_registry/receiver.h"
#include "tests/fake/fake_log.h"
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

/* ---- names that fill a frame: it is cut within a batch ---- */

static struct fake_rig *sharing_long_names(char *names[CROWD])
{
    struct fake_rig *rig = unbound();

    fake_rig_bind(rig);
    rig->world.messages.bundles = true;
    for (unsigned i = 0; i < CROWD; i++) {
        names[i] = test_malloc(LONG_NAME + 1);
        memset(names[i], 'n', LONG_NAME);
        snprintf(names[i], 8, "%04u", i);
        names[i][4] = '-';
        names[i][LONG_NAME] = '\0';
        fake_register(&rig->world, names[i], "{}", 0);
    }
    return rig;
}

static void free_names(char *names[CROWD])
{
    for (unsigned i = 0; i < CROWD; i++)
        test_free(names[i]);
}

/* How often each has heard something. */
static size_t count_heard(const struct call *call, unsigned heard[CROWD])
{
    size_t frames = 0;

    memset(heard, 0, CROWD * sizeof *heard);
    for (size_t i = 0; i < call->sent_count; i++) {
        const pb_receive_frame *frame = (const pb_receive_frame *)call->sent[i].message;

        frames += frame->n_messages > 0;
        for (size_t j = 0; j < frame->n_messages; j++) {
            for (size_t k = 0; k < frame->messages[j]->n_identities; k++)
                heard[strtoul(frame->messages[j]->identities[k], NULL, 10)]++;
        }
    }
    return frames;
}

static void expect_all_credit(const struct fake_rig *rig)
{
    const struct fake_subscription *s = rig->world.messages.open;

    assert_non_null(s);
    for (; s != NULL; s = s->next)
        assert_int_equal(s->subscription->credit_messages, ATTACHMENT_MESSAGES);
}

/* Those who have had their message wait for the rest of the batch, to have credit for another:
 * they get it also when the rest is detached. A place that was left is nobody else's. */
static void test_the_rest_of_a_batch_is_detached(void **state)
{
    static char *names[CROWD];
    static unsigned heard[CROWD];
    struct fake_rig *rig = sharing_long_names(names);
    struct call *call = fake_call_with(rig, "Attach", NULL, 0, true);
    unsigned detached = 0, first = 0;

    (void)state;
    for (unsigned i = 0; i < CROWD - 1; i++)
        attach(rig, call, names[i], false);
    take_all(rig, call);
    multicast_text(rig, "", "x");
    multicast_text(rig, "", "y");
    fake_call_take(call);
    fake_rig_run(rig); /* the next frame ends within what came with "y" */
    count_heard(call, heard);
    while (first < CROWD && heard[first] < 2)
        first++;
    assert_true(first < CROWD);
    attach(rig, call, names[first], true);
    attach(rig, call, names[CROWD - 1], false); /* in its place */
    for (unsigned i = 0; i < CROWD - 1; i++) {
        if (heard[i] > 1)
            continue;
        detached++;
        attach(rig, call, names[i], true);
    }
    assert_in_range(detached, 1, CROWD - 3);
    take_all(rig, call);
    assert_int_equal(dropped(call), detached);
    expect_all_credit(rig);
    free_names(names);
    end(rig, call);
}

/* The rest of it follows. */
static void test_a_batch_in_several_frames(void **state)
{
    static char *names[CROWD];
    static unsigned heard[CROWD];
    struct fake_rig *rig = sharing_long_names(names);
    pb_receive_request request = MULTICAST_PB(SUBSCRIBE_REQUEST__INIT);
    struct call *call;

    (void)state;
    request.identities = names;
    request.n_identities = CROWD;
    call = fake_call_with(rig, "Subscribe", &request.base, 0, true);
    fake_rig_run(rig);
    for (int i = 0; i < ROUNDS; i++)
        multicast_text(rig, "", "x");
    take_all(rig, call);
    assert_true(count_heard(call, heard) > ROUNDS);
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(heard[i], ROUNDS);
    free_names(names);
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
        cmocka_unit_test(test_as_if_alone),
        cmocka_unit_test(test_credit_comes_back),
        cmocka_unit_test(test_one_is_detached),
        cmocka_unit_test(test_a_batch_in_several_frames),
        cmocka_unit_test(test_the_rest_of_a_batch_is_detached),
        cmocka_unit_test(test_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
