/* Sessions, in the table of the keys. thread: home of the instance.
 *
 *   p = "<root>s<number>"       k = identifier   the session: its owner, times and values
 *   p = "<root>a"               k = place        all sessions
 *   p = "<root>u:<user>"        k = place        those of a user
 *   p = "<root>r:<region>"      k = place        those of a region
 *   p = "<root>a"               k = 0            the last place, and how many sessions there are
 *   p = "<root>u:<user>"        k = 0            how many the user has
 *
 * What names a session is written and removed in one transaction with it, and only the session
 * itself tells whether it lives: an entry of one that has expired counts until somebody passes.
 *
 * A session: l place; u, g, c, a owner; m created, w used, e expires, x time to live, z end of its
 * life (all in ms); t expiry for the server, in s; s version; b bytes of its values; and for each
 * value n:<name>, its version, and v:<name>, its bytes, which an empty one has not.
 * An entry: i identifier; u, g. A count: c; l. */
#ifndef PRISM_BACKENDS_DYNAMODB_DYNAMODB_SESSION_H
#define PRISM_BACKENDS_DYNAMODB_DYNAMODB_SESSION_H

#include "backends/dynamodb/dynamodb_priv.h"
#include "backends/session.h"

enum {
    DYNAMODB_SESSION_BYTES =
        380 << 10,                /* of an item, less owner, times and what JSON does not show */
    DYNAMODB_SESSION_ROUNDS = 48, /* an operation that others come before is begun again */
    DYNAMODB_SESSION_LOOK = 100,  /* entries that are looked at at once */
    DYNAMODB_SESSION_ANSWER = 8 << 20,
};

struct dynamodb_session {
    struct slice id;
    struct session_owner owner;
    struct session_times times;
    uint64_t place, ttl_ms, end_ms, version, bytes;
    const struct cJSON *json; /* the item */
};

/* A value that a session holds. Slices within the JSON. */
struct session_held {
    struct slice name, base64;
    uint64_t version;
};

/* ---- requests and answers (dynamodb_session_item.c) ---- */

enum dynamodb_index { INDEX_ALL = 'a', INDEX_USER = 'u', INDEX_REGION = 'r' };

void text_member(struct text *text, const char *name, struct slice value); /* ,"u":{"S":".."} */
void text_count(struct text *text, const char *name, uint64_t number);     /* ,"e":{"N":".."} */

/* "TableName":..,"Key":{..} */
void text_session_at(struct text *text, const struct dynamodb_store *store, struct slice id);
void text_entry_at(struct text *text, const struct dynamodb_store *store, enum dynamodb_index index,
                   struct slice whose, uint64_t place); /* place 0: the count */

/* The name of a partition. In the text's arena. */
const char *dynamodb_index_name(struct text *text, const struct dynamodb_store *store,
                                enum dynamodb_index index, struct slice whose);
void text_place(struct text *text, uint64_t place); /* {"B":".."} */

/* ,{"Put":{..}} for each entry of a session. */
void text_put_entries(struct text *text, const struct dynamodb_store *store,
                      const struct dynamodb_session *session);
/* "p":..,"k":.. */
void text_session_key(struct text *text, const struct dynamodb_store *store, struct slice id);
/* ,"n:..":{..},"v:..":{..} */
void text_value(struct text *text, const struct session_value *value, uint64_t version);
void text_held(struct text *text, const struct session_held *held);
/* ,"l":.. and all the others but the values */
void text_session_head(struct text *text, const struct dynamodb_session *session);

/* Copies in arena. False: it is absent, or has expired. */
bool dynamodb_session_read(const struct cJSON *json, struct dynamodb_session *session,
                           struct arena *arena);
uint64_t dynamodb_number(const struct cJSON *item, const char *name);
struct slice dynamodb_text(const struct cJSON *item, const char *name);

/* All of them, by name. In arena. */
struct session_held *dynamodb_session_values(const struct cJSON *item, size_t *n,
                                             struct arena *arena);
/* NULL: it holds none of this name. */
const struct session_held *dynamodb_session_held(const struct session_held *held, size_t n,
                                                 struct slice name);

/* What `use` makes of its times. True: the expiry is to be moved. */
bool dynamodb_session_use(struct dynamodb_session *session, const struct session_use *use);

/* A call of one item, for text_session_at to follow "{". */
struct aws_call *dynamodb_session_call(struct aws_task *task, const char *target,
                                       void (*done)(struct aws_call *));

/* Reads a session, whole. */
void dynamodb_session_fetch(struct aws_task *task, struct slice id,
                            void (*done)(struct aws_call *));

/* ERR_NOT_FOUND: absent or expired. */
struct err dynamodb_session_fetched(struct aws_call *call, struct dynamodb_session *session);

/* Did a condition not hold? Of a single item, and the n-th of a transaction. */
bool dynamodb_unheld(struct aws_call *call);
bool dynamodb_unheld_at(struct aws_call *call, int n);

/* Of a call that has failed: too large an item is about max_session_size. */
struct err dynamodb_session_failure(struct aws_call *call);
struct err dynamodb_session_too_large(void);
struct err dynamodb_session_contended(void);
struct err dynamodb_session_namespace_full(void);
struct err dynamodb_session_user_full(void);

/* ---- entries with their sessions (dynamodb_session_look.c) ---- */

enum dynamodb_life { SESSION_LIVES, SESSION_EXPIRED, SESSION_GONE };

struct session_found {
    enum dynamodb_life life;
    struct dynamodb_session session; /* of one that does not live: id, place, user and region */
};

/* Those behind a place, in their order. */
struct session_look {
    struct aws_task *task;
    enum dynamodb_index index;
    struct slice whose;
    uint64_t after;
    uint32_t max; /* 1..DYNAMODB_SESSION_LOOK */
    void (*done)(struct session_look *look, struct err err);
    void *state;
    /* out */
    struct session_found *found;
    size_t n;
    bool more;
    /* private */
    struct session_found *before; /* of the look before: what is gone twice is gone */
    size_t before_n;
    bool *waits;
    unsigned rounds;
};

void dynamodb_session_look(struct session_look *look);
uint64_t dynamodb_place(const struct cJSON *item); /* of an item or a key; 0: it has none */

/* ---- removals (dynamodb_session_remove.c) ---- */

/* As many as a transaction takes at once, one transaction after the other. */
struct session_removal {
    struct aws_task *task;
    const struct session_found *doomed;
    size_t n;
    /* err ERR_ABORTED: others came before, and what is left is to be looked at again. */
    void (*done)(struct session_removal *removal, struct err err);
    void *state;
    /* out */
    size_t removed; /* of doomed, from its beginning */
    /* private */
    size_t chunk;
};

void dynamodb_session_remove_all(struct session_removal *removal);

/* Items of a transaction that remove one: each with a comma before it. */
void text_removal(struct text *text, const struct dynamodb_store *store,
                  const struct session_found *doomed);
/* Adds to a count, as an item of a transaction, with a comma before it. */
void text_user_count(struct text *text, const struct dynamodb_store *store, struct slice user,
                     int64_t more);

/* Adds to the count of all; done() whatever the outcome. */
void dynamodb_session_count(struct aws_task *task, int64_t more, void (*done)(struct aws_call *),
                            void *state);

/* ---- the count of all, put right (dynamodb_session_recount.c) ---- */

/* How long a creation may hold a place before it inserts, and how long a place that it gave up may
 * be used by another. */
uint64_t dynamodb_session_hold_ns(const struct aws_store *store);

struct session_recount {
    struct aws_task *task;
    void (*done)(struct session_recount *recount, bool mended);
    void *state;
    bool taken; /* the instance's recount is this one's */
    /* private */
    unsigned pages;
};

/* Goes on with it, for a few pages. `mended`: the count has become smaller. */
void dynamodb_session_recount(struct session_recount *recount);
void dynamodb_session_recount_abandon(struct session_recount *recount);

/* ---- operations ---- */

/* Those that create or end sessions of one user take turns in an instance: they would be in each
 * other's way. A part of what they keep in their task. (dynamodb_session_turn.c) */
struct session_turn {
    struct session_turn *next; /* those that came before it first */
    struct aws_task *task;
    struct slice user; /* empty: no turns are taken */
    void (*begin)(struct session_turn *turn);
    bool taken;
};

/* begin() comes now, or when those before it have ended. */
void dynamodb_turn_take(struct session_turn *turn);
void dynamodb_turn_end(struct session_turn *turn);

void dynamodb_session_create(struct backend *, struct session_create *);
void dynamodb_session_get(struct backend *, struct session_get *);
void dynamodb_session_patch(struct backend *, struct session_patch *);
void dynamodb_session_rotate(struct backend *, struct session_rotate *);
void dynamodb_session_extend(struct backend *, struct session_extend *);
void dynamodb_session_remove(struct backend *, struct session_remove *);
void dynamodb_session_remove_user(struct backend *, struct session_remove_user *);
void dynamodb_session_page(struct backend *, struct session_page *);

extern const struct session dynamodb_session;

#endif
