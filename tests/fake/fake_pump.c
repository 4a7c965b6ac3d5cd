/* Subscriptions: one job looks at all of them and hands over what it may. */
#include "tests/fake/fake_batch.h"

#include "pool/worker.h"
#include "src/base/container.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- batches ---- */

/* Neighbours of different keys change places. */
static void disorder(struct fake_world *world, struct fake_batch *batch)
{
    for (uint32_t i = 1; i < batch->base.n; i++) {
        struct incoming *a = &batch->items[i - 1], *b = &batch->items[i];

        world->messages.random = world->messages.random * 1103515245u + 12345u;
        if ((world->messages.random >> 16) % 2 == 0 || slice_equal(a->key, b->key))
            continue;

        struct incoming swap = *a;

        *a = *b;
        *b = swap;
    }
}

static void hand_over(struct fake_subscription *s, struct fake_batch *batch)
{
    struct fake_world *world = s->world;

    if (batch->base.n == 0) {
        arena_clear(&batch->arena);
        free(batch);
        return;
    }
    if (world->messages.faults.reorder)
        disorder(world, batch);
    world->messages.batches++;
    world->messages.batches_out++;
    subscription_deliver(s->subscription, &batch->base);
}

/* ---- what may be handed over ---- */

/* With order, an earlier message of the key must not be waiting, nor be with another. */
static bool key_waits(const struct fake_subscription *s, int64_t offset)
{
    const struct fake_kept *kept = &s->log->kept[offset];

    if (!s->subscription->want.ordered)
        return false;
    for (int64_t i = s->group->from; i < offset; i++) {
        const struct fake_claim *claim = fake_claim(s->group, i);

        if (i < s->log->first || s->log->kept[i].gone || !fake_key_equal(&s->log->kept[i], kept))
            continue;
        if (claim->state == FAKE_NEW || claim->state == FAKE_WAITS ||
            (claim->state == FAKE_OUT && claim->holder != s))
            return true;
    }
    return false;
}

static bool may_take(const struct fake_subscription *s, int64_t offset)
{
    const struct fake_kept *kept = &s->log->kept[offset];
    const struct fake_claim *claim = fake_claim(s->group, offset);

    return claim->state == FAKE_NEW && !kept->gone && kept->due_ms <= s->world->now_ms &&
           !key_waits(s, offset) && (!s->leaves || kept->partition != s->leaving);
}

static void take(struct fake_subscription *s, struct fake_batch *batch, int64_t offset)
{
    struct fake_claim *claim = fake_claim(s->group, offset);
    uint64_t lease_ms = s->subscription->want.lease_ms;
    struct incoming *item = &batch->items[batch->base.n];

    claim->state = FAKE_OUT;
    claim->holder = s;
    claim->again = true;
    claim->attempt++;
    claim->generation++;
    claim->until_ms = lease_ms > 0 ? s->world->now_ms + lease_ms : 0;
    fake_batch_add(batch, &s->log->kept[offset], offset);
    item->attempt = claim->attempt;
    item->token = fake_token(s->group, offset, claim);
    s->world->messages.handed_over++;
}

/* The same delivery once more, as a server does that has not seen the first. */
static void twice(struct fake_subscription *s, struct fake_batch *batch)
{
    struct fake_messages *messages = &s->world->messages;

    if (messages->faults.duplicate_at == 0 ||
        messages->handed_over != messages->faults.duplicate_at ||
        !subscription_may_take(s->subscription) || batch->base.n == BATCH_MESSAGES)
        return;
    batch->items[batch->base.n] = batch->items[batch->base.n - 1];
    batch->base.n++;
    subscription_take(s->subscription, 1, 0);
}

static void fill(struct fake_subscription *s, struct fake_batch *batch)
{
    int64_t from = s->group->from > s->log->first ? s->group->from : s->log->first;

    for (int64_t i = from; i < (int64_t)s->log->n; i++) {
        if (!subscription_may_take(s->subscription) || batch->base.n >= BATCH_MESSAGES ||
            batch->base.bytes >= BATCH_BYTES)
            return;
        if (!may_take(s, i))
            continue;
        take(s, batch, i);
        subscription_take(s->subscription, 1, fake_bytes_of(&s->log->kept[i].m));
        twice(s, batch);
    }
}

static void fill_from_topic(struct fake_subscription *s, struct fake_batch *batch)
{
    while (s->cursor < (int64_t)s->log->n && subscription_may_take(s->subscription) &&
           batch->base.n < BATCH_MESSAGES && batch->base.bytes < BATCH_BYTES) {
        const struct fake_kept *kept = &s->log->kept[s->cursor];

        fake_batch_add(batch, kept, -1);
        subscription_take(s->subscription, 1, fake_bytes_of(&kept->m));
        s->cursor++;
    }
}

/* ---- gaps ---- */

/* What was never handed over and is no longer there; what is beyond the buffer of a topic. */
static uint64_t missed(struct fake_subscription *s, int64_t *goes_on_at)
{
    uint64_t n = 0;
    size_t bytes = 0;

    if (s->kind == FAKE_KIND_TOPIC) {
        int64_t at = (int64_t)s->log->n;

        while (at > s->cursor &&
               bytes + fake_bytes_of(&s->log->kept[at - 1].m) <= FAKE_TOPIC_BUFFER)
            bytes += fake_bytes_of(&s->log->kept[--at].m);
        n = (uint64_t)(at - s->cursor);
        s->cursor = at;
        return n;
    }
    for (int64_t i = s->group->from; i < s->log->first; i++)
        n += !fake_claim(s->group, i)->again && fake_claim(s->group, i)->state == FAKE_NEW;
    if (n > 0)
        s->group->from = s->log->first;
    *goes_on_at = s->log->first;
    return n;
}

static void tell_gap(struct fake_subscription *s)
{
    int64_t goes_on_at = -1, from = s->group != NULL ? s->group->from : -1;
    uint64_t n = missed(s, &goes_on_at);
    enum gap_policy policy = s->subscription->want.on_gap;
    struct subscription_gap gap = {.partition = -1, .count = n, .text = "the fake lost messages"};

    if (n == 0)
        return;
    if (s->kind == FAKE_KIND_STREAM && policy == GAP_FAIL) {
        fake_give_back(s);
        s->ending = true;
        s->err = err_make(ERR_DATA_LOSS, "the fake lost messages");
        return;
    }
    if (s->kind == FAKE_KIND_STREAM) {
        while (from < goes_on_at && fake_claim(s->group, from)->state == FAKE_DONE)
            from++;
        if (policy == GAP_LATEST)
            goes_on_at = s->group->from = (int64_t)s->log->n;
        gap.count = (uint64_t)(goes_on_at - from);
    }
    gap.missing_from = s->kind == FAKE_KIND_STREAM ? from : -1;
    gap.goes_on_at = goes_on_at;
    subscription_gap(s->subscription, &gap);
}

/* ---- one subscription's turn ---- */

static void unlink_subscription(struct fake_subscription *s)
{
    struct fake_subscription **at = &s->world->messages.open;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
}

/* Lends its text for the event, as the contract says, and no longer. */
static void tell_closed(struct subscription *subscription, struct err err)
{
    static char text[ERR_KEPT_BYTES]; /* outlives the event, so that whoever keeps it is seen */

    subscription_closed(subscription, err_keep(err, text));
    memset(text, '?', sizeof text - 1);
    text[sizeof text - 1] = '\0';
}

static void end(struct fake_subscription *s)
{
    struct subscription *subscription = s->subscription;

    unlink_subscription(s);
    s->world->messages.subscriptions--;
    if (subscription->state != SUB_CLOSING)
        subscription_closing(subscription);
    tell_closed(subscription, s->err);
    free(s);
}

static void tell_moves(struct fake_subscription *s)
{
    const struct subscription_move seeked = {.kind = MOVE_LOST, .reason = MOVED_BY_SEEK};
    const struct subscription_move revoked = {.kind = MOVE_LOST, .reason = MOVED_BY_GROUP};
    struct subscription_move lost = {
        .kind = MOVE_LOST, .reason = MOVED_BY_LEASE, .tokens = s->lost, .n_tokens = s->n_lost};
    const struct subscription_move settled = {.kind = MOVE_LOST,
                                              .reason = MOVED_BY_SETTLING,
                                              .tokens = s->settled,
                                              .n_tokens = s->n_settled};

    if (s->seeked)
        subscription_moved(s->subscription, &seeked);
    if (s->revoked)
        subscription_moved(s->subscription, &revoked);
    if (s->n_settled > 0)
        subscription_moved(s->subscription, &settled);
    if (s->n_lost > 0)
        subscription_moved(s->subscription, &lost);
    s->seeked = s->revoked = false;
    s->n_lost = s->n_settled = 0;
}

static void tell_leaving(struct fake_subscription *s)
{
    struct subscription_move move = {
        .kind = MOVE_LEAVING,
        .reason = MOVED_BY_GROUP,
        .until_ns = s->leaving_ms * 1000000,
        .partitions = &s->leaving,
        .n_partitions = 1,
    };
    bool over = s->world->now_ms >= s->leaving_ms || !fake_holds_of(s, s->leaving);

    if (!s->leaves || s->leaving_ms == 0)
        return;
    if (!s->told_leaving && !over)
        subscription_moved(s->subscription, &move);
    s->told_leaving = true;
    if (!over)
        return;
    fake_give_back_of(s, s->leaving);
    move.kind = MOVE_LOST;
    s->leaving_ms = 0;
    subscription_moved(s->subscription, &move);
}

static void look_at(struct fake_subscription *s)
{
    struct fake_batch *batch;

    if (s->ending && s->world->messages.faults.holds_closes)
        return;
    if (s->ending) {
        end(s);
        return;
    }
    if (s->world->messages.faults.stalled && s->world->messages.faults.delayed_by != NULL)
        subscription_delayed(s->subscription, s->world->messages.faults.delayed_by);
    if (s->world->messages.faults.stalled || s->subscription->state == SUB_CLOSING)
        return;
    if (!s->opened) {
        s->opened = true;
        subscription_opened(s->subscription);
    }
    if (s->group != NULL)
        fake_expire(s);
    tell_moves(s);
    tell_leaving(s);
    if (s->kind != FAKE_KIND_QUEUE &&
        (s->kind == FAKE_KIND_STREAM || subscription_may_take(s->subscription)))
        tell_gap(s);
    if (s->ending || s->subscription->state != SUB_RUNNING) {
        fake_messages_look(s->world);
        return;
    }
    if (s->kind == FAKE_KIND_TOPIC && fake_share(s))
        return;
    batch = fake_batch_new(s->world);
    if (s->kind == FAKE_KIND_TOPIC)
        fill_from_topic(s, batch);
    else
        fill(s, batch);
    if (batch->base.n > 0)
        fake_messages_look(s->world); /* perhaps there is more */
    hand_over(s, batch);
}

static void pump(struct job *job)
{
    struct fake_messages *messages = CONTAINER_OF(job, struct fake_messages, pump);
    struct fake_subscription *next;

    messages->pumping = false;
    for (struct fake_subscription *s = messages->open; s != NULL; s = next) {
        next = s->next;
        look_at(s);
    }
}

void fake_messages_look(struct fake_world *world)
{
    struct fake_messages *messages = &world->messages;

    if (messages->pumping || messages->open == NULL)
        return;
    messages->pumping = true;
    messages->pump.run = pump;
    worker_land(world->base.home, &messages->pump);
}

/* ---- methods ---- */

static int64_t start_of(const struct fake_subscription *s, enum stream_start start, int64_t at)
{
    int64_t i = s->log->first;

    switch (start) {
    case START_LATEST:
        return (int64_t)s->log->n;
    case START_OFFSET:
        return at;
    case START_TIME:
        while (i < (int64_t)s->log->n && (int64_t)s->log->kept[i].timestamp_ms < at)
            i++;
        return i;
    case START_COMMITTED:
    case START_EARLIEST:
    case START_POSITION:
        break;
    }
    return i;
}

static void join(struct fake_subscription *s)
{
    const struct subscription_want *want = &s->subscription->want;
    struct slice name = s->kind == FAKE_KIND_QUEUE ? message_empty() : want->group;
    bool is_new = fake_group_find(s->log, name, false) == NULL;

    s->group = fake_group_find(s->log, name, true);
    if (s->kind == FAKE_KIND_STREAM && is_new)
        s->group->from =
            start_of(s, want->start == START_COMMITTED ? want->if_none : want->start, want->at);
}

static void open_any(struct backend *backend, struct subscription *subscription,
                     enum fake_kind kind)
{
    struct fake_world *world = fake_world_of(backend);
    struct fake_subscription *s = calloc(1, sizeof *s);

    if (s == NULL)
        abort();
    s->world = world;
    s->subscription = subscription;
    s->kind = kind;
    s->log = fake_log_find(world, kind, subscription->want.topic, true);
    s->cursor = (int64_t)s->log->n;
    s->next = world->messages.open;
    world->messages.open = s;
    world->messages.subscriptions++;
    world->messages.opens++;
    subscription_opening(subscription, s);
    s->err = world->messages.faults.open_error;
    s->ending = s->err.code != ERR_OK;
    if (kind != FAKE_KIND_TOPIC)
        join(s);
    fake_messages_look(world);
}

void fake_open_topic(struct backend *backend, struct subscription *subscription)
{
    open_any(backend, subscription, FAKE_KIND_TOPIC);
}

void fake_open_stream(struct backend *backend, struct subscription *subscription)
{
    open_any(backend, subscription, FAKE_KIND_STREAM);
}

void fake_open_queue(struct backend *backend, struct subscription *subscription)
{
    open_any(backend, subscription, FAKE_KIND_QUEUE);
}

void fake_grant(struct backend *backend, struct subscription *subscription, uint32_t messages,
                uint64_t bytes)
{
    subscription_granted(subscription, messages, bytes);
    fake_messages_look(fake_world_of(backend));
}

void fake_withdraw(struct backend *backend, struct subscription *subscription)
{
    (void)backend;
    subscription_withdrawn(subscription);
}

void fake_close_subscription(struct backend *backend, struct subscription *subscription)
{
    struct fake_subscription *s = subscription->backend_data;

    subscription_closing(subscription);
    fake_give_back(s);
    if (!s->ending)
        s->err = ERR_NONE;
    s->ending = true;
    fake_messages_look(fake_world_of(backend));
}
