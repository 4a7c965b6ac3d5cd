/* An instance: one worker's connections to postgres, kept for ever, and what waits for them. All of
 * it belongs to that worker. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_CONN_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_CONN_H

#include "backends/postgres/postgres_store.h"
#include "backends/retry.h"
#include "pool/worker.h"
#include "src/base/digest.h"

#include <libpq-fe.h>
#include <uv.h>

enum {
    POSTGRES_ADDRESSES = 8, /* of one host name */
    POSTGRES_NEWS = 64      /* queues that are told by name; of more, all are looked at */
};

enum postgres_phase {
    POSTGRES_WAITING, /* not connected; the timer starts the next attempt */
    POSTGRES_RESOLVING,
    POSTGRES_CONNECTING, /* libpq connects and logs in */
    POSTGRES_GREETING,   /* facts, schema, namespace: postgres_hello.c */
    POSTGRES_READY,
    POSTGRES_LEAVING, /* no new calls; ends with the last answer */
    POSTGRES_CLOSING
};

struct postgres_poll;
struct postgres_call;
struct postgres_group;
struct postgres_listener;

struct postgres_conn {
    struct postgres *postgres;
    enum postgres_phase phase;
    struct err why; /* why the connection is given up; ERR_OK: as the phase tells */
    PGconn *pg;     /* NULL: no connection and none under way */
    struct postgres_poll *poll;
    struct timer timer; /* next attempt; dial timeout; once ready, the watch over answers */
    unsigned attempts;  /* since the connection was last ready */
    uint64_t ready_ns;  /* 0: not ready yet */
    uint64_t moved_ns;  /* when postgres last gave a byte, or a call was sent to an idle one */
    uint64_t prepared;  /* bit of each statement */
    bool drop;          /* is to be given up, once nothing below uses it */
    bool unsent;        /* libpq holds bytes that the socket did not take */

    struct postgres_call *first, **last; /* in the order of their statements on the wire */
    struct postgres_call *open;          /* the last one has no Sync behind it yet */
    uint64_t calls;

    struct { /* postgres_hello.c */
        enum { HELLO_FACTS, HELLO_STATE, HELLO_MIGRATE, HELLO_SPACE } step;
        bool migrated, registered;
        int version;   /* of the schema */
        int32_t space; /* 0: the namespace has none yet */
        int server;    /* the process of the server that has answered; 0: none yet */
        struct err err;
    } hello;

    uv_getaddrinfo_t resolver;
    bool resolving;
    char addresses[POSTGRES_ADDRESSES][48]; /* numeric */
    unsigned address_count, address_at;
};

/* Single operations that wait to be sent together (postgres_group.c). */
struct postgres_line {
    struct postgres_wait *first, **last;
    size_t n;        /* of those that wait and those in groups */
    unsigned groups; /* on the wire */
};

/* Queues that others are to be told of (postgres_wake.c). */
struct postgres_news {
    struct digest queues[POSTGRES_NEWS];
    unsigned n;
    bool all;         /* of more queues than there are places for */
    bool telling;     /* some are on the wire */
    uint64_t told_ns; /* when the last ones were sent */
    struct timer timer;
};

/* Deliveries whose leases are renewed (postgres_renew.c). */
struct postgres_renewal {
    struct timer timer; /* the next round */
    uint64_t round;     /* listeners that it has met bear its number */
    uint64_t began_ns;
    struct postgres_held {
        struct postgres_listener *listener;
        uint64_t token; /* 0: settled meanwhile */
        bool lost;
    } * items;          /* of those whose turn it is */
    size_t n, room;     /* 0: none is under way */
    size_t at, sent_to; /* the portion on the wire */
};

struct postgres {
    struct backend base;         /* first */
    enum backend_state reported; /* as counted in store->states */
    struct err down;             /* what ops are told while no connection is ready */
    const char *trouble;         /* why postgres refuses writes; static; NULL: it does not */
    struct retry_budget retries; /* of puts whose group found its connection gone */
    struct timer trouble_timer;  /* armed while trouble is set: it is over then */
    struct batch_hook hook;      /* sends what a batch of jobs has queued */
    struct postgres_conn *conns;
    unsigned n_conns, ready;
    int32_t space; /* the namespace's number; set while a connection is ready */

    struct postgres_line gets, puts;
    uint64_t in_flight;                  /* ops accepted and not answered, on the wire or not */
    uint64_t held_bytes;                 /* of them */
    struct postgres_listener *listeners; /* subscriptions of queues */
    struct postgres_news news;
    struct postgres_renewal renewal;
    struct postgres_conn *ear; /* hears what others push; NULL: none does */
    uint64_t index_again_ns; /* an index found so many identities that a walk was better: until then
                                none is asked */
    struct timer sweep;
    bool sweeps; /* it is this instance that removes what has expired */
    bool sweeping;

    uint64_t random; /* for jitter */
    bool closing;
    unsigned handles; /* libuv's, that still refer to this struct */
    struct job closed_job;
    void (*closed)(void *);
    void *closed_arg;
};

static inline struct postgres *postgres_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct postgres, base);
}

static inline struct postgres_store *postgres_store_of(const struct postgres *postgres)
{
    return CONTAINER_OF(postgres->base.store, struct postgres_store, base);
}

static inline uint64_t postgres_now(const struct postgres *postgres)
{
    return postgres->base.home->now_ns;
}

static inline struct err postgres_unavailable(const char *text)
{
    return (struct err){.code = ERR_UNAVAILABLE, .retry_after_ms = POSTGRES_RETRY_MS, .text = text};
}

/* As backend_type.open and close. */
struct backend *postgres_open(struct backend_store *store, struct worker *worker);
void postgres_close(struct backend *backend, void (*closed)(void *), void *arg);

/* The connection for the next call: the ready one with the fewest; NULL: none is ready. */
struct postgres_conn *postgres_choose(struct postgres *postgres);

/* Gives the connection up, once who runs has returned, and makes a new one. why: what ops are told;
 * ERR_OK: the usual. */
void postgres_drop(struct postgres_conn *conn, struct err why);

/* ---- one connection (postgres_conn.c), for the instance ---- */

void postgres_attempt(struct postgres_conn *conn); /* to connect */
void postgres_let_go(struct postgres_conn *conn);  /* of libpq's connection and of the timer */
void postgres_watch(struct postgres_conn *conn);   /* a call is on the wire */

/* ---- the instance (postgres_instance.c), for its connections ---- */

void postgres_tell(struct postgres *postgres); /* its state to the store */
void postgres_closed_if_idle(struct postgres *postgres);

/* Postgres has refused something for a reason that concerns all; text is static. It is over once
 * postgres has not said so to this instance for a while. */
void postgres_trouble(struct postgres *postgres, const char *text);

/* Sends what is queued on it, as far as the socket takes it. */
void postgres_flush(struct postgres_conn *conn);

/* ---- the name of the server (postgres_resolve.c) ---- */

/* Fills conn->addresses and returns true; or false, and postgres_resolved() comes later. */
bool postgres_resolve(struct postgres_conn *conn);
void postgres_resolved(struct postgres_conn *conn, const char *problem);

/* The attempt is given up after dial_timeout_ms from now. */
void postgres_dial_watch(struct postgres_conn *conn);

/* ---- hello (postgres_hello.c) ---- */

/* Asks the first question on a new connection; what libpq then has read goes to
 * postgres_hello_read. True: hello is over, conn->hello.err says how. */
bool postgres_hello_begin(struct postgres_conn *conn);
bool postgres_hello_read(struct postgres_conn *conn);

/* ---- what stands before the server (postgres_pooler.c) ---- */

/* A process of the server has answered on this connection. An error: the connection is of no use.
 */
struct err postgres_pooler_look(struct postgres_conn *conn, int server);

/* From the row of SQL_FACTS. */
void postgres_take_facts(struct postgres_conn *conn, const PGresult *result);

/* backend_type.probe: a round trip that asks for the facts as well, and for the burden behind it.
 */
void postgres_probe(struct backend *backend, struct op *op);

/* ---- errors (postgres_error.c) ---- */

/* What an error of the server means to a caller. An unknown one has its text in buffer. */
struct err postgres_error(const PGresult *result, char *buffer, size_t size);

/* What libpq says of a connection that it could not make. */
struct err postgres_dial_error(const char *message);

/* The part of libpq's message that names neither host nor user. */
const char *postgres_detail(const char *message);

/* The connection is of no use after this error. */
bool postgres_error_is_fatal(const PGresult *result);

/* What the server cannot do for now, to anybody; static; NULL: the error says nothing of that. */
const char *postgres_error_restricts(const PGresult *result);

/* ---- what other processes push into queues (postgres_wake.c) ---- */

/* Lets one of the connections listen, if there are queues to listen for and none does yet. */
void postgres_wake_listen(struct postgres *postgres);

/* Sends what has been noted (postgres_queue.h), unless some is on the wire or was a moment ago. */
void postgres_wake_tell(struct postgres *postgres);
void postgres_wake_stop(struct postgres *postgres);

/* What has been heard on this connection. */
void postgres_wake_read(struct postgres_conn *conn);

/* ---- rows that have expired (postgres_ttl.c) ---- */

void postgres_sweep_start(struct postgres *postgres);
void postgres_sweep_stop(struct postgres *postgres);

#endif
