/* A subscription: how messages come in. Embedded by the pattern; no op, for it has many outcomes.
 *
 *   pattern                             backend
 *   subscription_init, source.open  ->
 *                                   <-  opened
 *   grant                           ->
 *                                   <-  batch, batch, ..     within the credit
 *   settle, extend                  ->                       (stream.h, queue.h)
 *                                   <-  moved, gap           as it happens
 *   withdraw                        ->                       nothing more is fetched
 *   close                           ->  gives back what is not settled
 *                                   <-  closed               exactly once, last
 *
 * One for each process. The pattern opens one subscription for each (topic, group) of a slot,
 * whatever the number of its members, and deals the messages out to members on any worker. So a
 * backend balances nothing within the process: one consumer handle is enough. Other processes read
 * in the same group through subscriptions of their own, and a backend must also stand two of one
 * group on one store (tests play the second process that way).
 *
 * thread: open, grant, withdraw, settle, extend and close are called on the subscription's home,
 * which is the backend instance's. Events come there as well, as jobs of their own: never inside a
 * method. A batch may travel on to other workers, but is released at home. The struct stays until
 * closed() has come and all batches are released.
 *
 * Credit is permission in messages and bytes, used up by what is taken from the source, not
 * returned by settlements. A backend takes a message only while both are above 0, so bytes may be
 * overdrawn by one message. At 0 fetching stops: nothing is prefetched in a place that the credit
 * does not count, but for a client library's bounded buffer. What waits for a retry holds none.
 *
 * Lost connections are the backend's affair: it comes back by itself and goes on; closed() comes
 * uncalled for only where there is no hope: ERR_NOT_FOUND about "topic" (also when it is removed
 * later), ERR_PERMISSION_DENIED, ERR_FAILED_PRECONDITION, ERR_DATA_LOSS (GAP_FAIL). An absent
 * server is waited for in SUB_OPENING; who does not want to wait closes. */
#ifndef PRISM_BACKENDS_SUBSCRIPTION_H
#define PRISM_BACKENDS_SUBSCRIPTION_H

#include "backends/message.h"

struct worker;

enum stream_start {
    START_COMMITTED, /* where the group stands; where it has no position: `if_none` */
    START_EARLIEST,
    START_LATEST,
    START_OFFSET,  /* at: an offset, on the partition given or on the only one */
    START_TIME,    /* at: Unix ms; the first message that is not older */
    START_POSITION /* position: an opaque one, of incoming or outgoing */
};

/* The position of the group is no longer there, or messages that it has not read were removed. */
enum gap_policy {
    GAP_EARLIEST, /* gap(), then the first message that is there */
    GAP_LATEST,   /* gap(), then what comes from now on */
    GAP_FAIL      /* closed(ERR_DATA_LOSS), the text names what is missing */
};

/* Borrowed until closed(). */
struct subscription_want {
    struct slice topic;
    struct slice group; /* null: none. It reads alone, and its position ends with it */
    /* streams */
    struct slice position;
    int64_t at;
    int32_t partition;             /* START_OFFSET, START_POSITION: -1 = the only one */
    enum stream_start start : 8;   /* START_COMMITTED: a group's default */
    enum stream_start if_none : 8; /* START_EARLIEST or START_LATEST */
    enum gap_policy on_gap : 8;
    bool ordered : 1; /* where source.keyed: messages of one key come in the log's order, also after
                     a retry or a release: then no later one of the key comes before it is handed
                     over again. Later ones that were handed over before it may be settled in any
                     way; those that are released wait behind it */
    /* queues, and groups that are one to their readers */
    bool oldest_first : 1; /* what another process had taken and died with, before this was opened,
                          comes in its place, before what is newer. A source that cannot tell at
                          once who has died hands nothing over until it can, for as long at most as
                          it leaves messages with a process that is silent. What the living hold
                          stays theirs, and nobody waits for it. Where the source cannot do that,
                          it comes whenever it comes. All who read the queue ask for it */
    /* streams and queues where the source leases */
    uint64_t lease_ms; /* how long a delivery is left here without settle or extend; 0: as long as
                          the subscription is there, which the source sees to */
};

enum subscription_state { SUB_IDLE, SUB_OPENING, SUB_RUNNING, SUB_CLOSING, SUB_CLOSED };

enum move_kind {
    MOVE_GAINED,  /* partitions are ours from now on */
    MOVE_LEAVING, /* partitions go at until_ns or when all of theirs is settled: settle now */
    MOVE_LOST     /* they, or these deliveries, are no longer ours: settling them is late */
};

enum move_reason {
    MOVED_BY_GROUP,
    MOVED_BY_LEASE,
    MOVED_BY_SEEK,
    MOVED_BY_SOURCE,
    MOVED_BY_SETTLING /* single deliveries: settled by ticket, here or in another process */
};

/* Who owns what has changed. Lent for the time of the event. */
struct subscription_move {
    enum move_kind kind;
    enum move_reason reason;
    uint64_t until_ns; /* MOVE_LEAVING: CLOCK_MONOTONIC */
    const int32_t *partitions;
    size_t n_partitions;
    const uint64_t *tokens; /* MOVE_LOST of single deliveries */
    size_t n_tokens;        /* neither partitions nor tokens: everything */
};

/* Messages that this group will never see. Comes before the message behind the gap. */
struct subscription_gap {
    int32_t partition;    /* -1: none */
    int64_t missing_from; /* offset; -1: unknown */
    int64_t goes_on_at;   /* offset; -1: unknown */
    uint64_t count;       /* messages; 0: unknown, but there are some */
    const char *text;     /* why; static */
};

struct subscription_events {
    /* Not opened yet, and why; static text. It may go on all the same. NULL: nobody asks. */
    void (*delayed)(struct subscription *, const char *why);
    void (*opened)(struct subscription *);
    void (*batch)(struct subscription *, struct incoming_batch *);
    void (*moved)(struct subscription *, const struct subscription_move *); /* not for topics */
    void (*gap)(struct subscription *, const struct subscription_gap *);
    /* ERR_OK: it was asked for. Without opened() before it: why it could not be opened. Its text is
     * static for topics; else it is lent for the time of the event. */
    void (*closed)(struct subscription *, struct err);
    /* For topics. What has come for several subscriptions of one bundle may be handed over together
     * in one batch, by shared(), which counts against the credit of each. NULL, or its answer is:
     * no bundle. All of a bundle have these events and one home, and none is withdrawn. The answer
     * is the same from open() to closed(). thread: any. */
    const void *(*bundle)(const struct subscription *);
    void (*shared)(struct incoming_batch *);
};

struct subscription {
    struct worker *home;
    const struct subscription_events *events;
    struct subscription_want want;
    enum subscription_state state;
    uint32_t batches;         /* handed over and not released */
    uint64_t credit_messages; /* granted and not taken */
    int64_t credit_bytes;     /* < 0: overdrawn by the last message */
    void *backend_data;
};

_Static_assert(sizeof(struct subscription) <= 120, "there may be a million of them");

/* Where messages come from: part of struct topic, stream and queue. */
struct message_source {
    bool keyed;        /* `ordered` can be asked for */
    bool wildcards;    /* want.topic may be a pattern of the server's own syntax */
    bool never_drops;  /* false: what comes while nobody takes it is dropped, counted and told by
                          gap() */
    size_t max_buffer; /* bytes that the client library may hold beyond the credit, for each
                          subscription; 0 = none */

    void (*open)(struct backend *, struct subscription *);
    /* Adds to the credit. SUB_RUNNING, or SUB_OPENING: then it counts once it is open. */
    void (*grant)(struct backend *, struct subscription *, uint32_t messages, uint64_t bytes);
    /* The credit is 0 from now on. What was taken already still comes; what had been asked for and
     * comes all the same is given back, its attempts unchanged where the source can do that. */
    void (*withdraw)(struct backend *, struct subscription *);
    /* Gives everything back that is not settled, attempts unchanged where the source can do that,
     * so that others have it at once; positions of settled messages are kept. Finishes what is
     * under way (settlements), in bounded time. In SUB_OPENING and SUB_RUNNING, once; no method
     * with this subscription after it. */
    void (*close)(struct backend *, struct subscription *);
};

/* ---- settlement: streams and queues ---- */

enum settle_how {
    SETTLE_DONE,    /* never again: handled, dropped, or written as a dead letter elsewhere */
    SETTLE_RETRY,   /* again, after delay_ms; the attempt counts */
    SETTLE_RELEASE, /* again, at once; it was no attempt */
    SETTLE_DEAD     /* queues with dead letters of their own: out of the way, with a reason */
};

struct settlement {
    uint64_t token; /* of a delivery of this subscription */
    enum settle_how how;
    uint64_t delay_ms;   /* SETTLE_RETRY; 0 = at once */
    struct slice reason; /* SETTLE_DEAD; borrowed until done() */
    struct err err;      /* out */
};

/* Many settlements, in any order.
 *
 *   op.err   as publish: ERR_OK = each item has its own outcome
 *   item     ERR_OK: settled. ERR_ABORTED: no longer this subscription's (lease ran out, partition
 *            moved, settled before): nothing was done; who holds it now is not disturbed. A
 *            delivery from before a seek is ERR_OK and moves nothing. ERR_UNIMPLEMENTED: the
 *            source has no such settlement. ERR_UNAVAILABLE: look at the effect; it may come again
 *
 * A source that keeps one position (single is false) takes DONE in any order and moves the position
 * over the contiguous prefix only; it may tell ERR_OK before the position is written, but close()
 * and MOVE_LEAVING write it. */
struct settle {
    struct op op;
    struct subscription *subscription;
    struct settlement *items;
    size_t n;      /* 1.. */
    uint32_t left; /* the backend's own */
};

struct lease {
    uint64_t token;
    struct err err; /* out: ERR_OK, or ERR_ABORTED: no longer this subscription's */
};

/* Keeps deliveries here: the lease of each begins again now. op.err as for settle. */
struct extend {
    struct op op;
    struct subscription *subscription;
    struct lease *items;
    size_t n;
    uint64_t lease_ms; /* 1..max_lease_ms */
    uint32_t left;     /* the backend's own */
};

/* ---- tickets: settlement without the subscription ----
 *
 * A ticket names one delivery to every process that reads the same source. It is bytes that clients
 * carry around, so whoever takes it trusts nothing in it: a forged one settles no more than what
 * its topic and group hold, and these are the caller's.
 *
 * A delivery is over for its tickets when it is settled, lost (MOVE_LOST), handed over anew by the
 * source, or recalled: then they settle nothing. In particular a ticket never settles a later
 * delivery of its message. A subscription that ends, or a process that dies, ends its deliveries as
 * ever; until the source has given them to somebody else their tickets may still settle them.
 *
 * The subscription that holds a delivery which a ticket has settled is told, MOVE_LOST: by
 * MOVED_BY_SETTLING where the source can say so, else by MOVED_BY_LEASE, and in any case by the
 * answer to recall, extend or settle. */

enum { TICKET_BYTES = 384 }; /* the longest */

struct ticket {
    struct slice bytes;
    /* out: ERR_OK: settled. ERR_ABORTED: the delivery is over. ERR_INVALID_ARGUMENT: it is no
     * ticket of this source. ERR_UNAVAILABLE: look at the effect */
    struct err err;
};

/* SETTLE_DONE for deliveries of whatever subscription. thread: home of the backend instance. */
struct settle_tickets {
    struct op op;
    struct slice topic, group; /* group: null for queues */
    struct ticket *items;
    size_t n; /* 1.. */
};

struct recalled {
    uint64_t token; /* in; out: that of the delivery from now on */
    struct err err; /* out: ERR_OK, or ERR_ABORTED: no longer this subscription's; it is over */
};

/* All tickets of these deliveries that were made before are void. op.err as for settle. */
struct recall {
    struct op op;
    struct subscription *subscription;
    struct recalled *items;
    size_t n; /* 1.. */
};

struct message_tickets {
    /* Of a delivery that is not settled. Returns how many bytes it wrote, at most TICKET_BYTES; 0:
     * the delivery is not there any more. */
    size_t (*make)(struct backend *, const struct subscription *, uint64_t token, uint8_t *to);
    void (*settle)(struct backend *, struct settle_tickets *);
    /* To be called before a delivery goes to somebody else without the source's knowing, before
     * RELEASE, and before anything that settling by ticket must forestall. */
    void (*recall)(struct backend *, struct recall *);
};

struct message_settling {
    bool single;           /* RETRY and RELEASE are understood, each message stands alone */
    bool delays;           /* RETRY honours delay_ms; else it comes again at once */
    bool counts_attempts;  /* `attempt` survives restarts and a change of process */
    bool release_is_free;  /* RELEASE and close() leave `attempt` as it was */
    bool fences;           /* a late settlement is refused by the source itself, also when the
                              message is with another process by now */
    uint32_t max_parked;   /* retries that wait, for each group; then settle is
                              ERR_RESOURCE_EXHAUSTED; 0 = no bound of its own */
    uint64_t max_lease_ms; /* 0: deliveries have no lease; extend is NULL */
    const struct message_tickets *tickets; /* NULL: not offered. Needs single and counts_attempts */
    void (*settle)(struct backend *, struct settle *);
    void (*extend)(struct backend *, struct extend *);
};

/* ---- for patterns ---- */

/* want is to be filled in. */
void subscription_init(struct subscription *subscription, struct worker *home,
                       const struct subscription_events *events);

/* ---- for backends: the states, kept in one place and asserted. thread: home ---- */

void subscription_opening(struct subscription *subscription, void *backend_data); /* in open */
void subscription_granted(struct subscription *subscription, uint32_t messages, uint64_t bytes);
void subscription_withdrawn(struct subscription *subscription);
void subscription_closing(struct subscription *subscription); /* in close, or when hope is gone */

static inline bool subscription_may_take(const struct subscription *subscription)
{
    return subscription->credit_messages > 0 && subscription->credit_bytes > 0;
}

static inline const void *subscription_bundle(const struct subscription *subscription)
{
    return subscription->events->bundle != NULL ? subscription->events->bundle(subscription) : NULL;
}

/* Messages are taken from the source, or asked of it, for this subscription. */
void subscription_take(struct subscription *subscription, uint32_t messages, uint64_t bytes);
/* What was asked for did not come; nothing if the credit was withdrawn meanwhile, which the backend
 * knows. */
void subscription_give_back(struct subscription *subscription, uint32_t messages, uint64_t bytes);

/* The events. Each is called from a job, never from a method. deliver: while closing, the batch is
 * released unread: the backend gives its messages back. */
void subscription_delayed(struct subscription *subscription, const char *why);
void subscription_opened(struct subscription *subscription);
void subscription_deliver(struct subscription *subscription, struct incoming_batch *batch);
void subscription_share(struct incoming_batch *batch); /* its sharers are SUB_RUNNING */
void subscription_moved(struct subscription *subscription, const struct subscription_move *move);
void subscription_gap(struct subscription *subscription, const struct subscription_gap *gap);
void subscription_closed(struct subscription *subscription, struct err err);

/* For receivers: so many messages of the batch, or sharers, are done with; the last one releases
 * it. */
void incoming_drop(struct incoming_batch *batch, uint32_t n);

#endif
