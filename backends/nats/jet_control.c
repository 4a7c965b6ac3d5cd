/* The control thread: the library's calls about streams and consumers, which wait for the server.
 * One at a time, each for ack_timeout_ms at most; a connection that is lost ends them at once. */
#include "backends/nats/jet_priv.h"
#include "pool/worker.h"

#include <stdio.h>
#include <stdlib.h>

void jet_control_init(struct jet_control *control)
{
    pthread_mutex_init(&control->lock, NULL);
    pthread_cond_init(&control->changed, NULL);
}

/* ---- the thread ---- */

static struct jet_errand *take(struct jet_control *control)
{
    struct jet_errand *errand;

    while (control->first == NULL && !control->stopping)
        pthread_cond_wait(&control->changed, &control->lock);
    errand = control->first;
    if (errand != NULL)
        control->first = errand->next;
    return errand;
}

static void *run_thread(void *arg)
{
    struct jet_store *store = arg;
    struct jet_control *control = &store->control;
    struct jet_errand *errand;

    pthread_setname_np(pthread_self(), "prism-nats-js");
    pthread_mutex_lock(&control->lock);
    while ((errand = take(control)) != NULL) {
        jsCtx *js = control->js;

        control->busy = true;
        pthread_mutex_unlock(&control->lock);
        errand->work(store, js, errand);
        errand->worked(store, errand);
        pthread_mutex_lock(&control->lock);
        control->busy = false;
        pthread_cond_broadcast(&control->changed);
    }
    pthread_mutex_unlock(&control->lock);
    nats_ReleaseThreadMemory();
    return NULL;
}

void jet_control_start(struct jet_store *store)
{
    struct jet_control *control = &store->control;

    pthread_mutex_lock(&control->lock);
    if (!control->started && pthread_create(&control->thread, NULL, run_thread, store) != 0) {
        fprintf(stderr, "prism: no thread for NATS\n");
        abort();
    }
    control->started = true;
    pthread_mutex_unlock(&control->lock);
}

void jet_control_stop(struct jet_control *control)
{
    pthread_mutex_lock(&control->lock);
    control->stopping = true;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
    if (control->started)
        pthread_join(control->thread, NULL);
}

void jet_control_clear(struct jet_control *control)
{
    pthread_cond_destroy(&control->changed);
    pthread_mutex_destroy(&control->lock);
}

void jet_control_put(struct jet_store *store, struct jet_errand *errand)
{
    struct jet_control *control = &store->control;

    errand->next = NULL;
    pthread_mutex_lock(&control->lock);
    if (control->first == NULL)
        control->first = errand;
    else
        control->last->next = errand;
    control->last = errand;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
}

/* ---- the connection ---- */

bool jet_control_connected(struct jet_store *store)
{
    jsOptions options;
    jsCtx *js;

    jsOptions_Init(&options);
    options.Wait = (int64_t)store->base.config.ack_timeout_ms;
    if (natsConnection_JetStream(&js, store->base.connection, &options) != NATS_OK)
        return false;
    pthread_mutex_lock(&store->control.lock);
    store->control.js = js;
    pthread_mutex_unlock(&store->control.lock);
    return true;
}

/* The connection is closed, so what the thread waits for has failed. */
void jet_control_lost(struct jet_store *store)
{
    struct jet_control *control = &store->control;
    jsCtx *js;

    pthread_mutex_lock(&control->lock);
    js = control->js;
    control->js = NULL;
    while (control->busy)
        pthread_cond_wait(&control->changed, &control->lock);
    pthread_mutex_unlock(&control->lock);
    jsCtx_Destroy(js);
}

/* ---- operations of workers ---- */

static struct op *take_op(struct jet_call *call)
{
    struct backend_stats *stats = &call->instance->base.stats;
    struct op *op = call->op;

    *call->at = call->next;
    if (call->next != NULL)
        call->next->at = call->at;
    call->op = NULL;
    op->backend_data = NULL;
    counter_add(&stats->in_flight, (uint64_t)-1);
    return op;
}

static void fail(struct jet_call *call, struct err why)
{
    struct op *op = take_op(call);

    atomic_store(&call->abandoned, true);
    counter_add(&call->instance->base.stats.errors, 1);
    op_finish(op, why);
}

static void come_home(struct job *job)
{
    struct jet_call *call = CONTAINER_OF(job, struct jet_call, job);
    struct jet_instance *instance = call->instance;

    if (call->op != NULL && call->err.code != ERR_OK) {
        fail(call, call->err);
    } else if (call->op != NULL) {
        if (call->done != NULL)
            call->done(call);
        op_finish(take_op(call), ERR_NONE);
    }
    free(call);
    jet_instance_back(instance);
}

static void worked(struct jet_store *store, struct jet_errand *errand)
{
    struct jet_call *call = (struct jet_call *)errand;

    (void)store;
    worker_land(call->instance->base.home, &call->job);
}

static void cancel(struct op *op, struct err why)
{
    if (op->backend_data != NULL)
        fail(op->backend_data, why);
}

void jet_call_abandon(struct jet_instance *instance)
{
    while (instance->calls != NULL)
        fail(instance->calls, nats_unavailable());
}

void jet_call_park(struct jet_instance *instance, struct jet_call *call, struct op *op)
{
    if (call->errand.worked == NULL)
        call->errand.worked = worked;
    call->job.run = come_home;
    call->instance = instance;
    call->op = op;
    op->backend_data = call;
    call->next = instance->calls;
    call->at = &instance->calls;
    if (call->next != NULL)
        call->next->at = &call->next;
    instance->calls = call;
    instance->out++;
    counter_add(&instance->base.stats.calls, 1);
    counter_add(&instance->base.stats.in_flight, 1);
    op_park(op, cancel);
}

void jet_call_start(struct jet_instance *instance, struct jet_call *call, struct op *op)
{
    jet_call_park(instance, call, op);
    jet_control_put(jet_store_of(&instance->base), &call->errand);
}
