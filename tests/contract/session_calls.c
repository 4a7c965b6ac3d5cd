/* Starters, and the calls that most tests want. */
#include "tests/contract/session_contract.h"

#include "src/base/container.h"

#include <string.h>

#define STARTER(method)                                                                            \
    void session_start_##method(struct backend *backend, struct op *op)                            \
    {                                                                                              \
        backend->has.session->method(backend, CONTAINER_OF(op, struct session_##method, op));      \
    }

STARTER(create)
STARTER(get)
STARTER(patch)
STARTER(rotate)
STARTER(extend)
STARTER(remove)
STARTER(remove_user)
STARTER(page)

const struct session_use session_test_use = {.percent = 10, .max_interval_ms = 60000};

int session_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                     session_peer_fn *peer)
{
    return session_values_contract(name, setup, teardown, peer) +
           session_life_contract(name, setup, teardown, peer) +
           session_many_contract(name, setup, teardown, peer);
}

unsigned session_many(const struct kv_fixture *fixture, unsigned n)
{
    return fixture->divisor > 0 ? n / fixture->divisor : n;
}

struct err session_do(struct kv_fixture *fixture, struct backend *backend, kv_start_fn *start,
                      struct op *op)
{
    struct kv_step step = {.start = start, .op = op};

    kv_run(fixture, backend, &step, 1);
    return op->err;
}

void session_run(struct kv_fixture *fixture, const struct kv_step *steps, size_t n)
{
    size_t portion = fixture->portion != 0 ? fixture->portion : n;

    for (size_t i = 0; i < n; i += portion)
        kv_run(fixture, fixture->backend, steps + i, n - i < portion ? n - i : portion);
}

int session_empty(void **state)
{
    struct kv_fixture *fixture = *state;
    struct session_page page = {.max_items = SESSION_PAGE_ITEMS, .more = true};

    while (page.more) {
        page.op = (struct op){0};
        page.after = page.next;
        kv_expect(session_do(fixture, fixture->backend, session_start_page, &page.op), ERR_OK,
                  NULL);

        struct session_remove *removes = arena_array(&fixture->arena, page.n, sizeof *removes);
        struct kv_step *steps = arena_array(&fixture->arena, page.n, sizeof *steps);

        for (size_t i = 0; i < page.n; i++) {
            removes[i].id = page.entries[i].id;
            steps[i] = (struct kv_step){.start = session_start_remove, .op = &removes[i].op};
        }
        session_run(fixture, steps, page.n);
    }
    return 0;
}

int session_tear_down(void **state)
{
    session_empty(state);
    return kv_forget(state);
}

/* ---- requests ---- */

struct session_create session_new(const char *id, const char *user, uint64_t ttl_ms)
{
    return (struct session_create){.id = slice_str(id),
                                   .owner = {.user = slice_str(user)},
                                   .ttl_ms = ttl_ms,
                                   .max_bytes = SESSION_TEST_BYTES};
}

struct session_patch session_set(const char *id, const struct session_value *set, size_t n)
{
    return (struct session_patch){.id = slice_str(id),
                                  .set = set,
                                  .set_n = n,
                                  .max_bytes = SESSION_TEST_BYTES,
                                  .use = session_test_use};
}

struct session_value session_pair(const char *name, const char *value)
{
    return (struct session_value){.name = slice_str(name), .value = slice_str(value)};
}

/* ---- calls ---- */

void session_make(struct kv_fixture *fixture, const char *id, const char *user, uint64_t ttl_ms)
{
    struct session_create create = session_new(id, user, ttl_ms);

    kv_expect(session_do(fixture, fixture->backend, session_start_create, &create.op), ERR_OK,
              NULL);
    assert_int_equal(create.ended_n, 0);
}

const struct session_get *session_look(struct kv_fixture *fixture, struct backend *backend,
                                       const char *id)
{
    struct session_get *get = arena_zalloc(&fixture->arena, sizeof *get);
    struct err err;

    get->id = slice_str(id);
    err = session_do(fixture, backend, session_start_get, &get->op);
    if (err.code == ERR_NOT_FOUND)
        return NULL;
    kv_expect(err, ERR_OK, NULL);
    return get;
}

const char *session_value(struct kv_fixture *fixture, const char *id, const char *name)
{
    struct session_get get = {.id = slice_str(id), .name = slice_str(name)};
    struct err err = session_do(fixture, fixture->backend, session_start_get, &get.op);

    if (err.code == ERR_NOT_FOUND)
        return NULL;
    kv_expect(err, ERR_OK, NULL);
    assert_true(get.n <= 1);
    if (get.n == 0)
        return NULL;
    assert_true(slice_equal(get.values[0].name, slice_str(name)));
    return arena_strdup(&fixture->arena, get.values[0].value);
}

struct err session_put(struct kv_fixture *fixture, const char *id, const char *name,
                       const char *value)
{
    struct session_value pair = session_pair(name, value);
    struct session_patch patch = session_set(id, &pair, 1);

    return session_do(fixture, fixture->backend, session_start_patch, &patch.op);
}

bool session_end(struct kv_fixture *fixture, const char *id)
{
    struct session_remove remove = {.id = slice_str(id)};

    kv_expect(session_do(fixture, fixture->backend, session_start_remove, &remove.op), ERR_OK,
              NULL);
    return remove.existed;
}

static void append(struct kv_fixture *fixture, char **text, size_t *len, struct slice id)
{
    char *longer = arena_alloc(&fixture->arena, *len + id.len + 2);

    if (*len > 0)
        memcpy(longer, *text, *len);
    if (*len > 0)
        longer[(*len)++] = ' ';
    memcpy(longer + *len, id.data, id.len);
    *len += id.len;
    longer[*len] = '\0';
    *text = longer;
}

const char *session_ids(struct kv_fixture *fixture, struct backend *backend, const char *user,
                        const char *region, uint32_t max_items)
{
    struct session_page page = {
        .user = slice_str(user), .region = slice_str(region), .max_items = max_items, .more = true};
    char *ids = arena_strdup(&fixture->arena, slice_of(NULL, 0));
    size_t len = 0;

    for (int pages = 0; page.more; pages++) {
        page.op = (struct op){0};
        page.after = page.next;
        kv_expect(session_do(fixture, backend, session_start_page, &page.op), ERR_OK, NULL);
        assert_true(page.n <= max_items);
        assert_true(pages < 100000);
        assert_true(!page.more || page.next > page.after);
        for (size_t i = 0; i < page.n; i++)
            append(fixture, &ids, &len, page.entries[i].id);
    }
    return ids;
}
