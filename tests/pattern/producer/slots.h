/* Calls of a producer with further slots, for the tests of these. */
#ifndef PRISM_TESTS_PATTERN_PRODUCER_SLOTS_H
#define PRISM_TESTS_PATTERN_PRODUCER_SLOTS_H

#include "tests/pattern/producer/producer.h"

enum { STATE = 1 << 1, OBJECT_SLOT = 2, OBJECT = 1 << OBJECT_SLOT, SINK = 1, THRESHOLD = 16 };
enum { MASK = FAKE_STREAM | FAKE_BASIC | FAKE_TTL | FAKE_CAS };

static inline struct fake_rig *rig_with(unsigned slots)
{
    struct fake_rig *rig = producer_unbound(MASK);

    rig->slots = SINK | slots;
    fake_rig_set(rig, "claim_check_threshold", THRESHOLD);
    return rig;
}

static inline struct fake_rig *bound_with(unsigned slots)
{
    struct fake_rig *rig = rig_with(slots);

    fake_rig_bind(rig);
    return rig;
}

static inline struct call *start(struct fake_rig *rig, const char *id, const char *payload)
{
    pb_publish_request request = message_to("orders", payload);
    struct call *call;

    if (id != NULL)
        set_id(&request, id);
    call = fake_call(rig, "Publish", &request.base);
    fake_rig_drain(rig);
    return call;
}

static inline const pb_publish_response *run(struct fake_rig *rig, struct call *call)
{
    fake_rig_run(rig);
    return answer_of(call);
}

static inline size_t published(struct fake_rig *rig)
{
    return fake_published(&rig->world, "orders");
}

#endif
