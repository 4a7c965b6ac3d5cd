/* Sessions. With <root>:{<namespace>}%session: before them:
 *
 *   s:<id>       hash: a session. It has redis' own expiry, so its memory comes back on time, also
 *                while no process of ours runs
 *   all          sorted set: identifiers by their places
 *   u:<user>     the same of one user
 *   r:<region>   the same of one region
 *   due          sorted set: identifier, user and region, NUL between them, by when the session
 *                expires, or earlier: use and extension do not touch `due`, and who falls due is
 *                looked at
 *   place        the last one that was given; of n partitions, number i gives those that leave i
 *                when divided by n
 *
 * What has expired leaves its identifier behind in the sorted sets. No answer is made of it: a
 * script looks at the hash. It goes with later calls and with a sweep (redis_session_sweep.c), a
 * bounded number at a time. No script looks at more than REDIS_SESSION_SCAN of others than the
 * session that it is about; one that keeps a user's limit, at as many more as the limit has.
 *
 * A hash has these fields, numbers as little-endian doubles:
 *
 *   o         octet 1; place, created, ttl, end (0: none); u16 lengths of user, region, client;
 *             user, region, client, attributes. Never changes.
 *   t         used, expires, version, bytes of the values
 *   v<name>   version, value
 *
 * Memory in redis: some 700 bytes for a session without values, of which 450 stand in sorted sets
 * with a user and a region.
 *
 *   redis_session.c        the methods
 *   redis_session_read.c   get and page: what answers hold
 *   redis_session_call.c   what both begin with
 *   redis_session_script.c the scripts
 *   redis_session_sweep.c  the sweep
 *   redis_session_spread.c over the partitions of a cluster (redis_spread.h) */
#ifndef PRISM_BACKENDS_REDIS_REDIS_SESSION_H
#define PRISM_BACKENDS_REDIS_REDIS_SESSION_H

#include "backends/redis/redis_scripted.h"
#include "backends/session.h"

extern const struct session redis_session;

enum {
    REDIS_SESSION_SCAN = 256,
    REDIS_SESSION_STEP = 100 /* of one user, ended in one script */
};

enum redis_session_call {
    REDIS_SESSION_CREATE,
    REDIS_SESSION_GET,
    REDIS_SESSION_PATCH,
    REDIS_SESSION_ROTATE,
    REDIS_SESSION_EXTEND,
    REDIS_SESSION_REMOVE,
    REDIS_SESSION_REMOVE_USER,
    REDIS_SESSION_PAGE,
    REDIS_SESSION_COUNT,
    REDIS_SESSION_SCRIPTS
};

extern const struct redis_scripted_text redis_session_scripts[REDIS_SESSION_SCRIPTS];
extern const char redis_session_sweep_script[];

/* In the op's arena, zeroed; bytes: of the struct around it. Starts the sweep too. */
void *redis_session_new(struct backend *backend, struct op *op, size_t bytes,
                        enum redis_session_call script);

/* The words by which a script is told of a use. */
enum { REDIS_SESSION_USE_WORDS = 2 };
void redis_session_say_use(struct redis_call *call, const struct session_use *use);

void redis_session_get(struct backend *backend, struct session_get *get);
void redis_session_page(struct backend *backend, struct session_page *page);
/* places: of each entry; NULL: not wanted. */
void redis_session_page_at(struct backend *backend, struct session_page *page, uint64_t *places);

/* How many there are, once some that have expired were removed. */
struct redis_session_count {
    struct op op;
    uint64_t count; /* out */
};

void redis_session_count(struct backend *backend, struct redis_session_count *count);

/* The refusal of a session for which the namespace has no room. */
struct err redis_session_full(void);

/* The same over a cluster. */
extern const struct session redis_session_spread;

/* ---- the sweep, of an instance; thread: home ---- */

enum {
    REDIS_SESSION_SWEEP_MS = 10000, /* between two, while there are sessions */
    REDIS_SESSION_SWEEP = 500       /* expired ones of one script: a few ms of redis' time */
};

struct redis_session_sweep {
    struct timer timer;
    struct redis *redis;
    bool running; /* armed, or a call is under way */
    bool stopped; /* for good */
    /* This round over the partitions. */
    unsigned part;
    uint64_t sessions; /* left in those before it */
    bool missed;       /* one of them did not answer */
    bool used;         /* by a session operation: one more round at least */
    /* Of the answer. */
    long long due, left;
    unsigned parts;
};

/* A session operation has begun: sweeps from now on until there is no session any more. */
void redis_session_sweep_start(struct redis_session_sweep *sweep, struct redis *redis);
void redis_session_sweep_stop(struct redis_session_sweep *sweep);

#endif
