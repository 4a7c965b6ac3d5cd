/* May messages go that the group has not read? The source is asked once for each topic and group.
 *
 *   usual     when the feed is open, so that a topic which the opening makes is there. No message
 *             waits for the answer
 *   strict    before the feed begins: one that may lose messages joins no group */
#include "patterns/consumer/feed.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

/* In the memory of the answer. */
struct question {
    struct stream_describe describe;
    struct feed *feed;
};

static void begin(struct feed *feed, struct err err)
{
    if (feed->closing)
        feed_ended(feed, ERR_NONE);
    else if (feed->draining)
        feed_ended(feed, err_make(ERR_UNAVAILABLE, "the server is draining"));
    else if (err.code != ERR_OK)
        feed_ended(feed, err);
    else
        feed_go(feed);
}

static void described(struct op *op)
{
    struct question *question = CONTAINER_OF(op, struct question, describe.op);
    struct feed *feed = question->feed;
    struct feed_retention *retention = &feed->retention;
    struct err err = retention_answered(shared_retention(feed->consumer), &question->describe,
                                        feed->group_name, &retention->memory);

    if (retention->first)
        begin(feed, err);
    arena_clear(&retention->memory);
    feed_wake(feed); /* it may wait to be freed */
}

void feed_retention_init(struct feed *feed)
{
    op_group_init(&feed->retention.group, feed->consumer->base.home, &feed->retention.memory, 0);
}

void feed_retention_ask(struct feed *feed)
{
    struct feed_retention *retention = &feed->retention;
    struct worker *home = feed->consumer->base.home;

    if (feed->from->stream == NULL || !feed->shared || feed->letters || feed->closing ||
        retention->asked)
        return;
    retention->asked = true;
    arena_init(&retention->memory, &home->arenas);

    struct question *question = arena_zalloc(&retention->memory, sizeof *question);

    question->feed = feed;
    question->describe.topic = feed->topic;
    retention->group.deadline_ns = home->now_ns + RETENTION_ANSWER_MS * NS_PER_MS;
    op_start(&question->describe.op, &retention->group, described);
    feed->from->stream->describe(feed->backend, &question->describe);
}

bool feed_retention_is_first(struct feed *feed)
{
    if (!shared_retention(feed->consumer)->strict)
        return false;
    feed->retention.first = true;
    feed_retention_ask(feed);
    return feed->retention.asked;
}
