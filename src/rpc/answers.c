/* Answers that are made on a worker count from then on, not only once the poller has them: many
 * that come from a backend together would be beyond every bound by then. Small ones are left to
 * the poller, which counts without a locked instruction. thread: the call's home, but for
 * answers_uncount. */
#include "src/rpc/rpc_priv.h"

void answers_count(struct call *call, uint64_t bytes, uint64_t *built)
{
    enum { LARGE = 4096 };

    if (bytes < LARGE || call->worker == &call->server->poller)
        return;
    *built = bytes;
    memory_take(call->server, call->share, bytes);
}

void answers_uncount(struct call *call, uint64_t *built)
{
    uint64_t bytes = *built;

    if (bytes == 0)
        return;
    *built = 0;
    memory_give_back(call->server, call->share, bytes);
}

/* A unary call gives back what it has held so far, so an answer that is no larger always fits. */
struct err answers_fit(struct call *call, uint64_t built)
{
    uint64_t held = call->home.held_bytes;
    bool last = call->row->method->kind == METHOD_UNARY;
    struct err err;

    if (built == 0 || (last && built <= held) || admit_is_general(call))
        return ERR_NONE;
    err = memory_check(call, 0, built + call->request_bytes + held);
    if (err.code != ERR_OK)
        counter_add_shared(&call->server->refused_answers, 1);
    return err;
}
