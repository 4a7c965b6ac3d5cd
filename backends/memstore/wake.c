/* Waking readers: each looks for itself, in its job (reader.c). */
#include "backends/memstore/messaging.h"

#include <stdlib.h>

void reader_wake(struct reader *reader)
{
    if (reader->queued)
        return;
    reader->queued = true;
    worker_land(reader->subscription->home, &reader->job);
}

void reader_wake_waiting(struct group *group)
{
    for (struct reader *r = group->readers; r != NULL; r = r->next) {
        if (r->waiting) {
            r->waiting = false;
            reader_wake(r);
        }
    }
}

void reader_lost(struct reader *reader, uint64_t token)
{
    if (reader->n_lost == reader->lost_room) {
        reader->lost_room = reader->lost_room == 0 ? 16 : reader->lost_room * 2;
        reader->lost = realloc(reader->lost, reader->lost_room * sizeof *reader->lost);
        if (reader->lost == NULL)
            abort();
    }
    reader->lost[reader->n_lost++] = token;
    reader_wake(reader);
}
