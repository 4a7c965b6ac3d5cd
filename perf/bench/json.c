/* See json.h. Members of the first two levels stand on lines of their own. */
#include "perf/bench/json.h"

#include <math.h>
#include <string.h>

enum { LINES_TO_DEPTH = 2 };

void json_init(struct json *j, FILE *out)
{
    memset(j, 0, sizeof *j);
    j->out = out;
}

static void write_text(struct json *j, const char *text)
{
    fputc('"', j->out);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(j->out, "\\%c", *c);
        else if (*c < 0x20)
            fprintf(j->out, "\\u%04x", *c);
        else
            fputc(*c, j->out);
    }
    fputc('"', j->out);
}

static void new_line(struct json *j)
{
    if (j->depth <= LINES_TO_DEPTH)
        fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
}

static void before_value(struct json *j, const char *key)
{
    if (j->follows[j->depth])
        fputs(j->depth > LINES_TO_DEPTH ? ", " : ",", j->out);
    j->follows[j->depth] = true;
    if (j->depth > 0)
        new_line(j);
    if (key != NULL) {
        write_text(j, key);
        fputs(": ", j->out);
    }
}

void json_open(struct json *j, const char *key, char bracket)
{
    before_value(j, key);
    fputc(bracket, j->out);
    if (j->depth + 1 < JSON_DEPTH_MAX)
        j->depth++;
    j->follows[j->depth] = false;
}

void json_close(struct json *j, char bracket)
{
    bool lines = j->depth <= LINES_TO_DEPTH && j->follows[j->depth];

    j->depth--;
    if (lines)
        new_line(j);
    fputc(bracket, j->out);
    if (j->depth == 0)
        fputc('\n', j->out);
}

void json_text(struct json *j, const char *key, const char *text)
{
    before_value(j, key);
    write_text(j, text);
}

void json_bool(struct json *j, const char *key, bool value)
{
    before_value(j, key);
    fputs(value ? "true" : "false", j->out);
}

void json_null(struct json *j, const char *key)
{
    before_value(j, key);
    fputs("null", j->out);
}

void json_number(struct json *j, const char *key, double value)
{
    if (!isfinite(value)) {
        json_null(j, key);
        return;
    }
    before_value(j, key);
    if (fabs(value) < 1e15 && floor(value) == value)
        fprintf(j->out, "%.0f", value);
    else
        fprintf(j->out, "%.6g", value);
}
