/* A call of Redrive while it is under way. thread: the call's worker. */
#ifndef PRISM_PATTERNS_CONSUMER_REDRIVE_H
#define PRISM_PATTERNS_CONSUMER_REDRIVE_H

#include "patterns/consumer/feed.h"

struct redrive {
    struct call *call;
    struct consumer *consumer;
    struct origin from;
    struct slice topic, group, letters;
    struct stream_describe describe;
    struct stream_position position;
    struct queue_count count;
    struct subscription subscription;
    struct incoming_batch *first, *last; /* linked by holder; the first may be under way */
    struct timer silence;

    struct op_group work;
    struct arena memory; /* of the batch under way */
    struct publish publish;
    struct settle settle;
    struct outgoing *items; /* of the first batch, with their tokens: what may be published */
    uint64_t *tokens;
    uint32_t n_items, tried;
    bool busy;

    uint64_t most, granted, taken, redriven, failed; /* messages */
    uint64_t sure;                                   /* of them: that nobody holds */
    struct err why;                                  /* of the first that failed */
    struct err end;                                  /* of the call */
    bool stopping, closing;
};

/* Publishes the first batch again and settles what was published; ends in redrive_batch_over, at
 * once or later. */
void redrive_batch(struct redrive *redrive);
void redrive_batch_over(struct redrive *redrive);

#endif
