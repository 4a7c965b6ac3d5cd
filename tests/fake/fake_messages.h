/* The fake's topics, streams and queues: plain tables of messages and of what each group knows of
 * them. What is slow and simple here is a check of what is fast elsewhere: the contract suites run
 * on both.
 *
 * Operations (publish, settle, extend, seek, ..) arrive as those of key-value do: at once, parked,
 * or from a thread, with the world's faults. Besides:
 *
 *   lose_at      the operation with this number has its effect, and its answer is lost
 *   poison       an item with this key, or of this topic, fails by itself, with fail_with
 *   duplicate_at the message handed over with this number comes twice
 *   reorder      messages of different keys are handed over in disorder
 *   silent       who holds what a ticket settles is not told
 *   stalled      nothing is handed over, no subscription opens
 *   lone         of what other processes hold nothing is known
 *   uncommitted  groups have no position in one more partition of each stream
 *   open_error   subscriptions are closed with it instead of opened
 *   fake_revoke  all deliveries of a group are lost to another process, which gives them back
 *   fake_leave   a partition leaves a group's subscriptions, in the given time or once all that
 *                was handed over of it is settled
 *   fake_lose    retention removes messages
 *   fake_remove  a stream that nobody reads goes, with all that its groups know
 *   fake_close   a subscription ends uncalled for
 *
 * The interfaces that the world offers are its own copies: tests change what they say (single,
 * delays, null_payload, ..) before fake_open.
 *
 * thread: the home worker's, as the world. */
#ifndef PRISM_TESTS_FAKE_FAKE_MESSAGES_H
#define PRISM_TESTS_FAKE_FAKE_MESSAGES_H

#include "backends/queue.h"
#include "backends/stream.h"
#include "backends/topic.h"
#include "pool/job.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_world;
struct fake_log;

enum { FAKE_TOPIC_BUFFER = 64 << 10 };

struct fake_faults {
    uint64_t lose_at;
    uint64_t duplicate_at;
    bool reorder;
    bool silent;
    bool stalled;
    const char *delayed_by; /* told of one that is to be opened while `stalled` */
    bool lone;
    bool uncommitted;
    bool holds_closes; /* closed() waits until this is false */
    struct err open_error;
};

struct fake_messages {
    struct topic topic;
    struct stream stream;
    struct queue queue;
    struct fake_faults faults;
    unsigned partitions; /* of topics; 0: none, messages have partition -1 */
    struct {
        uint64_t messages, bytes, age_ms;
    } bounds;               /* of one queue; 0: none */
    const char *lossy;      /* what makes the retention of streams so; NULL: it is not */
    int ack;                /* of streams: enum backend_ack */
    bool describes_at_once; /* whatever the mode, and it counts as no operation */
    bool bundles;           /* what is the same for several of a bundle comes once (topics) */

    /* What happened. */
    uint64_t handed_over, settled, batches, opens;
    uint64_t shared;        /* deliveries that came with others of their bundle */
    uint64_t not_recalled;  /* deliveries that were released while a ticket of them was good */
    unsigned subscriptions; /* that are open */
    unsigned batches_out;   /* not released; 0 when the world ends, or it aborts */

    /* private */
    struct fake_log *logs;
    struct fake_subscription *open;
    struct job pump;
    bool pumping;
    uint32_t random;
};

void fake_messages_init(struct fake_world *world);
void fake_messages_clear(struct fake_world *world);

/* Virtual time has passed, or a fault was changed: looks at all subscriptions, later. */
void fake_messages_look(struct fake_world *world);

/* ---- what a test does to the world ---- */

size_t fake_published(struct fake_world *world, const char *topic);
/* The i-th message of a stream, else of a queue; NULL: there is none. */
const struct outgoing *fake_message(struct fake_world *world, const char *topic, size_t i);
/* Messages of a group, or of a queue, that are not settled. */
size_t fake_unsettled(struct fake_world *world, const char *topic, const char *group);
void fake_revoke(struct fake_world *world, const char *topic, const char *group);
void fake_leave(struct fake_world *world, const char *topic, int32_t partition, uint64_t ms);
void fake_lose(struct fake_world *world, const char *topic, int64_t before);
void fake_remove(struct fake_world *world, const char *topic);
void fake_close(struct fake_world *world, const char *topic, struct err err);

#endif
