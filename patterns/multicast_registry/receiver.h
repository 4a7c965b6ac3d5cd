/* One receiver: a Subscribe or Attach stream and its attachments, one for each identity.
 *
 *   receive.c     the RPCs: what is attached and detached, and the end
 *   attachment.c  topics of identities are opened, and their batches come in
 *   inbox.c       batches wait
 *   frame.c       and leave in frames: a payload once for all its identities
 *
 * Memory: for each attachment a struct and a credit of ATTACHMENT_MESSAGES; what waits is counted
 * for the call (call_hold). A receiver that is too slow loses messages where its messaging backend
 * keeps them, the oldest first, and is told how many. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_RECEIVER_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_RECEIVER_H

#include "patterns/multicast_registry/multicast_priv.h"
#include "src/base/container.h"

enum {
    ATTACHMENT_MESSAGES = 32,
    ATTACHMENT_BYTES = 256 << 10,
    FRAME_MESSAGES = 256,
    FRAME_BYTES = 512 << 10,
    RECEIVER_ID_CHARS = 32
};

struct receiver;

/* Stays until its subscription is closed and its batches are released; then it may be used again.
 */
struct attachment {
    struct subscription subscription;
    struct receiver *receiver;
    struct attachment *next; /* in the table's chain, or among the free ones */
    bool opened, leaving;
    bool again; /* while it is leaving: it was attached anew, and is opened when it is closed */
    uint16_t identity_len, topic_len;
    uint8_t identity[REGISTRY_IDENTITY_BYTES];
    uint8_t topic[MESSAGE_TOPIC_BYTES];
    uint64_t frame; /* the last one with a message of it, */
    size_t place;   /* and where in it */
};

static inline struct attachment *attachment_of(const struct incoming_batch *batch)
{
    return CONTAINER_OF(batch->subscription, struct attachment, subscription);
}

/* Lives in the call's arena, with its attachments: a receive may still be open when it ends. */
struct receiver {
    struct call *call;
    struct multicast *multicast;
    struct attachment **table;               /* by hash of the identity, `buckets` chains */
    size_t buckets, attached, opening, open; /* attached: those in the table */
    struct attachment *free;
    bool bidi, started, ending, ended, draining;
    struct err why; /* with which the call ends; ERR_OK: in order */

    /* inbox.c */
    struct incoming_batch *first, *last; /* linked by holder */
    size_t inbox_at;                     /* messages of the first that have left */
    uint64_t waiting_bytes;
    uint64_t sent_bytes; /* payloads that the frame under way refers to */
    uint64_t frames;
    bool sending, has_news;
    int64_t sequence, dropped;
    struct arena failures_arena;
    struct {
        pb_receive_failure **at;
        size_t n, room;
    } failures;
    struct op sent;
    char id[RECEIVER_ID_CHARS + 1];

    struct call_receive receive; /* Attach */
    struct arena receive_arena;
};

/* ---- attachment.c ---- */

/* Opens the topic of an identity; nothing if it is attached. One that is being detached is opened
 * again once it is closed. The identity is valid. */
void attachment_add(struct receiver *receiver, struct slice identity);
void attachment_remove(struct receiver *receiver, struct slice identity);
void attachments_close(struct receiver *receiver);

/* ---- inbox.c ---- */

static inline struct incoming_batch *inbox_next(const struct incoming_batch *batch)
{
    return batch->holder;
}

/* The call's memory, as it is now. */
struct err inbox_hold(struct receiver *receiver);

/* So many will not reach the client. */
void inbox_lost(struct receiver *receiver, uint64_t messages);

void inbox_take(struct receiver *receiver, struct incoming_batch *batch);
void inbox_fail(struct receiver *receiver, const struct attachment *attachment, struct err err);

void inbox_drop(struct receiver *receiver); /* all batches */

/* The batches of one whose subscription is closed. */
void inbox_forget(struct receiver *receiver, const struct attachment *attachment);

/* ---- frame.c ---- */

/* Sends a frame if there is something to say and none is on its way. */
void frame_send(struct receiver *receiver);

/* ---- receive.c ---- */

/* Something has changed: the first frame may be due, or the end. */
void receiver_look(struct receiver *receiver);
void receiver_end(struct receiver *receiver, struct err why);

#endif
