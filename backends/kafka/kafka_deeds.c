/* What the desk does for a listener: calls that may block. */
#include "backends/kafka/kafka_listener.h"
#include "pool/worker.h"

#include <stdlib.h>

enum { TRIES = 5, LEAST_ANSWER_MS = 1000 };

static struct kafka_listener *listener_of(struct kafka_task *task)
{
    return CONTAINER_OF(task, struct kafka_listener, task);
}

void kafka_deed_over(struct kafka_listener *listener)
{
    worker_land(listener->instance->base.home, &listener->landed);
}

/* ---- assignment ---- */

/* A queue of its own for each partition, before the library puts anything into it. */
static void own_queue(struct kafka_listener *listener, struct kafka_place *place)
{
    const uint64_t one = 1;

    if (place->queue == NULL)
        place->queue =
            rd_kafka_queue_get_partition(listener->rk, listener->topic, place->partition);
    rd_kafka_queue_forward(place->queue, NULL);
    rd_kafka_queue_io_event_enable(place->queue, listener->fd, &one, sizeof one);
}

static struct err told(rd_kafka_error_t *error)
{
    struct err err = ERR_NONE;

    if (error == NULL)
        return err;
    err = kafka_request_err(rd_kafka_error_code(error));
    rd_kafka_error_destroy(error);
    return err;
}

static rd_kafka_topic_partition_list_t *list_of(const struct kafka_listener *listener)
{
    const struct kafka_plan *plan = listener->plan;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)plan->n);

    for (size_t i = 0; i < plan->n; i++)
        rd_kafka_topic_partition_list_add(list, listener->topic, plan->places[i].partition)
            ->offset = plan->places[i].offset;
    return list;
}

static struct err assign(struct kafka_listener *listener)
{
    rd_kafka_topic_partition_list_t *list = list_of(listener);
    struct err err;

    for (size_t i = 0; i < listener->plan->n; i++)
        own_queue(listener, &listener->plan->places[i]);
    err = told(rd_kafka_incremental_assign(listener->rk, list));
    rd_kafka_topic_partition_list_destroy(list);
    return err;
}

static bool is_final(struct err err)
{
    return err.code == ERR_OK || err.code == ERR_DATA_LOSS || err.code == ERR_NOT_FOUND ||
           err.code == ERR_PERMISSION_DENIED;
}

/* The group waits for this answer. Where brokers give none, the library is left to look the
 * positions up by itself, as soon as it can. */
void kafka_run_assign(struct kafka_task *task)
{
    struct kafka_listener *listener = listener_of(task);
    struct err err = kafka_resolve(listener);

    for (unsigned i = 1; i < TRIES && !is_final(err) && !atomic_load(&listener->abandoned); i++)
        err = kafka_resolve(listener);
    for (size_t i = 0; i < listener->plan->n && !is_final(err); i++)
        listener->plan->places[i].offset = RD_KAFKA_OFFSET_STORED;
    listener->err = is_final(err) ? err : ERR_NONE;
    if (listener->err.code == ERR_OK)
        listener->err = assign(listener);
    kafka_deed_over(listener);
}

/* ---- commits that must have happened ---- */

/* In bounded time: the library's own call waits for ever. What is waited for before the question is
 * not waited for behind it. */
static struct err commit_now(struct kafka_listener *listener)
{
    int left = KAFKA_ANSWER_MS;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    rd_kafka_queue_t *answer;
    rd_kafka_event_t *event = NULL;

    if (listener->commits == NULL)
        return ERR_NONE;
    answer = rd_kafka_queue_new(listener->rk);
    for (; left > LEAST_ANSWER_MS && kafka_is_joining(listener->joining); left -= 20)
        rd_kafka_queue_poll(answer, 20); /* nothing comes: it waits */
    if (rd_kafka_commit_queue(listener->rk, listener->commits, answer, NULL, NULL) ==
        RD_KAFKA_RESP_ERR_NO_ERROR)
        event = rd_kafka_queue_poll(answer, left);
    if (event != NULL) {
        code = rd_kafka_event_error(event);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(answer);
    rd_kafka_topic_partition_list_destroy(listener->commits);
    listener->commits = NULL;
    return kafka_request_err(code);
}

void kafka_run_revoke(struct kafka_task *task)
{
    struct kafka_listener *listener = listener_of(task);

    commit_now(listener);
    listener->err = told(rd_kafka_incremental_unassign(listener->rk, listener->list));
    kafka_deed_over(listener);
}

/* ---- places ---- */

static void unassign(struct kafka_listener *listener)
{
    rd_kafka_topic_partition_list_t *list = list_of(listener);

    listener->err = told(rd_kafka_incremental_unassign(listener->rk, list));
    rd_kafka_topic_partition_list_destroy(list);
}

/* The place of a partition has gone: where does it go on? */
void kafka_run_reset(struct kafka_task *task)
{
    struct kafka_listener *listener = listener_of(task);
    struct kafka_place *place = &listener->plan->places[0];

    counter_add_shared(&kafka_listener_store(listener)->resets, 1);
    listener->err = kafka_watermarks(listener->rk, listener->topic,
                                     kafka_listener_patience(listener), listener->plan);
    if (listener->err.code == ERR_OK && place->offset < 0)
        listener->err = kafka_resolve(listener); /* it had none */
    else if (listener->err.code == ERR_OK &&
             (place->offset < place->low || place->offset > place->high))
        listener->err = kafka_resolve_gap(listener, place);
    if (listener->err.code == ERR_OK) {
        unassign(listener);
        listener->err = assign(listener);
    }
    kafka_deed_over(listener);
}

void kafka_run_seek_look(struct kafka_task *task)
{
    struct kafka_listener *listener = listener_of(task);
    const struct stream_seek *seek = listener->seeks->seek;
    struct kafka_patience patience = kafka_listener_patience(listener);
    struct err err;
    int n = kafka_partitions(listener->rk, listener->topic, patience, &err);

    if (n < 0)
        listener->err = err;
    else if (seek->partition >= n)
        listener->err = err_about(ERR_INVALID_ARGUMENT, "partition", "there is no such partition");
    else if (listener->plan->n == 0 || (seek->partition < 0 && listener->plan->n < (size_t)n))
        listener->err = kafka_request_err(RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP);
    else
        listener->err = kafka_seek_target(listener->rk, listener->topic, patience, listener->plan,
                                          seek->start, seek->at);
    kafka_deed_over(listener);
}

/* The group stands there once that is committed. A library that does not read from there at once is
 * asked again. */
void kafka_run_seek(struct kafka_task *task)
{
    struct kafka_listener *listener = listener_of(task);
    struct err committed;

    unassign(listener);
    listener->commits = list_of(listener);
    committed = commit_now(listener);
    listener->unread = assign(listener).code != ERR_OK;
    listener->err = committed.code != ERR_OK ? err_lost(committed) : ERR_NONE;
    kafka_deed_over(listener);
}

/* ---- open ---- */

static struct err make_consumer(struct kafka_listener *listener, int partitions)
{
    struct kafka_store *store = kafka_listener_store(listener);
    const char *group = listener->group[0] != '\0' ? listener->group : "prism-without-group";
    const uint64_t one = 1;
    rd_kafka_conf_t *conf;
    char why[256];

    listener->share_bytes = kafka_share_bytes(listener->fetched_bytes, partitions);
    conf = kafka_conf_consumer(store, group, listener->share_bytes);
    if (conf == NULL)
        return kafka_unavailable();
    listener->joining = kafka_joining_watch(conf);
    listener->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (listener->rk == NULL) {
        free(listener->joining);
        listener->joining = NULL;
        rd_kafka_conf_destroy(conf);
        return kafka_unavailable();
    }
    rd_kafka_poll_set_consumer(listener->rk);
    listener->control = rd_kafka_queue_get_consumer(listener->rk);
    rd_kafka_queue_io_event_enable(listener->control, listener->fd, &one, sizeof one);
    return ERR_NONE;
}

static struct err subscribe(struct kafka_listener *listener)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    struct err err;

    rd_kafka_topic_partition_list_add(list, listener->topic, RD_KAFKA_PARTITION_UA);
    err = kafka_request_err(rd_kafka_subscribe(listener->rk, list));
    rd_kafka_topic_partition_list_destroy(list);
    listener->subscribed = err.code == ERR_OK;
    return err;
}

/* How many partitions has it? Asked by a handle that is there: one that would not be used costs
 * four threads. */
static int look_up(struct kafka_listener *listener, struct err *err)
{
    struct kafka_producer *producer = kafka_producer_ref(kafka_listener_store(listener));
    int n;

    if (producer == NULL) {
        *err = kafka_unavailable();
        return -1;
    }
    n = kafka_partitions(producer->rk, listener->topic, kafka_listener_patience(listener), err);
    kafka_producer_unref(producer);
    return n;
}

/* Subscribing to a topic that does not exist makes the library fail badly: it is looked up first.
 */
void kafka_run_open(struct kafka_task *task)
{
    struct kafka_listener *listener = listener_of(task);
    struct err err = ERR_NONE;
    int n = 0;

    listener->first = true;
    if (!atomic_load(&listener->abandoned) && listener->rk == NULL) {
        n = look_up(listener, &err);
        if (n >= 0 && !atomic_load(&listener->abandoned))
            err = make_consumer(listener, n);
    }
    if (!atomic_load(&listener->abandoned) && err.code == ERR_OK)
        n = kafka_partitions(listener->rk, listener->topic, kafka_listener_patience(listener),
                             &err);
    if (atomic_load(&listener->abandoned) || err.code != ERR_OK) {
        listener->err = err;
    } else if (listener->group[0] != '\0') {
        listener->err = subscribe(listener);
    } else {
        listener->plan = kafka_plan_new((size_t)n);
        listener->err = kafka_resolve(listener);
        if (listener->err.code == ERR_OK)
            listener->err = assign(listener);
    }
    kafka_deed_over(listener);
}
