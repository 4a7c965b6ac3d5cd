/* A connection to redis, kept for ever, on one worker. All of it belongs to that worker.
 *
 * Each instance of `redis` is one of these. Another backend type of this folder embeds as many as
 * it needs in its own instance:
 *
 *   struct stream_instance {
 *       struct redis shared;    first: commands of all calls, as in redis_kv.c
 *       struct redis blocking;  XREAD BLOCK, one at a time
 *   };
 *
 *   open    redis_start for each, with the same store; `blocking` set where an answer may take
 *           for ever: silence is then no fault, and the connection is not part of the health
 *   calls   redis_begin, redis_command, redis_word .. (redis_call.h)
 *   close   redis_stop for each; closed() comes when the memory may go
 *
 * A blocking command is cancelled by redis_drop: redis forgets it with its connection. Its answers
 * are taken by redis_call.h as any others. Messages of SUBSCRIBE are answers without a question:
 * such a connection has `pushes`, which read themselves, and shares redis_conn.c's way of
 * connecting only. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_CONN_H
#define PRISM_BACKENDS_REDIS_REDIS_CONN_H

#include "backends/redis/redis_link.h"
#include "backends/redis/redis_store.h"
#include "pool/worker.h"

#include <uv.h>

enum { REDIS_ADDRESSES = 8 /* of one host name */ };

enum redis_phase {
    REDIS_WAITING, /* not connected; the timer starts the next attempt */
    REDIS_RESOLVING,
    REDIS_CONNECTING, /* TLS included */
    REDIS_GREETING,   /* connected; hello is under way */
    REDIS_READY,
    REDIS_LEAVING, /* no new calls; ends with the last answer */
    REDIS_CLOSING
};

struct redis_call;
struct redis_turn;
struct redis_cluster;

/* What the server says of itself. */
struct redis_facts {
    bool role_known, replica, cluster_known, cluster;
    bool appendonly_known, appendonly, fsync_always;
    bool maxmemory_known, maxmemory, policy_evicts;
    uint64_t bulk_bytes,
        query_bytes; /* proto-max-bulk-len, client-query-buffer-limit; 0: not told */
};

/* Questions and what their answers have told so far (redis_hello.c). */
struct redis_hello {
    uint8_t steps[16]; /* which question each answer belongs to */
    uint8_t naming;    /* of CONFIG GET: whose value comes next */
    bool done, asking;
    struct err fatal;          /* ERR_OK: none */
    struct redis_target found; /* the primary that a sentinel has named; host empty: none */
    struct redis_facts facts;
};

/* Who takes over a connection on which redis speaks unasked, from ready() to lost(). No call of
 * redis_call.h is made on such a connection. thread: home. */
struct redis_pushes {
    void (*ready)(struct redis *redis);
    void (*read)(struct redis *redis); /* the socket has bytes or an error; may redis_drop */
    void (*lost)(struct redis *redis); /* the link is gone; ready() may come again */
};

/* What a connection asks and tells the cluster that it belongs to (redis_cluster.c). thread: home.
 */
struct redis_cluster_calls {
    /* Whose connection has the slot. Never NULL. */
    struct redis *(*at)(struct redis_cluster *cluster, unsigned slot);

    /* Asks for the map, unless that is under way. */
    void (*stale)(struct redis_cluster *cluster);
    void (*lost)(struct redis_cluster *cluster, const struct redis *redis);

    /* Sends the call's op to where call->redis->redirect says. false: it cannot, and ends with the
     * call's err. */
    bool (*redirect)(struct redis_cluster *cluster, struct redis_call *call);

    /* A node has said where a slot is; whoever asked for it does not go there by itself. */
    void (*moved)(struct redis_cluster *cluster, const struct redis *redis,
                  struct redis_redirect redirect);
};

struct redis {
    struct backend base;           /* first */
    struct backend_stats *stats;   /* the instance's; set before redis_start, NULL: base.stats */
    struct redis_cluster *cluster; /* that it belongs to, by redis_cluster_join; NULL: none */
    const struct redis_cluster_calls *calls; /* of the cluster */
    struct redis_call *redirected;           /* the cluster keeps its key elsewhere: .. */
    struct redis_redirect redirect;
    bool blocking;
    const struct redis_pushes *pushes; /* set before redis_start; NULL: answers only */
    void (*on_ready)(struct redis *);  /* likewise: calls can be made; may be NULL */
    enum redis_phase phase;
    enum backend_state reported; /* as counted in store->states */
    struct err down;             /* what ops are told while the phase is not REDIS_READY */
    struct err why;              /* why the connection is given up; ERR_OK: as the phase tells */

    struct redis_hello hello;
    struct redis_facts facts; /* of the server, as told last */
    uint64_t ready_ns;
    struct redis_link *link; /* NULL: no connection and none under way */
    redisReplyObjectFunctions answers;
    struct timer timer;     /* next attempt; dial timeout; once ready, the watch over answers */
    struct batch_hook hook; /* writes what a batch of jobs has queued */
    unsigned attempts;      /* since the connection was last ready */
    bool left;              /* it is given up for what redis said, not for a failure */
    uint64_t random;        /* for jitter */

    /* Told by the calls, looked at behind each reading. */
    enum redis_news news; /* the gravest that errors have told; REDIS_NEWS_NONE */
    struct err news_err;
    bool wrote;          /* a write has been carried out */
    const char *trouble; /* why redis refuses calls for now; static; NULL: it does not */
    uint64_t trouble_ns; /* when it last said so */

    struct redis_call *first, **last; /* in the order of their commands on the wire */
    struct redis_call *waits;         /* of them the first of which nothing was given; NULL: none */
    struct redis_call *spare;
    struct redis_turn *turns, **turns_last; /* that wait, in order (redis_turns.c) */
    uint64_t turns_waiting;
    uint64_t turns_held; /* buckets of the SCANs on the wire */
    uint64_t in_flight;
    uint64_t held_bytes;                 /* of commands not answered yet */
    uint64_t moved_ns;                   /* when redis last took or gave a byte */
    bool getrange_denied, strlen_denied; /* the user may not do it */

    sds unsent; /* what the socket did not take, from unsent_at; NULL: nothing */
    size_t unsent_at;
    /* On this connection, since it began; what was queued and is void counts until it is left out.
     * given: no less than sent. OpenSSL may have made a record of what it has not sent yet. */
    uint64_t queued_bytes, given_bytes, sent_bytes;
    uint64_t void_bytes; /* of those that wait */

    struct redis_target to; /* of this attempt or connection */
    bool fixed;             /* `to` is set before redis_start, and stays; or, if it aims: */
    bool aims;              /* each attempt goes to the node of the cluster that has `slot` */
    unsigned slot;
    const char *not_yet; /* why it does not serve although it is connected; static; NULL: it does */
    struct redis_target found;  /* of the next attempt, as a sentinel has told; host empty: none */
    unsigned seed_at;           /* in store->address.seeds, and behind them: */
    struct redis_target *known; /* nodes of the cluster, likewise to be tried; owned by that */
    unsigned known_count;

    uv_getaddrinfo_t resolver;
    void (*resolved)(struct redis *, const char *problem);
    char addresses[REDIS_ADDRESSES][48]; /* numeric */
    unsigned address_count, address_at;
    unsigned handles; /* libuv's, that still refer to this struct */

    struct redis *next_instance, **at; /* in store->instances */
    struct job check;                  /* ask for the facts again; landed by other instances */
    atomic_bool check_pending;

    struct job closed_job;
    void (*closed)(void *);
    void *closed_arg;
};

static inline struct redis *redis_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct redis, base);
}

static inline struct redis_store *redis_store_of(const struct redis *redis)
{
    return CONTAINER_OF(redis->base.store, struct redis_store, base);
}

/* What keys of the namespace begin with. */
static inline struct slice redis_prefix(const struct redis *redis)
{
    const struct redis_store *store = redis_store_of(redis);

    return slice_of(store->prefix, store->prefix_len);
}

static inline struct err redis_unavailable(const char *text)
{
    return (struct err){.code = ERR_UNAVAILABLE, .retry_after_ms = REDIS_RETRY_MS, .text = text};
}

/* Pseudo-random, for jitter. */
static inline uint64_t redis_chance(struct redis *redis)
{
    redis->random ^= redis->random << 13;
    redis->random ^= redis->random >> 7;
    redis->random ^= redis->random << 17;
    return redis->random;
}

/* Begins to connect. The memory is zeroed, and the caller's until closed(). */
void redis_start(struct redis *redis, struct backend_store *store, struct worker *worker,
                 bool blocking);

/* As backend_type.close. The memory stays the caller's until closed(). */
void redis_stop(struct redis *redis, void (*closed)(void *), void *arg);

/* Gives the connection up, if there is one, and makes a new one; why is what ops are told until
 * that is ready. Calls in flight fail with ERR_UNAVAILABLE. Safe within an answer; redis->link may
 * be gone afterwards. */
void redis_drop(struct redis *redis, struct err why);

/* ---- whom to connect to (redis_seek.c) ---- */

/* Chooses redis->to for an attempt. */
void redis_seek(struct redis *redis);

/* The attempt or the connection has ended. true: there is somebody to try at once. */
bool redis_seek_next(struct redis *redis);

/* For the log: nothing that came from ${..}. */
const char *redis_shown_host(const struct redis *redis);

/* ---- its name (redis_resolve.c) ---- */

/* Fills redis->addresses and returns true; or false, and resolved() is called once, maybe before
 * this returns, with no addresses and the problem if there is one. */
bool redis_resolve(struct redis *redis, void (*resolved)(struct redis *, const char *problem));

/* ---- hello (redis_hello.c) ---- */

/* The first commands on a connection. hello.done: all answers are in. */
void redis_say_hello(struct redis *redis);

/* Asks for the facts again, unless that is under way. */
void redis_ask_facts(struct redis *redis);

/* Takes what hello or a later question has told: limits, durability, eviction. */
void redis_take_facts(struct redis *redis);

/* backend_type.probe: a round trip that asks for the facts as well. */
void redis_probe(struct backend *backend, struct op *op);

/* ---- what it says of itself later (redis_state.c); may turn READY to LEAVING ---- */

void redis_act_on_facts(struct redis *redis); /* hello.facts are news */
void redis_act_on_news(struct redis *redis);  /* errors that the calls have noted */

/* Reports READY, or DEGRADED with the restriction: static; NULL: none. */
void redis_report_serving(struct redis *redis);
const char *redis_restriction(const struct redis *redis);

/* ---- output (redis_words.c, redis_sift.c, redis_write.c) ---- */

/* A command whose answer is taken by `pushes`. word: NULL: none. */
void redis_say(struct redis *redis, const char *name, const struct slice *word);

/* Writes as much as the socket takes. A broken connection is found by who reads next. */
void redis_flush(struct redis *redis);
void redis_output_clear(struct redis *redis);

/* Void bytes where sending goes on are behind it now. Then: how many bytes from there on, of
 * redis->unsent, are to be sent; 0: nothing is left of it, and it is gone. */
size_t redis_sift_next(struct redis *redis);

/* Takes all void bytes out of what waits. */
void redis_sift(struct redis *redis);

/* The same once they are a good part of it: so each byte is moved a few times at most. At the end
 * of a batch: no call that is void is then the first. */
void redis_sift_some(struct redis *redis);

#endif
