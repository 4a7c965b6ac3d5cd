/* The messages of one topic and group on their way: one subscription of the backend for the whole
 * process, whose messages are dealt out to the members.
 *
 *            batch            lane free          a member has room
 *   source ---------> WAITING ---------> READY -------------------> OUT
 *                                          ^                         |  acknowledged, rejected
 *            delay over, member left,      |                         v
 *            released                      +------- PARKED <----- SETTLING ---> OVER
 *
 * READY   bounded by the credit, which follows the room of the members
 * ARRIVING before WAITING: its attempts are being looked up (attempts.h)
 * FETCHING between READY and READY: its payload is got from the object store (object.h)
 * PARKED  a retry that waits here and not in the source: order per key, or a source that cannot
 *         delay. Holds no credit and no room of a member
 * DYING   on its way to the dead letters
 * RECALLING before READY or DYING: a client has a token of it, which is made void (recall.c)
 *
 * A partition that leaves (MOVE_LEAVING) takes with it what no member has. What members have can be
 * settled until it is lost; what comes back from them meanwhile leaves as well, so that nothing of
 * a key is delivered here behind a message that another process may have by then.
 *
 * thread: the feed's home worker, which is that of the member who came first. */
#ifndef PRISM_PATTERNS_CONSUMER_FEED_H
#define PRISM_PATTERNS_CONSUMER_FEED_H

#include "patterns/consumer/consumer_priv.h"
#include "patterns/messaging/lanes.h"
#include "patterns/messaging/packed.h"
#include "pool/op.h"

enum {
    FEED_BUCKETS = 64, /* of lanes: at first, and at most */
    FEED_MAX_BUCKETS = 16384,
    FEED_MAX_WAITING = 4096,
    FEED_LETTERS_MS = 2000,   /* so long the end waits for dead letters that are on their way */
    FEED_MOST_READY = 4096,   /* what no member has yet: a source may be faster than they read */
    FEED_AS_THEY_CAME = 8192, /* so many members may have before what they get is packed */
    FEED_PACKS_ALL = 16384    /* ... and before what they got earlier is, by and by */
};

enum delivery_state {
    DELIVERY_ARRIVING,
    DELIVERY_WAITING,
    DELIVERY_READY,
    DELIVERY_FETCHING,
    DELIVERY_RECALLING,
    DELIVERY_OUT,
    DELIVERY_SETTLING,
    DELIVERY_PARKED,
    DELIVERY_DYING,
    DELIVERY_OVER
};

struct claim;
struct receipt;
struct ledger;
struct object;
struct parcel;

/* What most deliveries never need. In the parcel's memory, once it is needed. */
struct delivery_more {
    struct delivery *delivery;
    struct timer timer;           /* PARKED, FETCHING, DYING */
    struct claim *claim;          /* NULL: its payload is in the message */
    struct object *object;        /* its payload, or what becomes it; NULL: not fetched */
    uint64_t expires_ns, most_ns; /* OUT: end of the lease, and of all extensions; 0: none */
    const char *dying_of;         /* DYING, and it could not be written at once; RECALLING */
    uint32_t deliveries;          /* likewise: that were made */
    struct receipt *receipt;      /* RECALLING, to die: NULL, or who is told; entered */
    uint8_t vain;                 /* FETCHING: how often its object was asked for in vain */
    bool dies, in_front;          /* RECALLING: what comes next */
    bool dead;                    /* SETTLING: it has its dead letter, or was dropped */
    bool recall_sent;
};

/* A message that is not settled. There may be as many as clients allow to be in flight: what is
 * added here is paid for each. */
struct delivery {
    struct delivery *next; /* in what it waits in */
    struct member *member; /* OUT, SETTLING; NULL: it left */
    uint32_t sequence;     /* the low half of it: member_sequence */
    uint8_t index;         /* in its parcel, and of its message in the batch */
    uint8_t state : 4;     /* enum delivery_state */
    uint8_t returns : 4;   /* without having failed */
    uint16_t behind : 11;  /* its parcel, in words of 8 bytes */
    uint16_t more : 1;     /* there is a delivery_more of it */
    uint16_t laned : 1;    /* a laned_delivery */
    uint16_t leaving : 1;  /* with its partition: nobody here gets it any more */
    uint16_t untold : 1;   /* it has failed, and the source does not know of that */
    uint16_t ticketed : 1; /* a client may have a token that settles it */
};

_Static_assert(sizeof(struct delivery) == 24 && BATCH_MESSAGES <= UINT8_MAX, "as small as it is");

/* One that keeps an order. */
struct laned_delivery {
    struct delivery base; /* first */
    struct lane_item lane;
};

/* A batch and its deliveries: with lanes where the feed keeps an order. The batch goes once it is
 * packed, which it is when all of its messages are written and clients take their time. */
struct parcel {
    struct parcel *next, **at;
    struct feed *feed;
    struct arena memory;          /* holds this struct */
    struct incoming_batch *batch; /* NULL: it is packed */
    struct block *packed;         /* NULL: it is not */
    struct incoming *messages;    /* of the batch, or made again; NULL: packed, by message_of */
    struct arena again;           /* messages that were made again */
    struct delivery_more **more;  /* by index; NULL: none has any */
    size_t bytes;                 /* of the batch */
    size_t stride;                /* from one to the next */
    uint32_t n;                   /* deliveries */
    uint32_t left;                /* of them: not over */
    uint32_t holds;               /* frames, dead letters and others that read its messages */
    bool claims;                  /* one of the payloads is elsewhere */
    bool peeked;                  /* they were made again to be read, and are as they were packed */
    struct delivery first[];
};

enum { PARCEL_WORD = 8, PARCEL_MOST_WORDS = (1 << 11) - 1 };

_Static_assert(sizeof(struct parcel) + BATCH_MESSAGES * sizeof(struct laned_delivery) <
                   PARCEL_MOST_WORDS * PARCEL_WORD,
               "each delivery of a parcel can say where that begins");

/* How far the group is behind, and whether the source stands still: watch.c. */
struct feed_watch {
    struct timer timer;
    struct op_group group;
    struct arena memory;                    /* of the question and its answer */
    uint64_t every_ms;                      /* between looks */
    bool asking, moved, suspected, stalled; /* moved: messages came since the last look */
    bool could_move;                        /* at the last look: it had credit, and nothing came */
    uint64_t lag;                           /* as the source told it last; 0: it never did */
    const char *delayed_by;                 /* before the source began, as it told; NULL: nothing */
};

/* What the topic's retention does to unread messages: retention.c. */
struct feed_retention {
    struct op_group group;
    struct arena memory; /* of the question and its answer */
    bool asked;
    bool first; /* the feed begins with the answer */
};

/* Deliveries that wait to be recalled: recall.c. */
struct recalls {
    struct delivery *first, **end;
    size_t n;
    bool under_way;
    struct timer timer; /* until the next try */
};

struct feed {
    struct subscription subscription;
    struct consumer *consumer; /* at home */
    struct backend *backend;
    const struct origin *from; /* of the plan: what the backend offers now */
    struct arena memory;       /* holds this struct */
    struct op_group group;     /* what outlives calls */
    struct op_group gets;      /* of payloads */
    struct op_group tallies;   /* of attempts */
    struct ledger *ledgers;    /* likewise; by partition */
    struct slice topic, group_name;
    struct slice dead_topic; /* null: dead letters go nowhere */
    enum feed_order order;
    bool shared;
    bool letters;             /* it reads dead letters */
    struct feed *next_shared; /* under the lock of shared.c, with refs */
    unsigned refs;
    bool hidden;
    struct feed *next, **at; /* consumer->feeds */

    struct member *members, **members_end; /* in turns */
    struct parcel *parcels;                /* the newest first */
    struct parcel *not_packed;             /* all older ones have been packed or looked at */
    struct delivery *ready, **ready_end;
    size_t ready_count, parked_count, out_count;
    size_t dying; /* dead letters on their way, what is being settled after that, or dropped, and
                     what is being recalled before */
    struct delivery *claims, **claims_end; /* whose payloads wait for room */
    struct recalls recalls;
    size_t fetching, getting; /* payloads: all, and those that are being asked for */
    uint64_t object_bytes;    /* of `held`: payloads */
    struct lanes lanes;
    uint64_t held;             /* bytes of batches */
    uint64_t counted;          /* held and granted, as consumer->held has it */
    bool full;                 /* it holds max_group_bytes */
    bool starved;              /* the worker holds max_message_memory */
    struct feed_place *places; /* at which it begins, before it is opened */
    size_t n_places, next_place;
    struct stream_seek *seek; /* NULL: without places */
    int32_t *assigned;        /* partitions, ascending; since the first came, they are told */
    size_t n_assigned;
    struct arena assigned_memory;
    bool tells_assigned, begun; /* begun: the source knows the subscription */
    bool opening, opened, draining, closing, closed, queued, going;
    struct err end;              /* of a feed that ended by itself; its text is in `memory` */
    struct timer leases, frames; /* frames: that were held back */
    uint64_t frames_at_ns;
    struct timer ending; /* going: dead letters are waited for */
    struct job turn;
    struct feed_watch watch;
    struct feed_retention retention;
    uint64_t dead_lettered, redelivered, settled;
    uint64_t last_settled_ms;
};

_Static_assert(sizeof(struct feed) <= 1504, "with its names it fills a class of the allocator's");

/* thread: any; what is in `want` is copied. */
struct feed *feed_new(struct consumer *consumer, const struct feed_want *want);

/* Dead letters wait until somebody settles or redrives them. 0: no bound. */
static inline uint32_t feed_max_attempts(const struct feed *feed)
{
    return feed->letters ? 0 : feed->consumer->settings.max_attempts;
}

/* The first member is there. */
void feed_open(struct feed *feed);
/* The last one has left. */
void feed_close(struct feed *feed);

/* It ended by itself, or before it had begun. ERR_OK: as it was asked to. */
void feed_ended(struct feed *feed, struct err err);

/* Something has changed: deals, tells and grants, in a job of its own. */
void feed_wake(struct feed *feed);

/* Nothing more is fetched. */
void feed_drain(struct feed *feed);

/* ---- deal.c ---- */

/* To members who have room, and news to those who have any. */
void feed_deal(struct feed *feed);

/* ---- watch.c ---- */

/* From the opening to the end. begins: the source has. */
void feed_watch(struct feed *feed);
void feed_watch_begins(struct feed *feed);
void feed_watch_end(struct feed *feed);
/* Messages have come. */
void feed_watch_moves(struct feed *feed);
/* Why it is stalled; static. NULL: it is not. */
const char *feed_stalled(const struct feed *feed);
/* Messages that wait and nobody holds, as the answer tells; 0 where that is not known. */
uint64_t feed_waiting(const struct stream_position *position);

/* ---- retention.c ---- */

void feed_retention_init(struct feed *feed);
/* Asks the source, once, and names in the log and the capabilities what may remove messages. */
void feed_retention_ask(struct feed *feed);
/* strict_retention: true, and the feed goes on, or ends, with the answer. */
bool feed_retention_is_first(struct feed *feed);

/* ---- moves.c ---- */

/* An event of the source (subscription.h). */
void feed_moved(struct subscription *subscription, const struct subscription_move *move);

/* ---- places.c ---- */

struct frame;

void feed_copy_places(struct feed *feed, const struct feed_want *want);
/* Moves the group to them, then calls feed_begin, or feed_ended. */
void feed_go_to_places(struct feed *feed);
void feed_begin(struct feed *feed); /* feed.c */
/* To the places, where there are any, and begins. */
void feed_go(struct feed *feed); /* feed.c */

void feed_partitions_moved(struct feed *feed, const struct subscription_move *move);
void feed_tell_assigned(const struct feed *feed, struct frame *frame);

/* ---- delivery.c ---- */

void feed_take_batch(struct feed *feed, struct incoming_batch *batch);

/* Nothing of its lane is under way: it is ready. */
void delivery_lane_free(struct lane_item *item);

/* Its attempts are known. */
void delivery_arrived(struct delivery *delivery);

static inline struct delivery *parcel_at(struct parcel *parcel, uint32_t i)
{
    return (struct delivery *)(void *)((char *)parcel->first + i * parcel->stride);
}

static inline struct parcel *parcel_of(const struct delivery *delivery)
{
    return (struct parcel *)((uintptr_t)delivery - delivery->behind * (size_t)PARCEL_WORD);
}

/* Makes its messages again. */
void parcel_open(struct parcel *parcel);
/* Who only reads leaves them packed: parcel_shut comes before anything else. */
const struct incoming *message_peek(struct delivery *delivery);
void parcel_shut(struct parcel *parcel);

static inline struct incoming *message_of(const struct delivery *delivery)
{
    struct parcel *parcel = parcel_of(delivery);

    if (parcel->messages == NULL)
        parcel_open(parcel);
    return &parcel->messages[delivery->index];
}

/* What can be told of a packed message as it is. */
static inline uint64_t delivery_token(const struct delivery *delivery)
{
    const struct parcel *parcel = parcel_of(delivery);

    return parcel->messages == NULL ? packed_token(parcel->packed, delivery->index)
                                    : parcel->messages[delivery->index].token;
}

static inline int64_t delivery_offset(const struct delivery *delivery)
{
    const struct parcel *parcel = parcel_of(delivery);

    return parcel->messages == NULL ? packed_offset(parcel->packed, delivery->index)
                                    : parcel->messages[delivery->index].offset;
}

static inline uint32_t delivery_attempt(const struct delivery *delivery)
{
    const struct parcel *parcel = parcel_of(delivery);

    return parcel->messages == NULL ? packed_attempt(parcel->packed, delivery->index)
                                    : parcel->messages[delivery->index].attempt;
}

/* How many deliveries were made of what fails before the one that `attempt` numbers. */
static inline uint32_t delivery_made_before(const struct delivery *delivery)
{
    uint32_t attempt = delivery_attempt(delivery);

    return attempt > 0 ? attempt - 1 : 0;
}

static inline size_t delivery_bytes(const struct delivery *delivery)
{
    const struct parcel *parcel = parcel_of(delivery);

    return parcel->messages == NULL ? packed_bytes(parcel->packed, delivery->index)
                                    : message_in_bytes(&parcel->messages[delivery->index]);
}

static inline int32_t delivery_partition(const struct delivery *delivery)
{
    const struct parcel *parcel = parcel_of(delivery);

    return parcel->messages == NULL ? packed_partition(parcel->packed)
                                    : parcel->messages[delivery->index].partition;
}

/* NULL: it keeps no order. */
static inline struct lane_item *lane_item_of(struct delivery *delivery)
{
    return delivery->laned ? &((struct laned_delivery *)delivery)->lane : NULL;
}

/* NULL: there is nothing of it. */
static inline struct delivery_more *more_of(const struct delivery *delivery)
{
    return delivery->more ? parcel_of(delivery)->more[delivery->index] : NULL;
}

/* Makes it where there is nothing of it. */
struct delivery_more *delivery_more(struct delivery *delivery);

static inline struct claim *claim_of(const struct delivery *delivery)
{
    const struct delivery_more *more = more_of(delivery);

    return more != NULL ? more->claim : NULL;
}

static inline struct object *object_of(const struct delivery *delivery)
{
    const struct delivery_more *more = more_of(delivery);

    return more != NULL ? more->object : NULL;
}

/* To the next member with room. In front: before what came later. */
void delivery_ready(struct delivery *delivery, bool in_front);
struct delivery *feed_next_ready(struct feed *feed);
/* False: max_parked wait already. */
bool delivery_can_wait(const struct delivery *delivery, uint64_t delay_ms);
/* One more attempt of it has failed. */
void delivery_failed(struct delivery *delivery);
/* The same, and nobody has said so: its member vanished, or let its lease run out. It comes again
 * at once, or, if that was its last attempt, dies for this reason. No member has it. */
void delivery_failed_unsaid(struct delivery *delivery, const char *reason);
/* It failed, and comes again here after the delay. No member has it, and it can wait. */
void delivery_set_aside(struct delivery *delivery, uint64_t delay_ms);
/* It comes again at once, and it was no attempt. One that returns again and again waits for longer
 * each time, up to half a second: meanwhile others have its room. */
void delivery_give_way(struct delivery *delivery);
/* This is the last attempt of it. */
bool delivery_is_last(const struct delivery *delivery);
/* Its partition leaves: the source gives it to whoever gets the partition. */
void delivery_hand_back(struct delivery *delivery);
/* Out of what it waits in: its lane, parked, for its payload, or to be written as a dead letter.
 * False: it does not, or cannot be taken out now. */
bool delivery_take_out(struct delivery *delivery);
/* It is settled, or no longer ours. */
void delivery_over(struct delivery *delivery);
/* All that is held is forgotten: the source has it back. */
void feed_forget(struct feed *feed);

/* Its messages are read, or changed. With the last hold they may be packed again. */
void parcel_hold(struct parcel *parcel);
void parcel_unhold(struct parcel *parcel);

/* ---- recall.c ---- */

/* False: no client has a token of it, and it can go on. Else it goes on, the same way, once that is
 * void. */
bool recall_before_ready(struct delivery *delivery, bool in_front);
bool recall_before_death(struct delivery *delivery, const char *reason, struct receipt *receipt);
void recall_pump(struct feed *feed);
/* False: the source is being asked, and its own outcome tells. */
bool recall_take_out(struct delivery *delivery);
/* None waits. */
void recall_forget(struct recalls *recalls);

/* ---- dead.c ---- */

/* The identifier of a redriven message, where the sink would take it for a duplicate under its own.
 */
#define REDRIVEN_ID "prism-message-id"

/* As the producer had it, also behind a dead letter; not text, as a rule. */
struct slice feed_message_id(const struct feed *feed, const struct incoming *message);

/* It cannot be delivered: publishes a dead letter, then settles it; without a slot for dead letters
 * it is dropped, counted and logged, and so is one whose letter that slot refuses for good. With a
 * receipt the outcome is told there and a failure leaves the delivery as it was; without one it is
 * tried until it succeeds. deliveries: that were made, which its letter tells. reason: copied. */
void delivery_die(struct delivery *delivery, uint32_t deliveries, const char *reason,
                  struct receipt *receipt);

#endif
