/* Writes JSON to a stream, commas and escapes included. Nesting at most JSON_DEPTH_MAX.
 * thread: one. errors: those of the stream. */
#ifndef PRISM_PERF_BENCH_JSON_H
#define PRISM_PERF_BENCH_JSON_H

#include <stdbool.h>
#include <stdio.h>

enum { JSON_DEPTH_MAX = 16 };

struct json {
    FILE *out;
    unsigned depth;
    bool follows[JSON_DEPTH_MAX]; /* something stands before the next value of this level */
};

void json_init(struct json *j, FILE *out);

/* `key` names the member of an object; NULL in an array and at the top. */
void json_open(struct json *j, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                 /* '}' or ']' */
void json_text(struct json *j, const char *key, const char *text);
void json_bool(struct json *j, const char *key, bool value);
void json_null(struct json *j, const char *key);
/* At most six significant digits; not a number and infinity become null. */
void json_number(struct json *j, const char *key, double value);

#endif
