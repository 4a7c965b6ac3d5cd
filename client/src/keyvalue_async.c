/* Asynchronous calls: prepare as the blocking ones do, submit, and on the channel's thread take the
 * answer and hand it to the callback. */
#include "client/src/async.h"
#include "client/src/error.h"
#include "client/src/keyvalue_priv.h"

#include <stdlib.h>

struct pending {
    struct rpc rpc; /* first: done() finds the rest by it */
    struct prism_callback callback;
};

static void stored(struct rpc *rpc)
{
    struct pending *pending = (struct pending *)rpc;
    struct prism_buffer version = {0};

    if (rpc->error.code == PRISM_OK)
        store_take(rpc, &version, &rpc->error);
    pending->callback.fn.stored(pending->callback.context, &rpc->error,
                                prism_bytes_of(version.data, version.len));
    prism_buffer_free(&version);
    rpc_clear(rpc);
    free(pending);
}

static void retrieved(struct rpc *rpc)
{
    struct pending *pending = (struct pending *)rpc;
    struct prism_value value = {0};

    if (rpc->error.code == PRISM_OK)
        retrieve_take(rpc, &value, &rpc->error);
    pending->callback.fn.retrieved(pending->callback.context, &rpc->error, &value);
    prism_value_free(&value);
    rpc_clear(rpc);
    free(pending);
}

static void removed(struct rpc *rpc)
{
    struct pending *pending = (struct pending *)rpc;
    bool existed = false;

    if (rpc->error.code == PRISM_OK)
        remove_take(rpc, &existed, &rpc->error);
    pending->callback.fn.removed(pending->callback.context, &rpc->error, existed);
    rpc_clear(rpc);
    free(pending);
}

/* Submits what was prepared with PRISM_OK; otherwise, or if that fails, nothing is left behind. */
static enum prism_code submit(struct pending *pending, enum prism_code prepared,
                              struct prism_callback callback, rpc_done_fn *done,
                              struct prism_error *error)
{
    enum prism_code code = prepared;

    pending->callback = callback;
    if (prepared == PRISM_OK) {
        code = rpc_submit(&pending->rpc, done, error);
        if (code != PRISM_OK)
            rpc_clear(&pending->rpc);
    }
    if (code != PRISM_OK)
        free(pending);
    return code;
}

enum prism_code prism_keyvalue_store_async(struct prism_keyvalue *keyvalue, const char *key,
                                           struct prism_bytes value,
                                           const struct prism_store_options *options,
                                           struct prism_callback callback,
                                           struct prism_error *error)
{
    struct pending *pending = alloc_zeroed(1, sizeof *pending);

    return submit(pending, store_prepare(&pending->rpc, keyvalue, key, value, options, error),
                  callback, stored, error);
}

enum prism_code prism_keyvalue_retrieve_async(struct prism_keyvalue *keyvalue, const char *key,
                                              const struct prism_retrieve_options *options,
                                              struct prism_callback callback,
                                              struct prism_error *error)
{
    struct pending *pending = alloc_zeroed(1, sizeof *pending);

    return submit(pending, retrieve_prepare(&pending->rpc, keyvalue, key, options, error), callback,
                  retrieved, error);
}

enum prism_code prism_keyvalue_remove_async(struct prism_keyvalue *keyvalue, const char *key,
                                            const struct prism_call_options *options,
                                            struct prism_callback callback,
                                            struct prism_error *error)
{
    struct pending *pending = alloc_zeroed(1, sizeof *pending);

    return submit(pending, remove_prepare(&pending->rpc, keyvalue, key, options, error), callback,
                  removed, error);
}
