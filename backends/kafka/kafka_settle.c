/* Settlement, and commits: the library stores what is settled, and sends it every now and then. */
#include "backends/kafka/kafka_listener.h"
#include "pool/worker.h"

rd_kafka_topic_partition_list_t *kafka_commits(struct kafka_listener *listener,
                                               const rd_kafka_topic_partition_list_t *of, bool all)
{
    rd_kafka_topic_partition_list_t *list = NULL;

    for (struct kafka_part *part = listener->parts; part != NULL; part = part->next) {
        if (part->position < 0 || (!all && part->position == part->saved))
            continue;
        if (of != NULL &&
            rd_kafka_topic_partition_list_find((rd_kafka_topic_partition_list_t *)of,
                                               listener->topic, part->partition) == NULL)
            continue;
        if (list == NULL)
            list = rd_kafka_topic_partition_list_new(8);
        rd_kafka_topic_partition_list_add(list, listener->topic, part->partition)->offset =
            part->position;
        part->saved = part->position;
    }
    return list;
}

/* Both calls only leave a note for the library's own thread. A partition that the library does not
 * hold as ours is refused. */
static void commit(struct kafka_listener *listener)
{
    rd_kafka_topic_partition_list_t *list;

    if (listener->group[0] == '\0' || listener->rk == NULL || listener->closing)
        return;
    list = kafka_commits(listener, NULL, false);
    if (list == NULL)
        return;
    rd_kafka_offsets_store(listener->rk, list);
    rd_kafka_commit(listener->rk, NULL, 1);
    rd_kafka_topic_partition_list_destroy(list);
}

static void on_commit_timer(struct timer *timer)
{
    struct kafka_listener *listener = CONTAINER_OF(timer, struct kafka_listener, commit_timer);

    /* The desk may be moving partitions, with their positions. */
    if (listener->busy || kafka_is_joining(listener->joining))
        kafka_commit_soon(listener);
    else
        commit(listener);
}

void kafka_commit_soon(struct kafka_listener *listener)
{
    struct worker *home = listener->instance->base.home;

    if (!timer_armed(&listener->commit_timer))
        timer_arm(&home->timers, &listener->commit_timer,
                  home->now_ns + KAFKA_COMMIT_MS * NS_PER_MS, on_commit_timer);
}

void kafka_settle(struct backend *backend, struct settle *settle)
{
    struct kafka_listener *listener = settle->subscription->backend_data;

    (void)backend;
    for (size_t i = 0; i < settle->n; i++) {
        struct settlement *item = &settle->items[i];

        if (item->how == SETTLE_DONE)
            item->err = kafka_part_settle(listener, item->token);
        else
            item->err = err_make(ERR_UNIMPLEMENTED, "Kafka keeps one position for a partition: "
                                                    "single messages cannot be given back");
    }
    kafka_commit_soon(listener);
    kafka_listener_wake(listener);
    op_finish(&settle->op, ERR_NONE);
}
