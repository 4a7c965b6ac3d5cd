/* Messages of one call on their way to the sink, in order.
 *
 * Messages come in frames and leave in rounds: a round is one publish operation, of as many waiting
 * messages as the sink takes at once, whatever frames they came in. So what arrives while a round
 * is under way goes out together with the next one.
 *
 * Order   Of messages with a key one round is under way at a time. So a failure is known before
 *         anything is sent that must not overtake, and what is tried again is tried before what
 *         came later. Where the sink does not keep order within an operation, such a round has one
 *         message; then rounds of different keys run side by side. Rounds without keys run side by
 *         side, up to `publish_width`.
 * Retry   Only where the error says that nothing happened (EFFECT_NONE), for retry_for_ms and never
 *         past the deadline.
 * Whole   The messages of a whole frame are one round, which the sink stores as a whole or not at
 *         all; they have one error, and so are tried again together or not at all.
 * Stop    After a failure that is final, later messages of the key, or all, fail with ABORTED until
 *         a frame resumes (enum failure_mode).
 *
 * thread: home worker. */
#ifndef PRISM_PATTERNS_PRODUCER_OUTBOX_H
#define PRISM_PATTERNS_PRODUCER_OUTBOX_H

#include "patterns/messaging/key_set.h"
#include "patterns/producer/producer_priv.h"
#include "pool/timer.h"

enum failure_mode { FAILURE_CONTINUE, FAILURE_STOP_KEY, FAILURE_STOP_ALL };

enum item_state { ITEM_WAITING, ITEM_UNDER_WAY, ITEM_SETTLED };

/* Embedded by its owner. */
struct frame {
    /* in: these and what they point to live until settled() has come */
    struct arena *arena;    /* outputs go here */
    struct outgoing *items; /* n, in the client's order */
    size_t n;
    bool whole;  /* whole.h; it is alone in its outbox */
    bool resume; /* everything goes on, beginning with this frame; or these keys do: */
    const ProtobufCBinaryData *resume_keys;
    size_t n_resume_keys;
    /* Every item has its outcome in items[i].err, and so have those of earlier frames. The outbox
     * no longer knows the frame. May put frames and may end the call. */
    void (*settled)(struct frame *);
    /* May be NULL. Every item has its outcome; before settled(), once. Ends in outbox_release: at
     * once or later. */
    void (*finish)(struct frame *);
    struct preparing *preparing; /* prepare.c's */
    size_t bytes;                /* of its messages, and what compresses them: frame_measure */
    uint32_t culprit;            /* whole frames, out: the item that the error of all is about, or
                                    PUBLISH_ALL */
    /* private */
    struct frame *next;
    struct outbox *outbox;
    uint8_t *states;     /* enum item_state */
    size_t unsettled;    /* items */
    size_t waiting_from; /* no item before it waits */
    size_t seen;         /* items before it have had their turn at stopping keys */
    bool entered;        /* `resume` has been done */
    bool held, finishing;
    uint64_t accepted_ns;
    uint64_t failing_since_ns; /* 0: nothing has been tried again */
    struct epoch *epoch;
};

struct round;

struct outbox {
    struct producer *producer;
    struct op_group *group;
    enum failure_mode mode;
    bool patient; /* waits for a full sink as well */
    /* private */
    struct frame *first, **last;
    struct frame *cursor; /* no frame before it has an item that waits; NULL: none has */
    struct round *keyed;  /* rounds under way that hold an item with a key */
    struct round *free_rounds;
    unsigned under_way;
    struct key_set stopped;
    bool stopped_all;
    uint32_t backoff_ms; /* of the last pause; 0: none since a success */
    struct timer pause;
    struct semaphore_waiter permit;
    bool running;  /* guards against re-entry from settled() */
    bool finishes; /* frames have a finish() */
};

/* Makes room for n messages, zeroed, in `arena`. The frame is zeroed before. */
void frame_init(struct frame *frame, struct arena *arena, size_t n);

/* Sets frame->bytes, once the items are there, and returns it. Before outbox_put. */
size_t frame_measure(const struct producer *producer, struct frame *frame);

/* Item i is at fault: it is not sent. Before outbox_put. */
void frame_refuse(struct frame *frame, size_t i, struct err err);

/* ---- frame.c, for outbox.c ---- */

/* The item has its outcome. */
void frame_settle(struct frame *frame, size_t i, struct err err);

/* All have, and have had their turn at stopping keys. */
bool frame_is_over(const struct frame *frame);

/* Tells the statistics, and who waits in Flush. */
void frame_count(struct frame *frame);

/* ---- stop.c, for outbox.c ---- */

/* Must the item not be sent, because an earlier one failed? */
bool outbox_is_stopped(const struct outbox *outbox, const struct outgoing *item);

/* The item has failed for good. */
void outbox_stop_after(struct outbox *outbox, const struct outgoing *item);

/* The frame's turn has come: what it resumes goes on. */
void outbox_enter(struct outbox *outbox, struct frame *frame);

/* ---- again.c, for outbox.c ---- */

enum { OUTBOX_PAUSE_MS = 10 }; /* the shortest */

/* Why nothing is sent any more; ERR_NONE: nothing speaks against it. */
struct err outbox_reason_to_stop(const struct outbox *outbox);

/* The item that failed so waits for another try, which its call's deadline leaves time for. */
bool outbox_may_try_again(struct frame *frame, struct err err);

/* Twice the last one, or what a sink asked for if that is longer; half a second at most. */
uint32_t outbox_next_pause_ms(const struct outbox *outbox, uint32_t least_ms);

/* ---- outbox.c ---- */

/* In the call's arena, with which it ends. */
struct outbox *outbox_new(struct producer *producer, struct call *call, enum failure_mode mode);

/* A held frame keeps its place: neither it nor later ones go on until it is released. Held before
 * outbox_put; released after it. */
void outbox_hold(struct frame *frame);
void outbox_release(struct frame *frame);

/* Takes the frame in. settled() may come before this returns. */
void outbox_put(struct outbox *outbox, struct frame *frame);

#endif
