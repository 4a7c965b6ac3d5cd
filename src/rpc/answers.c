/* Answers that are made on a worker count from then on, not only once the poller has them: many
 * that come from a backend together would be beyond every bound by then. Small ones are left to
 * the poller, which counts without a locked instruction. thread: the call's home, but for
 * answers_uncount. */
#include "src/rpc/rpc_priv.h"

void answers_count(struct call *call, uint64_t bytes)
{
    enum { LARGE = 4096 };

    if (bytes < LARGE || call->worker == &call->server->poller)
        return;
    call->built_bytes = bytes;
    atomic_fetch_add_explicit(&call->server->built_bytes, bytes, memory_order_relaxed);
    if (call->share != NULL)
        atomic_fetch_add_explicit(&call->share->built_bytes, bytes, memory_order_relaxed);
}

void answers_uncount(struct call *call)
{
    uint64_t bytes = call->built_bytes;

    if (bytes == 0)
        return;
    call->built_bytes = 0;
    atomic_fetch_sub_explicit(&call->server->built_bytes, bytes, memory_order_relaxed);
    if (call->share != NULL)
        atomic_fetch_sub_explicit(&call->share->built_bytes, bytes, memory_order_relaxed);
}

struct err answers_fit(struct call *call)
{
    struct rpc_server *server = call->server;
    uint64_t own = call->built_bytes + call->request_bytes, all, most;

    if (call->built_bytes == 0 || admit_is_general(call))
        return ERR_NONE;
    most = server->options.max_inflight_bytes;
    all = counter_read(&server->in_flight_bytes) +
          atomic_load_explicit(&server->built_bytes, memory_order_relaxed);
    if (all > most && all > own) {
        counter_add_shared(&server->refused_answers, 1);
        return admit_overloaded("limits.max_inflight_bytes",
                                "the answers in flight hold too much memory");
    }
    all = share_bytes(call->share);
    if (all > admit_share(server, most) && all > own) {
        counter_add_shared(&server->refused_answers, 1);
        return admit_overloaded("limits.connection_share_percent",
                                "answers that this connection has not taken hold its share of the "
                                "memory");
    }
    return ERR_NONE;
}
