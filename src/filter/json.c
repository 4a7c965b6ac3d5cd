#include "src/filter/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUMBER_CHARS = 400 /* longer ones are refused */ };

struct json json_of(struct arena *arena, struct slice text)
{
    return (struct json){.rest = text, .arena = arena};
}

void json_fail(struct json *json, const char *text)
{
    if (json->err.code == ERR_OK)
        json->err = err_make(ERR_INVALID_ARGUMENT, text);
    json->rest = slice_of(NULL, 0);
}

static void skip(struct json *json, size_t bytes)
{
    json->rest.data += bytes;
    json->rest.len -= bytes;
}

static void blanks(struct json *json)
{
    while (json->rest.len > 0 && (json->rest.data[0] == ' ' ||
                                  (json->rest.data[0] >= '\t' && json->rest.data[0] <= '\r' &&
                                   json->rest.data[0] != '\v' && json->rest.data[0] != '\f')))
        skip(json, 1);
}

char json_peek(struct json *json)
{
    blanks(json);
    if (json->rest.len == 0)
        return 0;

    char c = (char)json->rest.data[0];

    if (c == '-' || (c >= '0' && c <= '9'))
        return '0';
    return strchr("{[\"tfn", c) != NULL ? c : '\0';
}

static bool take(struct json *json, char c)
{
    blanks(json);
    if (json->rest.len == 0 || json->rest.data[0] != (uint8_t)c)
        return false;
    skip(json, 1);
    return true;
}

void json_enter(struct json *json, char bracket)
{
    if (!take(json, bracket))
        json_fail(json, bracket == '{' ? "not JSON: an object is expected"
                                       : "not JSON: a list is expected");
}

bool json_more(struct json *json, char closing, bool first)
{
    if (take(json, closing) || json->err.code != ERR_OK)
        return false;
    if (first || take(json, ','))
        return true;
    json_fail(json, "not JSON: a comma or a closing bracket is expected");
    return false;
}

struct slice json_name(struct json *json)
{
    struct slice name = json_string(json);

    if (!take(json, ':'))
        json_fail(json, "not JSON: a colon is expected");
    return name;
}

void json_finish(struct json *json)
{
    blanks(json);
    if (json->rest.len > 0)
        json_fail(json, "not JSON: something follows the value");
}

/* ---- strings ---- */

static int hex4(struct slice text, size_t at)
{
    int code = 0;

    if (text.len < at + 4)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        uint8_t c = text.data[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;

        if (digit < 0)
            return -1;
        code = code << 4 | digit;
    }
    return code;
}

static size_t utf8_put(uint8_t *out, unsigned code)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }

    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

    for (size_t i = n - 1; i > 0; i--, code >>= 6)
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)((0xf00u >> n & 0xf0) | code);
    return n;
}

/* \uXXXX, maybe of a pair; at the 'u'. Returns the bytes of the text that were used, 0: wrong. */
static size_t unicode(struct slice text, size_t at, uint8_t *out, size_t *len)
{
    int high = hex4(text, at + 1), low;

    if (high < 0 || (high >= 0xdc00 && high <= 0xdfff))
        return 0;
    if (high < 0xd800 || high > 0xdbff) {
        *len += utf8_put(out + *len, (unsigned)high);
        return 5;
    }
    if (text.len < at + 11 || text.data[at + 5] != '\\' || text.data[at + 6] != 'u')
        return 0;
    low = hex4(text, at + 7);
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    *len += utf8_put(out + *len,
                     0x10000u + ((unsigned)(high - 0xd800) << 10) + (unsigned)(low - 0xdc00));
    return 11;
}

/* An escape, at the character after the backslash. Returns the bytes used, 0: wrong. */
static size_t escape(struct slice text, size_t at, uint8_t *out, size_t *len)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";

    if (at >= text.len || text.data[at] == '\0')
        return 0;
    if (text.data[at] == 'u')
        return unicode(text, at, out, len);

    const char *name = strchr(names, text.data[at]);

    if (name == NULL)
        return 0;
    out[(*len)++] = (uint8_t)values[name - names];
    return 1;
}

/* The length of the string's text up to the closing quote; SIZE_MAX: there is none. */
static size_t string_end(struct slice text, bool *escaped)
{
    *escaped = false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '"')
            return i;
        if (text.data[i] < ' ')
            return SIZE_MAX;
        if (text.data[i] == '\\') {
            *escaped = true;
            i++;
        }
    }
    return SIZE_MAX;
}

struct slice json_string(struct json *json)
{
    bool escaped;
    size_t end;

    if (!take(json, '"')) {
        json_fail(json, "not JSON: a string is expected");
        return slice_of(NULL, 0);
    }
    end = string_end(json->rest, &escaped);
    if (end == SIZE_MAX) {
        json_fail(json, "not JSON: a string does not end, or holds a control character");
        return slice_of(NULL, 0);
    }

    struct slice raw = slice_of(json->rest.data, end);

    skip(json, end + 1);
    if (!escaped)
        return raw;

    uint8_t *out = arena_alloc(json->arena, raw.len);
    size_t len = 0;

    for (size_t i = 0, used; i < raw.len; i += used) {
        used = 1;
        if (raw.data[i] != '\\') {
            out[len++] = raw.data[i];
            continue;
        }
        used = escape(raw, i + 1, out, &len);
        if (used++ == 0) {
            json_fail(json, "not JSON: a wrong escape in a string");
            return slice_of(NULL, 0);
        }
    }
    return slice_of(out, len);
}

/* ---- numbers and words ---- */

static size_t digits(struct slice text, size_t at)
{
    size_t n = 0;

    while (at + n < text.len && text.data[at + n] >= '0' && text.data[at + n] <= '9')
        n++;
    return n;
}

/* The length of a number by the grammar, 0: none. */
static size_t number_len(struct slice text, bool *integer)
{
    size_t at = text.len > 0 && text.data[0] == '-' ? 1 : 0, n = digits(text, at);

    *integer = true;
    if (n == 0 || (n > 1 && text.data[at] == '0'))
        return 0;
    at += n;
    if (at < text.len && text.data[at] == '.') {
        n = digits(text, at + 1);
        if (n == 0)
            return 0;
        at += 1 + n;
        *integer = false;
    }
    if (at < text.len && (text.data[at] | 0x20) == 'e') {
        at++;
        if (at < text.len && (text.data[at] == '+' || text.data[at] == '-'))
            at++;
        n = digits(text, at);
        if (n == 0)
            return 0;
        at += n;
        *integer = false;
    }
    return at;
}

/* Where the double lies beside the integer that the text names. */
static enum filter_rounding rounding_of(const char *text, double number)
{
    char exact[NUMBER_CHARS];
    bool negative = text[0] == '-';
    int len = snprintf(exact, sizeof exact, "%.0f", fabs(number));
    const char *digits_of = text + negative;
    size_t n = strlen(digits_of);
    int order = (size_t)len != n ? ((size_t)len < n ? -1 : 1) : strcmp(exact, digits_of);

    if (order == 0)
        return FILTER_EXACT;
    return (order > 0) != negative ? FILTER_ROUNDED_UP : FILTER_ROUNDED_DOWN;
}

double json_number(struct json *json, enum filter_rounding *rounding)
{
    char text[NUMBER_CHARS];
    bool integer;

    blanks(json);

    size_t len = number_len(json->rest, &integer);

    *rounding = FILTER_EXACT;
    if (len == 0 || len >= sizeof text) {
        json_fail(json, len == 0 ? "not JSON: a value is expected" : "a number is too long");
        return 0;
    }
    memcpy(text, json->rest.data, len);
    text[len] = '\0';
    skip(json, len);

    double number = strtod(text, NULL);

    if (!isfinite(number))
        json_fail(json, "a number is out of range");
    else if (integer && fabs(number) >= 9007199254740992.0)
        *rounding = rounding_of(text, number);
    return number;
}

static bool word(struct json *json, const char *text)
{
    blanks(json);
    if (!slice_starts_with(json->rest, slice_str(text)))
        return false;
    skip(json, strlen(text));
    return true;
}

bool json_truth(struct json *json)
{
    if (word(json, "true"))
        return true;
    if (!word(json, "false"))
        json_fail(json, "not JSON: true or false is expected");
    return false;
}

/* ---- values ---- */

static void list(struct json *json, struct document_writer *writer)
{
    document_begin(writer, DOCUMENT_LIST);
    json_enter(json, '[');
    for (bool first = true; json_more(json, ']', first); first = false)
        json_value(json, writer);
    document_end(writer);
}

static void object(struct json *json, struct document_writer *writer)
{
    document_begin(writer, DOCUMENT_STRUCT);
    json_enter(json, '{');
    for (bool first = true; json_more(json, '}', first); first = false) {
        document_name(writer, json_name(json));
        json_value(json, writer);
    }
    document_end(writer);
}

void json_value(struct json *json, struct document_writer *writer)
{
    enum filter_rounding rounding;

    if (writer->err.code != ERR_OK) /* too deep, above all: what follows is not looked at */
        json_fail(json, writer->err.text);
    switch (json_peek(json)) {
    case '{':
        object(json, writer);
        return;
    case '[':
        list(json, writer);
        return;
    case '"':
        document_string(writer, json_string(json));
        return;
    case 't':
    case 'f':
        document_bool(writer, json_truth(json));
        return;
    case 'n':
        if (!word(json, "null"))
            json_fail(json, "not JSON: null is expected");
        document_null(writer);
        return;
    default:
        document_number(writer, json_number(json, &rounding));
        json->inexact |= rounding != FILTER_EXACT;
        return;
    }
}
