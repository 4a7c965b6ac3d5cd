/* One batch of dead letters, without those that have strayed here:
 *
 *   append, as many at a time as a publish takes -> settle those that were appended -> over
 *
 * Appended first and settled afterwards: what fails in between is there twice, and never lost. */
#include "patterns/consumer/redrive.h"
#include "patterns/messaging/dead.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

enum { SETTLE_MS = 10000 }; /* also when the call is over */

static void fail(struct redrive *redrive, struct err err)
{
    if (redrive->failed++ == 0)
        redrive->why = (struct err){
            .code = err.code, .text = arena_strdup(call_arena(redrive->call), slice_str(err.text))};
}

static void settled(struct op *op)
{
    struct redrive *redrive = CONTAINER_OF(op, struct redrive, settle.op);
    struct settle *settle = &redrive->settle;

    for (size_t i = 0; i < settle->n; i++) {
        if (op->err.code == ERR_OK && settle->items[i].err.code == ERR_OK)
            redrive->redriven++;
        else
            fail(redrive, err_make(ERR_ABORTED, "published again, but not taken off the dead "
                                                "letters: it may be published twice"));
    }
    counter_add(&redrive->consumer->stats.redriven, settle->n);
    redrive_batch_over(redrive);
}

static bool was_appended(struct redrive *redrive, const struct outgoing *item)
{
    if (item->err.code != ERR_OK) {
        fail(redrive, item->err);
        return false;
    }
    if (item->deduplicated)
        fail(redrive, err_make(ERR_ALREADY_EXISTS, "the source took it for a duplicate"));
    return !item->deduplicated;
}

static void settle_appended(struct redrive *redrive)
{
    struct settle *settle = &redrive->settle;
    const struct worker *home = redrive->consumer->base.home;

    *settle = (struct settle){
        .subscription = &redrive->subscription,
        .items = arena_array(&redrive->memory, redrive->tried, sizeof *settle->items),
    };
    for (uint32_t i = 0; i < redrive->tried; i++) {
        if (was_appended(redrive, &redrive->items[i]))
            settle->items[settle->n++] =
                (struct settlement){.token = redrive->tokens[i], .how = SETTLE_DONE};
    }
    if (settle->n == 0) {
        redrive_batch_over(redrive);
        return;
    }
    redrive->work.deadline_ns = home->now_ns + SETTLE_MS * NS_PER_MS;
    op_start(&settle->op, &redrive->work, settled);
    if (redrive->subscription.state == SUB_RUNNING)
        redrive->from.settling->settle(redrive->consumer->dead, settle);
    else
        op_finish(&settle->op, err_make(ERR_ABORTED, "the subscription has ended"));
}

static void appended(struct op *op);

/* As many as one publish takes. */
static void append_some(struct redrive *redrive)
{
    const struct message_sink *sink = redrive->consumer->plan.sink;
    struct publish *publish = &redrive->publish;
    size_t bytes = 0;

    *publish = (struct publish){.items = redrive->items + redrive->tried};
    while (redrive->tried + publish->n < redrive->n_items && publish->n < sink->max_items) {
        bytes += message_out_bytes(&publish->items[publish->n]);
        if (publish->n > 0 && bytes > sink->max_frame_bytes)
            break;
        publish->n++;
    }
    call_start(redrive->call, &publish->op, appended);
    sink->publish(redrive->consumer->source, publish);
}

static void appended(struct op *op)
{
    struct redrive *redrive = CONTAINER_OF(op, struct redrive, publish.op);
    struct publish *publish = &redrive->publish;
    bool failed = op->err.code != ERR_OK;

    for (size_t i = 0; i < publish->n; i++) {
        if (op->err.code != ERR_OK)
            publish->items[i].err = op->err;
        failed = failed || publish->items[i].err.code != ERR_OK;
    }
    redrive->tried += (uint32_t)publish->n;
    if (redrive->tried < redrive->n_items && !failed && !redrive->stopping)
        append_some(redrive);
    else
        settle_appended(redrive);
}

static bool is(struct slice name, const char *what)
{
    return slice_equal(name, slice_str(what));
}

/* Its own headers; those that tell of its death, or of an earlier redriving, go. What it lacks is
 * said again, so that nobody takes it for the whole message. A letter of another topic or group has
 * strayed here and stays. */
static struct err read_letter(const struct redrive *redrive, const struct incoming *letter,
                              struct outgoing *item, struct header *headers)
{
    struct err strayed =
        err_make(ERR_FAILED_PRECONDITION, "a dead letter of another topic or group");
    struct slice dying = slice_str(DEAD_LETTER_HEADER);

    for (size_t i = 0; i < letter->n_headers; i++) {
        struct header header = letter->headers[i];

        if (is(header.name, DEAD_LETTER_HEADER "topic") &&
            !slice_equal(header.value, redrive->topic))
            return strayed;
        if (is(header.name, DEAD_LETTER_HEADER "group") &&
            !slice_equal(header.value, redrive->group))
            return strayed;
        if (is(header.name, DEAD_LETTER_ID))
            item->id = header.value;
        if (is(header.name, DEAD_LETTER_OMITTED) ||
            (!slice_starts_with(header.name, dying) && !is(header.name, REDRIVEN_ID)))
            headers[item->n_headers++] = header;
    }
    return ERR_NONE;
}

static struct err make_item(struct redrive *redrive, const struct incoming *letter,
                            struct outgoing *item)
{
    struct err err;
    struct header *headers = arena_array(&redrive->memory, letter->n_headers + 1, sizeof *headers);

    *item = (struct outgoing){
        .topic = redrive->topic,
        .key = letter->key,
        .payload = letter->payload,
        .shared = letter->block,
        .headers = headers,
        .partition = -1,
        .offset = -1,
    };
    err = read_letter(redrive, letter, item, headers);
    if (err.code != ERR_OK)
        return err;
    /* Past deduplication: a sink that remembers the identifier would write nothing. */
    if (redrive->consumer->plan.sink->dedups && item->id.len > 0) {
        headers[item->n_headers++] =
            (struct header){.name = slice_str(REDRIVEN_ID), .value = item->id};
        item->id = message_null();
    }
    return ERR_NONE;
}

/* Behind one that stays, nothing can be settled where the source keeps one position. */
static void make_items(struct redrive *redrive)
{
    const struct incoming_batch *batch = redrive->first;

    redrive->n_items = 0;
    redrive->items = arena_array(&redrive->memory, batch->n, sizeof *redrive->items);
    redrive->tokens = arena_array(&redrive->memory, batch->n, sizeof *redrive->tokens);
    for (uint32_t i = 0; i < batch->n; i++) {
        struct err err = make_item(redrive, &batch->items[i], &redrive->items[redrive->n_items]);

        if (err.code == ERR_OK)
            redrive->tokens[redrive->n_items++] = batch->items[i].token;
        else
            fail(redrive, err);
        if (err.code != ERR_OK && !redrive->from.settling->single)
            return;
    }
}

void redrive_batch(struct redrive *redrive)
{
    redrive->busy = true;
    redrive->tried = 0;
    arena_init(&redrive->memory, &redrive->consumer->base.home->arenas);
    make_items(redrive);
    if (redrive->n_items > 0)
        append_some(redrive);
    else
        redrive_batch_over(redrive);
}
