/* Sessions: values under an unguessable identifier, with an owner and a sliding expiry.
 *
 * The slot is the only truth: nothing is cached, any process may answer. A session that has expired
 * or was removed is absent from every answer of every process from that moment on, also where its
 * memory has not come back yet, and no method brings it back. The clock is the slot's.
 *
 * Each method is one atomic step for the session that it names; so is create with the sessions of
 * the user whose limit it keeps. remove_user and page go by bounded steps.
 *
 * Use. What reads or changes a session is a use of it (struct session_use). The expiry is moved
 * when less than the time to live is left of it, to the time to live and one interval from now; so
 * use writes at most once in an interval, and nothing that is in use ends early.
 *
 * Versions. A session's version is 1 at first and grows by one with each patch that changes it; a
 * value has the version of the patch that set it.
 *
 * Place. Each session has one of its own, greater than those of all that were created in the slot
 * before it, as far as the clocks of its servers agree; pages go by it, and rotate keeps it.
 *
 * Cost. O(log n) among n sessions, and what the values read or written cost; create: for each
 * session that is ended for it as well. O(living) for pages, once what has expired was passed over
 * and removed.
 *
 * Memory. An operation holds what it names and what it found: a patch at most max_bytes, a read
 * SESSION_MAX_BYTES, a page max_bytes and one entry more, remove_user nothing. What a session takes
 * in the store is the backend's.
 *
 * common to all methods
 *   thread   home worker of the backend instance
 *   in       borrowed until done(); checked by the caller: lengths, encodings, bounds
 *   out      in op_arena(op); meaningful only when op.err is ERR_OK, unless said
 *   errors   as in kv.h. Absent or expired: ERR_NOT_FOUND. A write whose answer was lost has
 *            EFFECT_UNKNOWN. */
#ifndef PRISM_BACKENDS_SESSION_H
#define PRISM_BACKENDS_SESSION_H

#include "backends/backend.h"
#include "pool/op.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SESSION_ID_BYTES = 64,            /* longest identifier; printable ASCII */
    SESSION_TEXT_BYTES = 512,         /* longest user, region, client, name of a value; UTF-8 */
    SESSION_ATTRIBUTES_BYTES = 12288, /* largest attributes, encoded */
    SESSION_VALUE_COST = 64,          /* what a value counts beside its name and its bytes */
    SESSION_MAX_BYTES = 16 << 20,     /* no session is larger */
    SESSION_ENDED = 100,              /* sessions that one create ends, at most */
    SESSION_PAGE_ITEMS = 1000
};

#define SESSION_TTL_MAX_MS (100ull * 365 * 86400 * 1000)

/* What a value counts against the bound of its session. */
static inline uint64_t session_value_bytes(struct slice name, struct slice value)
{
    return name.len + value.len + SESSION_VALUE_COST;
}

/* Groups. Where sessions are spread over several places, those of one user are together, and an
 * identifier tells which of 256 groups its session belongs to, by two hexadecimal digits at its end
 * (session_group_say). A session of a user is in the user's group, one without a user in any; it
 * stays there with another identifier. The group is all that an identifier tells of its user. */
enum { SESSION_GROUPS = 256, SESSION_GROUP_BYTES = 2 };

static inline unsigned session_group_of_user(struct slice user)
{
    return slice_hash(user) % SESSION_GROUPS;
}

static inline void session_group_say(char text[SESSION_GROUP_BYTES], unsigned group)
{
    text[0] = "0123456789abcdef"[group / 16 % 16];
    text[1] = "0123456789abcdef"[group % 16];
}

/* Of any identifier: one that tells none is of some group. */
static inline unsigned session_group_of(struct slice id)
{
    unsigned group = 0;

    for (size_t i = id.len < 2 ? id.len : id.len - 2; i < id.len; i++) {
        uint8_t c = id.data[i];

        group = 16 * group + (c <= '9' ? c - (unsigned)'0' : c - (unsigned)'a' + 10) % 16;
    }
    return group;
}

struct session_owner {
    struct slice user, region, client; /* each may be empty */
    struct slice attributes;           /* opaque */
};

struct session_value {
    struct slice name, value;
    uint64_t version; /* out */
};

struct session_times {
    uint64_t created_ms, used_ms, expires_ms; /* Unix time */
};

/* How a use moves the expiry. The session's own time to live and end are what create gave it. */
struct session_use {
    uint32_t percent;         /* interval: of the time to live, 1..100; 0: this is no use */
    uint64_t max_interval_ms; /* and at most so long */
};

static inline uint64_t session_interval_ms(const struct session_use *use, uint64_t ttl_ms)
{
    uint64_t interval_ms = ttl_ms / 100 * use->percent + ttl_ms % 100 * use->percent / 100;

    return interval_ms < use->max_interval_ms ? interval_ms : use->max_interval_ms;
}

/* The expiry after a use at now_ms; end_ms: of the session's life, 0 = none. */
static inline uint64_t session_used_until(const struct session_use *use, uint64_t ttl_ms,
                                          uint64_t end_ms, uint64_t expires_ms, uint64_t now_ms)
{
    uint64_t until_ms = now_ms + ttl_ms;

    if (use->percent == 0 || expires_ms >= until_ms)
        return expires_ms;
    until_ms += session_interval_ms(use, ttl_ms);
    if (end_ms > 0 && until_ms > end_ms)
        until_ms = end_ms;
    return until_ms > expires_ms ? until_ms : expires_ms;
}

/* Begins a session. op.err also ERR_ALREADY_EXISTS (the identifier is taken), and
 * ERR_RESOURCE_EXHAUSTED about "max_sessions_per_user", "max_sessions", "max_session_size" or a
 * limit of the slot's own: nothing was changed. */
struct session_create {
    struct op op;
    struct slice id;
    struct session_owner owner;
    const struct session_value *values;
    size_t n;
    uint64_t ttl_ms;       /* 1..SESSION_TTL_MAX_MS */
    uint64_t max_life_ms;  /* it ends so long after its creation at the latest; 0: no bound */
    uint64_t max_bytes;    /* of its values */
    uint64_t max_sessions; /* of the slot; 0: no bound */
    uint32_t max_per_user; /* living ones; not looked at without a user; 0: no bound */
    bool end_oldest;       /* of the user, SESSION_ENDED at most, so that the new one is within
                              max_per_user; false: refused */
    /* out */
    struct session_times times;
    struct slice ended[SESSION_ENDED];
    size_t ended_n;
};

/* Reads. */
struct session_get {
    struct op op;
    struct slice id;
    struct slice name; /* one value; empty: all of them */
    struct session_use use;
    /* out */
    struct session_owner owner; /* only with all values */
    struct session_times times;
    uint64_t version;
    struct session_value *values; /* with one name: n is 0 or 1 */
    size_t n;
};

enum session_condition {
    SESSION_ALWAYS,
    SESSION_AT_VERSION, /* the session's version is if_version */
    SESSION_VALUE_AT,   /* the version of the first value that is named is if_version; 0: absent */
};

/* Sets and takes away values. op.err also ERR_ABORTED about "if_version", ERR_RESOURCE_EXHAUSTED
 * about "max_session_size" or a limit of the slot's own: nothing was changed. A patch that only
 * takes away may leave a session larger than max_bytes. */
struct session_patch {
    struct op op;
    struct slice id;
    const struct session_value *set; /* no name twice, in both lists together */
    size_t set_n;
    const struct slice *remove;
    size_t remove_n;
    enum session_condition condition;
    uint64_t if_version;
    uint64_t max_bytes; /* of all values of the session afterwards */
    struct session_use use;
    /* out */
    uint64_t version; /* the session's; with ERR_ABORTED: the one that stood in the way */
    uint64_t expires_ms;
    bool existed; /* a value that was taken away was there */
};

/* Another identifier, in place of the old one. ERR_ALREADY_EXISTS: new_id is taken. */
struct session_rotate {
    struct op op;
    struct slice id, new_id;
    struct session_use use;
    uint64_t expires_ms; /* out */
};

/* Moves the expiry forward: by add_ms, or (add_ms 0) to until_ms; never back, never further than
 * max_ttl_ms from now or behind the session's end. */
struct session_extend {
    struct op op;
    struct slice id;
    uint64_t add_ms, until_ms;
    uint64_t max_ttl_ms;
    uint64_t expires_ms; /* out */
};

struct session_remove {
    struct op op;
    struct slice id;
    bool existed; /* out; absent: ERR_OK all the same */
};

/* All of a user but `except` (empty: none is left out). After it is done none of those that were
 * there before its last step is left. With an error, `removed` holds too. */
struct session_remove_user {
    struct op op;
    struct slice user, except;
    uint64_t removed; /* out; living ones */
};

struct session_entry {
    struct slice id;
    struct session_owner owner;
    struct session_times times;
    uint64_t version;
};

/* One page of those that meet all conditions given, by their places. It may be short or empty and
 * yet not be the last: only `more` tells. */
struct session_page {
    struct op op;
    struct slice user, region, client; /* empty: any */
    uint64_t after;                    /* goes on behind this place; 0: from the start */
    uint32_t max_items;                /* 1..SESSION_PAGE_ITEMS */
    uint64_t max_bytes; /* stop after the entry that passes this many; 0 = no bound */
    /* out */
    struct session_entry *entries;
    size_t n;
    bool more;
    uint64_t next; /* `after` of the next page; set if more */
};

struct session {
    uint64_t max_bytes; /* largest session, as session_value_bytes counts; SESSION_MAX_BYTES at most
                         */
    bool
        native_expiry; /* the server removes what has expired, also while no process of ours runs */
    bool replicated;   /* kept on more than one server */
    bool grouped;      /* identifiers have to tell the group: create and rotate answer others with
                          ERR_INVALID_ARGUMENT about "session_id" */
    void (*create)(struct backend *, struct session_create *);
    void (*get)(struct backend *, struct session_get *);
    void (*patch)(struct backend *, struct session_patch *);
    void (*rotate)(struct backend *, struct session_rotate *);
    void (*extend)(struct backend *, struct session_extend *);
    void (*remove)(struct backend *, struct session_remove *);
    void (*remove_user)(struct backend *, struct session_remove_user *);
    void (*page)(struct backend *, struct session_page *);
};

#endif
