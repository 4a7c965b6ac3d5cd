/* Partitions of a feed: which it has, for its members to know, and the places at which a
 * subscription asked to begin in several of them.
 *
 *   feed_open -> seek of the group, one partition after the other -> source.open
 *             -> one cannot be moved: the feed ends, and says how far it got
 *             -> the server drains meanwhile: the feed ends. It joins no group to leave it again */
#include "patterns/consumer/member.h"

#include "pool/worker.h"
#include "src/base/container.h"

#include <stdlib.h>

/* ---- which it has ---- */

static int by_number(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static bool has(const struct feed *feed, int32_t partition)
{
    return feed->n_assigned > 0 && bsearch(&partition, feed->assigned, feed->n_assigned,
                                           sizeof *feed->assigned, by_number) != NULL;
}

/* In memory of their own: partitions come and go for as long as the feed lives. */
static void add(struct feed *feed, const int32_t *partitions, size_t n)
{
    size_t count = feed->n_assigned;
    struct arena memory;

    arena_init(&memory, NULL);

    int32_t *all = arena_array(&memory, count + n, sizeof *all);

    if (count > 0)
        memcpy(all, feed->assigned, count * sizeof *all);
    for (size_t i = 0; i < n; i++) {
        if (!has(feed, partitions[i]))
            all[count++] = partitions[i];
    }
    qsort(all, count, sizeof *all, by_number);
    arena_clear(&feed->assigned_memory);
    feed->assigned_memory = memory;
    feed->assigned = all;
    feed->n_assigned = count;
}

static void take(struct feed *feed, const int32_t *partitions, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < feed->n_assigned; i++) {
        bool goes = false;

        for (size_t j = 0; j < n && !goes; j++)
            goes = partitions[j] == feed->assigned[i];
        if (!goes)
            feed->assigned[kept++] = feed->assigned[i];
    }
    feed->n_assigned = kept;
}

/* A seek moves the position, and nobody's partitions. */
void feed_partitions_moved(struct feed *feed, const struct subscription_move *move)
{
    size_t before = feed->n_assigned;

    if (move->n_partitions == 0 || move->reason == MOVED_BY_SEEK)
        return;
    if (move->kind == MOVE_GAINED)
        add(feed, move->partitions, move->n_partitions);
    else
        take(feed, move->partitions, move->n_partitions);
    if (feed->n_assigned == before)
        return;
    feed->tells_assigned = true;
    for (struct member *member = feed->members; member != NULL; member = member->next)
        member->owes_assigned = true;
}

void feed_tell_assigned(const struct feed *feed, struct frame *frame)
{
    pb_consume_response *response = &frame->response;

    response->partitions_changed = true;
    response->partitions_assigned =
        arena_array(&frame->arena, feed->n_assigned, sizeof *response->partitions_assigned);
    response->n_partitions_assigned = feed->n_assigned;
    if (feed->n_assigned > 0)
        memcpy(response->partitions_assigned, feed->assigned,
               feed->n_assigned * sizeof *feed->assigned);
}

/* ---- where it begins ---- */

static void seek_next(struct feed *feed);

static struct err moved_in_part(struct feed *feed, struct err err)
{
    const struct feed_place *place = &feed->places[feed->next_place];

    err.text = arena_printf(&feed->memory, "the group could not begin at partition %d: %s%s",
                            (int)place->partition, err.text,
                            feed->next_place > 0 ? " (those named before it were moved)" : "");
    return err;
}

static void sought(struct op *op)
{
    struct feed *feed = CONTAINER_OF(op->group, struct feed, group);

    if (op->err.code != ERR_OK)
        feed_ended(feed, moved_in_part(feed, op->err));
    else if (feed->closing)
        feed_ended(feed, ERR_NONE);
    else if (feed->draining)
        feed_ended(feed, err_make(ERR_UNAVAILABLE, "the server is draining"));
    else if (++feed->next_place < feed->n_places)
        seek_next(feed);
    else
        feed_begin(feed);
}

static void seek_next(struct feed *feed)
{
    const struct feed_place *place = &feed->places[feed->next_place];

    *feed->seek = (struct stream_seek){.topic = feed->topic,
                                       .group = feed->group_name,
                                       .partition = place->partition,
                                       .start = place->start,
                                       .at = place->at,
                                       .position = place->position};
    op_start(&feed->seek->op, &feed->group, sought);
    feed->from->stream->seek(feed->backend, feed->seek);
}

void feed_go_to_places(struct feed *feed)
{
    feed->next_place = 0;
    seek_next(feed);
}

void feed_copy_places(struct feed *feed, const struct feed_want *want)
{
    if (want->n_places == 0)
        return;
    feed->seek = arena_alloc(&feed->memory, sizeof *feed->seek);
    feed->places = arena_array(&feed->memory, want->n_places, sizeof *feed->places);
    feed->n_places = want->n_places;
    for (size_t i = 0; i < want->n_places; i++) {
        feed->places[i] = want->places[i];
        feed->places[i].position = message_copy(&feed->memory, want->places[i].position);
    }
}
