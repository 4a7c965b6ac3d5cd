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

static uint64_t claim_idle_ms(const struct redis_reader *reader)
{
    return redis_store_of(&reader->streams->shared)->claim_idle_ms;
}

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
    order->again++;
    order->want_again = true;
    redis_reader_wake(reader);
}

void redis_order_left(struct redis_reader *reader, struct redis_held *held)
{
    reader->order->waiting[held->lane]--;
    reader->order->again -= held->state == HELD_AGAIN;
    reader->order->want_again = true; /* those behind it */
}

void redis_order_due(struct redis_reader *reader)
{
    uint64_t now = redis_reader_now(reader);

    for (uint32_t i = 0; i < reader->holds.used; i++) {
        struct redis_held *held = &reader->holds.places[i];
        bool parked = held->state == HELD_PARKED;

        if ((!parked && held->state != HELD_OUT) || held->due_ns == 0 || held->due_ns > now)
            continue;
        if (parked)
            redis_order_left(reader, held);
        else
            redis_reader_tell_lost(reader, held);
        reader->holds.parked -= parked;
        held->attempt++;
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

        held->lane = lane;
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

/* ---- taking again ---- */

static int by_id(const void *a, const void *b)
{
    return redis_id_compare((*(struct redis_held *const *)a)->id,
                            (*(struct redis_held *const *)b)->id);
}

static size_t all_waiting(struct redis_reader *reader, struct redis_held **all)
{
    size_t n = 0;

    for (uint32_t i = 0; i < reader->holds.used; i++) {
        struct redis_held *held = &reader->holds.places[i];

        if (held->state == HELD_AGAIN || held->state == HELD_PARKED)
            all[n++] = held;
    }
    qsort(all, n, sizeof(struct redis_held *), by_id);
    return n;
}

/* In the order of the stream; a lane stops at the first that has to wait for its time. */
static uint32_t choose(struct redis_reader *reader, uint32_t most)
{
    struct redis_held **all = malloc((reader->holds.count + 1) * sizeof(struct redis_held *));
    bool stopped[REDIS_LANES] = {false};
    uint32_t chosen = 0;

    if (all == NULL)
        abort();

    size_t n = all_waiting(reader, all);

    for (size_t i = 0; i < n && chosen < most; i++) {
        if (all[i]->lane != 0 && stopped[all[i]->lane])
            continue;
        if (all[i]->state == HELD_PARKED)
            stopped[all[i]->lane] = true;
        else
            reader->order->ids[chosen++] = all[i]->id;
    }
    free(all);
    reader->order->want_again = chosen == most;
    return chosen;
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

static void gone(struct redis_reader *reader, struct redis_id id)
{
    struct redis_held *held = redis_held_find(&reader->holds, id);

    if (held == NULL || held->state != HELD_AGAIN)
        return;
    redis_order_left(reader, held);
    redis_let_go(&reader->holds, held);
    redis_reader_gap(reader, 1, "entries were removed from the stream before they were settled");
}

/* Of each XCLAIM: [[id, [word ..]]], or nothing. */
static void again_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;

    if (node->type == REDIS_REPLY_ERROR)
        redis_reader_refused(reader, node->text);
    else if (node->depth == 0 && node->type == REDIS_REPLY_ARRAY && node->number == 0)
        gone(reader, reader->order->ids[call->answered]);
    else
        redis_take_entry(reader, node, 1);
}

static void again_end(struct redis_call *call)
{
    struct redis_reader *reader = call->state;

    reader->order->retakes = false;
    redis_taken(reader);
    redis_reader_answered(reader, true);
}

static void again_lost(struct redis_call *call, struct err why)
{
    struct redis_reader *reader = call->state;

    reader->order->retakes = false;
    redis_taking_lost(call, why);
}

static const struct redis_kind again_kind = {
    .item_errors = true, .node = again_node, .end = again_end, .lost = again_lost};

static void take_again(struct redis_reader *reader, uint32_t n)
{
    struct redis_call *call = redis_reader_call(reader, &again_kind, true);
    char text[REDIS_ID_BYTES];

    reader->asked = n;
    reader->counted = 0;
    reader->order->retakes = true;
    for (uint32_t i = 0; i < n; i++) {
        const struct redis_held *held = redis_held_find(&reader->holds, reader->order->ids[i]);

        redis_command(call, 8, "XCLAIM");
        redis_word(call, reader->key);
        redis_word(call, reader->group);
        redis_word(call, reader->consumer);
        redis_word_number(call, 0);
        redis_word(call, redis_id_text(held->id, text));
        redis_word(call, slice_str("RETRYCOUNT"));
        redis_word_number(call, held->attempt);
    }
}

/* ---- whose group it is ---- */

enum { NOT_OWNER, NEW_OWNER, STILL_OWNER };

/* What a former owner may still hold is void: it is another's, or will be claimed. */
static void lock_told(struct redis_reader *reader, long long answer)
{
    struct redis_order *order = reader->order;

    if (order->owner && answer == NOT_OWNER)
        redis_reader_void(reader, MOVED_BY_GROUP);
    order->owner = answer != NOT_OWNER;
    if (answer != NEW_OWNER)
        return;
    order->takes_over = reader->want_claim = true;
    reader->claim_at = (struct redis_id){0};
}

static void lock_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;

    if (node->type == REDIS_REPLY_ERROR)
        redis_reader_refused(reader, node->text);
    else if (node->type == REDIS_REPLY_INTEGER)
        lock_told(reader, node->number);
}

static void lock_end(struct redis_call *call)
{
    struct redis_reader *reader = call->state;

    reader->order->locking = false;
    redis_reader_answered(reader, false);
}

static void lock_lost(struct redis_call *call, struct err why)
{
    (void)why;
    lock_end(call);
}

static const struct redis_kind lock_kind = {
    .item_errors = true, .node = lock_node, .end = lock_end, .lost = lock_lost};

static void lock(struct redis_reader *reader)
{
    struct redis_call *call = redis_reader_call(reader, &lock_kind, false);

    reader->order->locking = true;
    reader->order->lock_ns = redis_reader_now(reader) + claim_idle_ms(reader) * NS_PER_MS / 4;
    redis_say_script(call, redis_script_lock, 1, 2);
    redis_word(call, reader->order->lock);
    redis_word(call, reader->consumer);
    redis_word_number(call, claim_idle_ms(reader) + claim_idle_ms(reader) / 2);
}

void redis_order_renew(struct redis_reader *reader)
{
    struct redis_order *order = reader->order;

    if (order->owner && !order->locking && order->lock_ns <= redis_reader_now(reader))
        lock(reader);
}

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

/* ---- for the reader ---- */

bool redis_order_first(struct redis_reader *reader)
{
    struct redis_order *order = reader->order;
    uint32_t n;

    if (!order->owner) {
        if (!order->locking && order->lock_ns <= redis_reader_now(reader))
            lock(reader);
        return true;
    }
    if (!order->want_again || order->again == 0)
        return false;
    n = choose(reader, redis_may_ask(reader));
    if (n == 0)
        return false;
    take_again(reader, n);
    return true;
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
