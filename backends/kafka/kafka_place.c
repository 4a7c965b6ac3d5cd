/* What a topic promises, where a group stands, and how it is moved. Answers come from the desk. */
#include "backends/kafka/kafka_listener.h"
#include "pool/worker.h"

#include <stdlib.h>

enum { PROBE_TRIES = 20, PROBE_AGAIN_MS = 50, ASKING_BYTES = 1 << 20 };

static int least_replicas(const struct rd_kafka_metadata_topic *topic)
{
    int least = topic->partition_cnt > 0 ? topic->partitions[0].replica_cnt : 0;

    for (int i = 1; i < topic->partition_cnt; i++) {
        if (topic->partitions[i].replica_cnt < least)
            least = topic->partitions[i].replica_cnt;
    }
    return least;
}

/* replicas: of the partition that has fewest; or NULL. */
static int look_at_topic(rd_kafka_t *rk, const char *topic, struct kafka_patience patience,
                         struct err *err, int *replicas)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
    int wait_ms = kafka_patience_ms(patience);
    int n = -1;

    if (handle != NULL)
        code = wait_ms > 0 ? rd_kafka_metadata(rk, 0, handle, &metadata, wait_ms)
                           : RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        code = metadata->topic_cnt == 1 ? metadata->topics[0].err
                                        : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            n = metadata->topics[0].partition_cnt;
        if (n > 0 && replicas != NULL)
            *replicas = least_replicas(&metadata->topics[0]);
        rd_kafka_metadata_destroy(metadata);
    }
    if (handle != NULL)
        rd_kafka_topic_destroy(handle);
    *err = kafka_request_err(code);
    return n;
}

int kafka_partitions(rd_kafka_t *rk, const char *topic, struct kafka_patience patience,
                     struct err *err)
{
    return look_at_topic(rk, topic, patience, err, NULL);
}

static struct kafka_lookup *lookup_of(struct kafka_task *task)
{
    return CONTAINER_OF(task, struct kafka_lookup, task);
}

/* ---- probe ---- */

static void run_probe(struct kafka_task *task)
{
    struct kafka_lookup *lookup = lookup_of(task);
    struct kafka_producer *producer = kafka_producer_ref(lookup->store);
    const struct rd_kafka_metadata *metadata = NULL;
    int wait_ms = kafka_patience_ms(lookup->patience);
    rd_kafka_resp_err_t code;

    if (producer == NULL && wait_ms > 0 && lookup->tries++ < PROBE_TRIES) {
        kafka_desk_put(lookup->desk, task, PROBE_AGAIN_MS);
        return;
    }
    lookup->err = kafka_unavailable();
    if (producer != NULL && wait_ms > 0) {
        code = rd_kafka_metadata(producer->rk, 0, NULL, &metadata, wait_ms);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            rd_kafka_metadata_destroy(metadata);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            kafka_store_up(lookup->store);
        else if (wait_ms == KAFKA_ANSWER_MS)
            kafka_store_down(lookup->store, "no broker of Kafka answers");
        lookup->err = kafka_request_err(code);
    }
    if (producer != NULL)
        kafka_producer_unref(producer);
    kafka_lookup_finish(lookup);
}

void kafka_probe(struct backend *backend, struct op *op)
{
    kafka_lookup_begin(kafka_lookup_new(backend, op, false), run_probe);
}

/* ---- describe ---- */

/* The topic's settings; NULL: they cannot be read. */
static rd_kafka_event_t *ask_config(rd_kafka_t *rk, const char *topic, int wait_ms)
{
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_queue_t *answer = rd_kafka_queue_new(rk);
    rd_kafka_event_t *event;

    rd_kafka_DescribeConfigs(rk, &resource, 1, NULL, answer);
    event = rd_kafka_queue_poll(answer, wait_ms);
    rd_kafka_queue_destroy(answer);
    rd_kafka_ConfigResource_destroy(resource);
    return event;
}

static void take_entry(struct kafka_lookup *lookup, const char *name, const char *value)
{
    struct stream_describe *describe = &lookup->described;
    bool all = strcmp(lookup->store->config.acks, "all") == 0;
    long long number = strtoll(value, NULL, 10);

    /* brokers take no more of it than the topic has replicas */
    if (strcmp(name, "min.insync.replicas") == 0)
        describe->ack = all && number > 1 && lookup->replicas > 1 ? BACKEND_ACK_QUORUM_MEMORY
                                                                  : BACKEND_ACK_MEMORY;
    else if (strcmp(name, "max.message.bytes") == 0)
        describe->max_message_bytes = (uint64_t)number;
    else if (strcmp(name, "retention.ms") == 0 && number >= 0)
        describe->retention_text = "retention.ms";
    else if (strcmp(name, "retention.bytes") == 0 && number >= 0)
        describe->retention_text = "retention.bytes";
    else if (strcmp(name, "cleanup.policy") == 0 && strstr(value, "compact") != NULL)
        describe->retention_text = "cleanup.policy";
}

static void take_config(struct kafka_lookup *lookup, rd_kafka_event_t *event)
{
    struct stream_describe *describe = &lookup->described;
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
            take_entry(lookup, rd_kafka_ConfigEntry_name(entries[i]), value);
    }
    describe->retention =
        describe->retention_text != NULL ? RETENTION_LOSSY : RETENTION_KEEPS_UNREAD;
}

static void run_describe(struct kafka_task *task)
{
    struct kafka_lookup *lookup = lookup_of(task);
    struct stream_describe *describe = &lookup->described;
    struct kafka_producer *producer = kafka_producer_ref(lookup->store);
    rd_kafka_event_t *event = NULL;
    int n = -1, wait_ms;

    lookup->err = kafka_unavailable();
    if (producer != NULL)
        n = look_at_topic(producer->rk, lookup->topic, lookup->patience, &lookup->err,
                          &lookup->replicas);
    describe->found = n >= 0;
    describe->partitions = n > 0 ? (uint32_t)n : 0;
    describe->ack = BACKEND_ACK_UNKNOWN;
    if (lookup->err.code == ERR_NOT_FOUND)
        lookup->err = ERR_NONE;
    wait_ms = kafka_patience_ms(lookup->patience);
    if (n >= 0 && wait_ms > 0)
        event = ask_config(producer->rk, lookup->topic, wait_ms);
    if (event != NULL) {
        take_config(lookup, event);
        rd_kafka_event_destroy(event);
    }
    if (producer != NULL)
        kafka_producer_unref(producer);
    kafka_lookup_finish(lookup);
}

static void fill_describe(struct kafka_lookup *lookup)
{
    struct stream_describe *describe = CONTAINER_OF(lookup->op, struct stream_describe, op);
    const struct stream_describe *found = &lookup->described;

    describe->found = found->found;
    describe->partitions = found->partitions;
    describe->retention = found->retention;
    describe->ack = found->ack;
    describe->max_message_bytes = found->max_message_bytes;
    describe->retention_text = found->retention_text;
}

void kafka_describe(struct backend *backend, struct stream_describe *describe)
{
    struct kafka_lookup *lookup;

    describe->found = false;
    describe->partitions = 0;
    describe->retention = RETENTION_UNKNOWN;
    describe->max_message_bytes = 0;
    describe->retention_text = NULL;
    lookup = kafka_lookup_new(backend, &describe->op, false);
    kafka_lookup_about(lookup, describe->topic, message_null());
    lookup->described.retention = RETENTION_UNKNOWN;
    lookup->fill = fill_describe;
    kafka_lookup_begin(lookup, run_describe);
}

/* ---- position ---- */

static void take_committed(const rd_kafka_topic_partition_list_t *list, struct kafka_plan *plan)
{
    for (int i = 0; i < list->cnt; i++) {
        if (list->elems[i].offset >= 0)
            plan->places[list->elems[i].partition].committed = list->elems[i].offset;
    }
}

/* What this process has settled may not be committed yet. */
static void take_known(const struct kafka_plan *known, struct kafka_plan *plan)
{
    for (size_t i = 0; known != NULL && i < known->n; i++) {
        const struct kafka_place *place = &known->places[i];

        if ((size_t)place->partition < plan->n && place->committed >= 0)
            plan->places[place->partition].committed = place->committed;
    }
}

/* In the partitions that this process reads on, behind what it was handed. */
static uint64_t count_next(const struct kafka_plan *known, const struct kafka_plan *plan)
{
    uint64_t next = 0;

    for (size_t i = 0; known != NULL && i < known->n; i++) {
        const struct kafka_place *place = &known->places[i];

        if (place->offset < 0 || (size_t)place->partition >= plan->n)
            continue;

        const struct kafka_place *now = &plan->places[place->partition];
        int64_t from = place->offset > now->low ? place->offset : now->low;

        next += now->high > from ? (uint64_t)(now->high - from) : 0;
    }
    return next;
}

static bool knows_all(const struct kafka_plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        if (plan->places[i].committed < 0)
            return false;
    }
    return true;
}

/* By a client of the group, which never joins it. The producer's could ask as well; but while the
 * group's coordinator moves, librdkafka 2.0 looks for the group that a producer has not, and the
 * process dies. */
static void ask_committed(const struct kafka_lookup *lookup, int wait_ms, struct kafka_plan *plan)
{
    rd_kafka_conf_t *conf = kafka_conf_consumer(lookup->store, lookup->group, ASKING_BYTES);
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
        rd_kafka_topic_partition_list_add(list, lookup->topic, (int32_t)i);
    if (rd_kafka_committed(rk, list, wait_ms) == RD_KAFKA_RESP_ERR_NO_ERROR)
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

static void fill_position(struct kafka_lookup *lookup)
{
    struct stream_position *position = CONTAINER_OF(lookup->op, struct stream_position, op);
    const struct kafka_plan *places = lookup->places;

    position->partitions =
        arena_array(op_arena(lookup->op), places->n, sizeof position->partitions[0]);
    position->n = places->n;
    position->next = count_next(lookup->known, places);
    for (size_t i = 0; i < places->n; i++)
        tell_place(position, &places->places[i], i);
}

static struct err look_up_position(struct kafka_lookup *lookup, rd_kafka_t *rk)
{
    struct kafka_plan *plan;
    struct err err;
    int n = kafka_partitions(rk, lookup->topic, lookup->patience, &err), wait_ms;

    if (n < 0)
        return err;
    plan = lookup->places = kafka_plan_new((size_t)n);
    err = kafka_watermarks(rk, lookup->topic, lookup->patience, plan);
    take_known(lookup->known, plan);
    wait_ms = kafka_patience_ms(lookup->patience);
    if (err.code == ERR_OK && lookup->group[0] != '\0' && wait_ms > 0 && !knows_all(plan)) {
        ask_committed(lookup, wait_ms, plan);
        take_known(lookup->known, plan);
    }
    return err;
}

static void run_position(struct kafka_task *task)
{
    struct kafka_lookup *lookup = lookup_of(task);
    struct kafka_producer *producer = kafka_producer_ref(lookup->store);

    lookup->err = kafka_unavailable();
    if (producer != NULL) {
        lookup->err = look_up_position(lookup, producer->rk);
        kafka_producer_unref(producer);
    }
    kafka_lookup_finish(lookup);
}

/* What comes next: what was taken from the library and not handed over, or else where that reads
 * on, past what is no message (ends of transactions). < 0: unknown. */
static int64_t reads_on_at(const struct kafka_listener *listener, const struct kafka_part *part)
{
    rd_kafka_topic_partition_list_t *list;
    int64_t at = part->end;

    for (unsigned i = part->taken_at; i < part->taken_n; i++) {
        if (part->taken[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            return part->taken[i]->offset;
    }
    list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, listener->topic, part->partition);
    if (rd_kafka_position(listener->rk, list) == RD_KAFKA_RESP_ERR_NO_ERROR &&
        list->elems[0].offset > at)
        at = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return at;
}

/* At the home of the group's listener, if this process has one: what is settled there may not be
 * committed yet. A partition that leaves, or waits for settlements, hands over nothing rightly. */
static void look_here(struct job *job)
{
    struct kafka_lookup *lookup = CONTAINER_OF(job, struct kafka_lookup, job);
    struct kafka_listener *listener =
        kafka_listener_here(lookup->store, lookup->topic, lookup->group);
    struct kafka_part *parts = listener != NULL ? listener->parts : NULL;
    size_t n = 0;

    for (const struct kafka_part *part = parts; part != NULL; part = part->next)
        n++;
    lookup->known = kafka_plan_new(n);
    for (const struct kafka_part *part = parts; part != NULL; part = part->next) {
        struct kafka_place *place = &lookup->known->places[--n];

        place->partition = part->partition;
        place->committed = part->position;
        place->offset =
            part->leaving || kafka_part_is_full(listener, part) ? -1 : reads_on_at(listener, part);
    }
    kafka_lookup_begin(lookup, run_position);
}

void kafka_position(struct backend *backend, struct stream_position *position)
{
    struct kafka_lookup *lookup;
    struct worker *home;

    position->found = false;
    position->partitions = NULL;
    position->n = 0;
    position->unsettled = position->parked = -1;
    position->next = 0;
    lookup = kafka_lookup_new(backend, &position->op, true);
    if (lookup == NULL)
        return;
    kafka_lookup_about(lookup, position->topic, position->group);
    lookup->fill = fill_position;
    home = kafka_listener_home(lookup->store, lookup->topic, lookup->group);
    lookup->job.run = look_here;
    if (home != NULL)
        worker_land(home, &lookup->job);
    else
        kafka_lookup_begin(lookup, run_position);
}
