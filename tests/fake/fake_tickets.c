/* Tickets of the fake: a delivery's token, and nothing else. */
#include "tests/fake/fake_log.h"

#include "src/base/container.h"

enum { BYTES = 8 };

static struct err over(void)
{
    return err_make(ERR_ABORTED, "the delivery is over");
}

static size_t make(struct backend *backend, const struct subscription *subscription, uint64_t token,
                   uint8_t *to)
{
    int64_t offset;
    struct fake_claim *claim = fake_claim_held(subscription->backend_data, token, &offset);

    (void)backend;
    if (claim == NULL)
        return 0;
    claim->ticket = token;
    for (unsigned i = 0; i < BYTES; i++)
        to[i] = (uint8_t)(token >> (8 * i));
    return BYTES;
}

/* ---- settle ---- */

static void settle_held(struct fake_world *world, struct fake_claim *claim, uint64_t token)
{
    struct fake_subscription *holder = claim->holder;

    claim->state = FAKE_DONE;
    claim->holder = NULL;
    claim->until_ms = 0;
    world->messages.settled++;
    if (!world->messages.faults.silent && holder->n_settled < ARRAY_LEN(holder->settled))
        holder->settled[holder->n_settled++] = token;
}

static struct err settle_one(struct fake_world *world, struct fake_log *log,
                             struct fake_group *group, struct slice bytes)
{
    struct fake_claim *claim;
    uint64_t token = 0;
    int64_t offset;

    if (bytes.len != BYTES)
        return err_make(ERR_INVALID_ARGUMENT, "no ticket of the fake");
    for (unsigned i = 0; i < BYTES; i++)
        token |= (uint64_t)bytes.data[i] << (8 * i);
    offset = (int64_t)(token >> 20 & 0xfffffff) - 1;
    if (group == NULL || offset < 0 || offset >= (int64_t)log->n)
        return over();
    claim = fake_claim(group, offset);
    if (claim->state != FAKE_OUT || fake_token(group, offset, claim) != token)
        return over();
    settle_held(world, claim, token);
    log->kept[offset].gone = log->kind == FAKE_KIND_QUEUE;
    return ERR_NONE;
}

static struct err apply(struct fake_world *world, struct op *op, enum fake_kind kind)
{
    struct settle_tickets *settle = CONTAINER_OF(op, struct settle_tickets, op);
    struct fake_log *log = fake_log_find(world, kind, settle->topic, false);
    struct slice name = kind == FAKE_KIND_QUEUE ? message_empty() : settle->group;
    struct fake_group *group = log != NULL ? fake_group_find(log, name, false) : NULL;

    for (size_t i = 0; i < settle->n; i++)
        settle->items[i].err = settle_one(world, log, group, settle->items[i].bytes);
    fake_messages_look(world);
    return ERR_NONE;
}

static struct err apply_stream(struct fake_world *world, struct op *op)
{
    return apply(world, op, FAKE_KIND_STREAM);
}

static struct err apply_queue(struct fake_world *world, struct op *op)
{
    return apply(world, op, FAKE_KIND_QUEUE);
}

static void settle_stream(struct backend *backend, struct settle_tickets *settle)
{
    fake_arrive(fake_world_of(backend), &settle->op, apply_stream);
}

static void settle_queue(struct backend *backend, struct settle_tickets *settle)
{
    fake_arrive(fake_world_of(backend), &settle->op, apply_queue);
}

/* ---- recall: the delivery gets another token ---- */

static struct err apply_recall(struct fake_world *world, struct op *op)
{
    struct recall *recall = CONTAINER_OF(op, struct recall, op);
    struct fake_subscription *s = recall->subscription->backend_data;

    (void)world;
    for (size_t i = 0; i < recall->n; i++) {
        struct recalled *item = &recall->items[i];
        int64_t offset;
        struct fake_claim *claim = s != NULL ? fake_claim_held(s, item->token, &offset) : NULL;

        item->err = claim != NULL ? ERR_NONE : over();
        if (claim == NULL)
            continue;
        claim->generation++;
        item->token = fake_token(s->group, offset, claim);
    }
    return ERR_NONE;
}

static void recall(struct backend *backend, struct recall *recall)
{
    fake_arrive(fake_world_of(backend), &recall->op, apply_recall);
}

const struct message_tickets fake_stream_tickets = {
    .make = make, .settle = settle_stream, .recall = recall};
const struct message_tickets fake_queue_tickets = {
    .make = make, .settle = settle_queue, .recall = recall};
