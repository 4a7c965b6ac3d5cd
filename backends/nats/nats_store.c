/* One slot's connection and the thread that owns it. */
#include "backends/nats/nats_priv.h"
#include "src/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { DELIVERY_THREADS = 2, BACKOFF_FIRST_MS = 100, BACKOFF_MAX_MS = 2000, ASKS = 10 };

struct err nats_unavailable(void)
{
    struct err err = err_make(ERR_UNAVAILABLE, "not connected to NATS; nothing was sent");

    err.retry_after_ms = NATS_RETRY_MS;
    return err;
}

/* ---- the queue ---- */

static void push(struct nats_tasks *tasks, struct nats_task *task)
{
    task->next = NULL;
    if (tasks->first == NULL)
        tasks->first = task;
    else
        tasks->last->next = task;
    tasks->last = task;
}

static struct nats_task *pop(struct nats_tasks *tasks)
{
    struct nats_task *task = tasks->first;

    if (task != NULL)
        tasks->first = task->next;
    return task;
}

void nats_store_put(struct nats_store *store, struct nats_task *task)
{
    pthread_mutex_lock(&store->lock);
    if (store->queue.first == NULL)
        pthread_cond_signal(&store->changed);
    push(&store->queue, task);
    pthread_mutex_unlock(&store->lock);
}

uint64_t nats_store_waiting(struct nats_store *store)
{
    uint64_t bytes;

    pthread_mutex_lock(&store->lock);
    bytes = store->waiting_bytes;
    pthread_mutex_unlock(&store->lock);
    return bytes;
}

/* ---- the connection ---- */

static void report(struct nats_store *store, enum backend_state state, const char *text)
{
    atomic_store(&store->base.state_text, text);
    atomic_store(&store->base.state, state);
    atomic_store(&store->connected, state == BACKEND_READY);
}

/* thread: the library's, for the last callback of a connection. */
static void on_closed(natsConnection *connection, void *arg)
{
    struct nats_store *store = arg;

    (void)connection;
    pthread_mutex_lock(&store->lock);
    store->lost = true;
    pthread_cond_signal(&store->changed);
    pthread_mutex_unlock(&store->lock);
}

static bool run_refused(struct nats_store *store, struct nats_task *task)
{
    (void)task;
    pthread_mutex_lock(&store->lock);
    store->refused_queued = false;
    pthread_mutex_unlock(&store->lock);
    if (store->connection != NULL)
        store->kind->refused(store);
    return false;
}

/* Without a handler the library prints. What else matters is seen where it happens. thread: the
 * library's. */
static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status,
                     void *arg)
{
    struct nats_store *store = arg;
    bool queued;

    (void)connection;
    (void)subscription;
    if (status != NATS_NOT_PERMITTED || store->kind->refused == NULL)
        return;
    pthread_mutex_lock(&store->lock);
    queued = store->refused_queued;
    store->refused_queued = true;
    pthread_mutex_unlock(&store->lock);
    if (!queued)
        nats_store_put(store, &store->refused);
}

static void log_loss(struct nats_store *store, const char *why, const char *detail)
{
    const struct log_field fields[] = {
        LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
        LOG_S("servers", store->config.shown), LOG_S("why", why), LOG_S("detail", detail)};

    log_limited(&store->losses, LOG_WARN, "nats_disconnected", fields, ARRAY_LEN(fields));
}

static const char *reason(natsStatus status)
{
    switch (status) {
    case NATS_CONNECTION_AUTH_FAILED:
        return "NATS refused the login";
    case NATS_SSL_ERROR:
    case NATS_SECURE_CONNECTION_WANTED:
    case NATS_SECURE_CONNECTION_REQUIRED:
        return "no TLS connection to NATS can be made with these settings";
    case NATS_TIMEOUT:
        return "NATS does not answer";
    default:
        return "no connection to NATS";
    }
}

static void wait_for_next_attempt(struct nats_store *store)
{
    uint64_t ms = BACKOFF_FIRST_MS;

    store->server_at = (store->server_at + 1) % (unsigned)store->config.n_servers;
    if (store->server_at == 0)
        store->attempts++;
    for (unsigned i = 1; i < store->attempts && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    store->next_attempt_ns = clock_now_ns() + ms * NS_PER_MS;
}

static natsStatus connect_to(struct nats_store *store, natsConnection **connection)
{
    natsOptions *options;
    natsStatus s;

    pthread_mutex_lock(&store->lock);
    s = nats_options(&options, &store->config, &store->login,
                     store->config.servers[store->server_at]);
    store->lost = false;
    pthread_mutex_unlock(&store->lock);
    if (s != NATS_OK)
        return s;
    s = natsOptions_SetClosedCB(options, on_closed, store);
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(options, on_error, store);
    if (s == NATS_OK)
        s = natsConnection_Connect(connection, options);
    natsOptions_Destroy(options);
    return s;
}

/* The library's last callback has come when this returns: nothing of it points to us any more but
 * subscriptions, which are told to their owners one by one. */
static void drop_connection(struct nats_store *store)
{
    natsConnection_Close(store->connection);
    pthread_mutex_lock(&store->lock);
    while (!store->lost)
        pthread_cond_wait(&store->changed, &store->lock);
    pthread_mutex_unlock(&store->lock);
    if (store->kind->lost != NULL)
        store->kind->lost(store);
    natsConnection_Destroy(store->connection);
    store->connection = NULL;
}

void nats_store_leave(struct nats_store *store, const char *why, const char *detail)
{
    report(store, BACKEND_DOWN, why);
    log_loss(store, why, detail);
    drop_connection(store);
    wait_for_next_attempt(store);
}

/* The next server may have another one. */
static void note_max_payload(struct nats_store *store)
{
    uint64_t most = (uint64_t)natsConnection_GetMaxPayload(store->connection);

    if (atomic_exchange(&store->base.message_bytes, most) != most)
        atomic_fetch_add(&store->base.facts_version, 1);
}

static void try_to_connect(struct nats_store *store)
{
    natsConnection *connection = NULL;
    natsStatus s = connect_to(store, &connection);
    const char *fault = NULL;

    if (s != NATS_OK) {
        report(store, BACKEND_DOWN, reason(s));
        log_loss(store, reason(s), natsStatus_GetText(s));
        wait_for_next_attempt(store);
        return;
    }

    const struct log_field fields[] = {LOG_S("namespace", store->base.namespace_name),
                                       LOG_S("slot", store->base.slot),
                                       LOG_S("servers", store->config.shown)};

    store->connection = connection;
    store->n_denied = 0;
    store->write_failed = false;
    note_max_payload(store);
    if (store->kind->connected != NULL)
        fault = store->kind->connected(store);
    if (fault != NULL) {
        nats_store_leave(store, fault, NULL);
        return;
    }
    store->attempts = 0;
    counter_add_shared(&store->connections, 1);
    log_limited(&store->connects, LOG_INFO, "nats_connected", fields, ARRAY_LEN(fields));
    report(store, BACKEND_READY, NULL);
}

bool nats_violated(struct nats_store *store, const char *prefix, char subject[], size_t room)
{
    const char *text = NULL;
    size_t len;

    natsConnection_GetLastError(store->connection, &text);
    if (text == NULL || strncasecmp(text, prefix, strlen(prefix)) != 0)
        return false;
    text += strlen(prefix);
    len = strcspn(text, "\"");
    if (len >= room)
        len = room - 1;
    memcpy(subject, text, len);
    subject[len] = '\0';
    return true;
}

/* ---- the thread ---- */

static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

struct round {
    struct nats_tasks tasks;
    bool lost, stopping;
};

/* When the thread has something to do although no task comes. */
static uint64_t next_turn_ns(const struct nats_store *store)
{
    if (store->connection == NULL && store->next_attempt_ns < store->next_tick_ns)
        return store->next_attempt_ns;
    return store->next_tick_ns;
}

/* Waits for something to do, and takes some of it. */
static void take(struct nats_store *store, struct round *round)
{
    uint64_t until_ns = next_turn_ns(store);
    struct timespec until = time_of(until_ns);
    struct nats_task *task;

    round->tasks = (struct nats_tasks){0};
    pthread_mutex_lock(&store->lock);
    while (store->queue.first == NULL && !store->stopping) {
        if (store->connection != NULL && store->lost)
            break;
        if (until_ns == UINT64_MAX)
            pthread_cond_wait(&store->changed, &store->lock);
        else if (pthread_cond_timedwait(&store->changed, &store->lock, &until) == ETIMEDOUT)
            break;
    }
    for (unsigned n = 0; n < NATS_WINDOW_TASKS && (task = pop(&store->queue)) != NULL; n++)
        push(&round->tasks, task);
    round->lost = store->lost;
    round->stopping = store->stopping;
    pthread_mutex_unlock(&store->lock);
}

static void take_last(struct nats_store *store, struct round *round)
{
    pthread_mutex_lock(&store->lock);
    while (store->queue.first == NULL)
        pthread_cond_wait(&store->changed, &store->lock);
    round->tasks = store->queue;
    store->queue = (struct nats_tasks){0};
    pthread_mutex_unlock(&store->lock);
}

/* The library does not look whether its PING could be written, and says that all is well if it
 * could not. What is left in its buffer may show it, or is its own answer to a PING of the server,
 * which leaves with the next question. A connection lost in the middle may pass for good, too.
 */
natsStatus nats_ask(struct nats_store *store)
{
    natsConnection *connection = store->connection;
    natsStatus s = NATS_IO_ERROR;
    int left = 1;

    for (unsigned i = 0; i < ASKS && left > 0 && !store->write_failed; i++) {
        s = natsConnection_FlushTimeout(connection, (int64_t)store->config.ack_timeout_ms);
        left = s == NATS_OK ? natsConnection_Buffered(connection) : 0;
    }
    if (s == NATS_OK && left != 0)
        return NATS_IO_ERROR;
    if (s == NATS_OK && natsConnection_Status(connection) != NATS_CONN_STATUS_CONNECTED)
        return NATS_CONNECTION_CLOSED;
    return s;
}

/* One PONG for all that was written. */
static bool ask(struct nats_store *store)
{
    natsStatus s;

    if (store->connection == NULL)
        return false;
    s = nats_ask(store);
    if (s == NATS_OK)
        return true;
    nats_store_leave(store, s == NATS_TIMEOUT ? "NATS has fallen silent" : reason(s),
                     natsStatus_GetText(s));
    return false;
}

static void work(struct nats_store *store, struct nats_tasks *tasks)
{
    struct nats_tasks waiting = {0};
    struct nats_task *task;
    bool answered;

    while ((task = pop(tasks)) != NULL) {
        if (task->run(store, task))
            push(&waiting, task);
    }
    if (waiting.first == NULL)
        return;
    answered = ask(store);
    if (answered && store->kind->answered != NULL)
        store->kind->answered(store);
    while ((task = pop(&waiting)) != NULL)
        task->settle(store, task, answered);
}

static bool is_idle(struct nats_store *store)
{
    bool idle;

    pthread_mutex_lock(&store->lock);
    idle = store->queue.first == NULL;
    pthread_mutex_unlock(&store->lock);
    return idle;
}

/* The library sends what it has buffered a millisecond after it was written, or when the buffer is
 * full, or before a PING at once. Waiting for the PONG costs less than the millisecond. Not while a
 * subscription drains: its thread waits for a PONG, too, and 3.4.1 may have both wait for the same
 * record, which the one that gives up first takes away. */
static void send_promptly(struct nats_store *store)
{
    natsStatus s;

    if (store->connection == NULL || store->write_failed || store->draining > 0 ||
        !is_idle(store) || natsConnection_Buffered(store->connection) <= 0)
        return;
    s = natsConnection_FlushTimeout(store->connection, 1);
    store->write_failed = s != NATS_OK && s != NATS_TIMEOUT;
}

static void *run_thread(void *arg)
{
    struct nats_store *store = arg;
    struct round round;

    pthread_setname_np(pthread_self(), "prism-nats");
    do {
        take(store, &round);
        if (store->connection != NULL && round.lost)
            nats_store_leave(store, "NATS has closed the connection", NULL);
        if (store->connection == NULL && !round.stopping &&
            clock_now_ns() >= store->next_attempt_ns)
            try_to_connect(store);
        work(store, &round.tasks);
        if (store->kind->prompt)
            send_promptly(store);
        store->next_tick_ns = store->kind->tick != NULL ? store->kind->tick(store) : UINT64_MAX;
    } while (!round.stopping);
    if (store->connection != NULL)
        drop_connection(store);
    while (store->attachments > 0) { /* the library still points to them */
        take_last(store, &round);
        work(store, &round.tasks);
    }
    nats_ReleaseThreadMemory();
    return NULL;
}

/* May be repeated: both calls are for the process. */
static void prepare_library(void)
{
    if (nats_Open(-1) != NATS_OK || nats_SetMessageDeliveryPoolSize(DELIVERY_THREADS) != NATS_OK) {
        fprintf(stderr, "prism: the NATS library cannot be started\n");
        abort();
    }
}

void nats_store_start(struct nats_store *store)
{
    pthread_mutex_lock(&store->lock);
    if (!store->started)
        prepare_library();
    if (!store->started && pthread_create(&store->thread, NULL, run_thread, store) != 0) {
        fprintf(stderr, "prism: no thread for NATS\n");
        abort();
    }
    store->started = true;
    pthread_mutex_unlock(&store->lock);
}

/* ---- open and close ---- */

struct err nats_store_init(struct nats_store *store, const struct backend_type *type,
                           const struct nats_kind *kind, const struct backend_options *options)
{
    struct backend_faults faults = {.count = 0};
    pthread_condattr_t monotonic;

    type->check(options->values, &faults);
    if (faults.count > 0)
        return err_about(ERR_INVALID_ARGUMENT, faults.items[0].setting, faults.items[0].text);
    backend_store_init(&store->base, type, options);
    store->kind = kind;
    store->next_tick_ns = UINT64_MAX;
    store->refused.run = run_refused;
    nats_config_take(&store->config, options->values);
    if (store->config.shown == store->config.shown_copy)
        backend_store_place(&store->base, store->config.shown, "", false);
    store->login = nats_login_take(options->values);
    store->connects = store->losses = (struct log_budget)LOG_BUDGET(5, 10000);
    pthread_mutex_init(&store->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&store->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return ERR_NONE;
}

void nats_store_clear(struct nats_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    pthread_cond_signal(&store->changed);
    pthread_mutex_unlock(&store->lock);
    if (store->started)
        pthread_join(store->thread, NULL);
    nats_login_clear(&store->login);
    nats_config_clear(&store->config);
    pthread_cond_destroy(&store->changed);
    pthread_mutex_destroy(&store->lock);
    backend_store_clear(&store->base);
}

void nats_store_reload(struct backend_store *base, const struct backend_value *values)
{
    struct nats_store *store = CONTAINER_OF(base, struct nats_store, base);
    struct nats_login login = nats_login_take(values), old;

    pthread_mutex_lock(&store->lock);
    old = store->login;
    store->login = login;
    pthread_mutex_unlock(&store->lock);
    nats_login_clear(&old);
}
