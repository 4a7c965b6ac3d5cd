/* From gRPC's status and its details to struct prism_error. */
#ifndef PRISM_CLIENT_STATUS_H
#define PRISM_CLIENT_STATUS_H

#include "prism/prism.h"

#include <grpc/grpc.h>

/* Reads status, text and, from the trailing metadata, google.rpc.BadRequest (field) and RetryInfo
 * (retry_after_ms; at least 1 if there is any, so that 0 means "none"). retryable is left false: it
 * depends on the method. Details that do not decode are ignored; status and text remain.
 * Returns whether the server says that nothing happened and that the call may be sent again:
 * RESOURCE_EXHAUSTED with a delay (without one it may be a limit on sizes), or UNAVAILABLE with an
 * ErrorInfo of Prism's that says so ("effect" is "none") or is about "draining". Never when it says
 * that the effect is unknown.
 * thread: any. */
bool status_to_error(grpc_status_code status, grpc_slice text, const grpc_metadata_array *trailing,
                     struct prism_error *error);

#endif
