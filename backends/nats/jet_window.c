/* Messages on their way to streams. All of it runs on the store's thread.
 *
 *   backlog      taken over from workers, in their order, while there is no connection
 *   lane         behind a message of the same key that is under way
 *   held, heirs  of a topic that has its part of what may be under way
 *   sent         written to the connection, not answered
 *   lookup       a server said that nobody takes it (jet_lookup.c)
 *
 * A connection that is lost takes no message with it: those that are sent are sent again, in their
 * order and before any other, under their ids, which the stream knows if it has them. What is not
 * answered in publish_timeout_ms is given up. */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

#include <stdlib.h>

enum { CHECK_MS = 100 };

void jet_window_init(struct jet_window *window)
{
    jet_list_init(&window->backlog);
    jet_list_init(&window->sent);
    jet_shares_init(&window->shares);
    window->next_check_ns = UINT64_MAX;
}

/* ---- outcomes ---- */

static struct err given_up(const struct jet_item *item)
{
    struct err err = err_make(ERR_UNAVAILABLE, "no stream has acknowledged the message in time");

    err.retry_after_ms = NATS_RETRY_MS;
    return atomic_load(&item->state) == JET_SENT ? err_lost(err) : err;
}

static struct jet_lane *lane_of(const struct jet_item *item)
{
    return jet_share_lane(item->share, item->key_hash);
}

/* Its outcome, and nothing else. */
static void finish(struct jet_store *store, struct jet_item *item, struct err err)
{
    uint8_t waiting = JET_WAITING;

    if (err.code != ERR_OK && item->doubt)
        err = err_lost(err);
    if (err.effect == EFFECT_UNKNOWN)
        counter_add_shared(&store->unknown, 1);
    item->err = err;
    natsMsg_Destroy(item->message);
    item->message = NULL;
    jet_share_give(item->share, item->bytes);
    if (!atomic_compare_exchange_strong(&item->state, &waiting, JET_OVER) && waiting == JET_SENT)
        atomic_store(&item->state, JET_OVER);
    jet_publication_item_over(item->publication);
}

static struct err overtaken(void)
{
    return err_make(ERR_ABORTED, "an earlier message of its key failed: not sent");
}

/* The lane is free: those of a key that failed fail with it, the first other one goes on. */
static void free_lane(struct jet_store *store, struct jet_lane *lane, uint64_t key, bool failed)
{
    struct jet_item *next;

    for (struct jet_item *item = failed ? lane->waiting.first : NULL; item != NULL; item = next) {
        next = item->next;
        if (item->key_hash != key)
            continue;
        jet_list_remove(&lane->waiting, item);
        finish(store, item, overtaken());
    }
    lane->busy = false;
    next = jet_list_pop(&lane->waiting);
    if (next == NULL)
        return;
    lane->busy = true;
    jet_shares_inherit(&store->window.shares, next);
}

void jet_item_end(struct jet_store *store, struct jet_item *item, struct err err)
{
    struct jet_lane *lane = lane_of(item);
    uint64_t key = item->key_hash;

    finish(store, item, err);
    if (lane != NULL)
        free_lane(store, lane, key, err.code != ERR_OK);
}

void jet_item_unsend(struct jet_store *store, struct jet_item *item)
{
    jet_answer_forget(store, &item->answer);
    jet_list_remove(&store->window.sent, item);
    jet_shares_unsent(&store->window.shares, item->share, item->bytes);
}

/* ---- sending ---- */

static void on_answer(struct jet_store *store, struct jet_answer *answer, natsMsg *message)
{
    struct jet_item *item = CONTAINER_OF(answer, struct jet_item, answer);
    struct jet_ack ack = jet_ack_read(message);

    jet_item_unsend(store, item);
    if (ack.absent) {
        jet_lookup_put(store, item);
        return;
    }
    if (ack.stored) {
        item->sequence = ack.sequence;
        item->duplicate = ack.duplicate && !item->doubt;
    }
    jet_item_end(store, item, ack.err);
}

/* The item is in `sent`. What the connection could not take is sent again on the next one. */
static void write_item(struct jet_store *store, struct jet_item *item)
{
    struct err err;
    natsStatus s;

    if (item->doubt)
        counter_add_shared(&store->resent, 1);
    item->sent_ns = clock_now_ns();
    item->answer.come = on_answer;
    jet_answer_expect(store, &item->answer);
    s = natsConnection_PublishMsg(store->base.connection, item->message);
    if (s == NATS_OK)
        return;
    if (s == NATS_MAX_PAYLOAD || s == NATS_NO_SERVER_SUPPORT) {
        err = s == NATS_MAX_PAYLOAD
                  ? err_about(ERR_INVALID_ARGUMENT, "payload",
                              "payload and headers are larger than the server's max_payload")
                  : err_about(ERR_FAILED_PRECONDITION, "headers",
                              "this NATS server does not support headers");
        jet_item_unsend(store, item);
        jet_item_end(store, item, err);
        return;
    }
    jet_answer_forget(store, &item->answer);
    item->doubt = true;
    store->base.write_failed = true;
}

static void send_item(struct jet_store *store, struct jet_item *item)
{
    struct jet_window *window = &store->window;

    jet_list_push(&window->sent, item);
    jet_shares_sent(&window->shares, item->share, item->bytes);
    if (window->next_check_ns == UINT64_MAX)
        window->next_check_ns = clock_now_ns() + CHECK_MS * NS_PER_MS;
    write_item(store, item);
}

static void send_or_drop(struct jet_store *store, struct jet_item *item)
{
    uint8_t waiting = JET_WAITING;

    if (atomic_compare_exchange_strong(&item->state, &waiting, JET_SENT))
        send_item(store, item);
    else
        jet_item_end(store, item, ERR_NONE); /* dropped: nobody looks at its outcome */
}

/* A message from the backlog: to its lane, or out. */
static void start_item(struct jet_store *store, struct jet_item *item)
{
    struct jet_lane *lane = lane_of(item);

    if (lane != NULL) {
        if (lane->busy) {
            jet_list_push(&lane->waiting, item);
            return;
        }
        lane->busy = true;
    }
    if (jet_shares_may_send(&store->window.shares, item->share))
        send_or_drop(store, item);
    else
        jet_shares_hold(&store->window.shares, item);
}

static bool may_send(const struct jet_store *store)
{
    return store->base.connection != NULL && !store->base.write_failed;
}

void jet_window_pump(struct jet_store *store)
{
    struct jet_window *window = &store->window;
    struct jet_item *item;

    while (may_send(store) && (item = jet_list_pop(&window->backlog)) != NULL)
        start_item(store, item);
    while (may_send(store) && (item = jet_shares_next(&window->shares)) != NULL)
        send_or_drop(store, item);
}

void jet_window_put(struct jet_store *store, struct jet_item *item)
{
    item->first_ns = clock_now_ns();
    jet_list_push(&store->window.backlog, item);
    if (store->window.next_check_ns == UINT64_MAX)
        store->window.next_check_ns = item->first_ns + CHECK_MS * NS_PER_MS;
}

void jet_window_send_again(struct jet_store *store, struct jet_item *item)
{
    send_item(store, item);
}

/* ---- connections ---- */

void jet_window_connected(struct jet_store *store)
{
    struct jet_window *window = &store->window;
    struct jet_list again = window->sent;
    struct jet_item *item;

    if (again.first == NULL)
        again.end = &again.first;
    else
        again.first->at = &again.first;
    jet_list_init(&window->sent);
    jet_shares_unsent_all(&window->shares);
    while ((item = jet_list_pop(&again)) != NULL) {
        if (atomic_load(&item->publication->abandoned))
            jet_item_end(store, item, given_up(item));
        else
            send_item(store, item);
    }
    jet_window_pump(store);
}

void jet_window_lost(struct jet_store *store)
{
    for (struct jet_item *item = store->window.sent.first; item != NULL; item = item->next) {
        jet_answer_forget(store, &item->answer);
        item->doubt = true;
    }
}

void jet_window_denied(struct jet_store *store, const char *subject)
{
    size_t len = strlen(subject);
    struct jet_item *next;

    for (struct jet_item *item = store->window.sent.first; item != NULL; item = next) {
        next = item->next;
        /* the library keeps the first part of a long sentence */
        if (strncmp(natsMsg_GetSubject(item->message), subject, len) != 0 ||
            (natsMsg_GetSubject(item->message)[len] != '\0' && len < 200))
            continue;
        jet_item_unsend(store, item);
        jet_item_end(
            store, item,
            err_about(ERR_PERMISSION_DENIED, "topic", "NATS lets Prism's user not publish to it"));
    }
}

/* ---- time ---- */

bool jet_item_expired(const struct jet_store *store, const struct jet_item *item, uint64_t now_ns)
{
    return now_ns >= item->first_ns + store->base.config.publish_timeout_ms * NS_PER_MS;
}

/* What is held by age is over from its head on. An heir that is over may leave its lane to the next
 * one, which comes to the end of the heirs. */
static void give_up_held(struct jet_store *store, struct jet_share *share, uint64_t now_ns)
{
    struct jet_item *item;

    while ((item = share->held.first) != NULL && jet_item_expired(store, item, now_ns)) {
        jet_list_remove(&share->held, item);
        jet_item_end(store, item, given_up(item));
    }
    for (struct jet_item **at = &share->heirs.first; (item = *at) != NULL;) {
        if (!jet_item_expired(store, item, now_ns)) {
            at = &item->next;
            continue;
        }
        jet_list_remove(&share->heirs, item);
        jet_item_end(store, item, given_up(item));
    }
}

static void give_up_old(struct jet_store *store, uint64_t now_ns)
{
    struct jet_window *window = &store->window;
    struct jet_item *item, *next;

    for (item = window->sent.first; item != NULL; item = next) {
        next = item->next;
        if (!jet_item_expired(store, item, now_ns))
            continue;
        jet_item_unsend(store, item);
        jet_item_end(store, item, given_up(item));
    }
    for (struct jet_share *share = window->shares.holding; share != NULL; share = share->next)
        give_up_held(store, share, now_ns);
    while ((item = window->backlog.first) != NULL && jet_item_expired(store, item, now_ns)) {
        jet_list_remove(&window->backlog, item);
        finish(store, item, given_up(item));
    }
}

/* Those that an unlucky stream has not answered are sent again. A server that answers nothing at
 * all is left. */
static void press(struct jet_store *store, uint64_t now_ns)
{
    uint64_t patience_ns = store->base.config.ack_timeout_ms * NS_PER_MS;
    struct jet_item *item = store->window.sent.first, *next, *last;

    if (store->base.connection == NULL || item == NULL || now_ns < item->sent_ns + patience_ns)
        return;
    if (nats_ask(&store->base) != NATS_OK) {
        nats_store_leave(&store->base, "NATS has fallen silent", NULL);
        return;
    }
    last = CONTAINER_OF(store->window.sent.end, struct jet_item, next);
    for (bool more = true; more && item != NULL && !store->base.write_failed; item = next) {
        next = item->next;
        more = item != last;
        if (now_ns < item->sent_ns + patience_ns)
            continue;
        jet_item_unsend(store, item);
        item->doubt = true;
        send_item(store, item);
    }
}

uint64_t jet_window_tick(struct jet_store *store)
{
    struct jet_window *window = &store->window;
    uint64_t now_ns;

    if (window->next_check_ns == UINT64_MAX)
        return UINT64_MAX;
    now_ns = clock_now_ns();
    if (now_ns < window->next_check_ns)
        return window->next_check_ns;
    give_up_old(store, now_ns);
    press(store, now_ns);
    jet_window_pump(store);
    if (window->sent.first == NULL && window->backlog.first == NULL &&
        window->shares.holding == NULL)
        window->next_check_ns = UINT64_MAX;
    else
        window->next_check_ns = now_ns + CHECK_MS * NS_PER_MS;
    return window->next_check_ns;
}

/* ---- the end of an instance ---- */

/* has_lane: what is in the list has its lane. */
static bool purge_first(struct jet_store *store, struct jet_list *list, bool has_lane)
{
    /* from the start each time: the end of one may move others */
    for (struct jet_item *item = list->first; item != NULL; item = item->next) {
        if (!atomic_load(&item->publication->abandoned))
            continue;
        if (list == &store->window.sent)
            jet_item_unsend(store, item);
        else
            jet_list_remove(list, item);
        if (has_lane)
            jet_item_end(store, item, given_up(item));
        else
            finish(store, item, given_up(item));
        return true;
    }
    return false;
}

static void purge_share(struct jet_store *store, struct jet_share *share)
{
    for (unsigned i = 0; share->lanes != NULL && i < JET_LANES; i++) {
        while (purge_first(store, &share->lanes[i].waiting, false))
            ;
    }
    while (purge_first(store, &share->held, true) || purge_first(store, &share->heirs, true))
        ;
}

void jet_window_purge(struct jet_store *store)
{
    struct jet_window *window = &store->window;

    for (unsigned i = 0; i < JET_SHARES; i++)
        purge_share(store, &window->shares.all[i]);
    while (purge_first(store, &window->backlog, false))
        ;
    while (purge_first(store, &window->sent, true))
        ;
    if (window->lookups != NULL)
        jet_lookup_tick(store, clock_now_ns());
}
