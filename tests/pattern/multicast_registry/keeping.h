/* Receivers of messages that are kept. */
#ifndef PRISM_TESTS_PATTERN_MULTICAST_REGISTRY_KEEPING_H
#define PRISM_TESTS_PATTERN_MULTICAST_REGISTRY_KEEPING_H

#include "tests/pattern/multicast_registry/multicast.h"

static inline struct fake_rig *keeping_in(unsigned kind, unsigned slots)
{
    struct fake_rig *rig = unbound_with(MASK | kind, slots);

    fake_rig_set(rig, "max_deliveries", 3);
    fake_rig_bind(rig);
    fake_register(&rig->world, "i1", "{\"a\": 1}", 0);
    fake_register(&rig->world, "i2", "{\"a\": 1}", 0);
    return rig;
}

static inline struct fake_rig *keeping(unsigned kind)
{
    return keeping_in(kind, ALL_SLOTS);
}

static inline size_t waiting(struct fake_rig *rig)
{
    return fake_unsettled(&rig->world, "prism.queue.i1", "prism.multicast");
}

static inline void texts_of(const struct call *call, char *out)
{
    const pb_multicast_message *got[32];
    size_t n = sent_messages(call, got, ARRAY_LEN(got));

    for (size_t i = 0; i < n; i++)
        *out++ = (char)got[i]->payload.data[0];
    *out = '\0';
}

static inline struct call *attached_with(struct fake_rig *rig, int32_t max_in_flight)
{
    pb_attach_identities in = MULTICAST_PB(ATTACH_IDENTITIES__INIT);
    pb_attach_request request = MULTICAST_PB(ATTACH_REQUEST__INIT);
    struct call *call = fake_call(rig, "Attach", NULL);
    char *names[] = {pb_text("i1")};

    in.identities = names;
    in.n_identities = 1;
    request.action_case = MULTICAST_PB(ATTACH_REQUEST__ACTION_ATTACH);
    request.attach = &in;
    request.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_MANUAL;
    if (max_in_flight > 0) {
        request._max_in_flight_case = MULTICAST_PB(ATTACH_REQUEST___MAX_IN_FLIGHT_MAX_IN_FLIGHT);
        request.max_in_flight = max_in_flight;
    }
    fake_call_push(call, &request.base);
    fake_rig_run(rig);
    return call;
}

static inline void leave(struct fake_rig *rig, struct call *call)
{
    fake_call_cancel(call);
    settle(rig, call);
    fake_rig_run(rig);
    fake_call_free(call);
}

#endif
