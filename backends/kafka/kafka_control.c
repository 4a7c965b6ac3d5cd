/* The group's events: partitions come and go, places move. thread: home. */
#include "backends/kafka/kafka_listener.h"
#include "pool/worker.h"

#include <stdlib.h>

enum { AGAIN_MS = 100, AGAIN_MOST_MS = 5000 };

static struct kafka_listener *listener_of(struct job *job)
{
    return CONTAINER_OF(job, struct kafka_listener, landed);
}

void kafka_control_forget(struct kafka_listener *listener)
{
    for (size_t i = 0; listener->plan != NULL && i < listener->plan->n; i++) {
        struct kafka_place *place = &listener->plan->places[i];

        if (place->queue == NULL || kafka_part_find(listener, place->partition) != NULL)
            continue;
        rd_kafka_queue_io_event_enable(place->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(place->queue);
    }
    free(listener->plan);
    listener->plan = NULL;
    if (listener->list != NULL)
        rd_kafka_topic_partition_list_destroy(listener->list);
    listener->list = NULL;
    if (listener->event != NULL)
        rd_kafka_event_destroy(listener->event);
    listener->event = NULL;
    listener->waited = false;
}

/* ---- what was assigned ---- */

static void tell_gap(struct kafka_listener *listener, const struct kafka_place *place)
{
    struct subscription_gap gap = {.partition = place->partition,
                                   .missing_from = place->missing_from,
                                   .goes_on_at = place->offset,
                                   .text = "messages were removed before the group had read them"};

    if (place->offset > place->missing_from)
        gap.count = (uint64_t)(place->offset - place->missing_from);
    counter_add_shared(&kafka_listener_store(listener)->gaps, 1);
    subscription_gap(listener->subscription, &gap);
}

static void tell_moved(struct kafka_listener *listener, enum move_kind kind,
                       enum move_reason reason, const int32_t *partitions, size_t n)
{
    const struct subscription_move move = {
        .kind = kind,
        .reason = reason,
        .until_ns = listener->instance->base.home->now_ns +
                    kafka_listener_store(listener)->config.revoke_wait_ms * NS_PER_MS,
        .partitions = partitions,
        .n_partitions = n};

    if (n > 0)
        subscription_moved(listener->subscription, &move);
}

static int32_t *numbers_of_plan(const struct kafka_plan *plan)
{
    int32_t *numbers = calloc(plan->n + 1, sizeof numbers[0]);

    if (numbers == NULL)
        abort();
    for (size_t i = 0; i < plan->n; i++)
        numbers[i] = plan->places[i].partition;
    return numbers;
}

/* A partition that is there already is read anew, from the place. */
static void adopt_place(struct kafka_listener *listener, const struct kafka_place *place)
{
    struct kafka_part *part = kafka_part_find(listener, place->partition);

    if (part == NULL) {
        part = kafka_part_new(listener, place);
    } else {
        part->reset = part->leaving = false;
        part->tries = 0;
        part->end = place->offset;
        if (place->save && kafka_part_unsettled(part) == 0)
            part->position = place->offset;
    }
    if (place->gap)
        tell_gap(listener, place);
    if (place->save)
        kafka_commit_soon(listener);
}

void kafka_control_adopt(struct kafka_listener *listener)
{
    int32_t *numbers;

    listener->assigned = true;
    if (listener->plan != NULL && listener->plan->n > 0)
        listener->first = false;
    if (listener->subscription->state == SUB_OPENING)
        subscription_opened(listener->subscription);
    if (listener->plan == NULL || listener->subscription->state != SUB_RUNNING)
        return;
    numbers = numbers_of_plan(listener->plan);
    tell_moved(listener, MOVE_GAINED, MOVED_BY_GROUP, numbers, listener->plan->n);
    for (size_t i = 0; i < listener->plan->n; i++)
        adopt_place(listener, &listener->plan->places[i]);
    free(numbers);
}

/* ---- rebalances ---- */

static void after_assign(struct job *job)
{
    struct kafka_listener *listener = listener_of(job);
    struct err err = listener->err;

    listener->busy = false;
    listener->assigned = true;
    if (err.code == ERR_OK && !listener->closing) {
        kafka_control_adopt(listener);
    }
    kafka_control_forget(listener);
    if (err.code != ERR_OK && !listener->closing)
        kafka_listener_end(listener, err);
    kafka_listener_wake(listener);
}

static void begin_assign(struct kafka_listener *listener,
                         const rd_kafka_topic_partition_list_t *list)
{
    listener->plan = kafka_plan_new((size_t)list->cnt);
    for (int i = 0; i < list->cnt; i++)
        listener->plan->places[i].partition = list->elems[i].partition;
    kafka_listener_do(listener, kafka_run_assign, after_assign, 0);
}

static void after_revoke(struct job *job)
{
    struct kafka_listener *listener = listener_of(job);
    rd_kafka_topic_partition_list_t *list = listener->list;
    int32_t *numbers = calloc((size_t)list->cnt + 1, sizeof numbers[0]);
    size_t n = 0;

    if (numbers == NULL)
        abort();
    listener->busy = false;
    for (int i = 0; i < list->cnt; i++) {
        struct kafka_part *part = kafka_part_find(listener, list->elems[i].partition);

        if (part == NULL)
            continue;
        numbers[n++] = part->partition;
        kafka_part_free(listener, part);
    }
    if (listener->subscription->state == SUB_RUNNING)
        tell_moved(listener, MOVE_LOST, MOVED_BY_GROUP, numbers, n);
    free(numbers);
    kafka_control_forget(listener);
    kafka_listener_wake(listener);
}

static bool has_unsettled(struct kafka_listener *listener,
                          const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        struct kafka_part *part = kafka_part_find(listener, list->elems[i].partition);

        if (part != NULL && kafka_part_unsettled(part) > 0)
            return true;
    }
    return false;
}

static void on_revoke_timer(struct timer *timer)
{
    kafka_listener_wake(CONTAINER_OF(timer, struct kafka_listener, revoke_timer));
}

/* Nothing more is taken from them; what is out may still be settled. */
static void announce(struct kafka_listener *listener, const rd_kafka_topic_partition_list_t *list)
{
    struct worker *home = listener->instance->base.home;
    uint64_t wait_ms = kafka_listener_store(listener)->config.revoke_wait_ms;
    int32_t *numbers = calloc((size_t)list->cnt + 1, sizeof numbers[0]);
    size_t n = 0;

    if (numbers == NULL)
        abort();
    for (int i = 0; i < list->cnt; i++) {
        struct kafka_part *part = kafka_part_find(listener, list->elems[i].partition);

        if (part == NULL)
            continue;
        part->leaving = true;
        numbers[n++] = part->partition;
    }
    listener->waited = true;
    timer_arm(&home->timers, &listener->revoke_timer, home->now_ns + wait_ms * NS_PER_MS,
              on_revoke_timer);
    if (listener->subscription->state == SUB_RUNNING)
        tell_moved(listener, MOVE_LEAVING, MOVED_BY_GROUP, numbers, n);
    free(numbers);
}

/* False: settlements are waited for. */
static bool revoke(struct kafka_listener *listener, const rd_kafka_topic_partition_list_t *list)
{
    bool lost = rd_kafka_assignment_lost(listener->rk) != 0;

    if (!lost && !listener->waited && has_unsettled(listener, list))
        announce(listener, list);
    if (!lost && listener->waited && timer_armed(&listener->revoke_timer) &&
        has_unsettled(listener, list))
        return false;
    timer_disarm(&listener->instance->base.home->timers, &listener->revoke_timer);
    listener->list = rd_kafka_topic_partition_list_copy(list);
    listener->commits = lost ? NULL : kafka_commits(listener, list, true);
    for (int i = 0; i < list->cnt; i++) {
        struct kafka_part *part = kafka_part_find(listener, list->elems[i].partition);

        if (part != NULL)
            part->leaving = true;
    }
    kafka_listener_do(listener, kafka_run_revoke, after_revoke, 0);
    return true;
}

static void begin_rebalance(struct kafka_listener *listener)
{
    const rd_kafka_topic_partition_list_t *list =
        rd_kafka_event_topic_partition_list(listener->event);

    if (rd_kafka_event_error(listener->event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        begin_assign(listener, list);
    else
        revoke(listener, list);
}

/* ---- events ---- */

static void take_event(struct kafka_listener *listener, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);

    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_REBALANCE:
        counter_add_shared(&kafka_listener_store(listener)->rebalances, 1);
        listener->event = event;
        return;
    case RD_KAFKA_EVENT_ERROR:
        if (kafka_is_hopeless(code))
            kafka_listener_end(listener, kafka_request_err(code));
        else if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
            kafka_store_down(kafka_listener_store(listener), "no broker of Kafka can be reached");
        else
            subscription_delayed(listener->subscription, rd_kafka_err2str(code));
        break;
    case RD_KAFKA_EVENT_OFFSET_COMMIT:
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR__NO_OFFSET)
            break;
        for (struct kafka_part *part = listener->parts; part != NULL; part = part->next)
            part->saved = -1; /* again */
        kafka_commit_soon(listener);
        break;
    default:
        break;
    }
    rd_kafka_event_destroy(event);
}

bool kafka_control_step(struct kafka_listener *listener)
{
    rd_kafka_event_t *event;

    while (listener->event == NULL && !listener->closing &&
           (event = rd_kafka_queue_poll(listener->control, 0)) != NULL)
        take_event(listener, event);
    if (listener->event == NULL || listener->closing)
        return false;
    begin_rebalance(listener);
    return true;
}

/* ---- places that move ---- */

/* Its place is looked for again, later each time. */
static void look_later(struct kafka_listener *listener, struct kafka_part *part)
{
    uint64_t ms = part->tries < 6 ? (uint64_t)AGAIN_MS << part->tries : AGAIN_MOST_MS;

    part->reset = true;
    part->tries++;
    part->again_ns = listener->instance->base.home->now_ns +
                     (ms < AGAIN_MOST_MS ? ms : AGAIN_MOST_MS) * NS_PER_MS;
}

static void on_again_timer(struct timer *timer)
{
    kafka_listener_wake(CONTAINER_OF(timer, struct kafka_listener, again_timer));
}

static void after_reset(struct job *job)
{
    struct kafka_listener *listener = listener_of(job);
    struct kafka_part *part = kafka_part_find(listener, listener->plan->places[0].partition);
    struct err err = listener->err;

    listener->busy = false;
    if (!listener->closing && part != NULL && err.code == ERR_OK)
        adopt_place(listener, &listener->plan->places[0]);
    else if (part != NULL)
        look_later(listener, part);
    kafka_control_forget(listener);
    if (!listener->closing && err.code != ERR_OK && err.code != ERR_UNAVAILABLE)
        kafka_listener_end(listener, err);
    kafka_listener_wake(listener);
}

static void begin_reset(struct kafka_listener *listener, struct kafka_part *part)
{
    listener->plan = kafka_plan_new(1);
    listener->plan->places[0].partition = part->partition;
    listener->plan->places[0].offset = part->end;
    listener->plan->places[0].queue = part->queue;
    kafka_listener_do(listener, kafka_run_reset, after_reset, 0);
}

static void after_seek(struct job *job)
{
    struct kafka_listener *listener = listener_of(job);
    struct kafka_seeking *seeking = listener->seeks;
    int32_t *numbers = numbers_of_plan(listener->plan);

    listener->busy = false;
    listener->seeks = seeking->next;
    if (listener->subscription->state == SUB_RUNNING)
        tell_moved(listener, MOVE_LOST, MOVED_BY_SEEK, numbers, listener->plan->n);
    free(numbers);
    for (size_t i = 0; i < listener->plan->n; i++) {
        const struct kafka_place *place = &listener->plan->places[i];
        struct kafka_part *part = kafka_part_find(listener, place->partition);

        part->leaving = part->reset = false;
        part->position = part->saved = part->end = place->offset;
        if (listener->unread)
            look_later(listener, part);
    }
    kafka_seek_finish(seeking, listener->err);
    kafka_control_forget(listener);
    kafka_listener_wake(listener);
}

static void after_seek_look(struct job *job)
{
    struct kafka_listener *listener = listener_of(job);

    listener->busy = false;
    if (listener->err.code != ERR_OK || listener->closing) {
        struct kafka_seeking *seeking = listener->seeks;

        listener->seeks = seeking->next;
        kafka_seek_finish(seeking,
                          listener->err.code != ERR_OK ? listener->err : kafka_unavailable());
        kafka_control_forget(listener);
        kafka_listener_wake(listener);
        return;
    }
    for (size_t i = 0; i < listener->plan->n; i++) {
        struct kafka_part *part = kafka_part_find(listener, listener->plan->places[i].partition);

        part->leaving = true;
        kafka_part_void(listener, part);
    }
    kafka_listener_do(listener, kafka_run_seek, after_seek, 0);
}

static void begin_seek(struct kafka_listener *listener)
{
    const struct stream_seek *seek = listener->seeks->seek;
    size_t n = 0;

    for (struct kafka_part *part = listener->parts; part != NULL; part = part->next)
        n += seek->partition < 0 || seek->partition == part->partition;
    listener->plan = kafka_plan_new(n);
    n = 0;
    for (struct kafka_part *part = listener->parts; part != NULL; part = part->next) {
        if (seek->partition >= 0 && seek->partition != part->partition)
            continue;
        listener->plan->places[n].partition = part->partition;
        listener->plan->places[n++].queue = part->queue;
    }
    kafka_listener_do(listener, kafka_run_seek_look, after_seek_look, 0);
}

bool kafka_control_places(struct kafka_listener *listener)
{
    struct worker *home = listener->instance->base.home;
    uint64_t again_ns = UINT64_MAX;

    if (listener->seeks != NULL && listener->assigned) {
        begin_seek(listener);
        return true;
    }
    for (struct kafka_part *part = listener->parts; part != NULL; part = part->next) {
        if (!part->reset || part->leaving)
            continue;
        if (part->again_ns <= home->now_ns) {
            begin_reset(listener, part);
            return true;
        }
        if (part->again_ns < again_ns)
            again_ns = part->again_ns;
    }
    if (again_ns != UINT64_MAX)
        timer_arm(&home->timers, &listener->again_timer, again_ns, on_again_timer);
    return false;
}

void kafka_seek_here(struct kafka_listener *listener, struct kafka_seeking *seeking)
{
    struct kafka_seeking **at = &listener->seeks;

    while (*at != NULL)
        at = &(*at)->next;
    seeking->next = NULL;
    *at = seeking;
    kafka_listener_wake(listener);
}
