#include "backends/memstore/backlog.h"

#include <stdlib.h>

enum { FEWEST = 4 };

static struct backlog *grown(const struct backlog *backlog)
{
    uint32_t room = backlog != NULL ? 2 * backlog->room : FEWEST;
    struct backlog *larger = malloc(sizeof *larger + room * sizeof larger->places[0]);

    if (larger == NULL)
        abort();
    larger->bytes = backlog_bytes(backlog);
    larger->at = 0;
    larger->n = backlog_count(backlog);
    larger->room = room;
    for (uint32_t i = 0; i < larger->n; i++)
        larger->places[i] = backlog_at(backlog, i);
    return larger;
}

void backlog_add(struct backlog **at, struct kept *kept)
{
    struct backlog *backlog = *at;
    uint32_t place;

    if (backlog == NULL || backlog->n == backlog->room) {
        *at = grown(backlog);
        free(backlog);
        backlog = *at;
    }
    place = backlog->at + backlog->n++;
    backlog->places[place < backlog->room ? place : place - backlog->room] = kept;
    backlog->bytes += kept->cost;
}

struct kept *backlog_take(struct backlog **at)
{
    struct backlog *backlog = *at;
    struct kept *kept = backlog_at(backlog, 0);

    backlog->at = backlog->at + 1 < backlog->room ? backlog->at + 1 : 0;
    backlog->bytes -= kept->cost;
    if (--backlog->n == 0) {
        free(backlog);
        *at = NULL;
    }
    return kept;
}
