/* SHA-256 and its HMAC, by OpenSSL's libcrypto. */
#ifndef PRISM_BASE_DIGEST_H
#define PRISM_BASE_DIGEST_H

#include "src/base/slice.h"

#include <stdint.h>

enum { DIGEST_BYTES = 32, DIGEST_HEX = 2 * DIGEST_BYTES };

struct digest {
    uint8_t bytes[DIGEST_BYTES];
};

/* Of the parts one after the other. thread: any. */
struct digest digest_of(const struct slice *parts, unsigned n);

/* HMAC-SHA-256 of the data. thread: any. */
struct digest digest_hmac(struct slice key, struct slice data);

/* DIGEST_HEX lower-case digits, no NUL. */
void digest_hex(const struct digest *digest, char out[DIGEST_HEX]);

#endif
