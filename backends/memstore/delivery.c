/* Deliveries: their places, their lists, and how they change from one state to another. */
#include "backends/memstore/messaging.h"

#include <stdlib.h>

/* ---- lists ---- */

static struct delivery_list *list_of(struct group *group, const struct delivery *d)
{
    switch ((enum delivery_in)d->in) {
    case IN_NONE:
        break;
    case IN_READY:
        return &group->ready;
    case IN_AGAIN:
        return &lane_at(group, d->lane)->again;
    case IN_FRESH:
        return &lane_at(group, d->lane)->fresh;
    }
    return NULL;
}

/* From the end: what is given back in order finds its place at once. 0: it is the last. */
static uint32_t before_which(const struct group *group, const struct delivery_list *list,
                             const struct delivery *d)
{
    const struct delivery *at = delivery_at(group, list->first);
    uint32_t before = 0;

    if (at != NULL && d->offset < at->offset)
        return list->first;
    for (at = delivery_at(group, list->last); at != NULL && at->offset > d->offset;
         at = delivery_at(group, at->prev))
        before = at->place;
    return before;
}

/* before: a place in the list; 0: the end. */
static void link_before(const struct group *group, struct delivery_list *list, struct delivery *d,
                        uint32_t before)
{
    struct delivery *next = delivery_at(group, before), *prev;

    d->next = before;
    d->prev = next != NULL ? next->prev : list->last;
    prev = delivery_at(group, d->prev);
    if (prev != NULL)
        prev->next = d->place;
    else
        list->first = d->place;
    if (next != NULL)
        next->prev = d->place;
    else
        list->last = d->place;
}

static void unlink_from(const struct group *group, struct delivery_list *list,
                        const struct delivery *d)
{
    struct delivery *next = delivery_at(group, d->next), *prev = delivery_at(group, d->prev);

    if (prev != NULL)
        prev->next = d->next;
    else
        list->first = d->next;
    if (next != NULL)
        next->prev = d->prev;
    else
        list->last = d->prev;
}

void delivery_enlist(struct group *group, struct delivery *d, enum delivery_in in)
{
    d->in = in;

    struct delivery_list *list = list_of(group, d);

    link_before(group, list, d, in == IN_AGAIN ? before_which(group, list, d) : 0);
}

void delivery_unlist(struct group *group, struct delivery *d)
{
    if (d->in == IN_NONE)
        return;
    unlink_from(group, list_of(group, d), d);
    d->in = IN_NONE;
}

/* ---- lanes ---- */

struct delivery *lane_head(const struct group *group, const struct lane *lane)
{
    return delivery_at(group, lane->again.first != 0 ? lane->again.first : lane->fresh.first);
}

void lane_unlist(struct lane *lane)
{
    if (lane->in == NULL)
        return;
    if (lane->prev != NULL)
        lane->prev->next = lane->next;
    else
        lane->in->first = lane->next;
    if (lane->next != NULL)
        lane->next->prev = lane->prev;
    else
        lane->in->last = lane->prev;
    lane->in = NULL;
}

/* After any change of a lane: who can take its head? */
void lane_update(struct group *group, struct lane *lane)
{
    const struct delivery *head = lane_head(group, lane);
    struct lane_list *list = NULL;

    if (head != NULL && head->state == DELIVERY_READY)
        list = lane->out > 0 ? &lane->holder->ready_lanes : &group->ready_lanes;
    if (lane->in == list)
        return;
    lane_unlist(lane);
    if (list == NULL)
        return;
    lane->in = list;
    lane->next = NULL;
    lane->prev = list->last;
    if (list->last != NULL)
        list->last->next = lane;
    else
        list->first = lane;
    list->last = lane;
}

uint32_t group_lane(const struct group *group, const struct kept *kept)
{
    if (group->lanes == NULL || message_is_null(kept->key))
        return 0;
    return 1 + memstore_hash(group->channel->messaging->store, kept->key) % GROUP_LANES;
}

struct lane *lane_at(const struct group *group, uint32_t lane)
{
    return lane != 0 ? &group->lanes[lane - 1] : NULL;
}

/* ---- places ---- */

static void more_places(struct group *group)
{
    uint32_t n = group->places / GROUP_CHUNK;
    struct delivery *chunk = calloc(GROUP_CHUNK, sizeof *chunk);

    /* The list of chunks doubles: it has room for a power of two of them. */
    if ((n & (n - 1)) == 0) {
        struct delivery **chunks =
            realloc(group->chunks, (n == 0 ? 1 : 2 * (size_t)n) * sizeof *chunks);

        if (chunks == NULL)
            abort();
        group->chunks = chunks;
    }
    if (chunk == NULL)
        abort();
    group->chunks[n] = chunk;
    for (uint32_t i = GROUP_CHUNK; i-- > 0;) {
        chunk[i].place = (group->places + i + 1) & GROUP_PLACES;
        chunk[i].next = group->free;
        group->free = chunk[i].place;
    }
    group->places += GROUP_CHUNK;
}

void delivery_free_all_places(struct group *group)
{
    for (uint32_t i = 0; i < group->places / GROUP_CHUNK; i++)
        free(group->chunks[i]);
    free(group->chunks);
}

struct delivery *delivery_new(struct group *group, struct kept *kept, int64_t offset)
{
    if (group->free == 0)
        more_places(group);

    struct delivery *d = delivery_at(group, group->free);
    struct delivery *older = delivery_at(group, group->newest);

    group->free = d->next;
    channel_hold(kept);
    d->kept = kept;
    d->offset = offset;
    d->attempt = 0;
    d->state = DELIVERY_READY;
    d->delayed = false;
    d->lane = group_lane(group, kept) & LANE_BITS;
    d->in = IN_NONE;
    d->newer = 0;
    d->older = group->newest;
    if (older != NULL)
        older->newer = d->place;
    else
        group->oldest = d->place;
    group->newest = d->place;
    group->unsettled++;
    return d;
}

/* It is in no list and its timer is not armed. */
void delivery_free(struct group *group, struct delivery *d)
{
    struct delivery *older = delivery_at(group, d->older), *newer = delivery_at(group, d->newer);

    if (older != NULL)
        older->newer = d->newer;
    else
        group->oldest = d->newer;
    if (newer != NULL)
        newer->older = d->older;
    else
        group->newest = d->older;
    group->unsettled--;
    channel_let_go(group->channel, d->kept);
    free(d->timer);
    d->timer = NULL;
    d->kept = NULL;
    d->state = DELIVERY_FREE;
    d->next = group->free;
    group->free = d->place;
}

uint64_t delivery_token(const struct group *group, const struct delivery *d)
{
    return (uint64_t)(group->epoch & 0xfff) << 52 | (uint64_t)d->place << 32 | d->generation;
}

/* ---- moves between states ---- */

void delivery_hold(struct group *group, struct delivery *d, struct reader *reader)
{
    d->state = DELIVERY_OUT;
    d->holder = reader->number;
    link_before(group, &reader->held, d, 0);
    group->out++;
}

void delivery_leave_out(struct group *group, struct delivery *d, struct reader *reader)
{
    struct lane *lane = lane_at(group, d->lane);

    delivery_disarm(group, d);
    unlink_from(group, &reader->held, d);
    group->out--;
    if (lane != NULL && --lane->out == 0)
        lane->holder = NULL;
}

void delivery_make_ready(struct group *group, struct delivery *d)
{
    struct lane *lane = lane_at(group, d->lane);

    d->state = DELIVERY_READY;
    if (lane == NULL) {
        delivery_enlist(group, d, IN_READY);
        return;
    }
    if (d->in == IN_NONE)
        delivery_enlist(group, d, IN_AGAIN);
    lane_update(group, lane);
}

void delivery_park(struct group *group, struct delivery *d, uint64_t at_ns)
{
    struct lane *lane = lane_at(group, d->lane);

    d->state = DELIVERY_PARKED;
    delivery_arm(group, d, at_ns);
    if (d->delayed) {
        group->delayed++;
        return;
    }
    group->parked++;
    if (lane == NULL)
        return;
    delivery_enlist(group, d, IN_AGAIN);
    lane_update(group, lane);
}

static void on_timer(struct timer *timer)
{
    struct delivery_timer *own = CONTAINER_OF(timer, struct delivery_timer, timer);
    struct delivery *d = own->delivery;
    struct reader *holder = d->state == DELIVERY_OUT ? own->holder : NULL;
    struct group *group = holder != NULL ? holder->group : own->group;

    if (holder != NULL) {
        reader_lost(holder, delivery_token(group, d));
        delivery_leave_out(group, d, holder);
    } else if (d->delayed) {
        group->delayed--;
        d->delayed = false;
    } else {
        group->parked--;
    }
    delivery_make_ready(group, d);
}

void delivery_arm(struct group *group, struct delivery *d, uint64_t at_ns)
{
    if (group->wheel == NULL) {
        group->wheel = malloc(sizeof *group->wheel);
        if (group->wheel == NULL)
            abort();
        timer_wheel_init(group->wheel, memstore_now_ns(group->channel->messaging->store));
    }
    if (d->timer == NULL) {
        d->timer = calloc(1, sizeof *d->timer);
        if (d->timer == NULL)
            abort();
        d->timer->delivery = d;
    }
    d->timer->group = group;
    timer_arm(group->wheel, &d->timer->timer, at_ns, on_timer);
}

void delivery_disarm(struct group *group, struct delivery *d)
{
    if (d->timer != NULL && timer_armed(&d->timer->timer))
        timer_disarm(group->wheel, &d->timer->timer);
}

void group_advance(struct group *group, uint64_t now_ns)
{
    if (group->wheel == NULL || group->wheel->armed == 0)
        return;
    timer_wheel_advance(group->wheel, now_ns);
    while (timer_wheel_fire(group->wheel))
        ;
}

uint64_t group_rest_ns(const struct group *group, uint64_t now_ns)
{
    if (group->wheel == NULL || group->wheel->armed == 0)
        return UINT64_MAX;

    int wait_ms = timer_wheel_wait_ms(group->wheel, now_ns);

    return wait_ms <= 0 ? 0 : (unsigned)wait_ms * NS_PER_MS;
}
