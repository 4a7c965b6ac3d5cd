/* Scans of a cluster, in the order of slots: a part is a contiguous run of them that one primary
 * has.
 *
 * Its SCAN walks over all keys of the primary; those of other slots are left out. So a primary with
 * several runs is walked over once for each, and a scan goes on wherever slots have gone meanwhile:
 * the cursor names the slots that are left and the node whose own cursor it holds. If another node
 * has them now, the part begins anew there, and keys may come twice; if the run has become shorter,
 * the rest is a part of its own. Only a key whose slot is being moved at that very moment can be
 * passed over: its node has given it away, and the slots of the other one may be done.
 *
 * A cursor is "rc1.", the first and the last slot in hex, the beginning of the node's id, and the
 * cursor of redis_cursor.c, which seals all of it. */
#include "backends/redis/redis_kv.h"
#include "backends/redis/redis_map.h"

#include <stdlib.h>

/* ---- the map ---- */

struct looking {
    struct redis_map map;
    struct redis_turn *turn;
    void (*go)(struct redis_turn *);
};

static void dispose(void *map)
{
    redis_map_clear(map);
}

static void look_node(struct redis_call *call, const struct redis_node *node)
{
    redis_map_take(&((struct looking *)call->state)->map, call->redis, node);
}

static void look_end(struct redis_call *call)
{
    struct looking *looking = call->state;

    redis_cluster_take(call->redis->cluster, &looking->map);
    redis_map_clear(&looking->map);
    looking->go(looking->turn);
}

static const struct redis_kind look_kind = {
    .item_errors = true, .node = look_node, .end = look_end};

static void look(struct redis_turn *turn)
{
    struct redis_call *call = redis_begin_turn(turn, &look_kind, redis_words(3));

    if (call == NULL)
        return;
    call->state = turn->state;
    redis_command(call, 2, "CLUSTER");
    redis_word(call, slice_str("SLOTS"));
}

void redis_part_look(struct redis *shared, struct redis_turn *turn, struct op *op,
                     void (*go)(struct redis_turn *))
{
    struct looking *looking;

    if (shared->cluster == NULL || shared->phase != REDIS_READY) {
        go(turn);
        return;
    }
    looking = arena_zalloc(op_arena(op), sizeof *looking);
    looking->turn = turn;
    looking->go = go;
    arena_adopt(op_arena(op), &looking->map, dispose);
    turn->state = looking;
    turn->buckets = 1;
    redis_turn_take(shared, turn, op, look);
}

/* ---- parts and cursors ---- */

static const char magic[] = "rc1.", nobody[] = "--------";

enum { MAGIC = 4, SLOT = 4, ID = 8, HEAD = MAGIC + 2 * SLOT + ID };

static struct slice head_of(struct arena *arena, unsigned from, unsigned to, const char *id)
{
    return slice_str(arena_printf(arena, "%s%04x%04x%.*s", magic, from, to, ID, id));
}

static struct slice seal_of(struct arena *arena, struct slice scope, struct slice head)
{
    uint8_t *seal = arena_alloc(arena, scope.len + head.len);

    memcpy(seal, scope.data, scope.len);
    memcpy(seal + scope.len, head.data, head.len);
    return slice_of(seal, scope.len + head.len);
}

static unsigned slot_of(const uint8_t *hex)
{
    char text[SLOT + 1] = "";

    memcpy(text, hex, SLOT);
    return (unsigned)strtoul(text, NULL, 16);
}

bool redis_part_begin(const struct redis_cluster *cluster, struct arena *arena, struct slice scope,
                      struct slice cursor, struct redis_part *part, struct redis_cursor *from)
{
    unsigned first = 0, last = REDIS_SLOTS - 1;
    struct slice head = slice_of(cursor.data, HEAD);

    if (cursor.len > 0) {
        if (cursor.len <= HEAD || !slice_starts_with(cursor, slice_of(magic, MAGIC)) ||
            !redis_cursor_decode(arena, seal_of(arena, scope, head),
                                 slice_of(cursor.data + HEAD, cursor.len - HEAD), from))
            return false;
        first = slot_of(head.data + MAGIC);
        last = slot_of(head.data + MAGIC + SLOT);
    }
    if (first > last || last >= REDIS_SLOTS)
        return false;
    part->slots = redis_cluster_slots(cluster, first);
    if (part->slots.to > last)
        part->slots.to = last;
    if (cursor.len > 0 &&
        strncmp((const char *)head.data + MAGIC + 2 * SLOT, part->slots.id, ID) != 0)
        *from = (struct redis_cursor){0};
    return true;
}

bool redis_part_has(const struct redis_part *part, struct slice key)
{
    unsigned slot;

    if (part->slots.redis == NULL)
        return true;
    slot = redis_slot(slice_of(NULL, 0), key);
    return slot >= part->slots.from && slot <= part->slots.to;
}

bool redis_part_end(struct arena *arena, struct slice scope, const struct redis_part *part,
                    const struct redis_cursor *rest, struct slice *next)
{
    bool done = !rest->within && rest->at == 0;
    struct slice head, cursor;

    if (done && part->slots.to == REDIS_SLOTS - 1)
        return false;
    if (done)
        head = head_of(arena, part->slots.to + 1, REDIS_SLOTS - 1, nobody);
    else
        head = head_of(arena, part->slots.from, part->slots.to, part->slots.id);
    cursor = redis_cursor_encode(arena, seal_of(arena, scope, head), rest);
    *next = seal_of(arena, head, cursor);
    return true;
}
