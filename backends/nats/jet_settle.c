/* Settling and extending: one message for each delivery, to the subject that it came with. The last
 * one asks for an answer; the server reads them in their order, so its answer is for all of them.
 * Those that were not answered stay as they were, and may be settled again. */
#include "backends/nats/jet_priv.h"
#include "pool/worker.h"
#include "src/base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHECK_MS = 100 };

struct item {
    uint64_t token, stream_sequence, consumer_sequence, delay_ms;
    uint32_t deliveries;
    enum jet_how how;
    bool lost;    /* meanwhile: the subscription was told */
    bool unsent;  /* it was lost before it could be sent */
    size_t asked; /* its place in the operation */
};

struct jet_settling {
    struct nats_task task; /* first */
    struct jet_answer answer;
    struct job job;
    struct jet_listener *listener;
    struct jet_settling *next, **at; /* the store's thread: in store->settlings; home: a page's */
    uint64_t sent_ns;
    bool sent, answered;
    /* ---- home ---- */
    struct op *op; /* NULL: there is none, or it did not wait */
    struct settlement *settlements;
    struct lease *leases;
    char prefix[JET_PREFIX_BYTES];
    size_t n;
    struct item items[];
};

/* ---- home: it is back ---- */

static struct err outcome(const struct jet_settling *s)
{
    struct err err;

    if (s->answered)
        return ERR_NONE;
    if (!s->sent)
        return nats_unavailable();
    err = err_make(ERR_UNAVAILABLE, "NATS has not confirmed it; it may have been settled");
    err.retry_after_ms = NATS_RETRY_MS;
    return err_lost(err);
}

static void take_in(struct jet_settling *s, struct item *item)
{
    struct jet_listener *listener = s->listener;
    struct jet_delivery *delivery = jet_unsettled_find(&listener->unsettled, item->token);

    item->lost = delivery == NULL;
    if (item->how == JET_DONE && s->answered)
        jet_returns_settled(&listener->page.returns, item->stream_sequence);
    if (delivery == NULL)
        return;
    if (item->how == JET_EXTEND) {
        if (s->answered) {
            delivery->server_ns = s->sent_ns + listener->wait_ns;
            counter_add_shared(&jet_store_of(&listener->instance->base)->renewed, 1);
        }
        return;
    }
    if (!s->answered) {
        jet_unsettled_settling(&listener->unsettled, delivery, false);
        return;
    }
    if (item->how == JET_NAK && delivery->attempt > 0)
        jet_returns_add(&listener->page.returns, item->stream_sequence, item->deliveries,
                        delivery->attempt + 1);
    if (delivery->removed && item->how != JET_DONE)
        jet_removed_lost(listener, item->stream_sequence);
    jet_unsettled_drop(&listener->unsettled, delivery);
}

static struct err late(void)
{
    return err_make(ERR_ABORTED, "the delivery is no longer this subscription's");
}

/* why: of those that were sent; the others have theirs. */
static void finish(struct jet_settling *s, struct err why)
{
    struct op *op = s->op;

    for (size_t i = 0; i < s->n; i++) {
        const struct item *item = &s->items[i];
        struct err err = item->unsent || (why.code != ERR_OK && item->lost) ? late() : why;

        if (s->settlements != NULL)
            s->settlements[item->asked].err = err;
        else
            s->leases[item->asked].err = err;
    }
    s->op = NULL;
    op->backend_data = NULL;
    op_finish(op, ERR_NONE);
}

static void come_home(struct job *job)
{
    struct jet_settling *s = CONTAINER_OF(job, struct jet_settling, job);
    struct jet_listener *listener = s->listener;

    for (size_t i = 0; i < s->n; i++)
        take_in(s, &s->items[i]);
    if (s->op != NULL)
        finish(s, outcome(s));
    free(s);
    listener->settlings--;
    jet_listener_settled(listener);
}

static void cancel(struct op *op, struct err why)
{
    if (op->backend_data != NULL)
        finish(op->backend_data, err_lost(why));
}

/* ---- the store's thread ---- */

static void go_home(struct jet_settling *s)
{
    worker_land(s->listener->subscription->home, &s->job);
}

static void unlist(struct jet_settling *s)
{
    *s->at = s->next;
    if (s->next != NULL)
        s->next->at = s->at;
}

static void on_answer(struct jet_store *store, struct jet_answer *answer, natsMsg *message)
{
    struct jet_settling *s = CONTAINER_OF(answer, struct jet_settling, answer);

    (void)store;
    s->answered = !natsMsg_IsNoResponders(message);
    unlist(s);
    go_home(s);
}

static natsStatus write_item(natsConnection *connection, const struct jet_settling *s,
                             const struct item *item, const char *reply)
{
    char subject[JET_PREFIX_BYTES + 96], delayed[64];
    const char *says = item->how == JET_DONE ? "+ACK" : item->how == JET_EXTEND ? "+WPI" : "-NAK";

    snprintf(subject, sizeof subject, "%s%u.%llu.%llu.0.0", s->prefix, item->deliveries,
             (unsigned long long)item->stream_sequence,
             (unsigned long long)item->consumer_sequence);
    if (item->delay_ms > 0) {
        snprintf(delayed, sizeof delayed, "-NAK {\"delay\": %llu}",
                 (unsigned long long)(item->delay_ms * NS_PER_MS));
        says = delayed;
    }
    if (reply == NULL)
        return natsConnection_PublishString(connection, subject, says);
    return natsConnection_PublishRequestString(connection, subject, reply, says);
}

/* What others wait for comes before what ends: so the last answer says that a message is done, and
 * a stream with replicas sends it when they know it. */
static natsStatus write_items(natsConnection *connection, const struct jet_settling *s,
                              const char *reply)
{
    size_t left = 0;
    natsStatus status = NATS_OK;

    for (size_t i = 0; i < s->n; i++)
        left += !s->items[i].unsent;
    for (int how = JET_RETURN; how <= JET_DONE; how++) {
        for (size_t i = 0; i < s->n && status == NATS_OK; i++) {
            if (s->items[i].how == (enum jet_how)how && !s->items[i].unsent)
                status = write_item(connection, s, &s->items[i], --left == 0 ? reply : NULL);
        }
    }
    return status;
}

static bool run_settle(struct nats_store *base, struct nats_task *task)
{
    struct jet_settling *s = (struct jet_settling *)task;
    struct jet_store *store = jet_of(base);
    char reply[JET_REPLY_BYTES];

    if (base->connection == NULL || base->write_failed) {
        go_home(s);
        return false;
    }
    s->sent = true;
    s->sent_ns = clock_now_ns();
    s->answer.come = on_answer;
    jet_answer_name(store, &s->answer, reply);
    jet_answer_expect(store, &s->answer);
    if (write_items(base->connection, s, reply) != NATS_OK) {
        base->write_failed = true;
        jet_answer_forget(store, &s->answer);
        go_home(s);
        return false;
    }
    s->next = store->settlings;
    s->at = &store->settlings;
    if (s->next != NULL)
        s->next->at = &s->next;
    store->settlings = s;
    return false;
}

static void give_up(struct jet_store *store, struct jet_settling *s)
{
    jet_answer_forget(store, &s->answer);
    unlist(s);
    go_home(s);
}

void jet_settle_lost(struct jet_store *store)
{
    while (store->settlings != NULL)
        give_up(store, store->settlings);
}

uint64_t jet_settle_tick(struct jet_store *store, uint64_t now_ns)
{
    uint64_t patience_ns = store->base.config.ack_timeout_ms * NS_PER_MS;
    struct jet_settling *next;

    if (store->settlings == NULL)
        return UINT64_MAX;
    if (now_ns < store->settle_check_ns)
        return store->settle_check_ns;
    for (struct jet_settling *s = store->settlings; s != NULL; s = next) {
        next = s->next;
        if (now_ns >= s->sent_ns + patience_ns)
            give_up(store, s);
    }
    store->settle_check_ns = now_ns + CHECK_MS * NS_PER_MS;
    return store->settlings != NULL ? store->settle_check_ns : UINT64_MAX;
}

/* ---- home: it is made ---- */

static struct jet_settling *make(struct jet_listener *listener, size_t room)
{
    struct jet_settling *s = calloc(1, sizeof *s + room * sizeof s->items[0]);

    if (s == NULL)
        abort();
    s->task.run = run_settle;
    s->job.run = come_home;
    s->listener = listener;
    memcpy(s->prefix, listener->prefix, sizeof s->prefix);
    return s;
}

static struct item *add(struct jet_settling *s, const struct jet_delivery *delivery,
                        enum jet_how how)
{
    struct item *item = &s->items[s->n++];

    *item = (struct item){.token = delivery->token,
                          .stream_sequence = delivery->stream_sequence,
                          .consumer_sequence = delivery->consumer_sequence,
                          .deliveries = delivery->deliveries,
                          .how = how};
    return item;
}

static void send_now(struct jet_settling *s)
{
    s->listener->settlings++;
    nats_store_put(&jet_store_of(&s->listener->instance->base)->base, &s->task);
}

/* What comes again at once is not offered to a request that is about to go: it is sent in the
 * subscription's next job, or, if that ends, when its requests are gone. */
static void send(struct jet_settling *s)
{
    bool waits = false;

    for (size_t i = 0; i < s->n; i++)
        waits = waits || s->items[i].how == JET_RETURN ||
                (s->items[i].how == JET_NAK && s->items[i].delay_ms == 0);
    if (waits)
        jet_page_put(s->listener, s);
    else
        send_now(s);
}

bool jet_settling_returns(const struct jet_settling *s)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->items[i].how == JET_RETURN)
            return true;
    }
    return false;
}

bool jet_settling_is_blind(const struct jet_settling *s, const struct jet_returns *returns)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct item *item = &s->items[i];
        const struct jet_delivery *delivery =
            jet_unsettled_find(&s->listener->unsettled, item->token);

        if (item->how == JET_RETURN && delivery != NULL && delivery->attempt == 0 &&
            !jet_returns_know(returns, item->stream_sequence, item->deliveries))
            return true;
    }
    return false;
}

struct jet_settling **jet_settling_next(struct jet_settling *s)
{
    return &s->next;
}

void jet_settling_note(struct jet_settling *s, struct jet_returns *returns)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct item *item = &s->items[i];
        const struct jet_delivery *delivery =
            item->how == JET_RETURN ? jet_unsettled_find(&s->listener->unsettled, item->token)
                                    : NULL;

        if (delivery == NULL)
            continue;
        jet_returns_add(returns, item->stream_sequence, item->deliveries,
                        delivery->attempt > 0 ? delivery->attempt
                                              : jet_returns_attempt(returns, item->stream_sequence,
                                                                    item->deliveries));
    }
}

/* What was lost meanwhile may be with others: it is left alone. */
void jet_settling_send(struct jet_settling *s, bool written)
{
    struct jet_store *store = jet_store_of(&s->listener->instance->base);
    size_t left = 0;

    for (size_t i = 0; i < s->n; i++) {
        struct item *item = &s->items[i];

        item->unsent = jet_unsettled_find(&s->listener->unsettled, item->token) == NULL;
        left += !item->unsent;
        if (!written && !item->unsent && item->how == JET_RETURN)
            counter_add_shared(&store->counted, 1);
    }
    s->next = NULL;
    s->listener->settlings++;
    if (left > 0)
        nats_store_put(&store->base, &s->task);
    else
        worker_land(s->listener->subscription->home, &s->job);
}

/* Sends what is in it, for an operation. */
static void start(struct jet_settling *s, struct op *op)
{
    counter_add(&s->listener->instance->base.stats.calls, 1);
    if (s->n == 0) {
        op_finish(op, ERR_NONE);
        free(s);
        return;
    }
    s->op = op;
    op->backend_data = s;
    op_park(op, cancel);
    send(s);
}

static void settle_one(struct jet_settling *s, struct settlement *settlement, size_t at)
{
    struct jet_listener *listener = s->listener;
    struct jet_delivery *delivery = jet_unsettled_find(&listener->unsettled, settlement->token);
    struct item *item;

    settlement->err = ERR_NONE;
    if (settlement->how == SETTLE_DEAD) {
        settlement->err = err_about(ERR_UNIMPLEMENTED, "QueueBasicInterface",
                                    "JetStream has no dead letters of its own");
        return;
    }
    if (delivery == NULL || delivery->settling) {
        if (settlement->token >> JET_TOKEN_BITS == listener->epoch || delivery != NULL)
            settlement->err = late(); /* else it is from before a seek: it moves nothing */
        return;
    }
    jet_unsettled_settling(&listener->unsettled, delivery, true);
    item = add(s, delivery,
               settlement->how == SETTLE_DONE    ? JET_DONE
               : settlement->how == SETTLE_RETRY ? JET_NAK
                                                 : JET_RETURN);
    item->asked = at;
    if (settlement->how == SETTLE_RETRY)
        item->delay_ms = settlement->delay_ms;
    if (item->how != JET_DONE)
        jet_wary_gave_back(listener, delivery, item->delay_ms);
}

void jet_settle(struct backend *backend, struct settle *settle)
{
    struct jet_settling *s = make(settle->subscription->backend_data, settle->n);

    (void)backend;
    for (size_t i = 0; i < settle->n; i++)
        settle_one(s, &settle->items[i], i);
    s->settlements = settle->items;
    start(s, &settle->op);
}

void jet_extend(struct backend *backend, struct extend *extend)
{
    struct jet_listener *listener = extend->subscription->backend_data;
    struct jet_settling *s = make(listener, extend->n);
    uint64_t now_ns = clock_now_ns();

    (void)backend;
    for (size_t i = 0; i < extend->n; i++) {
        struct lease *lease = &extend->items[i];
        struct jet_delivery *delivery = jet_unsettled_find(&listener->unsettled, lease->token);

        lease->err = delivery == NULL || delivery->settling ? late() : ERR_NONE;
        if (lease->err.code != ERR_OK)
            continue;
        delivery->lease_ns = now_ns + extend->lease_ms * NS_PER_MS;
        delivery->tried_ns = now_ns;
        add(s, delivery, JET_EXTEND)->asked = i;
        jet_lease_watch(listener, delivery);
    }
    s->leases = extend->items;
    start(s, &extend->op);
}

static int by_stream(const void *a, const void *b)
{
    const struct item *one = a, *other = b;

    return (one->stream_sequence > other->stream_sequence) -
           (one->stream_sequence < other->stream_sequence);
}

/* In the stream's order: so they come again. */
void jet_settle_all(struct jet_listener *listener, enum jet_how how, jet_wanted_fn *wanted)
{
    struct jet_unsettled *unsettled = &listener->unsettled;
    struct jet_settling *s = make(listener, jet_unsettled_count(unsettled));
    uint64_t now_ns = clock_now_ns();

    for (size_t i = 0; i < unsettled->n; i++) {
        struct jet_delivery *delivery = &unsettled->items[i];

        if (delivery->gone || delivery->settling || !wanted(listener, delivery, now_ns))
            continue;
        add(s, delivery, how);
        delivery->tried_ns = now_ns;
        if (how == JET_EXTEND)
            continue;
        jet_wary_gave_back(listener, delivery, 0);
        jet_unsettled_settling(unsettled, delivery, true);
    }
    qsort(s->items, s->n, sizeof s->items[0], by_stream);
    if (s->n == 0)
        free(s);
    else if (how == JET_RETURN)
        jet_page_put(listener, s);
    else
        send_now(s);
}
