/* The keys of one publish whose later items must not overtake: an item failed, and may be sent
 * again. Who checks items one by one asks before each, and adds what failed. Costs nothing until
 * then. thread: the one that publishes. */
#ifndef PRISM_BACKENDS_FAILED_KEYS_H
#define PRISM_BACKENDS_FAILED_KEYS_H

#include "backends/message.h"

struct failed_keys {
    struct publish *publish;
    uint64_t seed;
    uint32_t *heads; /* private, here and below; NULL: none failed */
    uint32_t *next;
};

static inline void failed_init(struct failed_keys *failed, struct publish *publish)
{
    *failed = (struct failed_keys){.publish = publish};
}

bool failed_look(struct failed_keys *failed, struct outgoing *item);

/* True: an earlier item with this item's key and topic failed; the item's error is ERR_ABORTED. */
static inline bool failed_stops(struct failed_keys *failed, struct outgoing *item)
{
    return failed->heads != NULL && failed_look(failed, item);
}

/* The item, one of the publish, failed, and failed_stops() did not stop it. Items without a key are
 * not remembered. */
void failed_add(struct failed_keys *failed, const struct outgoing *item);

#endif
