/* Evaluation. The common case, equality with a field at the top of the document, is kept short:
 * about ten instructions for each field that is passed by. */
#include "src/filter/glob.h"
#include "src/filter/program.h"

/* What a condition looks at. */
struct view {
    uint8_t type;
    struct slice payload;
};

/* memcmp without a call; names and values are short. The last bytes are compared together with some
 * before them. */
static inline bool same(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint64_t x, y;
    uint32_t v, w, z, u;

    if (n >= 8) {
        for (size_t i = 0; i < n - 8; i += 8) {
            memcpy(&x, a + i, 8);
            memcpy(&y, b + i, 8);
            if (x != y)
                return false;
        }
        memcpy(&x, a + n - 8, 8);
        memcpy(&y, b + n - 8, 8);
        return x == y;
    }
    if (n >= 4) {
        memcpy(&v, a, 4);
        memcpy(&w, b, 4);
        memcpy(&z, a + n - 4, 4);
        memcpy(&u, b + n - 4, 4);
        return v == w && z == u;
    }
    for (size_t i = 0; i < n; i++) {
        if (a[i] != b[i])
            return false;
    }
    return true;
}

/* The value of a struct's field, NULL: absent. */
static inline const uint8_t *find(const uint8_t *at, const uint8_t *end, uint32_t key,
                                  const uint8_t *name, size_t *len)
{
    while (at < end) {
        uint64_t header;

        memcpy(&header, at, sizeof header);
        at += sizeof header;
        if ((uint32_t)header == key && same(at, name, key & 0xffff)) {
            *len = (header >> 32) - (key & 0xffff);
            return at + (key & 0xffff);
        }
        at += header >> 32;
    }
    return NULL;
}

static bool follow(const struct filter_step *step, struct slice document, struct view *view)
{
    size_t len = 0;
    const uint8_t *at =
        find(document.data + 1, document.data + document.len, step->key, step->field, &len);

    for (size_t i = 1; i < step->names_n && at != NULL; i++) {
        struct slice name = step->names[i];

        if (*at != DOCUMENT_STRUCT)
            return false;
        at = find(at + 1, at + len, program_key(name), name.data, &len);
    }
    if (at == NULL)
        return false;
    view->type = *at;
    view->payload = slice_of(at + 1, len - 1);
    return true;
}

static bool look(const struct filter_step *step, const struct filter_subject *subject,
                 struct view *view)
{
    switch ((enum filter_place)step->place) {
    case FILTER_METADATA:
        return follow(step, subject->document, view);
    case FILTER_IDENTITY:
        *view = (struct view){DOCUMENT_STRING, subject->identity};
        return true;
    case FILTER_TAGS:
        *view = (struct view){DOCUMENT_LIST, document_payload(subject->tags)};
        return true;
    }
    return false;
}

static inline bool equal(const struct filter_step *step, const struct view *view)
{
    return view->type == step->type && view->payload.len == step->payload.len &&
           same(view->payload.data, step->payload.data, view->payload.len);
}

/* Whole values, as they stand in the sorted list: type, then payload. */
static int order_of(const struct view *view, struct slice value)
{
    if (view->payload.len + 1 != value.len)
        return view->payload.len + 1 < value.len ? -1 : 1;
    if (view->type != value.data[0])
        return view->type < value.data[0] ? -1 : 1;
    return view->payload.len == 0 ? 0
                                  : memcmp(view->payload.data, value.data + 1, view->payload.len);
}

static bool among(const struct filter_step *step, const struct view *view)
{
    uint32_t low = 0, high = step->elements;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = order_of(view, step->sorted[middle]);

        if (order == 0)
            return true;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

/* < 0, 0, > 0; false: not of the same type. */
static bool compare(const struct filter_step *step, const struct view *view, int *order)
{
    double number;

    if (view->type != step->type)
        return false;
    if (step->type == DOCUMENT_STRING) {
        *order = slice_compare(view->payload, step->payload);
        return true;
    }
    memcpy(&number, view->payload.data, sizeof number);
    *order = number < step->number ? -1 : number > step->number;
    return true;
}

static bool contains(const struct filter_step *step, const struct view *view)
{
    if (view->type == DOCUMENT_STRING && step->type == DOCUMENT_STRING)
        return step->payload.len == 0 || memmem(view->payload.data, view->payload.len,
                                                step->payload.data, step->payload.len) != NULL;
    if (view->type != DOCUMENT_LIST)
        return false;

    struct document_walk walk = {.rest = view->payload};

    while (document_next(&walk)) {
        struct view element = {walk.value.data[0], document_payload(walk.value)};

        if (equal(step, &element))
            return true;
    }
    return false;
}

/* Of a string. */
static bool text_test(const struct filter_step *step, struct slice text)
{
    struct slice wanted = step->payload;

    switch ((enum filter_op)step->op) {
    case FILTER_STARTS_WITH:
        return slice_starts_with(text, wanted);
    case FILTER_ENDS_WITH:
        return text.len >= wanted.len &&
               same(text.data + text.len - wanted.len, wanted.data, wanted.len);
    case FILTER_GLOB:
        return glob_match(wanted, text);
    case FILTER_REGEX:
        return regex_match(step->regex, (const char *)text.data, text.len);
    default:
        return false;
    }
}

static bool is_type(const struct filter_step *step, const struct view *view)
{
    return view->type == step->type ||
           (step->type == DOCUMENT_TRUE && view->type == DOCUMENT_FALSE);
}

/* Of a field that is present. */
static bool test(const struct filter_step *step, const struct view *view)
{
    int order;

    switch ((enum filter_op)step->op) {
    case FILTER_EQUALS:
        return equal(step, view);
    case FILTER_NOT_EQUALS:
        return !equal(step, view);
    case FILTER_GREATER_THAN:
        return compare(step, view, &order) && order > 0;
    case FILTER_GREATER_THAN_OR_EQUALS:
        return compare(step, view, &order) && order >= 0;
    case FILTER_LESS_THAN:
        return compare(step, view, &order) && order < 0;
    case FILTER_LESS_THAN_OR_EQUALS:
        return compare(step, view, &order) && order <= 0;
    case FILTER_IN:
        return among(step, view);
    case FILTER_NOT_IN:
        return !among(step, view);
    case FILTER_CONTAINS:
        return contains(step, view);
    case FILTER_TYPE:
        return is_type(step, view);
    case FILTER_STARTS_WITH:
    case FILTER_ENDS_WITH:
    case FILTER_GLOB:
    case FILTER_REGEX:
        return view->type == DOCUMENT_STRING && text_test(step, view->payload);
    case FILTER_EXISTS:
    case FILTER_OP_NONE:
    case FILTER_OP_COUNT:
        break;
    }
    return false;
}

/* Out of the way of the common case, whose function then needs no room on the stack. */
static __attribute__((noinline)) bool general(const struct filter_step *step,
                                              const struct filter_subject *subject)
{
    struct view view;
    bool present = look(step, subject, &view);

    return step->op == FILTER_EXISTS ? present == step->wanted : present && test(step, &view);
}

/* Another name had the length and the hash of the one that is looked for: the search goes on behind
 * it. */
static __attribute__((noinline)) bool go_on(const struct filter_step *step, const uint8_t *at,
                                            const uint8_t *end)
{
    size_t len;
    const uint8_t *value = find(at, end, step->key, step->field, &len);

    return value != NULL && len == step->value.len && same(value, step->value.data, len);
}

/* A field with the length and the hash of the name, and other bytes than wanted: nearly always
 * another value. */
static __attribute__((noinline)) bool otherwise(const struct filter_step *step, const uint8_t *at,
                                                const uint8_t *end)
{
    uint64_t header;

    memcpy(&header, at, sizeof header);
    at += sizeof header;
    return same(at, step->field, step->key & 0xffff) ? false
                                                     : go_on(step, at + (header >> 32), end);
}

/* The field at the top of the document has this name and this value, type and all: the bytes of
 * both, one behind the other, are compared at once. */
static inline bool direct(const struct filter_step *step, struct slice document)
{
    const uint8_t *at = document.data + 1, *end = document.data + document.len;
    uint64_t header;

    for (; at < end; at += sizeof header + (header >> 32)) {
        memcpy(&header, at, sizeof header);
        if ((uint32_t)header != step->key)
            continue;
        if (header == step->header && same(at + sizeof header, step->field, header >> 32))
            return true;
        return otherwise(step, at, end);
    }
    return false;
}

static __attribute__((noinline)) bool run(const struct filter *filter,
                                          const struct filter_subject *subject)
{
    uint16_t at = filter->entry;

    while (at >= PROGRAM_STEPS) {
        const struct filter_step *step = &filter->steps[at - PROGRAM_STEPS];
        bool holds = step->direct ? direct(step, subject->document) : general(step, subject);

        at = step->on[holds];
    }
    return at == PROGRAM_TRUE;
}

bool filter_match(const struct filter *filter, const struct filter_subject *subject)
{
    return filter->direct ? direct(filter->steps, subject->document) : run(filter, subject);
}
