/* The registry: a row for each identity, with its document and tags as they were given, and once
 * more as jsonb, which filters and indexes look at. What several methods of other processes might
 * do to a row at the same time is decided under its lock, and rows are locked in ascending order.
 *
 * put is a function in the schema, because each of its items has an outcome of its own. */
#include "backends/postgres/postgres_registry.h"

#include "backends/postgres/postgres_burden.h"

#include <stdlib.h>

/* Items in the order in which their rows are locked; equal identities in request order. */
struct order {
    struct slice identity;
    size_t place;
};

static int compare(const void *left, const void *right)
{
    const struct order *a = left, *b = right;
    int order = slice_compare(a->identity, b->identity);

    return order != 0 ? order : a->place < b->place ? -1 : a->place > b->place;
}

static struct slice item_of(const void *items, size_t size, size_t i)
{
    return *(const struct slice *)(const void *)((const char *)items + i * size);
}

/* items: structs of `size` bytes that begin with their identity. */
static struct order *sorted(struct arena *arena, const void *items, size_t size, size_t n)
{
    struct order *order = arena_array(arena, n, sizeof *order);

    for (size_t i = 0; i < n; i++)
        order[i] = (struct order){.identity = item_of(items, size, i), .place = i};
    if (n > 1)
        qsort(order, n, sizeof *order, compare);
    return order;
}

static void add_identities(struct postgres_params *params, const struct order *order, size_t n)
{
    struct postgres_array array;
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += order[i].identity.len;
    array = postgres_add_array(params, POSTGRES_BYTEA, n, bytes);
    for (size_t i = 0; i < n; i++)
        postgres_element(&array, order[i].identity);
}

/* The row of the result about this identity, -1: none; rows are in ascending order. */
static int row_of(const PGresult *result, struct slice identity)
{
    int low = 0, high = PQntuples(result);

    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = slice_compare(postgres_bytes(result, middle, 0), identity);

        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

struct slice postgres_registry_or_empty(struct slice value, enum document_type type)
{
    static const uint8_t empty[DOCUMENT_TYPES] = {
        [DOCUMENT_LIST] = DOCUMENT_LIST, [DOCUMENT_STRUCT] = DOCUMENT_STRUCT};

    return value.len > 0 ? value : slice_of(&empty[type], 1);
}

struct err postgres_registry_absent(void)
{
    return err_make(ERR_NOT_FOUND, "the identity is not registered");
}

struct err postgres_registry_other(void)
{
    return err_about(ERR_FAILED_PRECONDITION, "if_generation",
                     "the identity has another registration, or none");
}

/* ---- put ---- */

enum { PUT_DONE, PUT_EXISTS, PUT_OTHER, PUT_FULL };

static void add_values(struct postgres_params *params, const struct registry_put *put,
                       const struct order *order, enum document_type type, bool json)
{
    struct slice *values = arena_array(params->arena, put->n, sizeof *values);
    struct postgres_array array;
    size_t bytes = 0;

    for (size_t i = 0; i < put->n; i++) {
        const struct registry_put_item *item = &put->items[order[i].place];

        values[i] =
            postgres_registry_or_empty(type == DOCUMENT_STRUCT ? item->document : item->tags, type);
        if (json)
            values[i] = document_to_json(params->arena, values[i]);
        bytes += values[i].len;
    }
    array = postgres_add_array(params, json ? POSTGRES_TEXT : POSTGRES_BYTEA, put->n, bytes);
    for (size_t i = 0; i < put->n; i++)
        postgres_element(&array, values[i]);
}

static void add_numbers(struct postgres_params *params, const struct registry_put *put,
                        const struct order *order, int which)
{
    struct postgres_array array = postgres_add_array(params, POSTGRES_INT8, put->n, 8 * put->n);

    for (size_t i = 0; i < put->n; i++) {
        const struct registry_put_item *item = &put->items[order[i].place];

        postgres_element_int8(&array, which == 0   ? (int64_t)item->ttl_ms
                                      : which == 1 ? item->replace
                                                   : (int64_t)item->if_generation);
    }
}

static struct err put_err(int32_t outcome)
{
    switch (outcome) {
    case PUT_DONE:
        return ERR_NONE;
    case PUT_EXISTS:
        return err_make(ERR_ALREADY_EXISTS, "the identity is registered");
    case PUT_OTHER:
        return postgres_registry_other();
    default:
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_identities",
                         "the namespace holds as many identities as it may");
    }
}

static void put_result(struct postgres_call *call, const PGresult *result)
{
    struct registry_put *put = CONTAINER_OF(call->op, struct registry_put, op);
    const struct order *order = call->state;

    if ((size_t)PQntuples(result) != put->n) {
        postgres_unexpected(call);
        return;
    }
    for (int row = 0; row < PQntuples(result); row++) {
        struct registry_put_item *item = &put->items[order[row].place];

        item->err = put_err(postgres_int4(result, row, 0));
        item->replaced = postgres_bool(result, row, 1);
        item->generation = (uint64_t)postgres_int8(result, row, 2);
        item->registered_at_ms = (uint64_t)postgres_int8(result, row, 3);
        item->expires_at_ms = (uint64_t)postgres_int8(result, row, 4);
    }
}

static const struct postgres_kind put_kind = {.writes = true, .result = put_result};

static void put(struct backend *backend, struct registry_put *put)
{
    struct arena *arena = op_arena(&put->op);
    struct order *order = sorted(arena, put->items, sizeof *put->items, put->n);
    struct postgres_params params;

    postgres_params_init(&params, arena);
    postgres_add_int4(&params, postgres_of(backend)->space);
    add_identities(&params, order, put->n);
    add_values(&params, put, order, DOCUMENT_STRUCT, false);
    add_values(&params, put, order, DOCUMENT_LIST, false);
    add_values(&params, put, order, DOCUMENT_STRUCT, true);
    add_values(&params, put, order, DOCUMENT_LIST, true);
    for (int which = 0; which < 3; which++)
        add_numbers(&params, put, order, which);
    postgres_add_int8(&params, (int64_t)put->max_identities);
    postgres_run(postgres_of(backend), &put->op, &put_kind, order, SQL_REGISTER, &params);
}

/* ---- beat and remove: identity, generation, and what has become of it ---- */

static void add_generations(struct postgres_params *params, const struct order *order, size_t n,
                            const uint64_t *first, size_t size)
{
    struct postgres_array array = postgres_add_array(params, POSTGRES_INT8, n, 8 * n);

    for (size_t i = 0; i < n; i++)
        postgres_element_int8(&array,
                              (int64_t) * (const uint64_t *)(const void *)((const char *)first +
                                                                           order[i].place * size));
}

static void beat_result(struct postgres_call *call, const PGresult *result)
{
    struct registry_beat *beat = CONTAINER_OF(call->op, struct registry_beat, op);

    for (size_t i = 0; i < beat->n; i++) {
        struct registry_beat_item *item = &beat->items[i];
        int row = row_of(result, item->identity);

        item->err = ERR_NONE;
        if (row < 0)
            item->err = postgres_registry_absent();
        else if (item->if_generation != 0 &&
                 item->if_generation != (uint64_t)postgres_int8(result, row, 1))
            item->err = postgres_registry_other();
        else
            item->expires_at_ms = (uint64_t)postgres_int8(result, row, 2);
    }
}

static const struct postgres_kind beat_kind = {.writes = true, .result = beat_result};

static void beat(struct backend *backend, struct registry_beat *beat)
{
    struct arena *arena = op_arena(&beat->op);
    struct order *order = sorted(arena, beat->items, sizeof *beat->items, beat->n);
    struct postgres_params params;

    postgres_params_init(&params, arena);
    postgres_add_int4(&params, postgres_of(backend)->space);
    add_identities(&params, order, beat->n);
    add_generations(&params, order, beat->n, &beat->items->if_generation, sizeof *beat->items);
    postgres_add_int8(&params, (int64_t)beat->ttl_ms);
    postgres_run(postgres_of(backend), &beat->op, &beat_kind, NULL, SQL_BEAT, &params);
}

static void remove_result(struct postgres_call *call, const PGresult *result)
{
    struct registry_remove *remove = CONTAINER_OF(call->op, struct registry_remove, op);
    bool *removed = arena_array(op_arena(call->op), (size_t)PQntuples(result) + 1, sizeof *removed);

    for (size_t i = 0; i < remove->n; i++) {
        struct registry_remove_item *item = &remove->items[i];
        int row = row_of(result, item->identity);

        item->err = ERR_NONE;
        item->existed = row >= 0 && !removed[row];
        if (!item->existed)
            continue;
        if (item->if_generation != 0 &&
            item->if_generation != (uint64_t)postgres_int8(result, row, 1))
            item->err = postgres_registry_other();
        else
            removed[row] = true;
    }
}

static const struct postgres_kind remove_kind = {.writes = true, .result = remove_result};

static void remove_many(struct backend *backend, struct registry_remove *remove)
{
    struct arena *arena = op_arena(&remove->op);
    struct order *order = sorted(arena, remove->items, sizeof *remove->items, remove->n);
    struct postgres_params params;

    postgres_params_init(&params, arena);
    postgres_add_int4(&params, postgres_of(backend)->space);
    add_identities(&params, order, remove->n);
    add_generations(&params, order, remove->n, &remove->items->if_generation,
                    sizeof *remove->items);
    postgres_run(postgres_of(backend), &remove->op, &remove_kind, NULL, SQL_UNREGISTER, &params);
}

/* ---- get ---- */

static void get_result(struct postgres_call *call, const PGresult *result)
{
    struct registry_get *get = CONTAINER_OF(call->op, struct registry_get, op);
    struct arena *arena = op_arena(call->op);
    int rows = PQntuples(result);

    get->looked_up = get->n;
    for (int row = 0; row < rows; row++) {
        int64_t place = postgres_int8(result, row, 0) - 1;
        struct registry_entry *entry = &get->entries[place];

        if (place < 0 || (size_t)place >= get->n) {
            postgres_unexpected(call);
            return;
        }
        entry->identity = get->identities[place];
        entry->generation = (uint64_t)postgres_int8(result, row, 1);
        entry->registered_at_ms = (uint64_t)postgres_int8(result, row, 2);
        entry->expires_at_ms = (uint64_t)postgres_int8(result, row, 3);
        entry->document = arena_copy(arena, postgres_bytes(result, row, 4));
        entry->tags = arena_copy(arena, postgres_bytes(result, row, 5));
        if (row + 1 == rows && postgres_int8(result, row, 6) > rows)
            get->looked_up = (size_t)place + 1;
    }
}

static const struct postgres_kind get_kind = {.result = get_result};

static void get(struct backend *backend, struct registry_get *get)
{
    struct arena *arena = op_arena(&get->op);
    struct postgres_array names;
    struct postgres_params params;
    size_t bytes = 0;

    get->entries = arena_array(arena, get->n, sizeof *get->entries);
    get->looked_up = 0;
    for (size_t i = 0; i < get->n; i++)
        bytes += get->identities[i].len;
    postgres_params_init(&params, arena);
    postgres_add_int4(&params, postgres_of(backend)->space);
    names = postgres_add_array(&params, POSTGRES_BYTEA, get->n, bytes);
    for (size_t i = 0; i < get->n; i++)
        postgres_element(&names, get->identities[i]);
    postgres_add_int8(&params, get->max_bytes > 0 && get->max_bytes < INT64_MAX
                                   ? (int64_t)get->max_bytes
                                   : INT64_MAX);
    postgres_add_bool(&params, get->with_documents);
    postgres_run(postgres_of(backend), &get->op, &get_kind, NULL, SQL_NAMED, &params);
}

const struct registry postgres_registry = {.native = POSTGRES_FILTER_OPS,
                                           .indexed = true,
                                           .calls = "1",
                                           .page_calls = "1..16",
                                           .put = put,
                                           .patch = postgres_registry_patch,
                                           .beat = beat,
                                           .remove = remove_many,
                                           .get = get,
                                           .page = postgres_registry_page,
                                           .count = postgres_registry_count,
                                           .estimate = postgres_burden_identities};
