/* What is known of a watch: where its connection goes, its readers, and when nothing refers to it.
 */
#include "backends/redis/redis_watch.h"

#include <stdlib.h>

void redis_watch_look(struct redis_watch *watch)
{
    if (watch->landed || watch->closing)
        return;
    watch->landed = true;
    worker_land(watch->connection.base.home, &watch->job);
}

/* Who has its slot. */
struct redis *redis_watch_owner(const struct redis_watch *watch)
{
    struct redis_streams *streams = watch->streams;

    return streams->cluster == NULL ? &streams->shared
                                    : redis_cluster_at(streams->cluster, watch->connection.slot);
}

/* It is connected to another one. */
bool redis_watch_strayed(const struct redis_watch *watch)
{
    const struct redis_target *to = &watch->connection.to, *owner = &redis_watch_owner(watch)->to;

    return watch->streams->cluster != NULL &&
           (to->port != owner->port || strcmp(to->host, owner->host) != 0);
}

/* Nothing refers to it any more. */
void redis_watch_over(struct redis_watch *watch)
{
    struct redis_streams *streams = watch->streams;

    if (!watch->closed || watch->poking || watch->landed)
        return;
    *watch->at = watch->next;
    if (watch->next != NULL)
        watch->next->at = watch->at;
    streams->n_watches--;
    arena_clear(&watch->texts);
    free(watch);
    if (streams->gone != NULL && streams->watches == NULL)
        streams->gone(streams);
}

void redis_watch_wake(struct redis_watch *watch)
{
    for (struct redis_reader *reader = watch->streams->readers; reader != NULL;
         reader = reader->next) {
        if (reader->watch != watch || !reader->waiting)
            continue;
        reader->waiting = false;
        reader->want_fetch = true;
        redis_reader_wake(reader);
    }
}
