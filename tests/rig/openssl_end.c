/* Preloaded into a process of the tests: says so when OpenSSL is taken down in it. */
#include <openssl/crypto.h>
#include <unistd.h>

static void say(void)
{
    static const char text[] = "OpenSSL is taken down\n";

    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        return;
}

__attribute__((constructor)) static void begin(void)
{
    OPENSSL_atexit(say);
}
