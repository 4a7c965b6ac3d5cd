/* Operations that are one script, called once or several times, one after the other. Scripts are
 * called by their names; a server that does not know one (restarted, flushed) answers NOSCRIPT and
 * gets it whole.
 *
 * Their keys begin with <root>:{<namespace>}%, which starts no key of key-value, whatever the
 * namespaces are called. In a cluster a namespace has several partitions (redis_spread.h), each
 * with a tag of its own within the braces (redis_tags.h). A script uses keys of one of them. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_SCRIPTED_H
#define PRISM_BACKENDS_REDIS_REDIS_SCRIPTED_H

#include "backends/redis/redis_cluster.h"
#include "backends/redis/redis_text.h"

enum { REDIS_SCRIPTED_KEYS = 6 };

struct redis_scripted_text {
    const char *text;
    bool writes;
};

/* By which redis knows a script. */
struct redis_scripted_name {
    char sha1[REDIS_SHA1_HEX];
};

void redis_scripted_name(struct redis_scripted_name *names, const struct redis_scripted_text *texts,
                         size_t n);

/* First member of what an op keeps in its arena. thread: home. */
struct redis_scripted {
    struct redis *redis;
    struct op *op;
    const struct redis_scripted_text *script;
    const struct redis_scripted_name *name;
    struct slice keys[REDIS_SCRIPTED_KEYS];
    unsigned keys_n;
    unsigned part;          /* the partition that they are in */
    struct redis_turn turn; /* of pages and counts */
    bool in_turns;
    uint64_t hops; /* how often the cluster has sent it elsewhere */
    bool unknown;  /* redis does not know the script: it is sent whole */
    bool wrote;    /* an earlier call had an effect */

    /* Says the arguments of the next call. */
    void (*say)(struct redis_call *call, struct redis_scripted *work);
    unsigned words; /* how many */
    size_t bytes;   /* of the arguments, about */
    /* A part of the answer. */
    void (*node)(struct redis_scripted *work, struct redis_call *call,
                 const struct redis_node *node);
    /* The answer is in, without an error: calls again, or finishes. */
    void (*next)(struct redis_scripted *work);
};

/* In the op's arena, zeroed; bytes: of the struct around it. family: "registry:". In a cluster the
 * op's backend_word is the partition, and is taken out of it. */
void *redis_scripted_new(struct redis *redis, struct op *op, size_t bytes, const char *family,
                         const char *const *keys, unsigned keys_n);

/* "<root>:{<tag>}%<family><name>" of a partition, in the arena. */
struct slice redis_scripted_key(const struct redis *redis, struct arena *arena, unsigned part,
                                const char *family, const char *name);

/* The namespace as it stands in keys. */
struct slice redis_scripted_space(const struct redis_store *store);

/* How many partitions there are. */
unsigned redis_scripted_parts(const struct redis_scripted *work);

void redis_scripted_run(struct redis_scripted *work);

#endif
