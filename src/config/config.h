/* prismd's configuration: read, checked and bound to backend and pattern descriptors, before
 * anything is started.
 *
 * config_load reports every fault of a file at once, each with its place, what is wrong and the
 * smallest fix; the same call serves `prismctl check`. It does no network I/O. Every key, default
 * and bound: docs/configuration.md.
 *
 * This module links neither backends nor patterns: who calls it hands over the lists (struct
 * config_catalog).
 *
 * thread: one; config_load reads the environment, so nobody may call setenv meanwhile. */
#ifndef PRISM_CONFIG_CONFIG_H
#define PRISM_CONFIG_CONFIG_H

#include "backends/backend.h"
#include "patterns/pattern.h"
#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CONFIG_MAX_BYTES = 1 << 20,   /* of a file; and of all that ${..} adds */
    CONFIG_MAX_SCALAR = 64 << 10, /* bytes of one value, and of one ${file:..} */
    CONFIG_MAX_DEPTH = 16,
    CONFIG_MAX_NODES = 20000,
    CONFIG_MAX_ENTRIES = 512, /* of one list or mapping */
    CONFIG_MAX_NAMESPACES = 64,
    CONFIG_MAX_FAULTS = 100, /* kept; more are counted */
    CONFIG_MAX_WORKERS = 64,
    CONFIG_READ_TIMEOUT_MS = 30000 /* for a configuration that comes through a pipe */
};

/* ---- what can be configured with ---- */

/* All members but try_tls and pem_fault are required. In prismd and prismctl: backend_find,
 * backend_all, ... of the registries. */
struct config_catalog {
    const struct backend_type *(*find_backend)(struct slice name);
    const struct backend_type *const *(*all_backends)(void);
    const struct pattern_type *(*find_pattern)(struct slice name);
    const struct pattern_type *const *(*all_patterns)(void);
    const char *(*interface_name)(enum backend_interface interface);
    const char *(*interface_key)(enum backend_interface interface);
    bool (*offers)(const struct backend_interfaces *has, enum backend_interface interface);

    /* Reads and checks the TLS files as the start does. errors: about "tls.cert", "tls.key" or
     * "tls.client_ca". NULL: they are only looked for. */
    struct err (*try_tls)(const char *cert, const char *key, const char *client_ca);

    /* What is wrong with a file of certificates; with a key, what is wrong with that, of which the
     * certificates may be NULL. Static; NULL: nothing. NULL itself: PEM form is looked for. */
    const char *(*pem_fault)(const char *certificates, const char *key);
};

/* ---- faults ---- */

/* Texts never contain the value of a secret, nor of anything that came from ${..}. */
struct fault {
    const char *path;    /* "namespaces[0].slots.primary.config.adress"; "" = the file as a whole */
    unsigned line;       /* in the file, from 1: of the path or, if it is missing there, of what it
                            would stand in; 0 = the file as a whole, or an embedded default */
    const char *message; /* "backend redis has no setting `adress`" */
    const char *fix; /* the smallest one: "did you mean `address`?"; NULL: the message says it */
    const char *slot, *backend,
        *interface; /* what is concerned, when it is about a slot; else NULL */
};

struct faults {
    struct fault items[CONFIG_MAX_FAULTS];
    size_t count;       /* in items */
    size_t omitted;     /* found, but not kept */
    struct arena arena; /* owns the texts */
};

void faults_init(struct faults *faults);
void faults_clear(struct faults *faults);

/* One "config_fault" event each. */
void faults_log(const struct faults *faults);

/* ---- the configuration ---- */

enum config_dispatch { CONFIG_DISPATCH_AUTO, CONFIG_DISPATCH_RING };
enum config_coalesce { CONFIG_COALESCE_OFF, CONFIG_COALESCE_MORE, CONFIG_COALESCE_BUFFER };

struct config_limits {
    uint32_t max_message_bytes;
    uint32_t max_inflight_calls;
    uint32_t connection_share_percent;
    uint32_t max_general_streams;
    uint32_t request_timeout_ms; /* 0 = never */
    uint32_t unread_answer_ms;   /* 0 = never */
    uint32_t intake_depth;       /* a power of two */
    uint64_t max_inflight_bytes;
    uint32_t max_streams_per_connection;
    uint64_t transport_bytes;          /* 0 = no quota */
    uint32_t max_connections;          /* 0 = what the limit of descriptors allows */
    uint32_t max_connections_per_peer; /* 0 = three quarters of max_connections */
    uint32_t max_metadata_bytes;
};

struct config_keepalive {
    uint32_t interval_ms, timeout_ms, min_ping_interval_ms; /* 0 = gRPC's default */
};

struct config_connection {
    uint32_t max_idle_ms, max_age_ms, max_age_grace_ms; /* 0 = never */
};

struct config_tls {
    const char *cert, *key,
        *client_ca; /* PEM files; cert NULL: no TLS; client_ca NULL: clients stay anonymous */
};

struct config_slot {
    const struct backend_type *backend; /* NULL: an optional slot that is empty */
    const struct backend_value *values; /* by the order of backend->settings */
    uint32_t emulate;                   /* bit 1u << enum backend_interface */
    unsigned line;                      /* in the file; 0: an embedded default */
};

struct config_namespace {
    const char *name;
    const struct pattern_type *pattern;
    struct config_slot slots[PATTERN_MAX_SLOTS]; /* by the index of pattern->slots */
    const struct backend_value
        *behavior; /* by the order of pattern->behavior; NULL without such settings */
};

/* Stands in the log for what came from ${..}. */
#define CONFIG_HIDDEN "(hidden)"

struct config {
    const char *path;                     /* of the file; borrowed; NULL: none */
    const struct config_catalog *catalog; /* borrowed */
    const char *listen;
    const char *admin;                /* NULL: off */
    bool listen_hidden, admin_hidden; /* came from ${..}: not for the log */
    uint32_t workers; /* 1..CONFIG_MAX_WORKERS; the file's 0 has become the number of cores */
    enum config_dispatch dispatch;
    enum config_coalesce coalesce;
    struct config_limits limits;
    struct config_keepalive keepalive;
    struct config_connection connection;
    enum log_level log_level;
    struct config_tls tls;
    bool deprecated_services, reflection;
    bool strict_slots;
    uint32_t drain_timeout_ms;
    const struct config_namespace *namespaces; /* (name, pattern) is unique */
    size_t namespace_count;                    /* 1..CONFIG_MAX_NAMESPACES */
    struct arena arena;                        /* owns all of it */
};

/* Reads the file at `path`, which the config refers to; NULL: the embedded defaults (namespace
 * "default": keyvalue on memstore). `faults` is initialised by the caller. errors: INVALID_ARGUMENT
 * when there are faults, NOT_FOUND or PERMISSION_DENIED when the file cannot be read (that is a
 * fault, too). An empty file is a fault. A pipe has CONFIG_READ_TIMEOUT_MS to end. config_clear is
 * due in every case. */
struct err config_load(struct config *config, const char *path,
                       const struct config_catalog *catalog, struct faults *faults);

/* The same from memory. */
struct err config_parse(struct config *config, struct slice yaml,
                        const struct config_catalog *catalog, struct faults *faults);

/* One line about the namespaces, for the log: "default (keyvalue: primary=memstore), ...". Cut to
 * `room`. */
void config_describe(const struct config *config, char *out, size_t room);

/* Also of a zeroed or half-loaded one. */
void config_clear(struct config *config);

/* ---- the reference, for documentation and its test ---- */

struct config_fact {
    const char *path;     /* "limits.max_message_bytes" */
    const char *fallback; /* as written in the file; NULL: no default */
    uint64_t min, max;    /* of numbers */
    bool zero;            /* 0 is allowed although min is larger */
    const char *doc;
};

/* Every scalar key outside `namespaces`; ends with .path = NULL. */
const struct config_fact *config_facts(void);

#endif
