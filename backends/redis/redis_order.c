/* Order by key. Redis gives each entry of a group to whoever asks first, so a group that keeps
 * order is read by one subscription at a time: its name stands in
 * <key_prefix>:order:<topic>:<group> (in a cluster <key_prefix>:order:{tag}:<topic>:<group>), for
 * half as long again as claim_idle_ms, and is renewed. The others stand by, and one of them goes on
 * when it ends, or does not renew: by then all that it had taken can be claimed.
 *
 * What is given back here (released, retried, a lease that ran out) stays with the reader, without
 * its bytes, and is taken again by XCLAIM. A message waits while an older one of its lane does; a
 * hash of the key chooses the lane, so two keys may share one. */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"
#include "src/base/hash.h"

#include <stdlib.h>

static uint16_t lane_of(struct slice key)
{
    if (message_is_null(key))
        return 0;
    return (uint16_t)(1 + hash_seeded(0, key) % (REDIS_LANES - 1));
}

/* ---- what waits ---- */

void redis_order_again(struct redis_reader *reader, struct redis_held *held,
                       enum redis_holding state)
{
    struct redis_order *order = reader->order;

    held->state = state;
    order->waiting[held->lane]++;
    if (state != HELD_AGAIN)
        return;
    redis_due_set(&reader->holds, held, 0);
    order->again++;
    order->want_again = true;
    redis_reader_wake(reader);
}

void redis_order_due(struct redis_reader *reader)
{
    struct redis_held *held;

    while ((held = redis_due_first(&reader->holds)) != NULL &&
           redis_due_ns(held) <= redis_reader_now(reader)) {
        bool parked = held->state == HELD_PARKED;

        if (parked)
            redis_order_left(reader, held);
        else
            redis_reader_tell_lost(reader, held);
        reader->holds.parked -= parked;
        redis_held_count(held, held->attempt + 1ull);
        redis_order_again(reader, held, HELD_AGAIN);
    }
}

void redis_order_unread(struct redis_reader *reader, enum redis_give which)
{
    for (uint32_t i = 0; i < reader->holds.used; i++) {
        struct redis_held *held = &reader->holds.places[i];

        if (held->state == HELD_REFUSED || (which == GIVE_UNREAD && held->state == HELD_WAITING))
            redis_order_again(reader, held, HELD_AGAIN);
    }
}

/* One whose lane was known has been chosen by it. */
static bool must_wait(const struct redis_reader *reader, const struct redis_held *held,
                      uint16_t lane)
{
    return held->lane == 0 && lane != 0 && reader->order->waiting[lane] > 0;
}

void redis_order_sort(struct redis_reader *reader)
{
    struct redis_fetched *fetched = reader->fetched;
    uint32_t kept = 0;

    for (uint32_t i = 0; fetched != NULL && i < fetched->n; i++) {
        bool of_before;
        struct redis_held *held =
            redis_held_by(&reader->holds, fetched->items[i].token, &of_before);
        uint16_t lane = lane_of(fetched->items[i].key);
        bool waits = must_wait(reader, held, lane);

        held->lane = lane & (REDIS_LANES - 1u);
        if (waits) {
            redis_order_again(reader, held, HELD_AGAIN);
            continue;
        }
        fetched->items[kept] = fetched->items[i];
        fetched->bytes[kept++] = fetched->bytes[i];
    }
    if (fetched != NULL)
        fetched->n = kept;
}

struct redis_held *redis_order_retake(struct redis_reader *reader, struct redis_id id)
{
    struct redis_held *held = reader->order->retakes ? redis_held_find(&reader->holds, id) : NULL;

    if (held == NULL || held->state != HELD_AGAIN)
        return NULL;
    redis_order_left(reader, held);
    held->state = HELD_WAITING;
    held->generation++;
    return held;
}

/* ---- its life ---- */

void redis_say_unlock(struct redis_call *call, struct redis_reader *reader)
{
    redis_say_script(call, redis_script_unlock, 2, 4);
    redis_word(call, reader->order->lock);
    redis_word(call, reader->notes);
    redis_word(call, reader->consumer);
    redis_word(call, slice_str(reader->streams->origin));
    redis_word(call, reader->key);
    redis_word(call, reader->group);
}

void redis_order_init(struct redis_reader *reader)
{
    struct redis_order *order = calloc(1, sizeof *order);
    struct slice name = redis_stream_key(reader->streams, &reader->texts, "order", reader->key);
    uint8_t *at;

    if (order == NULL)
        abort();
    order->lock.len = name.len + reader->key.len + reader->group.len + 2;
    at = arena_alloc(&reader->texts, order->lock.len);
    order->lock.data = at;
    memcpy(at, name.data, name.len);
    at += name.len;
    *at++ = ':';
    memcpy(at, reader->key.data, reader->key.len);
    at += reader->key.len;
    *at++ = ':';
    memcpy(at, reader->group.data, reader->group.len);
    reader->order = order;
}

void redis_order_clear(struct redis_reader *reader)
{
    free(reader->order);
}
