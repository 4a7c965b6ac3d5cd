/* Streams and queues on redis' streams. All of it belongs to the worker.
 *
 *   redis_append.c    XADD for a frame; redis_whole.c: for one that is all or none; redis_items.c
 *   redis_scatter.c   a frame whose topics are on several nodes of a cluster
 *   redis_entry.c     messages as fields of entries, and back; batches
 *   redis_naming.c    names and keys of topics, and errors
 *   redis_reader.c    a subscription: what it does next (redis_work.c: those who work for it wake
 *                     it and call; redis_tell.c: what it tells;
 *                     redis_enter.c, redis_recover.c: where it stands; redis_fetch.c: new messages;
 *                     redis_claim.c: what others have given back or left behind;
 *                     redis_oldest.c: waiting for that, before anything newer is taken)
 *   redis_order.c     order by key: what waits; redis_retake.c: and is taken again
 *   redis_held.c      what a subscription has taken and not settled; redis_due.c: for a time
 *   redis_give.c      giving back
 *   redis_settle.c    settlements, leases
 *   redis_ticket.c    settlements by ticket, whoever holds the delivery
 *   redis_watch.h     the connections that wait for new entries: redis_watch.c, redis_wait.c,
 *                     redis_join.c
 *   redis_place.c     where groups stand: describe, position, seek
 *   redis_queue.c     queues on the same code
 *   redis_script.c    what has to be one step for redis
 *   redis_trim.c      what is removed
 *
 * Files call downward only (tests/lint/circles.py): redis_reader.c those that take and give back,
 * and these know the reader by redis_work.c and redis_tell.c.
 *
 * Two connections for each worker: `shared` has all commands, each of which is answered at once;
 * a watch has one XREAD BLOCK for all topics whose readers have got everything there is, and so
 * stands in nobody's way. What comes on it only wakes readers: they take messages by XREADGROUP,
 * within their credit.
 *
 * In a cluster each topic belongs to the node that has its slot, and so do the keys of ours that
 * scripts use beside it, which carry a hash tag of that slot. An XREAD cannot ask for keys of
 * several slots: each hash tag has a watch of its own, REDIS_WATCHES at most, and readers of topics
 * beyond look for themselves every POLL_MS.
 *
 * A delivery is redis' own pending entry: owned by the subscription's consumer name, kept alive by
 * XCLAIM JUSTID, counted by redis. What is given back (released, retried, a lease that ran out, the
 * end of a subscription) goes to a consumer that is nobody, REDIS_NOBODY, idle for a day, and a
 * note in the stream <key_prefix>:wake (in a cluster <key_prefix>:wake:{tag}) tells all processes.
 * There XAUTOCLAIM finds it, and what a process that has died had taken as well. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_STREAM_H
#define PRISM_BACKENDS_REDIS_REDIS_STREAM_H

#include "backends/queue.h"
#include "backends/redis/redis_cluster.h"
#include "backends/redis/redis_held.h"
#include "backends/stream.h"

extern const struct stream redis_stream;
extern const struct queue redis_queue;
extern const struct backend_type backend_redis_stream_cluster;

#define REDIS_NOBODY      "prism:nobody"
#define REDIS_QUEUE_GROUP "prism:queue" /* the one group of a queue */
#define REDIS_QUEUE_SIZES "bytes"       /* a hash of ours: how much is in each queue */
#define REDIS_NOTE_ASK    "who"         /* what a note says that asks */

enum {
    REDIS_STREAM_ITEMS = 1000,
    REDIS_STREAM_FRAME_BYTES = 64 << 20,
    REDIS_STREAM_MESSAGE_BYTES = 32 << 20,
    REDIS_STREAM_HOLD_BYTES = 16 << 20, /* that a reader keeps beyond its credit, and a message */
    REDIS_STREAM_PARKED = 65536,        /* of one subscription */
    REDIS_STREAM_LEASE_MS = 24 * 3600 * 1000,
    REDIS_NOBODY_IDLE_MS = 24 * 3600 * 1000,
    REDIS_STEP_IDS = 500, /* of one script, so that it is short */
    REDIS_WATCHES = 256,  /* connections of one worker that wait, in a cluster */
};

/* ---- the interfaces ---- */

#define REDIS_STREAM_SINK(publish_)                                                                \
    {                                                                                              \
        .max_items = REDIS_STREAM_ITEMS, .max_frame_bytes = REDIS_STREAM_FRAME_BYTES,              \
        .max_message_bytes = REDIS_STREAM_MESSAGE_BYTES, .atomic_items = REDIS_STREAM_ITEMS,       \
        .keyed = true, .binary_headers = true, .many_topics = true,                                \
        .ack_means = "redis has added the message to the stream; whether that is on disk is what " \
                     "`acknowledgement` says, and replicas follow later",                          \
        .check_topic = redis_stream_check_topic, .publish = (publish_)                             \
    }

#define REDIS_STREAM_SETTLING(tickets_)                                                            \
    {                                                                                              \
        .tickets = (tickets_), .single = true, .delays = true, .counts_attempts = true,            \
        .release_is_free = true, .fences = true, .max_parked = REDIS_STREAM_PARKED,                \
        .max_lease_ms = REDIS_STREAM_LEASE_MS, .settle = redis_stream_settle,                      \
        .extend = redis_stream_extend                                                              \
    }

void redis_stream_describe(struct backend *backend, struct stream_describe *describe);
void redis_stream_position(struct backend *backend, struct stream_position *position);
void redis_stream_seek(struct backend *backend, struct stream_seek *seek);
/* A number, or decimal digits: redis answers both. */
int64_t redis_count_of(const struct redis_node *node);

/* ---- names and errors (redis_naming.c), appending (redis_append.c) ---- */

struct err redis_stream_check_topic(struct slice topic);
/* Also that it is none of Prism's own keys. */
struct err redis_stream_check_name(const struct redis *redis, struct slice topic);
struct err redis_stream_error(struct arena *arena, struct slice reply);
void redis_stream_publish(struct backend *backend, struct publish *publish);

/* All items or none (redis_whole.c). */
void redis_publish_whole(struct redis *redis, struct publish *publish, bool bounded);

/* ---- what is appended (redis_items.c) ---- */

enum { REDIS_PUSH_BYTES = 3072 }; /* of the script, about */

/* most: bytes that its queue may hold, as the script counts them; 0: any number. */
struct err redis_item_check(const struct redis *redis, const struct outgoing *item, uint64_t most);
void redis_item_forget(struct outgoing *item);
/* A bound by its number in the script's answer. */
struct err redis_queue_full(int64_t bound);
void redis_say_add(struct redis_call *call, const struct outgoing *item);
/* Of one queue. whole: all or none. */
void redis_say_push(struct redis_call *call, struct outgoing *const *items, uint32_t n, bool whole);
void redis_queue_publish(struct backend *backend, struct publish *publish);
/* n valid ones, by topic; `each` publishes those of one. */
void redis_scatter(struct backend *backend, struct publish *publish, struct outgoing **order,
                   uint32_t n, void (*each)(struct backend *, struct publish *));

/* ---- trimming (redis_trim.c) ---- */

/* Now and then, as many messages were appended to the topic. */
void redis_trim(struct redis *redis, struct slice topic, uint32_t appended);

/* ---- entries and batches (redis_entry.c) ---- */

size_t redis_entry_bytes(const struct outgoing *item); /* of its command, about */
size_t redis_entry_size(const struct outgoing *item);  /* of its words: what bounds count */
unsigned redis_entry_words(const struct outgoing *item);
void redis_entry_put(struct redis_call *call, const struct outgoing *item);

/* Asks for the newest entry of a stream. */
void redis_say_newest(struct redis_call *call, struct slice key);

struct redis_reader;

/* Entries of one answer, as messages; handed over in one batch or several. */
struct redis_fetched {
    struct arena arena;
    unsigned batches; /* not released, and one while the reader has it */
    struct incoming *items;
    uint32_t *bytes; /* of each */
    uint32_t n, room, next;
    size_t total;
    /* Of the entry that is being read. */
    struct incoming *item;
    struct header *headers;
    struct slice topic, name;
    unsigned part, taken; /* of enum part in redis_entry.c; taken: a bit for each */
};

struct redis_fetched *redis_fetched_new(struct slice topic, uint32_t room);
/* For each entry: its identifier, how many words its fields have, each of these. */
void redis_fetched_entry(struct redis_fetched *fetched, struct redis_id id, uint64_t token);
void redis_fetched_fields(struct redis_fetched *fetched, size_t words);
void redis_fetched_word(struct redis_fetched *fetched, size_t index, struct slice word);
/* Up to one batch within the credit, or NULL. */
struct incoming_batch *redis_fetched_take(struct redis_fetched *fetched,
                                          struct subscription *subscription);
void redis_fetched_drop(struct redis_fetched *fetched); /* the reader's reference */

/* ---- readers (redis_reader.c, redis_work.c) ---- */

struct redis_streams;
struct redis_watch;

/* Deliveries that are no longer its own. */
struct redis_lost {
    uint64_t *tokens;
    size_t n, room;
};

struct redis_reader {
    struct redis_reader *next, **at; /* in streams->readers */
    struct redis_streams *streams;
    unsigned slot;             /* of the key, in a cluster */
    const struct redis *was;   /* whom it talked to last; not to be followed */
    struct slice notes;        /* the key that tells of its topic; in `texts` */
    struct slice sizes;        /* likewise: where a queue's bytes are counted; null: they are not */
    struct redis_watch *watch; /* NULL: it looks for itself */
    struct subscription *subscription;
    bool queue, alone;                 /* alone: it has no group, and one of its own here */
    struct redis_order *order;         /* NULL: order by key is not asked for */
    struct slice key, group, consumer; /* in `names` */
    char *names;

    struct job job;
    bool landed;
    struct timer timer;
    unsigned calls; /* under way for it */
    bool busy;      /* one of them decides what comes next */
    bool entered;   /* the group is there; false: that has to be looked at (again) */
    bool entered_once, told, closing, leaving, ended;
    bool stands;        /* a queue for which redis has no room yet: it is as good as empty */
    struct err err;     /* why it ends */
    struct arena texts; /* err's */

    /* what comes next */
    bool want_fetch, want_claim, swept, recovers;
    bool invited;   /* to claim from the start, since the pass that is under way began */
    bool want_tail; /* fetching asks where the stream ends */
    bool waiting;   /* all that there is was fetched: redis_wait.c looks for more */
    uint64_t check_ns, claim_ns, tend_ns, again_ns;
    uint64_t keep_ns;         /* when redis is to be told again of what is held; 0: nothing is */
    struct redis_id seen;     /* all up to here is with somebody of the group */
    struct redis_id last;     /* the highest that was fetched; {0}: none since the last seek */
    struct redis_id woken;    /* what ended the waiting */
    struct redis_id claim_at; /* where claiming goes on */
    struct redis_id recover_at;
    uint32_t most, asked;      /* messages that may be asked for at once, and were */
    uint64_t largest;          /* bytes of recent messages */
    bool oldest_first;         /* redis_oldest.c comes before all that takes */
    uint64_t oldest_ns;        /* when it looked first; 0: it has not */
    unsigned looks;            /* for an answer to who holds what it waits for */
    uint64_t idlest_ms;        /* the least idle of those that it waits for */
    struct redis_id oldest_at; /* where its look goes on */
    unsigned rewound;          /* seeks that were seen before they were told */

    /* of the answer that is being read */
    uint64_t sent_ns;
    bool skips; /* the entry is not taken */
    size_t section;
    uint32_t counted;
    enum err_code refused; /* ERR_OK: no error */
    bool no_group, absent;
    int64_t missing;
    struct redis_id missing_from, goes_on_at;

    struct redis_holds holds;
    uint64_t tickets;              /* that were made */
    bool void_tickets;             /* all of them are to be void */
    struct slice voids;            /* the key that says which are void; in `texts`; null: none is */
    struct redis_fetched *fetched; /* being read, or not all handed over */

    /* what is to be told */
    bool void_all;
    enum move_reason reason;
    struct redis_lost lost, settled; /* the latter by tickets */
    struct redis_lost doubted;       /* redis is asked at once whether they are its own */
    bool gap;
    uint64_t gap_count;
    const char *gap_text;
};

void redis_reader_wake(struct redis_reader *reader);
/* Somebody of its group has given something back. */
void redis_reader_invite(struct redis_reader *reader);
/* Somebody of its group asks who lives: redis is told at once of all that is held. */
void redis_reader_speak(struct redis_reader *reader);
/* Calls come at due_ns the latest. */
void redis_reader_due(struct redis_reader *reader, uint64_t due_ns);

/* A call of its own; every end of one goes by redis_reader_answered. busy: it decides what comes
 * next. */
struct redis_call *redis_reader_call(struct redis_reader *reader, const struct redis_kind *kind,
                                     bool busy);
void redis_reader_answered(struct redis_reader *reader, bool busy);
void redis_reader_lost(struct redis_call *call, struct err why); /* kind.lost of a busy call */
void redis_reader_refused(struct redis_reader *reader, struct slice error);

/* No hope. */
void redis_reader_end(struct redis_reader *reader, struct err err);

/* ---- what it tells (redis_tell.c) ---- */

/* Events may close the subscription. */
void redis_reader_tell(struct redis_reader *reader);
/* All deliveries are void: to be told. */
void redis_reader_void(struct redis_reader *reader, enum move_reason reason);
void redis_reader_seeked(struct redis_reader *reader);
/* One is no longer its own: to be told. */
void redis_reader_tell_lost(struct redis_reader *reader, const struct redis_held *held);
/* ... and let go of. */
void redis_reader_lose(struct redis_reader *reader, struct redis_held *held);
void redis_reader_gap(struct redis_reader *reader, uint64_t count, const char *text);

/* 0: no time. */
static inline uint64_t redis_earlier(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static inline uint64_t redis_reader_now(const struct redis_reader *reader)
{
    return reader->subscription->home->now_ns;
}

/* A new connection. */
void redis_reader_connected(struct redis_reader *reader);
void redis_reader_open(struct backend *backend, struct subscription *subscription, bool queue);
void redis_stream_grant(struct backend *backend, struct subscription *subscription,
                        uint32_t messages, uint64_t bytes);
void redis_stream_withdraw(struct backend *backend, struct subscription *subscription);
void redis_stream_close(struct backend *backend, struct subscription *subscription);

/* ---- taking (redis_enter.c, redis_fetch.c, redis_claim.c, redis_oldest.c) ---- */

void redis_enter(struct redis_reader *reader);
void redis_fetch(struct redis_reader *reader);
void redis_claim(struct redis_reader *reader);
void redis_recover(struct redis_reader *reader);
void redis_oldest(struct redis_reader *reader);
/* How many messages may be asked for. */
uint32_t redis_may_ask(const struct redis_reader *reader);
/* All of an answer has come: what is not to be kept goes back. */
void redis_taken(struct redis_reader *reader);
/* kind.lost of those that take. */
void redis_taking_lost(struct redis_call *call, struct err why);
/* For each node of an answer; depth: of its entries. */
void redis_take_entry(struct redis_reader *reader, const struct redis_node *node, unsigned depth);

/* What a stream begins with for this want: the identifier that the group stands at, and the
 * position to be checked (or empty). */
struct err redis_start_id(enum stream_start start, int64_t at, struct slice position,
                          char text[REDIS_ID_BYTES], struct slice *checked);

/* ---- holding and giving back (redis_give.c, redis_settle.c) ---- */

enum redis_give {
    GIVE_REFUSED, /* what could not even be kept */
    GIVE_UNREAD,  /* and what was not handed over */
    GIVE_ALL
};

uint64_t redis_claim_idle_ns(const struct redis_reader *reader);
/* When redis is to be told again that it is held. */
uint64_t redis_keep_due(const struct redis_reader *reader, const struct redis_held *held);
/* Redis is asked at once whether it is this reader's still. */
void redis_reader_doubt(struct redis_reader *reader, const struct redis_held *held);
/* It is kept, and its time is looked after. */
void redis_reader_holds(struct redis_reader *reader, const struct redis_held *held);
void redis_give_back(struct redis_reader *reader, enum redis_give which);
/* The other readers of the group are to look for it. */
void redis_given(struct redis_reader *from);
/* Leases, retries, and word to redis that the rest is still held. */
void redis_tend(struct redis_reader *reader);
/* Gives all back and lets go of the name; ends in redis_reader_answered. */
void redis_reader_leave(struct redis_reader *reader);
/* Three words of redis_script_give. */
void redis_say_given(struct redis_call *call, const struct redis_held *held, uint32_t attempts,
                     uint64_t idle_ms);
void redis_say_give(struct redis_call *call, const struct redis_reader *reader, unsigned n);
void redis_stream_settle(struct backend *backend, struct settle *settle);
void redis_stream_extend(struct backend *backend, struct extend *extend);

/* ---- tickets (redis_ticket.c) ---- */

extern const struct message_tickets redis_tickets;

/* None of the reader's settles anything from now on. */
void redis_ticket_void_all(struct redis_reader *reader);
/* Somebody says that a ticket has settled the entry. */
void redis_ticket_noted(struct redis_reader *reader, struct redis_id id);

/* ---- order by key (redis_order.c, redis_retake.c) ---- */

enum { REDIS_LANES = 1024 };

struct redis_order {
    bool owner;      /* the group is this reader's; others stand by */
    bool takes_over; /* ... since a moment ago: what is pending is claimed first */
    bool locking;
    uint64_t lock_ns;                    /* when to ask for the group (again) */
    uint32_t again;                      /* entries that are HELD_AGAIN */
    bool want_again;                     /* some of these may be taken */
    bool retakes;                        /* the answer that is being read is of such */
    uint32_t waiting[REDIS_LANES];       /* HELD_AGAIN and HELD_PARKED, by lane */
    struct redis_id ids[BATCH_MESSAGES]; /* that are taken again */
    struct slice lock;                   /* the key where the owner's name stands; in `texts` */
};

void redis_order_init(struct redis_reader *reader);
void redis_order_clear(struct redis_reader *reader);
/* True: there is something to do before messages are fetched, and it is under way. */
bool redis_order_first(struct redis_reader *reader);
void redis_order_renew(struct redis_reader *reader);
/* An answer is complete: what may not come yet waits. */
void redis_order_sort(struct redis_reader *reader);
/* The message waits here for its turn, under its lane. */
void redis_order_again(struct redis_reader *reader, struct redis_held *held,
                       enum redis_holding state);
/* It waits no more. */
static inline void redis_order_left(struct redis_reader *reader, struct redis_held *held)
{
    reader->order->waiting[held->lane]--;
    reader->order->again -= held->state == HELD_AGAIN;
    reader->order->want_again = true; /* those behind it */
}

void redis_order_due(struct redis_reader *reader); /* leases and retries */
void redis_order_unread(struct redis_reader *reader, enum redis_give which);
/* For an entry of an answer; NULL: it is not one that is taken again. */
struct redis_held *redis_order_retake(struct redis_reader *reader, struct redis_id id);
void redis_say_unlock(struct redis_call *call, struct redis_reader *reader);

/* ---- waiting (redis_wait.c, redis_join.c) ---- */

/* Wakes the reader when there is something behind reader->seen. */
void redis_wait_for(struct redis_reader *reader);
/* A reader comes, with its notes, and goes. */
void redis_wait_join(struct redis_reader *reader);
void redis_wait_leave(struct redis_reader *reader);
/* The cluster may have other nodes. */
void redis_wait_look(struct redis_streams *streams);
/* All watches end; then gone(streams), at once or later. Their work is over already: `shared` is
 * closed. */
void redis_wait_stop(struct redis_streams *streams, void (*gone)(struct redis_streams *));

struct redis_streams {
    struct redis shared; /* first */
    struct redis_cluster *cluster;
    char origin[20]; /* this instance, in notes and names */
    struct redis_reader *readers;
    uint64_t note_ns; /* before then it asks nobody by a note: redis_oldest.c */
    uint64_t names_made;
    uint64_t random; /* not 0 */
    struct redis_watch *watches;
    unsigned n_watches;
    void (*gone)(struct redis_streams *);
    void (*closed)(void *);
    void *closed_arg;
};

/* "<key_prefix>:<name>", and in a cluster a tag that keeps it with the topic, in the arena. */
struct slice redis_stream_key(const struct redis_streams *streams, struct arena *arena,
                              const char *name, struct slice topic);

/* Of the instance's own connection, or of one to a primary. */
static inline struct redis_streams *redis_streams_at(struct redis *redis)
{
    if (redis->cluster != NULL)
        redis = redis_cluster_shared(redis->cluster);
    return CONTAINER_OF(redis, struct redis_streams, shared);
}

/* Who has the reader's topic now. */
static inline struct redis *redis_reader_at(const struct redis_reader *reader)
{
    struct redis_streams *streams = reader->streams;

    return streams->cluster == NULL ? &streams->shared
                                    : redis_cluster_at(streams->cluster, reader->slot);
}

static inline struct redis_streams *redis_streams_of(struct backend *backend)
{
    return CONTAINER_OF(redis_of(backend), struct redis_streams, shared);
}

static inline struct redis_reader *redis_reader_of(const struct subscription *subscription)
{
    return subscription->backend_data;
}

/* Nobody can have claimed it: redis was told that it is held. */
static inline bool redis_is_sure(const struct redis_reader *reader, const struct redis_held *held)
{
    uint64_t idle_ms = redis_store_of(&reader->streams->shared)->claim_idle_ms;

    return held->sure && redis_told_ns(held) + idle_ms * NS_PER_MS / 2 > redis_reader_now(reader);
}

#endif
