/* Taking: a subscription's listener asks for messages, hands them over as a batch, and gives back
 * what is not settled when it is closed.
 *
 * Where a look begins. Rows that are dead stand before those that wait, in the table and in its
 * index, until VACUUM may remove them; while somebody's transaction stays open it may not. So a
 * look begins at the last row that was taken before. That it begins OVERLAP_MS before now at the
 * latest keeps it from going past what a push brings that has begun before and is committed after.
 * What can still be behind is found by a whole look, which begins at the first row:
 *
 *   given back                 to its old place: a whole look is next, here and where it is told
 *   a push was longer, or      a whole look comes after queue_poll_ms, or WHOLE_SHARE times what
 *   who has locked it is gone, the last one took if that is more: however many rows are dead, no
 *   or a clock was set back    larger part of the time goes into them
 *
 * A message whose lease or delay is over is at the time at which it is over, so no look has passed
 * it before. */
#include "backends/postgres/postgres_queue.h"

#include <assert.h>
#include <stdlib.h>

/* Deliveries whose leases run out one after the other are not waited for one by one. */
enum { DUE_MIN_MS = 50 };

enum { OVERLAP_MS = 200, WHOLE_SHARE = 9 };
#define NEVER UINT64_MAX

/* A batch and all that it refers to. */
struct taken {
    struct incoming_batch batch; /* first */
    struct arena arena;
};

static void ask(struct postgres_listener *listener);
static void on_timer(struct timer *timer);

static struct timer_wheel *timers_of(const struct postgres_listener *listener)
{
    return &listener->postgres->base.home->timers;
}

static void ask_in(struct postgres_listener *listener, uint64_t ns)
{
    timer_arm(timers_of(listener), &listener->timer, postgres_now(listener->postgres) + ns,
              on_timer);
}

static bool is_closing(const struct postgres_listener *listener)
{
    return listener->subscription->state == SUB_CLOSING;
}

/* ---- the end ---- */

static void on_closed(struct job *job)
{
    struct postgres_listener *listener = CONTAINER_OF(job, struct postgres_listener, closed);
    struct subscription *subscription = listener->subscription;
    struct postgres_listener **at = &listener->postgres->listeners;

    while (*at != listener)
        at = &(*at)->next;
    *at = listener->next;
    timer_disarm(timers_of(listener), &listener->timer);
    free(listener->tokens);
    free(listener);
    subscription_closed(subscription, ERR_NONE);
}

static void closed(struct postgres_listener *listener)
{
    listener->closed.run = on_closed;
    worker_land(listener->postgres->base.home, &listener->closed);
}

static void released(struct postgres_call *call)
{
    struct postgres *postgres = call->conn->postgres;
    struct postgres_listener *listener = call->state;

    if (call->err.code == ERR_OK)
        postgres_queue_returned(postgres, listener->subscription->want.topic);
    closed(listener); /* if it failed, the leases run out */
}

static void release_result(struct postgres_call *call, const PGresult *result)
{
    (void)call;
    (void)result;
}

static const struct postgres_kind release_kind = {
    .writes = true, .result = release_result, .end = released};

static void release(struct postgres_listener *listener)
{
    struct postgres_conn *conn = postgres_choose(listener->postgres);
    struct postgres_array tokens, numbers;
    struct postgres_params params;
    struct arena scratch;

    listener->releasing = true;
    if (listener->n == 0 || conn == NULL) {
        closed(listener);
        return;
    }
    arena_init(&scratch, NULL);
    postgres_params_init(&params, &scratch);
    tokens = postgres_add_array(&params, POSTGRES_INT8, listener->n, 8 * listener->n);
    for (size_t i = 0; i < listener->room; i++) {
        if (listener->tokens[i] != 0)
            postgres_element_int8(&tokens, (int64_t)listener->tokens[i]);
    }
    for (int column = 0; column < 2; column++) {
        numbers = postgres_add_array(&params, POSTGRES_INT8, listener->n, 8 * listener->n);
        for (size_t i = 0; i < listener->n; i++)
            postgres_element_int8(&numbers, column == 0 ? SETTLE_RELEASE : 0);
    }
    numbers = postgres_add_array(&params, POSTGRES_BYTEA, listener->n, 0);
    for (size_t i = 0; i < listener->n; i++)
        postgres_element_null(&numbers);
    postgres_run_own(conn, &release_kind, listener, SQL_SETTLE, &params);
    arena_clear(&scratch);
}

void postgres_queue_settled(struct postgres_listener *listener)
{
    if (is_closing(listener) && !listener->asking && listener->settling == 0 &&
        !listener->releasing && !listener->renewing)
        release(listener);
}

/* ---- what comes ---- */

static void release_batch(struct incoming_batch *batch)
{
    struct taken *taken = CONTAINER_OF(batch, struct taken, batch);

    arena_clear(&taken->arena);
    free(taken);
}

enum column {
    ID,
    DELIVERY,
    ATTEMPTS,
    PUSHED,
    KEY,
    MESSAGE_ID,
    PAYLOAD,
    HEADERS,
    PLACE,
    REACHED,
    NOW
};

static void take_row(struct taken *taken, struct slice queue, const PGresult *result, int row)
{
    struct incoming *m = &taken->batch.items[taken->batch.n++];
    struct arena *arena = &taken->arena;

    *m = (struct incoming){.topic = queue,
                           .key = postgres_copy(arena, result, row, KEY),
                           .id = postgres_copy(arena, result, row, MESSAGE_ID),
                           .payload = postgres_copy(arena, result, row, PAYLOAD),
                           .partition = -1,
                           .offset = -1,
                           .position =
                               slice_str(arena_decimal(arena, postgres_int8(result, row, ID))),
                           .timestamp_ms = (uint64_t)postgres_int8(result, row, PUSHED),
                           .attempt = (uint32_t)postgres_int4(result, row, ATTEMPTS),
                           .token = (uint64_t)postgres_int8(result, row, DELIVERY)};
    m->headers = postgres_headers_read(arena, postgres_bytes(result, row, HEADERS), &m->n_headers);
    taken->batch.bytes += m->key.len + m->payload.len;
    for (size_t i = 0; i < m->n_headers; i++)
        taken->batch.bytes += m->headers[i].name.len + m->headers[i].value.len;
}

static void advance(struct postgres_listener *listener, const PGresult *result, int last)
{
    int64_t before = postgres_int8(result, last, NOW) - OVERLAP_MS;

    listener->at.available_at = postgres_int8(result, last, REACHED);
    listener->at.id = postgres_int8(result, last, ID);
    if (listener->at.available_at >= before)
        listener->at = (struct postgres_place){.available_at = before};
}

static void take_result(struct postgres_call *call, const PGresult *result)
{
    struct postgres_listener *listener = call->state;
    struct subscription *subscription = listener->subscription;
    int rows = PQntuples(result);
    struct taken *taken;

    if (rows == 1 && postgres_int8(result, 0, ID) == 0) { /* nothing yet, but in some time */
        listener->due_ms = (uint64_t)postgres_int8(result, 0, DELIVERY);
        return;
    }
    listener->asked -= (uint32_t)rows;
    if (rows == 0)
        return;
    if ((taken = calloc(1, sizeof *taken)) == NULL)
        abort();
    arena_init(&taken->arena, NULL);
    taken->batch.release = release_batch;
    taken->batch.items = arena_array(&taken->arena, (size_t)rows, sizeof *taken->batch.items);
    for (int row = 0; row < rows; row++) {
        take_row(taken, arena_copy(&taken->arena, subscription->want.topic), result, row);
        postgres_tokens_add(listener, taken->batch.items[row].token);
    }
    if (!is_closing(listener) && !listener->withdrawn)
        subscription->credit_bytes -= (int64_t)taken->batch.bytes;
    listener->batch = &taken->batch;
    advance(listener, result, rows - 1);
    postgres_renew_look(listener->postgres);
}

/* Until a queue that has given nothing is asked again. */
static uint64_t pause_ns(const struct postgres_listener *listener)
{
    uint64_t poll = postgres_store_of(listener->postgres)->queue_poll_ns;
    uint64_t due_ms = listener->due_ms > DUE_MIN_MS ? listener->due_ms : DUE_MIN_MS;
    uint64_t now_ns = postgres_now(listener->postgres);

    if (listener->again)
        return 0;
    if (listener->due_ms > 0 && due_ms < poll / NS_PER_MS)
        poll = due_ms * NS_PER_MS;
    if (!listener->whole && listener->whole_ns < now_ns + poll)
        poll = listener->whole_ns > now_ns ? listener->whole_ns - now_ns : 0;
    return poll;
}

void postgres_look_in(struct postgres_listener *listener, uint64_t ns)
{
    listener->asking = false;
    if (is_closing(listener))
        postgres_queue_settled(listener);
    else
        ask_in(listener, ns);
}

/* If one was wanted meanwhile, it comes. How long one took that failed says nothing. */
static void looked(struct postgres_listener *listener, bool well)
{
    uint64_t now_ns = postgres_now(listener->postgres);
    uint64_t pause_ns = well ? WHOLE_SHARE * (now_ns - listener->asked_ns) : 0;
    uint64_t poll_ns = postgres_store_of(listener->postgres)->queue_poll_ns;

    listener->asking = false;
    if (listener->whole && listener->whole_ns == NEVER)
        listener->whole_ns = now_ns + (pause_ns > poll_ns ? pause_ns : poll_ns);
}

/* The batch is handed over when the transaction is known to be committed. */
static void take_end(struct postgres_call *call)
{
    struct postgres_listener *listener = call->state;
    struct incoming_batch *batch = listener->batch;

    looked(listener, call->err.code == ERR_OK);
    listener->batch = NULL;
    if (!is_closing(listener) && !listener->withdrawn)
        subscription_give_back(listener->subscription, listener->asked, 0);
    listener->asked = 0;
    if (batch != NULL)
        subscription_deliver(listener->subscription, batch);
    if (is_closing(listener))
        postgres_queue_settled(listener);
    else if (call->err.code == ERR_UNAVAILABLE) /* who has listened may be gone as well */
        ask_in(listener, POSTGRES_RETRY_MS * NS_PER_MS);
    else
        ask_in(listener, batch != NULL ? 0 : pause_ns(listener));
}

static const struct postgres_kind take_kind = {
    .writes = true, .result = take_result, .end = take_end};

/* ---- asking ---- */

static uint64_t lease_ms(const struct postgres_listener *listener)
{
    uint64_t wanted = listener->subscription->want.lease_ms;

    return wanted > 0 ? wanted : postgres_store_of(listener->postgres)->queue_lease_ms;
}

static void add_place(struct postgres_listener *listener, struct postgres_params *params)
{
    struct postgres_place from = {0, 0};

    listener->asked_ns = postgres_now(listener->postgres);
    listener->whole = listener->whole_ns <= listener->asked_ns;
    if (listener->whole)
        listener->whole_ns = NEVER;
    else
        from = listener->at;
    postgres_add_int8(params, from.available_at);
    postgres_add_int8(params, from.id);
    postgres_add_int8(params,
                      (int64_t)(postgres_store_of(listener->postgres)->queue_poll_ns / NS_PER_MS));
}

static void ask(struct postgres_listener *listener)
{
    struct subscription *subscription = listener->subscription;
    struct postgres_conn *conn = postgres_choose(listener->postgres);
    uint64_t bytes = BATCH_BYTES;
    struct postgres_params params;
    struct arena scratch;

    if (conn == NULL || listener->asking || !subscription_may_take(subscription))
        return;
    if (listener->oldest_first) {
        postgres_oldest(listener, conn);
        return;
    }
    if ((uint64_t)subscription->credit_bytes < bytes)
        bytes = (uint64_t)subscription->credit_bytes;
    listener->asked = subscription->credit_messages < BATCH_MESSAGES
                          ? (uint32_t)subscription->credit_messages
                          : BATCH_MESSAGES;
    listener->withdrawn = listener->again = false;
    listener->due_ms = 0;
    listener->asking = true;
    subscription_take(subscription, listener->asked, 0);
    arena_init(&scratch, &listener->postgres->base.home->arenas);
    postgres_params_init(&params, &scratch);
    postgres_add_int4(&params, listener->postgres->space);
    postgres_add(&params, subscription->want.topic);
    postgres_add_int8(&params, listener->asked);
    postgres_add_int8(&params, (int64_t)bytes);
    postgres_add_int8(&params, (int64_t)lease_ms(listener));
    add_place(listener, &params);
    postgres_add_bool(&params, subscription->want.oldest_first);
    postgres_run_own(conn, &take_kind, listener, SQL_TAKE, &params);
    arena_clear(&scratch);
}

/* Also tells when the server has come. Without credit, grant() asks; without a connection, the
 * next turn. */
static void on_timer(struct timer *timer)
{
    struct postgres_listener *listener = CONTAINER_OF(timer, struct postgres_listener, timer);

    if (is_closing(listener))
        return;
    if (listener->subscription->state == SUB_OPENING && postgres_choose(listener->postgres) != NULL)
        subscription_opened(listener->subscription);
    ask(listener);
    if (!listener->asking && !is_closing(listener))
        ask_in(listener, postgres_store_of(listener->postgres)->queue_poll_ns);
}

/* A take that is on the wire may have looked before. */
void postgres_listener_poke(struct postgres_listener *listener)
{
    if (listener->asking)
        listener->again = true;
    else if (!is_closing(listener))
        ask_in(listener, 0);
}

void postgres_queue_poke(struct postgres *postgres)
{
    for (struct postgres_listener *l = postgres->listeners; l != NULL; l = l->next)
        postgres_listener_poke(l);
}

void postgres_listener_returned(struct postgres_listener *listener)
{
    listener->whole_ns = 0;
    postgres_listener_poke(listener);
}

void postgres_queue_returned(struct postgres *postgres, struct slice queue)
{
    postgres_wake_note_returned(postgres, queue);
    for (struct postgres_listener *l = postgres->listeners; l != NULL; l = l->next) {
        if (slice_equal(l->subscription->want.topic, queue))
            postgres_listener_returned(l);
    }
}

/* ---- the methods ---- */

void postgres_queue_open(struct backend *backend, struct subscription *subscription)
{
    struct postgres *postgres = postgres_of(backend);
    struct postgres_listener *listener = calloc(1, sizeof *listener);

    if (listener == NULL)
        abort();
    listener->postgres = postgres;
    listener->subscription = subscription;
    listener->oldest_first = subscription->want.oldest_first;
    listener->next = postgres->listeners;
    postgres->listeners = listener;
    postgres_wake_name(listener);
    subscription_opening(subscription, listener);
    ask_in(listener, 0);
    postgres_wake_listen(postgres);
}

void postgres_queue_grant(struct backend *backend, struct subscription *subscription,
                          uint32_t messages, uint64_t bytes)
{
    struct postgres_listener *listener = subscription->backend_data;

    (void)backend;
    subscription_granted(subscription, messages, bytes);
    if (!listener->asking)
        ask_in(listener, 0);
}

void postgres_queue_withdraw(struct backend *backend, struct subscription *subscription)
{
    struct postgres_listener *listener = subscription->backend_data;

    (void)backend;
    subscription_withdrawn(subscription);
    listener->withdrawn = true;
}

void postgres_queue_close(struct backend *backend, struct subscription *subscription)
{
    struct postgres_listener *listener = subscription->backend_data;

    (void)backend;
    subscription_closing(subscription);
    timer_disarm(timers_of(listener), &listener->timer);
    postgres_queue_settled(listener);
}
