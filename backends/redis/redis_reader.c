/* A subscription: one job tells what has happened and decides what comes next; of the calls that
 * decide one is under way at a time.
 *
 *             enter          fetch: XREADGROUP, until there is no more
 *   (open) ----------> READY ----------> ..  ------> waits (redis_wait.c), and is woken
 *                       ^ |  claim: XAUTOCLAIM, when somebody has given back, and now and then
 *                       |_|  every second of fetching, and after each connection: enter again
 *
 * Who wants the oldest first looks for what the dead have left before it takes anything
 * (redis_oldest.c).
 *
 * close: what is under way comes first; then all is given back, the name goes, closed() is told. */
#include "backends/redis/redis_stream.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHECK_MS = 1000, FIRST_MOST = 8 };

/* ---- what is due ---- */

static void on_timer(struct timer *timer)
{
    redis_reader_wake(CONTAINER_OF(timer, struct redis_reader, timer));
}

static void set_timer(struct redis_reader *reader)
{
    struct worker *home = reader->subscription->home;
    uint64_t due = redis_earlier(reader->tend_ns, reader->claim_ns);

    due = redis_earlier(due, reader->again_ns);
    if (reader->order != NULL)
        due = redis_earlier(due, reader->order->lock_ns);
    if (due == 0)
        timer_disarm(&home->timers, &reader->timer);
    else
        timer_arm(&home->timers, &reader->timer, due, on_timer);
}

/* ---- what comes next ---- */

static void take_more(struct redis_reader *reader)
{
    uint64_t now = redis_reader_now(reader);

    if (reader->fetched != NULL) { /* no credit, or it is handed over in its turns */
        if (subscription_may_take(reader->subscription))
            redis_reader_wake(reader);
        return;
    }
    if (reader->claim_ns <= now && reader->order == NULL)
        reader->want_claim = true;
    if (!subscription_may_take(reader->subscription))
        return;
    if (reader->recovers)
        redis_recover(reader);
    else if (reader->oldest_first)
        redis_oldest(reader);
    else if (reader->order != NULL && redis_order_first(reader))
        return;
    else if (reader->want_claim)
        redis_claim(reader);
    else if (!reader->want_fetch)
        redis_wait_for(reader);
    else if (!reader->queue && reader->check_ns + CHECK_MS * NS_PER_MS <= now)
        redis_enter(reader);
    else
        redis_fetch(reader);
}

static void leave(struct redis_reader *reader)
{
    if (reader->busy || reader->calls > 0)
        return;
    if (reader->fetched != NULL)
        redis_fetched_drop(reader->fetched);
    reader->fetched = NULL;
    if (!reader->leaving) {
        reader->leaving = true;
        if (redis_reader_at(reader)->phase == REDIS_READY && reader->entered_once) {
            redis_reader_leave(reader);
            return;
        }
    }
    reader->ended = true;
    redis_reader_wake(reader);
}

/* The cluster has given its topic to another node. */
static void follow(struct redis_reader *reader)
{
    bool first = reader->was == NULL;

    reader->was = redis_reader_at(reader);
    if (!first)
        redis_reader_connected(reader);
}

static void go_on(struct redis_reader *reader)
{
    uint64_t now = redis_reader_now(reader);

    if (reader->closing) {
        leave(reader);
        return;
    }
    if (redis_reader_at(reader)->phase != REDIS_READY)
        return; /* on_ready wakes it */
    if (reader->was != redis_reader_at(reader) && !reader->busy)
        follow(reader);
    if (reader->void_tickets) /* before anything is taken anew */
        redis_ticket_void_all(reader);
    if (reader->entered_once && reader->tend_ns != 0 && reader->tend_ns <= now)
        redis_tend(reader);
    if (reader->order != NULL)
        redis_order_renew(reader);
    if (reader->again_ns <= now)
        reader->again_ns = 0;
    if (!reader->busy && reader->again_ns == 0 && !reader->entered)
        redis_enter(reader);
    else if (!reader->busy && reader->again_ns == 0)
        take_more(reader);
    if (reader->order != NULL && reader->order->lock_ns <= now)
        reader->order->lock_ns = 0; /* as soon as there is credit for it */
    if (reader->claim_ns <= now)    /* without credit nothing can be claimed */
        reader->claim_ns =
            now + redis_store_of(&reader->streams->shared)->claim_idle_ms * NS_PER_MS / 2;
    set_timer(reader);
}

/* ---- the end ---- */

static void end(struct redis_reader *reader)
{
    struct subscription *subscription = reader->subscription;
    timer_disarm(&subscription->home->timers, &reader->timer);
    *reader->at = reader->next;
    if (reader->next != NULL)
        reader->next->at = reader->at;
    redis_wait_leave(reader);
    if (subscription->state == SUB_CLOSING)
        reader->err = ERR_NONE; /* it was asked for */
    else
        subscription_closing(subscription);
    subscription_closed(subscription, reader->err);
    redis_holds_clear(&reader->holds);
    redis_order_clear(reader);
    arena_clear(&reader->texts);
    free(reader->lost.tokens);
    free(reader->settled.tokens);
    free(reader->doubted.tokens);
    free(reader->names);
    free(reader);
}

static void run(struct job *job)
{
    struct redis_reader *reader = CONTAINER_OF(job, struct redis_reader, job);

    reader->landed = false;
    if (reader->ended) {
        end(reader);
        return;
    }
    redis_reader_tell(reader);
    go_on(reader);
}

void redis_reader_connected(struct redis_reader *reader)
{
    reader->entered = reader->waiting = false;
    reader->want_fetch = reader->want_claim = true;
    reader->recovers = reader->entered_once;
    reader->claim_at = reader->recover_at = reader->oldest_at = (struct redis_id){0};
    reader->again_ns = 0;
    if (reader->order != NULL) {
        reader->order->lock_ns = 0;
        reader->order->want_again = true;
    }
    redis_reader_speak(reader);
    redis_reader_wake(reader);
}

/* ---- methods ---- */

/* key, group and consumer in one block. A name is used once, and goes with its subscription. */
static void name_all(struct redis_reader *reader)
{
    const struct subscription_want *want = &reader->subscription->want;
    struct redis_streams *streams = reader->streams;
    unsigned long long number = ++streams->names_made;
    char group[64], consumer[64], *at;

    reader->alone = !reader->queue && message_is_null(want->group);
    snprintf(group, sizeof group, "prism:alone:%s:%llu", streams->origin, number);
    snprintf(consumer, sizeof consumer, "prism::%s:%llu", streams->origin, number);
    reader->key.len = want->topic.len;
    reader->group = reader->queue   ? slice_str(REDIS_QUEUE_GROUP)
                    : reader->alone ? slice_str(group)
                                    : want->group;
    reader->consumer.len = strlen(consumer);
    at = reader->names = malloc(reader->key.len + reader->group.len + reader->consumer.len + 1);
    if (at == NULL)
        abort();
    reader->key.data = memcpy(at, want->topic.data, want->topic.len);
    at += reader->key.len;
    reader->group.data = memcpy(at, reader->group.data, reader->group.len);
    at += reader->group.len;
    reader->consumer.data = (uint8_t *)at;
    stpcpy(at, consumer);
}

static void enlist(struct redis_reader *reader)
{
    struct redis_streams *streams = reader->streams;

    reader->next = streams->readers;
    reader->at = &streams->readers;
    if (reader->next != NULL)
        reader->next->at = &reader->next;
    streams->readers = reader;
}

void redis_reader_open(struct backend *backend, struct subscription *subscription, bool queue)
{
    struct redis_streams *streams = redis_streams_of(backend);
    struct redis_reader *reader = calloc(1, sizeof *reader);

    if (reader == NULL)
        abort();
    counter_add(&backend->stats.calls, 1);
    *reader = (struct redis_reader){.streams = streams,
                                    .subscription = subscription,
                                    .queue = queue,
                                    .oldest_first = queue && subscription->want.oldest_first,
                                    .job.run = run,
                                    .want_fetch = true,
                                    .want_claim = true,
                                    .most = FIRST_MOST};
    arena_init(&reader->texts, NULL);
    name_all(reader);
    reader->slot = redis_slot(slice_of(NULL, 0), reader->key);
    reader->notes = redis_stream_key(streams, &reader->texts, "wake", reader->key);
    if (queue && redis_store_of(&streams->shared)->queue_bytes > 0)
        reader->sizes = redis_stream_key(streams, &reader->texts, REDIS_QUEUE_SIZES, reader->key);
    if (subscription->want.ordered && !queue)
        redis_order_init(reader);
    enlist(reader);
    subscription_opening(subscription, reader);
    redis_wait_join(reader);
    reader->err = redis_stream_check_name(&streams->shared, subscription->want.topic);
    if (reader->err.code != ERR_OK) {
        struct err err = reader->err;

        redis_reader_end(reader, err);
    }
    redis_reader_wake(reader);
}

void redis_stream_grant(struct backend *backend, struct subscription *subscription,
                        uint32_t messages, uint64_t bytes)
{
    struct redis_reader *reader = redis_reader_of(subscription);
    bool idle = !subscription_may_take(subscription);

    (void)backend;
    subscription_granted(subscription, messages, bytes);
    if (idle && reader->waiting) { /* nobody has waited for it meanwhile */
        reader->waiting = false;
        reader->want_fetch = true;
    }
    redis_reader_wake(reader);
}

void redis_stream_withdraw(struct backend *backend, struct subscription *subscription)
{
    struct redis_reader *reader = redis_reader_of(subscription);

    (void)backend;
    subscription_withdrawn(subscription);
    if (reader->fetched == NULL || reader->busy)
        return; /* redis_fetch.c and redis_claim.c look at the credit */
    redis_fetched_drop(reader->fetched);
    reader->fetched = NULL;
    redis_give_back(reader, GIVE_UNREAD);
}

void redis_stream_close(struct backend *backend, struct subscription *subscription)
{
    struct redis_reader *reader = redis_reader_of(subscription);

    (void)backend;
    subscription_closing(subscription);
    reader->closing = true;
    redis_reader_wake(reader);
}
