#include "backends/memstore/msglog.h"

#include <stdlib.h>

enum { SEGMENT_SLOTS = 32, RING_SEGMENTS = 4 };

struct msglog_segment {
    unsigned used;
    void *items[SEGMENT_SLOTS];
};

void msglog_init(struct msglog *log)
{
    *log = (struct msglog){.first = 0};
}

void msglog_clear(struct msglog *log)
{
    for (size_t i = 0; i < log->room; i++)
        free(log->ring[i]);
    free(log->ring);
    msglog_init(log);
}

static struct msglog_segment **place(const struct msglog *log, int64_t number)
{
    return &log->ring[(size_t)number & (log->room - 1)];
}

/* Each live segment keeps its number in the larger ring. */
static void grow(struct msglog *log, int64_t oldest, int64_t newest)
{
    struct msglog larger = {.room = log->room == 0 ? RING_SEGMENTS : log->room * 2};

    while ((int64_t)larger.room <= newest - oldest)
        larger.room *= 2;
    larger.ring = calloc(larger.room, sizeof *larger.ring);
    if (larger.ring == NULL)
        abort();
    for (int64_t i = oldest; i < newest && log->room > 0; i++)
        *place(&larger, i) = *place(log, i);
    free(log->ring);
    log->ring = larger.ring;
    log->room = larger.room;
}

int64_t msglog_append(struct msglog *log, void *item)
{
    int64_t oldest = log->first / SEGMENT_SLOTS, newest = log->next / SEGMENT_SLOTS;

    if (newest - oldest >= (int64_t)log->room)
        grow(log, oldest, newest);

    struct msglog_segment **at = place(log, newest);

    if (*at == NULL && (*at = calloc(1, sizeof **at)) == NULL)
        abort();
    (*at)->items[log->next % SEGMENT_SLOTS] = item;
    (*at)->used++;
    log->held++;
    return log->next++;
}

void *msglog_get(const struct msglog *log, int64_t offset)
{
    if (offset < log->first || offset >= log->next)
        return NULL;

    const struct msglog_segment *segment = *place(log, offset / SEGMENT_SLOTS);

    return segment == NULL ? NULL : segment->items[offset % SEGMENT_SLOTS];
}

int64_t msglog_seek(const struct msglog *log, int64_t offset)
{
    if (offset < log->first)
        offset = log->first;
    while (offset < log->next) {
        const struct msglog_segment *segment = *place(log, offset / SEGMENT_SLOTS);

        if (segment == NULL)
            offset += SEGMENT_SLOTS - offset % SEGMENT_SLOTS;
        else if (segment->items[offset % SEGMENT_SLOTS] == NULL)
            offset++;
        else
            break;
    }
    return offset < log->next ? offset : log->next;
}

void *msglog_take(struct msglog *log, int64_t offset)
{
    void *item = msglog_get(log, offset);

    if (item == NULL)
        return NULL;

    struct msglog_segment **at = place(log, offset / SEGMENT_SLOTS);

    (*at)->items[offset % SEGMENT_SLOTS] = NULL;
    log->held--;
    if (--(*at)->used == 0) {
        free(*at);
        *at = NULL;
    }
    if (offset == log->first)
        log->first = msglog_seek(log, offset);
    return item;
}
