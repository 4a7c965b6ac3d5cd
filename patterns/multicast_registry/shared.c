/* The instances of one namespace, by their workers: an Acknowledge may come in on another worker
 * than the stream whose messages it confirms. */
#include "patterns/messaging/topics.h"
#include "patterns/multicast_registry/multicast_priv.h"
#include "patterns/multicast_registry/multicast_registry.h"
#include "pool/worker.h"
#include "src/base/container.h"

#include <stdatomic.h>
#include <string.h>

struct multicast_shared {
    struct pattern_shared base;
    struct arena memory; /* holds this struct */
    unsigned workers;
    _Atomic(struct multicast *) instances[]; /* by worker */
};

static struct multicast_shared *shared_of(const struct multicast *multicast)
{
    return CONTAINER_OF(multicast->binding.shared, struct multicast_shared, base);
}

enum full_policy multicast_full_policy(const char *name)
{
    static const char *const names[] = {[FULL_OLDEST] = "drop_oldest",
                                        [FULL_NEWEST] = "drop_newest",
                                        [FULL_LATEST] = "latest_per_key",
                                        [FULL_END] = "end_stream"};

    for (unsigned i = FULL_OLDEST; i < FULL_POLICIES; i++) {
        if (strcmp(name, names[i]) == 0)
            return (enum full_policy)i;
    }
    return FULL_NAMESPACE;
}

static struct err check_prefix(const char *setting, struct slice prefix)
{
    if (prefix.len > MULTICAST_PREFIX_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, setting,
                         "topic_prefix and queue_prefix have at most 128 bytes");
    if (topics_fault(prefix) != NULL)
        return err_about(ERR_INVALID_ARGUMENT, setting,
                         "topic_prefix or queue_prefix holds a blank, a control character or a "
                         "wildcard, or begins with \"$\" or \"__\"");
    return ERR_NONE;
}

/* A place for each identity has to cost no more than its messages. */
static struct err check_kept(const char *slot, const struct backend_store *store)
{
    const struct backend_interfaces *has = store != NULL ? &store->type->interfaces : NULL;

    if (has == NULL || has->queue != NULL || has->stream == NULL || has->stream->sink.many_topics)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, slot,
                     "the slots durability and dead_letter_queue keep a stream for each identity, "
                     "and this backend's streams are too costly for that: bind postgres, "
                     "redis-stream, jetstream or memstore");
}

struct err multicast_open_shared(struct pattern_shared **out, const struct pattern_sharing *sharing)
{
    struct err err =
        check_prefix("topic_prefix", slice_str(sharing->behavior[BEHAVIOR_TOPIC_PREFIX].text));
    struct multicast_shared *shared;
    struct arena memory;

    if (err.code == ERR_OK)
        err =
            check_prefix("queue_prefix", slice_str(sharing->behavior[BEHAVIOR_QUEUE_PREFIX].text));
    if (err.code == ERR_OK &&
        multicast_full_policy(sharing->behavior[BEHAVIOR_WHEN_FULL].text) == FULL_NAMESPACE)
        err = err_about(ERR_INVALID_ARGUMENT, "when_full",
                        "when_full is drop_oldest, drop_newest, latest_per_key or end_stream");
    if (err.code == ERR_OK)
        err = check_kept("durability", sharing->stores[SLOT_DURABILITY]);
    if (err.code == ERR_OK)
        err = check_kept("dead_letter_queue", sharing->stores[SLOT_DEAD]);
    if (err.code != ERR_OK)
        return err;
    arena_init(&memory, NULL);
    shared = arena_zalloc(&memory, sizeof *shared + sharing->workers * sizeof shared->instances[0]);
    shared->base.type = &pattern_multicast_registry;
    shared->workers = sharing->workers;
    shared->memory = memory;
    *out = &shared->base;
    return ERR_NONE;
}

void multicast_close_shared(struct pattern_shared *base)
{
    struct multicast_shared *shared = CONTAINER_OF(base, struct multicast_shared, base);
    struct arena memory = shared->memory;

    arena_clear(&memory);
}

void multicast_share(struct multicast *multicast)
{
    struct multicast_shared *shared = shared_of(multicast);

    if (multicast->base.home->id < shared->workers)
        atomic_store(&shared->instances[multicast->base.home->id], multicast);
}

struct multicast *multicast_on(const struct multicast *multicast, unsigned worker)
{
    struct multicast_shared *shared = shared_of(multicast);

    return worker < shared->workers ? atomic_load(&shared->instances[worker]) : NULL;
}
