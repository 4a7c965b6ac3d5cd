/* A slot: its configuration, its producer, and whether brokers are reached. */
#include "backends/kafka/kafka_priv.h"
#include "src/base/clock.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WATCH_MS = 1000, WATCH_ANSWER_MS = 2000, REMAKE_MS = 1000, STOP_LOOK_MS = 10 };

/* ---- health ---- */

static void log_state(struct kafka_store *store, enum log_level level, const char *event,
                      const char *why)
{
    const struct log_field fields[] = {LOG_S("namespace", store->base.namespace_name),
                                       LOG_S("slot", store->base.slot),
                                       LOG_S("brokers", store->config.shown), LOG_S("why", why)};

    log_limited(&store->troubles, level, event, fields, ARRAY_LEN(fields) - (why == NULL));
}

void kafka_store_up(struct kafka_store *store)
{
    if (atomic_load(&store->base.state) == BACKEND_READY)
        return;
    atomic_store(&store->base.state_text, NULL);
    if (atomic_exchange(&store->base.state, BACKEND_READY) == BACKEND_READY)
        return;
    counter_add_shared(&store->connects, 1);
    log_state(store, LOG_INFO, "kafka_connected", NULL);
}

/* Follows from any cause: it does not replace one that says more. */
static bool is_vague(const char *why)
{
    return strncmp(why, "no broker", 9) == 0;
}

void kafka_store_down(struct kafka_store *store, const char *why)
{
    bool watch;

    if (atomic_exchange(&store->base.state, BACKEND_DOWN) != BACKEND_DOWN ||
        atomic_load(&store->base.state_text) == NULL || !is_vague(why)) {
        if (atomic_exchange(&store->base.state_text, why) != why)
            log_state(store, LOG_WARN, "kafka_disconnected", why);
    }
    pthread_mutex_lock(&store->lock);
    watch = !store->watching && !store->stopping;
    store->watching = store->watching || watch;
    pthread_mutex_unlock(&store->lock);
    if (watch)
        kafka_desk_put(&store->desk, &store->watch, WATCH_MS);
}

static rd_kafka_resp_err_t ask_brokers(rd_kafka_t *rk)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, NULL, &metadata, WATCH_ANSWER_MS);

    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(metadata);
    return code;
}

bool kafka_store_is_stopping(struct kafka_store *store)
{
    bool stopping;

    pthread_mutex_lock(&store->lock);
    stopping = store->stopping;
    pthread_mutex_unlock(&store->lock);
    return stopping;
}

/* The library tells when the last connection breaks, not when one is there again. */
static void run_watch(struct kafka_task *task)
{
    struct kafka_store *store = CONTAINER_OF(task, struct kafka_store, watch);
    struct kafka_producer *producer =
        kafka_store_is_stopping(store) ? NULL : kafka_producer_ref(store);
    bool up = producer != NULL && ask_brokers(producer->rk) == RD_KAFKA_RESP_ERR_NO_ERROR;
    bool again;

    if (producer != NULL)
        kafka_producer_unref(producer);
    if (up)
        kafka_store_up(store);
    pthread_mutex_lock(&store->lock);
    again = !up && !store->stopping;
    store->watching = again;
    pthread_mutex_unlock(&store->lock);
    if (again)
        kafka_desk_put(&store->desk, &store->watch, WATCH_MS);
}

/* ---- producers ---- */

struct kafka_producer *kafka_producer_ref(struct kafka_store *store)
{
    struct kafka_producer *producer;

    pthread_mutex_lock(&store->lock);
    producer = store->producer;
    if (producer != NULL)
        producer->refs++;
    pthread_mutex_unlock(&store->lock);
    return producer;
}

void kafka_producer_unref(struct kafka_producer *producer)
{
    struct kafka_store *store = producer->store;

    pthread_mutex_lock(&store->lock);
    producer->refs--;
    kafka_producer_maybe_end(producer);
    pthread_mutex_unlock(&store->lock);
}

static void run_end(struct kafka_task *task)
{
    struct kafka_producer *producer = CONTAINER_OF(task, struct kafka_producer, end);

    rd_kafka_queue_io_event_enable(producer->reports, -1, NULL, 0);
    rd_kafka_queue_destroy(producer->reports);
    kafka_topics_clear(producer);
    rd_kafka_destroy(producer->rk);
    free(producer);
}

void kafka_producer_maybe_end(struct kafka_producer *producer)
{
    struct kafka_store *store = producer->store;
    struct kafka_producer **at = &store->producers;

    if (!producer->dead || producer->refs > 0 || producer->waiting > 0)
        return;
    while (*at != NULL && *at != producer)
        at = &(*at)->next;
    if (*at == NULL)
        return; /* it is ending */
    *at = producer->next;
    producer->end.run = run_end;
    kafka_desk_put(&store->desk, &producer->end, 0);
}

void kafka_producer_die(struct kafka_producer *producer)
{
    struct kafka_store *store = producer->store;

    if (producer->dead)
        return;
    producer->dead = true;
    rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                     RD_KAFKA_PURGE_F_NON_BLOCKING);
    if (store->producer == producer) {
        store->producer = NULL;
        if (!store->stopping)
            kafka_desk_put(&store->desk, &store->make, 0);
    }
    kafka_producer_maybe_end(producer);
}

static struct kafka_producer *new_producer(struct kafka_store *store)
{
    rd_kafka_conf_t *conf = kafka_conf_producer(store);
    struct kafka_producer *producer = calloc(1, sizeof *producer);
    const uint64_t one = 1;
    char why[256];

    if (producer == NULL)
        abort();
    producer->store = store;
    producer->rk = conf == NULL ? NULL : rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (producer->rk == NULL) {
        if (conf != NULL) {
            log_state(store, LOG_ERROR, "kafka_no_client", why);
            rd_kafka_conf_destroy(conf);
        }
        free(producer);
        return NULL;
    }
    producer->reports = rd_kafka_queue_get_main(producer->rk);
    rd_kafka_queue_io_event_enable(producer->reports, store->fd, &one, sizeof one);
    return producer;
}

static void run_make(struct kafka_task *task)
{
    struct kafka_store *store = CONTAINER_OF(task, struct kafka_store, make);
    struct kafka_producer *producer;

    if (kafka_store_is_stopping(store))
        return;
    producer = new_producer(store);
    if (producer == NULL) {
        kafka_store_down(store, "no client of Kafka can be made with these settings");
        if (!kafka_store_is_stopping(store))
            kafka_desk_put(&store->desk, &store->make, REMAKE_MS);
        return;
    }
    pthread_mutex_lock(&store->lock);
    producer->next = store->producers;
    store->producers = producer;
    store->producer = producer;
    pthread_mutex_unlock(&store->lock);
    if (ask_brokers(producer->rk) == RD_KAFKA_RESP_ERR_NO_ERROR)
        kafka_store_up(store);
    else
        kafka_store_down(store, "no broker of Kafka answers");
}

void kafka_store_start(struct kafka_store *store)
{
    bool first;

    pthread_mutex_lock(&store->lock);
    first = !store->started;
    store->started = true;
    pthread_mutex_unlock(&store->lock);
    if (first)
        kafka_desk_put(&store->desk, &store->make, 0);
}

/* ---- open, stop and close ---- */

struct err kafka_store_open(struct backend_store **out, const struct backend_options *options)
{
    struct backend_faults faults = {.count = 0};
    struct kafka_store *store;

    kafka_settings_check(options->values, &faults);
    if (faults.count > 0)
        return err_about(ERR_INVALID_ARGUMENT, faults.items[0].setting, faults.items[0].text);
    store = calloc(1, sizeof *store);
    if (store == NULL)
        abort();
    backend_store_init(&store->base, &backend_kafka, options);
    kafka_config_take(&store->config, options->values);
    if (store->config.shown == store->config.brokers)
        backend_store_place(&store->base, store->config.brokers, "", false);
    store->login = kafka_login_take(options->values);
    store->library = store->troubles = (struct log_budget)LOG_BUDGET(5, 10000);
    store->make.run = run_make;
    store->watch.run = run_watch;
    store->stream = *backend_kafka.interfaces.stream;
    store->stream.sink.max_message_bytes = store->config.max_message_bytes;
    store->stream.source.max_buffer = store->config.subscription_bytes;
    if (strcmp(store->config.acks, "all") != 0)
        store->stream.sink.ack_means = "the partition's leader has written it to its log; it is "
                                       "lost with the leader unless a replica has fetched it";
    store->stream.sink.partitioner = store->config.partitioner;
    store->topic = *backend_kafka.interfaces.topic;
    store->topic.sink = store->stream.sink;
    store->topic.source.max_buffer = store->config.subscription_bytes;
    store->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (store->fd < 0)
        abort();
    pthread_mutex_init(&store->lock, NULL);
    kafka_desk_init(&store->desk, KAFKA_DESK_THREADS);
    kafka_desk_init(&store->lookup_desk, KAFKA_LOOKUP_THREADS);
    *out = &store->base;
    return ERR_NONE;
}

void kafka_store_reload(struct backend_store *base, const struct backend_value *values)
{
    struct kafka_store *store = CONTAINER_OF(base, struct kafka_store, base);
    struct kafka_login login = kafka_login_take(values), old;

    pthread_mutex_lock(&store->lock);
    old = store->login;
    store->login = login;
    if (store->producer != NULL && store->login.username != NULL)
        rd_kafka_sasl_set_credentials(store->producer->rk, login.username,
                                      login.password != NULL ? login.password : "");
    pthread_mutex_unlock(&store->lock);
    kafka_login_clear(&old);
}

/* Looks whether everything is out. What is not by the deadline is given up, reports and all. */
static void run_stop(struct kafka_task *task)
{
    struct kafka_store *store = CONTAINER_OF(task, struct kafka_store, stop);
    uint64_t waiting = 0;
    bool late = clock_now_ns() >= store->stop_ns;

    pthread_mutex_lock(&store->lock);
    for (struct kafka_producer *producer = store->producers; producer != NULL;
         producer = producer->next) {
        waiting += producer->waiting;
        if (late)
            rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                             RD_KAFKA_PURGE_F_NON_BLOCKING);
    }
    pthread_mutex_unlock(&store->lock);
    if (waiting > 0 && !late)
        kafka_desk_put(&store->desk, &store->stop, STOP_LOOK_MS);
    else
        store->stopped(store->stopped_arg, waiting);
}

void kafka_store_stop(struct backend_store *base, uint64_t deadline_ns, backend_stopped_fn *stopped,
                      void *arg)
{
    struct kafka_store *store = CONTAINER_OF(base, struct kafka_store, base);

    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    pthread_mutex_unlock(&store->lock);
    store->stop.run = run_stop;
    store->stop_ns = deadline_ns;
    store->stopped = stopped;
    store->stopped_arg = arg;
    kafka_desk_put(&store->desk, &store->stop, 0);
}

/* Purged messages have their reports at once; they free what belongs to them. */
static void end_producers(struct kafka_store *store)
{
    struct kafka_producer *producer;

    for (producer = store->producers; producer != NULL; producer = producer->next)
        rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    while ((producer = store->producers) != NULL) {
        while (producer->waiting > 0 && rd_kafka_outq_len(producer->rk) > 0)
            kafka_reports_take(store, 1);
        store->producers = producer->next;
        run_end(&producer->end);
    }
}

void kafka_store_close(struct backend_store *base)
{
    struct kafka_store *store = CONTAINER_OF(base, struct kafka_store, base);

    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    store->producer = NULL;
    pthread_mutex_unlock(&store->lock);
    kafka_desk_clear(&store->lookup_desk);
    kafka_desk_clear(&store->desk);
    end_producers(store);
    kafka_login_clear(&store->login);
    kafka_config_clear(&store->config);
    close(store->fd);
    pthread_mutex_destroy(&store->lock);
    if (counter_read(&store->leaked) > 0)
        return; /* the library still logs for those that were given up, until the process ends */
    backend_store_clear(&store->base);
    free(store);
}
