/* Building, starting and ending the gRPC server. The work between is in poller.c, admit.c and
 * finish.c. */
#include "src/rpc/server.h"

#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/rpc/coalesce.h"
#include "src/rpc/guard.h"
#include "src/rpc/inflow.h"
#include "src/rpc/rpc_priv.h"
#include "src/rpc/sockets.h"

#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { POSTED = 1, POSTED_BUSY = 4, LEAST_HEADER_BYTES = 64 * 1024 };
enum { LINGER_MS = 100, LAST_CALLS_MS = 30000 }; /* of a drain */

/* Debian's abseil tracks lock order, as in a debug build: 7 to 25 % of a server's CPU. This
 * switches it off; the symbol is weak, so that another build of abseil is just as good. */
extern void _ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE(int)
    __attribute__((weak));

/* ---- methods ---- */

static void register_method(struct rpc_server *server, struct bound_service *service, size_t index)
{
    const struct method *method = &service->service->methods[index];
    bool payload = method->kind != METHOD_BIDI;
    struct row *row = &server->rows[server->row_count++];

    row->method = method;
    row->service = service;
    row->index = index;
    row->deprecation = (struct log_budget)LOG_BUDGET(5, 10000);
    row->handle = grpc_server_register_method(
        server->grpc, method->path, NULL,
        payload ? GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER : GRPC_SRM_PAYLOAD_NONE, 0);
    if (row->handle == NULL) {
        fprintf(stderr, "prism: method registered twice: %s\n", method->path);
        abort();
    }
}

static void register_services(struct rpc_server *server, const struct service *const *services,
                              size_t n)
{
    size_t methods = 0;

    for (size_t i = 0; i < n; i++)
        methods += services[i]->method_count;
    server->services = calloc(n, sizeof *server->services);
    server->rows = calloc(methods, sizeof *server->rows);
    if (server->services == NULL || server->rows == NULL)
        abort();
    server->service_count = n;
    for (size_t i = 0; i < n; i++) {
        server->services[i].service = services[i];
        for (size_t m = 0; m < services[i]->method_count; m++) {
            if (services[i]->methods[m].replaced_by == NULL || server->options.deprecated_services)
                register_method(server, &server->services[i], m);
        }
    }
}

/* ---- life ---- */

/* The C API cannot post an event; an empty batch on a call of our own does it. */
static void wake_poller(struct worker *poller)
{
    struct rpc_server *server = server_of_poller(poller);

    if (grpc_call_start_batch(server->wake_call, NULL, 0, NULL, NULL) != GRPC_CALL_OK)
        abort();
}

static void create_wake_call(struct rpc_server *server)
{
    server->wake_channel = grpc_lame_client_channel_create("wake", GRPC_STATUS_UNAVAILABLE, "wake");
    server->wake_call = grpc_channel_create_call(
        server->wake_channel, NULL, GRPC_PROPAGATE_DEFAULTS, server->cq,
        grpc_slice_from_static_string("/wake"), NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

static void on_shutdown(struct tag *tag, bool ok)
{
    struct rpc_server *server = CONTAINER_OF(tag, struct rpc_server, shutdown_tag);

    (void)ok;
    pthread_mutex_lock(&server->lock);
    server->shutdown_done = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

struct err rpc_server_new(struct rpc_server **out, const struct rpc_options *options,
                          struct pool *pool, const struct service *const *services,
                          size_t service_count)
{
    size_t bytes = (sizeof(struct rpc_server) + 63) / 64 * 64;
    struct rpc_server *server = aligned_alloc(64, bytes);
    pthread_condattr_t monotonic;

    if (server == NULL)
        abort();
    memset(server, 0, bytes);
    server->options = *options;
    server->pool = pool;
    server->stalled_fd = -1;
    server->shutdown_tag.run = on_shutdown;
    server->in_flight.poller.next = server->in_flight.poller.prev = &server->in_flight;
    server->unwatched = &server->in_flight;
    unread_init(server);
    server->share_log = (struct log_budget)LOG_BUDGET(5, 60000);
    memory_init(server);
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (options->tls.cert_file != NULL) {
        struct err err = tls_open(&server->tls, &options->tls);

        if (err.code != ERR_OK) {
            rpc_server_destroy(server);
            return err;
        }
    }
    if (_ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE != NULL)
        _ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE(0);
    library_log_open();
    grpc_init();
    worker_init(&server->poller, pool_size(pool), wake_poller);
    server->grpc = channel_args_server(options);
    server->cq = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->grpc, server->cq, NULL);
    create_wake_call(server);
    register_services(server, services, service_count);
    *out = server;
    return ERR_NONE;
}

struct worker *rpc_server_poller(struct rpc_server *server)
{
    return &server->poller;
}

void rpc_server_bind(struct rpc_server *server, const struct service *service, const char *name,
                     const struct rpc_instance *instances)
{
    size_t n = pool_size(server->pool) + 1;
    struct binding *binding = calloc(1, sizeof *binding + n * sizeof *instances);

    if (binding == NULL)
        abort();
    memcpy(binding->instances, instances, n * sizeof *instances);
    if (name != NULL && (binding->namespace_name = strdup(name)) == NULL)
        abort();
    for (size_t i = 0; i < server->service_count; i++) {
        struct bound_service *bound = &server->services[i];
        struct binding **at = &bound->bindings;

        if (bound->service != service)
            continue;
        while (*at != NULL)
            at = &(*at)->next;
        *at = binding;
        return;
    }
    abort(); /* a service that was not registered */
}

static struct err open_listener(struct rpc_server *server)
{
    struct err err =
        listener_claim(&server->listener, server->options.listen, server->options.listen_shown);

    if (err.code != ERR_OK)
        return err;

    grpc_server_credentials *credentials = server->tls != NULL
                                               ? tls_credentials(server->tls)
                                               : grpc_insecure_server_credentials_create();

    sockets_listen_begin();
    server->port =
        grpc_server_add_http2_port(server->grpc, listener_target(&server->listener), credentials);
    sockets_listen_end();
    grpc_server_credentials_release(credentials);
    if (server->port == 0) /* the address was free a moment ago; gRPC has logged what it met */
        return err_about(ERR_UNAVAILABLE, "listen", "cannot listen on the address of `listen`");
    return listener_publish(&server->listener);
}

static void post_requests(struct rpc_server *server)
{
    for (size_t i = 0; i < server->row_count; i++) {
        int posted = server->rows[i].method->busy ? POSTED_BUSY : POSTED;

        while (posted-- > 0)
            poller_post(server, &server->rows[i]);
    }
    poller_post_generic(server);
}

/* The poller, and the threads that gRPC starts from it, leave all signals to others. */
static bool start_poller(struct rpc_server *server)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    server->started = pthread_create(&server->thread, NULL, poller_main, server) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return server->started;
}

/* thread: poller. */
static void begin_to_serve(void *arg)
{
    struct rpc_server *server = arg;

    grpc_server_start(server->grpc);
    post_requests(server);
}

static void open_guard(const struct rpc_server *server)
{
    const struct rpc_options *o = &server->options;
    uint32_t metadata_bytes = o->max_metadata_bytes * RPC_METADATA_HEADROOM;

    guard_init(&(struct guard_options){.max_connections = o->max_connections,
                                       .max_connections_per_peer = o->max_connections_per_peer});
    inflow_init(&(struct inflow_options){
        .each = {.max_streams =
                     o->max_streams_per_connection > 0 ? o->max_streams_per_connection : UINT32_MAX,
                 .max_header_bytes =
                     metadata_bytes > LEAST_HEADER_BYTES ? metadata_bytes : LEAST_HEADER_BYTES},
        .max_incomplete = o->max_inflight_calls,
        .max_part_bytes = o->transport_bytes / 2,
        .request_timeout_ms = o->request_timeout_ms,
        .encrypted = server->tls != NULL});
    tls_calls_open();
}

/* The thread comes first: what gRPC holds of ours, once it has begun, only the poller can take
 * back. */
struct err rpc_server_start(struct rpc_server *server)
{
    static const enum coalesce_level levels[] = {[RPC_COALESCE_OFF] = COALESCE_OFF,
                                                 [RPC_COALESCE_MORE] = COALESCE_MORE,
                                                 [RPC_COALESCE_BUFFER] = COALESCE_BUFFER};

    open_guard(server);
    server->stalled_fd = coalesce_init(levels[server->options.coalesce]);
    struct err err = open_listener(server);

    if (err.code != ERR_OK)
        return err;
    if (!start_poller(server))
        return err_make(ERR_RESOURCE_EXHAUSTED, "cannot start the poller's thread");
    rpc_server_on_poller(server, begin_to_serve, server);
    atomic_store(&server->serving, true);
    return ERR_NONE;
}

int rpc_server_port(const struct rpc_server *server)
{
    return server->port == 1 ? 0 : server->port; /* gRPC says 1 for a unix socket */
}

bool rpc_server_serving(const struct rpc_server *server)
{
    return atomic_load(&((struct rpc_server *)(uintptr_t)server)->serving);
}

bool rpc_server_accepting(const struct rpc_server *server)
{
    (void)server; /* the guard is the process's */
    return guard_accepting();
}

int rpc_server_stalled_fd(const struct rpc_server *server)
{
    return server->stalled_fd;
}

void rpc_server_flush_stalled(struct rpc_server *server)
{
    (void)server;
    sockets_run();
}

struct err rpc_server_reload_tls(struct rpc_server *server)
{
    return server->tls != NULL ? tls_reload(server->tls) : ERR_NONE;
}

void rpc_server_on_poller(struct rpc_server *server, void (*fn)(void *arg), void *arg)
{
    if (server->started) {
        worker_run_sync(&server->poller, fn, arg);
        return;
    }
    worker_set_current(&server->poller); /* its thread does not run yet: we stand in for it */
    fn(arg);
    worker_drain(&server->poller, 0);
    worker_set_current(NULL);
}

/* ---- drain ---- */

/* thread: poller. Streams that wait are told; what is in flight now is what the report is about. */
static void begin_drain(void *arg)
{
    struct rpc_server *server = arg;
    struct err why = err_make(ERR_UNAVAILABLE, "the server is draining: connect to another one");

    for (struct call *c = server->in_flight.poller.next; c != &server->in_flight;
         c = c->poller.next)
        finish_notice(c, why, true);
    server->drain_in_flight = counter_read(&server->in_flight_count);
    server->drain_incomplete = inflow_stats().incomplete;
    server->drain_refused = counter_read(&server->refused_draining);
}

void rpc_server_refuse(struct rpc_server *server)
{
    atomic_store(&server->serving, false);
    atomic_store(&server->refusing, true);
    if (server->started)
        rpc_server_on_poller(server, begin_drain, server);
}

static bool quiet(const struct rpc_server *server)
{
    return counter_read(&server->in_flight_count) == 0 && coalesce_stats().held_bytes == 0;
}

static void nap(uint32_t ms)
{
    struct timespec t = {.tv_sec = 0, .tv_nsec = (long)(ms * NS_PER_MS)};

    nanosleep(&t, NULL);
}

static void shut_listener(struct rpc_server *server)
{
    grpc_server_shutdown_and_notify(server->grpc, server->cq, &server->shutdown_tag);
    pthread_mutex_lock(&server->lock);

    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 1; /* clients that are slow to close are not waited for */
    while (!server->shutdown_done &&
           pthread_cond_timedwait(&server->changed, &server->lock, &until) == 0)
        ;
    bool done = server->shutdown_done;

    pthread_mutex_unlock(&server->lock);
    if (done)
        return;
    grpc_server_cancel_all_calls(server->grpc);
    pthread_mutex_lock(&server->lock);
    while (!server->shutdown_done)
        pthread_cond_wait(&server->changed, &server->lock);
    pthread_mutex_unlock(&server->lock);
}

/* Calls that were cancelled end on their workers, in their own time, but soon: a backend lets go of
 * what it is asked to. */
static void await_last_calls(const struct rpc_server *server)
{
    uint64_t until = clock_now_ns() + LAST_CALLS_MS * NS_PER_MS;

    while (counter_read(&server->calls) > 0) {
        if (clock_now_ns() > until) {
            fprintf(stderr, "prism: calls were cancelled and have not ended\n");
            abort();
        }
        nap(1);
    }
}

/* Clients do not know yet that the server goes, and gRPC resets what reaches it once it is shut:
 * for them that is a call of which nothing is known. So calls are refused for a round trip, in
 * words that say that nothing was done. */
static bool lingers(uint64_t began_ns)
{
    return guard_stats().connections > 0 && clock_now_ns() < began_ns + LINGER_MS * NS_PER_MS;
}

void rpc_server_drain(struct rpc_server *server, uint32_t timeout_ms,
                      struct rpc_drain_report *report, void (*meanwhile)(void *arg), void *arg)
{
    uint64_t began = clock_now_ns(), until = began + timeout_ms * NS_PER_MS;

    rpc_server_refuse(server);
    while ((!quiet(server) || lingers(began)) && clock_now_ns() < until) {
        if (meanwhile != NULL)
            meanwhile(arg);
        rpc_server_flush_stalled(server);
        nap(2);
    }
    *report = (struct rpc_drain_report){.in_flight = server->drain_in_flight,
                                        .incomplete = server->drain_incomplete,
                                        .abandoned = counter_read(&server->in_flight_count),
                                        .unsent_bytes = coalesce_stats().held_bytes};
    report->finished = report->in_flight - report->abandoned;
    if (server->started)
        shut_listener(server);
    await_last_calls(server);
    report->refused = counter_read(&server->refused_draining) - server->drain_refused;
    report->took_ms = (uint32_t)((clock_now_ns() - began) / NS_PER_MS);
}

static void free_services(struct rpc_server *server)
{
    for (size_t i = 0; i < server->service_count; i++) {
        while (server->services[i].bindings != NULL) {
            struct binding *binding = server->services[i].bindings;

            server->services[i].bindings = binding->next;
            free(binding->namespace_name);
            free(binding);
        }
    }
    free(server->services);
    free(server->rows);
}

static void leave(void *arg)
{
    ((struct rpc_server *)arg)->leaving = true;
}

/* The poller leaves of itself: from then on it never sleeps, so no worker wakes it through a queue
 * that is shut down. What its queue still holds is taken here, in its place. */
static void stop_poller(struct rpc_server *server)
{
    grpc_event event;

    if (server->started) {
        rpc_server_on_poller(server, leave, server);
        pthread_join(server->thread, NULL);
    } else if (server->port != 0) { /* a listener without a thread: gRPC insists on an end of it */
        grpc_server_shutdown_and_notify(server->grpc, server->cq, &server->shutdown_tag);
    }
    grpc_call_unref(server->wake_call);
    grpc_channel_destroy(server->wake_channel);
    grpc_completion_queue_shutdown(server->cq);
    worker_set_current(&server->poller);
    do {
        event = grpc_completion_queue_next(server->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        poller_run_event(event);
        worker_drain(&server->poller, 0);
    } while (event.type != GRPC_QUEUE_SHUTDOWN);
    worker_set_current(NULL);
    poller_free_calls(server);
    share_clear(&server->shares);
}

void rpc_server_stop(struct rpc_server *server)
{
    struct rpc_drain_report report;

    if (server == NULL || server->cq == NULL)
        return;
    if (server->started && !server->shutdown_done)
        rpc_server_drain(server, 0, &report, NULL, NULL);
    stop_poller(server);
    grpc_server_destroy(server->grpc);
    grpc_completion_queue_destroy(server->cq);
    server->cq = NULL;
    grpc_shutdown_blocking();
    listener_release(&server->listener);
}

void rpc_server_destroy(struct rpc_server *server)
{
    if (server == NULL)
        return;
    rpc_server_stop(server);
    worker_clear(&server->poller);
    tls_close(server->tls);
    free_services(server);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

const char *rpc_library_version(void)
{
    return grpc_version_string();
}
