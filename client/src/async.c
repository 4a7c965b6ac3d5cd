/* The channel's thread: an answer arrives -> finish the attempt -> either done(), or into the list
 * of those that wait for their next attempt. The list is short (failing calls only) and belongs to
 * this thread, so it needs neither order nor lock. */
#include "client/src/async.h"

#include "client/src/channel.h"
#include "client/src/error.h"

#include <grpc/support/time.h>
#include <signal.h>
#include <stdlib.h>

struct async {
    grpc_completion_queue *queue;
    pthread_t thread;
    struct rpc *waiting; /* the channel's thread only */

    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t idle;
    size_t in_flight;
};

static gpr_timespec next_retry(const struct async *async)
{
    uint64_t first = UINT64_MAX;

    for (const struct rpc *rpc = async->waiting; rpc != NULL; rpc = rpc->next) {
        if (rpc->retry_at_ns < first)
            first = rpc->retry_at_ns;
    }
    return first == UINT64_MAX ? gpr_inf_future(GPR_CLOCK_MONOTONIC) : rpc_timespec(first);
}

static void retry_due(struct async *async)
{
    uint64_t now = rpc_now_ns();
    struct rpc **at = &async->waiting;

    while (*at != NULL) {
        struct rpc *rpc = *at;

        if (rpc->retry_at_ns > now) {
            at = &rpc->next;
            continue;
        }
        *at = rpc->next;
        rpc_attempt_start(rpc, async->queue);
    }
}

static void answered(struct async *async, struct rpc *rpc)
{
    rpc_attempt_finish(rpc);
    if (rpc_again(rpc)) {
        rpc->next = async->waiting;
        async->waiting = rpc;
        return;
    }
    rpc->done(rpc);
    pthread_mutex_lock(&async->lock);
    if (--async->in_flight == 0)
        pthread_cond_broadcast(&async->idle);
    pthread_mutex_unlock(&async->lock);
}

static void *async_run(void *arg)
{
    struct async *async = arg;

    for (;;) {
        grpc_event event = grpc_completion_queue_next(async->queue, next_retry(async), NULL);

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (event.type == GRPC_OP_COMPLETE)
            answered(async, event.tag);
        if (async->waiting != NULL)
            retry_due(async);
    }
}

static void async_free(struct async *async)
{
    grpc_completion_queue_destroy(async->queue);
    pthread_cond_destroy(&async->idle);
    pthread_mutex_destroy(&async->lock);
    free(async);
}

static struct async *async_new(void)
{
    struct async *async = alloc_zeroed(1, sizeof *async);
    sigset_t all, before;
    int failed;

    async->queue = grpc_completion_queue_create_for_next(NULL);
    pthread_mutex_init(&async->lock, NULL);
    pthread_cond_init(&async->idle, NULL);
    /* Signals are the application's affair. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&async->thread, NULL, async_run, async);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        grpc_completion_queue_shutdown(async->queue);
        grpc_completion_queue_next(async->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        async_free(async);
        return NULL;
    }
    return async;
}

enum prism_code rpc_submit(struct rpc *rpc, rpc_done_fn *done, struct prism_error *error)
{
    struct prism_channel *channel = rpc->channel;
    struct async *async;

    pthread_mutex_lock(&channel->lock);
    if (channel->async == NULL)
        channel->async = async_new();
    async = channel->async;
    pthread_mutex_unlock(&channel->lock);
    if (async == NULL)
        return error_set(error, PRISM_RESOURCE_EXHAUSTED, "%s: no thread for asynchronous calls",
                         rpc->method->name);

    pthread_mutex_lock(&async->lock);
    async->in_flight++;
    pthread_mutex_unlock(&async->lock);
    rpc->done = done;
    rpc_attempt_start(rpc, async->queue);
    return error_none(error);
}

void prism_channel_wait(struct prism_channel *channel)
{
    struct async *async;

    pthread_mutex_lock(&channel->lock);
    async = channel->async;
    pthread_mutex_unlock(&channel->lock);
    if (async == NULL)
        return;
    pthread_mutex_lock(&async->lock);
    while (async->in_flight > 0)
        pthread_cond_wait(&async->idle, &async->lock);
    pthread_mutex_unlock(&async->lock);
}

void async_destroy(struct async *async)
{
    if (async == NULL)
        return;
    grpc_completion_queue_shutdown(async->queue);
    pthread_join(async->thread, NULL);
    async_free(async);
}
