/* What the files of messaging share.
 *
 *   msglog.c    offsets to items        kept.c      one message
 *   backlog.c   what a topic's listeners have not read
 *   names.c     names to topics, streams and queues
 *   messaging.c what all of it begins and ends with; checks of items
 *   tail.c      a topic's tail, and waking those who listen to it
 *   parcel.c    a message for many of them at once
 *   wake.c      waking readers
 *   channel.c   a stream or a queue: append, retention, capacity
 *   dead.c      the dead letters of a queue
 *   delivery.c  what was taken and is not settled: places, lists, states
 *   group.c     who has what: taking, settling, order of keys
 *   batch.c     kept messages as a batch
 *   publish.c   a publish to channels       reader.c  a subscription to one: its job, credit, end
 *   topic_publish.c  a publish to topics
 *   stream.c, queue.c, topic.c   the three interfaces
 *
 * Each calls only those before it (tests/lint/circles.py): what a name stands for is made and
 * unmade by the interface that has it (struct named_kind), and a reader that is woken looks for
 * itself.
 *
 * A channel's lock covers its log, its groups and their readers, a topic's its backlog and
 * listeners; topics share theirs with some others. It is held for a frame or a batch, never across
 * an event. No two of these locks are held at once. */
#ifndef PRISM_BACKENDS_MEMSTORE_MESSAGING_H
#define PRISM_BACKENDS_MEMSTORE_MESSAGING_H

#include "backends/memstore/instance.h"
#include "backends/memstore/kept.h"
#include "backends/memstore/msglog.h"
#include "backends/queue.h"
#include "backends/stream.h"
#include "backends/topic.h"
#include "pool/timer.h"
#include "src/base/container.h"

#include <pthread.h>
#include <stdbool.h>

enum {
    MESSAGING_ITEMS = 1000,            /* of one publish */
    MESSAGING_BYTES = 64u << 20,       /* of one publish, and of one message */
    MESSAGING_LEASE_MS = 12 * 3600000, /* longest */
    MESSAGING_GROUPS = 1024,           /* of one topic */
    MESSAGING_TAIL_BYTES = 1 << 20     /* of one topic's tail, unless the settings say otherwise */
};

/* ---- names.c ---- */

struct messaging;
struct named;

/* What names are for, given by the interface that has them. */
struct named_kind {
    size_t bytes;                                           /* of the struct that begins with it */
    void (*make)(struct messaging *m, struct named *named); /* of zeroes */
    void (*unmake)(struct named *named);
    bool passes; /* it goes with its last reference, and is counted as heard until then */
};

extern const struct named_kind named_topic, named_stream, named_queue;

/* First member of what has a name, which stands behind all of it. There may be a million. */
struct named {
    struct named *next;
    const struct named_kind *kind;
    uint64_t hash;
    uint32_t refs; /* under names.lock */
    uint32_t name_len;
};

static inline struct slice named_name(const struct named *named)
{
    return slice_of((const char *)named + named->kind->bytes, named->name_len);
}

enum { NAMES_HEARD = 1 << 16, TOPIC_LOCKS = 256, TOPICS_A_LOCK = 4 };

struct names {
    pthread_mutex_t lock;
    struct named **buckets;
    size_t room, count; /* room: a power of two */
    /* How many topics' last levels there are of each short hash: written under the lock, read
     * without it.
     * Untouched pages of it take no memory. */
    _Atomic uint32_t *heard; /* [NAMES_HEARD] */
    _Atomic uint32_t topics; /* likewise, all of them */
};

void names_init(struct names *names); /* of zeroes */
void names_clear(struct names *names);

struct messaging {
    struct memstore *store;
    struct memstore_messaging config;
    struct names names;
    pthread_mutex_t topic_locks[TOPIC_LOCKS];         /* one each would be paid for each */
    uint32_t topics_made;                             /* under names.lock */
    struct counter published, refused, dropped, lost; /* any writer */
};

/* The one with this name, with a reference; made if it is missing and `create` is set. NULL: not
 * there, or there are too many names (*full). thread: any. */
struct named *names_get(struct messaging *m, const struct named_kind *kind, struct slice name,
                        bool create, bool *full);

/* What passes goes with its last reference. */
void names_put(struct messaging *m, struct named *named);

enum { NAMES_MANY = 64 };

/* Many at a time, at most NAMES_MANY: those that are there, each with a reference; else NULL. Null
 * is no name. And the other way, where NULL is nothing. thread: any. */
void names_get_many(struct messaging *m, const struct named_kind *kind, const struct slice *wanted,
                    size_t n, struct named **found);
void names_put_many(struct messaging *m, struct named *const *named, size_t n);

/* False: nobody listens to this topic, which most publishes of a multicast meet; neither a lock nor
 * the strong hash is needed for that. True: names_get knows. thread: any. */
bool names_may_be_heard(const struct messaging *m, struct slice topic);
bool names_level_may_be_heard(const struct messaging *m, struct slice level); /* null: any */

struct err names_full(void);
uint64_t names_count(struct messaging *m); /* thread: any */

/* ---- channel.c ---- */

struct channel {
    struct named named; /* first */
    struct messaging *messaging;
    bool queue;
    pthread_mutex_t lock;
    /* ---- under the lock ---- */
    struct msglog log; /* of struct kept */
    uint64_t bytes;    /* in the log */
    uint64_t last_ms;  /* timestamps never go back */
    struct group *groups;
    unsigned n_groups;
    struct msglog dead; /* queues: of struct dead_entry */
};

void channel_init(struct channel *channel, struct messaging *m, bool queue); /* of zeroes */
void channel_clear(struct channel *channel); /* it has no groups and no dead letters */

/* All that follows: under the lock. */

/* The group's hold on a message begins, or ends: with the last one its bytes are free. */
static inline void channel_hold(struct kept *kept)
{
    kept->holds++;
}
void channel_let_go(struct channel *channel, struct kept *kept);

/* The message at this offset is settled for good: queues. */
void channel_remove(struct channel *channel, int64_t offset);

/* Takes what is too old out of a stream. */
void channel_age(struct channel *channel);

/* Takes the caller's reference to a message that item is about; tells the item. */
void channel_append(struct channel *channel, struct outgoing *item, struct kept *kept);

/* The same for all items of an atomic publish: each is in, or none and the error says why. */
struct err channel_append_all(struct channel *channel, struct publish *publish, struct kept **kept);

/* What a dead letter was, behind all others. */
void channel_put_back(struct channel *channel, struct kept *kept);

struct kept *channel_kept(const struct channel *channel, int64_t offset);

/* The first offset at or behind this time; next: none. */
int64_t channel_at_time(const struct channel *channel, int64_t ms);

/* The offset to begin at. False: `at` is no offset that the channel has or will have next. */
bool channel_start(const struct channel *channel, enum stream_start start, int64_t at,
                   int64_t *offset);

/* Positions and handles are decimal numbers. False: not ours. */
bool channel_position(struct slice position, int64_t *offset);

/* ---- dead.c: under the channel's lock ---- */

struct dead_entry {
    struct kept *kept; /* with a hold */
    uint64_t died_ms;
    size_t reason_len;
    char reason[];
};

/* It gets a hold of its own. */
void dead_bury(struct channel *channel, struct kept *kept, struct slice reason);
void dead_remove(struct channel *channel, int64_t number); /* it is there */
void dead_clear(struct channel *channel);

/* ---- groups: under the channel's lock ---- */

struct reader;
struct lane;

enum delivery_state { DELIVERY_FREE, DELIVERY_READY, DELIVERY_PARKED, DELIVERY_OUT };

/* What it waits in; one that is out is in none of these, but in its holder's list. */
enum delivery_in { IN_NONE, IN_READY, IN_AGAIN, IN_FRESH };

/* Deliveries are linked by their places; 0: none. */
struct delivery_list {
    uint32_t first, last;
};

/* DELIVERY_PARKED: the retry; DELIVERY_OUT: the lease. */
struct delivery_timer {
    struct timer timer;
    struct delivery *delivery;
    union {
        struct reader *holder; /* DELIVERY_OUT */
        struct group *group;
    };
};

/* A message that was taken off the cursor and is not settled. There may be a million: what is added
 * here is paid for each. */
struct delivery {
    uint32_t older, newer; /* of the unsettled ones, by offset */
    uint32_t next, prev;   /* in its list; DELIVERY_OUT: in its holder's; next: of the free ones */
    struct delivery_timer *timer; /* NULL: it needed none */
    struct kept *kept;
    int64_t offset;
    uint32_t generation;  /* names it in tokens, with its place */
    uint32_t holder;      /* DELIVERY_OUT: the reader's number */
    uint32_t place : 20;  /* from 1 on */
    uint32_t lane : 9;    /* from 1 on: ordered groups, messages with a key; 0: none */
    uint32_t delayed : 1; /* DELIVERY_PARKED by its publisher: does not count as parked */
    uint32_t in : 2;      /* enum delivery_in */
    uint32_t attempt : 30;
    uint32_t state : 2; /* enum delivery_state */
};

struct lane_list {
    struct lane *first, *last;
};

/* Keys of one hash. While one of a lane's messages was given back, or another reader holds some of
 * them, those that follow wait here. */
struct lane {
    struct delivery_list again; /* given back, by offset: they come first */
    struct delivery_list fresh; /* by offset */
    struct reader *holder;      /* out > 0 */
    uint32_t out;
    struct lane *next, *prev;
    struct lane_list *in; /* NULL: nothing can be taken from it now */
};

struct group {
    struct group *next;
    struct channel *channel;
    char *copy;              /* of the name */
    struct slice name;       /* null: the group goes with its reader */
    int64_t cursor;          /* the first message that was never taken */
    bool stalled;            /* it stands for want of places, or of room for those that wait */
    uint32_t epoch;          /* raised by seeks */
    uint32_t oldest, newest; /* unsettled: their places, like all of deliveries' */
    uint32_t unsettled, out, parked, waiting, delayed;
    struct delivery **chunks;
    uint32_t places, free;
    struct delivery_list ready;
    struct lane *lanes; /* NULL: not ordered */
    struct lane_list ready_lanes;
    struct timer_wheel *wheel; /* NULL until a message is parked or leased */
    struct reader *readers;
    uint32_t numbers; /* given to readers so far */
};

/* What a reader gets. */
struct taken {
    struct kept *kept; /* with a reference */
    int64_t offset;
    uint64_t token;
    uint32_t attempt;
};

/* ---- delivery.c: under the channel's lock ---- */

enum {
    GROUP_LANES = 256,
    GROUP_PLACES = (1 << 20) - 1, /* deliveries of one group; what a token can name */
    LANE_BITS = (1 << 9) - 1,
    GROUP_CHUNK = 8 /* most groups have nothing out for most of the time */
};

_Static_assert(GROUP_PLACES < 1 << 20 && GROUP_LANES <= LANE_BITS,
               "they fit into a delivery's fields");
_Static_assert(GROUP_CHUNK * sizeof(struct delivery) == 448,
               "a chunk fills a class of the allocator's");

/* place: 0, of none, or one that there is. */
static inline struct delivery *delivery_at(const struct group *group, uint32_t place)
{
    if (place == 0)
        return NULL;
    return &group->chunks[(place - 1) / GROUP_CHUNK][(place - 1) % GROUP_CHUNK];
}

/* It is in no list, and not out. */
void delivery_enlist(struct group *group, struct delivery *d, enum delivery_in in);
void delivery_unlist(struct group *group, struct delivery *d);

struct delivery *lane_head(const struct group *group, const struct lane *lane);
void lane_unlist(struct lane *lane);
/* After any change of a lane: who can take its head? */
void lane_update(struct group *group, struct lane *lane);
uint32_t group_lane(const struct group *group, const struct kept *kept); /* 0: none */
struct lane *lane_at(const struct group *group, uint32_t lane);          /* NULL: none */

struct delivery *delivery_new(struct group *group, struct kept *kept, int64_t offset);
/* It is in no list and its timer is not armed. */
void delivery_free(struct group *group, struct delivery *d);
void delivery_free_all_places(struct group *group);
uint64_t delivery_token(const struct group *group, const struct delivery *d);

/* DELIVERY_OUT begins, and ends between two states. */
void delivery_hold(struct group *group, struct delivery *d, struct reader *reader);
void delivery_leave_out(struct group *group, struct delivery *d, struct reader *reader);
void delivery_make_ready(struct group *group, struct delivery *d);
void delivery_park(struct group *group, struct delivery *d, uint64_t at_ns);
/* Who arms it for one that is out says whose it is: d->timer->holder. */
void delivery_arm(struct group *group, struct delivery *d, uint64_t at_ns);
void delivery_disarm(struct group *group, struct delivery *d);

/* ---- group.c ---- */

struct group *group_find(const struct channel *channel, struct slice name);
struct group *group_new(struct channel *channel, struct slice name);
void group_destroy(struct group *group); /* takes it out of its channel */
void groups_destroy(struct channel *channel);

/* Orders by key, or stops to. No reader is there. */
void group_set_ordered(struct group *group, bool ordered);

/* All before it is settled. */
static inline int64_t group_floor(const struct group *group)
{
    const struct delivery *oldest = delivery_at(group, group->oldest);

    return oldest != NULL ? oldest->offset : group->cursor;
}

/* The cursor stands before messages only because a take has a bound. */
bool group_has_more(const struct group *group);

/* Everything taken and not settled is void; the next message is the one at `offset`. */
void group_seek(struct group *group, int64_t offset);

/* Makes due what is due. ns: the store's clock. */
void group_advance(struct group *group, uint64_t now_ns);

/* The next message for this reader; false: there is none now. */
bool group_take(struct group *group, struct reader *reader, uint64_t now_ns, struct taken *taken);

struct err group_settle(struct group *group, struct reader *reader, const struct settlement *item,
                        uint64_t now_ns);
struct err group_extend(struct group *group, struct reader *reader, uint64_t token,
                        uint64_t until_ns);

/* In the time that its own messages take, however many others hold. */
void group_give_back_all(struct group *group, struct reader *reader);

/* ns until group_advance has something to do; UINT64_MAX: nothing. */
uint64_t group_rest_ns(const struct group *group, uint64_t now_ns);

/* ---- reader.c ---- */

struct reader {
    struct subscription *subscription;
    struct memstore_instance *instance;
    struct channel *channel;
    struct job job;     /* on the home worker */
    struct timer timer; /* home */
    bool opened;        /* home: it was told */
    /* ---- under the channel's lock ---- */
    struct group *group; /* NULL: it could not be opened */
    struct reader *next; /* in group->readers */
    uint32_t number;     /* in the group */
    struct delivery_list held;
    bool queued;  /* the job is under way */
    bool waiting; /* it has credit and found nothing */
    bool closing, seeked;
    struct lane_list ready_lanes; /* lanes that it holds */
    uint64_t *lost;               /* tokens whose lease ran out, not told yet */
    size_t n_lost, lost_room;
    struct err err; /* of closed() */
    char text[192]; /* of err */
};

/* wake.c. Under the channel's lock: there is something to look at. */
void reader_wake(struct reader *reader);
void reader_wake_waiting(struct group *group);
void reader_lost(struct reader *reader, uint64_t token); /* its lease ran out: to be told */

/* reader.c */
void reader_open(struct backend *backend, struct subscription *subscription,
                 const struct named_kind *kind);
void reader_grant(struct backend *backend, struct subscription *subscription, uint32_t messages,
                  uint64_t bytes);
void reader_withdraw(struct backend *backend, struct subscription *subscription);
void reader_close(struct backend *backend, struct subscription *subscription);
void reader_settle(struct backend *backend, struct settle *settle);
void reader_extend(struct backend *backend, struct extend *extend);

/* What streams and queues have in common. */
#define CHANNEL_SINK(publish_)                                                                     \
    {                                                                                              \
        .max_items = MESSAGING_ITEMS, .max_frame_bytes = MESSAGING_BYTES,                          \
        .atomic_items = MESSAGING_ITEMS, .keyed = true, .null_payload = true,                      \
        .null_header_values = true, .binary_headers = true, .many_topics = true,                   \
        .ack_means = "the message is in this process's memory: it survives its readers, not a "    \
                     "restart",                                                                    \
        .check_topic = messaging_check_topic, .publish = (publish_)                                \
    }
#define CHANNEL_SOURCE(open_)                                                                      \
    {                                                                                              \
        .keyed = true, .never_drops = true, .open = (open_), .grant = reader_grant,                \
        .withdraw = reader_withdraw, .close = reader_close                                         \
    }
#define CHANNEL_SETTLING                                                                           \
    {                                                                                              \
        .single = true, .delays = true, .counts_attempts = true, .release_is_free = true,          \
        .fences = true, .max_lease_ms = MESSAGING_LEASE_MS, .settle = reader_settle,               \
        .extend = reader_extend                                                                    \
    }

/* ---- a batch of kept messages ---- */

/* n: 1..BATCH_MESSAGES. Takes the references over. The topic stands for those of the messages,
 * which may share what is kept with other topics'; empty: they have their own. */
struct incoming_batch *kept_batch(const struct taken *taken, size_t n, struct slice topic);

/* ---- publish.c ---- */

void channel_publish(struct backend *backend, struct publish *publish,
                     const struct named_kind *kind);

/* ---- a publish, item by item (messaging.c) ---- */

/* What can be told of an item without looking at its topic. */
struct err messaging_check(const struct outgoing *item);

/* The item's outputs, before there is an outcome. */
void messaging_forget(struct outgoing *item);

/* How many items from `from` on, at most `most`, are sound and go to the same topic. */
size_t messaging_run(const struct publish *publish, size_t from, size_t most);

struct err messaging_check_topic(struct slice topic);

/* Ends an operation of the instance. */
void messaging_end(struct backend *backend, struct op *op, struct err err);

static inline struct messaging *messaging_of(const struct backend *backend)
{
    return CONTAINER_OF(backend->store, struct memstore, base)->messaging;
}

struct messaging *messaging_new(struct memstore *store, const struct memstore_messaging *config);
void messaging_destroy(struct messaging *m);

#endif
