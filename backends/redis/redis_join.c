/* The life of watches: made for the first reader, joined by others, left by the last. */
#include "backends/redis/redis_watch.h"

#include <stdlib.h>

/* ---- the connection ---- */

static void introduce_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_watch *watch = redis_watch_of(call);

    if (call->answered == 0 && node->type == REDIS_REPLY_INTEGER)
        watch->client = (uint64_t)node->number;
    else if (call->answered == 1 && node->depth == 0 && node->type == REDIS_REPLY_ARRAY)
        watch->notes_known = true;
    else if (call->answered == 1 && node->depth == 2 && node->index == 0)
        redis_id_parse(node->text, &watch->noted);
}

/* What was given back before the first note was known was told by notes that nobody here has read.
 */
static void introduce_end(struct redis_call *call)
{
    struct redis_watch *watch = redis_watch_of(call);

    watch->introducing = false;
    if (watch->notes_known && !watch->caught_up) {
        watch->caught_up = true;
        for (struct redis_reader *reader = watch->streams->readers; reader != NULL;
             reader = reader->next) {
            if (reader->watch == watch)
                redis_reader_invite(reader);
        }
    }
    redis_watch_look(watch);
}

static void introduce_lost(struct redis_call *call, struct err why)
{
    (void)why;
    redis_watch_of(call)->introducing = false;
}

static const struct redis_kind introduce_kind = {
    .item_errors = true, .node = introduce_node, .end = introduce_end, .lost = introduce_lost};

/* Notes are read on from the last one that was seen, also over a lost connection. */
static void on_ready(struct redis *redis)
{
    struct redis_watch *watch = CONTAINER_OF(redis, struct redis_watch, connection);
    struct redis_call *call = redis_begin_own(redis, &introduce_kind, watch);

    watch->introducing = true;
    watch->client = 0;
    watch->may_poke = true;
    redis_command(call, 2, "CLIENT");
    redis_word(call, slice_str("ID"));
    redis_watch_wake(watch);
    if (watch->notes_known)
        return;
    redis_say_newest(call, watch->notes);
}

/* ---- its life ---- */

static void on_closed(void *arg)
{
    struct redis_watch *watch = arg;

    watch->closed = true;
    redis_watch_over(watch);
}

/* Its place is taken until it is freed: what is open is bounded. */
static void end(struct redis_watch *watch)
{
    if (watch->closing)
        return;
    watch->closing = true;
    timer_disarm(redis_watch_timers(watch), &watch->guard);
    timer_disarm(redis_watch_timers(watch), &watch->poke_again);
    redis_stop(&watch->connection, on_closed, watch);
}

static struct redis_watch *start(struct redis_streams *streams, const struct redis_reader *reader)
{
    struct redis_watch *watch = calloc(1, sizeof *watch);
    struct backend *base = &streams->shared.base;

    if (watch == NULL)
        abort();
    watch->streams = streams;
    watch->job.run = redis_watch_run;
    arena_init(&watch->texts, NULL);
    watch->notes = arena_copy(&watch->texts, reader->notes);
    watch->next = streams->watches;
    watch->at = &streams->watches;
    if (watch->next != NULL)
        watch->next->at = &watch->next;
    streams->watches = watch;
    streams->n_watches++;
    watch->connection.on_ready = on_ready;
    redis_cluster_join(streams->cluster, &watch->connection);
    watch->connection.fixed = watch->connection.aims = streams->cluster != NULL;
    watch->connection.slot = reader->slot;
    redis_start(&watch->connection, base->store, base->home, true);
    return watch;
}

void redis_wait_join(struct redis_reader *reader)
{
    struct redis_streams *streams = reader->streams;
    struct redis_watch *watch = streams->watches;

    while (watch != NULL && (watch->closing || !slice_equal(watch->notes, reader->notes)))
        watch = watch->next;
    if (watch == NULL && streams->n_watches < REDIS_WATCHES)
        watch = start(streams, reader);
    reader->watch = watch;
    if (watch == NULL)
        return;
    watch->readers++;
    redis_watch_look(watch); /* for notes: without readers it may have stood still */
}

void redis_wait_leave(struct redis_reader *reader)
{
    struct redis_watch *watch = reader->watch;

    if (watch != NULL && --watch->readers == 0 && watch->streams->cluster != NULL)
        end(watch);
}

void redis_wait_look(struct redis_streams *streams)
{
    for (struct redis_watch *watch = streams->watches; watch != NULL; watch = watch->next)
        redis_watch_look(watch);
}

void redis_wait_stop(struct redis_streams *streams, void (*gone)(struct redis_streams *))
{
    if (streams->watches == NULL) {
        gone(streams);
        return;
    }
    streams->gone = gone;
    for (struct redis_watch *watch = streams->watches; watch != NULL; watch = watch->next)
        end(watch);
}
