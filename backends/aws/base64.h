/* Base64, as JSON and headers carry bytes. thread: any. */
#ifndef PRISM_BACKENDS_AWS_BASE64_H
#define PRISM_BACKENDS_AWS_BASE64_H

#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>

/* Bytes that n bytes take, padded. */
static inline size_t base64_bytes(size_t n)
{
    return (n + 2) / 3 * 4;
}

/* Writes the padded form, without a NUL; room for base64_bytes(bytes.len). Returns its end. */
char *base64_encode(struct slice bytes, char *out);

/* The same with '-' and '_' and without padding, as URLs and headers like it. */
char *base64_encode_url(struct slice bytes, char *out);

/* How many bytes the padded form holds, if it is one. */
size_t base64_decoded_bytes(struct slice text);

/* out: room for base64_decoded_bytes. False: that is no base64. */
bool base64_decode(struct slice text, void *out);

#endif
