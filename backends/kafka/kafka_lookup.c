/* Questions of operations at the desk. An operation whose deadline passes, or whose call is
 * cancelled, ends at once, though a thread may still wait for the answer. */
#include "backends/kafka/kafka_listener.h"
#include "pool/worker.h"

#include <stdlib.h>

enum { LATER_MS = 200 };

static bool may_begin(struct kafka_store *store)
{
    bool may;

    pthread_mutex_lock(&store->lock);
    may = store->lookups < KAFKA_LOOKUPS;
    store->lookups += may;
    pthread_mutex_unlock(&store->lock);
    if (!may)
        counter_add_shared(&store->lookups_refused, 1);
    return may;
}

static struct err refused(void)
{
    struct err err = err_make(ERR_RESOURCE_EXHAUSTED,
                              "as many questions about positions as may be wait for Kafka");

    err.retry_after_ms = KAFKA_RETRY_MS;
    return err;
}

static void over(struct kafka_lookup *lookup)
{
    struct kafka_store *store = lookup->store;
    struct kafka_instance *instance = lookup->instance;

    if (lookup->desk == &store->lookup_desk) {
        pthread_mutex_lock(&store->lock);
        store->lookups--;
        pthread_mutex_unlock(&store->lock);
    }
    free(lookup->known);
    free(lookup->places);
    free(lookup);
    kafka_instance_release(instance);
}

static struct op *take_op(struct kafka_lookup *lookup)
{
    struct op *op = lookup->op;

    lookup->op = NULL;
    op->backend_data = NULL;
    return op;
}

static void come_home(struct job *job)
{
    struct kafka_lookup *lookup = CONTAINER_OF(job, struct kafka_lookup, job);

    if (lookup->op != NULL) {
        if (lookup->err.code == ERR_OK && lookup->fill != NULL)
            lookup->fill(lookup);
        op_finish(take_op(lookup), lookup->err);
    }
    over(lookup);
}

/* One that no thread has begun is gone at once. */
static void cancel(struct op *op, struct err why)
{
    struct kafka_lookup *lookup = op->backend_data;

    if (lookup == NULL)
        return;
    atomic_store(&lookup->abandoned, true);
    op_finish(take_op(lookup), why);
    if (kafka_desk_take_back(lookup->desk, &lookup->task))
        over(lookup);
}

struct kafka_lookup *kafka_lookup_new(struct backend *backend, struct op *op, bool positions)
{
    struct kafka_store *store = kafka_store_of(backend);
    struct kafka_lookup *lookup;

    if (positions && !may_begin(store)) {
        op_finish(op, refused());
        return NULL;
    }
    lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL)
        abort();
    lookup->instance = kafka_instance_of(backend);
    lookup->instance->busy++;
    lookup->store = store;
    lookup->desk = positions ? &store->lookup_desk : &store->desk;
    lookup->op = op;
    lookup->patience.over = &lookup->abandoned;
    if (op_deadline_ns(op) != 0) /* which ends the operation before the library gives up */
        lookup->patience.until_ns = op_deadline_ns(op) + (uint64_t)LATER_MS * NS_PER_MS;
    op->backend_data = lookup;
    op_park(op, cancel); /* which may come at once: then the desk does nothing */
    return lookup;
}

static void copy_name(char *to, struct slice from)
{
    if (from.len > 0)
        memcpy(to, from.data, from.len < MESSAGE_TOPIC_BYTES ? from.len : MESSAGE_TOPIC_BYTES);
}

void kafka_lookup_about(struct kafka_lookup *lookup, struct slice topic, struct slice group)
{
    copy_name(lookup->topic, topic);
    copy_name(lookup->group, group);
}

void kafka_lookup_begin(struct kafka_lookup *lookup, void (*run)(struct kafka_task *))
{
    lookup->task.run = run;
    kafka_desk_put(lookup->desk, &lookup->task, 0);
}

void kafka_lookup_finish(struct kafka_lookup *lookup)
{
    lookup->job.run = come_home;
    worker_land(lookup->instance->base.home, &lookup->job);
}
