/* A reader for JSON text (RFC 8259), shared by documents and filters.
 *
 * Why not a library: filters need integers beyond 2^53 as they are written, and the libraries at
 * hand turn them into doubles; and text goes into the arena, in canonical form, in one pass. */
#ifndef PRISM_FILTER_JSON_H
#define PRISM_FILTER_JSON_H

#include "src/filter/document.h"
#include "src/filter/filter.h"

/* The first fault is kept; what follows it reads as the end of the text. */
struct json {
    struct slice rest;
    struct arena *arena;
    bool inexact; /* an integer between two doubles has been read by json_value */
    struct err err;
};

struct json json_of(struct arena *arena, struct slice text);

/* What comes next: '{' '[' '"' 't' 'f' 'n', '0' for any number; 0: the end, or nothing of these. */
char json_peek(struct json *json);

/* Takes '{' or '['. Then json_more before each element: false at the closing bracket, which is
 * taken, or at a fault. For a struct, json_name after each json_more. */
void json_enter(struct json *json, char bracket);
bool json_more(struct json *json, char closing, bool first);
struct slice json_name(struct json *json);

struct slice json_string(struct json *json); /* in the arena, or within the text */
bool json_truth(struct json *json);
double json_number(struct json *json, enum filter_rounding *rounding);

/* Any value, into the writer. */
void json_value(struct json *json, struct document_writer *writer);

/* Only blanks are left. */
void json_finish(struct json *json);
void json_fail(struct json *json, const char *text); /* static */

#endif
