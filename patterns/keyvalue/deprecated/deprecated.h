/* What the deprecated services share. They run on the same core; only their messages differ, and
 * what they say in them: a fault or a failure of the backend is told in-band wherever the response
 * has an `error`, as it always was. */
#ifndef PRISM_PATTERNS_KEYVALUE_DEPRECATED_DEPRECATED_H
#define PRISM_PATTERNS_KEYVALUE_DEPRECATED_DEPRECATED_H

#include "patterns/keyvalue/deprecated/messages.h"
#include "patterns/keyvalue/keyvalue_priv.h"

extern const struct service keyvalue_old_basic, keyvalue_old_ttl, keyvalue_old_batch,
    keyvalue_old_scan;

#define OLD_METHOD(interface, rpc, rpc_kind, request_name, response_name, handler, replacement)    \
    {                                                                                              \
        .path = "/prism.interfaces.keyvalue." interface "/" rpc, .kind = (rpc_kind),               \
        .request = &prism__interfaces__keyvalue__##request_name##__descriptor,                     \
        .response = &prism__interfaces__keyvalue__##response_name##__descriptor,                   \
        .handle = (handler), .replaced_by = "prism.patterns.keyvalue.KeyValuePattern." replacement \
    }

/* Is err the call's own end (missing interface, deadline, cancellation), so that it is a status? */
static inline bool old_is_status(struct err err)
{
    return err.code == ERR_UNIMPLEMENTED || err.code == ERR_DEADLINE_EXCEEDED ||
           err.code == ERR_CANCELLED;
}

/* An `error` field: empty on success. */
static inline char *old_error(struct err err)
{
    return pb_text(err.code == ERR_OK ? "" : err.text);
}

#endif
