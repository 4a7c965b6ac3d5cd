/* What groups are told: settlements, leases, places; and the queue's dead letters. */
#include "tests/fake/fake_log.h"

#include "src/base/container.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- claims ---- */

static bool keeps_one_position(const struct fake_subscription *s)
{
    return !(s->kind == FAKE_KIND_QUEUE ? s->world->messages.queue.settling.single
                                        : s->world->messages.stream.settling.single);
}

/* One position: what was settled behind a hole comes again. */
static void fall_back(struct fake_subscription *s)
{
    bool hole = false;

    for (int64_t i = s->group->from; i < (int64_t)s->log->n; i++) {
        struct fake_claim *claim = fake_claim(s->group, i);

        hole = hole || claim->state != FAKE_DONE;
        if (hole && claim->state == FAKE_DONE)
            claim->state = FAKE_NEW;
    }
}

bool fake_holds_of(const struct fake_subscription *s, int32_t partition)
{
    for (int64_t i = 0; i < (int64_t)s->log->n; i++) {
        const struct fake_claim *claim = fake_claim(s->group, i);

        if (claim->state == FAKE_OUT && claim->holder == s &&
            s->log->kept[i].partition == partition)
            return true;
    }
    return false;
}

static void give_back(struct fake_subscription *s, bool all, int32_t partition)
{
    if (s->kind == FAKE_KIND_TOPIC)
        return;
    for (int64_t i = 0; i < (int64_t)s->log->n; i++) {
        struct fake_claim *claim = fake_claim(s->group, i);

        if (claim->state != FAKE_OUT || claim->holder != s ||
            (!all && s->log->kept[i].partition != partition))
            continue;
        claim->state = FAKE_NEW;
        claim->holder = NULL;
        claim->attempt--;
    }
    if (keeps_one_position(s))
        fall_back(s);
}

void fake_give_back(struct fake_subscription *s)
{
    give_back(s, true, -1);
}

void fake_give_back_of(struct fake_subscription *s, int32_t partition)
{
    give_back(s, false, partition);
}

void fake_expire(struct fake_subscription *s)
{
    for (int64_t i = s->group->from; i < (int64_t)s->log->n; i++) {
        struct fake_claim *claim = fake_claim(s->group, i);

        if (claim->until_ms == 0 || claim->until_ms > s->world->now_ms)
            continue;
        if (claim->state == FAKE_OUT) {
            struct fake_subscription *holder = claim->holder;

            if (holder->n_lost < ARRAY_LEN(holder->lost))
                holder->lost[holder->n_lost++] = fake_token(s->group, i, claim);
            claim->holder = NULL;
            fake_messages_look(s->world);
        } else if (claim->state != FAKE_WAITS) {
            continue;
        }
        claim->state = FAKE_NEW;
        claim->until_ms = 0;
    }
}

struct fake_claim *fake_claim_held(struct fake_subscription *s, uint64_t token, int64_t *offset)
{
    struct fake_claim *claim;

    *offset = (int64_t)(token >> 20 & 0xfffffff) - 1;
    if (token >> 48 != s->group->epoch) {
        *offset = -1;
        return NULL;
    }
    if (*offset < 0 || *offset >= (int64_t)s->log->n)
        return NULL;
    claim = fake_claim(s->group, *offset);
    if (claim->state != FAKE_OUT || claim->holder != s ||
        (claim->generation & 0xfffff) != (token & 0xfffff))
        return NULL;
    return claim;
}

/* ---- settle ---- */

static void bury(struct fake_subscription *s, int64_t offset, struct slice reason)
{
    struct fake_kept *kept = &s->log->kept[offset];

    kept->dead = true;
    kept->died_ms = s->world->now_ms;
    kept->reason = calloc(1, reason.len + 1);
    if (kept->reason == NULL)
        abort();
    memcpy(kept->reason, reason.data, reason.len);
}

static struct err settle_claim(struct fake_subscription *s, struct fake_claim *claim,
                               int64_t offset, const struct settlement *item)
{
    bool delays = s->kind == FAKE_KIND_QUEUE ? s->world->messages.queue.settling.delays
                                             : s->world->messages.stream.settling.delays;

    claim->holder = NULL;
    claim->until_ms = 0;
    switch (item->how) {
    case SETTLE_DEAD:
        bury(s, offset, item->reason);
        claim->state = FAKE_DONE;
        break;
    case SETTLE_DONE:
        claim->state = FAKE_DONE;
        break;
    case SETTLE_RETRY:
        claim->state = item->delay_ms > 0 && delays ? FAKE_WAITS : FAKE_NEW;
        claim->until_ms = s->world->now_ms + item->delay_ms;
        return ERR_NONE;
    case SETTLE_RELEASE:
        s->world->messages.not_recalled += claim->ticket == item->token;
        claim->state = FAKE_NEW;
        claim->attempt--;
        return ERR_NONE;
    }
    s->world->messages.settled++;
    s->log->kept[offset].gone = s->kind == FAKE_KIND_QUEUE;
    return ERR_NONE;
}

static struct err settle_item(struct fake_subscription *s, const struct settlement *item)
{
    int64_t offset;
    struct fake_claim *claim = fake_claim_held(s, item->token, &offset);
    bool again = item->how == SETTLE_RETRY || item->how == SETTLE_RELEASE;

    if (item->how == SETTLE_DEAD && s->kind != FAKE_KIND_QUEUE)
        return err_make(ERR_UNIMPLEMENTED, "the fake's streams keep no dead letters");
    if (again && keeps_one_position(s))
        return err_make(ERR_UNIMPLEMENTED, "the fake keeps one position");
    if (claim == NULL && offset < 0)
        return ERR_NONE;
    if (claim == NULL)
        return err_make(ERR_ABORTED, "the delivery is no longer this subscription's");
    return settle_claim(s, claim, offset, item);
}

static struct err apply_settle(struct fake_world *world, struct op *op)
{
    struct settle *settle = CONTAINER_OF(op, struct settle, op);

    struct fake_subscription *s = settle->subscription->backend_data;

    for (size_t i = 0; i < settle->n; i++)
        settle->items[i].err =
            s != NULL ? settle_item(s, &settle->items[i])
                      : err_make(ERR_ABORTED, "the subscription has been closed meanwhile");
    fake_messages_look(world);
    return ERR_NONE;
}

void fake_settle(struct backend *backend, struct settle *settle)
{
    fake_arrive(fake_world_of(backend), &settle->op, apply_settle);
}

static struct err apply_extend(struct fake_world *world, struct op *op)
{
    struct extend *extend = CONTAINER_OF(op, struct extend, op);

    for (size_t i = 0; i < extend->n; i++) {
        int64_t offset;
        struct fake_claim *claim =
            fake_claim_held(extend->subscription->backend_data, extend->items[i].token, &offset);

        extend->items[i].err =
            claim != NULL ? ERR_NONE
                          : err_make(ERR_ABORTED, "the delivery is no longer this subscription's");
        if (claim != NULL)
            claim->until_ms = world->now_ms + extend->lease_ms;
    }
    return ERR_NONE;
}

void fake_extend(struct backend *backend, struct extend *extend)
{
    fake_arrive(fake_world_of(backend), &extend->op, apply_extend);
}

/* ---- places ---- */

static struct err apply_position(struct fake_world *world, struct op *op)
{
    struct stream_position *request = CONTAINER_OF(op, struct stream_position, op);
    struct fake_log *log = fake_log_find(world, FAKE_KIND_STREAM, request->topic, false);
    struct fake_group *group = log == NULL ? NULL : fake_group_find(log, request->group, false);
    struct stream_partition *p = arena_array(op_arena(op), 2, sizeof *p);

    if (log == NULL)
        return err_about(ERR_NOT_FOUND, "topic", "there is no such topic");
    request->partitions = p;
    request->n = world->messages.faults.uncommitted ? 2 : 1;
    request->found = group != NULL;
    request->unsettled = request->parked = 0;
    *p = (struct stream_partition){.partition = -1,
                                   .first = log->first,
                                   .end = (int64_t)log->n,
                                   .committed = -1,
                                   .lag = group != NULL ? 0 : -1};
    p[1] = (struct stream_partition){.partition = 1, .committed = -1, .lag = -1};
    for (int64_t i = (int64_t)log->n; group != NULL && i-- > group->from;) {
        const struct fake_claim *claim = fake_claim(group, i);

        request->unsettled += claim->state == FAKE_OUT;
        request->parked += claim->state == FAKE_WAITS;
        p->lag += claim->state != FAKE_DONE;
        if (claim->state != FAKE_DONE)
            p->committed = i;
    }
    if (group != NULL && p->committed < 0)
        p->committed = (int64_t)log->n;
    if (group != NULL && world->messages.faults.lone) {
        request->next = (uint64_t)(p->lag - request->unsettled - request->parked);
        request->unsettled = request->parked = -1;
    }
    return ERR_NONE;
}

void fake_position(struct backend *backend, struct stream_position *request)
{
    fake_arrive(fake_world_of(backend), &request->op, apply_position);
}

static struct err target(const struct fake_log *log, const struct stream_seek *request,
                         int64_t *offset)
{
    *offset = log->first;
    if (request->start == START_POSITION)
        return err_about(ERR_INVALID_ARGUMENT, "position", "the fake has no such positions");
    if (request->start == START_LATEST)
        *offset = (int64_t)log->n;
    if (request->start == START_OFFSET)
        *offset = request->at;
    while (request->start == START_TIME && *offset < (int64_t)log->n &&
           (int64_t)log->kept[*offset].timestamp_ms < request->at)
        ++*offset;
    if (*offset < log->first || *offset > (int64_t)log->n)
        return err_about(ERR_OUT_OF_RANGE, "offset", "there is no such offset");
    return ERR_NONE;
}

static struct err apply_seek(struct fake_world *world, struct op *op)
{
    struct stream_seek *request = CONTAINER_OF(op, struct stream_seek, op);
    struct fake_log *log = fake_log_find(world, FAKE_KIND_STREAM, request->topic, false);
    struct fake_group *group;
    int64_t offset;

    if (log == NULL)
        return err_about(ERR_NOT_FOUND, "topic", "there is no such topic");

    struct err err = target(log, request, &offset);

    if (err.code != ERR_OK)
        return err;
    group = fake_group_find(log, request->group, true);
    if (group->n > 0)
        memset(group->claims, 0, group->n * sizeof *group->claims);
    group->from = offset;
    group->epoch++;
    for (struct fake_subscription *s = world->messages.open; s != NULL; s = s->next)
        s->seeked = s->seeked || s->group == group;
    fake_messages_look(world);
    return ERR_NONE;
}

void fake_seek(struct backend *backend, struct stream_seek *request)
{
    fake_arrive(fake_world_of(backend), &request->op, apply_seek);
}
