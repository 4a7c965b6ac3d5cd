#include "tests/contract/nats_fixture.h"

#include <stdlib.h>
#include <string.h>

enum { SETTINGS_MAX = 32 };

static void read_setting(const struct backend_setting *setting, const char *text,
                         struct backend_value *value)
{
    value->text = text;
    if (setting->kind == SETTING_BOOL)
        value->number = strcmp(text, "true") == 0;
    else if (setting->kind == SETTING_UINT)
        value->number = strtoull(text, NULL, 10);
}

struct backend_store *nats_fixture_store(const struct backend_type *type, const char *const *pairs,
                                         struct err *err)
{
    struct backend_value values[SETTINGS_MAX] = {0};
    const struct backend_setting *known = type->settings;
    const struct backend_options options = {
        .namespace_name = "tested", .slot = "primary", .values = values};
    struct backend_store *store = NULL;
    size_t n = 0;

    for (; known[n].name != NULL; n++)
        read_setting(&known[n], known[n].fallback, &values[n]);
    for (; pairs[0] != NULL; pairs += 2) {
        size_t at = 0;

        while (at < n && strcmp(known[at].name, pairs[0]) != 0)
            at++;
        assert_true(at < n);
        read_setting(&known[at], pairs[1], &values[at]);
    }
    *err = type->store_open(&store, &options);
    return store;
}

struct nats_fixture *nats_fixture_open(const struct backend_type *type, const char *const *pairs)
{
    struct nats_fixture *fixture = calloc(1, sizeof *fixture);
    const struct pool_options options = {.workers = 1, .intake_depth = 64};
    struct kv_fixture *kv = &fixture->messages.kv;
    struct err err;

    assert_non_null(fixture);
    kv_expect(pool_start(&fixture->pool, &options), ERR_OK, NULL);
    kv->worker = pool_worker(fixture->pool, 0);
    kv->threaded = true;
    kv_fixture_init(kv);
    fixture->store = nats_fixture_store(type, pairs, &err);
    fixture->second = nats_fixture_store(type, pairs, &err);
    assert_non_null(fixture->second);
    kv->backend = kv_open(kv, fixture->store);
    fixture->messages.second = kv_open(kv, fixture->second);
    fixture->messages.patience_ms = 100;
    return fixture;
}

void nats_until(struct nats_fixture *fixture, enum backend_state state)
{
    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->store->state) == (int)state);
}

int nats_fixture_close(void **state)
{
    struct nats_fixture *fixture = *state;

    kv_close(&fixture->messages.kv, fixture->messages.kv.backend);
    kv_close(&fixture->messages.kv, fixture->messages.second);
    kv_fixture_clear(&fixture->messages.kv);
    fixture->store->type->store_close(fixture->store);
    fixture->second->type->store_close(fixture->second);
    pool_stop(fixture->pool);
    free(fixture);
    return 0;
}
