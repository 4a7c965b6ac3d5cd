/* How a listener's consumer leaves its group, on the desk. Nothing here waits for a broker: what is
 * not there yet is looked for again. */
#include "backends/kafka/kafka_listener.h"
#include "src/base/clock.h"

#include <stdlib.h>

enum {
    LEAST_ANSWER_MS = 1000,
    ORPHAN_LOOK_MS = 20,
    CLOSE_LOOK_MS = 10,
    LEAVE_LOOK_MS = 100,
    LEAVE_MS = 3000,
};

static struct kafka_listener *listener_of(struct kafka_task *task)
{
    return CONTAINER_OF(task, struct kafka_listener, task);
}

/* The library waits for a coordinator that may be gone: its own call could wait for ever. */
static void begin_leaving(struct kafka_listener *listener)
{
    rd_kafka_error_t *error;

    listener->last = rd_kafka_queue_new(listener->rk);
    error = rd_kafka_consumer_close_queue(listener->rk, listener->last);
    if (error != NULL)
        rd_kafka_error_destroy(error);
}

/* Has the group been left? Lets go of what it takes back. */
static bool has_left(struct kafka_listener *listener, int wait_ms)
{
    rd_kafka_event_t *event;
    rd_kafka_error_t *error;

    while (!rd_kafka_consumer_closed(listener->rk)) {
        event = rd_kafka_queue_poll(listener->last, wait_ms);
        if (event == NULL)
            break;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE) {
            error = rd_kafka_incremental_unassign(listener->rk,
                                                  rd_kafka_event_topic_partition_list(event));
            if (error != NULL)
                rd_kafka_error_destroy(error);
        }
        rd_kafka_event_destroy(event);
    }
    return rd_kafka_consumer_closed(listener->rk) != 0;
}

static bool is_over(const struct kafka_listener *listener, uint64_t more_ms)
{
    return clock_now_ns() + more_ms * NS_PER_MS >= listener->close_ns;
}

static void give_until(struct kafka_listener *listener, uint64_t ms)
{
    listener->close_ns = clock_now_ns() + ms * NS_PER_MS;
}

/* What is settled is committed, or cannot be in time. Not while the group waits for members. */
static bool has_committed(struct kafka_listener *listener)
{
    rd_kafka_event_t *event = NULL;

    if (listener->commits == NULL)
        return true;
    if (listener->committing == NULL) {
        if (kafka_is_joining(listener->joining) && !is_over(listener, LEAST_ANSWER_MS))
            return false;
        listener->committing = rd_kafka_queue_new(listener->rk);
        if (rd_kafka_commit_queue(listener->rk, listener->commits, listener->committing, NULL,
                                  NULL) != RD_KAFKA_RESP_ERR_NO_ERROR)
            listener->close_ns = 0;
    }
    event = rd_kafka_queue_poll(listener->committing, CLOSE_LOOK_MS);
    if (event == NULL && !is_over(listener, 0))
        return false;
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(listener->committing);
    rd_kafka_topic_partition_list_destroy(listener->commits);
    listener->committing = NULL;
    listener->commits = NULL;
    return true;
}

static bool has_closed(struct kafka_listener *listener)
{
    if (!has_committed(listener))
        return false;
    if (!listener->subscribed)
        return true;
    if (listener->last == NULL) {
        begin_leaving(listener);
        give_until(listener, LEAVE_MS);
    }
    return has_left(listener, CLOSE_LOOK_MS) || is_over(listener, 0);
}

/* It holds no thread while it waits: when prismd stops, all subscriptions close at once, and
 * brokers that do not answer cost them the time of one. */
void kafka_run_close(struct kafka_task *task)
{
    struct kafka_listener *listener = listener_of(task);

    if (listener->rk != NULL && listener->close_ns == 0) {
        rd_kafka_queue_io_event_enable(listener->control, -1, NULL, 0);
        give_until(listener, KAFKA_ANSWER_MS);
    }
    if (listener->rk != NULL && !has_closed(listener)) {
        kafka_desk_put(&kafka_listener_store(listener)->desk, task, CLOSE_LOOK_MS);
        return;
    }
    kafka_deed_over(listener);
}

/* Plays the group's game until the first assignment has come, then leaves. */
static bool has_assignment(struct kafka_listener *listener)
{
    rd_kafka_event_t *event;
    rd_kafka_error_t *error = NULL;
    bool found = false;

    while (!found && (event = rd_kafka_queue_poll(listener->control, 0)) != NULL) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE) {
            found = true;
            error = rd_kafka_incremental_assign(listener->rk,
                                                rd_kafka_event_topic_partition_list(event));
        }
        if (error != NULL)
            rd_kafka_error_destroy(error);
        error = NULL;
        rd_kafka_event_destroy(event);
    }
    return found;
}

static void forget_queues(struct kafka_listener *listener)
{
    if (listener->last != NULL)
        rd_kafka_queue_destroy(listener->last);
    rd_kafka_queue_destroy(listener->control);
    listener->last = listener->control = NULL;
}

/* It can be closed neither now nor later: the library keeps it. */
static void give_up(struct kafka_listener *listener)
{
    counter_add_shared(&kafka_listener_store(listener)->leaked, 1);
    forget_queues(listener);
    listener->rk = NULL;
}

void kafka_run_orphan(struct kafka_task *task)
{
    struct kafka_listener *listener = listener_of(task);
    struct kafka_store *store = kafka_listener_store(listener);

    rd_kafka_queue_io_event_enable(listener->control, -1, NULL, 0);
    if (has_assignment(listener)) {
        begin_leaving(listener);
        listener->give_up_ns = clock_now_ns() + 300ull * NS_PER_S;
    } else if (clock_now_ns() < listener->give_up_ns && !kafka_store_is_stopping(store)) {
        kafka_desk_put(&store->desk, task, ORPHAN_LOOK_MS);
        return;
    } else {
        give_up(listener);
    }
    kafka_deed_over(listener);
}

/* One that cannot leave its group, because no broker answers, is tried until it can. */
void kafka_run_destroy(struct kafka_task *task)
{
    struct kafka_listener *listener = listener_of(task);
    struct kafka_store *store = kafka_listener_store(listener);

    if (listener->rk != NULL && listener->last != NULL && !has_left(listener, 0)) {
        if (clock_now_ns() < listener->give_up_ns && !kafka_store_is_stopping(store)) {
            kafka_desk_put(&store->desk, task, LEAVE_LOOK_MS);
            return;
        }
        give_up(listener);
    }
    if (listener->rk != NULL) {
        forget_queues(listener);
        rd_kafka_destroy_flags(listener->rk,
                               listener->subscribed ? RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE : 0);
        free(listener->joining);
    }
    kafka_deed_over(listener);
}
