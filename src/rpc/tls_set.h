/* The PEM files of a server, read and checked as one set. Without gRPC, so that `prismctl check`
 * can try them exactly as the start does. */
#ifndef PRISM_RPC_TLS_SET_H
#define PRISM_RPC_TLS_SET_H

#include "src/base/err.h"

/* Texts; client_ca may be NULL. */
struct tls_set {
    char *cert, *key, *client_ca;
};

/* Reads the files, each a regular one of at most 1 MiB, and checks them as tls_check does.
 * client_ca_file may be NULL. On success the caller clears *set; on failure it is empty. errors:
 * FAILED_PRECONDITION about "tls.cert", "tls.key" or "tls.client_ca", with a static text. thread:
 * any. */
struct err tls_set_read(struct tls_set *set, const char *cert_file, const char *key_file,
                        const char *client_ca_file);

/* Overwrites and frees the texts. */
void tls_set_clear(struct tls_set *set);

/* tls_set_read, only to see whether it succeeds. */
struct err tls_set_try(const char *cert_file, const char *key_file, const char *client_ca_file);

/* What is wrong with a file of certificates; with key_file, what is wrong with that, of which
 * cert_file may be NULL. Static; NULL: nothing, or it is larger than 1 MiB. thread: any. */
const char *tls_set_fault(const char *cert_file, const char *key_file);

#endif
