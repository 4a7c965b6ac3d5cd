/* What GetCapabilities says of filters, for whatever a registry evaluates itself. */
#include "tests/pattern/multicast_registry/multicast.h"

static struct call *asked(uint32_t native, struct fake_rig **rig)
{
    Prism__Patterns__MulticastRegistry__GetCapabilitiesRequest request =
        MULTICAST_PB(GET_CAPABILITIES_REQUEST__INIT);
    struct call *call;

    *rig = unbound();
    (*rig)->world.registry.methods.native = native;
    fake_rig_bind(*rig);
    call = fake_call(*rig, "GetCapabilities", &request.base);
    settle(*rig, call);
    assert_int_equal(call->status.code, ERR_OK);
    return call;
}

static void expect(uint32_t native, unsigned performance)
{
    struct fake_rig *rig;
    struct call *call = asked(native, &rig);
    const pb_multicast_capabilities *caps = (const pb_multicast_capabilities *)call->reply;
    uint32_t told = 0;

    assert_int_equal(caps->filter_performance, performance);
    assert_int_equal(caps->n_filter_operators, FILTER_OP_COUNT - 1);
    for (size_t i = 0; i < caps->n_native_filter_operators; i++)
        told |= FILTER_BIT(caps->native_filter_operators[i]);
    assert_int_equal(told, native);
    assert_int_equal(caps->n_native_filter_operators, __builtin_popcount(native));
    fake_call_free(call);
    free_rig(rig);
}

static void test_who_evaluates_filters(void **state)
{
    (void)state;
    expect(0, MULTICAST_PB(FILTER_PERFORMANCE__FILTER_CLIENT_SIDE));
    expect(FILTER_ALL_OPS, MULTICAST_PB(FILTER_PERFORMANCE__FILTER_NATIVE));
    for (int op = FILTER_OP_NONE + 1; op < FILTER_OP_COUNT; op++) {
        expect(FILTER_BIT(op), MULTICAST_PB(FILTER_PERFORMANCE__FILTER_MIXED));
        expect(FILTER_ALL_OPS & ~FILTER_BIT(op), MULTICAST_PB(FILTER_PERFORMANCE__FILTER_MIXED));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_evaluates_filters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
