/* What the files of this folder share: the instance with its plan, and the ways between the
 * protocol's messages and owners, values and times.
 *
 * thread: everything here runs on the instance's home worker. */
#ifndef PRISM_PATTERNS_SESSION_STORE_SESSION_STORE_PRIV_H
#define PRISM_PATTERNS_SESSION_STORE_SESSION_STORE_PRIV_H

#include "backends/session.h"
#include "patterns/messages.h"
#include "patterns/pattern.h"
#include "patterns/session_store/messages.h"
#include "src/base/arena.h"
#include "src/rpc/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SESSIONS_DEFAULT_LIMIT = 100, /* of ListSessions */
    SESSIONS_TYPE_BYTES = 2048,   /* longest type of a value */
    SESSIONS_ATTRIBUTES_BYTES = 8192
};

/* ---- plan.c ---- */

/* The operations in the order of the service. */
struct session_operation {
    const char *name;
    bool writes, many;
};

extern const struct session_operation session_operation_table[]; /* ends with .name = NULL */

size_t session_store_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                                struct pattern_operation *out, size_t max);

/* ---- session_store.c: the instance ---- */

struct session_settings {
    uint64_t default_ttl_ms, max_ttl_ms;
    uint64_t max_life_ms; /* 0 = no bound */
    struct session_use use;
    uint64_t max_bytes;
    uint32_t max_per_user; /* 0 = no bound */
    bool end_oldest;
    uint64_t max_sessions; /* 0 = no bound */
};

struct session_stats { /* written on the home worker */
    struct counter created, refused_user, refused_namespace;
    struct counter deleted, of_user, evicted, rotated, extended;
    struct counter read, read_missing;
    struct counter written, write_missing, aborted, too_large;
};

struct session_store {
    struct pattern base;
    struct arena memory; /* holds the instance itself */
    struct pattern_binding binding;
    struct backend *backend;
    const struct session *methods; /* the plan: what the backend in the slot offers */
    uint32_t facts;                /* pattern_facts, that the plan was made from */
    struct session_settings settings;
    uint64_t max_bytes; /* of a session: settings, backend and message, whatever is least */
    struct session_stats stats;

    /* caps.c */
    struct arena caps_memory;
    ProtobufCMessage *caps; /* ready to be sent; NULL: to be built */
};

/* The call's instance, with a plan that is up to date. */
struct session_store *session_store_of(const struct call *call);

/* ---- caps.c ---- */

void session_caps_build(struct session_store *store);

/* ---- convert.c: before the first effect. Texts are static ---- */

/* A new identifier, "sess-" and 192 random bits of the kernel's in 32 characters; where the backend
 * wants to be told the session's group, two digits more: that of the user, of the identifier
 * before, or, of neither, any. */
struct slice convert_new_id(struct arena *arena, const struct session *methods, struct slice user,
                            struct slice before);

struct err convert_id(const char *text, const char *subject, struct slice *out);
struct err convert_text(const char *text, const char *subject,
                        struct slice *out); /* may be empty */
struct err convert_key(const char *text, const char *subject, struct slice *out);
struct err convert_owner(struct arena *arena, const pb_session_metadata *from,
                         struct session_owner *to);

/* A value as it is stored: u16 length of its type, little-endian; the type; the bytes. */
struct err convert_value(struct arena *arena, const pb_any *from, const char *subject,
                         struct slice *to);

/* Entries of a map as they came: of those with the same name the last one counts. */
struct session_pair {
    const char *key;
    const pb_any *value;
};

struct err convert_values(struct arena *arena, const struct session_pair *pairs, size_t n,
                          const char *subject, struct session_value **values, size_t *values_n);

/* if_version of a request: `given` whether it is there. */
struct err convert_version(bool given, int64_t version, int64_t least, uint64_t *out);

/* The other way. Messages live in the arena. */
pb_timestamp *convert_time(struct arena *arena, uint64_t ms);
pb_any *convert_any(struct arena *arena, struct slice value);
pb_session_data *convert_session(struct arena *arena, struct slice id,
                                 const struct session_owner *owner,
                                 const struct session_times *times, uint64_t version);

/* ---- outcomes ---- */

/* Is this told in the answer? Else it is the status of the call. Counts it. */
bool session_in_band(struct session_store *store, struct err err);

/* ---- stats.c ---- */

void session_store_render(struct pattern *const *instances, size_t n, struct metrics_page *page);

/* ---- handlers ---- */

call_handler_fn session_get_capabilities, session_create, session_get, session_set_data,
    session_get_data, session_delete_data, session_update, session_rotate, session_delete,
    session_delete_user, session_extend, session_list;

#endif
