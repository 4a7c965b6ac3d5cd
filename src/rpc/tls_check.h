/* Can these PEM texts serve? OpenSSL, which gRPC uses as well, is asked before gRPC is. */
#ifndef PRISM_RPC_TLS_CHECK_H
#define PRISM_RPC_TLS_CHECK_H

#include "src/base/err.h"

/* client_ca may be NULL. ERR_FAILED_PRECONDITION about "tls.cert", "tls.key" or "tls.client_ca",
 * with a static text that says what is wrong. thread: any. */
struct err tls_check(const char *cert, const char *key, const char *client_ca);

#endif
