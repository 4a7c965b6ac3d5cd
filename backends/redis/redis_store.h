/* One slot's redis: login, TLS, health, and what its instances tell each other.
 *
 * A backend type of this folder has redis_settings or redis_stream_settings as its table,
 * redis_settings_check as its check (redis_settings.h), and opens its store with redis_store_new.
 */
#ifndef PRISM_BACKENDS_REDIS_REDIS_STORE_H
#define PRISM_BACKENDS_REDIS_REDIS_STORE_H

#include "backends/backend.h"
#include "backends/redis/redis_text.h"
#include "src/base/container.h"
#include "src/base/log.h"

#include <pthread.h>
#include <stdatomic.h>

struct redis;
struct redis_tags;
struct ssl_ctx_st;

enum { REDIS_RETRY_MS = 100 /* advice to callers when the connection is away */ };

#define REDIS_VALUE_BYTES (512ull << 20)

struct redis_login {
    char *username, *password; /* NULL: none */
};

struct redis_store {
    struct backend_store base; /* first */
    struct redis_address address;
    const char *shown_host; /* for the log: nothing that came from ${..} */
    uint64_t database;
    char *prefix;
    size_t prefix_len;
    uint64_t dial_timeout_ns, command_timeout_ns, max_in_flight, max_buffer_bytes;
    uint64_t cluster_refresh_ms, partitions;
    struct redis_tags *_Atomic tags; /* of the partitions; NULL: not known yet, or no cluster */
    _Atomic bool tags_wrong;         /* redis says another number by now */
    uint64_t claim_idle_ms, max_length, max_age_ms;     /* streams */
    uint64_t queue_messages, queue_bytes, queue_age_ms; /* of one queue; 0: no bound */
    bool trim_unread;
    char *server_name;     /* of its certificate; NULL: the host */
    char *sentinel_master; /* NULL: the address is the server itself */
    struct log_budget connects, losses, troubles;

    struct counter dropped;    /* messages of topics that a subscription missed; shared writers */
    _Atomic uint64_t sessions; /* as swept last */
    struct counter lost; /* messages of streams that were removed before a group had them; shared
                            writers */

    pthread_mutex_t lock; /* of the rest, but for what is atomic */
    struct redis_login login, sentinel_login;
    struct ssl_ctx_st *tls; /* NULL: none */
    unsigned states[BACKEND_DOWN + 1];
    const char *texts[BACKEND_DOWN + 1]; /* the latest for each state; static */
    struct redis *instances;             /* those that report */

    _Atomic uint64_t count_slots;   /* that counts remember keys in (redis_count.c) */
    _Atomic uint64_t refused_bytes; /* the smallest word that redis refused for its size; 0: none */
};

/* For a type with redis_settings; frees nothing of the type's own. As backend_type.store_open,
 * store_close and reload. */
struct err redis_store_new(struct backend_store **store, const struct backend_type *type,
                           const struct backend_options *options);
void redis_store_close(struct backend_store *store);
void redis_store_reload(struct backend_store *store, const struct backend_value *values);

/* The login of new connections, to redis or to its sentinels, into memory that the caller
 * overwrites and frees with redis_login_clear. thread: any. */
struct redis_login redis_store_login(struct redis_store *store, bool sentinel);
void redis_login_clear(struct redis_login *login);

/* For a new connection; to be let go of. NULL: without TLS. thread: any. */
struct ssl_ctx_st *redis_store_tls(struct redis_store *store);

/* ---- what instances tell; thread: home of the instance ---- */

/* An instance comes into the tally of states, and goes. */
void redis_join(struct redis_store *store, struct redis *redis);
void redis_leave(struct redis_store *store, struct redis *redis);

/* text is static, NULL with BACKEND_READY. */
void redis_report(struct redis *redis, enum backend_state state, const char *text);

/* What an acknowledged write means, and whether acknowledged data may be evicted. */
void redis_report_ack(struct redis_store *store, enum backend_ack ack);
void redis_report_eviction(struct redis_store *store, enum backend_eviction eviction);

/* What clients are told has changed. */
void redis_facts_changed(struct redis_store *store);

/* Has all other instances ask their server for its facts (redis_conn.c). */
void redis_check_others(struct redis *redis);

#endif
