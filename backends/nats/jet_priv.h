/* What the files of the jetstream backend share, beside nats_priv.h.
 *
 *   jetstream.c     the descriptor; instances
 *   jet_store.c     the store: what it does with a new connection and with a lost one
 *   jet_answers.c   one inbox of a connection for everything that the server answers
 *   jet_ack.c       what stands in an answer, and in the subject of a delivery
 *   jet_publish.c   a publish on its worker: its messages are made, its outcomes told
 *   jet_window.c    messages on their way: lanes by key, what is sent, sent again, given up
 *   jet_share.c     what one topic may have of all that
 *   jet_lookup.c    messages that no stream took
 *   jet_control.c   questions about streams and groups, which block: a thread of their own
 *   jet_stream.c    what that thread does with streams: finds and makes them
 *   jet_place.c     and with the consumers of groups: where one stands, and how it is moved
 *   jet_ops.c       describe, position, seek, probe
 *   jet_listener.c  a subscription, on its worker
 *   jet_request.c   its requests for messages
 *   jet_take.c      what comes to it
 *   jet_oldest.c    and waits until what is older has come (jet_readers.c: what others here hold)
 *   jet_pull.c      and on the store's thread: requests are its credit (jet_whole.c: in bytes)
 *   jet_unsettled.c its deliveries (jet_lease.c: how long they are kept)
 *   jet_settle.c    settling and extending them
 *   jet_returns.c   which of them were no attempts
 *   jet_page.c      and where that is written down
 *   jet_journal.c   and on the store's thread: the stream that keeps it
 *   jet_removed.c   which of them the stream has removed
 *   jet_notices.c   and on the control thread: the stream that keeps what the server said of them
 *
 * Threads. Workers make messages and take outcomes. The store's thread (nats_store.c) writes all of
 * them and reads all answers; it never waits for one. The control thread asks the server about
 * streams with the library's blocking calls: rarely, and never for a message. */
#ifndef PRISM_BACKENDS_NATS_JET_PRIV_H
#define PRISM_BACKENDS_NATS_JET_PRIV_H

#include "backends/nats/jet_deliveries.h"
#include "backends/nats/jet_oldest.h"
#include "backends/nats/jet_readers.h"
#include "backends/nats/jet_removed.h"
#include "backends/nats/jet_share.h"
#include "backends/nats/jet_stream.h"
#include "backends/nats/jet_whole.h"
#include "backends/stream.h"

enum {
    JET_ANSWERS = JET_WINDOW,     /* buckets of answers that are waited for */
    JET_REPLY_BYTES = 64,         /* longest subject of an answer, with its NUL */
    JET_RETRY_MS = 100,           /* to a stream without a leader */
    JET_REQUEST_MS = 15000,       /* how long a request for messages stays open, at first */
    JET_REQUEST_MOST_MS = 120000, /* it doubles with each that brings nothing */
    JET_REQUEST_GRACE_MS = 5000,  /* one that is not ended by then is lost */
    JET_BEAT_MS = 1500,           /* of a cluster's server, while it has nothing */
    JET_BEATS_GRACE_MS = 3200,    /* a request that is not heard of for two of them is lost */
    JET_PREFIX_BYTES = 640,       /* longest prefix of a delivery's subject, with its NUL */
    JET_PLACE_RETRY_MS = 300,     /* until a group is looked up again */
    JET_TOKEN_BITS = 48,          /* of a token: the consumer's sequence; the rest is its epoch */
    JET_MAX_LEASE_MS = 12 * 3600 * 1000,
    JET_MAX_ACK_PENDING = 100000, /* of a group: unsettled and waiting for a retry */
};

struct jet_store;
struct jet_publication;

/* ---- jet_answers.c. thread: the store's, unless it is said ---- */

struct jet_answer {
    uint64_t number; /* of one store's answers; the last token of its subject */
    bool waiting;
    struct jet_answer *next; /* in its bucket */
    /* It came, once. The message stays the caller's. */
    void (*come)(struct jet_store *, struct jet_answer *, natsMsg *);
};

struct jet_answers {
    char inbox[32];
    _Atomic uint64_t numbers;
    struct jet_answer *buckets[JET_ANSWERS];
    struct nats_task task;
    pthread_mutex_t lock; /* of what follows: the library's threads put */
    natsMsg **arrived;
    size_t n, room;
    bool queued;
};

void jet_answers_init(struct jet_answers *answers, const char *id);
void jet_answers_clear(struct jet_answers *answers);
/* With a new connection. Not NULL: it cannot be used. */
const char *jet_answers_open(struct jet_store *store);
/* Where the server is to answer. thread: any. */
void jet_answer_name(struct jet_store *store, struct jet_answer *answer,
                     char reply[JET_REPLY_BYTES]);
void jet_answer_expect(struct jet_store *store, struct jet_answer *answer);
void jet_answer_forget(struct jet_store *store, struct jet_answer *answer);

/* ---- jet_ack.c ---- */

struct jet_ack {
    bool stored, duplicate;
    uint64_t sequence;
    struct err err; /* unless stored; nothing was written */
    bool absent;    /* nobody took it: there is no such stream, or it has no leader */
};

struct jet_ack jet_ack_read(natsMsg *message);

/* What any answer may hold, wherever it stands in it; data: base64, within the text. */
struct jet_members {
    uint64_t sequence, code, err_code;
    bool duplicate;
    struct slice data;
};

struct jet_members jet_members_read(const char *at, const char *end);

/* The subject that a delivery is settled by: PREFIX.deliveries.stream.consumer.time.pending. */
struct jet_source {
    size_t prefix; /* its length, with the last dot */
    uint64_t deliveries, stream_sequence, consumer_sequence, time_ns;
};

bool jet_source_read(struct jet_source *source, const char *reply);

/* ---- jet_window.c: messages on their way. thread: the store's, unless it is said ---- */

enum jet_item_state {
    JET_WAITING, /* not sent */
    JET_SENT,    /* may be sent again, and may be in the stream */
    JET_OVER,    /* has its outcome */
    JET_DROPPED  /* its caller did not wait; it was not sent and will not be */
};

struct jet_item {
    struct jet_answer answer;    /* its subject is the message's */
    struct jet_item *next, **at; /* in one of the lists */
    struct jet_publication *publication;
    struct jet_share *share;
    natsMsg *message;
    size_t bytes;
    uint64_t key_hash; /* 0: no key */
    uint64_t first_ns, sent_ns;
    _Atomic uint8_t
        state;  /* enum jet_item_state; whoever moves it from WAITING owns what follows */
    bool doubt; /* an answer was lost: it may be in the stream whatever comes next */
    /* the outcome */
    bool duplicate;
    uint64_t sequence;
    struct err err;
};

struct jet_window {
    struct jet_list backlog, sent;
    uint64_t next_check_ns; /* of times that have run out */
    struct jet_shares shares;
    struct jet_lookup *lookups;
};

void jet_window_init(struct jet_window *window);
void jet_window_put(struct jet_store *store, struct jet_item *item);
void jet_window_pump(struct jet_store *store); /* sends what there is room for */
void jet_window_connected(struct jet_store *store);
void jet_window_lost(struct jet_store *store);
/* The server lets Prism not publish to this subject. */
void jet_window_denied(struct jet_store *store, const char *subject);
/* Ends all messages whose callers are gone. */
void jet_window_purge(struct jet_store *store);
uint64_t jet_window_tick(struct jet_store *store);
/* A message is over, and those of its key that it held up go on, or fail with it. */
void jet_item_end(struct jet_store *store, struct jet_item *item, struct err err);
/* Out of the window: its answer has come. */
void jet_item_unsend(struct jet_store *store, struct jet_item *item);
/* To the front of those that are sent. */
void jet_window_send_again(struct jet_store *store, struct jet_item *item);
bool jet_item_expired(const struct jet_store *store, const struct jet_item *item, uint64_t now_ns);

/* ---- jet_lookup.c. thread: the store's ---- */

void jet_lookup_put(struct jet_store *store, struct jet_item *item);
/* Sends again, and ends what is too old or abandoned. Returns when it wants to be called. */
uint64_t jet_lookup_tick(struct jet_store *store, uint64_t now_ns);
void jet_lookup_clear(struct jet_store *store);

/* ---- jet_publish.c ---- */

struct jet_publication {
    struct nats_task task; /* first */
    struct job job;        /* home: all messages are over */
    struct jet_instance *instance;
    _Atomic bool abandoned; /* nobody waits for it */
    size_t bytes, n;
    size_t left; /* the store's thread: messages that are not over */
    /* ---- home ---- */
    struct publish *publish; /* NULL: its outcome was told */
    struct jet_publication *next, **at;
    struct jet_item items[]; /* n */
};

void jet_publish(struct backend *backend, struct publish *publish);
void jet_publish_abandon(struct jet_instance *instance); /* home */
/* thread: the store's; may free it. */
void jet_publication_item_over(struct jet_publication *publication);

/* ---- jet_control.c ---- */

struct jet_control {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct jet_errand *first, *last;
    jsCtx *js; /* of the connection that stands */
    bool started, stopping, busy;
};

void jet_control_init(struct jet_control *control);
void jet_control_start(struct jet_store *store);
void jet_control_stop(struct jet_control *control); /* ends the thread, when it has done all */
void jet_control_clear(struct jet_control *control);
void jet_control_put(struct jet_store *store, struct jet_errand *errand); /* thread: any */
/* thread: the store's. */
bool jet_control_connected(struct jet_store *store);
void jet_control_lost(struct jet_store *store);

/* An operation of a worker's that the control thread does. Its outputs are the call's own until it
 * is home again, for the operation may be gone by then. */
struct jet_call {
    struct jet_errand errand; /* first */
    struct job job;
    struct jet_instance *instance;
    struct op *op;               /* home; NULL: it did not wait */
    _Atomic bool abandoned;      /* the control thread need not ask any more */
    struct jet_call *next, **at; /* in instance->calls, while op is there */
    struct err err;
    void (*done)(struct jet_call *); /* home: fills the operation's outputs in; err is ERR_OK */
};

/* Parks the operation; the caller brings the errand to the control thread. thread: home. */
void jet_call_park(struct jet_instance *instance, struct jet_call *call, struct op *op);
/* Parks the operation and starts it. thread: home. */
void jet_call_start(struct jet_instance *instance, struct jet_call *call, struct op *op);
void jet_call_abandon(struct jet_instance *instance); /* home */

/* ---- jet_place.c. thread: control ---- */

/* A group of a topic, and where it stands. Nothing is allocated. */
struct jet_place {
    /* in */
    char topic[MESSAGE_TOPIC_BYTES + 1];
    char group[MESSAGE_TOPIC_BYTES + 1]; /* "": none */
    bool create;                         /* what is not there is made: stream and consumer */
    bool move;                           /* the consumer is made anew, to begin at `start` */
    enum stream_start start;             /* of one that is made; not START_COMMITTED */
    int64_t at;
    enum gap_policy on_gap;
    uint64_t wait_ms; /* for each answer; 0: ack_timeout_ms; jet_place_take sets the next one */
    /* out; in, too, where a place is taken again: then consumer names an ephemeral one */
    char stream[JET_NAME_BYTES], consumer[JET_NAME_BYTES];
    int64_t created; /* when the consumer was made: another number is another consumer */
    uint64_t stream_sequence, consumer_sequence; /* of the last delivery */
    uint64_t first, last;                        /* of the stream */
    uint64_t floor;                              /* all up to it is settled */
    uint64_t pending, unsettled;
    int64_t ack_wait_ns;       /* of the consumer */
    uint64_t max_batch;        /* of a request; 0: no bound */
    bool clustered;            /* requests may be lost while the connection stands */
    bool alone;                /* the stream takes this topic and no other */
    bool found;                /* the group */
    uint64_t gap_from, gap_to; /* [from, to) is missing; from 0: nothing is */
};

struct err jet_place_take(struct jet_store *store, jsCtx *js, struct jet_place *place);
/* A request whose inbox is gone stays in the server's list until it looks at it. A message that is
 * given back before that is offered to it: then 2.9 loses it until its time is over, and later ones
 * put it behind others. Asking about the consumer makes the server look. Taking a place does, too.
 */
void jet_place_sweep(jsCtx *js, const struct jet_place *place);
/* How many messages of the group are unsettled, and up to which all are. False: it is not known. */
bool jet_place_count(const struct jet_store *store, jsCtx *js, const struct jet_place *place,
                     uint64_t *unsettled, uint64_t *floor);
/* That ends a subscription, where it is to end with a gap. */
struct err jet_gap_err(void);
/* Of a consumer without a group. Errors do not matter: the server forgets it by itself. */
void jet_place_forget(jsCtx *js, const struct jet_place *place);

/* False: a text is too long or holds a NUL. */
bool jet_place_init(struct jet_place *place, struct slice topic, struct slice group);

/* ---- jet_listener.c ---- */

struct jet_listener {
    struct subscription *subscription;
    struct jet_instance *instance;
    struct job job;
    struct timer timer; /* leases, and the next attempt of something */
    struct jet_place place;
    struct err placed; /* what came of it */
    struct jet_unsettled unsettled;
    struct jet_page page;
    struct jet_removed removed;
    char prefix[JET_PREFIX_BYTES]; /* of the subjects that settle deliveries */
    int64_t created;               /* place.created of the deliveries */
    uint64_t epoch, tokens;        /* of the consumer; given out */
    uint64_t newest;               /* sequence in the stream */
    uint64_t lease_ns;             /* of a delivery */
    uint64_t wait_ns;              /* the consumer's patience */
    uint64_t retry_ns;             /* nothing is asked of the control thread before */
    uint32_t request_ms;           /* how long the next request stays open */
    bool keeps_ms;                 /* the consumer has refused a longer one */
    uint64_t request_ns;           /* when the request that is open ends by itself */
    uint64_t timer_ns;             /* when the timer falls due; UINT64_MAX: it is not armed */
    uint64_t lease_check_ns;       /* leases need no look before */
    uint32_t asked_messages;       /* what the open request may still bring; 0: none is open */
    uint64_t asked_bytes;
    unsigned settlings;     /* under way */
    struct err err;         /* of closed() */
    bool placed_well;       /* the consumer is there, as far as is known */
    bool placing;           /* the control thread looks */
    bool opened;            /* it was told */
    bool ending;            /* close was called, or there is no hope */
    bool attached;          /* an inbox is there; over() ends that */
    bool listed, detaching; /* listed: the store has it in its list */
    bool withdrawn;         /* the open request has no credit any more */
    bool whole;             /* the next request takes one message of any size */
    struct jet_wary wary;
    struct jet_oldest oldest;
    struct jet_reading reading;
    bool sweep, give_back, forget, leave; /* steps of the end that were begun */
    /* ---- the store's thread ---- */
    struct jet_listener *next, **at;
    struct nats_attachment attachment;
    char inbox[48];
    struct nats_task arrive, pull, detach, depart;
    struct jet_errand errand;
    /* of the request: home writes before the task, the thread reads in it */
    bool attach;
    uint64_t request; /* its number: in the subject of what is told about it */
    bool beats;       /* the server is to say now and then that it has the request */
    uint32_t pull_messages, pull_ms;
    uint64_t pull_bytes; /* 0: no bound */
    _Atomic bool pull_queued;
    /* ---- under the lock ---- */
    pthread_mutex_t lock;
    natsMsg **arrived;
    size_t n_arrived, arrived_room;
    bool queued, connected, over, detached, placed_now, departed;
    bool noticed, notices_back, other_left;
};

void jet_listener_open(struct backend *backend, struct subscription *subscription);
void jet_listener_grant(struct backend *backend, struct subscription *subscription,
                        uint32_t messages, uint64_t bytes);
void jet_listener_withdraw(struct backend *backend, struct subscription *subscription);
void jet_listener_close(struct backend *backend, struct subscription *subscription);
/* One of the flags was set. The lock is held. */
void jet_listener_wake(struct jet_listener *listener);
/* home: its job runs. */
void jet_listener_soon(struct jet_listener *listener);
/* home: the subscription ends with this. */
void jet_listener_fail(struct jet_listener *listener, struct err err);
/* home: a settling is back. */
void jet_listener_settled(struct jet_listener *listener);
/* home: looks at leases at this time at the latest. */
void jet_listener_watch(struct jet_listener *listener, uint64_t at_ns);
/* The group was moved: everybody of this store who reads in it looks anew. thread: the store's. */
void jet_listeners_look(struct jet_store *store, const char *topic, const char *group);

/* ---- jet_take.c. thread: home ---- */

/* Owns the messages and the array. */
void jet_take_messages(struct jet_listener *listener, natsMsg **messages, size_t n);

/* A message that was taken and waits. */
struct jet_kept {
    natsMsg *message;
    struct jet_source source;
    uint64_t token, bytes;
};

/* Delivers them, and owns the messages. */
void jet_take_kept(struct jet_listener *listener, const struct jet_kept *kept, size_t n);
/* Whether the group's consumer is there is doubtful. */
void jet_look_anew(struct jet_listener *listener, uint64_t after_ms);
void jet_tell_gap(struct jet_listener *listener, uint64_t from, uint64_t to, uint64_t count);

/* ---- jet_request.c. thread: home ---- */

/* Nothing happens where one is open, or nothing may be asked for. */
void jet_request_open(struct jet_listener *listener);
/* It is over; what it did not bring is credit again. */
void jet_request_end(struct jet_listener *listener);
/* The server has it. */
void jet_request_alive(struct jet_listener *listener);
/* The server should have said something by now. */
void jet_request_look(struct jet_listener *listener);
/* What it says without a message. */
void jet_request_status(struct jet_listener *listener, natsMsg *message);

/* ---- jet_lease.c. thread: home ---- */

/* The delivery is new, or its lease is another. */
void jet_lease_watch(struct jet_listener *listener, const struct jet_delivery *delivery);
/* Keeps, gives back, and watches the time. */
void jet_leases_look(struct jet_listener *listener);

/* ---- jet_pull.c ---- */

void jet_pull_init(struct jet_listener *listener);
/* thread: the store's. */
void jet_listeners_connected(struct jet_store *store);
void jet_listeners_wake(struct jet_store *store);
/* Advisories about their consumers have come. */
void jet_listeners_noticed(struct jet_store *store, const uint64_t *hashes, size_t n, bool all);

/* ---- jet_settle.c ---- */

enum jet_how { JET_RETURN, JET_NAK, JET_EXTEND, JET_DONE }; /* RETURN: it was no attempt */

void jet_settle(struct backend *backend, struct settle *settle);
void jet_extend(struct backend *backend, struct extend *extend);
/* Without an operation: for these deliveries, all at once. thread: home. */
typedef bool jet_wanted_fn(const struct jet_listener *, const struct jet_delivery *,
                           uint64_t now_ns);
void jet_settle_all(struct jet_listener *listener, enum jet_how how, jet_wanted_fn *wanted);
/* thread: the store's. */
uint64_t jet_settle_tick(struct jet_store *store, uint64_t now_ns);
void jet_settle_lost(struct jet_store *store);

/* ---- jet_ops.c ---- */

void jet_describe(struct backend *backend, struct stream_describe *describe);
void jet_position(struct backend *backend, struct stream_position *position);
void jet_seek(struct backend *backend, struct stream_seek *seek);
void jet_probe(struct backend *backend, struct op *op);
/* A position is a sequence in decimal digits. ERR_INVALID_ARGUMENT about "position": it is not. */
struct err jet_read_position(struct slice position, int64_t *sequence);

/* ---- jet_store.c ---- */

struct page_request;

struct jet_journal {
    _Atomic int state; /* enum jet_journal_state */
    struct log_budget log;
    /* ---- the store's thread ---- */
    struct jet_answer answer; /* about the stream */
    uint64_t asked_ns, check_ns;
    struct page_request *requests; /* not answered */
};

struct jet_store {
    struct nats_store base; /* first */
    char id[20];            /* of this store: starts the ids of messages that have none */
    struct jet_answers answers;
    struct jet_window window;
    struct jet_control control;
    struct jet_listener *listeners; /* the store's thread */
    struct jet_settling *settlings; /* likewise: not answered */
    uint64_t settle_check_ns;
    struct jet_journal journal;
    struct jet_store_notices notices;
    struct jet_reading_table reading;
    _Atomic uint64_t largest; /* message that was met, in bytes as requests count them, at least */
    struct counter resent, unknown, renewed, expired, pages_read, pages_written, counted, forgotten;
};

struct jet_instance {
    struct backend base; /* first */
    unsigned subscriptions;
    unsigned out; /* publications and calls that are not home again */
    uint64_t ids;
    struct jet_publication *publications; /* that are waited for */
    struct jet_call *calls;
    struct nats_task end;
    struct job ended;
    bool closing, purged;
    void (*closed)(void *arg);
    void *closed_arg;
};

struct err jet_store_open(struct backend_store **store, const struct backend_options *options);
void jet_store_close(struct backend_store *store);

/* home: something that was out is back. */
void jet_instance_back(struct jet_instance *instance);
/* home: what it offers, by what is known of the journal now. */
void jet_instance_look(struct jet_instance *instance);

static inline struct jet_store *jet_store_of(const struct backend *backend)
{
    return CONTAINER_OF(backend->store, struct jet_store, base.base);
}

static inline struct jet_store *jet_of(struct nats_store *store)
{
    return CONTAINER_OF(store, struct jet_store, base);
}

static inline struct jet_instance *jet_instance_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct jet_instance, base);
}

#endif
