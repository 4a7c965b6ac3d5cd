/* Making and handing out struct prism_error. thread: any, no state. */
#ifndef PRISM_CLIENT_ERROR_H
#define PRISM_CLIENT_ERROR_H

#include "prism/prism.h"

/* Fills *error (may be NULL) and returns code. Not retryable, no field. */
enum prism_code error_set(struct prism_error *error, enum prism_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with PRISM_INVALID_ARGUMENT and the field at fault. */
enum prism_code error_about(struct prism_error *error, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Sets *error (may be NULL) to PRISM_OK, which is returned. */
enum prism_code error_none(struct prism_error *error);

/* Copies to *error (may be NULL) and returns from->code. */
enum prism_code error_copy(struct prism_error *error, const struct prism_error *from);

/* Copies text into a field of struct prism_error, cut to its size without splitting a UTF-8
 * character. */
void error_text(char *to, size_t size, const char *text, size_t len);

/* Aborts when memory runs out: a library that half works without memory helps nobody. n * size
 * bytes, zeroed. */
void *alloc_zeroed(size_t n, size_t size);
char *alloc_text(const char *text); /* NULL stays NULL */

#endif
