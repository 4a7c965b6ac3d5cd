/* TLS to redis: the only user of OpenSSL in this folder.
 *
 * A context is made of a slot's files at the start and on SIGHUP, and shared by its connections; a
 * session is one connection's. Nothing blocks but the reading of files. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_TLS_H
#define PRISM_BACKENDS_REDIS_REDIS_TLS_H

#include "src/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct ssl_ctx_st; /* OpenSSL's SSL_CTX, counted */
struct ssl_st;     /* SSL */

struct redis_tls_files {
    const char *ca;         /* PEM; NULL: the system's authorities */
    const char *cert, *key; /* PEM; NULL: none */
    bool verify;            /* the server's certificate, and its name */
};

/* Reads the files. ERR_FAILED_PRECONDITION about the setting whose file cannot be used; then *out
 * is NULL. thread: main. */
struct err redis_tls_context(struct ssl_ctx_st **out, const struct redis_tls_files *files);
struct ssl_ctx_st *redis_tls_context_ref(struct ssl_ctx_st *context); /* NULL: NULL */
void redis_tls_context_unref(struct ssl_ctx_st *context);             /* likewise */

/* name: of the server, as its certificate has to say; a host name or a numeric address. */
struct ssl_st *redis_tls_session(struct ssl_ctx_st *context, int fd, const char *name);
void redis_tls_free(struct ssl_st *session);

/* At most so many bytes of those that a write did not take are encrypted already, and go out before
 * anything else: the next write begins with the same ones. */
enum { REDIS_TLS_RECORD = 16384 };

enum redis_tls_step { REDIS_TLS_DONE, REDIS_TLS_READS, REDIS_TLS_WRITES, REDIS_TLS_FAILED };

/* What the handshake waits for. */
enum redis_tls_step redis_tls_shake(struct ssl_st *session);

/* As recv and send of a non-blocking socket: bytes, 0 = not now, -1 = ended or failed. A room of
 * 16 KiB or more takes all that OpenSSL has decoded, so that waiting for the socket is enough. */
ssize_t redis_tls_read(struct ssl_st *session, char *to, size_t room);
ssize_t redis_tls_write(struct ssl_st *session, const char *from, size_t bytes);

/* After a failure of this session, on this thread: why, for users; static; NULL: TLS is not to
 * blame. detail: OpenSSL's own words, for the log. */
const char *redis_tls_problem(struct ssl_st *session, char *detail, size_t room);

#endif
