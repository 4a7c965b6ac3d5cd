/* Identities that a stream registers for as long as they are attached. */
#include "tests/pattern/multicast_registry/multicast.h"

enum { GRACE_S = 30, MS = 1000, MANY = 4 * REGISTRY_BATCH, NAME = 16 };

static struct call *all_present(struct fake_rig *rig, char **names, size_t n)
{
    Prism__Patterns__MulticastRegistry__AttachRegistration registration =
        MULTICAST_PB(ATTACH_REGISTRATION__INIT);
    pb_duration grace = GOOGLE__PROTOBUF__DURATION__INIT;
    pb_attach_identities in = MULTICAST_PB(ATTACH_IDENTITIES__INIT);
    pb_attach_request request = MULTICAST_PB(ATTACH_REQUEST__INIT);
    struct call *call = fake_call(rig, "Attach", NULL);

    grace.seconds = GRACE_S;
    registration.grace = &grace;
    in.registration = &registration;
    in.identities = names;
    in.n_identities = n;
    request.action_case = MULTICAST_PB(ATTACH_REQUEST__ACTION_ATTACH);
    request.attach = &in;
    fake_call_push(call, &request.base);
    fake_rig_run(rig);
    return call;
}

static struct call *present(struct fake_rig *rig, const char *name)
{
    char *names[] = {pb_text(name)};

    return all_present(rig, names, 1);
}

static void pass(struct fake_rig *rig, int seconds)
{
    for (int i = 0; i < seconds; i++) {
        fake_rig_advance(rig, MS);
        fake_rig_run(rig);
    }
}

/* The one that the stream was told. */
static const pb_receive_failure *failure_of(const struct call *call)
{
    const pb_receive_failure *failure = NULL;

    for (size_t i = 0; i < call->sent_count; i++) {
        const pb_receive_frame *frame = (const pb_receive_frame *)call->sent[i].message;

        for (size_t j = 0; j < frame->n_failures; j++) {
            assert_null(failure);
            failure = frame->failures[j];
        }
    }
    assert_non_null(failure);
    return failure;
}

/* It lives as long as the stream does, and its grace beyond. */
static void test_registered_while_attached(void **state)
{
    struct fake_rig *rig = unbound();
    struct call *call;

    (void)state;
    fake_rig_bind(rig);
    call = present(rig, "phone");
    assert_non_null(fake_registered(&rig->world, "phone"));
    pass(rig, 4 * GRACE_S);
    assert_non_null(fake_registered(&rig->world, "phone"));
    attach(rig, call, "phone", true);
    pass(rig, GRACE_S - 1);
    assert_non_null(fake_registered(&rig->world, "phone"));
    pass(rig, GRACE_S / 3 + 3);
    assert_null(fake_registered(&rig->world, "phone"));
    end(rig, call);
}

/* Heartbeats go in batches, and none passes over anybody. */
static void test_many_are_registered_while_attached(void **state)
{
    static char texts[MANY][NAME], *names[MANY];
    struct fake_rig *rig = unbound();
    struct call *call;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        snprintf(texts[i], NAME, "phone-%d", i);
        names[i] = texts[i];
    }
    fake_rig_bind(rig);
    call = all_present(rig, names, MANY);
    pass(rig, 2 * GRACE_S);
    for (int i = 0; i < MANY; i++)
        assert_non_null(fake_registered(&rig->world, names[i]));
    end(rig, call);
}

/* M2: the new stream's registration is left alone by the old one, which is told. */
static void test_who_comes_later_has_it(void **state)
{
    struct fake_rig *rig = unbound();
    struct call *old, *new;

    (void)state;
    fake_rig_bind(rig);
    old = present(rig, "phone");
    new = present(rig, "phone");
    pass(rig, GRACE_S);
    assert_int_equal(failure_of(old)->code, ERR_ABORTED);
    assert_string_equal(failure_of(old)->identity, "phone");
    fake_call_cancel(old);
    settle(rig, old);
    fake_rig_run(rig);
    fake_call_free(old);
    pass(rig, 4 * GRACE_S);
    assert_non_null(fake_registered(&rig->world, "phone"));
    end(rig, new);
}

static void test_who_is_taken_out_is_told(void **state)
{
    Prism__Patterns__MulticastRegistry__UnregisterRequest request =
        MULTICAST_PB(UNREGISTER_REQUEST__INIT);
    struct fake_rig *rig = unbound();
    struct call *call, *out;

    (void)state;
    fake_rig_bind(rig);
    call = present(rig, "phone");
    request.identity = pb_text("phone");
    out = fake_call(rig, "Unregister", &request.base);
    settle(rig, out);
    fake_call_free(out);
    pass(rig, GRACE_S);
    assert_int_equal(failure_of(call)->code, ERR_NOT_FOUND);
    end(rig, call);
}

static void test_the_registry_fails(void **state)
{
    (void)state;
    for (int at = 1; at <= 3; at++) {
        struct fake_rig *rig = unbound();
        struct call *call;

        fake_rig_bind(rig);
        rig->world.fail_at = (uint64_t)at;
        rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
        call = present(rig, "phone");
        pass(rig, 4 * GRACE_S);
        if (at == 1)
            assert_int_equal(failure_of(call)->code, ERR_UNAVAILABLE);
        else
            assert_non_null(fake_registered(&rig->world, "phone"));
        end(rig, call);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registered_while_attached),
        cmocka_unit_test(test_many_are_registered_while_attached),
        cmocka_unit_test(test_who_comes_later_has_it),
        cmocka_unit_test(test_who_is_taken_out_is_told),
        cmocka_unit_test(test_the_registry_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
