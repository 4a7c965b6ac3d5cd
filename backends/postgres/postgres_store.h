/* One slot's postgres: settings, login, statements, health, and what its instances share. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_STORE_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_STORE_H

#include "backends/backend.h"
#include "backends/postgres/postgres_sql.h"
#include "src/base/container.h"
#include "src/base/log.h"

#include <pthread.h>
#include <stdatomic.h>

struct postgres;

enum {
    POSTGRES_RETRY_MS = 100,   /* advice to callers when the connection is away */
    POSTGRES_KEY_BYTES = 8192, /* longest key; an index holds its digest and its beginning */
    POSTGRES_CONNECTIONS = 16  /* of one worker, at most */
};

enum { POSTGRES_TABLES = 5 }; /* those whose rows come and go (postgres_burden.c) */

#define POSTGRES_VALUE_BYTES (256ull << 20)

/* Where to connect, and how. Strings are owned. */
struct postgres_config {
    char *host; /* a name, an address, or the folder of the unix socket */
    bool unix_socket;
    char port[8];
    char *database, *schema;
    char *sslmode, *sslrootcert, *sslcert, *sslkey;
    const char *shown_host; /* for the log: nothing that came from ${..} */
};

struct postgres_login {
    char *username, *password; /* password NULL: none */
};

/* What the last probe has seen (postgres_burden.c). */
struct postgres_burden {
    atomic_bool known;
    atomic_bool old; /* a transaction is older than old_transaction_ms, and this was told */
    _Atomic(uint64_t) dead[POSTGRES_TABLES], hidden, oldest_ms, identities;
};

struct postgres_store {
    struct backend_store base; /* first */
    struct postgres_config config;
    char *sql[POSTGRES_STATEMENTS]; /* with the schema's name in them */
    unsigned connections;           /* of each worker */
    uint64_t dial_timeout_ns, command_timeout_ns, sweep_interval_ns, queue_poll_ns;
    uint64_t max_in_flight, max_buffer_bytes;
    uint64_t old_transaction_ms; /* 0: none is told of */
    uint64_t queue_lease_ms;     /* of deliveries whose subscription names none */
    uint64_t queue_messages, queue_bytes, queue_age_ms; /* of one queue; 0: no bound */
    struct log_budget connects, losses, migrations, troubles;
    struct postgres_burden burden;
    _Atomic(uint64_t) migrate_ns; /* full tables: when a connection may try next */
    _Atomic(uint64_t) pooler_ns;  /* when one of transactions was recognised; 0: never */
    atomic_bool pooler_told;
    atomic_bool swept; /* an instance removes what has expired; the others leave it to it */

    pthread_mutex_t lock; /* of the rest */
    struct postgres_login login;
    unsigned states[BACKEND_DOWN + 1];
    const char *texts[BACKEND_DOWN + 1]; /* the latest for each state; static */
};

extern const struct backend_setting postgres_settings[];

void postgres_settings_check(const struct backend_value *values, struct backend_faults *faults);
/* As backend_type.descriptors. */
struct backend_descriptors postgres_descriptors(const struct backend_value *values);

/* For values that have passed the check. The caller clears both. */
void postgres_settings_take(struct postgres_store *store, const struct backend_value *values);
struct postgres_login postgres_login_take(const struct backend_value *values);
void postgres_login_clear(struct postgres_login *login);
void postgres_config_clear(struct postgres_config *config);

/* As backend_type.store_open, store_close and reload. */
struct err postgres_store_open(struct backend_store **store, const struct backend_options *options);
void postgres_store_close(struct backend_store *store);
void postgres_store_reload(struct backend_store *store, const struct backend_value *values);

/* The login of a new connection, which the caller clears. thread: any. */
struct postgres_login postgres_store_login(struct postgres_store *store);

/* ---- what instances tell; thread: home of the instance ---- */

void postgres_join(struct postgres_store *store, struct postgres *postgres);
void postgres_leave(struct postgres_store *store, struct postgres *postgres);

/* text is static, NULL with BACKEND_READY. */
void postgres_report(struct postgres *postgres, enum backend_state state, const char *text);

/* What an acknowledged write means. */
void postgres_report_ack(struct postgres_store *store, enum backend_ack ack);

#endif
