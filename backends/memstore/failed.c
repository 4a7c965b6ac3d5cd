/* The items with a key that failed in one publish: a table of fixed size, chained by index. */
#include "backends/memstore/messaging.h"

#include <assert.h>
#include <string.h>

#define NONE UINT16_MAX

static_assert(MESSAGING_ITEMS < NONE, "an item's index fits the table");

void failed_init(struct failed_keys *failed, const struct messaging *m,
                 const struct publish *publish)
{
    failed->messaging = m;
    failed->publish = publish;
    failed->any = false; /* the table is filled in by the first failure */
}

/* The hash is keyed by a secret: no client can choose keys that share a chain. */
static uint16_t *chain(struct failed_keys *failed, const struct outgoing *item)
{
    const struct memstore *store = failed->messaging->store;
    uint64_t hash = memstore_hash(store, item->key) + 3 * memstore_hash(store, item->topic);

    return &failed->heads[hash % FAILED_CHAINS];
}

static bool has(struct failed_keys *failed, const struct outgoing *item)
{
    const struct outgoing *items = failed->publish->items;

    for (uint16_t i = *chain(failed, item); i != NONE; i = failed->next[i]) {
        if (slice_equal(items[i].topic, item->topic) && slice_equal(items[i].key, item->key))
            return true;
    }
    return false;
}

bool failed_look(struct failed_keys *failed, struct outgoing *item)
{
    if (message_is_null(item->key) || !has(failed, item))
        return false;
    item->err = err_make(ERR_ABORTED, "an earlier message of this key failed");
    return true;
}

void failed_add(struct failed_keys *failed, const struct outgoing *item)
{
    size_t index = (size_t)(item - failed->publish->items);

    if (message_is_null(item->key))
        return;
    assert(index < MESSAGING_ITEMS);
    if (!failed->any)
        memset(failed->heads, 0xff, sizeof failed->heads);
    failed->any = true;

    uint16_t *head = chain(failed, item);

    failed->next[index] = *head;
    *head = (uint16_t)index;
}
