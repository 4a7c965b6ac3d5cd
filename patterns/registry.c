/* The one list of patterns. */
#include "patterns/consumer/consumer.h"
#include "patterns/keyvalue/keyvalue.h"
#include "patterns/multicast_registry/multicast_registry.h"
#include "patterns/pattern.h"
#include "patterns/producer/producer.h"
#include "patterns/session_store/session_store.h"

static const struct pattern_type *const patterns[] = {
    &pattern_keyvalue,           &pattern_producer,      &pattern_consumer,
    &pattern_multicast_registry, &pattern_session_store, NULL,
};

const struct pattern_type *const *pattern_all(void)
{
    return patterns;
}

const struct pattern_type *pattern_find(struct slice name)
{
    for (size_t i = 0; patterns[i] != NULL; i++) {
        if (slice_equal(slice_str(patterns[i]->name), name))
            return patterns[i];
    }
    return NULL;
}
