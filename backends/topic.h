/* Topics: whoever is there gets it, at most once; nothing is kept for those who are not.
 *
 * publish     an item is ERR_OK once the server (or this process) has it. `receivers` says who was
 *             reached, where the backend can tell; 0 is no error
 * subscribe   source.open with want.topic; want.group and all that concerns streams is ignored,
 *             tokens are 0. What is published after opened() and within the credit comes. What
 *             comes while there is no credit waits in a bounded buffer (source.max_buffer); beyond
 *             it the oldest is dropped, counted, and told by gap() before the next batch. A broken
 *             connection loses what is published meanwhile: told by gap() with count 0
 */
#ifndef PRISM_BACKENDS_TOPIC_H
#define PRISM_BACKENDS_TOPIC_H

#include "backends/subscription.h"

struct topic {
    struct message_sink sink;
    struct message_source source;

    /* False: nobody listens to any topic whose last level (what is behind its last '.') is this
     * one (null: to any topic), so that a message there would have no receivers, and need not be
     * made. NULL: that is not known before it is published. No I/O. thread: home worker of the
     * backend instance. */
    bool (*may_be_heard)(struct backend *, struct slice level);
};

#endif
