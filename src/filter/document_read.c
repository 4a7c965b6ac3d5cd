/* Reading documents, in place. */
#include "src/filter/document.h"

#include "src/base/utf8.h"

#include <math.h>

enum { FIELD_HEADER = 8, ELEMENT_HEADER = 4 };

double document_number_of(struct slice value)
{
    double number;

    memcpy(&number, value.data + 1, sizeof number);
    return number;
}

struct document_walk document_walk(struct slice container)
{
    return (struct document_walk){.rest = document_payload(container),
                                  .fields = document_type_of(container) == DOCUMENT_STRUCT};
}

static struct slice take(struct slice *rest, size_t bytes)
{
    struct slice out = slice_of(rest->data, bytes);

    rest->data += bytes;
    rest->len -= bytes;
    return out;
}

bool document_next(struct document_walk *walk)
{
    size_t header = walk->fields ? FIELD_HEADER : ELEMENT_HEADER;
    uint16_t name_len = 0;
    uint32_t len;

    if (walk->rest.len == 0)
        return false;
    if (walk->fields)
        memcpy(&name_len, walk->rest.data, sizeof name_len);
    memcpy(&len, walk->rest.data + header - 4, sizeof len);
    take(&walk->rest, header);
    walk->name = take(&walk->rest, name_len);
    walk->value = take(&walk->rest, len - name_len);
    return true;
}

bool document_field(struct slice value, struct slice name, struct slice *field)
{
    if (document_type_of(value) != DOCUMENT_STRUCT)
        return false;

    struct document_walk walk = document_walk(value);

    while (document_next(&walk)) {
        if (slice_equal(walk.name, name)) {
            *field = walk.value;
            return true;
        }
    }
    return false;
}

/* ---- checking ---- */

static bool text_valid(struct slice text)
{
    return utf8_valid(text) && (text.len == 0 || memchr(text.data, '\0', text.len) == NULL);
}

static bool number_valid(struct slice value)
{
    if (value.len != 1 + sizeof(double))
        return false;

    double number = document_number_of(value);

    return isfinite(number) && !(number == 0 && signbit(number));
}

/* Is there a header, and what it announces? Then *value is the next value. */
static bool split(struct document_walk *walk, struct slice *previous)
{
    size_t header = walk->fields ? FIELD_HEADER : ELEMENT_HEADER;
    uint16_t name_len = 0, hash = 0;
    uint32_t len;

    if (walk->rest.len < header)
        return false;
    if (walk->fields) {
        memcpy(&name_len, walk->rest.data, sizeof name_len);
        memcpy(&hash, walk->rest.data + 2, sizeof hash);
    }
    memcpy(&len, walk->rest.data + header - 4, sizeof len);
    if (walk->rest.len - header < len || len < name_len)
        return false;
    document_next(walk);
    if (!walk->fields)
        return true;

    bool ascending = previous->data == NULL || slice_compare(*previous, walk->name) < 0;

    *previous = walk->name;
    return ascending && name_len <= DOCUMENT_NAME_BYTES && hash == document_name_hash(walk->name) &&
           text_valid(walk->name);
}

static bool valid(struct slice value, unsigned depth);

static bool container_valid(struct slice value, unsigned depth)
{
    struct document_walk walk = document_walk(value);
    struct slice previous = {0};

    if (depth == DOCUMENT_DEPTH)
        return false;
    while (walk.rest.len > 0) {
        if (!split(&walk, &previous) || !valid(walk.value, depth + 1))
            return false;
    }
    return true;
}

static bool valid(struct slice value, unsigned depth)
{
    if (value.len == 0)
        return false;
    switch (document_type_of(value)) {
    case DOCUMENT_NULL:
    case DOCUMENT_FALSE:
    case DOCUMENT_TRUE:
        return value.len == 1;
    case DOCUMENT_NUMBER:
        return number_valid(value);
    case DOCUMENT_STRING:
        return text_valid(document_payload(value));
    case DOCUMENT_LIST:
    case DOCUMENT_STRUCT:
        return container_valid(value, depth);
    case DOCUMENT_TYPES:
        break;
    }
    return false;
}

bool document_valid(struct slice value)
{
    return valid(value, 0);
}
