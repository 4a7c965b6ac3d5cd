/* May messages go that the group has not read? The source is asked once for each topic and group,
 * when its feed is open, so that a topic which the opening makes is there. No message waits for the
 * answer. */
#include "patterns/consumer/feed.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

enum { ANSWER_MS = 5000 };

static void set_lossy(struct feed *feed)
{
    struct consumer *consumer = feed->consumer;
    const char *text = feed->retention.describe.retention_text;

    shared_set_lossy(consumer);
    log_limited(&consumer->retention_log, LOG_WARN, "retention_lossy",
                (const struct log_field[]){LOG_S("namespace", consumer->base.namespace_name),
                                           LOG_S("slot", "message_source"),
                                           LOG_B("topic", feed->topic),
                                           LOG_B("group", feed->group_name),
                                           LOG_S("setting", text != NULL ? text : "unknown")},
                5);
}

static void described(struct op *op)
{
    struct feed *feed = CONTAINER_OF(op, struct feed, retention.describe.op);

    if (op->err.code == ERR_OK && feed->retention.describe.retention == RETENTION_LOSSY)
        set_lossy(feed);
    arena_clear(&feed->retention.memory);
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
    retention->describe = (struct stream_describe){.topic = feed->topic};
    retention->group.deadline_ns = home->now_ns + ANSWER_MS * NS_PER_MS;
    op_start(&retention->describe.op, &retention->group, described);
    feed->from->stream->describe(feed->backend, &retention->describe);
}
