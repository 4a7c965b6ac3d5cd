/* Delivery reports: they make a descriptor readable, which one instance of the store watches. A
 * batch of reports is taken under the store's lock once. */
#include "backends/kafka/kafka_priv.h"
#include "pool/worker.h"

enum { EVENTS_IN_TURN = 16 };

/* A producer that has failed says of what it purges only where that stood: in its queue, or on the
 * way. */
static bool is_unknown(const rd_kafka_message_t *message, const struct kafka_producer *producer)
{
    return rd_kafka_message_status(message) != RD_KAFKA_MSG_STATUS_NOT_PERSISTED ||
           (producer->dead && message->err != RD_KAFKA_RESP_ERR__PURGE_QUEUE);
}

static void take_report(struct kafka_store *store, const rd_kafka_message_t *message)
{
    struct kafka_sent *sent = message->_private;
    struct kafka_topic *topic = sent->topic;
    struct kafka_publication *publication = sent->publication;

    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        sent->partition = message->partition;
        sent->offset = message->offset;
    } else {
        sent->err = kafka_message_err(message->err, is_unknown(message, publication->producer));
        counter_add_shared(&store->refused, 1);
        if (sent->err.code == ERR_NOT_FOUND)
            kafka_topic_ask(publication->producer, topic);
    }
    kafka_sent_over(sent);
    kafka_publication_done(publication, 1);
}

/* Returns why the store is down, or NULL. */
static const char *take_error(struct kafka_producer *producer, rd_kafka_event_t *event)
{
    if (rd_kafka_event_error_is_fatal(event)) {
        kafka_producer_die(producer);
        return "a producer has failed; a new one is made";
    }
    switch (rd_kafka_event_error(event)) {
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        return "no broker of Kafka can be reached";
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
        return "Kafka refused the login";
    case RD_KAFKA_RESP_ERR__SSL:
        return "no TLS connection to Kafka can be made with these settings";
    default:
        return NULL;
    }
}

struct taken {
    const char *down;
    bool up;
};

static void take_event(struct kafka_producer *producer, rd_kafka_event_t *event,
                       struct taken *taken)
{
    const rd_kafka_message_t *message;
    const char *down;

    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_DR:
        counter_add_shared(&producer->store->reported, rd_kafka_event_message_count(event));
        while ((message = rd_kafka_event_message_next(event)) != NULL) {
            if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
                taken->up = true;
            take_report(producer->store, message);
        }
        break;
    case RD_KAFKA_EVENT_ERROR:
        down = take_error(producer, event);
        if (down != NULL && taken->down == NULL) /* the first one is the cause */
            *taken = (struct taken){.down = down};
        break;
    default:
        break;
    }
    rd_kafka_event_destroy(event);
}

/* One event of each producer. The lock holds each of them. */
static bool take_some(struct kafka_store *store, struct taken *taken)
{
    struct kafka_producer *producer, *next;
    bool found = false;

    pthread_mutex_lock(&store->lock);
    for (producer = store->producers; producer != NULL; producer = next) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(producer->reports, 0);

        producer->refs++; /* its last report may end it */
        if (event != NULL)
            take_event(producer, event, taken);
        found = found || event != NULL;
        next = producer->next;
        producer->refs--;
        kafka_producer_maybe_end(producer);
    }
    pthread_mutex_unlock(&store->lock);
    return found;
}

bool kafka_reports_take(struct kafka_store *store, unsigned turns)
{
    struct taken taken = {.down = NULL};
    bool more = true;

    while (turns-- > 0 && more)
        more = take_some(store, &taken);
    if (taken.down != NULL)
        kafka_store_down(store, taken.down);
    else if (taken.up)
        kafka_store_up(store);
    return more;
}

static void drain(struct job *job)
{
    struct kafka_instance *instance = CONTAINER_OF(job, struct kafka_instance, drain);

    instance->draining = false;
    if (instance->poll != NULL &&
        kafka_reports_take(kafka_store_of(&instance->base), EVENTS_IN_TURN)) {
        instance->draining = true;
        worker_land(instance->base.home, &instance->drain);
        return;
    }
    kafka_instance_release(instance);
}

static void ready(void *arg)
{
    struct kafka_instance *instance = arg;

    if (instance->draining)
        return;
    instance->draining = true;
    instance->busy++;
    worker_land(instance->base.home, &instance->drain);
}

/* ---- who watches ---- */

static void watch(struct kafka_instance *instance)
{
    instance->poll = kafka_poll_new(instance, kafka_store_of(&instance->base)->fd, ready, instance);
    ready(instance); /* what came while nobody watched */
}

static void take_over(struct job *job)
{
    struct kafka_instance *instance = CONTAINER_OF(job, struct kafka_instance, drain);
    struct kafka_store *store = kafka_store_of(&instance->base);
    bool ours;

    pthread_mutex_lock(&store->lock);
    ours = store->drainer == instance;
    instance->handed = false;
    pthread_mutex_unlock(&store->lock);
    instance->drain.run = drain;
    if (ours)
        watch(instance);
    if (instance->closing)
        kafka_instance_release(instance);
}

void kafka_reports_watch(struct kafka_instance *instance)
{
    struct kafka_store *store = kafka_store_of(&instance->base);
    bool ours;

    instance->drain.run = drain;
    pthread_mutex_lock(&store->lock);
    ours = store->drainer == NULL;
    if (ours)
        store->drainer = instance;
    pthread_mutex_unlock(&store->lock);
    if (ours)
        watch(instance);
}

/* Another one takes over; one that is not the drainer has no other use for its job. */
void kafka_reports_leave(struct kafka_instance *instance)
{
    struct kafka_store *store = kafka_store_of(&instance->base);
    struct kafka_instance *other;

    pthread_mutex_lock(&store->lock);
    *instance->at = instance->next;
    if (instance->next != NULL)
        instance->next->at = instance->at;
    other = store->instances;
    if (instance->handed)
        instance->busy++; /* until take_over has come */
    if (store->drainer != instance) {
        other = NULL;
    } else {
        store->drainer = other;
        if (other != NULL) {
            other->handed = true;
            other->drain.run = take_over;
            worker_land(other->base.home, &other->drain);
        }
    }
    pthread_mutex_unlock(&store->lock);
    if (instance->poll != NULL)
        kafka_poll_free(instance->poll);
    instance->poll = NULL;
}
