/* Where reading begins. thread: desk. */
#include "backends/kafka/kafka_listener.h"

#include <stdlib.h>

struct kafka_plan *kafka_plan_new(size_t n)
{
    struct kafka_plan *plan = calloc(1, sizeof *plan + n * sizeof plan->places[0]);

    if (plan == NULL)
        abort();
    plan->n = n;
    for (size_t i = 0; i < n; i++) {
        plan->places[i].partition = (int32_t)i;
        plan->places[i].committed = -1;
    }
    return plan;
}

/* The partition is there: metadata have told. Who asks for it hears otherwise while it has no
 * leader. */
static struct err partition_err(rd_kafka_resp_err_t code)
{
    struct err err = kafka_request_err(code);

    if (err.code == ERR_NOT_FOUND)
        return err_make(ERR_UNAVAILABLE, "a partition of the topic has no leader at present");
    return err;
}

/* The offset at a time, or at an end of the log, of each place, in their order. The library has a
 * call for both ends of one partition; that of 2.0 waits for ever when its broker does not answer.
 */
static rd_kafka_resp_err_t offsets_at(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list,
                                      struct kafka_patience patience, int64_t at)
{
    int wait_ms = kafka_patience_ms(patience);
    rd_kafka_resp_err_t code;

    if (wait_ms == 0)
        return RD_KAFKA_RESP_ERR__TIMED_OUT;
    for (int i = 0; i < list->cnt; i++)
        list->elems[i].offset = at;
    code = rd_kafka_offsets_for_times(rk, list, wait_ms);
    for (int i = 0; i < list->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        code = list->elems[i].err;
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR && at < 0 && list->elems[i].offset < 0)
            code = RD_KAFKA_RESP_ERR__TIMED_OUT; /* an end is always somewhere */
    }
    return code;
}

static rd_kafka_topic_partition_list_t *list_of(const char *topic, const struct kafka_plan *plan)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)plan->n);

    for (size_t i = 0; i < plan->n; i++)
        rd_kafka_topic_partition_list_add(list, topic, plan->places[i].partition);
    return list;
}

struct err kafka_watermarks(rd_kafka_t *rk, const char *topic, struct kafka_patience patience,
                            struct kafka_plan *plan)
{
    rd_kafka_topic_partition_list_t *list = list_of(topic, plan);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

    if (plan->n > 0)
        code = offsets_at(rk, list, patience, RD_KAFKA_OFFSET_BEGINNING);
    for (size_t i = 0; i < plan->n && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        plan->places[i].low = list->elems[i].offset;
    if (plan->n > 0 && code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = offsets_at(rk, list, patience, RD_KAFKA_OFFSET_END);
    for (size_t i = 0; i < plan->n && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        plan->places[i].high = list->elems[i].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return partition_err(code);
}

static struct err at_time(rd_kafka_t *rk, const char *topic, struct kafka_patience patience,
                          struct kafka_plan *plan, int64_t at)
{
    rd_kafka_topic_partition_list_t *list = list_of(topic, plan);
    rd_kafka_resp_err_t code = offsets_at(rk, list, patience, at);

    for (size_t i = 0; i < plan->n && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        struct kafka_place *place = &plan->places[i];
        int64_t offset = list->elems[i].offset;

        place->offset = offset >= 0 ? offset : place->high; /* nothing is so new */
    }
    rd_kafka_topic_partition_list_destroy(list);
    return partition_err(code);
}

struct err kafka_seek_target(rd_kafka_t *rk, const char *topic, struct kafka_patience patience,
                             struct kafka_plan *plan, enum stream_start start, int64_t at)
{
    struct err err = kafka_watermarks(rk, topic, patience, plan);

    if (err.code != ERR_OK)
        return err;
    if (start == START_TIME)
        return at_time(rk, topic, patience, plan, at);
    for (size_t i = 0; i < plan->n; i++) {
        struct kafka_place *place = &plan->places[i];

        place->offset = start == START_EARLIEST ? place->low
                        : start == START_OFFSET ? at
                                                : place->high;
        if (place->offset < place->low || place->offset > place->high)
            return err_about(ERR_OUT_OF_RANGE, "offset",
                             "the partition's log does not reach so far");
    }
    return ERR_NONE;
}

struct err kafka_resolve_gap(struct kafka_listener *listener, struct kafka_place *place)
{
    place->gap = true;
    place->missing_from = place->offset;
    if (listener->on_gap == GAP_FAIL)
        return err_make(ERR_DATA_LOSS, "messages that the group has not read are no longer in the "
                                       "log, and its policy for gaps is to fail");
    place->offset = listener->on_gap == GAP_LATEST ? place->high : place->low;
    place->save = true;
    return ERR_NONE;
}

/* ---- of a listener ---- */

static struct err look_up_committed(struct kafka_listener *listener, struct kafka_plan *plan)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)plan->n);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    int wait_ms = kafka_patience_ms(kafka_listener_patience(listener));

    for (size_t i = 0; i < plan->n; i++)
        rd_kafka_topic_partition_list_add(list, listener->topic, plan->places[i].partition);
    if (wait_ms > 0)
        code = rd_kafka_committed(listener->rk, list, wait_ms);
    for (size_t i = 0; i < plan->n && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        code = list->elems[i].err;
        plan->places[i].committed = list->elems[i].offset >= 0 ? list->elems[i].offset : -1;
    }
    rd_kafka_topic_partition_list_destroy(list);
    return partition_err(code);
}

/* Does the subscription's own start count for this partition? */
static bool is_meant(const struct kafka_listener *listener, const struct kafka_place *place)
{
    if (!listener->first || listener->start == START_COMMITTED)
        return false;
    return listener->start != START_OFFSET || listener->start_partition < 0 ||
           listener->start_partition == place->partition;
}

static struct err resolve_place(struct kafka_listener *listener, struct kafka_place *place)
{
    enum stream_start start = is_meant(listener, place) ? listener->start : START_COMMITTED;

    if (start == START_COMMITTED && place->committed < 0) {
        start = listener->if_none;
        place->save = true; /* or the group's lag is not known, and a restart of one that begins
                             * with the newest would miss what comes meanwhile */
    }
    if (start == START_COMMITTED)
        place->offset = place->committed;
    else if (start == START_OFFSET)
        place->offset = listener->start_at;
    else if (start == START_LATEST)
        place->offset = place->high;
    else if (start == START_EARLIEST)
        place->offset = place->low;
    if (place->offset < place->low || place->offset > place->high)
        return kafka_resolve_gap(listener, place);
    return ERR_NONE;
}

struct err kafka_resolve(struct kafka_listener *listener)
{
    struct kafka_plan *plan = listener->plan;
    struct kafka_patience patience = kafka_listener_patience(listener);
    struct err err = kafka_watermarks(listener->rk, listener->topic, patience, plan);

    if (err.code == ERR_OK && listener->group[0] != '\0')
        err = look_up_committed(listener, plan);
    if (err.code == ERR_OK && listener->first && listener->start == START_TIME)
        err = at_time(listener->rk, listener->topic, patience, plan, listener->start_at);
    for (size_t i = 0; i < plan->n && err.code == ERR_OK; i++)
        err = resolve_place(listener, &plan->places[i]);
    return err;
}
