/* Handles of topics. The library finds a topic by name in a list; this finds it in a table. */
#include "backends/kafka/kafka_priv.h"
#include "src/base/clock.h"

#include <stdlib.h>

struct ask {
    struct kafka_task task;
    struct kafka_producer *producer;
    char topic[MESSAGE_TOPIC_BYTES + 1];
};

static unsigned row_of(struct slice name)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ name.data[i]) * 16777619u;
    return hash % KAFKA_TOPIC_ROWS;
}

/* The library's own reference lives as long as messages wait for the topic. */
static void drop_idle(struct kafka_producer *producer, bool all)
{
    for (unsigned row = 0; row < KAFKA_TOPIC_ROWS; row++) {
        for (struct kafka_topic **at = &producer->topics[row]; *at != NULL;) {
            struct kafka_topic *topic = *at;

            if (topic->waiting > 0 && !all) {
                at = &topic->next;
                continue;
            }
            *at = topic->next;
            rd_kafka_topic_destroy(topic->handle);
            free(topic);
            producer->n_topics--;
        }
    }
}

void kafka_topics_clear(struct kafka_producer *producer)
{
    drop_idle(producer, true);
}

struct kafka_topic *kafka_topic_find(struct kafka_producer *producer, struct slice name)
{
    struct kafka_topic **row = &producer->topics[row_of(name)], *topic;

    for (topic = *row; topic != NULL; topic = topic->next) {
        if (topic->len == name.len && memcmp(topic->name, name.data, name.len) == 0)
            return topic;
    }
    if (producer->n_topics >= KAFKA_TOPICS)
        drop_idle(producer, false);
    topic = calloc(1, sizeof *topic + name.len + 1);
    if (topic == NULL)
        abort();
    memcpy(topic->name, name.data, name.len);
    topic->len = name.len;
    topic->handle = rd_kafka_topic_new(producer->rk, topic->name, NULL);
    if (topic->handle == NULL) {
        free(topic);
        return NULL;
    }
    topic->next = *row;
    *row = topic;
    producer->n_topics++;
    return topic;
}

static void run_ask(struct kafka_task *task)
{
    struct ask *ask = CONTAINER_OF(task, struct ask, task);
    struct err err;

    kafka_partitions(ask->producer->rk, ask->topic, (struct kafka_patience){0}, &err);
    kafka_producer_unref(ask->producer);
    free(ask);
}

void kafka_topic_ask(struct kafka_producer *producer, struct kafka_topic *topic)
{
    uint64_t now = clock_now_ns();
    struct ask *ask;

    if (producer->dead || (topic->asked_ns != 0 && now - topic->asked_ns < NS_PER_S))
        return;
    topic->asked_ns = now;
    ask = calloc(1, sizeof *ask);
    if (ask == NULL)
        abort();
    ask->producer = producer;
    producer->refs++;
    memcpy(ask->topic, topic->name, topic->len);
    ask->task.run = run_ask;
    kafka_desk_put(&producer->store->desk, &ask->task, 0);
}
