/* What a topic promises, where a group stands, and how it is moved. Answers come from the desk. */
#include "backends/kafka/kafka_listener.h"
#include "pool/worker.h"

#include <stdlib.h>

enum { PROBE_TRIES = 20, PROBE_AGAIN_MS = 50, ASKING_BYTES = 1 << 20 };

int kafka_partitions(rd_kafka_t *rk, const char *topic, struct err *err)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
    int n = -1;

    if (handle != NULL)
        code = rd_kafka_metadata(rk, 0, handle, &metadata, KAFKA_ANSWER_MS);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        code = metadata->topic_cnt == 1 ? metadata->topics[0].err
                                        : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            n = metadata->topics[0].partition_cnt;
        rd_kafka_metadata_destroy(metadata);
    }
    if (handle != NULL)
        rd_kafka_topic_destroy(handle);
    *err = kafka_request_err(code);
    return n;
}

/* ---- an operation at the desk ---- */

struct request {
    struct kafka_task task;
    struct job job;
    struct kafka_instance *instance;
    struct kafka_store *store;
    struct op *op;
    char topic[MESSAGE_TOPIC_BYTES + 1], group[MESSAGE_TOPIC_BYTES + 1];
    struct err err;
    struct arena *arena;
    struct kafka_plan *known; /* position: what this process has settled */
    unsigned tries;           /* probe: a new store has no client yet */
};

static void copy_name(char *to, struct slice from)
{
    if (from.len > 0)
        memcpy(to, from.data, from.len < MESSAGE_TOPIC_BYTES ? from.len : MESSAGE_TOPIC_BYTES);
}

static void finished(struct job *job)
{
    struct request *request = CONTAINER_OF(job, struct request, job);
    struct kafka_instance *instance = request->instance;
    struct op *op = request->op;
    struct err err = request->err;

    free(request->known);
    free(request);
    op_finish(op, err);
    kafka_instance_release(instance);
}

static struct request *request_new(struct backend *backend, struct op *op, struct slice topic,
                                   struct slice group)
{
    struct request *request = calloc(1, sizeof *request);

    if (request == NULL)
        abort();
    request->instance = kafka_instance_of(backend);
    request->instance->busy++;
    request->store = kafka_store_of(backend);
    request->op = op;
    request->arena = op_arena(op);
    copy_name(request->topic, topic);
    copy_name(request->group, group);
    op_park(op, NULL);
    return request;
}

static void finish(struct request *request)
{
    request->job.run = finished;
    worker_land(request->instance->base.home, &request->job);
}

static void begin(struct request *request, void (*run)(struct kafka_task *))
{
    request->task.run = run;
    kafka_desk_put(&request->store->desk, &request->task, 0);
}

/* ---- probe ---- */

static void run_probe(struct kafka_task *task)
{
    struct request *request = CONTAINER_OF(task, struct request, task);
    struct kafka_producer *producer = kafka_producer_ref(request->store);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code;

    if (producer == NULL && request->tries++ < PROBE_TRIES) {
        kafka_desk_put(&request->store->desk, task, PROBE_AGAIN_MS);
        return;
    }
    if (producer == NULL) {
        request->err = kafka_unavailable();
        finish(request);
        return;
    }
    code = rd_kafka_metadata(producer->rk, 0, NULL, &metadata, KAFKA_ANSWER_MS);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(metadata);
    kafka_producer_unref(producer);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        kafka_store_up(request->store);
    else
        kafka_store_down(request->store, "no broker of Kafka answers");
    request->err = kafka_request_err(code);
    finish(request);
}

void kafka_probe(struct backend *backend, struct op *op)
{
    begin(request_new(backend, op, message_null(), message_null()), run_probe);
}

/* ---- describe ---- */

/* The topic's settings; NULL: they cannot be read. */
static rd_kafka_event_t *ask_config(rd_kafka_t *rk, const char *topic)
{
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_queue_t *answer = rd_kafka_queue_new(rk);
    rd_kafka_event_t *event;

    rd_kafka_DescribeConfigs(rk, &resource, 1, NULL, answer);
    event = rd_kafka_queue_poll(answer, KAFKA_ANSWER_MS);
    rd_kafka_queue_destroy(answer);
    rd_kafka_ConfigResource_destroy(resource);
    return event;
}

static void take_entry(struct request *request, const char *name, const char *value)
{
    struct stream_describe *describe = CONTAINER_OF(request->op, struct stream_describe, op);
    bool all = strcmp(request->store->config.acks, "all") == 0;
    long long number = strtoll(value, NULL, 10);

    if (strcmp(name, "min.insync.replicas") == 0)
        describe->ack = all && number > 1 ? BACKEND_ACK_QUORUM_MEMORY : BACKEND_ACK_MEMORY;
    else if (strcmp(name, "max.message.bytes") == 0)
        describe->max_message_bytes = (uint64_t)number;
    else if (strcmp(name, "retention.ms") == 0 && number >= 0)
        describe->retention_text = "retention.ms";
    else if (strcmp(name, "retention.bytes") == 0 && number >= 0)
        describe->retention_text = "retention.bytes";
    else if (strcmp(name, "cleanup.policy") == 0 && strstr(value, "compact") != NULL)
        describe->retention_text = "cleanup.policy";
}

static void take_config(struct request *request, rd_kafka_event_t *event)
{
    struct stream_describe *describe = CONTAINER_OF(request->op, struct stream_describe, op);
    const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
    const rd_kafka_ConfigResource_t **resources;
    const rd_kafka_ConfigEntry_t **entries;
    size_t n = 0;

    if (result == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    resources = rd_kafka_DescribeConfigs_result_resources(result, &n);
    if (n != 1 || rd_kafka_ConfigResource_error(resources[0]) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    entries = rd_kafka_ConfigResource_configs(resources[0], &n);
    for (size_t i = 0; i < n; i++) {
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);

        if (value != NULL)
            take_entry(request, rd_kafka_ConfigEntry_name(entries[i]), value);
    }
    describe->retention =
        describe->retention_text != NULL ? RETENTION_LOSSY : RETENTION_KEEPS_UNREAD;
}

static void run_describe(struct kafka_task *task)
{
    struct request *request = CONTAINER_OF(task, struct request, task);
    struct stream_describe *describe = CONTAINER_OF(request->op, struct stream_describe, op);
    struct kafka_producer *producer = kafka_producer_ref(request->store);
    rd_kafka_event_t *event;
    int n = -1;

    request->err = kafka_unavailable();
    if (producer != NULL)
        n = kafka_partitions(producer->rk, request->topic, &request->err);
    describe->found = n >= 0;
    describe->partitions = n > 0 ? (uint32_t)n : 0;
    describe->ack = BACKEND_ACK_UNKNOWN;
    if (request->err.code == ERR_NOT_FOUND)
        request->err = ERR_NONE;
    event = n >= 0 ? ask_config(producer->rk, request->topic) : NULL;
    if (event != NULL) {
        take_config(request, event);
        rd_kafka_event_destroy(event);
    }
    if (producer != NULL)
        kafka_producer_unref(producer);
    finish(request);
}

void kafka_describe(struct backend *backend, struct stream_describe *describe)
{
    describe->found = false;
    describe->partitions = 0;
    describe->retention = RETENTION_UNKNOWN;
    describe->max_message_bytes = 0;
    describe->retention_text = NULL;
    begin(request_new(backend, &describe->op, describe->topic, message_null()), run_describe);
}

/* ---- position ---- */

static void take_committed(const rd_kafka_topic_partition_list_t *list, struct kafka_plan *plan)
{
    for (int i = 0; i < list->cnt; i++) {
        if (list->elems[i].offset >= 0)
            plan->places[list->elems[i].partition].committed = list->elems[i].offset;
    }
}

/* By a client of the group, which never joins it. The producer's could ask as well; but while the
 * group's coordinator moves, librdkafka 2.0 looks for the group that a producer has not, and the
 * process dies. */
static void ask_committed(const struct request *request, struct kafka_plan *plan)
{
    rd_kafka_conf_t *conf = kafka_conf_consumer(request->store, request->group, ASKING_BYTES);
    rd_kafka_topic_partition_list_t *list;
    char why[256];
    rd_kafka_t *rk = conf == NULL ? NULL : rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);

    if (rk == NULL) {
        if (conf != NULL)
            rd_kafka_conf_destroy(conf);
        return;
    }
    list = rd_kafka_topic_partition_list_new((int)plan->n);
    for (size_t i = 0; i < plan->n; i++)
        rd_kafka_topic_partition_list_add(list, request->topic, (int32_t)i);
    if (rd_kafka_committed(rk, list, KAFKA_ANSWER_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
        take_committed(list, plan);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static void tell_place(struct stream_position *position, const struct kafka_place *place, size_t i)
{
    struct stream_partition *out = &position->partitions[i];

    *out = (struct stream_partition){.partition = place->partition,
                                     .first = place->low,
                                     .end = place->high,
                                     .committed = place->committed,
                                     .lag = -1,
                                     .position = message_null()};
    if (place->committed >= 0) {
        position->found = true;
        out->lag = place->high > place->committed ? place->high - place->committed : 0;
    }
}

static struct err look_up_position(struct request *request, rd_kafka_t *rk)
{
    struct stream_position *position = CONTAINER_OF(request->op, struct stream_position, op);
    struct kafka_plan *plan;
    struct err err;
    int n = kafka_partitions(rk, request->topic, &err);

    if (n < 0)
        return err;
    plan = kafka_plan_new((size_t)n);
    err = kafka_watermarks(rk, request->topic, plan);
    if (err.code == ERR_OK && request->group[0] != '\0')
        ask_committed(request, plan);
    for (size_t i = 0; request->known != NULL && i < request->known->n; i++) {
        const struct kafka_place *known = &request->known->places[i];

        if ((size_t)known->partition < plan->n)
            plan->places[known->partition].committed = known->committed;
    }
    position->partitions = arena_array(request->arena, plan->n, sizeof position->partitions[0]);
    position->n = err.code == ERR_OK ? plan->n : 0;
    for (size_t i = 0; i < position->n; i++)
        tell_place(position, &plan->places[i], i);
    free(plan);
    return err;
}

static void run_position(struct kafka_task *task)
{
    struct request *request = CONTAINER_OF(task, struct request, task);
    struct kafka_producer *producer = kafka_producer_ref(request->store);

    request->err = kafka_unavailable();
    if (producer != NULL) {
        request->err = look_up_position(request, producer->rk);
        kafka_producer_unref(producer);
    }
    finish(request);
}

/* At the home of the group's listener, if this process has one: what is settled there may not be
 * committed yet. */
static void look_here(struct job *job)
{
    struct request *request = CONTAINER_OF(job, struct request, job);
    struct kafka_listener *listener =
        kafka_listener_here(request->store, request->topic, request->group);
    size_t n = 0;

    for (struct kafka_part *part = listener != NULL ? listener->parts : NULL; part != NULL;
         part = part->next)
        n += part->position >= 0;
    request->known = kafka_plan_new(n);
    n = 0;
    for (struct kafka_part *part = listener != NULL ? listener->parts : NULL; part != NULL;
         part = part->next) {
        if (part->position < 0)
            continue;
        request->known->places[n].partition = part->partition;
        request->known->places[n++].committed = part->position;
    }
    begin(request, run_position);
}

void kafka_position(struct backend *backend, struct stream_position *position)
{
    struct request *request = request_new(backend, &position->op, position->topic, position->group);
    struct worker *home = kafka_listener_home(request->store, request->topic, request->group);

    position->found = false;
    position->partitions = NULL;
    position->n = 0;
    position->unsettled = position->parked = -1;
    request->job.run = look_here;
    if (home != NULL)
        worker_land(home, &request->job);
    else
        begin(request, run_position);
}
