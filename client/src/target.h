/* A server's address as gRPC takes it. thread: any, no state. */
#ifndef PRISM_CLIENT_TARGET_H
#define PRISM_CLIENT_TARGET_H

#include "prism/prism.h"

/* Checks the address that prism_channel_open was given, and writes it so that it differs from how
 * gRPC spells the peer of any connection: rpc.c tells by that whether a request was sent. Free the
 * result; NULL and an error about "target" when it is none. */
char *target_make(const char *given, struct prism_error *error);

#endif
