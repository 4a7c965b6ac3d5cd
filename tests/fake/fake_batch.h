/* The fake's batches: for fake_pump.c. */
#ifndef PRISM_TESTS_FAKE_FAKE_BATCH_H
#define PRISM_TESTS_FAKE_FAKE_BATCH_H

#include "tests/fake/fake_log.h"

struct fake_batch {
    struct incoming_batch base; /* first */
    struct fake_world *world;
    struct arena arena;
    struct incoming items[BATCH_MESSAGES];
};

static inline size_t fake_bytes_of(const struct outgoing *m)
{
    return message_out_bytes(m) - m->topic.len;
}

struct fake_batch *fake_batch_new(struct fake_world *world);
void fake_batch_add(struct fake_batch *batch, const struct fake_kept *kept, int64_t offset);

/* The next message of a topic's subscription, for all of its bundle whose next one is the same.
 * True: it was for two or more, and is handed over. */
bool fake_share(struct fake_subscription *s);

#endif
