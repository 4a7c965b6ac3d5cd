/* The identity registry on five keys and a counter. With <root>:{<namespace>}%registry: before
 * them, which starts no key of key-value, whatever the namespaces are called:
 *
 *   order       sorted set, all scores 0: the identities by their octets
 *   life        hash: when each expires, ms of Unix time; inf = never
 *   due         sorted set: when each expires, or earlier: heartbeats change `life` only, and who
 *               falls due is looked at
 *   entries     hash: a record for each
 *   generation  the last one that was given
 *   index       sorted set, all scores 0: which identities have a field of a value
 *
 * Whatever looks at an identity compares its `life` with redis' clock in the same script, so that
 * one that has expired is gone at once; what is left of it goes with later calls, a few at a time.
 * No script looks at more than REDIS_REGISTRY_STEP identities for writing or REDIS_REGISTRY_SCAN
 * for a page, about a millisecond of redis' time; longer calls are several.
 *
 * A record: octet 1, generation, registered at, ttl (doubles: ms), u32 length of the document, the
 * document, the tags. Little-endian, unaligned.
 *
 *   redis_registry.c         put, patch, beat, remove, get
 *   redis_registry_page.c    pages and counts
 *   redis_registry_filter.c  what redis evaluates itself, as words of a script
 *   redis_registry_call.c    records
 *   redis_registry_script.c  the scripts
 *   redis_registry_spread.c, redis_registry_many.h, redis_registry_merge.c  over the partitions of
 *                            a cluster (redis_spread.h), by the files above */
#ifndef PRISM_BACKENDS_REDIS_REDIS_REGISTRY_H
#define PRISM_BACKENDS_REDIS_REDIS_REGISTRY_H

#include "backends/redis/redis_kv.h"
#include "backends/redis/redis_scripted.h"
#include "backends/registry.h"

extern const struct registry redis_registry;

enum {
    REDIS_REGISTRY_STEP = 100,
    REDIS_REGISTRY_SCAN = 256,
    REDIS_REGISTRY_BYTES = 1 << 20, /* entries of one answer, and one more */
    REDIS_REGISTRY_KEYS = 6,
    REDIS_REGISTRY_HINTS = 4 /* conditions of a filter that the index is asked for */
};

/* What scripts evaluate; redis has no regular expressions, and globs take more than they are worth
 * there. */
#define REDIS_REGISTRY_OPS (FILTER_ALL_OPS & ~(FILTER_BIT(FILTER_REGEX) | FILTER_BIT(FILTER_GLOB)))

/* ---- scripts ---- */

enum redis_registry_call {
    REDIS_REGISTRY_PUT,
    REDIS_REGISTRY_PATCH,
    REDIS_REGISTRY_BEAT,
    REDIS_REGISTRY_REMOVE,
    REDIS_REGISTRY_GET,
    REDIS_REGISTRY_PAGE,
    REDIS_REGISTRY_TOTAL,
    REDIS_REGISTRY_SCRIPTS
};

extern const struct redis_scripted_text redis_registry_scripts[REDIS_REGISTRY_SCRIPTS];

/* ---- calling them; thread: home ---- */

/* In the op's arena, zeroed; bytes: of the struct around it. */
void *redis_registry_new(struct backend *backend, struct op *op, size_t bytes,
                         enum redis_registry_call script);

/* The same over a cluster. */
extern const struct registry redis_registry_spread;
void redis_registry_merge_page(struct backend *backend, struct registry_page *page);
void redis_registry_merge_count(struct backend *backend, struct registry_count *count);

/* As the most identities of a put: nobody comes in, and who is there has its outcome. */
#define REDIS_REGISTRY_NOBODY UINT64_MAX

/* The refusal of an identity for which there is no room. */
struct err redis_registry_full(void);
bool redis_registry_is_full(struct err err);

void redis_registry_page(struct backend *backend, struct registry_page *page);
void redis_registry_count(struct backend *backend, struct registry_count *count);

/* ---- records ---- */

/* Does the record hold an entry? Sets all but the identity and the expiry; slices refer to the
 * record. */
bool redis_registry_record(struct slice record, struct registry_entry *entry);

/* What `life` holds. */
bool redis_registry_life(struct slice text, uint64_t *expires_at_ms);

/* ---- filters (redis_registry_filter.c) ---- */

/* The part of a filter that redis evaluates. */
struct redis_registry_filter {
    const struct filter_node *nodes[64]; /* joined by AND */
    size_t n;
    bool whole; /* that is all of it: what redis gives back matches */
    const struct filter_node
        *hints[REDIS_REGISTRY_HINTS]; /* all have to hold; the index finds them */
    size_t n_hints;
    unsigned words;
    size_t bytes;
};

void redis_registry_split(const struct filter *filter, struct redis_registry_filter *part);
/* The hints' words: how many, and two for each; then the filter's. */
void redis_registry_say_filter(struct redis_call *call, const struct redis_registry_filter *part);

#endif
