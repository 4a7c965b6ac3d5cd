/* Moves a group: through its listener, if this process has one, else by the brokers' admin request,
 * which they refuse while the group has members. */
#include "backends/kafka/kafka_listener.h"
#include "pool/worker.h"

#include <stdlib.h>

void kafka_seek_finish(struct kafka_seeking *seeking, struct err err)
{
    struct stream_seek *seek = seeking->seek;

    free(seeking);
    op_finish(&seek->op, err);
}

static rd_kafka_resp_err_t answer_of(rd_kafka_event_t *event)
{
    const rd_kafka_AlterConsumerGroupOffsets_result_t *result;
    const rd_kafka_topic_partition_list_t *list;
    const rd_kafka_group_result_t **groups;
    const rd_kafka_error_t *error;
    size_t n = 0;

    if (event == NULL)
        return RD_KAFKA_RESP_ERR__TIMED_OUT;
    result = rd_kafka_event_AlterConsumerGroupOffsets_result(event);
    if (result == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return rd_kafka_event_error(event);
    groups = rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &n);
    if (n != 1)
        return RD_KAFKA_RESP_ERR_UNKNOWN;
    error = rd_kafka_group_result_error(groups[0]);
    if (error != NULL)
        return rd_kafka_error_code(error);
    list = rd_kafka_group_result_partitions(groups[0]);
    for (int i = 0; i < list->cnt; i++) {
        if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
            return list->elems[i].err;
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static struct err alter(rd_kafka_t *rk, const struct kafka_seeking *seeking,
                        const struct kafka_plan *plan)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)plan->n);
    rd_kafka_queue_t *answer = rd_kafka_queue_new(rk);
    rd_kafka_AlterConsumerGroupOffsets_t *wanted;
    rd_kafka_event_t *event;
    struct err err;

    for (size_t i = 0; i < plan->n; i++)
        rd_kafka_topic_partition_list_add(list, seeking->topic, plan->places[i].partition)->offset =
            plan->places[i].offset;
    wanted = rd_kafka_AlterConsumerGroupOffsets_new(seeking->group, list);
    rd_kafka_AlterConsumerGroupOffsets(rk, &wanted, 1, NULL, answer);
    event = rd_kafka_queue_poll(answer, KAFKA_ANSWER_MS);
    err = kafka_request_err(answer_of(event));
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_AlterConsumerGroupOffsets_destroy(wanted);
    rd_kafka_queue_destroy(answer);
    rd_kafka_topic_partition_list_destroy(list);
    return err;
}

static struct err move(rd_kafka_t *rk, const struct kafka_seeking *seeking)
{
    const struct stream_seek *seek = seeking->seek;
    struct kafka_plan *plan;
    struct err err;
    int n = kafka_partitions(rk, seeking->topic, seeking->patience, &err);

    if (n < 0)
        return err;
    if (seek->partition >= n)
        return err_about(ERR_INVALID_ARGUMENT, "partition", "there is no such partition");
    plan = kafka_plan_new(seek->partition < 0 ? (size_t)n : 1);
    if (seek->partition >= 0)
        plan->places[0].partition = seek->partition;
    err = kafka_seek_target(rk, seeking->topic, seeking->patience, plan, seek->start, seek->at);
    if (err.code == ERR_OK)
        err = alter(rk, seeking, plan);
    free(plan);
    return err;
}

static void run_move(struct kafka_task *task)
{
    struct kafka_seeking *seeking = CONTAINER_OF(task, struct kafka_seeking, task);
    struct kafka_producer *producer = kafka_producer_ref(seeking->store);
    struct err err = kafka_unavailable();

    if (producer != NULL) {
        err = move(producer->rk, seeking);
        kafka_producer_unref(producer);
    }
    kafka_seek_finish(seeking, err);
}

static void without_listener(struct kafka_seeking *seeking)
{
    seeking->task.run = run_move;
    kafka_desk_put(&seeking->store->desk, &seeking->task, 0);
}

static void look_here(struct job *job)
{
    struct kafka_seeking *seeking = CONTAINER_OF(job, struct kafka_seeking, job);
    struct kafka_listener *listener =
        kafka_listener_here(seeking->store, seeking->topic, seeking->group);

    if (listener != NULL)
        kafka_seek_here(listener, seeking);
    else
        without_listener(seeking);
}

void kafka_seek(struct backend *backend, struct stream_seek *seek)
{
    struct kafka_seeking *seeking = calloc(1, sizeof *seeking);
    struct worker *home;

    if (seeking == NULL)
        abort();
    if (seek->topic.len > MESSAGE_TOPIC_BYTES || seek->group.len > MESSAGE_TOPIC_BYTES ||
        seek->start == START_POSITION || seek->start == START_COMMITTED) {
        free(seeking);
        op_finish(&seek->op, err_about(ERR_INVALID_ARGUMENT, "position",
                                       "places of Kafka are partitions and offsets"));
        return;
    }
    seeking->seek = seek;
    seeking->store = kafka_store_of(backend);
    seeking->patience.until_ns = op_deadline_ns(&seek->op);
    memcpy(seeking->topic, seek->topic.data, seek->topic.len);
    memcpy(seeking->group, seek->group.data, seek->group.len);
    op_park(&seek->op, NULL);
    home = kafka_listener_home(seeking->store, seeking->topic, seeking->group);
    seeking->job.run = look_here;
    if (home != NULL)
        worker_land(home, &seeking->job);
    else
        without_listener(seeking);
}
