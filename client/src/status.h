/* From gRPC's status and its details to struct prism_error. */
#ifndef PRISM_CLIENT_STATUS_H
#define PRISM_CLIENT_STATUS_H

#include "prism/prism.h"

#include <grpc/grpc.h>

struct prism_channel;

/* What the server says about the effect of a call that failed. */
enum status_effect {
    STATUS_UNSAID,
    /* Nothing happened: gRPC's server refused the size of the request, or Prism a limit of it. */
    STATUS_NOT_TAKEN,
    /* Nothing happened, and the call may be sent again: RESOURCE_EXHAUSTED with a delay, or
     * UNAVAILABLE with an ErrorInfo of Prism's that says so ("effect" is "none") or is about
     * "draining". Never when it says that the effect is unknown. */
    STATUS_REPEAT
};

/* Reads status, text and, from the trailing metadata, google.rpc.BadRequest (field) and RetryInfo
 * (retry_after_ms; at least 1 if there is any, so that 0 means "none"). retryable is left false: it
 * depends on the method. Details that do not decode are ignored; status and text remain. Where no
 * connection came about, gRPC's text is followed by what is behind it as a rule. thread: any. */
enum status_effect status_to_error(const struct prism_channel *channel, grpc_status_code status,
                                   grpc_slice text, const grpc_metadata_array *trailing,
                                   struct prism_error *error);

#endif
