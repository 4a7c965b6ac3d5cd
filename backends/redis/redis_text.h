/* The parts of this backend that are text in, text out: no connection, no state, any thread. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_TEXT_H
#define PRISM_BACKENDS_REDIS_REDIS_TEXT_H

#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- where the server is (redis_address.c) ---- */

enum { REDIS_PORT = 6379, REDIS_PATH_BYTES = 107, REDIS_HOST_BYTES = 253, REDIS_SEEDS = 16 };

struct redis_seed {
    char *host;    /* owned */
    uint16_t port; /* 0: not given */
};

struct redis_address {
    bool unix_socket;
    bool tls;                             /* rediss:// */
    char *host;                           /* of the first seed, or the socket's path */
    uint16_t port;                        /* likewise; 0 for a unix socket */
    struct redis_seed seeds[REDIS_SEEDS]; /* of a list with commas */
    unsigned seed_count;                  /* 1 or more */
    char *username, *password; /* from redis://user:password@...; NULL = not given; owned */
    int64_t database;          /* from redis://.../N; -1 = not given */
};

/* HOST, HOST:PORT, [IPV6]:PORT, redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], the same with
 * rediss://, unix:PATH; [:PORT] may be followed by more hosts, with commas between them. Errors
 * are ERR_INVALID_ARGUMENT about "address" with a static text; then *address is cleared. */
struct err redis_address_parse(struct redis_address *address, struct slice text);
void redis_address_clear(struct redis_address *address); /* secrets are overwritten */

/* Whom an attempt to connect goes to. */
struct redis_target {
    bool sentinel; /* it is asked for the primary, no more */
    uint16_t port; /* 0 and a path: a unix socket */
    char host[REDIS_HOST_BYTES + 1];
};

/* ---- where a cluster keeps a key (redis_slot.c) ---- */

enum { REDIS_SLOTS = 16384 };

/* The slot of a key, which is head and tail together: of what stands between its first { and the
 * next }, if there is something; else of all of it. */
unsigned redis_slot(struct slice head, struct slice tail);

/* What stands between braces in other keys that have to share the slot of this one, which is not
 * empty; in the arena. */
struct slice redis_slot_tag(struct arena *arena, struct slice key);

/* A node's answer that another one has the slot. */
struct redis_redirect {
    bool ask; /* for this command alone, and only after ASKING */
    unsigned slot;
    struct redis_target to; /* host empty: that of the node itself */
};

/* false: the error says something else. */
bool redis_redirect_parse(struct slice error, struct redis_redirect *redirect);

/* ---- whose keys are whose (redis_prefix.c) ---- */

/* 1 to 64 printable characters without ':' and '%'. */
bool redis_prefix_root_valid(const char *root);

/* "<root>:<namespace>:", with ':' and '%' of the namespace written as %3A and %25. Two different
 * pairs never give prefixes of which one starts the other, because neither part can hold the ':'
 * that ends it. NUL-terminated, to be freed. root is valid. */
char *redis_prefix_new(const char *root, const char *namespace_name);

/* The MATCH pattern for "starts with prefix and then key": what glob would take as special is
 * escaped. In the arena. */
struct slice redis_glob_starts_with(struct arena *arena, struct slice prefix, struct slice key);

/* ---- where a scan stands (redis_cursor.c) ---- */

/* Redis answers SCAN with as many keys as it finds in a bucket, so a page may have to end within an
 * answer. The cursor then names the SCAN call to repeat (at, count), what that call answered as its
 * own next cursor, and the last key taken from the sorted answer. redis_scan.c says why all four
 * are needed. */
struct redis_cursor {
    uint64_t at;
    bool within; /* the rest only if set */
    uint64_t next;
    uint32_t count;
    struct slice last; /* without the namespace's prefix */
};

/* Printable. scope: what the cursor is good for (namespace and prefix); a cursor from elsewhere
 * does not decode. */
struct slice redis_cursor_encode(struct arena *arena, struct slice scope,
                                 const struct redis_cursor *cursor);
bool redis_cursor_decode(struct arena *arena, struct slice scope, struct slice text,
                         struct redis_cursor *cursor);

/* ---- what an error reply means (redis_error.c) ---- */

/* What stands for MOVED and ASK where these cannot be followed: no word of redis' own. */
#define REDIS_ERROR_MOVING "PRISM:MOVING"

/* A script has come upon a key that a cluster is moving: what it did before stays done. */
#define REDIS_ERROR_ASTRAY "ERR Script attempted to access a non local key"

/* The one place that maps redis' words to codes. Texts that are not static are copied into the
 * arena. */
struct err redis_error(struct arena *arena, struct slice reply);

/* The commands of a transaction were carried out one by one: MULTI was refused, and they were not.
 */
struct err redis_alone(void);

/* Something was carried out before this error, or elsewhere: of which its text alone knows nothing.
 */
struct err redis_in_part(struct arena *arena, struct err rest);

/* What an error tells beyond its own call, the gravest last. err: what to tell others. */
enum redis_news {
    REDIS_NEWS_NONE,
    REDIS_NEWS_TROUBLE, /* the server refuses calls for now, and says why */
    REDIS_NEWS_SIZE,    /* it does not take a word of that size, and hangs up */
    REDIS_NEWS_LOGIN,   /* we are not who we were */
    REDIS_NEWS_CLUSTER, /* keys live elsewhere */
    REDIS_NEWS_ROLE     /* it is a replica */
};

enum redis_news redis_error_news(struct slice reply, struct err *err);

/* Does the reply start with this word? */
bool redis_error_is(struct slice reply, const char *word);

/* ---- SHA-1 (redis_sha1.c): names scripts and versions of values, as redis itself does; protects
 * nothing ---- */

enum { REDIS_SHA1_BYTES = 20, REDIS_SHA1_HEX = 40 };

struct redis_sha1 {
    uint32_t state[5];
    uint64_t bytes;
    uint8_t block[64];
};

void redis_sha1_init(struct redis_sha1 *sha1);
void redis_sha1_add(struct redis_sha1 *sha1, struct slice data);
void redis_sha1_finish(struct redis_sha1 *sha1, uint8_t digest[REDIS_SHA1_BYTES]);

/* Lower-case hex of one value's digest, no NUL. */
void redis_sha1_hex(struct slice data, char hex[REDIS_SHA1_HEX]);

/* The version of a value, in the arena (redis_cas.c says why it is its digest). */
struct slice redis_version(struct arena *arena, struct slice value);

#endif
