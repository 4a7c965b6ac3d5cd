/* A partition that is ours: what was delivered and is not settled. Only the prefix without a hole
 * counts for the group's position.
 *
 * A token is the number of the time that the partition is read (24 bits) and the sequence of the
 * delivery within it (40 bits). */
#include "backends/kafka/kafka_listener.h"

#include <stdlib.h>

enum { SEQUENCE_BITS = 40, FIRST_ROOM = 256 };

#define SEQUENCE_MASK ((1ull << SEQUENCE_BITS) - 1)

static uint32_t next_number(struct kafka_listener *listener)
{
    listener->numbers = (listener->numbers + 1) & 0xffffff;
    if (listener->numbers == 0)
        listener->numbers = 1;
    return listener->numbers;
}

struct kafka_part *kafka_part_new(struct kafka_listener *listener, const struct kafka_place *place)
{
    struct kafka_part *part = calloc(1, sizeof *part);

    if (part == NULL)
        abort();
    part->taken = calloc(BATCH_MESSAGES, sizeof part->taken[0]);
    if (part->taken == NULL)
        abort();
    part->partition = place->partition;
    part->number = next_number(listener);
    part->queue = place->queue;
    part->position = place->committed;
    part->saved = place->committed;
    part->end = place->offset;
    if (place->save)
        part->position = place->offset;
    part->next = listener->parts;
    listener->parts = part;
    return part;
}

static void drop_taken(struct kafka_part *part)
{
    while (part->taken_at < part->taken_n)
        rd_kafka_message_destroy(part->taken[part->taken_at++]);
    part->taken_n = part->taken_at = 0;
}

void kafka_part_free(struct kafka_listener *listener, struct kafka_part *part)
{
    struct kafka_part **at = &listener->parts;

    while (*at != part)
        at = &(*at)->next;
    *at = part->next;
    if (listener->turn_at == part)
        listener->turn_at = part->next;
    drop_taken(part);
    rd_kafka_queue_io_event_enable(part->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(part->queue);
    free(part->taken);
    free(part->ring);
    free(part);
}

struct kafka_part *kafka_part_find(struct kafka_listener *listener, int32_t partition)
{
    struct kafka_part *part = listener->parts;

    while (part != NULL && part->partition != partition)
        part = part->next;
    return part;
}

void kafka_part_void(struct kafka_listener *listener, struct kafka_part *part)
{
    part->voided[part->n_voided++ % KAFKA_VOIDED] = part->number;
    part->number = next_number(listener);
    part->first = part->next_sequence;
    drop_taken(part);
}

bool kafka_part_is_full(const struct kafka_listener *listener, const struct kafka_part *part)
{
    return kafka_part_unsettled(part) >= kafka_store_of(&listener->instance->base)->config.max_span;
}

bool kafka_part_may_take(const struct kafka_listener *listener, const struct kafka_part *part)
{
    return !part->leaving && !part->reset && !kafka_part_is_full(listener, part);
}

static void grow(struct kafka_part *part)
{
    uint32_t room = part->room == 0 ? FIRST_ROOM : part->room * 2;
    uint64_t *ring = calloc(room, sizeof ring[0]);

    if (ring == NULL)
        abort();
    for (uint64_t i = part->first; i < part->next_sequence; i++)
        ring[i & (room - 1)] = part->ring[i & (part->room - 1)];
    free(part->ring);
    part->ring = ring;
    part->room = room;
}

uint64_t kafka_part_deliver(const struct kafka_listener *listener, struct kafka_part *part,
                            int64_t offset)
{
    part->end = offset + 1;
    if (listener->bare)
        return 0;
    if (kafka_part_unsettled(part) == part->room)
        grow(part);
    part->ring[part->next_sequence & (part->room - 1)] = (uint64_t)offset << 1;
    return (uint64_t)part->number << SEQUENCE_BITS | (part->next_sequence++ & SEQUENCE_MASK);
}

/* ---- settlement ---- */

static struct err late(void)
{
    return err_make(ERR_ABORTED, "settled before, or the partition is another process's by now");
}

static bool was_voided(const struct kafka_part *part, uint32_t number)
{
    for (unsigned i = 0; i < KAFKA_VOIDED; i++) {
        if (part->voided[i] == number && number != 0)
            return true;
    }
    return false;
}

static struct err settle_one(struct kafka_part *part, uint64_t sequence)
{
    uint64_t *place;

    if (sequence < part->first || sequence >= part->next_sequence)
        return late();
    place = &part->ring[sequence & (part->room - 1)];
    if ((*place & 1) != 0)
        return late();
    *place |= 1;
    while (part->first < part->next_sequence) {
        uint64_t oldest = part->ring[part->first & (part->room - 1)];

        if ((oldest & 1) == 0)
            break;
        part->position = (int64_t)(oldest >> 1) + 1;
        part->first++;
    }
    return ERR_NONE;
}

struct err kafka_part_settle(struct kafka_listener *listener, uint64_t token)
{
    uint32_t number = (uint32_t)(token >> SEQUENCE_BITS);

    for (struct kafka_part *part = listener->parts; part != NULL; part = part->next) {
        if (part->number == number)
            return settle_one(part, token & SEQUENCE_MASK);
    }
    for (struct kafka_part *part = listener->parts; part != NULL; part = part->next) {
        if (was_voided(part, number))
            return ERR_NONE; /* from before a seek: moves nothing */
    }
    return late();
}
