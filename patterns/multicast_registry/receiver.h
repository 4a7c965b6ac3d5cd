/* One receiver: a Subscribe or Attach stream and its attachments, one for each identity.
 *
 *   receive.c      the RPCs: what is attached and detached, and the end
 *   attachment.c   topics and queues of identities are opened, and their batches come in
 *   presence.c     identities that the stream registers, and keeps alive
 *   inbox.c        batches wait
 *   frame.c        and leave in frames: a payload once for all its identities
 *   frame_writer.c which are written
 *   hub.c          what stands in for topics where those are costly
 *   buffer.c       what stands in for topics where the receiver wants another policy than theirs
 *   waiting.c      what waits in one of these two, within its bounds and by the policy
 *   kept.c         messages of queues, until they are confirmed
 *   given_up.c     those that were handed over too often, and become dead letters
 *   telling.c      senders who wait for that are told
 *   acknowledge.c  the RPC that confirms them
 *
 * An attachment reads from one or two places (leads): the identity's topic, for what is sent to
 * those who listen, and, where the namespace has a durability slot, the identity's queue.
 *
 * Memory: for each attachment a struct and a credit of ATTACHMENT_MESSAGES on each lead; for each
 * kept message that is sent and not confirmed a struct delivery, up to max_in_flight. What waits is
 * counted for the call (call_hold), in inboxes and in waiting.c. A receiver that is too slow loses
 * messages of topics where its messaging backend keeps them, the oldest first, or by its policy
 * what waits in waiting.c: up to receiver_queue_messages and _bytes for each identity, and no more
 * than memory allows. It is told how many and why. Those of queues wait there.
 */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_RECEIVER_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_RECEIVER_H

#include "patterns/multicast_registry/multicast_priv.h"
#include "patterns/name_set.h"
#include "pool/timer.h"
#include "src/base/container.h"

enum {
    ATTACHMENT_MESSAGES = 32, /* of a lead: waiting here, or sent and not confirmed */
    ATTACHMENT_BYTES = 256 << 10,
    DYING_MESSAGES = 256, /* of a lead, for which the source has credit again */
    FRAME_MESSAGES = 256,
    FRAME_BYTES = 512 << 10,
    RECEIVER_ID_CHARS = 32,
    DELIVERY_ID_BYTES = MULTICAST_ID_BYTES
};

enum { LEAD_TOPIC, LEAD_QUEUE, LEAD_KINDS };

struct receiver;
struct attachment;
struct dying;
struct line;

/* Stays until its subscription is closed and its batches are released. There may be a million: what
 * is added here, and to an attachment, is paid for each. */
struct lead {
    struct subscription subscription;
    struct line *line;   /* waiting.c; NULL: it reads from its own source */
    uint64_t owed_bytes; /* of batches that have left the inbox: credit that is not given yet */
    uint32_t owed;       /* messages of a queue that are settled, likewise */
    uint32_t out;        /* of a queue: handed over and neither settled nor lent */
    uint32_t settling;   /* settlements under way */
    uint16_t lent;       /* given up, and not settled: the source has other credit for them */
    uint8_t kind;        /* its place in the attachment's leads */
    bool opened : 1, closed : 1;
};

/* Once all its leads are closed it may be used again, and its text with it. */
struct attachment {
    struct receiver *receiver;
    struct attachment *next; /* in the table's chain, or among the free ones */
    uint8_t *text;           /* the topics of its leads, and its identity unless one ends with it */
    uint16_t room;           /* of the text */
    uint16_t identity_at, identity_len;
    uint16_t place;      /* where the last message of its topic is in the frame */
    uint64_t frame;      /* that had one last */
    uint64_t generation; /* registered by the stream */
    bool opened, ended, leaving;
    bool again; /* while it is leaving: it was attached anew, and is opened when it is closed */
    bool registered;
    uint8_t leads_opened;
    struct lead leads[]; /* receiver->leads of them */
};

_Static_assert(sizeof(struct attachment) + sizeof(struct lead) <= 208,
               "an identity that is received for pays for both, and for its topic's name");

/* A kept message that is sent, and not confirmed. */
struct delivery {
    struct settle settle;
    struct settlement item;
    struct receiver *receiver;
    struct lead *lead; /* stays until it is settled */
    struct delivery *next, *prev;
    int64_t sequence;
    bool lent;
    char confirm_to[MULTICAST_CONFIRM_CHARS + 1]; /* empty: nobody waits for it */
    uint16_t id_len;
    uint8_t id[DELIVERY_ID_BYTES];
};

/* Settlements at the end, when those of the call are cancelled. */
struct parting {
    struct op_group group;
    struct receiver *receiver;
};

struct inbox {
    struct incoming_batch *first, *last; /* linked by holder */
    size_t at;                           /* messages of the first that have left */
};

/* Lives in the call's arena, with its attachments: a receive may still be open when it ends. An
 * idle Subscribe of one identity fits into the arena's first block (receive.c). */
struct receiver {
    struct call *call;
    struct multicast *multicast;
    struct receiver *next, *prev;            /* of the instance */
    struct attachment **table;               /* by hash of the identity, `buckets` chains */
    size_t buckets, attached, opening, open; /* attached: those in the table */
    size_t leads;                            /* of each attachment */
    struct attachment *free;
    struct line *lines; /* waiting.c: those that may be used again */
    bool bidi, begun, started, ending, ended, draining, manual, resumes;
    struct err why; /* with which the call ends; ERR_OK: in order */
    char *why_text; /* its own; NULL: there was none yet */

    /* inbox.c, frame.c */
    struct inbox inboxes[LEAD_KINDS];
    uint64_t waiting_bytes;
    uint64_t line_bytes; /* waiting.c: what its messages hold, until they have left */
    uint64_t sent_bytes; /* payloads that the frame under way refers to */
    uint64_t frames;
    bool sending, has_news;
    int64_t sequence;
    int64_t dropped[DROP_REASONS]; /* since the last frame, by reason */
    enum full_policy when_full;
    struct arena failures_arena;
    struct {
        pb_receive_failure **at;
        size_t n, room;
    } failures;
    struct op sent;
    char id[RECEIVER_ID_CHARS + 1];

    /* kept.c: in the order of their sequences */
    struct delivery *first, *last, *spare;
    size_t unsettled, settling, max_in_flight;
    struct dying *dying; /* given_up.c */
    uint64_t dying_bytes;
    struct parting *parting; /* where its attachments have queues */

    /* presence.c */
    size_t registered, entering; /* identities; batches under way */
    uint64_t grace_ms;           /* the shortest of theirs */
    bool beating;
    struct timer beat;
};

static inline struct attachment *attachment_of(const struct lead *lead)
{
    return CONTAINER_OF(lead - lead->kind, struct attachment, leads);
}

static inline struct lead *lead_of(const struct incoming_batch *batch)
{
    return CONTAINER_OF(batch->subscription, struct lead, subscription);
}

/* Of a place in a batch, which may have sharers. NULL: nobody's any more. */
static inline struct lead *lead_at(const struct incoming_batch *batch, size_t place)
{
    if (batch->sharers == NULL)
        return lead_of(batch);
    return batch->sharers[place] != NULL
               ? CONTAINER_OF(batch->sharers[place], struct lead, subscription)
               : NULL;
}

static inline struct slice attachment_identity(const struct attachment *a)
{
    return slice_of(a->text + a->identity_at, a->identity_len);
}

/* ---- attachment.c ---- */

/* Opens what the identity has; nothing if it is attached. One that is being detached is opened
 * again once it is closed. The identity is valid. */
struct attachment *attachment_add(struct receiver *receiver, struct slice identity);
void attachment_remove(struct receiver *receiver, struct slice identity);
/* It is received for no longer, and the client is told why. */
void attachment_fail(struct attachment *attachment, struct err err);
/* A settlement of one of its leads is over. */
void attachment_settled(struct attachment *attachment);
struct attachment *attachment_find(struct receiver *receiver, struct slice identity);
void attachments_close(struct receiver *receiver);
struct attachment **attachments_make(struct arena *arena, size_t expected, size_t *buckets);

/* Where the lead reads, and of which backend. */
const struct message_source *lead_source(const struct lead *lead);
struct backend *lead_backend(const struct lead *lead);

/* ---- inbox.c ---- */

static inline struct incoming_batch *inbox_next(const struct incoming_batch *batch)
{
    return batch->holder;
}

/* What a batch takes while it waits. One that has sharers counts against the credit of each, and is
 * there once. */
static inline size_t inbox_bytes(const struct incoming_batch *batch)
{
    if (batch->sharers == NULL)
        return batch->bytes;
    return batch->bytes / batch->n + batch->n * sizeof(struct subscription *);
}

/* The call's memory, as it is now. */
struct err inbox_hold(struct receiver *receiver);

/* Memory is not ample, and more waits for the stream than a receiver that keeps up has waiting. */
enum { INBOX_PRESSED_BYTES = 256 << 10 };
bool inbox_is_pressed(const struct receiver *receiver);

/* So many will not reach the client. */
void inbox_lost(struct receiver *receiver, uint64_t messages, enum drop_reason reason);

void inbox_take(struct receiver *receiver, int kind, struct incoming_batch *batch);
/* A batch that has sharers is over: those who are still there may have another message. */
void inbox_grant_sharers(const struct receiver *receiver, const struct incoming_batch *batch);
void inbox_fail(struct receiver *receiver, const struct attachment *attachment, struct err err);
void inbox_drop(struct receiver *receiver); /* all batches */

/* The batches of one whose subscription is closed. */
void inbox_forget(struct lead *lead);

/* ---- waiting.c: in place of a topic's own source ---- */

/* What waits for a lead, from open until it is closed: what stands in embeds it, first. */
struct line {
    struct lead *lead;
    struct line *next; /* hub.c: in the table's chain, or of those that are parting */
    struct job job;
    bool stands, landed, leaving, overflowed;
    bool gap;                            /* some were lost before they came here */
    uint64_t missed;                     /* ... and so many */
    struct err err;                      /* with which the lead is closed */
    struct incoming_batch *first, *last; /* of one message each; they wait for credit */
    size_t n, bytes;
};

/* Of `bytes`, which are the same for all of a receiver. The lead is being opened. */
struct line *waiting_open(struct lead *lead, size_t bytes);
/* The source is open: the lead stands. */
void waiting_stands(struct line *line);
/* Copied; dropped by the policy if there is no room. The lead hears of it later. */
void waiting_add(struct line *line, const struct incoming *message);
/* Lost before they came here; 0: it is not known how many. */
void waiting_missed(struct line *line, uint64_t messages);
void waiting_granted(struct line *line, uint32_t messages, uint64_t bytes);
/* The lead is closed, and told so later; then the line is gone. */
void waiting_part(struct line *line, struct err err);

/* ---- buffer.c ---- */

/* A source for leads whose policy is not the messaging backend's: open, grant and close. */
extern const struct message_source buffer_source;

/* ---- frame.c ---- */

/* Sends a frame if there is something to say and none is on its way. */
void frame_send(struct receiver *receiver);
bool frame_has_messages(const struct receiver *receiver); /* that can be sent now */
/* The oldest of an inbox go back, and credit with them. */
void frame_release(struct receiver *receiver, int kind, size_t messages);

/* ---- kept.c ---- */

/* The message is in the frame with this sequence; the client has it once the frame is sent. */
void kept_sent(struct lead *lead, const struct incoming *message, int64_t sequence);
/* A message that waits in a queue is replaced by a later one with its key, as far as they wait here
 * together; its time may be over. True: counted. */
bool kept_is_replaced(const struct incoming_batch *batch, size_t at);
bool kept_is_over(struct lead *lead, const struct incoming *message, int64_t now_ms);
/* It has been handed over too often. */
bool kept_has_failed(const struct lead *lead, const struct incoming *message);
/* It is not sent at all, and gone. */
void kept_discard(struct lead *lead, const struct incoming *message);
/* A delivery that is in no list: to be settled, or forgotten, for the source has it back. */
struct delivery *kept_take(struct lead *lead, const struct incoming *message);
void kept_settle(struct delivery *delivery, enum settle_how how);
void kept_forget(struct delivery *delivery);
/* It stays for long: another may come in its place, for DYING_MESSAGES of a lead. */
void kept_lend(struct delivery *delivery);
/* More may be sent. */
bool kept_has_room(const struct receiver *receiver);
/* Confirms all up to this sequence and returns how many; these, which it sorts; those with one of
 * these identifiers, for one of these identities, or for any where none is given, and says which of
 * the identifiers it knew. All but the first cost what is unconfirmed, however many are named. */
size_t kept_through(struct receiver *receiver, int64_t sequence);
void kept_sequences(struct receiver *receiver, int64_t *sequences, size_t n);
void kept_named(struct receiver *receiver, const struct name_set *ids,
                const struct name_set *identities, bool *known);
/* The lead is about to be closed: the oldest that is not confirmed has used up one of its
 * deliveries. */
void kept_fail_oldest(struct lead *lead);
/* The lead is closing: what is not confirmed is given back. */
void kept_let_go(struct lead *lead);
void kept_init(struct receiver *receiver);
/* Gives the credit that is owed, if it is time. */
void kept_grant(struct lead *lead);
void kept_moved(struct subscription *subscription, const struct subscription_move *move);

/* ---- given_up.c ---- */

/* It is not sent, and gone: first to the dead letters, if there is a slot for them. */
void kept_give_up(struct lead *lead, const struct incoming *message);
/* The lead is closing: what is not a dead letter yet is given back. */
void given_up_let_go(struct lead *lead);

/* ---- telling.c ---- */

/* Notes whether the sender of the message waits for its confirmation. */
void telling_note(struct delivery *delivery, const struct incoming *message);
/* It is confirmed, and settled. The receiver stays until this is told (settling). */
void telling_start(const struct delivery *delivery);

/* ---- presence.c ---- */

/* Registers those that are attached. The names are valid, the metadata and grace are not checked.
 */
struct err presence_register(struct receiver *receiver, const pb_attach_identities *request);
void presence_end(struct receiver *receiver);

/* ---- receive.c ---- */

/* Something has changed: the first frame may be due, or the end. */
void receiver_look(struct receiver *receiver);
void receiver_end(struct receiver *receiver, struct err why);
/* What it ends with, unless it goes on and ends with something else. */
void receiver_note(struct receiver *receiver, struct err why);

#endif
