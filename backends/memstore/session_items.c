/* The values of one session: pointers in the order of their names. */
#include "backends/memstore/sessions_priv.h"

#include <stdlib.h>

/* The first that is not before the name. */
static uint32_t seek(const struct session_node *node, struct slice name)
{
    uint32_t low = 0, high = node->items_n;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (slice_compare(item_name(node->items[middle]), name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct session_node *node, uint32_t at, struct slice name)
{
    return at < node->items_n && slice_equal(item_name(node->items[at]), name);
}

struct session_item *item_find(const struct session_node *node, struct slice name)
{
    uint32_t at = seek(node, name);

    return is_at(node, at, name) ? node->items[at] : NULL;
}

static struct session_item *item_new(const struct session_value *value, uint64_t version)
{
    struct session_item *item = malloc(sizeof *item + value->name.len + value->value.len);

    if (item == NULL)
        abort();
    item->version = version;
    item->name_len = (uint32_t)value->name.len;
    item->value_len = (uint32_t)value->value.len;
    memcpy(item->bytes, value->name.data, value->name.len);
    if (value->value.len > 0)
        memcpy(item->bytes + value->name.len, value->value.data, value->value.len);
    return item;
}

static uint64_t bytes_of(const struct session_item *item)
{
    return session_value_bytes(item_name(item), item_value(item));
}

static void make_room(struct session_node *node, uint32_t at)
{
    if (node->items_n == node->items_room) {
        node->items_room = node->items_room == 0 ? 4 : 2 * node->items_room;
        node->items = realloc(node->items, node->items_room * sizeof(struct session_item *));
        if (node->items == NULL)
            abort();
    }
    memmove(&node->items[at + 1], &node->items[at],
            (node->items_n - at) * sizeof(struct session_item *));
    node->items_n++;
}

void item_set(struct session_node *node, const struct session_value *value, uint64_t version)
{
    uint32_t at = seek(node, value->name);

    if (is_at(node, at, value->name)) {
        node->bytes -= bytes_of(node->items[at]);
        free(node->items[at]);
    } else {
        make_room(node, at);
    }
    node->items[at] = item_new(value, version);
    node->bytes += bytes_of(node->items[at]);
}

bool item_remove(struct session_node *node, struct slice name)
{
    uint32_t at = seek(node, name);

    if (!is_at(node, at, name))
        return false;
    node->bytes -= bytes_of(node->items[at]);
    free(node->items[at]);
    node->items_n--;
    memmove(&node->items[at], &node->items[at + 1],
            (node->items_n - at) * sizeof(struct session_item *));
    return true;
}

void items_free(struct session_node *node)
{
    for (uint32_t i = 0; i < node->items_n; i++)
        free(node->items[i]);
    free(node->items);
}

static void read_one(const struct session_item *item, struct session_get *get)
{
    struct arena *arena = op_arena(&get->op);

    get->values[get->n++] = (struct session_value){.name = arena_copy(arena, item_name(item)),
                                                   .value = arena_copy(arena, item_value(item)),
                                                   .version = item->version};
}

void items_read(const struct session_node *node, struct session_get *get)
{
    const struct session_item *item;

    get->n = 0;
    if (get->name.len > 0) {
        item = item_find(node, get->name);
        get->values = arena_array(op_arena(&get->op), 1, sizeof *get->values);
        if (item != NULL)
            read_one(item, get);
        return;
    }
    get->values = arena_array(op_arena(&get->op), node->items_n, sizeof *get->values);
    for (uint32_t i = 0; i < node->items_n; i++)
        read_one(node->items[i], get);
}
