/* A group: where it stands, and what it has taken and not settled.
 *
 *             cursor        hand_over          settle DONE
 *   (log) ------------> .  -----------> OUT  --------------> (gone)
 *             |                          |  RETRY, RELEASE, lease ran out, reader closed
 *             | delayed                  v
 *             +--------> PARKED -----> READY ----------------> OUT
 *                              timer         hand_over
 *
 * Without order, READY ones wait in group->ready. With order, a message with a key belongs to a
 * lane, and what is READY or PARKED there waits in the lane: first what was given back, by offset,
 * then what the cursor has passed meanwhile. Only a lane's head can be taken, by the reader that
 * holds others of the lane, or by anyone while nobody does. A hash chooses the lane, so two keys
 * may share one: that costs parallelism, never order. */
#include "backends/memstore/messaging.h"

#include <assert.h>
#include <stdlib.h>

enum { STEPS = 1024 /* of the cursor, for one take */ };

/* ---- taking ---- */

static bool is_full(const struct group *group)
{
    uint32_t most = group->channel->messaging->config.max_parked;

    return most > 0 && group->parked + group->waiting >= most;
}

static bool must_wait(const struct group *group, const struct lane *lane,
                      const struct reader *reader)
{
    return lane_head(group, lane) != NULL || (lane->out > 0 && lane->holder != reader);
}

/* The next message that was never taken and need not wait. */
static struct delivery *from_cursor(struct group *group, const struct reader *reader,
                                    uint64_t now_ns)
{
    const struct msglog *log = &group->channel->log;

    for (unsigned step = 0; step < STEPS; step++) {
        int64_t offset = msglog_seek(log, group->cursor);
        struct kept *kept = msglog_get(log, offset);

        group->cursor = offset;
        group->stalled = kept != NULL && group->unsettled >= GROUP_PLACES;
        if (kept == NULL || group->stalled)
            return NULL;

        struct lane *lane = lane_at(group, group_lane(group, kept));
        bool waits = lane != NULL && must_wait(group, lane, reader);

        group->stalled = waits && is_full(group);
        if (group->stalled)
            return NULL;

        struct delivery *d = delivery_new(group, kept, offset);

        group->cursor = offset + 1;
        if (kept->due_ns > now_ns) {
            d->delayed = true;
            delivery_park(group, d, kept->due_ns);
        } else if (waits) {
            delivery_enlist(group, d, IN_FRESH);
            group->waiting++;
            lane_update(group, lane);
        } else {
            return d;
        }
    }
    return NULL;
}

bool group_has_more(const struct group *group)
{
    return group->cursor < group->channel->log.next && !group->stalled;
}

static struct delivery *choose(struct group *group, const struct reader *reader, uint64_t now_ns)
{
    const struct lane *lane = reader->ready_lanes.first;

    if (group->ready.first != 0)
        return delivery_at(group, group->ready.first);
    if (lane == NULL)
        lane = group->ready_lanes.first;
    return lane != NULL ? lane_head(group, lane) : from_cursor(group, reader, now_ns);
}

static void lease(struct group *group, struct delivery *d, struct reader *reader, uint64_t until_ns)
{
    delivery_arm(group, d, until_ns);
    d->timer->holder = reader;
}

bool group_take(struct group *group, struct reader *reader, uint64_t now_ns, struct taken *taken)
{
    struct delivery *d = choose(group, reader, now_ns);
    uint64_t lease_ms = reader->subscription->want.lease_ms;

    struct lane *lane;

    if (d == NULL)
        return false;
    lane = lane_at(group, d->lane);
    if (d->in == IN_FRESH)
        group->waiting--;
    delivery_unlist(group, d);
    delivery_hold(group, d, reader);
    d->attempt++;
    d->generation++;
    if (lane != NULL) {
        lane->out++;
        lane->holder = reader;
        lane_update(group, lane);
    }
    if (lease_ms > 0)
        lease(group, d, reader, now_ns + lease_ms * NS_PER_MS);
    *taken = (struct taken){.kept = kept_ref(d->kept),
                            .offset = d->offset,
                            .token = delivery_token(group, d),
                            .attempt = d->attempt};
    return true;
}

/* ---- settling ---- */

/* NULL: no longer this reader's, or (*before_seek) of a time before a seek. */
static struct delivery *find(const struct group *group, const struct reader *reader, uint64_t token,
                             bool *before_seek)
{
    uint32_t place = token >> 32 & GROUP_PLACES;

    *before_seek = token >> 52 != (group->epoch & 0xfff);
    if (*before_seek || place > group->places)
        return NULL;

    struct delivery *d = delivery_at(group, place);

    if (d == NULL || d->state != DELIVERY_OUT || d->holder != reader->number ||
        d->generation != (uint32_t)token)
        return NULL;
    return d;
}

static struct err late(bool before_seek)
{
    if (before_seek)
        return ERR_NONE;
    return err_make(ERR_ABORTED, "the delivery is no longer this subscription's");
}

static void finish(struct group *group, struct delivery *d, struct reader *reader)
{
    struct lane *lane = lane_at(group, d->lane);

    delivery_leave_out(group, d, reader);
    if (group->channel->queue)
        channel_remove(group->channel, d->offset);
    delivery_free(group, d);
    if (lane != NULL)
        lane_update(group, lane);
}

static struct err retry(struct group *group, struct delivery *d, struct reader *reader,
                        uint64_t delay_ms, uint64_t now_ns)
{
    if (delay_ms == 0) {
        delivery_leave_out(group, d, reader);
        delivery_make_ready(group, d);
        return ERR_NONE;
    }
    if (is_full(group))
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_parked",
                         "as many messages of the group as may wait for a retry: max_parked");
    delivery_leave_out(group, d, reader);
    delivery_park(group, d, now_ns + delay_ms * NS_PER_MS);
    return ERR_NONE;
}

struct err group_settle(struct group *group, struct reader *reader, const struct settlement *item,
                        uint64_t now_ns)
{
    bool before_seek;
    struct delivery *d = find(group, reader, item->token, &before_seek);

    if (d == NULL)
        return late(before_seek);
    switch (item->how) {
    case SETTLE_DONE:
        finish(group, d, reader);
        return ERR_NONE;
    case SETTLE_RETRY:
        return retry(group, d, reader, item->delay_ms, now_ns);
    case SETTLE_RELEASE:
        d->attempt--;
        delivery_leave_out(group, d, reader);
        delivery_make_ready(group, d);
        return ERR_NONE;
    case SETTLE_DEAD:
        break;
    }
    if (!group->channel->queue)
        return err_make(ERR_UNIMPLEMENTED, "streams keep no dead letters of their own");
    dead_bury(group->channel, d->kept, item->reason);
    finish(group, d, reader);
    return ERR_NONE;
}

struct err group_extend(struct group *group, struct reader *reader, uint64_t token,
                        uint64_t until_ns)
{
    bool before_seek;
    struct delivery *d = find(group, reader, token, &before_seek);

    if (d == NULL)
        return late(false);
    lease(group, d, reader, until_ns);
    return ERR_NONE;
}

static int by_offset(const void *a, const void *b)
{
    const struct delivery *x = *(struct delivery *const *)a, *y = *(struct delivery *const *)b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Retries were taken later than what is newer, and all go back by offset. */
static struct delivery **held_by(const struct group *group, const struct reader *reader, size_t *n)
{
    struct delivery **held, *d;

    *n = 0;
    for (d = delivery_at(group, reader->held.first); d != NULL; d = delivery_at(group, d->next))
        (*n)++;
    held = calloc(*n + 1, sizeof(struct delivery *));
    if (held == NULL)
        abort();
    *n = 0;
    for (d = delivery_at(group, reader->held.first); d != NULL; d = delivery_at(group, d->next))
        held[(*n)++] = d;
    qsort(held, *n, sizeof(struct delivery *), by_offset);
    return held;
}

void group_give_back_all(struct group *group, struct reader *reader)
{
    size_t n;
    struct delivery **held = held_by(group, reader, &n);

    for (size_t i = 0; i < n; i++) {
        held[i]->attempt--;
        delivery_leave_out(group, held[i], reader);
        delivery_make_ready(group, held[i]);
    }
    free(held);
}

/* ---- the group ---- */

struct group *group_find(const struct channel *channel, struct slice name)
{
    for (struct group *g = channel->groups; g != NULL; g = g->next) {
        if (!message_is_null(g->name) && slice_equal(g->name, name))
            return g;
    }
    return NULL;
}

struct group *group_new(struct channel *channel, struct slice name)
{
    struct group *group = calloc(1, sizeof *group);
    char *copy = malloc(name.len + 1);

    if (group == NULL || copy == NULL)
        abort();
    if (name.len > 0)
        memcpy(copy, name.data, name.len);
    group->copy = copy;
    group->name = message_is_null(name) ? message_null() : slice_of(copy, name.len);
    group->channel = channel;
    group->next = channel->groups;
    channel->groups = group;
    channel->n_groups++;
    return group;
}

/* Lets go of all that was taken and not settled. */
static void forget_all(struct group *group)
{
    struct delivery *d;

    while ((d = delivery_at(group, group->oldest)) != NULL) {
        delivery_disarm(group, d);
        delivery_unlist(group, d);
        delivery_free(group, d);
    }
    for (struct reader *r = group->readers; r != NULL; r = r->next)
        r->held = (struct delivery_list){0, 0};
    for (unsigned i = 0; group->lanes != NULL && i < GROUP_LANES; i++) {
        lane_unlist(&group->lanes[i]);
        group->lanes[i].out = 0;
        group->lanes[i].holder = NULL;
    }
    group->out = group->parked = group->waiting = group->delayed = 0;
}

void group_seek(struct group *group, int64_t offset)
{
    forget_all(group);
    group->epoch++;
    group->cursor = offset;
    for (struct reader *r = group->readers; r != NULL; r = r->next) {
        r->seeked = true;
        r->n_lost = 0;
        reader_wake(r);
    }
}

void group_destroy(struct group *group)
{
    struct group **at = &group->channel->groups;

    assert(group->readers == NULL);
    forget_all(group);
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
    group->channel->n_groups--;
    delivery_free_all_places(group);
    free(group->lanes);
    free(group->wheel);
    free(group->copy);
    free(group);
}

void groups_destroy(struct channel *channel)
{
    while (channel->groups != NULL)
        group_destroy(channel->groups);
}

void group_set_ordered(struct group *group, bool ordered)
{
    struct delivery *d;

    if (ordered == (group->lanes != NULL))
        return;
    for (d = delivery_at(group, group->oldest); d != NULL; d = delivery_at(group, d->newer))
        delivery_unlist(group, d);
    free(group->lanes);
    group->lanes = ordered ? calloc(GROUP_LANES, sizeof *group->lanes) : NULL;
    group->ready_lanes = (struct lane_list){NULL, NULL};
    group->waiting = 0;
    if (ordered && group->lanes == NULL)
        abort();
    for (d = delivery_at(group, group->oldest); d != NULL; d = delivery_at(group, d->newer)) {
        d->lane = group_lane(group, d->kept) & LANE_BITS;
        if (d->state == DELIVERY_READY)
            delivery_make_ready(group, d);
        else if (d->lane != 0 && !d->delayed)
            delivery_enlist(group, d, IN_AGAIN);
    }
}
