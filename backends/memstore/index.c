#include "backends/memstore/index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 16 };

/* Behind the homes there is room for runs that begin at the last ones. If it is too short it is
 * made longer. */
static uint32_t homes_of(uint32_t room)
{
    return room - 4 - room / 32;
}

/* 16, 24, 32, 48, 64, ...: sizes that an allocator with size classes serves without loss. */
static uint32_t next_room(uint32_t room)
{
    return (room & (room - 1)) == 0 ? room + room / 2 : room / 3 * 4;
}

/* Full at 7/8: with ordered buckets a search then looks at 4 or 5 of them, which is one cache line.
 */
static uint32_t most_for(uint32_t homes)
{
    return homes - homes / 8;
}

static uint32_t least_for(uint32_t homes)
{
    return homes / 16 * 3;
}

void index_init(struct index *index)
{
    *index = (struct index){0};
}

void index_clear(struct index *index)
{
    free(index->buckets);
    index_init(index);
}

static uint64_t *new_buckets(uint32_t room)
{
    uint64_t *buckets = calloc(room, sizeof *buckets);

    if (buckets == NULL)
        abort();
    return buckets;
}

static uint64_t bucket_of(uint32_t tag, const void *entry)
{
    uint64_t address = (uint64_t)(uintptr_t)entry;

    assert(address != 0 && address % 16 == 0 && address >> 48 == 0);
    return (uint64_t)tag << (64 - INDEX_TAG_BITS) | address >> 4;
}

static uint32_t tag_of(uint64_t bucket)
{
    return (uint32_t)(bucket >> (64 - INDEX_TAG_BITS));
}

/* Lays all buckets out for `homes`, in order; into `out` unless that is NULL. Returns the buckets
 * used up, gaps included. */
static uint32_t lay_out(const struct index *index, uint32_t homes, uint64_t *out)
{
    struct index target = {.homes = homes};
    size_t next = 0;

    for (uint32_t i = 0; i < index->room; i++) {
        uint64_t bucket = index->buckets[i];

        if (bucket == 0)
            continue;

        size_t home = index_home(&target, tag_of(bucket));

        next = home > next ? home : next;
        if (out != NULL)
            out[next] = bucket;
        next++;
    }
    return (uint32_t)next;
}

static void resize(struct index *index, uint32_t room)
{
    uint32_t homes = homes_of(room);
    uint32_t used = lay_out(index, homes, NULL);

    while (room < used + 2)
        room = next_room(room);

    uint64_t *buckets = new_buckets(room);

    lay_out(index, homes, buckets);
    free(index->buckets);
    index->buckets = buckets;
    index->homes = homes;
    index->room = room;
}

/* The run at the end of the table has come to its last bucket: same homes, more room behind them.
 */
static void lengthen(struct index *index)
{
    uint32_t room = next_room(index->room);
    uint64_t *buckets = new_buckets(room);

    memcpy(buckets, index->buckets, index->room * sizeof *buckets);
    free(index->buckets);
    index->buckets = buckets;
    index->room = room;
}

static void grow(struct index *index)
{
    uint32_t room = ROOM_MIN;

    while (most_for(homes_of(room)) <= index->count)
        room = next_room(room);
    resize(index, room);
}

static void shrink(struct index *index)
{
    uint32_t room = ROOM_MIN;

    while (homes_of(room) / 8 * 5 < index->count)
        room = next_room(room);
    if (homes_of(room) < index->homes)
        resize(index, room);
}

void index_insert(struct index *index, uint32_t tag, void *entry)
{
    uint64_t bucket = bucket_of(tag, entry);

    if (index->buckets == NULL || index->count >= most_for(index->homes))
        grow(index);

    size_t at = index_first(index, tag), end;

    while (index_tag(index, at) == tag)
        at++;
    for (end = at; index->buckets[end] != 0; end++)
        ;
    if (end + 1 == index->room)
        lengthen(index);
    memmove(index->buckets + at + 1, index->buckets + at, (end - at) * sizeof bucket);
    index->buckets[at] = bucket;
    index->count++;
}

/* Closes the gap: what follows in the run moves up by one, up to the first that stands at home. */
void index_remove(struct index *index, size_t at)
{
    size_t end = at + 1;

    while (index->buckets[end] != 0 && index_home(index, tag_of(index->buckets[end])) != end)
        end++;
    memmove(index->buckets + at, index->buckets + at + 1, (end - at - 1) * sizeof *index->buckets);
    index->buckets[end - 1] = 0;
    index->count--;
    if (index->count < least_for(index->homes) && index->room > ROOM_MIN)
        shrink(index);
}

void index_replace(struct index *index, size_t at, void *entry)
{
    index->buckets[at] = bucket_of(tag_of(index->buckets[at]), entry);
}

size_t index_skip(const struct index *index, size_t at)
{
    while (at < index->room && index->buckets[at] == 0)
        at++;
    return at < index->room ? at : index->room;
}

size_t index_from(const struct index *index, uint32_t tag)
{
    return index->buckets == NULL ? index->room : index_skip(index, index_first(index, tag));
}
