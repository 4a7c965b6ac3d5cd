/* The messages of one request, answered together. thread: the call's worker. */
#ifndef PRISM_PATTERNS_PRODUCER_PUBLISH_H
#define PRISM_PATTERNS_PRODUCER_PUBLISH_H

#include "patterns/producer/outbox.h"

struct publishing {
    struct frame frame;
    struct call *call;
    struct producer *producer;
};

/* In the call's arena; frame.items are to be filled in. settled: all have their outcomes. */
struct publishing *publishing_begin(struct call *call, size_t n, void (*settled)(struct frame *));
void publishing_put(struct publishing *publishing);

#endif
