/* Order by key, as far as redis is asked: taking again what waits, and whose the group is. */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"

#include <stdlib.h>

static uint64_t claim_idle_ms(const struct redis_reader *reader)
{
    return redis_store_of(&reader->streams->shared)->claim_idle_ms;
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
