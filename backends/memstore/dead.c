/* The dead letters of a queue: kept out of the way, named by their number. */
#include "backends/memstore/messaging.h"

#include <stdlib.h>
#include <time.h>

enum { REASON_BYTES = 1024 };

void dead_bury(struct channel *channel, struct kept *kept, struct slice reason)
{
    size_t len = reason.len < REASON_BYTES ? reason.len : REASON_BYTES;
    struct dead_entry *dead = malloc(sizeof *dead + len);
    struct timespec now;

    if (dead == NULL)
        abort();
    clock_gettime(CLOCK_REALTIME, &now);
    channel_hold(kept);
    dead->kept = kept;
    dead->died_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
    dead->reason_len = len;
    if (len > 0)
        memcpy(dead->reason, reason.data, len);
    msglog_append(&channel->dead, dead);
}

void dead_remove(struct channel *channel, int64_t number)
{
    struct dead_entry *dead = msglog_take(&channel->dead, number);

    channel_let_go(channel, dead->kept);
    free(dead);
}

void dead_clear(struct channel *channel)
{
    while (channel->dead.first < channel->dead.next)
        dead_remove(channel, channel->dead.first);
}
