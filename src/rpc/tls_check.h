/* Can these PEM texts serve? OpenSSL, which gRPC uses as well, is asked before gRPC is. */
#ifndef PRISM_RPC_TLS_CHECK_H
#define PRISM_RPC_TLS_CHECK_H

#include "src/base/err.h"

/* client_ca may be NULL. ERR_FAILED_PRECONDITION about "tls.cert", "tls.key" or "tls.client_ca",
 * with a static text that says what is wrong. thread: any. */
struct err tls_check(const char *cert, const char *key, const char *client_ca);

/* What is wrong with certificates, or with the key of the first of them; static, NULL: nothing.
 * certificates may be NULL, or wrong: then the key is looked at by itself. thread: any. */
const char *tls_check_certificates(const char *certificates);
const char *tls_check_key(const char *key, const char *certificates);

#endif
