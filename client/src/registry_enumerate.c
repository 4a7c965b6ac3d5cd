/* Enumerating: a page -> its identities, one by one -> the next page by the cursor of this one. The
 * metadata becomes JSON text in one buffer, which each identity uses again. */
#include "client/src/registry_priv.h"

#include "client/src/error.h"

#include "google/protobuf/struct.pb-c.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef Prism__Patterns__MulticastRegistry__EnumerateRequest wire_request;
typedef Prism__Patterns__MulticastRegistry__EnumerateResponse wire_page;
typedef Prism__Patterns__MulticastRegistry__Identity wire_identity;
typedef Google__Protobuf__Value wire_value;

enum { PAGE = 500 };

/* ---- JSON ---- */

struct text {
    char *bytes;
    size_t len, room;
};

static void add(struct text *text, const char *bytes, size_t n)
{
    while (text->room - text->len <= n) {
        text->room = text->room > 0 ? text->room * 2 : 256;
        text->bytes = realloc(text->bytes, text->room);
        if (text->bytes == NULL)
            abort();
    }
    memcpy(text->bytes + text->len, bytes, n);
    text->len += n;
    text->bytes[text->len] = '\0';
}

static void add_word(struct text *text, const char *word)
{
    add(text, word, strlen(word));
}

static void add_quoted(struct text *text, const char *string)
{
    char escaped[8];

    add_word(text, "\"");
    for (const char *at = string; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", *at);
        else if ((unsigned char)*at < 0x20)
            snprintf(escaped, sizeof escaped, "\\u%04x", *at);
        else
            snprintf(escaped, sizeof escaped, "%c", *at);
        add_word(text, escaped);
    }
    add_word(text, "\"");
}

/* The shortest decimal that reads back as the same number. */
static void add_number(struct text *text, double number)
{
    char decimal[32];

    if (!isfinite(number)) {
        add_word(text, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(decimal, sizeof decimal, "%.*g", digits, number);
        if (strtod(decimal, NULL) == number) /* NOLINT: exact by intent */
            break;
    }
    add_word(text, decimal);
}

static void add_value(struct text *text, const wire_value *value);

static void add_struct(struct text *text, const Google__Protobuf__Struct *from)
{
    add_word(text, "{");
    for (size_t i = 0; from != NULL && i < from->n_fields; i++) {
        if (i > 0)
            add_word(text, ",");
        add_quoted(text, from->fields[i]->key);
        add_word(text, ":");
        add_value(text, from->fields[i]->value);
    }
    add_word(text, "}");
}

static void add_list(struct text *text, const Google__Protobuf__ListValue *list)
{
    add_word(text, "[");
    for (size_t i = 0; i < list->n_values; i++) {
        if (i > 0)
            add_word(text, ",");
        add_value(text, list->values[i]);
    }
    add_word(text, "]");
}

/* As deep as the message: protobuf-c bounds that when it decodes. */
static void add_value(struct text *text, const wire_value *value)
{
    switch (value != NULL ? value->kind_case : GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        add_number(text, value->number_value);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        add_quoted(text, value->string_value);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        add_word(text, value->bool_value ? "true" : "false");
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
        add_struct(text, value->struct_value);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
        add_list(text, value->list_value);
        return;
    default:
        add_word(text, "null");
    }
}

/* ---- pages ---- */

struct enumerating {
    struct prism_registry *registry;
    prism_identity_fn *tell;
    void *context;
    struct text metadata;
    char *cursor; /* of the next page; NULL: the first, or there is none */
};

static bool tell_one(struct enumerating *e, const wire_identity *from)
{
    struct prism_identity identity = {
        .name = from->identity,
        .tags = (const char *const *)from->tags,
        .tag_count = from->n_tags,
        .generation = from->generation,
        .registered_at_ms = from->registered_at_ms,
        .expires_at_ms = from->_expires_at_ms_case != 0 ? from->expires_at_ms : -1};

    e->metadata.len = 0;
    add_struct(&e->metadata, from->metadata);
    identity.metadata = e->metadata.bytes;
    return e->tell(e->context, &identity);
}

/* True: another page is wanted. */
static bool take_page(struct enumerating *e, const wire_page *page)
{
    for (size_t i = 0; i < page->n_identities; i++) {
        if (!tell_one(e, page->identities[i]))
            return false;
    }
    free(e->cursor);
    e->cursor = page->_next_cursor_case != 0 ? alloc_text(page->next_cursor) : NULL;
    return page->has_more && e->cursor != NULL;
}

enum prism_code prism_registry_enumerate(struct prism_registry *registry, const char *filter,
                                         prism_identity_fn *tell, void *context,
                                         struct prism_error *error)
{
    wire_request request = WIRE(ENUMERATE_REQUEST__INIT);
    struct enumerating e = {.registry = registry, .tell = tell, .context = context};
    wire_filter packed;
    struct rpc rpc;
    bool more;

    request.filter = registry_filter(&packed, filter);
    request._limit_case = WIRE(ENUMERATE_REQUEST___LIMIT_LIMIT);
    request.limit = PAGE;
    do {
        if (e.cursor != NULL) {
            request._cursor_case = WIRE(ENUMERATE_REQUEST___CURSOR_CURSOR);
            request.cursor = e.cursor;
        }
        more = registry_run(registry, &rpc, REGISTRY_ENUMERATE, &request.base) == PRISM_OK &&
               take_page(&e, (const wire_page *)rpc.response);
        rpc_clear(&rpc);
    } while (more);
    free(e.cursor);
    free(e.metadata.bytes);
    return error_copy(error, &rpc.error);
}
