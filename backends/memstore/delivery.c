/* Deliveries: their places, their lists, and how they change from one state to another. */
#include "backends/memstore/messaging.h"

#include <stdlib.h>

enum { CHUNK = 8 }; /* most groups have nothing out for most of the time */

_Static_assert(CHUNK * sizeof(struct delivery) == 640, "a chunk fills a class of the allocator's");

/* ---- lists ---- */

static void list_insert(struct delivery_list *list, struct delivery *d, struct delivery *before)
{
    d->in = list;
    d->next = before;
    d->prev = before != NULL ? before->prev : list->last;
    if (d->prev != NULL)
        d->prev->next = d;
    else
        list->first = d;
    if (before != NULL)
        before->prev = d;
    else
        list->last = d;
}

void delivery_list_push(struct delivery_list *list, struct delivery *d)
{
    list_insert(list, d, NULL);
}

/* From the end: what is given back in order finds its place at once. */
void delivery_list_by_offset(struct delivery_list *list, struct delivery *d)
{
    struct delivery *before = NULL;

    if (list->first != NULL && d->offset < list->first->offset) {
        list_insert(list, d, list->first);
        return;
    }
    for (struct delivery *at = list->last; at != NULL && at->offset > d->offset; at = at->prev)
        before = at;
    list_insert(list, d, before);
}

void delivery_unlist(struct delivery *d)
{
    struct delivery_list *list = d->in;

    if (list == NULL)
        return;
    if (d->prev != NULL)
        d->prev->next = d->next;
    else
        list->first = d->next;
    if (d->next != NULL)
        d->next->prev = d->prev;
    else
        list->last = d->prev;
    d->in = NULL;
}

/* ---- lanes ---- */

struct delivery *lane_head(const struct lane *lane)
{
    return lane->again.first != NULL ? lane->again.first : lane->fresh.first;
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
    const struct delivery *head = lane_head(lane);
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

uint16_t group_lane(const struct group *group, const struct kept *kept)
{
    if (group->lanes == NULL || message_is_null(kept->key))
        return 0;
    return 1 + memstore_hash(group->channel->messaging->store, kept->key) % GROUP_LANES;
}

struct lane *lane_at(const struct group *group, uint16_t lane)
{
    return lane != 0 ? &group->lanes[lane - 1] : NULL;
}

/* ---- places ---- */

struct delivery *delivery_at(const struct group *group, uint32_t index)
{
    return &group->chunks[index / CHUNK][index % CHUNK];
}

static void more_places(struct group *group)
{
    uint32_t n = group->places / CHUNK;
    struct delivery *chunk = calloc(CHUNK, sizeof *chunk);

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
    for (uint32_t i = CHUNK; i-- > 0;) {
        chunk[i].index = group->places + i;
        chunk[i].next = group->free;
        group->free = &chunk[i];
    }
    group->places += CHUNK;
}

void delivery_free_all_places(struct group *group)
{
    for (uint32_t i = 0; i < group->places / CHUNK; i++)
        free(group->chunks[i]);
    free(group->chunks);
}

struct delivery *delivery_new(struct group *group, struct kept *kept, int64_t offset)
{
    if (group->free == NULL)
        more_places(group);

    struct delivery *d = group->free;

    group->free = d->next;
    channel_hold(kept);
    d->kept = kept;
    d->offset = offset;
    d->attempt = 0;
    d->state = DELIVERY_READY;
    d->delayed = false;
    d->lane = group_lane(group, kept);
    d->in = NULL;
    d->newer = NULL;
    d->older = group->newest;
    if (d->older != NULL)
        d->older->newer = d;
    else
        group->oldest = d;
    group->newest = d;
    group->unsettled++;
    return d;
}

/* It is in no list and its timer is not armed. */
void delivery_free(struct group *group, struct delivery *d)
{
    if (d->older != NULL)
        d->older->newer = d->newer;
    else
        group->oldest = d->newer;
    if (d->newer != NULL)
        d->newer->older = d->older;
    else
        group->newest = d->older;
    group->unsettled--;
    channel_let_go(group->channel, d->kept);
    free(d->timer);
    d->timer = NULL;
    d->kept = NULL;
    d->state = DELIVERY_FREE;
    d->next = group->free;
    group->free = d;
}

uint64_t delivery_token(const struct group *group, const struct delivery *d)
{
    return (uint64_t)(group->epoch & 0xfff) << 52 | (uint64_t)(d->index + 1) << 32 | d->generation;
}

/* ---- moves between states ---- */

void delivery_leave_out(struct group *group, struct delivery *d)
{
    struct lane *lane = lane_at(group, d->lane);

    delivery_disarm(group, d);
    delivery_unlist(d);
    group->out--;
    if (lane != NULL && --lane->out == 0)
        lane->holder = NULL;
}

void delivery_make_ready(struct group *group, struct delivery *d)
{
    struct lane *lane = lane_at(group, d->lane);

    d->state = DELIVERY_READY;
    if (lane == NULL) {
        delivery_list_push(&group->ready, d);
        return;
    }
    if (d->in == NULL)
        delivery_list_by_offset(&lane->again, d);
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
    delivery_list_by_offset(&lane->again, d);
    lane_update(group, lane);
}

static void on_timer(struct timer *timer)
{
    struct delivery_timer *own = CONTAINER_OF(timer, struct delivery_timer, timer);
    struct delivery *d = own->delivery;
    struct group *group = own->group;

    if (d->state == DELIVERY_OUT) {
        reader_lost(reader_of_out(d), delivery_token(group, d));
        delivery_leave_out(group, d);
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
        d->timer->group = group;
        d->timer->delivery = d;
    }
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
