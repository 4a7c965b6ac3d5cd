/* Documents from JSON text, and to it. */
#include "src/filter/json.h"

#include <stdio.h>
#include <stdlib.h>

struct err document_from_json(struct arena *arena, struct slice text, size_t max_bytes,
                              struct slice *out)
{
    struct json json = json_of(arena, text);
    struct document_writer writer;

    document_start(&writer, arena, max_bytes);
    json_value(&json, &writer);
    json_finish(&json);
    return json.err.code != ERR_OK ? json.err : document_finish(&writer, out);
}

size_t document_number_text(double number, char text[DOCUMENT_NUMBER_CHARS])
{
    int len = 0;

    for (int precision = 15; precision <= 17; precision++) {
        len = snprintf(text, DOCUMENT_NUMBER_CHARS, "%.*g", precision, number);
        if (strtod(text, NULL) == number)
            break;
    }
    return (size_t)len;
}

/* ---- to text ---- */

struct text {
    uint8_t *at; /* NULL: only measures */
    size_t len;
};

static void add(struct text *text, const void *bytes, size_t len)
{
    if (text->at != NULL && len > 0)
        memcpy(text->at + text->len, bytes, len);
    text->len += len;
}

static void add_string(struct text *text, struct slice string)
{
    char escaped[8];

    add(text, "\"", 1);
    for (size_t i = 0, plain = 0; i <= string.len; i++) {
        if (i < string.len && string.data[i] >= ' ' && string.data[i] != '"' &&
            string.data[i] != '\\')
            continue;
        add(text, string.data + plain, i - plain);
        plain = i + 1;
        if (i == string.len)
            break;

        int len = string.data[i] < ' '
                      ? snprintf(escaped, sizeof escaped, "\\u%04x", string.data[i])
                      : snprintf(escaped, sizeof escaped, "\\%c", string.data[i]);

        add(text, escaped, (size_t)len);
    }
    add(text, "\"", 1);
}

static void add_value(struct text *text, struct slice value);

static void add_container(struct text *text, struct slice value)
{
    struct document_walk walk = document_walk(value);

    add(text, walk.fields ? "{" : "[", 1);
    for (bool first = true; document_next(&walk); first = false) {
        if (!first)
            add(text, ",", 1);
        if (walk.fields) {
            add_string(text, walk.name);
            add(text, ":", 1);
        }
        add_value(text, walk.value);
    }
    add(text, walk.fields ? "}" : "]", 1);
}

static void add_value(struct text *text, struct slice value)
{
    char number[DOCUMENT_NUMBER_CHARS];

    switch (document_type_of(value)) {
    case DOCUMENT_NULL:
        add(text, "null", 4);
        return;
    case DOCUMENT_FALSE:
        add(text, "false", 5);
        return;
    case DOCUMENT_TRUE:
        add(text, "true", 4);
        return;
    case DOCUMENT_NUMBER:
        add(text, number, document_number_text(document_number_of(value), number));
        return;
    case DOCUMENT_STRING:
        add_string(text, document_payload(value));
        return;
    case DOCUMENT_LIST:
    case DOCUMENT_STRUCT:
        add_container(text, value);
        return;
    case DOCUMENT_TYPES:
        break;
    }
    abort(); /* no type of a document */
}

struct slice document_to_json(struct arena *arena, struct slice value)
{
    struct text text = {0};

    add_value(&text, value);
    text.at = arena_alloc(arena, text.len);
    text.len = 0;
    add_value(&text, value);
    return slice_of(text.at, text.len);
}
