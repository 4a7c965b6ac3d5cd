/* Deduplication where the sink has none: a record in the state store for each identifier.
 *
 *   open     somebody is publishing the message; expires by itself, should he be gone
 *   stored   the sink has it: at this place; kept for the window
 *
 *   claim  -> put_if absent: it is ours ------------------> publish
 *          -> there already: get -> stored, same digest --> a duplicate, with the first's place
 *                                -> another digest -------> ALREADY_EXISTS
 *                                -> open: wait, claim again
 *                                -> gone meanwhile: claim again
 *   after the sink: stored -> the record says so; otherwise the record is removed, so that a repeat
 *   is written. Only what the sink has confirmed is remembered.
 *
 * A record that cannot be written after the message was stored expires as an open one: a repeat is
 * then written twice. An attempt that lasts longer than its open record leaves alone what is there
 * by then: it may be another attempt's. */
#include "patterns/chain.h"
#include "patterns/producer/prepare.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/number.h"

#include <stdlib.h>
#include <sys/random.h>

enum { OPEN = 'O', STORED = 'S' };
enum { WAIT_MS = 20, MOST_ATTEMPTS = 4 };

/* An open record outlives the attempt: the time of retries, the rest of the call's deadline as far
 * as it counts, and a margin. The deadline is the client's word, so it is bounded: a server that is
 * gone must not keep an identifier for long. */
enum { MARGIN_MS = 60000, MOST_DEADLINE_MS = 600000 };

/* Within this time of its expiry the record counts as expired: a write may take that long. */
enum { LEEWAY_MS = 30000 };

/* In the store: this, and for STORED the position behind it. */
struct record {
    uint8_t state;
    uint8_t owner[OWNER_BYTES]; /* of the attempt that claimed */
    uint8_t digest[DIGEST_BYTES];
    uint8_t partition[4], offset[8]; /* little-endian */
};

static void claimed(struct op *op);
static void looked(struct op *op);

/* ---- records ---- */

static struct slice write_record(const struct prepared *prepared, uint8_t state)
{
    const struct outgoing *message = prepared_message(prepared);
    size_t position = state == STORED ? message->position.len : 0;
    uint8_t *out = arena_alloc(prepared->preparing->frame->arena, sizeof(struct record) + position);
    struct record *record = (void *)out;

    record->state = state;
    memcpy(record->owner, prepared->owner, OWNER_BYTES);
    memcpy(record->digest, prepared->digest.bytes, DIGEST_BYTES);
    number_put(record->partition, (uint32_t)message->partition, sizeof record->partition);
    number_put(record->offset, (uint64_t)message->offset, sizeof record->offset);
    if (position > 0)
        memcpy(out + sizeof *record, message->position.data, position);
    return slice_of(out, sizeof *record + position);
}

static void take_place(const struct prepared *prepared, const struct record *record,
                       size_t position)
{
    struct outgoing *message = prepared_message(prepared);

    message->partition = (int32_t)number_get(record->partition, sizeof record->partition);
    message->offset = (int64_t)number_get(record->offset, sizeof record->offset);
    message->position =
        position > 0 ? arena_copy(prepared->preparing->frame->arena,
                                  slice_of((const uint8_t *)record + sizeof *record, position))
                     : message_null();
}

/* ---- keys ---- */

/* Begins with NUL, as no key of a client does: one store may serve both. */
static struct slice key_of(struct arena *arena, const struct outgoing *message)
{
    static const char name[] = "\0dedup";
    size_t n = sizeof name;
    uint8_t *out = arena_alloc(arena, n + message->topic.len + 1 + message->id.len);

    memcpy(out, name, n);
    memcpy(out + n, message->topic.data, message->topic.len);
    n += message->topic.len;
    out[n++] = '\0';
    memcpy(out + n, message->id.data, message->id.len);
    return slice_of(out, n + message->id.len);
}

static bool same_digest(const struct prepared *prepared, const uint8_t *digest)
{
    return memcmp(prepared->digest.bytes, digest, DIGEST_BYTES) == 0;
}

static void settle(struct prepared *prepared, struct err err)
{
    frame_settle(prepared->preparing->frame, prepared->item, err);
}

static struct err stranger(void)
{
    return err_about(ERR_ALREADY_EXISTS, "message_id",
                     "the identifier belongs to a message with another payload");
}

static void link_twin(struct preparing *preparing, uint32_t first, uint32_t at)
{
    struct prepared *twin = &preparing->items[at];

    twin->claims = twin->checked = false;
    if (!same_digest(twin, preparing->items[first].digest.bytes)) {
        settle(twin, stranger());
        return;
    }
    twin->twin_of = first + 1;
    settle(twin, ERR_NONE); /* dedup_twins tells what it really became */
}

void dedup_begin(struct preparing *preparing)
{
    struct arena *arena = preparing->frame->arena;
    struct chain_item *chain = arena_alloc(arena, preparing->n * sizeof *chain);
    uint32_t *next = arena_array(arena, preparing->n, sizeof *next);
    uint32_t *heads = arena_alloc(arena, preparing->n * sizeof *heads);
    size_t n = 0;

    for (uint32_t i = 0; i < preparing->n; i++) {
        struct prepared *prepared = &preparing->items[i];
        const struct outgoing *message = prepared_message(prepared);

        if (!prepared->claims)
            continue;
        prepared->dedup_key = key_of(arena, message);
        prepared->digest = digest_of(&message->payload, 1);
        chain[n++] = (struct chain_item){.key = prepared->dedup_key, .index = i};
    }
    n = chain_equal_keys(chain, n, next, heads);
    for (size_t i = 0; i < n; i++) {
        for (uint32_t at = next[heads[i]]; at != 0; at = next[at - 1])
            link_twin(preparing, heads[i], at - 1);
    }
}

/* ---- before the sink ---- */

static void start(struct prepared *prepared, struct op_group *group, op_done_fn *done)
{
    op_start(&prepared->op, group, done);
    prepared->op.arena = prepared->preparing->frame->arena;
}

static void end(struct prepared *prepared, struct err err)
{
    settle(prepared, err);
    prepare_step_done(prepared);
}

static uint64_t open_ms(const struct prepared *prepared)
{
    const struct op_group *group = prepared->preparing->group;
    uint64_t now_ns = group->home->now_ns, rest_ms = 0;

    if (group->deadline_ns > now_ns)
        rest_ms = (group->deadline_ns - now_ns) / NS_PER_MS;
    if (rest_ms > MOST_DEADLINE_MS)
        rest_ms = MOST_DEADLINE_MS;
    return prepared->preparing->producer->settings.retry_for_ms + rest_ms + MARGIN_MS;
}

static void try_claim(struct prepared *prepared)
{
    struct producer *producer = prepared->preparing->producer;
    uint64_t ttl_ms = open_ms(prepared);

    if (getrandom(prepared->owner, OWNER_BYTES, 0) != OWNER_BYTES)
        abort(); /* never for so few bytes */
    prepared->lapses_ns =
        prepared->preparing->group->home->now_ns + (ttl_ms - LEEWAY_MS) * NS_PER_MS;
    prepared->put_if = (struct kv_put_if){.key = prepared->dedup_key,
                                          .value = write_record(prepared, OPEN),
                                          .ttl_ms = ttl_ms,
                                          .condition = KV_IF_ABSENT};
    start(prepared, prepared->preparing->group, claimed);
    producer->state->has.kv_cas->put_if(producer->state, &prepared->put_if);
}

void dedup_claim(struct prepared *prepared)
{
    if (!prepared->claims || prepared_is_settled(prepared))
        prepare_step_done(prepared);
    else
        try_claim(prepared);
}

static void claimed(struct op *op)
{
    struct prepared *prepared = CONTAINER_OF(op, struct prepared, op);
    struct producer *producer = prepared->preparing->producer;

    if (op->err.code != ERR_OK) {
        struct err err = op->err;

        prepared->maybe_claimed = err.effect != EFFECT_NONE;
        err.effect = EFFECT_NONE; /* the message itself was not sent */
        end(prepared, err);
        return;
    }
    if (prepared->put_if.stored) {
        prepared->claimed = true;
        prepare_step_done(prepared);
        return;
    }
    prepared->get = (struct kv_get){.key = prepared->dedup_key};
    start(prepared, prepared->preparing->group, looked);
    producer->state->has.kv_basic->get(producer->state, &prepared->get);
}

static void waited(struct timer *timer)
{
    struct prepared *prepared = CONTAINER_OF(timer, struct prepared, timer);
    struct op_group *group = prepared->preparing->group;

    if (group->cancelled.code != ERR_OK)
        end(prepared, group->cancelled);
    else
        try_claim(prepared);
    op_group_leave(group);
}

/* Somebody publishes it right now: what becomes of it is known soon. */
static void wait(struct prepared *prepared)
{
    struct op_group *group = prepared->preparing->group;
    struct worker *home = group->home;
    uint64_t most_ns = prepared->preparing->producer->settings.retry_for_ms * NS_PER_MS;

    if (prepared->waits_since_ns == 0)
        prepared->waits_since_ns = home->now_ns;
    if (home->now_ns - prepared->waits_since_ns >= most_ns) {
        end(prepared, (struct err){.code = ERR_UNAVAILABLE,
                                   .text = "an earlier attempt with this message_id is not over",
                                   .retry_after_ms = MARGIN_MS / 10});
        return;
    }
    op_group_enter(group);
    timer_arm(&home->timers, &prepared->timer, home->now_ns + WAIT_MS * NS_PER_MS, waited);
}

static void look_at(struct prepared *prepared, struct slice value)
{
    const struct record *record = (const void *)value.data;

    if (value.len < sizeof *record || (record->state != OPEN && record->state != STORED)) {
        end(prepared, err_make(ERR_INTERNAL, "the state store holds something else under the "
                                             "identifier"));
    } else if (!same_digest(prepared, record->digest)) {
        end(prepared, stranger());
    } else if (record->state == OPEN) {
        wait(prepared);
    } else {
        take_place(prepared, record, value.len - sizeof *record);
        prepared_message(prepared)->deduplicated = true;
        end(prepared, ERR_NONE);
    }
}

static void looked(struct op *op)
{
    struct prepared *prepared = CONTAINER_OF(op, struct prepared, op);

    if (op->err.code != ERR_OK)
        end(prepared, op->err);
    else if (prepared->get.found)
        look_at(prepared, prepared->get.value);
    else if (++prepared->attempts < MOST_ATTEMPTS)
        try_claim(prepared);
    else
        end(prepared, err_make(ERR_ABORTED, "the state store changes too fast"));
}

/* ---- after the sink ---- */

static void end_remembering(struct prepared *prepared, bool done)
{
    if (!done)
        counter_add(&prepared->preparing->producer->stats.forgotten, 1);
    prepare_step_done(prepared);
}

static void remembered(struct op *op)
{
    end_remembering(CONTAINER_OF(op, struct prepared, op), op->err.code == ERR_OK);
}

static void remembered_late(struct op *op)
{
    struct prepared *prepared = CONTAINER_OF(op, struct prepared, op);

    end_remembering(prepared, op->err.code == ERR_OK && prepared->put_if.stored);
}

/* The claim has lapsed: a record that is there may be another attempt's. */
static void remember_late(struct prepared *prepared)
{
    struct producer *producer = prepared->preparing->producer;

    if (prepared_message(prepared)->err.code != ERR_OK) {
        end_remembering(prepared, true); /* ours expires by itself */
        return;
    }
    prepared->put_if = (struct kv_put_if){.key = prepared->dedup_key,
                                          .value = write_record(prepared, STORED),
                                          .ttl_ms = producer->settings.dedup_window_ms,
                                          .condition = KV_IF_ABSENT};
    start(prepared, &producer->background, remembered_late);
    producer->state->has.kv_cas->put_if(producer->state, &prepared->put_if);
}

static void forget(struct prepared *prepared)
{
    struct producer *producer = prepared->preparing->producer;

    prepared->del = (struct kv_del){.key = prepared->dedup_key};
    start(prepared, &producer->background, remembered);
    producer->state->has.kv_basic->del(producer->state, &prepared->del);
}

static void looked_again(struct op *op)
{
    struct prepared *prepared = CONTAINER_OF(op, struct prepared, op);
    const struct record *record = (const void *)prepared->get.value.data;
    bool ours = op->err.code == ERR_OK && prepared->get.found &&
                prepared->get.value.len >= sizeof *record &&
                memcmp(record->owner, prepared->owner, OWNER_BYTES) == 0;

    if (ours)
        forget(prepared);
    else
        end_remembering(prepared, op->err.code == ERR_OK);
}

/* The answer to the claim was lost, and nothing was sent: a record of ours is removed. */
static void look_again(struct prepared *prepared)
{
    struct producer *producer = prepared->preparing->producer;

    prepared->get = (struct kv_get){.key = prepared->dedup_key};
    start(prepared, &producer->background, looked_again);
    producer->state->has.kv_basic->get(producer->state, &prepared->get);
}

void dedup_remember(struct prepared *prepared)
{
    struct producer *producer = prepared->preparing->producer;
    bool lapsed = prepared->preparing->group->home->now_ns >= prepared->lapses_ns;

    if (prepared->maybe_claimed && !lapsed) {
        look_again(prepared);
        return;
    }
    if (!prepared->claimed) {
        prepare_step_done(prepared);
        return;
    }
    if (lapsed) {
        remember_late(prepared);
        return;
    }
    if (prepared_message(prepared)->err.code == ERR_OK) {
        prepared->put = (struct kv_put){.key = prepared->dedup_key,
                                        .value = write_record(prepared, STORED),
                                        .ttl_ms = producer->settings.dedup_window_ms};
        start(prepared, &producer->background, remembered);
        producer->state->has.kv_basic->put(producer->state, &prepared->put);
        return;
    }
    forget(prepared);
}

void dedup_twins(struct preparing *preparing)
{
    for (size_t i = 0; i < preparing->n; i++) {
        const struct prepared *twin = &preparing->items[i];

        if (twin->twin_of == 0)
            continue;

        const struct outgoing *first = prepared_message(&preparing->items[twin->twin_of - 1]);
        struct outgoing *message = prepared_message(twin);

        message->err = first->err;
        message->deduplicated = first->err.code == ERR_OK;
        message->partition = first->partition;
        message->offset = first->offset;
        message->position = first->position;
    }
}
