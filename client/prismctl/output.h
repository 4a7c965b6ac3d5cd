/* Writing results: JSON that is always well-formed, and text that never breaks a terminal. */
#ifndef PRISM_CLIENT_PRISMCTL_OUTPUT_H
#define PRISM_CLIENT_PRISMCTL_OUTPUT_H

#include "prism/prism.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* One JSON document; nesting and commas are kept track of. name is NULL inside arrays and at the
 * top. The last close writes the newline. */
struct json {
    FILE *out;
    unsigned depth;
    bool comma;
};

void json_open(struct json *json, const char *name, char bracket); /* '{' or '[' */
void json_close(struct json *json, char bracket);                  /* '}' or ']' */

/* text NULL is written as null. Bytes that are not UTF-8 become U+FFFD. */
void json_text(struct json *json, const char *name, const char *text);
void json_int(struct json *json, const char *name, int64_t value);
void json_bool(struct json *json, const char *name, bool value);
void json_null(struct json *json, const char *name);

/* UTF-8 under `name`, anything else in base64 under `name`_base64. */
void json_bytes(struct json *json, const char *name, struct prism_bytes bytes);

/* A text that is JSON already. */
void json_raw(struct json *json, const char *name, const char *text);

/* Always base64, under `name`. */
void json_base64(struct json *json, const char *name, struct prism_bytes bytes);

/* One line's worth: control characters, backslash and what is not UTF-8 as \n, \t, \\, \xNN. */
void print_escaped(FILE *out, struct prism_bytes bytes);

void print_base64(FILE *out, struct prism_bytes bytes);

/* Decodes into a fresh buffer (free with free). False: not base64. */
bool parse_base64(const char *text, struct prism_buffer *to);

#endif
