/* Kept messages as a batch: one allocation, references instead of copies. */
#include "backends/memstore/messaging.h"

#include <stdlib.h>

struct kept_batch {
    struct incoming_batch base; /* first */
    struct incoming items[];    /* then the kept messages, in the same order; then the topic */
};

static struct kept **kept_of(struct kept_batch *batch)
{
    return (struct kept **)(void *)&batch->items[batch->base.n];
}

static void release(struct incoming_batch *base)
{
    struct kept_batch *batch = CONTAINER_OF(base, struct kept_batch, base);
    struct kept **kept = kept_of(batch);

    for (uint32_t i = 0; i < base->n; i++)
        kept_unref(kept[i]);
    free(batch);
}

struct incoming_batch *kept_batch(const struct taken *taken, size_t n, struct slice topic)
{
    struct kept_batch *batch =
        malloc(sizeof *batch + n * (sizeof *batch->items + sizeof(struct kept *)) + topic.len);

    if (batch == NULL)
        abort();
    batch->base =
        (struct incoming_batch){.items = batch->items, .n = (uint32_t)n, .release = release};

    struct kept **kept = kept_of(batch);

    if (topic.len > 0)
        topic.data = memcpy(kept + n, topic.data, topic.len);
    for (size_t i = 0; i < n; i++) {
        kept[i] = taken[i].kept;
        kept_tell(taken[i].kept, &batch->items[i]);
        if (topic.len > 0)
            batch->items[i].topic = topic;
        batch->items[i].offset = taken[i].offset;
        batch->items[i].token = taken[i].token;
        batch->items[i].attempt = taken[i].attempt;
        batch->base.bytes += kept_bytes(taken[i].kept);
    }
    return &batch->base;
}
