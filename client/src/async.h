/* Calls without a waiting caller: one thread per channel drives their completion queue, retries and
 * callbacks. It is started with the first such call. */
#ifndef PRISM_CLIENT_ASYNC_H
#define PRISM_CLIENT_ASYNC_H

#include "client/src/rpc.h"

struct async;

/* Starts the call; done(rpc) runs later on the channel's thread, exactly once, and owns the rpc.
 * thread: any, the channel's own included.
 * errors: RESOURCE_EXHAUSTED if the thread cannot be started; then done does not run. */
enum prism_code rpc_submit(struct rpc *rpc, rpc_done_fn *done, struct prism_error *error);

/* Ends the thread; all calls must be done. NULL is accepted. */
void async_destroy(struct async *async);

#endif
