/* The roof: the only code that sees everything. The main thread runs a small loop for signals, for
 * the admin endpoint, for sockets that the write coalescer found full, and, when a slot talks to
 * another server, for the health of that server; and every ten seconds it looks whether memory can
 * be given back. */
#include "src/server.h"

#include "patterns/pattern.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/log.h"
#include "src/descriptors.h"
#include "src/reload.h"
#include "src/rpc/server.h"
#include "src/services/admin.h"
#include "src/services/health.h"
#include "src/services/reflection.h"
#include "src/signals.h"
#include "src/slots.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <uv.h>

enum { HEALTH_EVERY_MS = 500, PROBE_EVERY = 10 /* of those */, MAX_SERVICES = 64, SOURCES = 3 };
enum { NAMESPACES_BYTES = 3072 /* of the log line about them */ };

struct server {
    const struct config *config;
    struct pool *pool;
    struct rpc_server *rpc;
    struct slots *slots;
    struct health *health;
    struct reflection *reflection;
    struct admin *admin;
    struct build_facts build;
    struct metrics_source sources[SOURCES];
    const struct service *services[MAX_SERVICES];
    size_t service_count;

    uv_loop_t loop;
    uv_poll_t signals, stalled, admin_poll;
    uv_timer_t health_timer, admin_timer, rest_timer;
    struct process_rest rest;
    unsigned health_turns;
    int signal_fd;
    int stop_signal; /* 0: none came */
    bool loop_open, drained, was_serving;
};

/* ---- services ---- */

static void add_service(struct server *server, const struct service *service)
{
    for (size_t i = 0; i < server->service_count; i++) {
        if (server->services[i] == service)
            return;
    }
    if (server->service_count == MAX_SERVICES)
        abort();
    server->services[server->service_count++] = service;
}

/* Those of the patterns that some namespace uses, and the general ones. */
static void collect_services(struct server *server)
{
    for (size_t i = 0; i < server->config->namespace_count; i++) {
        const struct pattern_type *type = server->config->namespaces[i].pattern;

        for (size_t s = 0; type->services[s] != NULL; s++)
            add_service(server, type->services[s]);
    }
    add_service(server, &health_service);
    if (!server->config->reflection)
        return;
    add_service(server, &reflection_v1_service);
    add_service(server, &reflection_v1alpha_service);
}

static void bind_general(struct server *server, const struct service *service, void *instance,
                         const uint32_t *inline_bytes)
{
    struct rpc_instance instances[WORKER_MAX + 1];

    for (unsigned i = 0; i <= pool_size(server->pool); i++)
        instances[i] = (struct rpc_instance){.pattern = instance, .inline_bytes = inline_bytes};
    rpc_server_bind(server->rpc, service, NULL, instances);
}

static bool is_disabled(const struct server *server, const struct service *service)
{
    return !server->config->deprecated_services && service->methods[0].replaced_by != NULL;
}

/* A deprecated service may be served by several patterns, each with methods of its own. */
static bool is_named(const struct service *const *services, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(services[i]->name, name) == 0)
            return true;
    }
    return false;
}

static void open_services(struct server *server)
{
    const struct service *listed[MAX_SERVICES];
    size_t n = 0;

    for (size_t i = 0; i < server->service_count; i++) {
        if (!is_disabled(server, server->services[i]) &&
            !is_named(listed, n, server->services[i]->name))
            listed[n++] = server->services[i];
    }
    server->health = health_new();
    bind_general(server, &health_service, server->health, health_inline_bytes);
    if (!server->config->reflection)
        return;
    server->reflection = reflection_new(listed, n);
    bind_general(server, &reflection_v1_service, server->reflection, NULL);
    bind_general(server, &reflection_v1alpha_service, server->reflection, NULL);
}

/* ---- options ---- */

static struct rpc_options rpc_options_of(const struct config *c)
{
    static const enum rpc_coalesce coalesce[] = {[CONFIG_COALESCE_OFF] = RPC_COALESCE_OFF,
                                                 [CONFIG_COALESCE_MORE] = RPC_COALESCE_MORE,
                                                 [CONFIG_COALESCE_BUFFER] = RPC_COALESCE_BUFFER};
    struct descriptor_shares shares = descriptors_share(c);

    return (struct rpc_options){.listen = c->listen,
                                .listen_shown = c->listen_hidden ? CONFIG_HIDDEN : c->listen,
                                .coalesce = coalesce[c->coalesce],
                                .dispatch = c->dispatch == CONFIG_DISPATCH_RING ? RPC_DISPATCH_RING
                                                                                : RPC_DISPATCH_AUTO,
                                .tls = {.cert_file = c->tls.cert,
                                        .key_file = c->tls.key,
                                        .client_ca_file = c->tls.client_ca},
                                .max_message_bytes = c->limits.max_message_bytes,
                                .max_inflight_calls = c->limits.max_inflight_calls,
                                .connection_share_percent = c->limits.connection_share_percent,
                                .max_general_streams = c->limits.max_general_streams,
                                .request_timeout_ms = c->limits.request_timeout_ms,
                                .unread_answer_ms = c->limits.unread_answer_ms,
                                .max_inflight_bytes = c->limits.max_inflight_bytes,
                                .max_streams_per_connection = c->limits.max_streams_per_connection,
                                .transport_bytes = c->limits.transport_bytes,
                                .max_connections = shares.connections,
                                .max_connections_per_peer = shares.connections_per_peer,
                                .max_metadata_bytes = c->limits.max_metadata_bytes,
                                .keepalive_ms = c->keepalive.interval_ms,
                                .keepalive_timeout_ms = c->keepalive.timeout_ms,
                                .min_ping_interval_ms = c->keepalive.min_ping_interval_ms,
                                .max_connection_idle_ms = c->connection.max_idle_ms,
                                .max_connection_age_ms = c->connection.max_age_ms,
                                .max_connection_age_grace_ms = c->connection.max_age_grace_ms,
                                .deprecated_services = c->deprecated_services};
}

/* ---- health ---- */

static bool pattern_serves(const struct server *server, const char *service)
{
    for (size_t i = 0; i < slots_count(server->slots); i++) {
        struct slot_status s = slots_status(server->slots, i);

        if (s.service == service && s.required && !s.serving)
            return false;
    }
    return true;
}

/* From the state of each slot to the names that health checks ask for. */
static void publish_health(struct server *server)
{
    bool all = true;

    for (size_t i = 0; i < slots_count(server->slots); i++) {
        struct slot_status s = slots_status(server->slots, i);
        char name[512];

        snprintf(name, sizeof name, "%s/%s/%s", s.pattern, s.namespace_name, s.slot);
        health_set(server->health, name, s.serving);
        health_set(server->health, s.service, pattern_serves(server, s.service));
        all = all && (s.serving || !s.required);
    }
    health_set(server->health, "", all);
    if (all != server->was_serving)
        log_event(all ? LOG_INFO : LOG_WARN, all ? "serving" : "not_serving");
    server->was_serving = all;
}

static bool is_ready(void *arg, struct readiness *reasons)
{
    const struct server *server = arg;
    bool ready = rpc_server_serving(server->rpc);

    if (!ready)
        readiness_add(reasons, "the listener is not serving");
    if (!rpc_server_accepting(server->rpc)) {
        readiness_add(reasons, "no new connections are taken: limits.max_connections is reached, "
                               "or no descriptors are left");
        ready = false;
    }
    for (size_t i = 0; i < slots_count(server->slots); i++) {
        struct slot_status s = slots_status(server->slots, i);
        char text[900];

        const char *why = s.serving ? s.restriction : s.why;

        if (why == NULL)
            continue;
        snprintf(text, sizeof text, "%s/%s/%s (%s): %s%s%s%s", s.pattern, s.namespace_name, s.slot,
                 s.backend, why, s.place != NULL ? " (" : "", s.place != NULL ? s.place : "",
                 s.place != NULL ? ")" : "");
        readiness_add(reasons, text);
        ready = ready && (s.serving || !s.required);
    }
    return ready;
}

static void on_health_timer(uv_timer_t *timer)
{
    struct server *server = timer->data;

    if (server->health_turns++ % PROBE_EVERY == 0)
        slots_probe(server->slots);
    publish_health(server);
}

/* ---- the main thread's loop ---- */

static void reload(struct server *server)
{
    reload_secrets(server->config, server->slots);
    if (server->config->tls.cert == NULL) {
        log_event(LOG_INFO, "nothing_to_reload",
                  LOG_S("why", "SIGHUP reads the TLS files again, and there are none"));
        return;
    }

    struct err err = rpc_server_reload_tls(server->rpc);

    if (err.code == ERR_OK)
        log_event(LOG_INFO, "reloaded", LOG_T("tls", true));
    else
        log_event(LOG_ERROR, "reload_failed", LOG_S("error", err.text), LOG_S("about", err.subject),
                  LOG_S("effect", "the certificate in use is kept"));
}

static void on_signal(uv_poll_t *poll, int status, int events)
{
    struct server *server = poll->data;
    struct signalfd_siginfo info;

    (void)status;
    (void)events;
    while (read(server->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        int number = (int)info.ssi_signo;

        if (number == SIGHUP) {
            reload(server);
        } else if (number == SIGUSR1 || number == SIGUSR2) {
            log_event(LOG_INFO, "signal_ignored", LOG_S("signal", sigabbrev_np(number)));
        } else {
            server->stop_signal = number;
            uv_stop(&server->loop);
        }
    }
}

static void on_stalled(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    rpc_server_flush_stalled(((struct server *)poll->data)->rpc);
}

static void on_admin_timer(uv_timer_t *timer);

static void run_admin(struct server *server)
{
    int wait_ms = admin_run(server->admin);

    if (wait_ms >= 0)
        uv_timer_start(&server->admin_timer, on_admin_timer, (uint64_t)wait_ms, 0);
    else
        uv_timer_stop(&server->admin_timer);
}

static void on_admin_timer(uv_timer_t *timer)
{
    run_admin(timer->data);
}

static void on_admin(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run_admin(poll->data);
}

static void on_rest_timer(uv_timer_t *timer)
{
    process_tend(&((struct server *)timer->data)->rest);
}

static void watch(struct server *server, uv_poll_t *poll, int fd, uv_poll_cb ready)
{
    uv_poll_init(&server->loop, poll, fd);
    poll->data = server;
    uv_poll_start(poll, UV_READABLE, ready);
}

static void open_loop(struct server *server)
{
    if (uv_loop_init(&server->loop) != 0)
        abort();
    server->loop_open = true;
    server->signal_fd = signals_open();
    watch(server, &server->signals, server->signal_fd, on_signal);
    if (rpc_server_stalled_fd(server->rpc) >= 0)
        watch(server, &server->stalled, rpc_server_stalled_fd(server->rpc), on_stalled);
    if (server->admin != NULL) {
        uv_timer_init(&server->loop, &server->admin_timer);
        server->admin_timer.data = server;
        watch(server, &server->admin_poll, admin_fd(server->admin), on_admin);
    }
    uv_timer_init(&server->loop, &server->rest_timer);
    server->rest_timer.data = server;
    uv_timer_start(&server->rest_timer, on_rest_timer, PROCESS_TEND_MS, PROCESS_TEND_MS);
    if (slots_remote(server->slots)) {
        uv_timer_init(&server->loop, &server->health_timer);
        server->health_timer.data = server;
        uv_timer_start(&server->health_timer, on_health_timer, 0, HEALTH_EVERY_MS);
    }
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    uv_close(handle, NULL);
}

static void close_loop(struct server *server)
{
    if (!server->loop_open)
        return;
    uv_walk(&server->loop, close_handle, NULL);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    uv_loop_close(&server->loop);
    close(server->signal_fd);
}

/* ---- life ---- */

static struct err open_admin(struct server *server)
{
    server->build =
        (struct build_facts){.version = PRISM_VERSION, .grpc_version = rpc_library_version()};
    server->sources[0] = (struct metrics_source){rpc_server_render, server->rpc};
    server->sources[1] = (struct metrics_source){slots_render, server->slots};
    server->sources[2] = (struct metrics_source){process_render, &server->build};

    const struct admin_options options = {
        .listen = server->config->admin,
        .listen_shown = server->config->admin_hidden ? CONFIG_HIDDEN : server->config->admin,
        .sources = server->sources,
        .source_count = SOURCES,
        .ready = is_ready,
        .ready_arg = server};

    return server->config->admin != NULL ? admin_start(&server->admin, &options) : ERR_NONE;
}

struct err server_new(struct server **out, const struct config *config)
{
    struct server *server = calloc(1, sizeof *server);
    struct pool_options pool_options = {.workers = config->workers,
                                        .intake_depth = config->limits.intake_depth};
    struct rpc_options rpc_options = rpc_options_of(config);

    if (server == NULL)
        abort();
    *out = server;
    server->config = config;
    collect_services(server);

    struct err err = pool_start(&server->pool, &pool_options);

    if (err.code == ERR_OK)
        err = rpc_server_new(&server->rpc, &rpc_options, server->pool, server->services,
                             server->service_count);
    if (err.code == ERR_OK)
        err = slots_open(&server->slots, config, server->pool, server->rpc);
    if (err.code == ERR_OK)
        err = slots_vet(server->slots);
    if (err.code != ERR_OK)
        return err;
    open_services(server);
    err = rpc_server_start(server->rpc);
    if (err.code == ERR_OK)
        err = open_admin(server);
    if (err.code == ERR_OK)
        publish_health(server);
    if (err.code == ERR_OK)
        open_loop(server);
    return err;
}

static void log_listening(const struct server *server)
{
    const struct config *c = server->config;
    char namespaces[NAMESPACES_BYTES];

    config_describe(c, namespaces, sizeof namespaces);
    log_event(LOG_INFO, "listening", LOG_S("version", PRISM_VERSION),
              LOG_S("address", c->listen_hidden ? CONFIG_HIDDEN : c->listen),
              LOG_I("port", rpc_server_port(server->rpc)),
              LOG_I("admin_port", server->admin != NULL ? admin_port(server->admin) : 0),
              LOG_U("workers", pool_size(server->pool)), LOG_T("tls", c->tls.cert != NULL),
              LOG_U("namespace_count", c->namespace_count), LOG_S("namespaces", namespaces));
}

/* The admin endpoint answers during the drain, too. */
static void turn_loop(void *arg)
{
    uv_run(&((struct server *)arg)->loop, UV_RUN_NOWAIT);
}

/* Backends have as much time as calls had. */
static uint64_t stop_deadline_ns(const struct server *server)
{
    return clock_now_ns() + server->config->drain_timeout_ms * NS_PER_MS;
}

struct err server_run(struct server *server)
{
    struct rpc_drain_report report;

    log_listening(server);
    process_started();
    while (server->stop_signal == 0)
        uv_run(&server->loop, UV_RUN_DEFAULT);
    signals_let_interrupt(); /* a second Ctrl-C ends the process at once */
    log_event(LOG_INFO, "draining", LOG_S("signal", sigabbrev_np(server->stop_signal)),
              LOG_U("timeout_ms", server->config->drain_timeout_ms));
    health_shutdown(server->health);
    rpc_server_drain(server->rpc, server->config->drain_timeout_ms, &report, turn_loop, server);
    server->drained = true;

    uint64_t undelivered = slots_close(server->slots, stop_deadline_ns(server));
    bool clean = report.abandoned == 0 && report.unsent_bytes == 0 && undelivered == 0;

    log_event(clean ? LOG_INFO : LOG_ERROR, "drained", LOG_U("in_flight", report.in_flight),
              LOG_U("finished", report.finished), LOG_U("abandoned", report.abandoned),
              LOG_U("unsent_bytes", report.unsent_bytes), LOG_U("undelivered", undelivered),
              LOG_U("refused", report.refused), LOG_U("incomplete", report.incomplete),
              LOG_U("took_ms", report.took_ms));
    if (!clean)
        return err_make(ERR_DEADLINE_EXCEEDED,
                        undelivered == 0
                            ? "the drain's time was up: calls were cancelled"
                            : "the drain's time was up: accepted messages were not delivered");
    return ERR_NONE;
}

/* Reverse order: nothing is closed while somebody above may still use it. */
void server_destroy(struct server *server)
{
    struct rpc_drain_report report;

    if (server == NULL)
        return;
    close_loop(server);
    admin_stop(server->admin);
    if (server->rpc != NULL && !server->drained)
        rpc_server_drain(server->rpc, 0, &report, NULL, NULL);
    slots_close(server->slots, stop_deadline_ns(server));
    rpc_server_stop(server->rpc);
    pool_stop(server->pool);
    rpc_server_destroy(server->rpc);
    slots_destroy(server->slots);
    reflection_destroy(server->reflection);
    health_destroy(server->health);
    free(server);
}
