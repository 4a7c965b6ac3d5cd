/* A slot of an inner node holds what the first slot of its child holds, so that no separator can
 * outlive its member. Every node but the root has two slots at least (a leaf: one), because those
 * that run low are filled up from a neighbour under the same parent. */
#include "backends/memstore/order.h"

#include <assert.h>
#include <stdlib.h>

enum { SLOTS = 62, LOW = SLOTS / 4, LEVELS_MAX = 16 };

struct order_slot {
    uint64_t number;
    void *member;
};

struct order_node {
    struct order_node *next; /* leaves: the one behind */
    unsigned n;
    struct order_slot slots[SLOTS];
    struct order_node *children[]; /* [SLOTS] of inner nodes */
};

/* The way from the root to a leaf. */
struct path {
    struct order_node *nodes[LEVELS_MAX];
    unsigned at[LEVELS_MAX];
};

static struct order_node *node_new(struct order *order, bool leaf)
{
    struct order_node *node = malloc(sizeof *node + (leaf ? 0 : SLOTS * sizeof *node->children));

    if (node == NULL)
        abort();
    node->next = NULL;
    node->n = 0;
    order->nodes++;
    return node;
}

static void node_free(struct order *order, struct order_node *node)
{
    order->nodes--;
    free(node);
}

static void clear(struct order *order, struct order_node *node, unsigned level)
{
    for (unsigned i = 0; level > 1 && i < node->n; i++)
        clear(order, node->children[i], level - 1);
    node_free(order, node);
}

void order_clear(struct order *order)
{
    if (order->root != NULL)
        clear(order, order->root, order->levels);
    *order = (struct order){.name = order->name};
}

static int compare(const struct order *order, const struct order_slot *slot, uint64_t number,
                   struct slice name)
{
    if (slot->number != number)
        return slot->number < number ? -1 : 1;
    return slice_compare(order->name(slot->member), name);
}

/* How many slots are before (number, name); `behind`: or the same. */
static unsigned before(const struct order *order, const struct order_node *node, uint64_t number,
                       struct slice name, bool behind)
{
    unsigned low = 0, high = node->n;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        int side = compare(order, &node->slots[middle], number, name);

        if (side < 0 || (behind && side == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Down to the leaf where (number, name) is or would be. Returns its place there. */
static unsigned descend(const struct order *order, uint64_t number, struct slice name, bool behind,
                        struct path *path)
{
    struct order_node *node = order->root;

    for (unsigned level = order->levels - 1; level > 0; level--) {
        unsigned at = before(order, node, number, name, true);

        path->nodes[level] = node;
        path->at[level] = at > 0 ? at - 1 : 0;
        node = node->children[path->at[level]];
    }
    path->nodes[0] = node;
    path->at[0] = before(order, node, number, name, behind);
    return path->at[0];
}

/* The first slot of a node has changed: its parents say so too. */
static void tell_parents(const struct order *order, const struct path *path, unsigned level)
{
    for (; level + 1 < order->levels; level++) {
        path->nodes[level + 1]->slots[path->at[level + 1]] = path->nodes[level]->slots[0];
        if (path->at[level + 1] > 0)
            return;
    }
}

/* ---- inserting ---- */

static void make_room(struct order_node *node, unsigned at, bool leaf)
{
    memmove(&node->slots[at + 1], &node->slots[at], (node->n - at) * sizeof *node->slots);
    if (!leaf)
        memmove(&node->children[at + 1], &node->children[at],
                (node->n - at) * sizeof(struct order_node *));
    node->n++;
}

/* Moves the slots from `from` on to the end of another node. */
static void move(struct order_node *to, struct order_node *node, unsigned from, bool leaf)
{
    unsigned n = node->n - from;

    memcpy(&to->slots[to->n], &node->slots[from], n * sizeof *node->slots);
    if (!leaf)
        memcpy(&to->children[to->n], &node->children[from], n * sizeof(struct order_node *));
    to->n += n;
    node->n = from;
}

/* Into a full node's upper half. Whoever inserts at the end, in ascending order, leaves full nodes
 * behind. */
static struct order_node *split(struct order *order, struct order_node *node, unsigned at,
                                bool leaf)
{
    struct order_node *upper = node_new(order, leaf);

    move(upper, node, at == SLOTS ? SLOTS - 1 : SLOTS / 2, leaf);
    if (leaf) {
        upper->next = node->next;
        node->next = upper;
    }
    return upper;
}

static void put(struct order_node *node, unsigned at, struct order_slot slot,
                struct order_node *child)
{
    make_room(node, at, child == NULL);
    node->slots[at] = slot;
    if (child != NULL)
        node->children[at] = child;
}

static void grow(struct order *order, struct order_node *upper)
{
    struct order_node *root = node_new(order, false);

    root->n = 2;
    root->slots[0] = order->root->slots[0];
    root->slots[1] = upper->slots[0];
    root->children[0] = order->root;
    root->children[1] = upper;
    order->root = root;
    order->levels++;
    assert(order->levels < LEVELS_MAX);
}

/* Who is beside a place has its number, if anybody has. The one before lies in the same leaf: a
 * leaf to which a path leads begins before the place, but for the first of all. */
static void *neighbour(const struct path *path, uint64_t number)
{
    struct order_place behind = {path->nodes[0], path->at[0]};

    if (behind.at > 0 && behind.leaf->slots[behind.at - 1].number == number)
        return behind.leaf->slots[behind.at - 1].member;
    if (behind.at == behind.leaf->n)
        behind = (struct order_place){.leaf = behind.leaf->next};
    return order_at(&behind, number);
}

void *order_insert(struct order *order, uint64_t number, void *member)
{
    struct order_slot slot = {number, member};
    struct order_node *child = NULL;
    struct path path;
    void *other;

    order->entries++;
    if (order->root == NULL) {
        order->root = node_new(order, true);
        order->levels = 1;
    }
    descend(order, number, order->name(member), false, &path);
    other = neighbour(&path, number);
    for (unsigned level = 0; level < order->levels; level++) {
        struct order_node *node = path.nodes[level];
        unsigned at = level == 0 ? path.at[0] : path.at[level] + 1;

        if (node->n < SLOTS) {
            put(node, at, slot, child);
            if (at == 0)
                tell_parents(order, &path, level);
            return other;
        }

        struct order_node *upper = split(order, node, at, level == 0);

        if (at > node->n)
            put(upper, at - node->n, slot, child);
        else
            put(node, at, slot, child);
        if (at == 0)
            tell_parents(order, &path, level);
        slot = upper->slots[0];
        child = upper;
    }
    grow(order, child);
    return other;
}

/* ---- removing ---- */

static void take(struct order_node *node, unsigned at, bool leaf)
{
    node->n--;
    memmove(&node->slots[at], &node->slots[at + 1], (node->n - at) * sizeof *node->slots);
    if (!leaf)
        memmove(&node->children[at], &node->children[at + 1],
                (node->n - at) * sizeof(struct order_node *));
}

/* So many slots of the right node go to the left one, or, if it is negative, the other way. */
static void shift(struct order_node *a, struct order_node *b, int n, bool leaf)
{
    unsigned count = (unsigned)(n < 0 ? -n : n);

    if (n < 0) {
        memmove(&b->slots[count], b->slots, b->n * sizeof *b->slots);
        memcpy(b->slots, &a->slots[a->n - count], count * sizeof *b->slots);
        if (!leaf) {
            memmove(&b->children[count], b->children, b->n * sizeof(struct order_node *));
            memcpy(b->children, &a->children[a->n - count], count * sizeof(struct order_node *));
        }
    } else {
        memcpy(&a->slots[a->n], b->slots, count * sizeof *a->slots);
        memmove(b->slots, &b->slots[count], (b->n - count) * sizeof *b->slots);
        if (!leaf) {
            memcpy(&a->children[a->n], b->children, count * sizeof(struct order_node *));
            memmove(b->children, &b->children[count], (b->n - count) * sizeof(struct order_node *));
        }
    }
    a->n = (unsigned)((int)a->n + n);
    b->n = (unsigned)((int)b->n - n);
}

/* A node that runs low is joined with a neighbour under the same parent; where both together would
 * leave too little room they share what they have. Returns which slot of the parent goes, 0: none.
 */
static unsigned join(struct order *order, struct order_node *parent, unsigned at, bool leaf)
{
    unsigned left = at + 1 < parent->n ? at : at - 1;
    struct order_node *a = parent->children[left], *b = parent->children[left + 1];
    bool joined = a->n + b->n <= SLOTS - LOW;

    shift(a, b, joined ? (int)b->n : ((int)b->n - (int)a->n) / 2, leaf);
    parent->slots[left] = a->slots[0];
    if (!joined) {
        parent->slots[left + 1] = b->slots[0];
        return 0;
    }
    if (leaf)
        a->next = b->next;
    node_free(order, b);
    return left + 1;
}

static void shrink(struct order *order)
{
    while (order->levels > 1 && order->root->n == 1) {
        struct order_node *root = order->root;

        order->root = root->children[0];
        order->levels--;
        node_free(order, root);
    }
    if (order->root->n == 0) {
        node_free(order, order->root);
        order->root = NULL;
        order->levels = 0;
    }
}

void order_remove(struct order *order, uint64_t number, void *member)
{
    struct path path;
    unsigned at = descend(order, number, order->name(member), false, &path);

    assert(at < path.nodes[0]->n && path.nodes[0]->slots[at].member == member);
    order->entries--;
    for (unsigned level = 0; level < order->levels; level++) {
        struct order_node *node = path.nodes[level];

        take(node, at, level == 0);
        if (at == 0 && node->n > 0)
            tell_parents(order, &path, level);
        if (node->n >= LOW || level + 1 == order->levels)
            break;
        at = join(order, path.nodes[level + 1], path.at[level + 1], level == 0);
        tell_parents(order, &path, level + 1);
        if (at == 0)
            break;
    }
    shrink(order);
}

/* ---- looking ---- */

struct order_place order_seek(const struct order *order, uint64_t number, struct slice name,
                              bool behind)
{
    struct path path;
    struct order_place place = {0};

    if (order->root == NULL)
        return place;
    place.at = descend(order, number, name, behind, &path);
    place.leaf = path.nodes[0];
    if (place.at == place.leaf->n)
        place = (struct order_place){.leaf = place.leaf->next};
    return place;
}

void *order_at(const struct order_place *place, uint64_t number)
{
    return place->leaf != NULL && place->leaf->slots[place->at].number == number
               ? place->leaf->slots[place->at].member
               : NULL;
}

void *order_first(const struct order *order, uint64_t *number)
{
    const struct order_node *node = order->root;

    if (node == NULL)
        return NULL;
    *number = node->slots[0].number; /* of an inner node: what its first leaf begins with */
    return node->slots[0].member;
}

/* Members lie anywhere in memory, and whoever walks reads each of them: those a few places ahead
 * are fetched meanwhile. Behind a member's end this asks for what is not read, and does no harm. */
static void fetch_ahead(const struct order_place *place)
{
    enum { AHEAD = 6, LINES = 4, LINE_BYTES = 64 };
    const struct order_node *leaf = place->leaf;

    if (place->at + AHEAD >= leaf->n)
        return;
    for (unsigned i = 0; i < LINES; i++)
        __builtin_prefetch((const char *)leaf->slots[place->at + AHEAD].member + i * LINE_BYTES);
}

void order_next(struct order_place *place)
{
    fetch_ahead(place);
    if (++place->at == place->leaf->n)
        *place = (struct order_place){.leaf = place->leaf->next};
}

unsigned order_skip(struct order_place *place, uint64_t number, unsigned most, void **last)
{
    unsigned passed = 0;

    while (passed < most && order_at(place, number) != NULL) {
        const struct order_node *leaf = place->leaf;
        unsigned end = leaf->n - place->at > most - passed ? place->at + most - passed : leaf->n;

        while (leaf->slots[end - 1].number != number)
            end--;
        passed += end - place->at;
        *last = leaf->slots[end - 1].member;
        place->at = end;
        if (end == leaf->n)
            *place = (struct order_place){.leaf = leaf->next};
    }
    return passed;
}

size_t order_bytes(const struct order *order)
{
    return order->nodes * sizeof(struct order_node) + order->nodes / SLOTS * SLOTS * sizeof(void *);
}
