/* Settling: one call for all settlements of an operation. What is certainly this reader's is
 * settled by XACK; where redis has not heard of it for a while, and in queues, a script asks first.
 */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"

enum step { STEP_ACK, STEP_SCRIPT, STEP_GIVE };

/* One command: items of a list, from first on. */
struct part {
    enum step step;
    uint32_t first, n;
};

struct settling {
    struct redis_reader *reader;
    struct settle *settle;
    uint32_t *order; /* items, by step */
    uint32_t n[3];
    struct part *parts;
    uint32_t n_parts;
};

static struct err late(bool of_before)
{
    if (of_before)
        return ERR_NONE;
    return err_make(ERR_ABORTED, "the delivery is no longer this subscription's");
}

static struct redis_held *out_by(struct redis_reader *reader, uint64_t token, bool *of_before)
{
    struct redis_held *held = redis_held_by(&reader->holds, token, of_before);

    return held != NULL && held->state == HELD_OUT ? held : NULL;
}

/* ---- what each item needs ---- */

static struct err park(struct redis_reader *reader, struct redis_held *held, uint64_t delay_ms)
{
    if (reader->holds.parked >= REDIS_STREAM_PARKED)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_parked",
                         "as many messages of this subscription as may wait for a retry");
    held->state = HELD_PARKED;
    redis_due_set(&reader->holds, held, redis_reader_now(reader) + delay_ms * NS_PER_MS);
    reader->holds.parked++;
    if (reader->order != NULL)
        redis_order_again(reader, held, HELD_PARKED);
    redis_reader_due(reader, redis_due_ns(held));
    return ERR_NONE;
}

/* False: the item has its outcome. */
static bool step_of(struct redis_reader *reader, struct settlement *item, enum step *step)
{
    bool of_before;
    struct redis_held *held = out_by(reader, item->token, &of_before);

    item->err = ERR_NONE;
    if (item->how == SETTLE_DEAD)
        item->err = err_make(ERR_UNIMPLEMENTED, "redis keeps no dead letters of its own");
    else if (held == NULL)
        item->err = late(of_before);
    else if (item->how == SETTLE_RETRY && item->delay_ms > 0)
        item->err = park(reader, held, item->delay_ms);
    else if (item->how != SETTLE_DONE && reader->order != NULL) {
        redis_held_count(held, held->attempt + (item->how == SETTLE_RETRY ? 1ull : 0));
        redis_order_again(reader, held, HELD_AGAIN);
    } else {
        bool sure = !reader->queue && reader->tickets == 0 && /* which others may have used */
                    redis_is_sure(reader, held);

        *step = item->how != SETTLE_DONE ? STEP_GIVE : sure ? STEP_ACK : STEP_SCRIPT;
        held->state = HELD_SETTLING;
        redis_due_pause(&reader->holds, held);
        return true;
    }
    return false;
}

static void plan_parts(struct settling *settling)
{
    uint32_t first = 0;

    for (unsigned step = STEP_ACK; step <= STEP_GIVE; step++) {
        for (uint32_t left = settling->n[step], n; left > 0; left -= n) {
            n = left < REDIS_STEP_IDS ? left : REDIS_STEP_IDS;
            settling->parts[settling->n_parts++] =
                (struct part){.step = (enum step)step, .first = first, .n = n};
            first += n;
        }
    }
}

/* NULL: nothing is to be said to redis. */
static struct settling *plan(struct redis_reader *reader, struct settle *settle)
{
    struct arena *arena = op_arena(&settle->op);
    struct settling *settling = arena_zalloc(arena, sizeof *settling);
    uint8_t *steps = arena_alloc(arena, settle->n);
    uint32_t at = 0;

    settling->reader = reader;
    settling->settle = settle;
    for (size_t i = 0; i < settle->n; i++) {
        enum step step;

        steps[i] = UINT8_MAX;
        if (!step_of(reader, &settle->items[i], &step))
            continue;
        steps[i] = (uint8_t)step;
        settling->n[step]++;
        at++;
    }
    if (at == 0)
        return NULL;
    settling->order = arena_alloc(arena, at * sizeof *settling->order);
    settling->parts = arena_alloc(arena, (at / REDIS_STEP_IDS + 3) * sizeof *settling->parts);
    at = 0;
    for (unsigned step = STEP_ACK; step <= STEP_GIVE; step++) {
        for (uint32_t i = 0; i < settle->n; i++) {
            if (steps[i] == step)
                settling->order[at++] = i;
        }
    }
    plan_parts(settling);
    return settling;
}

/* ---- answers ---- */

static struct settlement *item_of(const struct settling *settling, const struct part *part,
                                  size_t i)
{
    return &settling->settle->items[settling->order[part->first + i]];
}

static void settled(const struct settling *settling, struct settlement *item, struct err err)
{
    struct redis_holds *holds = &settling->reader->holds;
    bool of_before;
    struct redis_held *held = redis_held_by(holds, item->token, &of_before);

    item->err = err;
    if (held != NULL)
        redis_let_go(holds, held);
}

/* It is this reader's still. */
static void not_settled(const struct settling *settling, struct settlement *item, struct err err)
{
    bool of_before;
    struct redis_held *held = redis_held_by(&settling->reader->holds, item->token, &of_before);

    item->err = err;
    if (held == NULL)
        return;
    held->state = HELD_OUT;
    held->sure = false;
    redis_due_set(&settling->reader->holds, held, redis_due_ns(held));
    redis_reader_holds(settling->reader, held);
}

/* Maybe it is this reader's still. */
static void in_doubt(const struct settling *settling, struct settlement *item, struct err err)
{
    struct redis_reader *reader = settling->reader;
    bool of_before;
    struct redis_held *held;

    not_settled(settling, item, err);
    held = redis_held_by(&reader->holds, item->token, &of_before);
    if (held != NULL)
        redis_reader_doubt(reader, held);
}

/* XACK tells how many were pending, and passes in silence over a group that is not there. Whatever
 * was not pending was removed behind this reader's back: with its group, or by a failover to a
 * server that had not heard of it. It is looked at whether the group is there. */
static void acked(const struct settling *settling, const struct part *part, int64_t pending)
{
    struct err err = ERR_NONE;

    if (pending == 0)
        err = late(false);
    else if (pending < part->n) {
        err = err_make(ERR_UNAVAILABLE, "some deliveries were no longer this subscription's, and "
                                        "redis does not tell which");
        err.effect = EFFECT_UNKNOWN;
    }
    settling->reader->entered = settling->reader->entered && err.code == ERR_OK;
    for (uint32_t i = 0; i < part->n; i++) {
        if (err.effect == EFFECT_UNKNOWN)
            in_doubt(settling, item_of(settling, part, i), err);
        else
            settled(settling, item_of(settling, part, i), err);
    }
}

static void settle_error(struct redis_call *call, const struct part *part, struct slice error)
{
    const struct settling *settling = call->state;
    struct err err = redis_stream_error(op_arena(call->op), error);
    bool gone = redis_error_is(error, "NOGROUP");

    settling->reader->entered = settling->reader->entered && !gone;
    for (uint32_t i = 0; i < part->n; i++) {
        if (gone) /* with all that was pending */
            settled(settling, item_of(settling, part, i), late(false));
        else
            not_settled(settling, item_of(settling, part, i), err);
    }
}

static void settle_node(struct redis_call *call, const struct redis_node *node)
{
    const struct settling *settling = call->state;
    const struct part *part = &settling->parts[call->answered];

    if (node->type == REDIS_REPLY_ERROR)
        settle_error(call, part, node->text);
    else if (node->type != REDIS_REPLY_INTEGER)
        return;
    else if (node->depth == 0 && part->step == STEP_ACK)
        acked(settling, part, node->number);
    else if (node->depth == 1 && node->index < part->n)
        settled(settling, item_of(settling, part, node->index),
                node->number != 0 ? ERR_NONE : late(false));
}

static void settle_end(struct redis_call *call)
{
    struct settling *settling = call->state;
    struct redis_reader *reader = settling->reader;

    if (settling->n[STEP_GIVE] > 0)
        redis_given(reader);
    redis_finish(call->redis, call->op, call->err);
    redis_reader_answered(reader, false);
}

static void settle_lost(struct redis_call *call, struct err why)
{
    struct settling *settling = call->state;

    if (settling == NULL) { /* before anything was said */
        redis_finish(call->redis, call->op, why);
        return;
    }
    for (uint32_t p = call->answered; p < settling->n_parts; p++) {
        const struct part *part = &settling->parts[p];

        for (uint32_t i = 0; i < part->n; i++)
            not_settled(settling, item_of(settling, part, i), why);
    }
    redis_finish(call->redis, call->op, ERR_NONE);
    redis_reader_answered(settling->reader, false);
}

static const struct redis_kind settle_kind = {.writes = true,
                                              .item_errors = true,
                                              .node = settle_node,
                                              .end = settle_end,
                                              .lost = settle_lost};

/* ---- commands ---- */

static struct redis_held *held_of(const struct settling *settling, const struct part *part,
                                  uint32_t i)
{
    bool of_before;

    return redis_held_by(&settling->reader->holds, item_of(settling, part, i)->token, &of_before);
}

static void say_ids(struct redis_call *call, const struct settling *settling,
                    const struct part *part)
{
    char text[REDIS_ID_BYTES];

    for (uint32_t i = 0; i < part->n; i++)
        redis_word(call, redis_id_text(held_of(settling, part, i)->id, text));
}

static void say_part(struct redis_call *call, const struct settling *settling,
                     const struct part *part)
{
    const struct redis_reader *reader = settling->reader;

    if (part->step == STEP_GIVE) {
        redis_say_give(call, reader, part->n);
        for (uint32_t i = 0; i < part->n; i++) {
            const struct redis_held *held = held_of(settling, part, i);
            uint32_t attempt = held->attempt;
            bool free = item_of(settling, part, i)->how == SETTLE_RELEASE && attempt > 0;

            redis_say_given(call, held, attempt - free, REDIS_NOBODY_IDLE_MS);
        }
        return;
    }
    bool counted = !message_is_null(reader->sizes);

    if (part->step == STEP_ACK)
        redis_command(call, 3 + part->n, "XACK");
    else
        redis_say_script(call, redis_script_settle, counted ? 2 : 1, 3 + part->n);
    redis_word(call, reader->key);
    if (counted) /* of a queue: never STEP_ACK */
        redis_word(call, reader->sizes);
    redis_word(call, reader->group);
    if (part->step == STEP_SCRIPT) {
        redis_word(call, reader->consumer);
        redis_word(call, slice_str(reader->queue ? "delete" : ""));
    }
    say_ids(call, settling, part);
}

static void give_up(struct settling *settling, struct err err)
{
    for (uint32_t p = 0; p < settling->n_parts; p++) {
        for (uint32_t i = 0; i < settling->parts[p].n; i++)
            not_settled(settling, item_of(settling, &settling->parts[p], i), err);
    }
}

void redis_stream_settle(struct backend *backend, struct settle *settle)
{
    struct redis_reader *reader = redis_reader_of(settle->subscription);
    struct redis *redis = redis_reader_at(reader);
    struct settling *settling = plan(reader, settle);

    (void)backend;
    if (settling == NULL) {
        redis_finish(redis, &settle->op, ERR_NONE);
        return;
    }

    size_t bytes = settle->n * 3 * redis_words(1) + settling->n_parts * 2048;
    struct redis_call *call = redis_begin(redis, &settle->op, &settle_kind, bytes);

    if (call == NULL) {
        give_up(settling, ERR_NONE); /* the operation has its outcome */
        return;
    }
    call->state = settling;
    reader->calls++;
    for (uint32_t p = 0; p < settling->n_parts; p++)
        say_part(call, settling, &settling->parts[p]);
}

/* ---- leases ---- */

struct extending {
    struct redis_reader *reader;
    struct extend *extend;
    uint64_t sent_ns;
    uint32_t *order;
    uint32_t n;
};

static void extend_node(struct redis_call *call, const struct redis_node *node)
{
    struct extending *extending = call->state;
    struct redis_reader *reader = extending->reader;
    size_t at = call->answered * (size_t)REDIS_STEP_IDS + node->index;
    bool of_before;

    if (node->type == REDIS_REPLY_ERROR)
        call->err = redis_stream_error(op_arena(call->op), node->text);
    if (node->depth != 1 || node->type != REDIS_REPLY_INTEGER || at >= extending->n)
        return;

    struct lease *item = &extending->extend->items[extending->order[at]];
    struct redis_held *held = out_by(reader, item->token, &of_before);

    if (held == NULL || node->number != 1)
        item->err = late(false);
    if (held == NULL)
        return;
    if (node->number == 1)
        redis_held_told(held, extending->sent_ns, true);
    else
        redis_let_go(&reader->holds, held);
}

static void extend_end(struct redis_call *call)
{
    struct extending *extending = call->state;

    redis_finish(call->redis, call->op, call->err);
    redis_reader_answered(extending->reader, false);
}

static void extend_lost(struct redis_call *call, struct err why)
{
    struct extending *extending = call->state;

    redis_finish(call->redis, call->op, why);
    if (extending != NULL)
        redis_reader_answered(extending->reader, false);
}

static const struct redis_kind extend_kind = {.writes = true,
                                              .item_errors = true,
                                              .node = extend_node,
                                              .end = extend_end,
                                              .lost = extend_lost};

static void say_extend(struct redis_call *call, const struct extending *extending)
{
    const struct redis_reader *reader = extending->reader;
    char text[REDIS_ID_BYTES];
    bool of_before;

    for (uint32_t i = 0; i < extending->n; i++) {
        uint32_t left = extending->n - i;
        uint64_t token = extending->extend->items[extending->order[i]].token;

        if (i % REDIS_STEP_IDS == 0) {
            redis_say_script(call, redis_script_keep, 1,
                             2 + (left < REDIS_STEP_IDS ? left : REDIS_STEP_IDS));
            redis_word(call, reader->key);
            redis_word(call, reader->group);
            redis_word(call, reader->consumer);
        }
        redis_word(call, redis_id_text(redis_held_by(&reader->holds, token, &of_before)->id, text));
    }
}

static struct extending *look(struct redis_reader *reader, struct extend *extend)
{
    struct arena *arena = op_arena(&extend->op);
    struct extending *extending = arena_zalloc(arena, sizeof *extending);

    extending->reader = reader;
    extending->extend = extend;
    extending->sent_ns = redis_reader_now(reader);
    extending->order = arena_alloc(arena, extend->n * sizeof *extending->order);
    for (uint32_t i = 0; i < extend->n; i++) {
        bool of_before;
        struct redis_held *held = out_by(reader, extend->items[i].token, &of_before);

        extend->items[i].err = held == NULL ? late(false) : ERR_NONE;
        if (held == NULL)
            continue;
        redis_due_set(&reader->holds, held, extending->sent_ns + extend->lease_ms * NS_PER_MS);
        redis_reader_holds(reader, held);
        extending->order[extending->n++] = i;
    }
    return extending;
}

void redis_stream_extend(struct backend *backend, struct extend *extend)
{
    struct redis_reader *reader = redis_reader_of(extend->subscription);
    struct redis *redis = redis_reader_at(reader);
    struct extending *extending = look(reader, extend);

    (void)backend;
    if (extending->n == 0) {
        redis_finish(redis, &extend->op, ERR_NONE);
        return;
    }

    struct redis_call *call =
        redis_begin(redis, &extend->op, &extend_kind, extending->n * redis_words(2) + 2048);

    if (call == NULL)
        return;
    call->state = extending;
    reader->calls++;
    say_extend(call, extending);
}
