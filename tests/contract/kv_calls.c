/* Starters for each method, and the calls that most tests want: one operation, strings in, strings
 * out. */
#include "tests/contract/kv_contract.h"

#include "src/base/container.h"

/* kv_start_<name>(backend, op): has.<interface>-><method>(backend, request around op). */
#define STARTER(name, interface, method, request)                                                  \
    void kv_start_##name(struct backend *backend, struct op *op)                                   \
    {                                                                                              \
        backend->has.interface->method(backend, CONTAINER_OF(op, struct request, op));             \
    }

STARTER(put, kv_basic, put, kv_put)
STARTER(get, kv_basic, get, kv_get)
STARTER(del, kv_basic, del, kv_del)
STARTER(exists, kv_basic, exists, kv_exists)
STARTER(expire, kv_ttl, expire, kv_expire)
STARTER(ttl_get, kv_ttl, get, kv_ttl_get)
STARTER(persist, kv_ttl, persist, kv_persist)
STARTER(txn_put, kv_txn, put_many, kv_put_many)
STARTER(txn_del, kv_txn, del_many, kv_del_many)
STARTER(page, kv_scan, page, kv_scan_page)
STARTER(count, kv_scan, count, kv_count)
STARTER(put_if, kv_cas, put_if, kv_put_if)

const struct kv_batch *kv_many(const struct backend *backend)
{
    return backend->has.kv_batch != NULL ? backend->has.kv_batch : backend->has.kv_basic->window;
}

void kv_start_put_many(struct backend *backend, struct op *op)
{
    kv_many(backend)->put_many(backend, CONTAINER_OF(op, struct kv_put_many, op));
}

void kv_start_get_many(struct backend *backend, struct op *op)
{
    kv_many(backend)->get_many(backend, CONTAINER_OF(op, struct kv_get_many, op));
}

void kv_start_del_many(struct backend *backend, struct op *op)
{
    kv_many(backend)->del_many(backend, CONTAINER_OF(op, struct kv_del_many, op));
}

void kv_need(struct kv_fixture *fixture, enum backend_interface interface)
{
    if (!backend_offers(&fixture->backend->has, interface))
        skip();
}

static void expect_ok(struct err err, const char *what, const char *key)
{
    if (err.code != ERR_OK)
        fail_msg("%s %s: %s: %s", what, key, err_code_name(err.code), err.text);
}

void kv_put_ok(struct kv_fixture *fixture, const char *key, const char *value, uint64_t ttl_ms)
{
    struct kv_put put = {.key = slice_str(key), .value = slice_str(value), .ttl_ms = ttl_ms};

    expect_ok(kv_do(fixture, kv_start_put, &put.op), "put", key);
}

bool kv_del_ok(struct kv_fixture *fixture, const char *key)
{
    struct kv_del del = {.key = slice_str(key)};

    expect_ok(kv_do(fixture, kv_start_del, &del.op), "del", key);
    return del.existed;
}

bool kv_exists_ok(struct kv_fixture *fixture, const char *key)
{
    struct kv_exists exists = {.key = slice_str(key)};

    expect_ok(kv_do(fixture, kv_start_exists, &exists.op), "exists", key);
    return exists.found;
}

const char *kv_get_ok(struct kv_fixture *fixture, const char *key)
{
    struct kv_get get = {.key = slice_str(key)};

    expect_ok(kv_do(fixture, kv_start_get, &get.op), "get", key);
    return get.found ? arena_strdup(&fixture->arena, get.value) : NULL;
}

char *kv_key(struct kv_fixture *fixture, const char *prefix, unsigned number)
{
    return arena_printf(&fixture->arena, "%s%05u", prefix, number);
}

static void run_portions(struct kv_fixture *fixture, const struct kv_step *steps, size_t n)
{
    size_t portion = fixture->portion != 0 ? fixture->portion : n;

    for (size_t i = 0; i < n; i += portion)
        kv_run(fixture, fixture->backend, steps + i, n - i < portion ? n - i : portion);
}

void kv_fill(struct kv_fixture *fixture, const char *prefix, unsigned from, unsigned to)
{
    struct kv_put *puts = arena_array(&fixture->arena, to - from, sizeof *puts);
    struct kv_step *steps = arena_array(&fixture->arena, to - from, sizeof *steps);

    for (unsigned i = from; i < to; i++) {
        puts[i - from].key = slice_str(kv_key(fixture, prefix, i));
        puts[i - from].value = puts[i - from].key;
        steps[i - from] = (struct kv_step){.start = kv_start_put, .op = &puts[i - from].op};
    }
    run_portions(fixture, steps, to - from);
    for (unsigned i = from; i < to; i++)
        expect_ok(puts[i - from].op.err, "put", kv_key(fixture, prefix, i));
}

void kv_empty(struct kv_fixture *fixture, const char *prefix, unsigned from, unsigned to)
{
    struct kv_del *dels = arena_array(&fixture->arena, to - from, sizeof *dels);
    struct kv_step *steps = arena_array(&fixture->arena, to - from, sizeof *steps);

    for (unsigned i = from; i < to; i++) {
        dels[i - from].key = slice_str(kv_key(fixture, prefix, i));
        steps[i - from] = (struct kv_step){.start = kv_start_del, .op = &dels[i - from].op};
    }
    run_portions(fixture, steps, to - from);
    for (unsigned i = from; i < to; i++)
        expect_ok(dels[i - from].op.err, "del", kv_key(fixture, prefix, i));
}

void kv_expect(struct err err, enum err_code code, const char *subject)
{
    if (err.code != code)
        fail_msg("%s instead of %s: %s", err_code_name(err.code), err_code_name(code),
                 err.text != NULL ? err.text : "");
    if (code != ERR_OK)
        assert_non_null(err.text);
    if (subject != NULL) {
        assert_non_null(err.subject);
        assert_string_equal(err.subject, subject);
    }
}
