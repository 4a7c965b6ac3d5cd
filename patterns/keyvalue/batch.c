/* How a batch runs, in chunks or item by item.
 *
 * happy path    run -> fan-out: start_chunk / start_head -> the backend -> chunk_done / one_done
 *               -> all_done -> reply
 * refused item  has its outcome before the run and is left out of what is sent
 * cancelled     what was not started yet is not sent any more: it fails as its neighbours that were
 *               under way do; likewise when the deadline has passed
 * too large     once the response is full, items that were not started yet get RESOURCE_EXHAUSTED
 */
#include "patterns/keyvalue/batch.h"

#include "patterns/chain.h"
#include "pool/worker.h"
#include "src/base/container.h"

#include <string.h>

static void start_chunk(struct fanout *fanout, size_t i);
static void chunk_done(struct op *op);
static void start_head(struct fanout *fanout, size_t i);
static void start_item(struct batch_slot *slot, uint32_t item);
static void one_done(struct op *op);
static void all_done(struct fanout *fanout);

struct err batch_check(const struct keyvalue *kv, struct arena *arena, size_t n,
                       const char *subject)
{
    if (kv->plan.run_batch == NULL)
        return keyvalue_unsupported(NEED_BATCH);
    return check_items(n, kv->settings.max_batch_items, arena, subject);
}

struct err batch_check_atomic(const struct keyvalue *kv, struct arena *arena, size_t n,
                              const char *subject)
{
    if (kv->plan.txn == NULL)
        return keyvalue_unsupported(NEED_TXN);
    return check_items(n, keyvalue_atomic_items(kv), arena, subject);
}

void batch_init(struct batch *batch, struct call *call, const struct batch_kind *kind,
                batch_reply_fn *reply, size_t n)
{
    batch->call = call;
    batch->kv = call_pattern(call);
    batch->kind = kind;
    batch->reply = reply;
    batch->plan = batch->kv->plan;
    batch->items = arena_array(call_arena(call), n, kind->item_bytes);
    batch->n = n;
    batch->room.bytes = batch->kv->max_message_bytes;
}

void batch_refuse(struct batch *batch, size_t i, struct err err)
{
    batch_item(batch, i)->err = err;
    batch->refused++;
}

/* Why the next operation should not be sent any more; ERR_NONE: nothing speaks against it. */
static struct err reason_to_stop(const struct batch *batch)
{
    const struct op_group *group = call_group(batch->call);

    if (group->cancelled.code != ERR_OK)
        return group->cancelled;
    if (group->deadline_ns != 0 && group->deadline_ns <= group->home->now_ns)
        return err_make(ERR_DEADLINE_EXCEEDED, "the deadline passed before this item was sent");
    if (batch->room.exceeded)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_message_bytes",
                         "the response is full: ask for this key again");
    return ERR_NONE;
}

static void run(struct batch *batch, size_t n, void (*start)(struct fanout *, size_t))
{
    batch->fanout.n = n;
    batch->fanout.group = call_group(batch->call);
    batch->fanout.semaphore = &batch->kv->semaphore;
    batch->fanout.start = start;
    batch->fanout.all_done = all_done;
    fanout_run(&batch->fanout);
}

/* ---- the backend's own batches ---- */

static void leave_out_refused(struct batch *batch)
{
    struct arena *arena = call_arena(batch->call);
    size_t bytes = batch->kind->item_bytes;

    batch->sent = batch->items;
    batch->n_sent = batch->n - batch->refused;
    if (batch->refused == 0)
        return;
    batch->sent = arena_array(arena, batch->n_sent, bytes);
    batch->sent_at = arena_array(arena, batch->n_sent, sizeof *batch->sent_at);
    for (size_t i = 0, to = 0; i < batch->n; i++) {
        if (batch_item(batch, i)->err.code != ERR_OK)
            continue;
        batch->sent_at[to] = (uint32_t)i;
        memcpy(batch_nth(batch, batch->sent, to++), batch_item(batch, i), bytes);
    }
}

static void put_back(struct batch *batch)
{
    size_t bytes = batch->kind->item_bytes;

    for (size_t i = 0; batch->sent_at != NULL && i < batch->n_sent; i++)
        memcpy(batch_item(batch, batch->sent_at[i]), batch_nth(batch, batch->sent, i), bytes);
}

/* Chains of items that name the same key, of those that are sent: chain_equal_keys. */
static size_t chain(const struct batch *batch, uint32_t *next, uint32_t *heads)
{
    struct arena *arena = call_arena(batch->call);
    struct chain_item *keys = arena_alloc(arena, batch->n * sizeof *keys);
    size_t n = 0;

    for (uint32_t i = 0; i < batch->n; i++) {
        const struct kv_item *item = batch_item(batch, i);

        if (item->err.code == ERR_OK)
            keys[n++] = (struct chain_item){.key = item->key, .index = i};
    }
    return chain_equal_keys(keys, n, next, heads);
}

/* Chunks run side by side unless two of them might write one key. */
static bool chunks_may_overtake(const struct batch *batch)
{
    struct arena *arena = call_arena(batch->call);

    if (batch->plan.batching == BATCHING_PIPELINED)
        return false; /* one window at a time: that is its width */
    if (!batch->kind->writes)
        return true;

    uint32_t *next = arena_alloc(arena, batch->n * sizeof *next);
    uint32_t *heads = arena_alloc(arena, batch->n * sizeof *heads);

    return chain(batch, next, heads) == batch->n - batch->refused;
}

/* Of large chunks two keep the backend busy, and when the response is full after the first of them,
 * the rest need not have been read. */
static unsigned chunks_at_once(const struct batch *batch, size_t chunk_items)
{
    enum { ITEMS = 2048, FEW = 2 };
    size_t fitting = ITEMS / chunk_items > FEW ? ITEMS / chunk_items : FEW;

    return fitting < batch->plan.width ? (unsigned)fitting : batch->plan.width;
}

static void run_chunks(struct batch *batch, size_t chunk_items)
{
    leave_out_refused(batch);

    size_t n = (batch->n_sent + chunk_items - 1) / chunk_items;

    batch->chunks = arena_array(call_arena(batch->call), n, sizeof *batch->chunks);
    for (size_t i = 0; i < n; i++) {
        struct batch_chunk *chunk = &batch->chunks[i];

        chunk->batch = batch;
        chunk->first = i * chunk_items;
        chunk->n = i + 1 < n ? chunk_items : batch->n_sent - chunk->first;
    }
    batch->fanout.width =
        n <= 1 || !chunks_may_overtake(batch) ? 1 : chunks_at_once(batch, chunk_items);
    run(batch, n, start_chunk);
}

void batch_run_many(struct batch *batch)
{
    const struct keyvalue_plan *plan = &batch->plan;
    uint32_t most = plan->batch->max_items;

    if (plan->batching == BATCHING_PIPELINED && plan->width < most)
        most = plan->width;
    run_chunks(batch, most);
}

void batch_run_whole(struct batch *batch)
{
    run_chunks(batch, SIZE_MAX / 2);
}

static void start_chunk(struct fanout *fanout, size_t i)
{
    struct batch *batch = CONTAINER_OF(fanout, struct batch, fanout);
    struct batch_chunk *chunk = &batch->chunks[i];
    struct err stop = reason_to_stop(batch);

    call_start(batch->call, &chunk->op, chunk_done);
    if (stop.code != ERR_OK)
        op_finish(&chunk->op, stop);
    else
        batch->kind->start_many(chunk, batch_nth(batch, batch->sent, chunk->first));
}

static void chunk_done(struct op *op)
{
    struct batch_chunk *chunk = CONTAINER_OF(op, struct batch_chunk, op);
    struct batch *batch = chunk->batch;

    for (size_t i = chunk->first; op->err.code != ERR_OK && i < chunk->first + chunk->n; i++)
        batch_nth(batch, batch->sent, i)->err = op->err;
    fanout_item_done(&batch->fanout);
}

/* ---- single operations ---- */

/* Which items wait for others. Within one process operations take effect in the order of their
 * starts, so none has to. */
static size_t plan_heads(struct batch *batch)
{
    struct arena *arena = call_arena(batch->call);
    size_t n = 0;

    if (batch->refused == 0 && (batch->plan.in_order || !batch->kind->writes))
        return batch->n;
    batch->heads = arena_alloc(arena, batch->n * sizeof *batch->heads);
    if (batch->kind->writes && !batch->plan.in_order) {
        batch->next = arena_alloc(arena, batch->n * sizeof *batch->next);
        return chain(batch, batch->next, batch->heads);
    }
    for (uint32_t i = 0; i < batch->n; i++) {
        if (batch_item(batch, i)->err.code == ERR_OK)
            batch->heads[n++] = i;
    }
    return n;
}

void batch_run_singles(struct batch *batch)
{
    size_t n = plan_heads(batch);
    size_t width = n < batch->plan.width ? n : batch->plan.width;
    struct batch_slot *slots = arena_array(call_arena(batch->call), width, sizeof *slots);

    for (size_t i = 0; i < width; i++) {
        slots[i].batch = batch;
        slots[i].next_free = i + 1 < width ? &slots[i + 1] : NULL;
    }
    batch->free_slots = slots;
    batch->fanout.width = batch->plan.width;
    run(batch, n, start_head);
}

static void start_head(struct fanout *fanout, size_t i)
{
    struct batch *batch = CONTAINER_OF(fanout, struct batch, fanout);
    struct batch_slot *slot = batch->free_slots;

    batch->free_slots = slot->next_free;
    start_item(slot, batch->heads != NULL ? batch->heads[i] : (uint32_t)i);
}

static void start_item(struct batch_slot *slot, uint32_t item)
{
    struct batch *batch = slot->batch;
    struct err stop = reason_to_stop(batch);

    slot->item = item;
    call_start(batch->call, &slot->op, one_done);
    if (stop.code != ERR_OK)
        op_finish(&slot->op, stop);
    else
        batch->kind->start_one(slot, item);
}

static void one_done(struct op *op)
{
    struct batch_slot *slot = CONTAINER_OF(op, struct batch_slot, op);
    struct batch *batch = slot->batch;
    uint32_t next = batch->next != NULL ? batch->next[slot->item] : 0;

    if (op->err.code != ERR_OK)
        batch_item(batch, slot->item)->err = op->err;
    else
        batch->kind->end_one(slot, slot->item);
    if (next != 0) {
        start_item(slot, next - 1);
        return;
    }
    slot->next_free = batch->free_slots;
    batch->free_slots = slot;
    fanout_item_done(&batch->fanout);
}

/* ---- the end ---- */

/* Does the code tell of the backend or the call? The others tell of one item. */
static bool is_about_all(enum err_code code)
{
    switch (code) {
    case ERR_OK:
    case ERR_INVALID_ARGUMENT:
    case ERR_NOT_FOUND:
    case ERR_ALREADY_EXISTS:
    case ERR_FAILED_PRECONDITION:
    case ERR_OUT_OF_RANGE:
        return false;
    default:
        return true;
    }
}

/* The failure of the batch as a whole, which is the first item's; ERR_NONE: there is none. The
 * outcomes decide, not the commands: a backend may refuse all items within an operation that
 * succeeds. */
static struct err common_failure(const struct batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        if (!is_about_all(batch_item(batch, i)->err.code))
            return ERR_NONE;
    }
    return batch->n > 0 && batch->refused == 0 ? batch_item(batch, 0)->err : ERR_NONE;
}

static void all_done(struct fanout *fanout)
{
    struct batch *batch = CONTAINER_OF(fanout, struct batch, fanout);

    put_back(batch);
    batch->reply(batch, common_failure(batch));
}
