/* What gRPC decrypts and encrypts passes the meters, as SSL_read and SSL_write are taken in like
 * the socket calls (sockets.h).
 *
 * gRPC gives the library memory, not descriptors. But a handshake begins with bytes that the same
 * thread has just read from its connection: there the two are tied to each other, for good. */
#include "src/rpc/inflow.h"

#include <dlfcn.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>

static struct {
    int (*read)(SSL *, void *, int);
    int (*write)(SSL *, const void *, int);
    int (*do_handshake)(SSL *);
    int index; /* of the connection's name, twice 32 bits */
} tls;

static pthread_once_t resolve_once = PTHREAD_ONCE_INIT;

static void resolve_all(void)
{
    *(void **)&tls.read = dlsym(RTLD_NEXT, "SSL_read");
    *(void **)&tls.write = dlsym(RTLD_NEXT, "SSL_write");
    *(void **)&tls.do_handshake = dlsym(RTLD_NEXT, "SSL_do_handshake");
    tls.index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static void resolve(void)
{
    pthread_once(&resolve_once, resolve_all);
}

/* Without a call to this file a linker would not take it out of its archive. */
void tls_calls_open(void)
{
    resolve();
}

static uint64_t connection_of(const SSL *ssl)
{
    return (uint64_t)(uintptr_t)SSL_get_ex_data(ssl, tls.index);
}

int SSL_do_handshake(SSL *ssl)
{
    resolve();
    if (SSL_is_server(ssl) && SSL_get_ex_data(ssl, tls.index) == NULL)
        SSL_set_ex_data(ssl, tls.index, (void *)(uintptr_t)inflow_current());
    return tls.do_handshake(ssl);
}

int SSL_read(SSL *ssl, void *bytes, int len)
{
    int n = 0;

    resolve();
    if (len > 0)
        n = (int)inflow_decrypted_for_overdue(connection_of(ssl), bytes, (size_t)len);
    if (n == 0)
        n = tls.read(ssl, bytes, len);
    if (n > 0)
        inflow_decrypted(connection_of(ssl), bytes, (size_t)n);
    return n;
}

int SSL_write(SSL *ssl, const void *bytes, int len)
{
    int n;

    resolve();
    n = tls.write(ssl, bytes, len);
    if (n > 0)
        inflow_encrypting(connection_of(ssl), bytes, (size_t)n);
    return n;
}
