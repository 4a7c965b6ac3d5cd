/* From a request event to its home: everything that can refuse a call before any work is done for
 * it.
 *
 * Order: draining, deadline, metadata, message, in-flight limits, namespace, then the worker's
 * intake lane. A refusal is an answer with a status, counted; nothing is dropped in silence.
 * Dispatch fills one worker before it wakes the next: a wake-up costs more than what a handful of
 * calls do. */
#include "src/rpc/rpc_priv.h"

#include "src/base/clock.h"
#include "src/base/log.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <stdio.h>

enum { RETRY_AFTER_MS = 50, KEEP_FILLING = 16 };

static const char namespace_key[] = "x-prism-namespace";

static bool slice_is(grpc_slice s, const char *text, size_t len)
{
    return GRPC_SLICE_LENGTH(s) == len && memcmp(GRPC_SLICE_START_PTR(s), text, len) == 0;
}

/* The number of values that the client gave; *value is the last one, or "default". */
static unsigned namespace_of(const struct call *call, grpc_slice *value)
{
    unsigned n = 0;

    *value = grpc_slice_from_static_string("default");
    for (size_t i = 0; i < call->poller.metadata.count; i++) {
        const grpc_metadata *m = &call->poller.metadata.metadata[i];

        if (slice_is(m->key, namespace_key, sizeof namespace_key - 1)) {
            *value = m->value;
            n++;
        }
    }
    return n;
}

/* Writes what was asked for, as far as it is short and printable, and what there is. */
static void describe_unknown(const struct call *call, grpc_slice wanted, char *text, size_t size)
{
    enum { MAX_WANTED = 64 };
    size_t len = GRPC_SLICE_LENGTH(wanted), shown = len < MAX_WANTED ? len : MAX_WANTED;
    size_t at = (size_t)snprintf(text, size, "%s: ", namespace_key);

    text[at++] = '"';
    for (size_t i = 0; i < shown; i++) {
        uint8_t c = GRPC_SLICE_START_PTR(wanted)[i];

        text[at++] = c >= ' ' && c <= '~' && c != '"' ? (char)c : '?';
    }
    at += (size_t)snprintf(text + at, size - at,
                           "\"%s does not serve this pattern; these do:", shown < len ? ".." : "");
    for (const struct binding *b = call->row->service->bindings; b != NULL; b = b->next) {
        if (at + strlen(b->namespace_name) + 8 > size) {
            snprintf(text + at, size - at, ", ..");
            return;
        }
        at += (size_t)snprintf(text + at, size - at, " %s%s", b->namespace_name,
                               b->next != NULL ? "," : "");
    }
}

/* `text` is for the error's. */
static struct err find_binding(const struct call *call, const struct binding **found, char *text,
                               size_t size)
{
    const struct binding *b = call->row->service->bindings;
    grpc_slice wanted;

    if (b == NULL)
        return err_make(ERR_UNIMPLEMENTED, "no namespace of this server serves this pattern");
    if (b->namespace_name != NULL && namespace_of(call, &wanted) > 1)
        return err_about(ERR_INVALID_ARGUMENT, namespace_key,
                         "x-prism-namespace is given more than once");
    for (; b != NULL; b = b->next) {
        if (b->namespace_name == NULL ||
            slice_is(wanted, b->namespace_name, strlen(b->namespace_name))) {
            *found = b;
            return ERR_NONE;
        }
    }
    describe_unknown(call, wanted, text, size);
    return err_about(ERR_NOT_FOUND, namespace_key, text);
}

static uint64_t deadline_ns(gpr_timespec deadline)
{
    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0)
        return 0;
    if (deadline.clock_type != GPR_CLOCK_MONOTONIC)
        deadline = gpr_convert_clock_type(deadline, GPR_CLOCK_MONOTONIC);
    if (deadline.tv_sec < 0)
        return 1;
    uint64_t seconds = (uint64_t)deadline.tv_sec;

    if (seconds > UINT64_MAX / NS_PER_S / 2) /* in centuries */
        return 0;
    return seconds * NS_PER_S + (uint32_t)deadline.tv_nsec;
}

/* A client that has given up by itself knows nothing of what became of its call. So what is not
 * done in time ends a little earlier, and the word that nothing was sent still reaches it. */
static uint64_t told_in_time(uint64_t deadline, uint64_t now_ns)
{
    enum { PART = 16, MOST_MS = 50 };

    uint64_t ns = deadline > now_ns ? (deadline - now_ns) / PART : 0;

    return deadline - (ns < MOST_MS * NS_PER_MS ? ns : MOST_MS * NS_PER_MS);
}

/* Up to twice as long for some: who was refused together does not come back together. */
struct err admit_overloaded(const char *limit, const char *text)
{
    uint32_t spread_ms = (uint32_t)(clock_now_ns() / 1000 % RETRY_AFTER_MS);

    return (struct err){.code = ERR_RESOURCE_EXHAUSTED,
                        .retry_after_ms = RETRY_AFTER_MS + spread_ms,
                        .text = text,
                        .subject = limit};
}

/* Health and the like are asked when a server drains, or is overloaded, more than ever. Their calls
 * are small and short, and do not count. */
bool admit_is_general(const struct call *call)
{
    return call->row->service->service->pattern == NULL && call->row->method->kind == METHOD_UNARY;
}

static struct err check_draining(struct rpc_server *server)
{
    if (!atomic_load_explicit(&server->refusing, memory_order_relaxed))
        return ERR_NONE;
    counter_add(&server->refused_draining, 1);
    return (struct err){.code = ERR_UNAVAILABLE,
                        .retry_after_ms = 1000,
                        .text = "the server is draining: connect to another one",
                        .subject = "draining"};
}

bool admit_is_general_stream(const struct call *call)
{
    return call->row->service->service->pattern == NULL && call->row->method->kind != METHOD_UNARY;
}

uint64_t admit_share(const struct rpc_server *server, uint64_t limit)
{
    uint32_t percent = server->options.connection_share_percent;
    uint64_t share = percent != 0 ? limit / 100 * percent + limit % 100 * percent / 100 : limit;

    return share > 0 ? share : 1;
}

/* Its percentage, and the less the more the others hold: of what is free it may have as many times
 * as much as its percentage is of the rest. So several greedy connections leave room, too: with
 * half for each, n of them leave one part in n + 1. */
static uint64_t share_beside(const struct rpc_server *server, uint64_t most, uint64_t held)
{
    uint64_t share = admit_share(server, most), percent = server->options.connection_share_percent;
    uint64_t left = held < most ? most - held : 0;

    if (percent == 0 || percent >= 100)
        return share;
    left = left * percent / (100 - percent);
    return left < share ? left : share;
}

uint64_t admit_share_bytes(const struct rpc_server *server)
{
    return share_beside(server, server->options.max_inflight_bytes, memory_held(server));
}

/* Who has none of its kind may have one. */
static bool has_its_share(const struct rpc_server *server, uint64_t own, uint64_t most,
                          uint64_t held)
{
    return own > 0 && own >= share_beside(server, most, held);
}

static uint64_t calls_held(const struct rpc_server *server)
{
    return counter_read(&server->in_flight_count) - server->general_streams;
}

static struct err refuse_share(struct rpc_server *server, const struct call *call, const char *text)
{
    char *peer = grpc_call_get_peer(call->poller.grpc);

    counter_add(&server->refused_share, 1);
    log_limited(&server->share_log, LOG_WARN, "connection_share_exceeded",
                (const struct log_field[]){LOG_S("peer", peer), LOG_S("what", text)}, 2);
    gpr_free(peer);
    return admit_overloaded("limits.connection_share_percent", text);
}

static struct err check_share(struct rpc_server *server, const struct call *call)
{
    const struct rpc_options *o = &server->options;
    const struct share *share = call->share;
    uint64_t bytes = share_bytes(share);

    if (admit_is_general_stream(call))
        return o->max_general_streams == 0 ||
                       !has_its_share(server, share->streams, o->max_general_streams,
                                      server->general_streams)
                   ? ERR_NONE
                   : refuse_share(server, call,
                                  "this connection has its share of the streams of health and "
                                  "reflection");
    if (has_its_share(server, share->calls, o->max_inflight_calls, calls_held(server)))
        return refuse_share(server, call, "this connection has its share of the calls in flight");
    if (bytes > 0 && bytes + call->request_bytes > admit_share_bytes(server))
        return refuse_share(server, call,
                            "this connection's requests, and answers that it has not taken, hold "
                            "their share of the memory");
    return ERR_NONE;
}

static struct err check_limits(struct rpc_server *server, const struct call *call)
{
    const struct rpc_options *o = &server->options;

    if (admit_is_general_stream(call)) {
        if (server->general_streams < o->max_general_streams || o->max_general_streams == 0)
            return check_share(server, call);
        counter_add(&server->refused_admission, 1);
        return admit_overloaded("limits.max_general_streams",
                                "too many streams of health and reflection");
    }
    if (calls_held(server) >= o->max_inflight_calls) {
        counter_add(&server->refused_admission, 1);
        return admit_overloaded("limits.max_inflight_calls", "too many calls in flight");
    }
    uint64_t bytes = memory_held(server);

    if (bytes + call->request_bytes > o->max_inflight_bytes && bytes > 0) {
        counter_add(&server->refused_admission, 1);
        return admit_overloaded("limits.max_inflight_bytes",
                                "the requests in flight hold too much memory");
    }
    return check_share(server, call);
}

/* As HTTP/2 counts a header list: 32 bytes for each field besides its name and value. gRPC has
 * taken those out that it uses itself, and `:path`, which is short. */
static struct err check_metadata(const struct rpc_server *server, const struct call *call)
{
    uint64_t most = server->options.max_metadata_bytes, bytes = 0;

    for (size_t i = 0; i < call->poller.metadata.count; i++)
        bytes += 32 + GRPC_SLICE_LENGTH(call->poller.metadata.metadata[i].key) +
                 GRPC_SLICE_LENGTH(call->poller.metadata.metadata[i].value);
    if (most == 0 || bytes <= most)
        return ERR_NONE;
    return err_about(ERR_RESOURCE_EXHAUSTED, "limits.max_metadata_bytes",
                     "the request has more metadata than this server takes");
}

static struct err check_load(struct rpc_server *server, struct call *call)
{
    bool general = admit_is_general(call);
    struct err err = general ? ERR_NONE : check_draining(server);

    if (err.code != ERR_OK)
        return err;
    if (call->deadline_ns != 0 && call->deadline_ns <= call->arrived_ns)
        return err_make(ERR_DEADLINE_EXCEEDED,
                        "the deadline had passed when the call was taken up");
    err = check_metadata(server, call);
    if (err.code == ERR_OK)
        err = message_check(call);
    if (err.code == ERR_OK && !general) {
        call->share = share_enter(&server->shares, call->poller.grpc);
        err = check_limits(server, call);
    }
    return err;
}

/* ---- where ---- */

static bool may_run_inline(const struct rpc_server *server, const struct call *call,
                           const struct rpc_instance *instance)
{
    uint32_t most = instance->inline_bytes != NULL ? instance->inline_bytes[call->row->index] : 0;

    return server->options.dispatch == RPC_DISPATCH_AUTO && instance->pattern != NULL &&
           call->row->method->kind == METHOD_UNARY && most > 0 && !call->wants_gzip &&
           call->request_bytes <= most;
}

/* For what stays: depth of intake says nothing of it, so it goes where least of its kind is. */
static struct worker *pick_for_stream(const struct rpc_server *server)
{
    unsigned best = 0;

    for (unsigned i = 1; i < pool_size(server->pool); i++) {
        if (server->streams[i] < server->streams[best])
            best = i;
    }
    return pool_worker(server->pool, best);
}

static struct worker *pick_worker(struct rpc_server *server)
{
    struct worker *best = server->current;
    uint32_t depth = best != NULL ? ring_depth(best->intake) : UINT32_MAX;

    for (unsigned i = 0; i < pool_size(server->pool) && depth > KEEP_FILLING; i++) {
        struct worker *w = pool_worker(server->pool, i);

        if (ring_depth(w->intake) + KEEP_FILLING < depth || best == NULL) {
            best = w;
            depth = ring_depth(w->intake);
        }
    }
    server->current = best;
    return best;
}

static void touch(struct rpc_server *server, struct worker *worker)
{
    for (unsigned i = 0; i < server->touched_count; i++) {
        if (server->touched[i] == worker)
            return;
    }
    server->touched[server->touched_count++] = worker;
}

void admit_flush(struct rpc_server *server)
{
    for (unsigned i = 0; i < server->touched_count; i++)
        worker_kick(server->touched[i]);
    server->touched_count = 0;
}

/* ---- in flight ---- */

static void link_call(struct rpc_server *server, struct call *call)
{
    struct call *head = &server->in_flight;

    call->poller.next = head;
    call->poller.prev = head->poller.prev;
    head->poller.prev->poller.next = call;
    head->poller.prev = call;
    call->poller.linked = true;
    if (server->unwatched == head)
        server->unwatched = call;
    if (admit_is_general(call))
        return;
    call->poller.counted = true;
    counter_add(&server->in_flight_bytes, call->request_bytes);
    counter_add(&server->in_flight_count, 1);
    counter_add(&call->share->bytes, call->request_bytes);
    if (admit_is_general_stream(call)) {
        call->share->streams++;
        server->general_streams++;
    } else {
        call->share->calls++;
    }
}

static void count_use(struct rpc_server *server, struct row *row)
{
    const struct method *method = row->method;

    if (method->replaced_by == NULL) {
        if (row->service->service->pattern != NULL)
            counter_add(&server->pattern_calls, 1);
        return;
    }
    counter_add(&server->deprecated_calls, 1);
    log_limited(&row->deprecation, LOG_WARN, "deprecated_method",
                (const struct log_field[]){LOG_S("method", method->path),
                                           LOG_S("use_instead", method->replaced_by),
                                           LOG_S("removed_in", "v2.0")},
                3);
}

static void dispatch(struct rpc_server *server, struct call *call, const struct binding *binding)
{
    const struct rpc_instance *here = &binding->instances[pool_size(server->pool)];

    call->begin.run = call_begin_job;
    call->notice.there.run = call_notice_job;
    if (may_run_inline(server, call, here)) {
        link_call(server, call);
        call->worker = &server->poller;
        call->instance = here;
        call_begin_job(&call->begin);
        return;
    }
    bool stream = call->row->method->kind != METHOD_UNARY;
    struct worker *worker = stream ? pick_for_stream(server) : pick_worker(server);

    call->worker = worker;
    call->instance = &binding->instances[worker->id];
    if (stream)
        finish_post_close(call);
    if (!worker_submit(worker, &call->begin)) {
        counter_add(&server->refused_intake, 1);
        finish_refuse(call,
                      admit_overloaded("limits.intake_depth", "the workers' queues are full"));
        return;
    }
    call->poller.placed = stream;
    server->streams[worker->id] += stream;
    link_call(server, call);
    touch(server, worker);
}

void admit_call(struct rpc_server *server, struct call *call)
{
    call->arrived_ns = clock_now_ns();
    call->deadline_ns = deadline_ns(call->poller.grpc_deadline);
    if (call->row->method->kind == METHOD_UNARY)
        call->deadline_ns = told_in_time(call->deadline_ns, call->arrived_ns);
    call->request_bytes = message_bytes(call);
    counter_add(&call->row->metrics.started, 1);
    counter_add(&call->row->metrics.request_bytes, call->request_bytes);
    count_use(server, call->row);

    char text[512]; /* status_ending copies it */
    const struct binding *binding = NULL;
    struct err err = check_load(server, call);

    if (err.code == ERR_OK)
        err = find_binding(call, &binding, text, sizeof text);
    if (err.code == ERR_OK)
        dispatch(server, call, binding);
    else
        finish_refuse(call, err);
}

/* ---- methods that nobody registered ---- */

static const struct method *find_disabled(const struct rpc_server *server, grpc_slice path)
{
    for (size_t s = 0; s < server->service_count; s++) {
        const struct service *service = server->services[s].service;

        for (size_t m = 0; m < service->method_count; m++) {
            if (slice_is(path, service->methods[m].path, strlen(service->methods[m].path)))
                return &service->methods[m];
        }
    }
    return NULL;
}

void admit_unknown(struct rpc_server *server, struct call *call)
{
    const struct method *disabled = find_disabled(server, call->details.method);
    char text[512]; /* status_ending copies it */

    counter_add(&server->unknown_methods, 1);
    if (disabled != NULL)
        snprintf(text, sizeof text, "deprecated service is disabled on this server: use %s",
                 disabled->replaced_by);
    else
        snprintf(text, sizeof text, "unknown method %.*s",
                 (int)GRPC_SLICE_LENGTH(call->details.method),
                 (const char *)GRPC_SLICE_START_PTR(call->details.method));
    finish_refuse(call, err_make(ERR_UNIMPLEMENTED, text));
}
