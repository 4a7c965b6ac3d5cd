/* Starters, and the calls that most tests want. */
#include "tests/contract/registry_contract.h"

#include "src/base/container.h"

#include <stdlib.h>

#define STARTER(method)                                                                            \
    void registry_start_##method(struct backend *backend, struct op *op)                           \
    {                                                                                              \
        backend->has.registry->method(backend, CONTAINER_OF(op, struct registry_##method, op));    \
    }

STARTER(put)
STARTER(patch)
STARTER(beat)
STARTER(remove)
STARTER(get)
STARTER(page)
STARTER(count)

int registry_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                      registry_peer_fn *peer)
{
    return registry_entries_contract(name, setup, teardown, peer) +
           registry_life_contract(name, setup, teardown) +
           registry_pages_contract(name, setup, teardown, peer) +
           registry_filters_contract(name, setup, teardown);
}

/* The op on the instance; it has to succeed. */
static void run(struct kv_fixture *fixture, struct backend *backend, kv_start_fn *start,
                struct op *op)
{
    struct kv_step step = {.start = start, .op = op};

    kv_run(fixture, backend, &step, 1);
    if (op->err.code != ERR_OK)
        fail_msg("%s: %s", err_code_name(op->err.code), op->err.text);
}

int registry_empty(void **state)
{
    struct kv_fixture *fixture = *state;
    struct registry_page page = {.max_items = REGISTRY_PAGE_ITEMS, .more = true};

    while (page.more) {
        page.op = (struct op){0};
        page.after = page.next;
        run(fixture, fixture->backend, registry_start_page, &page.op);

        struct registry_remove_item *items =
            arena_array(&fixture->arena, page.n + 1, sizeof *items);
        struct registry_remove remove = {.items = items, .n = page.n};

        for (size_t i = 0; i < page.n; i++)
            items[i].identity = page.entries[i].identity;
        if (page.n > 0)
            run(fixture, fixture->backend, registry_start_remove, &remove.op);
    }
    return 0;
}

struct slice registry_document(struct kv_fixture *fixture, const char *json)
{
    struct slice out = {0};
    struct err err =
        document_from_json(&fixture->arena, slice_str(json), REGISTRY_DOCUMENT_BYTES, &out);

    if (err.code != ERR_OK)
        fail_msg("%s: %s", json, err.text);
    return out;
}

struct registry_put_item registry_item(struct kv_fixture *fixture, const char *identity,
                                       const char *json, uint64_t ttl_ms)
{
    struct registry_put_item item = {.identity = slice_str(identity), .ttl_ms = ttl_ms};

    if (json != NULL)
        item.document = registry_document(fixture, json);
    return item;
}

struct err registry_put_one(struct kv_fixture *fixture, struct backend *backend,
                            struct registry_put_item *item)
{
    struct registry_put put = {.items = item, .n = 1};

    run(fixture, backend, registry_start_put, &put.op);
    return item->err;
}

uint64_t registry_put_ok(struct kv_fixture *fixture, const char *identity, const char *json,
                         uint64_t ttl_ms)
{
    struct registry_put_item item = registry_item(fixture, identity, json, ttl_ms);

    item.replace = true;
    kv_expect(registry_put_one(fixture, fixture->backend, &item), ERR_OK, NULL);
    assert_true(item.generation > 0);
    return item.generation;
}

const struct registry_entry *registry_find(struct kv_fixture *fixture, struct backend *backend,
                                           const char *identity)
{
    struct slice *name = arena_alloc(&fixture->arena, sizeof *name);
    struct registry_get get = {.identities = name, .n = 1, .with_documents = true};

    *name = slice_str(identity);
    run(fixture, backend, registry_start_get, &get.op);
    assert_int_equal(get.looked_up, 1);
    if (get.entries[0].generation == 0)
        return NULL;
    assert_true(slice_equal(get.entries[0].identity, *name));
    assert_true(document_valid(get.entries[0].document));
    assert_true(document_valid(get.entries[0].tags));
    return &get.entries[0];
}

struct err registry_beat_one(struct kv_fixture *fixture, const char *identity, uint64_t generation,
                             uint64_t ttl_ms)
{
    struct registry_beat_item item = {.identity = slice_str(identity), .if_generation = generation};
    struct registry_beat beat = {.items = &item, .n = 1, .ttl_ms = ttl_ms};

    run(fixture, fixture->backend, registry_start_beat, &beat.op);
    return item.err;
}

struct err registry_remove_one(struct kv_fixture *fixture, struct backend *backend,
                               const char *identity, uint64_t generation, bool *existed)
{
    struct registry_remove_item item = {.identity = slice_str(identity),
                                        .if_generation = generation};
    struct registry_remove remove = {.items = &item, .n = 1};

    run(fixture, backend, registry_start_remove, &remove.op);
    *existed = item.existed;
    return item.err;
}

const struct filter *registry_filter(struct kv_fixture *fixture, const char *json)
{
    struct filter_limits limits = filter_limits_default();
    struct filter_node *node;
    const struct filter *filter = NULL;
    struct err err;

    if (json == NULL)
        return NULL;
    err = filter_from_json(&fixture->arena, slice_str(json), &limits, &node);
    if (err.code == ERR_OK)
        err = filter_compile(&fixture->arena, node, &limits, &filter);
    if (err.code != ERR_OK)
        fail_msg("%s: %s", json, err.text);
    return filter;
}

static void append(struct kv_fixture *fixture, char **text, size_t *len, struct slice name)
{
    char *longer = arena_alloc(&fixture->arena, *len + name.len + 2);

    if (*len > 0)
        memcpy(longer, *text, *len);
    if (*len > 0)
        longer[(*len)++] = ' ';
    memcpy(longer + *len, name.data, name.len);
    *len += name.len;
    longer[*len] = '\0';
    *text = longer;
}

const char *registry_names(struct kv_fixture *fixture, struct backend *backend,
                           const struct filter *filter, uint32_t max_items)
{
    struct registry_page page = {.filter = filter, .max_items = max_items, .more = true};
    struct slice last = {0};
    char *names = arena_strdup(&fixture->arena, last);
    size_t len = 0;

    for (int pages = 0; page.more; pages++) {
        page.op = (struct op){0};
        page.after = page.next;
        run(fixture, backend, registry_start_page, &page.op);
        assert_true(page.n <= max_items);
        assert_true(pages < 100000);
        for (size_t i = 0; i < page.n; i++) {
            assert_true(slice_compare(last, page.entries[i].identity) < 0); /* ascending, once */
            last = page.entries[i].identity;
            append(fixture, &names, &len, last);
        }
        assert_true(!page.more || slice_compare(last, page.next) <= 0);
    }
    return names;
}

uint64_t registry_count_of(struct kv_fixture *fixture, struct backend *backend,
                           const struct filter *filter)
{
    struct registry_count count = {.filter = filter};

    run(fixture, backend, registry_start_count, &count.op);
    return count.count;
}
