/* Writing documents. A container's length is filled in when it ends; fields that came out of order
 * are sorted then, so that a value has one encoding. */
#include "src/filter/document.h"

#include "src/base/utf8.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { FIELD_HEADER = 8, ELEMENT_HEADER = 4, FIRST_ROOM = 256 };

static void fail(struct document_writer *writer, const char *text)
{
    if (writer->err.code == ERR_OK)
        writer->err = err_make(ERR_INVALID_ARGUMENT, text);
}

void document_start(struct document_writer *writer, struct arena *arena, size_t max_bytes)
{
    memset(writer, 0, offsetof(struct document_writer, open));
    writer->arena = arena;
    writer->max_bytes = max_bytes;
    writer->depth = 0;
    writer->named = writer->ended = false;
    writer->name = slice_of(NULL, 0);
    writer->err = ERR_NONE;
}

/* Room for so many bytes more; NULL: there is a fault. */
static uint8_t *grow(struct document_writer *writer, size_t bytes)
{
    if (writer->err.code != ERR_OK)
        return NULL;
    if (bytes > writer->max_bytes - writer->len) {
        fail(writer, "larger than the limit");
        return NULL;
    }
    if (writer->len + bytes > writer->room) {
        size_t room = writer->room == 0 ? FIRST_ROOM : 2 * writer->room;

        if (room < writer->len + bytes)
            room = writer->len + bytes;

        uint8_t *bigger = arena_alloc(writer->arena, room);

        if (writer->len > 0)
            memcpy(bigger, writer->bytes, writer->len);
        writer->bytes = bigger;
        writer->room = room;
    }
    writer->len += bytes;
    return writer->bytes + writer->len - bytes;
}

uint16_t document_name_hash(struct slice name)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ name.data[i]) * 16777619u;
    return (uint16_t)(hash ^ hash >> 16);
}

static struct slice name_at(const struct document_writer *writer, size_t field)
{
    uint16_t len;

    memcpy(&len, writer->bytes + field, sizeof len);
    return slice_of(writer->bytes + field + FIELD_HEADER, len);
}

/* All that has been written behind the length at `header`. */
static void put_len(struct document_writer *writer, size_t header)
{
    uint32_t word = (uint32_t)(writer->len - header - 4);

    memcpy(writer->bytes + header, &word, sizeof word);
}

static void open_field(struct document_writer *writer, struct document_open *open)
{
    if (!writer->named) {
        fail(writer, "a value without a name");
        return;
    }

    size_t at = writer->len;
    uint8_t *field = grow(writer, FIELD_HEADER + writer->name.len);

    if (field == NULL)
        return;

    uint16_t len = (uint16_t)writer->name.len, hash = document_name_hash(writer->name);

    memcpy(field, &len, sizeof len);
    memcpy(field + 2, &hash, sizeof hash);
    if (len > 0)
        memcpy(field + FIELD_HEADER, writer->name.data, len);
    if (open->previous != SIZE_MAX &&
        slice_compare(name_at(writer, open->previous), name_at(writer, at)) >= 0)
        open->sorted = false;
    open->previous = at;
    writer->named = false;
}

/* What stands before a value: nothing, an element's length, a field's header. Returns where the
 * value's length goes, or SIZE_MAX. */
static size_t open_value(struct document_writer *writer)
{
    if (writer->depth == 0) {
        if (writer->ended)
            fail(writer, "more than one value");
        writer->ended = true;
        return SIZE_MAX;
    }

    struct document_open *open = &writer->open[writer->depth - 1];
    size_t at = writer->len;

    if (open->fields) {
        open_field(writer, open);
        return at + 4;
    }
    grow(writer, ELEMENT_HEADER);
    return at;
}

/* A value that is not a container. */
static void leaf(struct document_writer *writer, enum document_type type, const void *payload,
                 size_t len)
{
    size_t header = open_value(writer);
    uint8_t *at = grow(writer, 1 + len);

    if (at == NULL)
        return;
    at[0] = (uint8_t)type;
    if (len > 0)
        memcpy(at + 1, payload, len);
    if (header != SIZE_MAX)
        put_len(writer, header);
}

static bool holds_nul(struct slice text)
{
    return text.len > 0 && memchr(text.data, '\0', text.len) != NULL;
}

void document_name(struct document_writer *writer, struct slice name)
{
    if (name.len > DOCUMENT_NAME_BYTES)
        fail(writer, "a field's name is longer than 255 bytes");
    else if (!utf8_valid(name) || holds_nul(name))
        fail(writer, "a field's name is not UTF-8, or holds U+0000");
    writer->name = name;
    writer->named = true;
}

void document_null(struct document_writer *writer)
{
    leaf(writer, DOCUMENT_NULL, NULL, 0);
}

void document_bool(struct document_writer *writer, bool value)
{
    leaf(writer, value ? DOCUMENT_TRUE : DOCUMENT_FALSE, NULL, 0);
}

void document_number(struct document_writer *writer, double value)
{
    if (!isfinite(value))
        fail(writer, "a number is not finite");
    if (value == 0)
        value = 0; /* -0 too */
    leaf(writer, DOCUMENT_NUMBER, &value, sizeof value);
}

void document_string(struct document_writer *writer, struct slice text)
{
    if (!utf8_valid(text))
        fail(writer, "a string is not UTF-8");
    else if (holds_nul(text))
        fail(writer, "a string holds U+0000");
    leaf(writer, DOCUMENT_STRING, text.data, text.len);
}

void document_value(struct document_writer *writer, struct slice value)
{
    leaf(writer, document_type_of(value), value.data + 1, value.len - 1);
}

void document_begin(struct document_writer *writer, enum document_type type)
{
    if (writer->depth == DOCUMENT_DEPTH)
        fail(writer, "nested deeper than 32");
    if (writer->err.code != ERR_OK)
        return;

    size_t header = open_value(writer);
    uint8_t *at = grow(writer, 1);

    if (at == NULL)
        return;
    at[0] = (uint8_t)type;
    writer->open[writer->depth++] = (struct document_open){.header = header,
                                                           .content = writer->len,
                                                           .previous = SIZE_MAX,
                                                           .fields = type == DOCUMENT_STRUCT,
                                                           .sorted = true};
}

/* ---- sorting the fields of a struct ---- */

struct field {
    struct slice name, all;
};

/* By name; of equal names the one that came first. */
static int by_name(const void *a, const void *b)
{
    const struct field *x = a, *y = b;
    int order = slice_compare(x->name, y->name);

    return order != 0 ? order : x->all.data < y->all.data ? -1 : 1;
}

static struct slice field_at(const uint8_t *at)
{
    uint32_t len;

    memcpy(&len, at + 4, sizeof len);
    return slice_of(at, FIELD_HEADER + len);
}

static void sort_fields(struct document_writer *writer, size_t content)
{
    size_t bytes = writer->len - content, n = 0;
    uint8_t *copy = arena_alloc(writer->arena, bytes);

    memcpy(copy, writer->bytes + content, bytes);
    for (size_t at = 0; at < bytes; n++)
        at += field_at(copy + at).len;

    struct field *fields = arena_array(writer->arena, n, sizeof *fields);
    size_t i = 0;

    for (size_t at = 0; i < n; i++) {
        fields[i].all = field_at(copy + at);
        uint16_t len;

        memcpy(&len, copy + at, sizeof len);
        fields[i].name = slice_of(copy + at + FIELD_HEADER, len);
        at += fields[i].all.len;
    }
    qsort(fields, n, sizeof *fields, by_name);
    writer->len = content;
    for (i = 0; i < n; i++) {
        if (i + 1 < n && slice_equal(fields[i].name, fields[i + 1].name))
            continue; /* the later one holds */
        memcpy(writer->bytes + writer->len, fields[i].all.data, fields[i].all.len);
        writer->len += fields[i].all.len;
    }
}

void document_end(struct document_writer *writer)
{
    if (writer->err.code != ERR_OK)
        return;
    assert(writer->depth > 0);

    const struct document_open *open = &writer->open[--writer->depth];

    if (!open->sorted)
        sort_fields(writer, open->content);
    if (open->header != SIZE_MAX)
        put_len(writer, open->header);
}

struct err document_finish(struct document_writer *writer, struct slice *out)
{
    if (writer->err.code == ERR_OK && (writer->depth > 0 || !writer->ended))
        fail(writer, "the value is not complete");
    if (writer->err.code == ERR_OK)
        *out = slice_of(writer->bytes, writer->len);
    return writer->err;
}

/* ---- whole values ---- */

struct slice document_empty(void)
{
    static const uint8_t empty[] = {DOCUMENT_STRUCT};

    return slice_of(empty, sizeof empty);
}

struct err document_of_strings(struct arena *arena, const struct slice *strings, size_t n,
                               size_t max_bytes, struct slice *out)
{
    struct document_writer writer;

    document_start(&writer, arena, max_bytes);
    document_begin(&writer, DOCUMENT_LIST);
    for (size_t i = 0; i < n; i++)
        document_string(&writer, strings[i]);
    document_end(&writer);
    return document_finish(&writer, out);
}

static void merge_field(struct document_writer *writer, const struct document_walk *walk)
{
    document_name(writer, walk->name);
    document_value(writer, walk->value);
}

struct err document_merge(struct arena *arena, struct slice base, struct slice changes,
                          size_t max_bytes, struct slice *out)
{
    struct document_walk old = document_walk(base), new = document_walk(changes);
    bool more_old = document_next(&old), more_new = document_next(&new);
    struct document_writer writer;

    document_start(&writer, arena, max_bytes);
    document_begin(&writer, DOCUMENT_STRUCT);
    while (more_old || more_new) {
        int order = !more_old ? 1 : !more_new ? -1 : slice_compare(old.name, new.name);

        if (order < 0)
            merge_field(&writer, &old);
        else if (document_type_of(new.value) != DOCUMENT_NULL)
            merge_field(&writer, &new);
        if (order <= 0)
            more_old = document_next(&old);
        if (order >= 0)
            more_new = document_next(&new);
    }
    document_end(&writer);
    return document_finish(&writer, out);
}
