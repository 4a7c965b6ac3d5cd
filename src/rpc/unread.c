/* Answers on their way to clients. gRPC says that it has sent one when the client's flow control
 * has let all of it through. Until then its memory counts against the limits, so a client that
 * takes nothing is waited for no longer than limits.unread_answer_ms: then its call is cancelled,
 * which drops what was to be sent. If all calls of its connection wait so, and none was taken
 * meanwhile, the connection ends. Else, as with a proxy of many clients, its other calls go on.
 *
 * The calls stand in a ring in the order in which their sends began. thread: poller. */
#include "src/rpc/rpc_priv.h"

#include "src/base/clock.h"
#include "src/rpc/inflow.h"

#include <grpc/support/alloc.h>

void unread_init(struct rpc_server *server)
{
    server->unread_log = (struct log_budget)LOG_BUDGET(5, 60000);
    server->unread.poller.unread_next = server->unread.poller.unread_prev = &server->unread;
}

void unread_begin(struct call *call)
{
    struct rpc_server *server = call->server;
    struct call *last = server->unread.poller.unread_prev;

    if (call->share != NULL)
        call->share->unread++;
    call->poller.unread_since_ns = server->poller.now_ns;
    call->poller.unread_next = &server->unread;
    call->poller.unread_prev = last;
    last->poller.unread_next = call;
    server->unread.poller.unread_prev = call;
}

void unread_end(struct call *call, bool taken)
{
    if (call->poller.unread_next == NULL)
        return;
    if (call->share != NULL)
        call->share->unread--;
    if (taken && call->share != NULL && call->poller.cancelled == 0)
        call->share->taken_ns = call->server->poller.now_ns;
    call->poller.unread_next->poller.unread_prev = call->poller.unread_prev;
    call->poller.unread_prev->poller.unread_next = call->poller.unread_next;
    call->poller.unread_next = call->poller.unread_prev = NULL;
}

/* A stream that has had nothing to take, for all that is known, would take it. */
static bool takes_nothing(const struct call *call)
{
    const struct share *share = call->share;

    return share != NULL && !share->ended && share->taken_ns < call->poller.unread_since_ns &&
           share->unread == share->users;
}

static void give_up(struct call *call)
{
    struct rpc_server *server = call->server;
    char *peer = grpc_call_get_peer(call->poller.grpc);

    counter_add(&server->unread_answers, 1);
    log_limited(&server->unread_log, LOG_WARN, "answer_not_taken",
                (const struct log_field[]){
                    LOG_S("peer", peer),
                    LOG_S("method", call->row != NULL ? call->row->method->path : "unknown"),
                    LOG_U("bytes", call->poller.sending_bytes)},
                3);
    if (takes_nothing(call))
        call->share->ended = inflow_end_peer(peer);
    gpr_free(peer);
    unread_end(call, false);
    grpc_call_cancel_with_status(call->poller.grpc, GRPC_STATUS_UNAVAILABLE,
                                 "the client did not take the answer within "
                                 "limits.unread_answer_ms",
                                 NULL);
}

/* When the oldest has waited long enough; UINT64_MAX: never. */
static uint64_t due_ns(const struct rpc_server *server)
{
    const struct call *oldest = server->unread.poller.unread_next;

    if (oldest == &server->unread || server->options.unread_answer_ms == 0)
        return UINT64_MAX;
    return oldest->poller.unread_since_ns + server->options.unread_answer_ms * NS_PER_MS;
}

void unread_sweep(struct rpc_server *server, uint64_t now_ns)
{
    while (due_ns(server) <= now_ns)
        give_up(server->unread.poller.unread_next);
}

int unread_wait_ms(const struct rpc_server *server, uint64_t now_ns)
{
    uint64_t due = due_ns(server);

    if (due == UINT64_MAX)
        return -1;
    return due <= now_ns ? 0 : (int)((due - now_ns) / NS_PER_MS) + 1;
}
