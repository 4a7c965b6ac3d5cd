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

static const char *const full_policies[] = {[FULL_OLDEST] = "drop_oldest",
                                            [FULL_NEWEST] = "drop_newest",
                                            [FULL_LATEST] = "latest_per_key",
                                            [FULL_END] = "end_stream",
                                            [FULL_POLICIES] = NULL};

enum full_policy multicast_full_policy(const char *name)
{
    for (unsigned i = FULL_OLDEST; i < FULL_POLICIES; i++) {
        if (strcmp(name, full_policies[i]) == 0)
            return (enum full_policy)i;
    }
    return FULL_NAMESPACE;
}

static const char *prefix_fault(struct slice prefix)
{
    if (prefix.len > MULTICAST_PREFIX_BYTES)
        return "has more than 128 bytes";
    return topics_fault(prefix) != NULL
               ? "holds a blank, a control character or a wildcard, or begins with \"$\" or \"__\""
               : NULL;
}

static void check_prefix(struct backend_faults *faults, const char *setting, const char *prefix)
{
    const char *text = prefix_fault(slice_str(prefix));

    if (text != NULL)
        backend_fault_add(faults, (struct backend_fault){.setting = setting, .text = text});
}

/* A place for each identity has to cost no more than its messages. */
static void check_kept(struct backend_faults *faults, const char *slot,
                       const struct backend_type *type)
{
    const struct backend_interfaces *has = type != NULL ? &type->interfaces : NULL;

    if (has == NULL || has->queue != NULL || has->stream == NULL || has->stream->sink.many_topics)
        return;
    backend_fault_add(faults, (struct backend_fault){
                                  .setting = slot,
                                  .text = "the slot keeps a stream for each identity, and streams "
                                          "of this backend are too costly for that",
                                  .fix = "bind postgres, redis-stream, jetstream or memstore"});
}

void multicast_check(const struct pattern_proposal *proposal, struct backend_faults *faults)
{
    const struct backend_value *values = proposal->behavior;

    check_prefix(faults, "topic_prefix", values[BEHAVIOR_TOPIC_PREFIX].text);
    check_prefix(faults, "queue_prefix", values[BEHAVIOR_QUEUE_PREFIX].text);
    if (multicast_full_policy(values[BEHAVIOR_WHEN_FULL].text) == FULL_NAMESPACE)
        backend_fault_add(faults,
                          (struct backend_fault){.setting = "when_full",
                                                 .text = "is none of drop_oldest, drop_newest, "
                                                         "latest_per_key, end_stream",
                                                 .words = &full_policies[FULL_OLDEST]});
    check_kept(faults, "durability", proposal->slots[SLOT_DURABILITY]);
    check_kept(faults, "dead_letter_queue", proposal->slots[SLOT_DEAD]);
}

struct pattern_shared *multicast_open_shared(const struct pattern_sharing *sharing)
{
    struct multicast_shared *shared;
    struct arena memory;

    arena_init(&memory, NULL);
    shared = arena_zalloc(&memory, sizeof *shared + sharing->workers * sizeof shared->instances[0]);
    shared->base.type = &pattern_multicast_registry;
    shared->workers = sharing->workers;
    shared->memory = memory;
    return &shared->base;
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
