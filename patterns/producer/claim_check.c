/* Large payloads: the object is written before the message, and removed when no message refers to
 * it: the sink refused it, or took it for a duplicate. What became of a message is not known: the
 * object stays. */
#include "patterns/producer/prepare.h"

#include "src/base/container.h"

/* A payload that is being compressed. */
struct compressing {
    struct prepared *prepared;
    struct err why; /* it ended before */
    struct claim_gzip gzip;
};

/* ---- before the sink ---- */

/* The reference goes in front of the message's own headers. */
static void refer(struct prepared *prepared)
{
    struct outgoing *message = prepared_message(prepared);
    struct arena *arena = prepared->preparing->frame->arena;
    struct header *headers = arena_alloc(arena, (message->n_headers + 1) * sizeof *headers);

    headers[0] = (struct header){.name = slice_str(CLAIM_HEADER),
                                 .value = claim_write(arena, &prepared->claim)};
    if (message->n_headers > 0)
        memcpy(headers + 1, message->headers, message->n_headers * sizeof *headers);
    message->headers = headers;
    message->n_headers++;
    message->payload = message_empty();
}

/* What the client is the reason of says nothing of the store. */
static void note_trouble(struct producer *producer, struct err err)
{
    if (err.code != ERR_CANCELLED && err.code != ERR_DEADLINE_EXCEEDED &&
        err.code != ERR_INVALID_ARGUMENT)
        trouble_met(&producer->put_trouble, trouble_of_objects(err));
}

static void written(struct op *op)
{
    struct prepared *prepared = CONTAINER_OF(op, struct prepared, op);
    struct producer *producer = prepared->preparing->producer;

    /* What may have been written counts as written: it is removed, or orphaned. */
    counter_add(&producer->stats.objects_written,
                op->err.code == ERR_OK || op->err.effect != EFFECT_NONE);
    if (op->err.code == ERR_OK) {
        trouble_over(&producer->put_trouble);
        refer(prepared);
    } else {
        struct err err = op->err;

        prepared->checked = err.effect != EFFECT_NONE; /* it may be there, and is to be removed */
        note_trouble(producer, err);
        err.effect = EFFECT_NONE; /* of the message */
        frame_settle(prepared->preparing->frame, prepared->item, err);
    }
    prepare_step_done(prepared);
}

/* stored: what gzip has made of the payload; empty: it is stored as it is. */
static void write_object(struct prepared *prepared, struct slice stored)
{
    struct producer *producer = prepared->preparing->producer;
    const struct outgoing *message = prepared_message(prepared);

    prepared->claim = claim_new(prepared->preparing->frame->arena, message->payload,
                                producer->settings.claim_ttl_ms);
    prepared->claim.stored = stored.len;
    prepared->put = (struct kv_put){.key = prepared->claim.key,
                                    .value = stored.len > 0 ? stored : message->payload,
                                    .ttl_ms = producer->settings.claim_ttl_ms};
    op_start(&prepared->op, prepared->preparing->group, written);
    prepared->op.arena = prepared->preparing->frame->arena;
    producer->plan.object->put(producer->object, &prepared->put);
}

/* Nothing was written: what ended it leaves no object behind. */
static void compressed(struct op *op)
{
    struct prepared *prepared = CONTAINER_OF(op, struct prepared, op);

    if (op->err.code == ERR_OK) {
        write_object(prepared, slice_of(prepared->gzip->to, prepared->gzip->made));
        return;
    }
    prepared->checked = false;
    frame_settle(prepared->preparing->frame, prepared->item, op->err);
    prepare_step_done(prepared);
}

/* Not good and not stopped: it is not worth it. */
static void deflated(struct claim_gzip *gzip, bool good)
{
    struct compressing *compressing = CONTAINER_OF(gzip, struct compressing, gzip);

    if (!good)
        gzip->made = 0;
    op_finish(&compressing->prepared->op, compressing->why);
}

static void let_go(struct op *op, struct err why)
{
    struct prepared *prepared = CONTAINER_OF(op, struct prepared, op);
    struct compressing *compressing = CONTAINER_OF(prepared->gzip, struct compressing, gzip);

    compressing->why = err_make(why.code, "the call ended while its payload was compressed");
    claim_gzip_stop(prepared->gzip);
}

static void compress(struct prepared *prepared)
{
    struct producer *producer = prepared->preparing->producer;
    struct arena *arena = prepared->preparing->frame->arena;
    struct slice payload = prepared_message(prepared)->payload;
    struct compressing *compressing = arena_zalloc(arena, sizeof *compressing);

    compressing->prepared = prepared;
    compressing->gzip.home = producer->base.home;
    compressing->gzip.permits = &producer->compressing;
    compressing->gzip.arena = arena;
    compressing->gzip.from = payload;
    compressing->gzip.room = claim_gzip_room(payload.len);
    compressing->gzip.to = arena_alloc(arena, compressing->gzip.room);
    compressing->gzip.done = deflated;
    prepared->gzip = &compressing->gzip;
    op_start(&prepared->op, prepared->preparing->group, compressed);
    claim_deflate(&compressing->gzip);
    op_park(&prepared->op, let_go);
}

void claim_check_write(struct prepared *prepared)
{
    prepared->checked = prepared->checked && !prepared_is_settled(prepared);
    if (!prepared->checked)
        prepare_step_done(prepared);
    else if (prepared->preparing->producer->settings.claim_gzip)
        compress(prepared);
    else
        write_object(prepared, slice_of(NULL, 0));
}

/* ---- after the sink ---- */

/* Nobody else knows its name: it is told, so that it can be removed by hand. */
static void orphaned(struct prepared *prepared, struct err err)
{
    struct producer *producer = prepared->preparing->producer;
    struct slice key = prepared->claim.key;

    counter_add(&producer->stats.orphans, 1);
    trouble_met(&producer->del_trouble, "objects that no message needs cannot be removed");
    log_limited(&producer->orphan_log, LOG_WARN, "object_orphaned",
                (const struct log_field[]){
                    LOG_S("namespace", producer->base.namespace_name),
                    LOG_S("key", arena_strdup(prepared->preparing->frame->arena, key)),
                    LOG_S("error", err.text)},
                3);
}

static void count_removed(struct producer *producer)
{
    counter_add(&producer->stats.objects_removed, 1);
    trouble_over(&producer->del_trouble);
}

static void removed(struct op *op)
{
    struct prepared *prepared = CONTAINER_OF(op, struct prepared, op);

    if (op->err.code != ERR_OK)
        orphaned(prepared, op->err);
    else
        count_removed(prepared->preparing->producer);
    prepare_step_done(prepared);
}

void claim_check_tidy(struct prepared *prepared)
{
    struct producer *producer = prepared->preparing->producer;
    const struct outgoing *message = prepared_message(prepared);
    bool referred =
        message->err.code == ERR_OK ? !message->deduplicated : message->err.effect != EFFECT_NONE;

    if (!prepared->checked || referred) {
        if (prepared->checked)
            counter_add(message->err.code == ERR_OK ? &producer->stats.objects_referred
                                                    : &producer->stats.objects_unknown,
                        1);
        prepare_step_done(prepared);
        return;
    }
    prepared->del = (struct kv_del){.key = prepared->claim.key};
    op_start(&prepared->op, &producer->background, removed);
    prepared->op.arena = prepared->preparing->frame->arena;
    producer->plan.object->del(producer->object, &prepared->del);
}
