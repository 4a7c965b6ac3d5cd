/* What happens to messages before and after the sink has them, where the slots are there for it:
 * deduplication by the state store (dedup.c) and claim checks by the object store (claim_check.c).
 *
 *   read -> prepare: topics are looked at, where strict_retention asks for it
 *        -> dedup claims the identifiers -> large payloads are written as objects
 *        -> outbox, which held the frame meanwhile, in its place -> outcomes
 *        -> finish: dedup remembers what was stored and forgets the rest; objects that no message
 *           refers to are removed -> settled
 *
 * Each step runs for all messages of a frame that need it, PREPARE_WIDTH at a time.
 *
 * thread: home worker. */
#ifndef PRISM_PATTERNS_PRODUCER_PREPARE_H
#define PRISM_PATTERNS_PRODUCER_PREPARE_H

#include "backends/kv.h"
#include "patterns/fanout.h"
#include "patterns/messaging/claim.h"
#include "patterns/messaging/claim_gzip.h"
#include "patterns/producer/outbox.h"

enum { PREPARE_WIDTH = 32, OWNER_BYTES = 8 };

/* What a message needs besides the sink. */
struct prepared {
    struct preparing *preparing;
    uint32_t item; /* of the frame */
    struct timer timer;

    /* dedup.c */
    bool claims, claimed;       /* has an identifier to be claimed; holds it */
    bool maybe_claimed;         /* the answer to the claim was lost */
    uint8_t owner[OWNER_BYTES]; /* random: tells its record from another attempt's */
    uint32_t twin_of; /* the prepared of an earlier item with the same identifier, plus 1 */
    struct slice dedup_key;
    struct digest digest;
    uint64_t waits_since_ns;
    uint64_t lapses_ns; /* from then on the record may be another attempt's */
    uint32_t attempts;

    /* claim_check.c */
    bool checked; /* its payload goes to the object store; then: an object is or may be there */
    struct claim claim;
    struct claim_gzip *gzip; /* NULL: it is not compressed */

    union { /* one at a time */
        struct op op;
        struct kv_put put;
        struct kv_put_if put_if;
        struct kv_get get;
        struct kv_del del;
    };
};

struct preparing {
    struct frame *frame;
    struct producer *producer;
    struct op_group *group;
    struct prepared *items; /* those that need anything */
    size_t n;
    struct looks *looks; /* retention.c; NULL: nothing is to be looked at */
    struct fanout fanout;
    void (*step)(struct prepared *); /* ends in prepare_step_done */
    void (*after)(struct preparing *);
};

/* Looks through the frame's messages; those that need anything hold the frame until it is done.
 * After the messages are read, before outbox_put. */
void prepare_frame(struct producer *producer, struct op_group *group, struct frame *frame);

/* The message's step is over. */
void prepare_step_done(struct prepared *prepared);

static inline struct outgoing *prepared_message(const struct prepared *prepared)
{
    return &prepared->preparing->frame->items[prepared->item];
}

/* Has the message its outcome already? */
static inline bool prepared_is_settled(const struct prepared *prepared)
{
    return prepared->preparing->frame->states[prepared->item] == ITEM_SETTLED;
}

/* ---- retention.c ---- */

/* Topics of the frame that nothing is known of are asked about. Nobody waits for the answers. */
void retention_note(struct producer *producer, const struct frame *frame);

/* strict_retention: the topics of the frame that are not known to keep what is unread; NULL: all
 * are. */
struct looks *retention_looks(const struct producer *producer, struct frame *frame);

/* Asks about them, settles the messages that must not be sent, then calls after(). */
void retention_look(struct preparing *preparing, void (*after)(struct preparing *));

/* ---- dedup.c ---- */

/* Finds messages of one identifier within the frame, and makes keys and digests. */
void dedup_begin(struct preparing *preparing);

/* A step: claims the identifier, or settles the message as a duplicate, a stranger or a failure. */
void dedup_claim(struct prepared *prepared);

/* A step: what became of the message is remembered, or its claim is given up. */
void dedup_remember(struct prepared *prepared);

/* Messages that followed another one of their identifier share its outcome. */
void dedup_twins(struct preparing *preparing);

/* ---- claim_check.c ---- */

/* A step: writes the object, and makes the message refer to it. */
void claim_check_write(struct prepared *prepared);

/* A step: removes the object if no message refers to it. */
void claim_check_tidy(struct prepared *prepared);

#endif
