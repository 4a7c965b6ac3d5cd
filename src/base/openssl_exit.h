/* OpenSSL at the process's end. Client libraries free their connections on threads of their own,
 * which nobody can wait for (nats.c does so after its last callback); with TLS they call OpenSSL
 * for it, which exit(3) would be taking down under their feet. */
#ifndef PRISM_BASE_OPENSSL_EXIT_H
#define PRISM_BASE_OPENSSL_EXIT_H

#include <openssl/crypto.h>

/* OpenSSL is left standing when the process ends. First of all that uses it: later ones cannot
 * choose any more. thread: main. */
static inline void openssl_outlives_exit(void)
{
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
}

#endif
