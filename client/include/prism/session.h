/* Client of the SessionStore pattern: sessions with an owner, a sliding expiry and named values.
 *
 * Rules on threads, ownership, errors, deadlines and retries: <prism/prism.h>. Get and List only
 * read; everything else is a write. `error` may be NULL. Whoever knows the identifier of a session
 * has the session: it does not belong into a log. */
#ifndef PRISM_SESSION_H
#define PRISM_SESSION_H

#include <prism/prism.h>

#ifdef __cplusplus
extern "C" {
#endif

struct prism_sessions;

enum { PRISM_SESSION_ID_BYTES = 65 }; /* longest identifier, with its NUL */

/* Asks the server for its capabilities. Free with prism_sessions_close.
 * errors: UNAVAILABLE, DEADLINE_EXCEEDED (server not reached), UNIMPLEMENTED (the namespace has no
 * SessionStore pattern), NOT_FOUND (no such namespace), and what any call may return. */
PRISM_API enum prism_code prism_sessions_open(struct prism_channel *channel,
                                              struct prism_sessions **sessions,
                                              struct prism_error *error);

/* No call may be running. NULL is accepted. The channel stays open. */
PRISM_API void prism_sessions_close(struct prism_sessions *sessions);

struct prism_sessions_capabilities {
    const char *backend_type; /* of the slot store: "postgres"; never NULL */
    const struct prism_operation *operations;
    size_t operation_count;
};

/* Owned by the client object, and valid as long as it. Never NULL. */
PRISM_API const struct prism_sessions_capabilities *prism_sessions_capabilities(
    const struct prism_sessions *sessions);

/* The same as its backend_type. */
PRISM_API const char *prism_sessions_backend_type(const struct prism_sessions *sessions);

/* A value: bytes, and the URL of their type, which is handed on unread ("" = none). Borrowed. */
struct prism_session_value {
    const char *name; /* not empty */
    const char *type; /* NULL = "" */
    struct prism_bytes bytes;
    int64_t version; /* set by the library where it reads; ignored where it writes */
};

/* ---- one session ---- */

/* All zero: nobody's, without values, for as long as the namespace says. Borrowed. */
struct prism_session_options {
    const char *user, *region, *client; /* NULL = "" */
    int64_t ttl_s;                      /* 0 = the namespace's default */
    const struct prism_session_value *values;
    size_t value_count;
};

struct prism_session_created {
    char id[PRISM_SESSION_ID_BYTES];
    int64_t expires_at_ms; /* Unix time */
    int32_t ended_count;   /* sessions of the user that ended for it */
};

/* options NULL: all zero.
 * errors: RESOURCE_EXHAUSTED (a limit of the user or the namespace, or the values are too large),
 *   INVALID_ARGUMENT, and what any write may return. */
PRISM_API enum prism_code prism_session_create(struct prism_sessions *sessions,
                                               const struct prism_session_options *options,
                                               struct prism_session_created *created,
                                               struct prism_error *error);

/* Borrowed until the function that is told of it returns. Times are Unix time. */
struct prism_session {
    const char *id, *user, *region, *client;
    int64_t created_at_ms, used_at_ms, expires_at_ms;
    int64_t version;
    const struct prism_session_value *values; /* none in a list */
    size_t value_count;
};

/* False ends a list early. `context` is the caller's. thread: the one that waits. */
typedef bool prism_session_fn(void *context, const struct prism_session *session);

/* Tells `read` of the session. touch: the read counts as use, and moves the expiry.
 * errors: NOT_FOUND (absent or expired), and what any read may return. */
PRISM_API enum prism_code prism_session_get(struct prism_sessions *sessions, const char *id,
                                            bool touch, prism_session_fn *read, void *context,
                                            struct prism_error *error);

/* All zero: nothing changes. Borrowed. */
struct prism_session_update {
    const struct prism_session_value *set;
    size_t set_count;
    const char *const *remove; /* names; none that is in set */
    size_t remove_count;
    int64_t if_version; /* only if the session has this version; 0 = any */
};

/* All of it, or nothing. version: the session's afterwards, or, with ABORTED, now; may be NULL.
 * errors: NOT_FOUND, ABORTED (another version), RESOURCE_EXHAUSTED (the session would be too
 *   large), INVALID_ARGUMENT, and what any write may return. */
PRISM_API enum prism_code prism_session_update(struct prism_sessions *sessions, const char *id,
                                               const struct prism_session_update *update,
                                               int64_t *version, struct prism_error *error);

/* Another identifier, to new_id of PRISM_SESSION_ID_BYTES; the old one is not known any more. To be
 * called when the rights of a session change, as at a login.
 * errors: NOT_FOUND, and what any write may return. */
PRISM_API enum prism_code prism_session_rotate(struct prism_sessions *sessions, const char *id,
                                               char *new_id, struct prism_error *error);

/* Moves the expiry to expires_at_ms (Unix time) if that is later; may be repeated. now_at_ms: when
 * it expires afterwards; may be NULL.
 * errors: NOT_FOUND, INVALID_ARGUMENT, and what any write may return. */
PRISM_API enum prism_code prism_session_extend(struct prism_sessions *sessions, const char *id,
                                               int64_t expires_at_ms, int64_t *now_at_ms,
                                               struct prism_error *error);

/* existed: whether it was there; may be NULL. */
PRISM_API enum prism_code prism_session_delete(struct prism_sessions *sessions, const char *id,
                                               bool *existed, struct prism_error *error);

/* ---- several ---- */

/* Ends all sessions of a user, but `except` (NULL: none is spared). deleted: how many; may be NULL.
 */
PRISM_API enum prism_code prism_session_delete_user(struct prism_sessions *sessions,
                                                    const char *user, const char *except,
                                                    int64_t *deleted, struct prism_error *error);

/* All zero: every session of the namespace. Borrowed. */
struct prism_session_filter {
    const char *user, *region, *client; /* NULL or "" = any */
    uint32_t page_size;                 /* 0 = 1000 */
};

/* Tells `found` of each that meets all conditions, in the order of their creation, page by page.
 * filter NULL: all. */
PRISM_API enum prism_code prism_session_list(struct prism_sessions *sessions,
                                             const struct prism_session_filter *filter,
                                             prism_session_fn *found, void *context,
                                             struct prism_error *error);

#ifdef __cplusplus
}
#endif

#endif
