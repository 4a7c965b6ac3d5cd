/* Regular expressions by RE2, which matches in time linear in the text whatever the expression, and
 * within a bound of memory. The one file in C++ of this folder: RE2, which gRPC brings, has no
 * other interface. */
#ifndef PRISM_FILTER_REGEX_H
#define PRISM_FILTER_REGEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct regex;

/* The pattern is UTF-8. NULL: it does not compile, or takes more than max_bytes of memory; then
 * *why (room bytes) says what is wrong with it. */
struct regex *regex_new(const char *pattern, size_t len, size_t max_bytes, char *why, size_t room);

/* Is there a match anywhere in the text? thread: any; several at once. */
bool regex_match(const struct regex *regex, const char *text, size_t len);

void regex_destroy(void *regex);

#ifdef __cplusplus
}
#endif

#endif
