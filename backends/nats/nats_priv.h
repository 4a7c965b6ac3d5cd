/* What the files of the nats and jetstream backends share.
 *
 *   nats_settings.c     the table of settings, and the client library's options made from it
 *   nats_store.c        the store: its thread, its queue, its connection
 *   nats_attachment.c   a subscription of the client library's, on one connection
 *   nats_message.c      a message in and out of the client library's form; subjects
 *   nats_buffer.c       what waits for a subscriber, and batches made of it
 *
 * and of nats alone:
 *
 *   nats.c              the descriptor; instances
 *   nats_publish.c      publishing and probing
 *   nats_listener.c     subscriptions
 *
 * What is of jetstream alone: jet_priv.h.
 *
 * Any call of the client library may block: it writes to the socket itself. So a store has one
 * thread that makes all of them. Workers put tasks into its queue and get outcomes as landings. The
 * thread takes some tasks, writes what they have to say, and asks the server for one PONG: what was
 * written before the PING has reached the server when the PONG comes. Then it takes the next ones.
 *
 * The library reconnects by itself, but keeps what is published meanwhile in a buffer that may be
 * lost in silence. So its reconnection is off: the thread drops a connection that fails, tells each
 * outcome, and makes a new one. */
#ifndef PRISM_BACKENDS_NATS_NATS_PRIV_H
#define PRISM_BACKENDS_NATS_NATS_PRIV_H

#include "backends/nats/nats.h"
#include "backends/topic.h"
#include "src/base/container.h"
#include "src/base/log.h"

#include <nats/nats.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
    NATS_ITEMS = 1000,           /* of one publish */
    NATS_FRAME_BYTES = 16 << 20, /* of one publish */
    NATS_RETRY_MS = 100,         /* advice to callers */
    NATS_WINDOW_TASKS = 256,     /* taken by the thread at once: one PONG for all of them */
    NATS_DENIED = 16,            /* subjects that the server has refused: remembered */
    NATS_SERVERS = 16,
    NATS_WRITE_DEADLINE_MS = 500,
};

struct nats_store;

/* ---- nats_settings.c ---- */

struct nats_login {
    char *username, *password, *token; /* NULL: none */
};

struct nats_config {
    char *servers[NATS_SERVERS]; /* "nats://HOST:PORT" */
    size_t n_servers;
    const char *shown; /* for the log: nothing that came from ${..} */
    char *shown_copy;
    char *credentials, *ca, *cert, *key; /* paths; NULL: none */
    bool tls;
    uint64_t dial_timeout_ms, ack_timeout_ms, max_buffer_bytes, subscription_bytes;
    /* ---- JetStream ---- */
    uint64_t publish_timeout_ms, ack_wait_ms;
    bool create_streams, stream_memory;
    uint64_t stream_replicas, stream_max_age_s, stream_max_bytes, dedup_window_ms;
    char *returns_stream; /* NULL: none */
    uint64_t returns_max_age_s, returns_max_bytes;
};

extern const struct backend_setting nats_settings[];

/* Of a slot of the type nats: what only the type jetstream has is a fault. */
void nats_settings_check(const struct backend_value *values, struct backend_faults *faults);
void jet_settings_check(const struct backend_value *values, struct backend_faults *faults);
/* As backend_type.descriptors. */
struct backend_descriptors nats_descriptors(const struct backend_value *values);
bool nats_settings_jetstream(const struct backend_value *values);
/* values have passed the check. */
void nats_config_take(struct nats_config *config, const struct backend_value *values);
void nats_config_clear(struct nats_config *config);
struct nats_login nats_login_take(const struct backend_value *values);
void nats_login_clear(struct nats_login *login);

/* For a connection to one server. Files are read now. */
natsStatus nats_options(natsOptions **options, const struct nats_config *config,
                        const struct nats_login *login, const char *server);

/* ---- nats_store.c ---- */

struct nats_task {
    struct nats_task *next;
    /* On the store's thread. connection: NULL when there is none. True: the task waits for the
     * server's PONG, then `settle` is called. */
    bool (*run)(struct nats_store *, struct nats_task *);
    /* answered: the PONG came on the connection that `run` wrote to. */
    void (*settle)(struct nats_store *, struct nats_task *, bool answered);
};

struct nats_tasks {
    struct nats_task *first, *last;
};

/* What a backend adds to the store. thread: the store's. Each may be NULL. */
struct nats_kind {
    bool prompt; /* what a round has written is sent at its end: it does not ask for a PONG */
    /* A new connection stands. False: it is no good, why is static. */
    const char *(*connected)(struct nats_store *);
    /* The connection is closed and about to be freed. */
    void (*lost)(struct nats_store *);
    /* The PONG of a round of tasks has come. */
    void (*answered)(struct nats_store *);
    /* The server has refused a subject: nats_violated tells. */
    void (*refused)(struct nats_store *);
    /* After each round of tasks. Returns when it wants to be called at the latest: CLOCK_MONOTONIC,
     * UINT64_MAX = whenever there is something to do. */
    uint64_t (*tick)(struct nats_store *);
};

struct nats_store {
    struct backend_store base; /* first */
    const struct nats_kind *kind;
    struct topic topic; /* what instances offer: with the configured buffer */
    struct nats_config config;
    struct log_budget connects, losses;
    pthread_t thread;
    _Atomic bool connected;
    struct counter connections, dropped;

    pthread_mutex_t lock; /* of what follows; never held across a call of the library */
    pthread_cond_t changed;
    struct nats_login login;
    struct nats_tasks queue;
    uint64_t waiting_bytes; /* of publishes that have no outcome yet */
    bool started, stopping;
    bool lost;                /* the connection is closed: the library's last word on it */
    struct nats_task refused; /* in the queue while refused_queued */
    bool refused_queued;

    /* ---- the thread's own ---- */
    natsConnection *connection;
    struct nats_listener *listeners;
    char denied[NATS_DENIED][MESSAGE_TOPIC_BYTES + 1];
    unsigned n_denied;
    bool refused_some; /* in this window */
    bool write_failed; /* the connection is no good */
    unsigned attempts, server_at, attachments, draining;
    uint64_t next_attempt_ns, next_tick_ns;
};

/* Of a zeroed store. Faults of the values are an error, and nothing is to be cleared then. */
struct err nats_store_init(struct nats_store *store, const struct backend_type *type,
                           const struct nats_kind *kind, const struct backend_options *options);
void nats_store_clear(struct nats_store *store); /* ends the thread */
void nats_store_reload(struct backend_store *store, const struct backend_value *values);
void nats_store_start(struct nats_store *store); /* the thread, once. thread: any */
void nats_store_put(struct nats_store *store, struct nats_task *task); /* thread: any */

uint64_t nats_store_waiting(struct nats_store *store); /* bytes. thread: any */

/* Waits for the server's PONG. thread: the store's, with a connection. */
natsStatus nats_ask(struct nats_store *store);

/* Gives the connection up; the next one is tried soon. thread: the store's, with a connection. */
void nats_store_leave(struct nats_store *store, const char *why, const char *detail);

struct err nats_unavailable(void);

/* What the library last heard of the server that was refused: a subject, or NULL. prefix: the start
 * of the server's sentence. thread: the store's. */
bool nats_violated(struct nats_store *store, const char *prefix, char subject[], size_t room);

/* ---- nats_attachment.c ---- */

/* A subscription on one connection. Ends with the library's last callback for it: asked for by
 * leave or drain, or because the connection is gone. What comes next begins after that, so messages
 * never overtake. Embedded by its owner. */
struct nats_attachment {
    struct nats_task gone; /* first: the library's last callback has come */
    struct nats_store *store;
    natsSubscription *subscription; /* NULL: not attached */
    bool draining;
    /* Owns the message. thread: the library's. */
    void (*message)(struct nats_attachment *, natsSubscription *, natsMsg *);
    /* It is over; it may be used again. thread: the store's. */
    void (*over)(struct nats_attachment *);
};

/* False: the connection is going; over() does not come. thread: the store's, with a connection; so
 * are leave and drain. */
bool nats_attach(struct nats_attachment *attachment, const char *subject);
void nats_attachment_leave(struct nats_attachment *attachment); /* nothing more comes */
void nats_attachment_drain(
    struct nats_attachment *attachment); /* what was sent to us comes first */

static inline struct nats_store *nats_store_of(const struct backend *backend)
{
    return CONTAINER_OF(backend->store, struct nats_store, base);
}

/* ---- nats.c ---- */

struct nats_instance {
    struct backend base; /* first */
    unsigned subscriptions;
    struct nats_publication *publications; /* under the store's lock: those in the queue */
    struct nats_task end;
    struct job ended;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* ---- nats_publish.c ---- */

void nats_publish(struct backend *backend, struct publish *publish);
void nats_probe(struct backend *backend, struct op *op);
/* The window's PONG has come. thread: the store's. */
void nats_publish_answered(struct nats_store *store);
/* Ends what is in the queue. thread: home. */
void nats_publish_abandon(struct nats_instance *instance);

/* ---- nats_listener.c ---- */

void nats_listener_open(struct backend *backend, struct subscription *subscription);
void nats_listener_grant(struct backend *backend, struct subscription *subscription,
                         uint32_t messages, uint64_t bytes);
void nats_listener_withdraw(struct backend *backend, struct subscription *subscription);
void nats_listener_close(struct backend *backend, struct subscription *subscription);

/* Subscribes everybody anew. thread: the store's, with a new connection. */
void nats_listeners_connected(struct nats_store *store);

/* ---- nats_buffer.c. The owner of a buffer has the lock ---- */

struct nats_buffer {
    natsMsg **ring;
    size_t room, first, count; /* room: a power of two, or 0 */
    size_t bytes, max_bytes;
};

/* Takes the message over. Returns how many older ones were dropped for it. */
uint64_t nats_buffer_put(struct nats_buffer *buffer, natsMsg *message);

/* As much as the credit allows, which it uses up; NULL: nothing is there. */
struct incoming_batch *nats_buffer_take(struct nats_buffer *buffer,
                                        struct subscription *subscription);
void nats_buffer_clear(struct nats_buffer *buffer);

/* A batch that is being filled. add owns the message, which becomes the last item, and returns what
 * it counts. */
struct incoming_batch *nats_batch_new(void);
size_t nats_batch_add(struct incoming_batch *batch, natsMsg *message);

static inline bool nats_batch_full(const struct incoming_batch *batch)
{
    return batch->n == BATCH_MESSAGES || batch->bytes >= BATCH_BYTES;
}

/* ---- nats_message.c ---- */

struct err nats_check_topic(struct slice topic);
struct err nats_check_pattern(struct slice topic); /* also * and > behind the first token */

/* Can this be carried as it is? Its topic apart. max_payload: 0 = not known. */
struct err nats_check_message(const struct outgoing *item, uint64_t max_payload);

/* reply: where an answer goes; NULL: nowhere. */
natsStatus nats_message_out(natsMsg **out, const struct outgoing *item, const char *reply);

/* They differ in nothing but their topic: the items of a multicast. */
bool nats_message_alike(const struct outgoing *a, const struct outgoing *b);

/* The library's message for items with headers that are alike; begins as zeros. */
struct nats_form {
    natsMsg *message; /* to be destroyed by whoever holds the form; NULL is accepted there */
    const struct outgoing *of;
};

/* Into the library's buffer, to be flushed. The item has passed the check. */
natsStatus nats_message_publish(natsConnection *connection, struct nats_form *form,
                                const struct outgoing *item);

/* Slices point into the message and the arena. */
void nats_message_in(struct incoming *in, natsMsg *message, struct arena *arena);

/* ---- nats_headers.c ---- */

#define NATS_KEY_HEADER "Prism-Key"
#define NATS_ID_HEADER  "Nats-Msg-Id"

/* Key and identifier of the item as well. */
natsStatus nats_headers_add(natsMsg *message, const struct outgoing *item);

/* The headers, key and id; they live as long as the message and the arena. */
void nats_headers_take(struct incoming *in, natsMsg *message, struct arena *arena);

#endif
