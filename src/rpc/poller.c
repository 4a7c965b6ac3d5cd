/* The poller: the one thread that owns gRPC. One turn:
 *
 *   open the write window
 *   run what landed (answers of workers)
 *   take events until the queue is empty or TURN of them were taken; after each, run what landed
 *   fire timers, wake the workers that got work, watch the calls that take long
 *   close the window: each connection is written once
 *   sleep in the completion queue if nothing is left
 *
 * Requests are posted again on arrival, not on completion, and few of them: gRPC looks through all
 * outstanding tags of a queue at every step (Debian builds it with assertions). */
#include "src/rpc/rpc_priv.h"

#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/rpc/coalesce.h"

#include <stdlib.h>

enum { TURN = 256, WATCH_AFTER_MS = 5 };

/* ---- requests ---- */

static void on_request(struct tag *tag, bool ok);

struct call *poller_new_call(struct rpc_server *server)
{
    struct call *call = server->free;
    grpc_metadata_array metadata = {0};

    if (call != NULL) {
        server->free = call->poller.next;
        metadata = call->poller.metadata;
        metadata.count = 0; /* its room is kept */
    } else {
        call = malloc(sizeof *call);
        if (call == NULL)
            abort();
    }
    memset(call, 0, sizeof *call);
    call->server = server;
    call->poller.metadata = metadata;
    call->poller.request_tag.run = on_request;
    finish_init(call);
    finish_stream_init(call);
    return call;
}

void poller_post(struct rpc_server *server, struct row *row)
{
    struct call *call = poller_new_call(server);
    bool payload = row->method->kind != METHOD_BIDI;

    call->row = row;
    if (grpc_server_request_registered_call(server->grpc, row->handle, &call->poller.grpc,
                                            &call->poller.grpc_deadline, &call->poller.metadata,
                                            payload ? &call->request_buffer : NULL, server->cq,
                                            server->cq, &call->poller.request_tag) != GRPC_CALL_OK)
        abort();
}

void poller_post_generic(struct rpc_server *server)
{
    struct call *call = poller_new_call(server);

    grpc_call_details_init(&call->details);
    if (grpc_server_request_call(server->grpc, &call->poller.grpc, &call->details,
                                 &call->poller.metadata, server->cq, server->cq,
                                 &call->poller.request_tag) != GRPC_CALL_OK)
        abort();
}

static void on_request(struct tag *tag, bool ok)
{
    struct call *call = CONTAINER_OF(tag, struct call, poller.request_tag);
    struct rpc_server *server = call->server;

    if (!ok) { /* came back: the server shuts down */
        server->shut_down = true;
        if (call->row == NULL)
            grpc_call_details_destroy(&call->details);
        call->poller.next = server->free;
        server->free = call;
        return;
    }
    counter_add(&server->calls, 1);
    if (call->row == NULL) {
        poller_post_generic(server);
        admit_unknown(server, call);
        return;
    }
    if (!server->shut_down)
        poller_post(server, call->row);
    admit_call(server, call);
}

/* ---- calls that take long ---- */

/* Most calls are over before it pays to ask gRPC about their cancellation: the question costs a
 * batch and an event. So it is asked for calls older than WATCH_AFTER_MS, in order of arrival. */
static void watch_old_calls(struct rpc_server *server, uint64_t now_ns)
{
    while (server->unwatched != &server->in_flight) {
        struct call *call = server->unwatched;

        if (call->arrived_ns + WATCH_AFTER_MS * NS_PER_MS > now_ns)
            return;
        server->unwatched = call->poller.next;
        if (!call->poller.close_posted)
            finish_post_close(call);
    }
}

/* ---- the loop ---- */

void poller_run_event(grpc_event event)
{
    struct tag *tag = event.type == GRPC_OP_COMPLETE ? event.tag : NULL;

    if (tag != NULL) /* NULL: a wake-up */
        tag->run(tag, event.success != 0);
}

/* When to look again although nothing happens. */
static gpr_timespec sleep_until(const struct rpc_server *server)
{
    int wait_ms = timer_wheel_wait_ms(&server->poller.timers, server->poller.now_ns);

    if (server->unwatched != &server->in_flight && (wait_ms < 0 || wait_ms > WATCH_AFTER_MS))
        wait_ms = WATCH_AFTER_MS;
    int unread_ms = unread_wait_ms(server, server->poller.now_ns);

    if (unread_ms >= 0 && (wait_ms < 0 || wait_ms > unread_ms))
        wait_ms = unread_ms;
    if (wait_ms < 0)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(wait_ms, GPR_TIMESPAN));
}

/* Takes events until none is ready. False: the queue has shut down. */
static bool take_events(struct rpc_server *server)
{
    gpr_timespec past = gpr_inf_past(GPR_CLOCK_MONOTONIC);

    for (int n = 0; n < TURN; n++) {
        grpc_event event = grpc_completion_queue_next(server->cq, past, NULL);

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return false;
        if (event.type == GRPC_QUEUE_TIMEOUT)
            return true;
        poller_run_event(event);
        worker_drain(&server->poller, TURN);
    }
    return true;
}

static bool sleep_in_queue(struct rpc_server *server)
{
    struct worker *self = &server->poller;
    grpc_event event = {.type = GRPC_QUEUE_TIMEOUT};

    atomic_store(&self->sleeping, true);
    ring_full_fence();
    if (worker_idle(self)) {
        counter_add(&self->stats.sleeps, 1);
        event = grpc_completion_queue_next(server->cq, sleep_until(server), NULL);
    }
    atomic_store_explicit(&self->sleeping, false, memory_order_relaxed);
    self->now_ns = clock_now_ns();
    coalesce_begin();
    if (event.type == GRPC_OP_COMPLETE)
        poller_run_event(event);
    return event.type != GRPC_QUEUE_SHUTDOWN;
}

void poller_free_calls(struct rpc_server *server)
{
    while (server->free != NULL) {
        struct call *call = server->free;

        server->free = call->poller.next;
        grpc_metadata_array_destroy(&call->poller.metadata);
        free(call);
    }
}

void *poller_main(void *arg)
{
    struct rpc_server *server = arg;
    struct worker *self = &server->poller;
    bool open = true;

    pthread_setname_np(pthread_self(), "prism-poller");
    worker_set_current(self);
    coalesce_begin();
    while (open && !server->leaving) {
        worker_drain(self, TURN);
        open = take_events(server);
        worker_end_batch(self);
        if (server->feed_due)
            memory_feed(server);
        admit_flush(server);
        watch_old_calls(server, self->now_ns);
        unread_sweep(server, self->now_ns);
        coalesce_end();
        counter_add(&self->stats.batches, 1);
        if (open && !server->leaving && worker_idle(self))
            open = sleep_in_queue(server);
        else
            coalesce_begin();
    }
    coalesce_end();
    return NULL;
}
