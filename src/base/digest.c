#include "src/base/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>

static void must(int done)
{
    if (done != 1)
        abort(); /* no memory, or a library without SHA-256 */
}

/* Looked up once: to look it up for each digest, as EVP_sha256() does, costs twice as much as the
 * digest of a short key. */
static struct {
    EVP_MD *type;
    pthread_once_t once;
} sha256 = {.once = PTHREAD_ONCE_INIT};

static void find_sha256(void)
{
    sha256.type = EVP_MD_fetch(NULL, "SHA256", NULL);
    must(sha256.type != NULL);
}

struct digest digest_of(const struct slice *parts, unsigned n)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    struct digest digest;

    if (context == NULL)
        abort();
    pthread_once(&sha256.once, find_sha256);
    must(EVP_DigestInit_ex(context, sha256.type, NULL));
    for (unsigned i = 0; i < n; i++)
        must(EVP_DigestUpdate(context, parts[i].data, parts[i].len));
    must(EVP_DigestFinal_ex(context, digest.bytes, NULL));
    EVP_MD_CTX_free(context);
    return digest;
}

struct digest digest_hmac(struct slice key, struct slice data)
{
    struct digest digest;
    static const uint8_t nothing[1];

    if (HMAC(EVP_sha256(), key.len > 0 ? key.data : nothing, (int)key.len, data.data, data.len,
             digest.bytes, NULL) == NULL)
        abort();
    return digest;
}

void digest_hex(const struct digest *digest, char out[DIGEST_HEX])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[digest->bytes[i] >> 4];
        out[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
}
