/* Consumers with an object store, for the tests of payloads that lie there. */
#ifndef PRISM_TESTS_PATTERN_CONSUMER_OBJECTS_H
#define PRISM_TESTS_PATTERN_CONSUMER_OBJECTS_H

#include "tests/pattern/consumer/consumer.h"

enum { WITH_OBJECTS = 1 << SLOT_SOURCE | 1 << SLOT_DEAD | 1 << SLOT_OBJECT };

/* Settings come before it is bound. */
static inline struct fake_rig *unbound(void)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM | FAKE_BASIC);

    rig->slots = WITH_OBJECTS;
    return rig;
}

static inline struct fake_rig *objects_rig(void)
{
    struct fake_rig *rig = unbound();

    fake_rig_bind(rig);
    return rig;
}

#endif
