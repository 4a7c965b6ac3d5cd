/* A subscription, on its worker. All that it does and tells happens in one job:
 *
 *   look    flags that other threads have set, and the messages that have come
 *   go on   placing  the control thread looks the group's consumer up, or makes it
 *           pulling  one request at a time, for all the credit that there is
 *           ending   the inbox, what is not settled, the place in the store; then closed()
 *
 * Whatever makes the place doubtful (a new connection, a consumer that is gone, a seek) ends the
 * inbox and leads through placing again. A consumer made at another time is another one: deliveries
 * of the one before are void. */
#include "backends/nats/jet_priv.h"
#include "pool/worker.h"
#include "src/base/clock.h"

#include <stdlib.h>

enum { TOKEN_SEQUENCE_BITS = 48 };

static struct jet_store *store_of(const struct jet_listener *listener)
{
    return jet_store_of(&listener->instance->base);
}

static struct jet_listener *listener_of(const struct subscription *subscription)
{
    return subscription->backend_data;
}

void jet_listener_wake(struct jet_listener *listener)
{
    if (listener->queued)
        return;
    listener->queued = true;
    worker_land(listener->subscription->home, &listener->job);
}

static void wake(struct jet_listener *listener)
{
    pthread_mutex_lock(&listener->lock);
    jet_listener_wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

static void on_timer(struct timer *timer)
{
    struct jet_listener *listener = CONTAINER_OF(timer, struct jet_listener, timer);

    listener->timer_ns = UINT64_MAX;
    wake(listener);
}

void jet_listener_watch(struct jet_listener *listener, uint64_t at_ns)
{
    if (at_ns >= listener->timer_ns)
        return;
    listener->timer_ns = at_ns;
    timer_arm(&listener->subscription->home->timers, &listener->timer, at_ns, on_timer);
}

void jet_listener_soon(struct jet_listener *listener)
{
    wake(listener);
}

void jet_listener_settled(struct jet_listener *listener)
{
    if (listener->ending)
        wake(listener);
}

void jet_listener_fail(struct jet_listener *listener, struct err err)
{
    if (listener->ending)
        return;
    listener->ending = true;
    listener->err = err;
    jet_readers_leave(listener);
}

/* ---- placing ---- */

void jet_look_anew(struct jet_listener *listener, uint64_t after_ms)
{
    listener->placed_well = false;
    listener->retry_ns = clock_now_ns() + after_ms * NS_PER_MS;
}

static void work_place(struct jet_store *store, jsCtx *js, struct jet_errand *errand)
{
    struct jet_listener *listener = CONTAINER_OF(errand, struct jet_listener, errand);

    if (listener->oldest.looking) {
        jet_oldest_look(store, js, listener);
        return;
    }
    if (listener->forget && js != NULL)
        jet_place_forget(js, &listener->place);
    else if (listener->sweep && js != NULL)
        jet_place_sweep(js, &listener->place);
    if (listener->forget || listener->sweep)
        return;
    jet_notices_usable(store, js); /* before anything can be removed that is delivered to us */
    listener->placed =
        js != NULL ? jet_place_take(store, js, &listener->place) : nats_unavailable();
}

static void worked_place(struct jet_store *store, struct jet_errand *errand)
{
    struct jet_listener *listener = CONTAINER_OF(errand, struct jet_listener, errand);

    (void)store;
    pthread_mutex_lock(&listener->lock);
    listener->placed_now = true;
    jet_listener_wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

static void ask_control(struct jet_listener *listener)
{
    listener->placing = true;
    jet_control_put(store_of(listener), &listener->errand);
}

static void detach(struct jet_listener *listener)
{
    if (listener->detaching)
        return;
    listener->detaching = true;
    nats_store_put(&store_of(listener)->base, &listener->detach);
}

static void go_to_place(struct jet_listener *listener)
{
    struct jet_place *place = &listener->place;

    if (listener->placing || !listener->listed)
        return;
    if (listener->attached || listener->detaching) {
        if (listener->attached)
            detach(listener);
        return;
    }
    if (clock_now_ns() < listener->retry_ns || atomic_load(&listener->pull_queued)) {
        jet_listener_watch(listener, listener->retry_ns + 10 * NS_PER_MS);
        return;
    }
    if (listener->opened && place->group[0] == '\0') { /* if the server has forgotten it */
        place->start = START_OFFSET;
        place->at = (int64_t)place->stream_sequence + 1;
    }
    jet_oldest_ask(listener);
    ask_control(listener);
}

static bool is_returned(const struct jet_listener *listener, const struct jet_delivery *delivery,
                        uint64_t now_ns)
{
    (void)listener;
    (void)now_ns;
    return delivery->returned;
}

static void move_to(struct jet_listener *listener)
{
    const struct subscription_move all = {.kind = MOVE_LOST, .reason = MOVED_BY_SEEK};
    bool moved = listener->opened && listener->created != listener->place.created;

    if (moved)
        jet_page_let_go(listener);
    listener->created = listener->place.created;
    if (!moved)
        return;
    listener->epoch++;
    listener->newest = 0;
    jet_page_forget(listener);
    jet_oldest_moved(listener);
    jet_unsettled_clear(&listener->unsettled);
    subscription_moved(listener->subscription, &all);
}

static void on_placed(struct jet_listener *listener)
{
    struct jet_place *place = &listener->place;
    enum err_code code = listener->placed.code;

    listener->placing = false;
    if (listener->oldest.looking) {
        jet_oldest_looked(listener);
        return;
    }
    if (listener->ending)
        return;
    if (code == ERR_UNAVAILABLE || code == ERR_RESOURCE_EXHAUSTED) {
        jet_look_anew(listener, JET_PLACE_RETRY_MS);
        return;
    }
    if (code != ERR_OK) {
        jet_listener_fail(listener, listener->placed);
        return;
    }
    listener->placed_well = true;
    listener->wait_ns = (uint64_t)place->ack_wait_ns;
    move_to(listener);
    jet_wary_placed(listener);
    jet_removed_placed(listener);
    jet_oldest_placed(listener);
    jet_settle_all(listener, JET_RETURN, is_returned);
    if (!listener->opened) {
        listener->opened = true;
        place->move = false;
        subscription_opened(listener->subscription);
    }
    if (place->gap_from == 0 || listener->ending)
        return;
    jet_tell_gap(listener, place->gap_from, place->gap_to, place->gap_to - place->gap_from);
    if (place->stream_sequence + 1 < place->gap_to)
        place->stream_sequence = place->gap_to - 1;
}

/* ---- the end ---- */

static bool is_any(const struct jet_listener *listener, const struct jet_delivery *delivery,
                   uint64_t now_ns)
{
    (void)listener;
    (void)delivery;
    (void)now_ns;
    return true;
}

/* One step after the other, each when the one before is over; all of them are bounded in time. */
static void go_to_end(struct jet_listener *listener)
{
    if (listener->placing || listener->settlings > 0)
        return;
    if (listener->attached)
        detach(listener);
    if (listener->attached || listener->detaching)
        return;
    jet_page_let_go(listener);
    if (listener->created != 0 && !listener->sweep &&
        jet_unsettled_count(&listener->unsettled) > 0) {
        listener->sweep = true;
        ask_control(listener);
        return;
    }
    if (!listener->give_back) {
        listener->give_back = true;
        jet_settle_all(listener, JET_RETURN, is_any);
        jet_page_go_on(listener);
    }
    if (listener->settlings > 0 || listener->page.waiting != NULL || !jet_removed_end(listener))
        return;
    if (listener->place.group[0] == '\0' && listener->created != 0 && !listener->forget) {
        listener->forget = true;
        ask_control(listener);
        return;
    }
    if (!listener->leave) {
        listener->leave = true;
        jet_readers_left(listener); /* nobody wakes it behind its last job */
        nats_store_put(&store_of(listener)->base, &listener->depart);
    }
}

static void end(struct jet_listener *listener)
{
    struct subscription *subscription = listener->subscription;
    struct err err = listener->err;

    timer_disarm(&subscription->home->timers, &listener->timer);
    for (size_t i = 0; i < listener->n_arrived; i++)
        natsMsg_Destroy(listener->arrived[i]);
    free((void *)listener->arrived);
    jet_unsettled_clear(&listener->unsettled);
    jet_oldest_clear(listener);
    jet_page_clear(&listener->page);
    jet_removed_clear(&listener->removed);
    pthread_mutex_destroy(&listener->lock);
    listener->instance->subscriptions--;
    free(listener);
    if (subscription->state != SUB_CLOSING)
        subscription_closing(subscription);
    subscription_closed(subscription, err);
}

/* ---- the job ---- */

struct seen {
    natsMsg **messages;
    size_t n;
    bool connected, over, detached, placed, departed, noticed, notices_back, other_left;
};

static struct seen look(struct jet_listener *listener)
{
    struct seen seen;

    pthread_mutex_lock(&listener->lock);
    seen = (struct seen){.messages = listener->arrived,
                         .n = listener->n_arrived,
                         .connected = listener->connected,
                         .over = listener->over,
                         .detached = listener->detached,
                         .placed = listener->placed_now,
                         .departed = listener->departed,
                         .noticed = listener->noticed,
                         .notices_back = listener->notices_back,
                         .other_left = listener->other_left};
    listener->arrived = NULL;
    listener->n_arrived = listener->arrived_room = 0;
    listener->connected = listener->over = listener->detached = listener->placed_now = false;
    listener->queued = listener->noticed = listener->notices_back = false;
    listener->other_left = false;
    pthread_mutex_unlock(&listener->lock);
    return seen;
}

static void on_over(struct jet_listener *listener)
{
    listener->attached = false;
    if (listener->asked_messages > 0) /* the connection is lost, or the place is looked up anew */
        jet_request_end(listener);
    if (listener->placed_well && !listener->withdrawn) /* it is lost: another one is waited for */
        jet_look_anew(listener, JET_PLACE_RETRY_MS);
    if (listener->withdrawn)
        jet_look_anew(listener,
                      0); /* the server forgets the request, and gets back what it brought */
    listener->withdrawn = false;
}

static void run(struct job *job)
{
    struct jet_listener *listener = CONTAINER_OF(job, struct jet_listener, job);
    struct seen seen = look(listener);

    jet_instance_look(listener->instance);
    if (seen.connected) {
        listener->listed = true;
        jet_look_anew(listener, 0);
    }
    jet_take_messages(listener, seen.messages, seen.n);
    if (seen.over)
        on_over(listener);
    if (seen.detached)
        listener->detaching = false;
    if (seen.placed)
        on_placed(listener);
    if (seen.noticed)
        jet_removed_noticed(listener);
    if (seen.notices_back)
        jet_removed_back(listener);
    if (seen.departed) {
        end(listener);
        return;
    }
    if (seen.other_left)
        jet_oldest_other_left(listener);
    jet_leases_look(listener);
    if (jet_oldest_go_on(listener))
        ask_control(listener);
    jet_request_look(listener);
    jet_page_go_on(listener);
    jet_removed_go_on(listener);
    if (listener->ending)
        go_to_end(listener);
    else if (!listener->placed_well)
        go_to_place(listener);
    else
        jet_request_open(listener);
}

/* ---- methods ---- */

static struct err want_place(struct jet_listener *listener, const struct subscription_want *want)
{
    struct jet_place *place = &listener->place;
    struct err err = nats_check_topic(want->topic);

    if (err.code == ERR_OK && !jet_place_init(place, want->topic, want->group))
        err = err_about(ERR_INVALID_ARGUMENT, "consumer_group",
                        "a group has at most 249 bytes and no NUL");
    if (err.code != ERR_OK)
        return err;
    place->create = true;
    place->wait_ms = JET_ASK_MS;
    place->on_gap = want->on_gap;
    place->move = want->start != START_COMMITTED;
    place->start = want->start == START_COMMITTED ? want->if_none : want->start;
    place->at = want->at;
    return want->start == START_POSITION ? jet_read_position(want->position, &place->at) : ERR_NONE;
}

void jet_listener_open(struct backend *backend, struct subscription *subscription)
{
    struct jet_instance *instance = jet_instance_of(backend);
    struct jet_listener *listener = calloc(1, sizeof *listener);
    uint64_t lease_ms = subscription->want.lease_ms;

    if (listener == NULL)
        abort();
    listener->subscription = subscription;
    listener->instance = instance;
    listener->job.run = run;
    listener->timer_ns = listener->lease_check_ns = UINT64_MAX;
    listener->request_ms = JET_REQUEST_MS;
    listener->errand.work = work_place;
    listener->errand.worked = worked_place;
    listener->oldest.wanted = subscription->want.oldest_first;
    listener->lease_ns = (lease_ms != 0 ? lease_ms : JET_MAX_LEASE_MS) * NS_PER_MS;
    pthread_mutex_init(&listener->lock, NULL);
    jet_pull_init(listener);
    jet_page_init(&listener->page);
    jet_removed_init(&listener->removed);
    counter_add(&backend->stats.calls, 1);
    instance->subscriptions++;
    subscription_opening(subscription, listener);
    listener->err = want_place(listener, &subscription->want);
    if (listener->err.code == ERR_OK) {
        if (subscription->want.oldest_first)
            jet_readers_join(listener);
        nats_store_put(&store_of(listener)->base, &listener->arrive);
        return;
    }
    pthread_mutex_lock(&listener->lock); /* it never comes to the store */
    listener->ending = listener->leave = listener->departed = true;
    jet_listener_wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

void jet_listener_grant(struct backend *backend, struct subscription *subscription,
                        uint32_t messages, uint64_t bytes)
{
    (void)backend;
    subscription_granted(subscription, messages, bytes);
    wake(listener_of(subscription));
}

void jet_listener_withdraw(struct backend *backend, struct subscription *subscription)
{
    struct jet_listener *listener = listener_of(subscription);

    (void)backend;
    jet_oldest_withdrawn(listener); /* the credit of what is kept goes, too */
    subscription_withdrawn(subscription);
    if (listener->asked_messages == 0)
        return;
    listener->withdrawn = true;
    listener->asked_messages = 0;
    listener->asked_bytes = 0;
    detach(listener);
}

void jet_listener_close(struct backend *backend, struct subscription *subscription)
{
    struct jet_listener *listener = listener_of(subscription);

    (void)backend;
    subscription_closing(subscription);
    listener->ending = true;
    jet_readers_leave(listener);
    wake(listener);
}
