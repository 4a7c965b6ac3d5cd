/* A table chained by index, in the memory of the operation. */
#include "backends/failed_keys.h"

#include "src/base/hash.h"

#include <string.h>

#define NONE UINT32_MAX

enum { CHAINS = 256 };

/* No client can choose keys that share a chain. */
static uint32_t *chain(struct failed_keys *failed, const struct outgoing *item)
{
    uint64_t hash =
        hash_seeded(failed->seed, item->key) + 3 * hash_seeded(failed->seed, item->topic);

    return &failed->heads[hash % CHAINS];
}

bool failed_look(struct failed_keys *failed, struct outgoing *item)
{
    const struct outgoing *items = failed->publish->items;

    if (message_is_null(item->key))
        return false;
    for (uint32_t i = *chain(failed, item); i != NONE; i = failed->next[i]) {
        if (slice_equal(items[i].topic, item->topic) && slice_equal(items[i].key, item->key)) {
            item->err = err_make(ERR_ABORTED, "an earlier message of this key failed");
            return true;
        }
    }
    return false;
}

static void make_table(struct failed_keys *failed)
{
    struct arena *arena = op_arena(&failed->publish->op);

    failed->seed = hash_seed();
    failed->heads = arena_array(arena, CHAINS, sizeof *failed->heads);
    failed->next = arena_array(arena, failed->publish->n, sizeof *failed->next);
    memset(failed->heads, 0xff, CHAINS * sizeof *failed->heads);
}

void failed_add(struct failed_keys *failed, const struct outgoing *item)
{
    size_t index = (size_t)(item - failed->publish->items);

    if (message_is_null(item->key))
        return;
    if (failed->heads == NULL)
        make_table(failed);

    uint32_t *head = chain(failed, item);

    failed->next[index] = *head;
    *head = (uint32_t)index;
}
